"""Members who come, change and go, and what happened, as people read it. Pure: values in, tables and text out."""

from collections.abc import Sequence
from typing import Final

from clanctl.answers import Values, names_of, number_of, part_of, rows_of, word_of
from clanctl.failures import one_line
from clanctl.render import moment
from clanctl.render_admins import decision_text, kept_text
from clanctl.sheets import Cell, Column, Sheet, Tone, sheet

ID_LETTERS: Final = 10  # of a node's id: enough to tell it apart

INVITE_TONES: Final[dict[str, Tone]] = {"open": "good", "contested": "bad", "expired": "faint", "used": "faint"}


# --- removing ------------------------------------------------------------------------------------------


def removal_plan(peer: Values, clan: str, plan: Values) -> str:
    """What removing a device will do, before somebody confirms it."""
    secrets = names_of(plan, "exposed")
    name = word_of(peer.get("name"))
    facts = [word_of(peer.get("state")), *(["an admin"] if peer.get("admin") else []), *names_of(peer, "tags")]
    read = f"it could read {', '.join(secrets)}: " if secrets else "it could read none: "
    wipe = "they need new values" if secrets else "it will read none"
    lines = [
        f"{name} ({', '.join(fact for fact in facts if fact)}) goes out of {clan}, and its key never comes back:",
        "  tunnels  each device that is reached closes its tunnel to it, within seconds",
        "  gossip   nobody talks with it; who is off learns of it first when it is back",
        f"  secrets  {read}{wipe}",
    ]
    if plan.get("invite"):
        lines.append(f"  invite   {_came_by(part_of(plan, 'invite'))} and is withdrawn")
    if peer.get("admin"):
        lines.append("  admin    this device takes over what it vouched for; others may have to approve")
    return "\n".join(lines) + "\n"


def removal_text(result: Values, clan: str, unaware: Sequence[str]) -> str:
    """What removing a device did, and what is left to do."""
    name, waits = word_of(result.get("name")), result.get("state") == "pending"
    text = f"{name} is not out yet: the other admins have to agree\n" if waits else f"{name} is out of {clan}\n"
    text += decision_text(part_of(result, "decision")) + kept_text(part_of(result, "kept"), waits=waits)
    if unaware and not waits:
        text += f"not told yet: {', '.join(unaware)}; they learn of it as soon as they are reached\n"
    if result.get("invite"):
        text += f"{_came_by(part_of(result, 'invite'))}; it is withdrawn, and `clanctl invite` makes another\n"
    exposed = names_of(result, "exposed")
    if exposed:
        values = "they need new values when it is out" if waits else "`clanctl status` says which need new values"
        text += f"secrets it could read: {', '.join(exposed)}; {values}\n"
    return text


def _came_by(invite: Values) -> str:
    left = int(number_of(invite, "left"))
    return f"the invite {invite.get('id')} that it came by had {left} use{'' if left == 1 else 's'} left"


def left_text(result: Values) -> str:
    """What `leave` did."""
    told, members = int(number_of(result, "told")), int(number_of(result, "members"))
    spread = f"{told} of {members} others know it" if members else "there was nobody else"
    if result.get("was_admin"):
        spread = "for the others it is an admin still"
    if not result.get("was_member", True):
        spread = "it was out already"
    note = word_of(result.get("note"))
    return (
        f"left {result.get('clan')}: {spread}\n"
        f"{f'{note}{chr(10)}' if note else ''}"
        f"its keys and records are put aside in {result.get('kept')}\n"
        "next: `clanctl join TOKEN` or `clanctl init NAME`, under new keys\n"
    )


# --- invites -------------------------------------------------------------------------------------------

_INVITE_COLUMNS: Final = (
    Column("ID"),
    Column("STATE"),
    Column("USED", 1, right=True),
    Column("FOR", 1),
    Column("CAME", 2),
    Column("UNTIL", 3),
    Column("BY", 4),
)


def invites_sheet(result: Values) -> Sheet:
    """The invites, and who came by each."""
    return sheet(_INVITE_COLUMNS, [_invite_row(invite) for invite in rows_of(result, "invites")])


def _invite_row(invite: Values) -> list[Cell | str]:
    state = word_of(invite.get("state"))
    return [
        word_of(invite.get("id")),
        Cell(state, INVITE_TONES.get(state, "plain")),
        f"{invite.get('used')} of {invite.get('uses')}",
        _meant_for(invite),
        ", ".join(_claimant(each) for each in rows_of(invite, "redeemed_by")),
        moment(number_of(invite, "expires_unix_s")),
        word_of(invite.get("by")),
    ]


def _meant_for(invite: Values) -> str:
    if invite.get("succeeds"):
        return f"in place of {invite['succeeds']}"
    return " ".join([word_of(invite.get("name")) or "any name", *(f"+{tag}" for tag in names_of(invite, "tags"))])


def _claimant(device: Values) -> str:
    name, state = word_of(device.get("name")), word_of(device.get("state"))
    return name if state == "member" else f"{name} {word_of(device.get('id'))[:ID_LETTERS]} ({state})"


def invites_notes(result: Values) -> str:
    """What has to be decided about invites."""
    contested = [invite for invite in rows_of(result, "invites") if invite.get("state") == "contested"]
    return "".join(
        f"more devices came by {invite.get('id')} than it allows: `clanctl invite confirm {invite.get('id')} ID` "
        "lets the right one in\n"
        for invite in contested
    )


def withdrawn_text(result: Values) -> str:
    """What `invite revoke` did."""
    dropped = names_of(result, "dropped")
    gone = f"out with it: {', '.join(dropped)}\n" if dropped else ""
    return f"invite {result.get('id')} is withdrawn\n{gone}"


def confirmed_text(result: Values) -> str:
    """What `invite confirm` did."""
    out = [node[:ID_LETTERS] for node in names_of(result, "out")]
    shut = f"shut out: {', '.join(out)}\n" if out else ""
    left = int(number_of(result, "left"))
    rest = f"{left} more may be confirmed\n" if left else ""
    return f"{result.get('name')} ({word_of(result.get('node'))[:ID_LETTERS]}) is in\n{shut}{rest}"


# --- changes -------------------------------------------------------------------------------------------


def tagged_text(result: Values) -> str:
    """A device's tags after a change."""
    had_not = names_of(result, "had_not")
    never = f"it had no tag {', '.join(had_not)}\n" if had_not else ""
    return f"{result.get('name')}: {' '.join(names_of(result, 'tags')) or 'no tag'}\n{never}"


def renewed_text(result: Values) -> str:
    """Until when a membership holds."""
    until = number_of(result, "expires_unix_s")
    return f"{result.get('name')} is a member {f'until {moment(until)}' if until else 'for ever'}\n"


def rotated_text(result: Values) -> str:
    """How far a change of keys is."""
    number = result.get("number")
    key = f"tunnel key {number}" if number is not None else "another key"
    if result.get("begun") is False:
        return f"a change to {key} is under way already\n"
    return f"changing to {key}: it is in use as soon as every device that is up knows it\n"


def event_line(event: Values) -> str:
    """One thing that happened."""
    mark = "problem: " if event.get("severity") == "problem" else ""
    return f"{moment(number_of(event, 'at_unix_s'))}  {mark}{one_line(word_of(event.get('text')))}"
