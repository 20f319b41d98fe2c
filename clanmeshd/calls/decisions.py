"""An operation on the authority, as people make it: signed, and done at once or waiting for others' names.

Here is also what goes before an admin goes: another one says what only that one had said.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from clanmesh_protocol.control import Fault
from clanmesh_protocol.keys import NodeId, RecordId, fingerprint_slot
from clanmesh_protocol.kinds import Kind
from clanmesh_protocol.records import (
    AdminRemove,
    AdminReplace,
    AuthorityOp,
    Content,
    Credential,
    Revocation,
    slot_of,
)
from clanmeshd.clan import Clan
from clanmeshd.core.authority import Authority, Pending
from clanmeshd.core.chain import after, operation_number
from clanmeshd.core.governance import rival
from clanmeshd.core.phrases import ID_LETTERS, called, operation_text
from clanmeshd.core.takeover import resting, takeover
from clanmeshd.driver import instant

_DISTRUSTED: Final = "vouched for only by an admin who is not trusted any more"
INVITE_DIGITS: Final = 16  # of an invite's id, as people see it
SAYINGS_AT_ONCE: Final = 16  # records that are signed before others have their turn: 60 ms in a clan of 300


@dataclass(frozen=True, slots=True)
class Decision:
    """One operation and how far it is."""

    id: RecordId
    number: int
    operation: str
    author: str
    signed_by: tuple[str, ...]
    weight: int
    needed: int
    approvers: tuple[str, ...]  # who can still put their name under it; nobody when it is done
    at_unix_s: float
    is_done: bool

    def view(self) -> dict[str, Any]:
        """The plain value for `clanctl`."""
        return {
            "state": "done" if self.is_done else "pending",
            "id": self.id.hex(),
            "number": self.number,
            "operation": self.operation,
            "author": self.author,
            "signed_by": list(self.signed_by),
            "weight": self.weight,
            "needed": self.needed,
            "approvers": list(self.approvers),
            "at_unix_s": self.at_unix_s,
        }


@dataclass(frozen=True, slots=True)
class Kept:
    """What was taken over from an admin who goes."""

    credentials: tuple[str, ...] = ()  # names of members
    revocations: int = 0
    invites_lapsed: tuple[str, ...] = ()
    dropped: tuple[str, ...] = field(default=())  # members whose credentials were not taken over

    def view(self) -> dict[str, Any]:
        """The plain value for `clanctl`."""
        return {
            "credentials": list(self.credentials),
            "revocations": self.revocations,
            "invites_lapsed": list(self.invites_lapsed),
            "dropped": list(self.dropped),
        }


def decision_of(authority: Authority, pending: Pending) -> Decision:
    """A proposal that waits."""
    return Decision(
        id=pending.id,
        number=pending.number,
        operation=operation_text(authority, pending.operation),
        author=called(authority, pending.author),
        signed_by=_names(authority, pending.signers),
        weight=pending.weight,
        needed=pending.needed,
        approvers=_names(authority, _approvers(authority, pending)),
        at_unix_s=pending.at_unix_s,
        is_done=False,
    )


def _approvers(authority: Authority, pending: Pending) -> frozenset[NodeId]:
    """Who can complete a proposal. The one it is about is asked only where the others do not suffice."""
    waiting = frozenset(authority.admins) - pending.signers
    if isinstance(pending.operation, AdminRemove | AdminReplace):
        others = waiting - {pending.operation.node}
        if pending.weight + authority.chain.weight(others) >= pending.needed:
            return others
    return waiting


async def decide(clan: Clan, operation: AuthorityOp) -> Decision:
    """Sign an operation as this admin: a new one, or the same that waits already.

    Raises Fault when it would have no effect.
    """
    before = clan.mesh.authority
    same = check(clan, operation)
    if same is not None:
        return await approve(clan, same)
    now = instant()
    record = clan.mesh.publish_operation(operation, now)
    await clan.driver.settle_soon()
    return outcome(clan, before, record.id, operation, record.author, frozenset({record.author}), now.unix_s)


def check(clan: Clan, operation: AuthorityOp) -> Pending | None:
    """See that this admin can sign an operation. Gives the proposal that says the same. Raises Fault."""
    authority = clan.mesh.authority
    refuse_idle(authority, operation)
    same = next((each for each in authority.pending if each.operation == operation), None)
    _refuse_rival(clan, operation, same.id if same is not None else None)
    return same


async def approve(clan: Clan, proposal: Pending) -> Decision:
    """Put this admin's name under a proposal, if it is not there yet."""
    before, own = clan.mesh.authority, clan.keys.node
    operation = proposal.operation
    if own not in proposal.signers:
        _refuse_rival(clan, operation, proposal.id)
    if isinstance(operation, AdminRemove | AdminReplace) and operation.node == own:
        _refuse_resting(clan, proposal)
    elif isinstance(operation, AdminRemove | AdminReplace):
        # What the proposer had not heard of yet. What was said since is the word of one who is to go.
        stays = not _is_put_out(clan, operation.node)
        await _take_over(clan, operation.node, proposal.at_unix_s, keeps_leaving=stays, puts_out=False)
    if own not in proposal.signers:
        clan.mesh.approve(proposal.id, instant())
        await clan.driver.settle_soon()
    signers, at_unix_s = proposal.signers | {own}, proposal.at_unix_s
    return outcome(clan, before, proposal.id, proposal.operation, proposal.author, signers, at_unix_s)


