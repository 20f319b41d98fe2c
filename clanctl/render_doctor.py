"""What a look around found, as people read it. Pure: values in, lines out."""

from clanctl.answers import Values, rows_of, word_of
from clanctl.failures import one_line


def has_problem(result: Values) -> bool:
    """Whether somebody has to do something."""
    return any(finding.get("level") == "problem" for finding in rows_of(result, "findings"))


def text(result: Values) -> str:
    """One line a finding, and what they come to."""
    found = rows_of(result, "findings")
    lines = [f"{word_of(finding.get('level')) + ':':<9}{_line(finding)}" for finding in found]
    return "\n".join([*lines, "", _sum(found)]) + "\n"


def _line(finding: Values) -> str:
    what, why, remedy = (word_of(finding.get(key)) for key in ("what", "why", "remedy"))
    reason = f" ({why})" if why else ""
    return one_line(f"{what}{reason}; {remedy}" if remedy else f"{what}{reason}")


def _sum(found: object) -> str:
    levels = [str(finding.get("level")) for finding in found] if isinstance(found, list) else []
    problems, notes = levels.count("problem"), levels.count("note")
    counts = [_count(problems, "problem"), _count(notes, "note")]
    said = " and ".join(count for count in counts if count)
    return said or ("all is well" if levels else "the daemon found nothing to say")


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}" if number else ""
