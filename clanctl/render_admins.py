"""Who decides for the clan, what was decided and what waits, as people read it. Pure: values in, text out."""

from collections.abc import Sequence
from typing import Any, Final

from clanctl.answers import Values, names_of, number_of, part_of, rows_of, word_of
from clanctl.render import STATE_TONES, duration, moment
from clanctl.sheets import Cell, Column, Sheet, sheet

ID_DIGITS: Final = 10  # of an operation's id: as many as the daemon's alarms show


# --- decisions -----------------------------------------------------------------------------------------


def decision_text(decision: Values) -> str:
    """One operation: done, or what it still needs. Empty for none."""
    if not decision:
        return ""
    what = word_of(decision.get("operation"))
    if decision.get("state") != "pending":
        return f"done: {what}\n"
    short = word_of(decision.get("id"))[:ID_DIGITS]
    lacking = int(number_of(decision, "needed") - number_of(decision, "weight"))
    who = either(names_of(decision, "approvers"))
    return (
        f"pending: {what}\n"
        f"  signed by {', '.join(names_of(decision, 'signed_by'))}; it lacks a weight of {lacking}, from {who}\n"
        f"  there: clanctl admin approve {short}\n"
    )


def decisions_text(result: Values) -> str:
    """The operations that one command made, or the one it made."""
    found = rows_of(result, "decisions") or [part_of(result, "decision")]
    return "".join(decision_text(decision) for decision in found)


def waiting_text(result: Values) -> str:
    """Of the operations that one command made, those that wait."""
    found = [*rows_of(result, "decisions")] or [part_of(result, "decision")]
    return "".join(decision_text(decision) for decision in found if decision.get("state") == "pending")


def either(names: Sequence[str]) -> str:
    """Spell a choice: `nas, tv or desk`."""
    if not names:
        return "nobody who is left"
    return " or ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def proposal_text(result: Values) -> str:
    """What `admin add`, `remove` and `propose` answer, without a new recovery key."""
    note = word_of(result.get("note"))
    kept = kept_text(part_of(result, "kept"), waits=result.get("state") == "pending")
    return decision_text(result) + kept + (f"note: {note}\n" if note else "")


def recovered_text(result: Values) -> str:
    """What `admin recover` answers, without a new recovery key."""
    note = word_of(result.get("note"))
    if result.get("drill"):
        return f"the key is right: {note or 'nothing was changed'}\n"
    text = decisions_text(result) + kept_text(part_of(result, "kept"))
    return text + (f"note: {note}\n" if note else "")


def kept_text(kept: Values, *, waits: bool = False) -> str:
    """What became of an admin's word when it went: taken over by this device, or lapsed (or will, if it waits)."""
    text = ""
    if names_of(kept, "credentials"):
        text += f"taken over: this device vouches from now on for {', '.join(names_of(kept, 'credentials'))}\n"
    if number_of(kept, "revocations"):
        removals = int(number_of(kept, "revocations"))
        text += f"taken over: {removals} removal{'s' if removals > 1 else ''}\n"
    if names_of(kept, "invites_lapsed"):
        lapsed = ", ".join(names_of(kept, "invites_lapsed"))
        when = "would lapse when it is done" if waits else "lapsed"
        text += f"{when}: the invites {lapsed}; make new ones where they are still wanted\n"
    if names_of(kept, "dropped"):
        text += f"out: nobody vouches for {', '.join(names_of(kept, 'dropped'))}; invite what is yours anew\n"
    return text


# --- admins --------------------------------------------------------------------------------------------

_ADMIN_COLUMNS: Final = (
    Column("ADMIN"),
    Column("WEIGHT", right=True),
    Column("STATE"),
    Column("FOLLOWS", 1),
    Column("HEARD", 1),
    Column("ID", 2),
)


def admins_sheet(result: Values, now_unix_s: float) -> Sheet:
    """The admins by seniority, and which decision each follows."""
    rows = [_admin_row(admin, now_unix_s) for admin in rows_of(result, "admins")]
    return sheet(_ADMIN_COLUMNS, rows)