def outcome(
    clan: Clan,
    before: Authority,
    record: RecordId,
    operation: Content,
    author: NodeId,
    signers: frozenset[NodeId],
    at_unix_s: float,
) -> Decision:
    """How far an operation is that was signed on top of `before`. Raises Fault when another one was first."""
    after_it = clan.mesh.authority
    waiting = next((each for each in after_it.pending if each.id == record), None)
    if waiting is not None:
        return decision_of(after_it, waiting)
    text = operation_text(before, operation)
    if not after_it.follows(record):
        raise Fault("conflict", text, "another decision was made at the same moment", "look, and decide again")
    needed = before.chain.need(operation_number(operation))
    return Decision(
        id=record,
        number=before.number + 1,
        operation=text,
        author=called(before, author),
        signed_by=_names(before, signers),
        weight=needed if author == before.chain.recovery else before.chain.weight(signers),
        needed=needed,
        approvers=(),
        at_unix_s=at_unix_s,
        is_done=True,
    )


def _refuse_rival(clan: Clan, operation: Content, proposal: RecordId | None) -> None:
    authority, own = clan.mesh.authority, clan.keys.node
    other = rival(authority, own, operation, proposal)
    if other is None:
        return
    text, short = operation_text(authority, other.operation), other.id.hex()[:ID_LETTERS]
    remedy = "get that approved first"
    if other.author == own:
        remedy += f", or take it back: `clanctl admin withdraw {short}`"
    why = f"this device's word for another change of the admins ({text}) still waits for others"
    raise Fault("refused", operation_text(authority, operation), why, remedy)


def refuse_idle(authority: Authority, operation: AuthorityOp) -> None:
    """Refuse an operation that would change nothing. Raises Fault."""
    if after(authority.chain, operation) == authority.chain:
        text = operation_text(authority, operation)
        raise Fault("refused", text, "it would change nothing", "see `clanctl admin list`")


def need_others(clan: Clan, node: NodeId, what: str) -> None:
    """Refuse what only the admin who is to go could complete. Raises Fault."""
    chain = clan.mesh.authority.chain
    others = chain.total_weight - chain.weight([node])
    needed = chain.need(AdminRemove.OP)
    if others < needed:
        name = called(clan.mesh.authority, node)
        raise Fault(
            "refused",
            what,
            f"it needs a weight of {needed}, and the admins without {name} have {others}",
            f"use the recovery key: `clanctl admin recover --remove {name}`",
        )


async def take_over(clan: Clan, leaving: NodeId, distrust_s: int | None, *, keeps_leaving: bool = False) -> Kept:
    """Say in this admin's name what only `leaving` said. To be called before that one is an admin no more.

    Who came only by what is distrusted is put out: so other admins who approve do not take it over either.
    """
    before_unix_s = instant().unix_s - distrust_s if distrust_s is not None else None
    return await _take_over(clan, leaving, before_unix_s, keeps_leaving=keeps_leaving, puts_out=True)


async def _take_over(
    clan: Clan, leaving: NodeId, before_unix_s: float | None, *, keeps_leaving: bool, puts_out: bool
) -> Kept:
    now, mesh = instant(), clan.mesh
    authority = mesh.authority
    plan = takeover(
        mesh.ledger,
        authority,
        clan.keys.node,
        leaving,
        now_unix_s=now.unix_s,
        before_unix_s=before_unix_s,
        keeps_leaving=keeps_leaving,
    )
    distrusted = [node for node in plan.distrusted if puts_out and not authority.is_admin(node)]
    out = tuple(Revocation(node, _DISTRUSTED) for node in distrusted)
    vouched = (*plan.credentials, *plan.remembered)
    sayings: tuple[Revocation | Credential, ...] = (*plan.revocations, *out, *vouched)
    for number, content in enumerate(sayings, 1):
        mesh.publish(content, slot=slot_of(content), now=now)
        if not number % SAYINGS_AT_ONCE:
            await clan.driver.settle_soon()
    await clan.driver.settle_soon()
    return Kept(
        credentials=_names(authority, (credential.node for credential in plan.credentials)),
        revocations=len(plan.revocations),
        invites_lapsed=tuple(key.hex()[:INVITE_DIGITS] for key in plan.invites_lapsed),
        dropped=_names(authority, plan.distrusted),
    )


def _refuse_resting(clan: Clan, proposal: Pending) -> None:
    """Who agrees to go must not take members along that it vouched for since it was proposed. Raises Fault."""
    authority = clan.mesh.authority
    names = _names(authority, resting(clan.mesh.ledger, authority, clan.keys.node))
    if names:
        raise Fault(
            "refused",
            operation_text(authority, proposal.operation),
            f"only this device vouches for {', '.join(names)}",
            f"propose the same on {called(authority, proposal.author)} again, which takes them over, then approve",
        )


def _is_put_out(clan: Clan, node: NodeId) -> bool:
    """Whether an admin has signed that a key is out, be it void as long as it is an admin's."""
    said = [entry for entry in clan.mesh.ledger.of_kind(Kind.REVOCATION) if isinstance(entry.content, Revocation)]
    return any(entry.value.slot == fingerprint_slot(node) and entry.value.author != node for entry in said)


async def put_out(clan: Clan, node: NodeId, reason: str) -> None:
    """Sign that a key is out. Of an admin it counts once that one is none any more."""
    clan.mesh.publish(Revocation(node, reason), slot=fingerprint_slot(node), now=instant())
    await clan.driver.settle_soon()


def _names(authority: Authority, nodes: Iterable[NodeId]) -> tuple[str, ...]:
    return tuple(sorted(called(authority, node) for node in nodes))
