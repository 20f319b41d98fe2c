"""What two views of the clan differ in, as people want to hear it: who came and went, by whose word, and invites.

Names are those of the earlier view where it has them: what was decided may have put out whom it is about.
"""

from collections.abc import Iterator
from functools import partial
from typing import Final

from clanmesh_protocol.keys import NodeId, fingerprint_slot
from clanmesh_protocol.records import Kind, Record, Revocation
from clanmeshd.core.authority import Authority
from clanmeshd.core.effects import Announce
from clanmeshd.core.ledger import Ledger
from clanmeshd.core.phrases import ID_LETTERS, called
from clanmeshd.core.roster import Member, StandingInvite

_NO_REASONS: Final = frozenset({"", "removed", "it left"})  # what a device says where a person gave none


def tidings(before: Authority, after: Authority, ledger: Ledger) -> Iterator[Announce]:
    """What has changed about members and invites, in words. `ledger` is that of `after`."""
    name = partial(called, after, before=before)
    if before.number >= 0:
        yield from _invites(before, after, ledger)
    for node in sorted(after.members.keys() - before.members.keys()):
        yield Announce("member-joined", _joined(before, after, after.members[node]), node)
    for node in sorted(before.members.keys() - after.members.keys()):
        text = f"{name(node)} is no member any more: {_why_left(before, after, ledger, node)}"
        yield Announce("member-left", text, node)
    for node in sorted(before.members.keys() & after.members.keys()):
        yield from _amended(before, after, node)


# --- members -------------------------------------------------------------------------------------------


def _joined(before: Authority, after: Authority, member: Member) -> str:
    text = f"{member.name} is a member"
    if member.succeeds is not None:
        text += f", in place of {called(before, member.succeeds)}"
    standing = after.invites.get(member.invite) if member.invite is not None else None
    if standing is None:
        return text
    return f"{text}, by the invite {_short(standing)} of {called(after, standing.author, before)}"


def _why_left(before: Authority, after: Authority, ledger: Ledger, node: NodeId) -> str:
    said = _revocation(after, ledger, node)
    if said is not None:
        record, reason = said
        why = f" ({reason})" if reason not in _NO_REASONS else ""
        return (
            f"it left{why}" if record.author == node else f"{called(after, record.author, before)} removed it{why}"
        )
    if node in after.revoked:
        return "another key of the same device took its place"
    if node in after.suspended:
        return "more devices came by its invite than it allows, and an admin has to choose"
    if before.is_admin(node) and not after.is_admin(node):
        return "it is no admin any more, and nobody else vouches for it"
    return "the admin who vouched for it is none any more"


def _revocation(after: Authority, ledger: Ledger, key: bytes) -> tuple[Record, str] | None:
    """The first word that puts a key out, and its reason. An admin also says again who left by its own word."""
    slot = fingerprint_slot(key)
    said = [
        (entry.value, entry.content.reason)
        for entry in ledger.of_kind(Kind.REVOCATION)
        if entry.value.slot == slot and isinstance(entry.content, Revocation)
        if after.is_admin(entry.value.author) or entry.value.author == key
    ]
    counts = bool(said) and (key in after.revoked or all(record.author != key for record, _ in said))
    return min(said, key=lambda each: each[0].order) if counts else None


def _amended(before: Authority, after: Authority, node: NodeId) -> Iterator[Announce]:
    old, new = before.members[node], after.members[node]
    if (old.name, old.tags) == (new.name, new.tags):
        return
    by = f", by the word of {called(after, new.issuer, before)}" if new.issuer is not None else ""
    if old.name != new.name:
        yield Announce("member-renamed", f"{old.name} is called {new.name} now{by}", node)
    added = [f"+{tag}" for tag in new.tags if tag not in old.tags]
    changes = " ".join([*added, *(f"-{tag}" for tag in old.tags if tag not in new.tags)])
    if changes:
        yield Announce("member-tagged", f"{new.name} is tagged {changes}{by}", node)


# --- invites -------------------------------------------------------------------------------------------


def _invites(before: Authority, after: Authority, ledger: Ledger) -> Iterator[Announce]:
    for key in sorted(after.invites.keys() - before.invites.keys()):
        standing = after.invites[key]
        author = called(after, standing.author, before)
        text = f"{author} made the invite {_short(standing)}, for {_meant_for(after, standing)}"
        yield Announce("invite-made", text, standing.author)
    for key in sorted(before.invites.keys() - after.invites.keys()):
        standing = before.invites[key]
        # One that is used up is at its end: nobody misses it when its author goes.
        if standing.uses_left or after.is_admin(standing.author):
            yield Announce("invite-ended", _ended(before, after, ledger, standing), standing.author)


def _meant_for(after: Authority, standing: StandingInvite) -> str:
    invite = standing.invite
    if invite.succeeds is not None:
        return f"a device in place of {called(after, invite.succeeds)}"
    whom = f"{invite.uses} devices" if invite.uses > 1 else invite.name or "one device"
    return " ".join([whom, *(f"+{tag}" for tag in invite.tags)])


def _ended(before: Authority, after: Authority, ledger: Ledger, standing: StandingInvite) -> str:
    author = called(after, standing.author, before)
    if not after.is_admin(standing.author):
        return f"the invite {_short(standing)} of {author} has lapsed: {author} is no admin any more"
    said = _revocation(after, ledger, standing.invite.key)
    by = (
        f" by {called(after, said[0].author, before)}"
        if said is not None and said[0].author != standing.author
        else ""
    )
    return f"the invite {_short(standing)} of {author} was withdrawn{by}"


def _short(standing: StandingInvite) -> str:
    return standing.id.hex()[:ID_LETTERS]