def _admin_row(admin: Values, now_unix_s: float) -> list[Cell | str]:
    state, heard, number = (admin.get(key) for key in ("state", "acknowledged_unix_s", "acknowledged_number"))
    name = word_of(admin.get("name")) + (" (this device)" if admin.get("self") else "")
    follows = Cell("nothing yet", "faint") if number is None else Cell(decision_name(number))
    if number is not None and not admin.get("agrees"):
        follows = Cell(f"{decision_name(number)}, another history", "warn")
    return [
        name,
        word_of(admin.get("weight")),
        Cell(word_of(state), STATE_TONES.get(word_of(state), "plain")),
        follows,
        f"{duration(now_unix_s - heard)} ago" if isinstance(heard, int | float) else "never",
        word_of(admin.get("id")),
    ]


def decision_name(number: Any) -> str:
    """Name an operation by its place: the first one founded the clan."""
    if number is None:
        return "nothing"
    return f"decision {number}" if number else "the founding"


def admins_text(result: Values) -> str:
    """The lines under the admins: what decisions need, how settled they are, and the recovery key."""
    needed, final, total = part_of(result, "needed"), part_of(result, "final"), result.get("total_weight")
    settled = final.get("number")
    facts = [
        ("governing", f"needs a weight of {needed.get('govern')} of {total} (admins, recovery key, signers)"),
        ("routine", f"needs a weight of {needed.get('routine')} of {total} (settings, checkpoints)"),
        ("newest", f"{decision_name(result.get('number'))}; settled: {decision_name(settled)}"),
        ("recovery", f"a key on paper, {result['recovery'][:ID_DIGITS]}" if result.get("recovery") else "no key"),
        *((f"setting {name}", word_of(value)) for name, value in part_of(result, "settings").items()),
    ]
    lines = [f"{name:<11} {value}" for name, value in facts]
    if result.get("stale"):
        age_s = result.get("acknowledged_age_s")
        heard = f"for {duration(age_s)}" if isinstance(age_s, int | float) else "ever"
        lines.append(f"stale: no admin was heard {heard}; what they decided since is not known here")
    if result.get("pending"):
        lines.append(f"{result['pending']} waiting: `clanctl admin pending`")
    return "\n".join(lines) + "\n"


# --- proposals -----------------------------------------------------------------------------------------

_PENDING_COLUMNS: Final = (
    Column("ID"),
    Column("WHAT"),
    Column("WEIGHT", 1, right=True),
    Column("SIGNED BY", 2),
    Column("CAN APPROVE", 1),
    Column("SINCE", 3),
)


def pending_sheet(result: Values) -> Sheet:
    """The proposals that wait."""
    return sheet(_PENDING_COLUMNS, [_pending_row(each) for each in rows_of(result, "pending")])


def _pending_row(proposal: Values) -> list[Cell | str]:
    approvers = ", ".join(names_of(proposal, "approvers"))
    return [
        word_of(proposal.get("id"))[:ID_DIGITS],
        word_of(proposal.get("operation")),
        f"{proposal.get('weight')} of {proposal.get('needed')}",
        ", ".join(names_of(proposal, "signed_by")),
        Cell(approvers, "warn" if proposal.get("mine") else "plain"),
        moment(number_of(proposal, "at_unix_s")),
    ]


def pending_notes(result: Values) -> str:
    """What this device can do about it; empty where that is nothing."""
    own = (each for each in rows_of(result, "pending") if each.get("mine"))
    ids = [word_of(each.get("id"))[:ID_DIGITS] for each in own]
    return "".join(f"if that is right: `clanctl admin approve {short}`\n" for short in ids)


def lost_text(result: Values) -> str:
    """Decisions that lost against others; empty where there is none."""
    return "".join(_lost_line(lost) for lost in rows_of(result, "lost"))


def _lost_line(lost: dict[str, Any]) -> str:
    when = moment(number_of(lost, "at_unix_s"))
    return f"lost: {lost.get('operation')} (by {lost.get('author')}, {when}) gave way to another decision\n"
