"""The recovery key as it goes on paper: in groups that can be typed again, and in words what it is for. Pure."""

from typing import Final

GROUP: Final = 4  # letters: as many as are kept in mind from paper to keyboard
GROUPS_A_LINE: Final = 8  # the key takes two lines

_PROPOSED: Final = """\
This is only proposed. It is not in force until enough admins have approved it:
keep the former paper until then, and see with the drill below which of the two
holds.

"""
_WORDS: Final = """\
{verb} the recovery key of {clan}.
It is shown only now: print it or write it down, and keep the paper with your
passports, away from your devices. Do not photograph it: whoever reads it can
take over the clan.

It is for the day when the device that decides is lost, broken or stolen, and
no other admin is there to help:
    clanctl admin recover --add NODE        makes another device an admin
    clanctl admin recover --remove NODE     ends a lost admin's say

See now that the paper is right, and again once a year; this changes nothing:
    clanctl admin recover --drill
"""


def grouped(key: str) -> str:
    """Spell a key in groups: white space in it means nothing."""
    prefix, separator, rest = key.rpartition("1")
    groups = [rest[at : at + GROUP] for at in range(0, len(rest), GROUP)]
    lines = [" ".join(groups[at : at + GROUPS_A_LINE]) for at in range(0, len(groups), GROUPS_A_LINE)]
    return "\n".join(line for line in [prefix + separator, *lines] if line)


def paper(key: str, clan: str, *, proposed: bool = False) -> str:
    """What is to be kept. `proposed`: it is not in force yet."""
    words = _WORDS.format(verb="Then it is" if proposed else "This is", clan=clan)
    spelled = "".join(f"    {line}\n" for line in grouped(key).splitlines())
    return f"\n{spelled}\n{_PROPOSED if proposed else ''}{words}"


def no_paper() -> str:
    """What a person should know who wanted no key."""
    return (
        "\nThis clan has no recovery key: when its admins' devices are lost, nobody can\n"
        "change it any more. Make a second admin early (`clanctl admin add NODE`), or a\n"
        "key later: `clanctl admin propose recovery`.\n"
    )
