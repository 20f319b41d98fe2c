"""What this device does for the clan's trust: operations when a person asks, and an admin's part by itself.

By itself an admin's device acknowledges the head that it follows, confirms who came by an invite, prolongs
credentials, puts its name under the word of those who left, says again what of its own lost a race, and approves
again what it had approved and another says again (`resaying`). Any member's device passes on the proof that
somebody signed two things at once. Nearly all of it follows from the record set, so that a restart loses only
what waits to be said again.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from hashlib import blake2b
from typing import Final

from clanmesh_protocol.errors import LimitError, ProtocolError, UnauthorizedError
from clanmesh_protocol.keys import NodeId, RecordId, fingerprint_slot, signing_public
from clanmesh_protocol.records import (
    SINGLE_SLOT,
    Acknowledgement,
    AdminAdd,
    AdminRemove,
    AdminReplace,
    Approval,
    AuthorityOp,
    Content,
    Equivocation,
    Kind,
    Publishable,
    Record,
    Revocation,
    slot_of,
)
from clanmeshd.core.arrival import Arrival
from clanmeshd.core.author import Author
from clanmeshd.core.authority import Authority, Lost, Pending, retrace
from clanmeshd.core.buckets import TokenBucket
from clanmeshd.core.chain import after
from clanmeshd.core.credentials import amended, confirmation, due_unix_s, expiry, is_due, life_s
from clanmeshd.core.effects import Instant
from clanmeshd.core.finality import is_acknowledged_by, may_acknowledge
from clanmeshd.core.gossip import Gossip
from clanmeshd.core.hlc import unix_s_of
from clanmeshd.core.limits import (
    ACKNOWLEDGE_S,
    PROOF_DELAY_S,
    PROOF_RANKS_MAX,
    PROOFS_WAITING_MAX,
    RENEWALS_AT_ONCE_MAX,
    RESAID_AGE_S_MAX,
    RESAID_BURST,
    RESAID_PER_S,
    RESAID_WAITING_MAX,
    UPKEEP_IDLE_S,
    UPKEEP_S,
)
from clanmeshd.core.resaying import is_approved_before, is_taken_back, is_withdrawal, named

_REMOVALS: Final = (AdminRemove, AdminReplace)
_CHANGES_OF_ADMINS: Final = (AdminAdd, *_REMOVALS)
_LEFT: Final = "it left"
_REPLACED: Final = "another key of the same device took its place"

Proof = tuple[Record, Record]  # of the lower id, of the higher


def rival(
    authority: Authority, own: NodeId, operation: Content, proposal: RecordId | None = None
) -> Pending | None:
    """The proposal that keeps `own` from signing an operation (which is `proposal`, where that waits already).

    Two changes of the admins behind one head can each be completed, and each asks other people who may complete
    it and what is final: two halves of a clan could part for ever. So one device signs one of them at most.
    """
    if not isinstance(operation, _CHANGES_OF_ADMINS):
        return None
    return next(
        (
            each
            for each in authority.pending
            if own in each.signers and each.id != proposal and isinstance(each.operation, _CHANGES_OF_ADMINS)
        ),
        None,
    )


class Governance:
    """The part of the core that signs what admins sign. `up` gives the members that answer."""

    def __init__(
        self, author: Author, gossip: Gossip, up: Callable[[], Sequence[NodeId]], arrival: Arrival, now: Instant
    ) -> None:
        self._own = author.node
        self._author = author
        self._gossip = gossip
        self._up = up
        self._arrival = arrival
        self._upkeep_s = now.monotonic_s
        self._to_say: list[Lost | Pending] = []  # what of our own word is to be said again, one behind each head
        self._resaid = TokenBucket(RESAID_PER_S, RESAID_BURST, now.monotonic_s)
        self._proofs: dict[NodeId, tuple[float, Proof]] = {}  # when to publish it, if nobody else has

    # --- on demand --------------------------------------------------------------------------------------

    def operate(self, operation: AuthorityOp, now: Instant) -> Record:
        """Sign the next operation on the authority chain. Raises UnauthorizedError unless this is an admin.

        It takes effect at once when this admin's weight suffices; else it is a proposal until others approve.
        """
        self._need_admin()
        self._need_no_rival(operation, None)
        authority = self._gossip.authority
        verified = self._author.operate(
            operation, slot=authority.next_slot, prev=authority.head, now_unix_s=now.unix_s
        )
        self._gossip.adopt(verified, None, now.monotonic_s)
        return verified.value

    def approve(self, operation: RecordId, now: Instant) -> Record:
        """Put this admin's name under a proposal. Raises UnauthorizedError unless this is an admin."""
        self._need_admin()
        proposal = next((each for each in self._gossip.authority.pending if each.id == operation), None)
        if proposal is not None:
            self._need_no_rival(proposal.operation, operation)
        return self._write(Approval(operation), now)

    def recover(self, seed: bytes, operation: AuthorityOp, now: Instant) -> Record:
        """Sign an operation with the recovery key. Raises UnauthorizedError when it is not the one in force."""
        authority = self._gossip.authority
        if signing_public(seed) != authority.chain.recovery:
            raise UnauthorizedError("this is not the clan's recovery key")
        writer = Author(seed, authority.clan)
        verified = writer.operate(operation, slot=authority.next_slot, prev=authority.head, now_unix_s=now.unix_s)
        self._gossip.adopt(verified, None, now.monotonic_s)
        return verified.value

    def _need_admin(self) -> None:
        if not self._gossip.authority.is_admin(self._own):
            raise UnauthorizedError("only an admin changes the authority of the clan")

    def _need_no_rival(self, operation: Content, proposal: RecordId | None) -> None:
        if rival(self._gossip.authority, self._own, operation, proposal) is not None:
            raise UnauthorizedError("this device signed another change of the admins, which waits for others")

    def _write(self, content: Publishable, now: Instant) -> Record:
        verified = self._author.write(
            content,
            kind=content.KIND,
            slot=slot_of(content),
            now_unix_s=now.unix_s,
            ttl_s=0,
            may_author=self._gossip.authority.may_author,
        )
        if not self._gossip.adopt(verified, None, now.monotonic_s):
            raise LimitError(f"no slot is left for another record of kind {content.KIND}")
        return verified.value

    def _write_by_itself(self, content: Publishable, now: Instant) -> None:
        """Say something that nobody asked for: where it cannot be said, nothing is."""
        with suppress(ProtocolError):  # no admin any more, no slot left, or too large
            self._write(content, now)

    # --- by itself --------------------------------------------------------------------------------------

    def next_deadline(self) -> float:
        """When `handle_deadline` has something to do."""
        if not self._proofs:
            return self._upkeep_s
        return min([self._upkeep_s, *(at_s for at_s, _ in self._proofs.values())])

    def hasten(self, now_s: float) -> None:
        """Have what is to be kept up done at the next call: it may have waited for this device to arrive."""
        self._upkeep_s = min(self._upkeep_s, now_s)

    def handle_deadline(self, now: Instant) -> None:
        """Do what is due: renewals, an old acknowledgement, proofs that nobody else has published."""
        if now.monotonic_s >= self._upkeep_s:
            self._keep_up(now)
            self._upkeep_s = now.monotonic_s + self._idle_s(now)
        for author, (at_s, proof) in sorted(self._proofs.items()):
            if now.monotonic_s >= at_s:
                del self._proofs[author]
                self._publish_proof(proof, now)

    def follow(self, before: Authority, now: Instant) -> None:
        """The authority has changed: say what follows from that. `before` is what it was."""
        if not self._gossip.authority.is_admin(self._own):
            return
        self._resay(before, now)
        self._approve_again(now)
        self._acknowledge(now)
        self._confirm(now)
        self._countersign(now)
        self._upkeep_s = min(self._upkeep_s, now.monotonic_s + self._idle_s(now))

    def caught(self, twin: Record, record: Record, now: Instant) -> None:
        """Somebody signed two records for one register and seq: let all know, but let one of us say it."""
        if record.author in self._proofs or len(self._proofs) >= PROOFS_WAITING_MAX:
            return
        lower, higher = sorted((twin, record), key=lambda each: each.id)
        rank = self._rank(record.author)
        self._proofs[record.author] = (now.monotonic_s + PROOF_DELAY_S * rank, (lower, higher))

    def _keep_up(self, now: Instant) -> None:
        if self._gossip.authority.is_admin(self._own):
            self._say_next(now)
            self._approve_again(now)
            self._acknowledge(now)
            self._confirm(now)
            self._renew(now)

    def _idle_s(self, now: Instant) -> float:
        """How long nothing is to be kept up, as far as can be told now."""
        authority = self._gossip.authority
        if not authority.is_admin(self._own):
            return UPKEEP_IDLE_S
        life, members = life_s(authority), authority.members.values()
        if self._to_say or any(not member.confirmed or is_due(member, life, now.unix_s) for member in members):
            return UPKEEP_S
        dues = [due_unix_s(each, life) - now.unix_s for each in members if life and each.expires_unix_s]
        return min([UPKEEP_IDLE_S, *(max(UPKEEP_S, due) for due in dues if due > 0)])

    def _acknowledge(self, now: Instant) -> None:
        authority, ledger = self._gossip.authority, self._gossip.ledger
        entry = ledger.get(self._own, Kind.ACKNOWLEDGEMENT, SINGLE_SLOT)
        fresh = entry is not None and now.unix_s < unix_s_of(entry.value.seq) + ACKNOWLEDGE_S
        if fresh and is_acknowledged_by(ledger, self._own, authority.head):
            return
        tree, path, acknowledged = retrace(ledger, authority.final)
        if path and may_acknowledge(tree, self._own, path[-1], acknowledged):
            self._write_by_itself(Acknowledgement(authority.number, authority.head), now)

    def _confirm(self, now: Instant) -> None:
        authority = self._gossip.authority
        waiting = [member for member in authority.members.values() if not member.confirmed]
        if waiting and self._arrival.is_over and self._is_foremost():
            for member in waiting:
                self._write_by_itself(confirmation(authority, member, now.unix_s), now)
                if member.succeeds is not None and member.succeeds not in authority.revoked:
                    self._write_by_itself(Revocation(member.succeeds, _REPLACED), now)

    def _countersign(self, now: Instant) -> None:
        """Who left stays out, even when nothing else is left of it.

        Only of those that an admin had vouched for: who came by a member's word alone counts no more without it.
        """
        if not self._is_foremost():
            return
        ledger, authority = self._gossip.ledger, self._gossip.authority
        said = [entry for entry in ledger.of_kind(Kind.REVOCATION) if isinstance(entry.content, Revocation)]
        by_admins = {entry.value.slot for entry in said if authority.is_admin(entry.value.author)}
        for author in (entry.value.author for entry in said if authority.is_vouched(entry.value.author)):
            slot = fingerprint_slot(author)
            if slot not in by_admins and ledger.get(author, Kind.REVOCATION, slot) is not None:
                self._write_by_itself(Revocation(author, _LEFT), now)

    def _renew(self, now: Instant) -> None:
        authority = self._gossip.authority
        alive = {*self._up(), self._own}
        life = life_s(authority)
        due = [member for member in authority.members.values() if is_due(member, life, now.unix_s)]
        for member in due[:RENEWALS_AT_ONCE_MAX]:
            issuer = member.issuer if member.issuer in alive else None
            responsible = issuer == self._own or (issuer is None and self._is_foremost())
            # A device that is away for longer than its credential lives is to be let in again by a person.
            if responsible and (member.node in alive or not member.expires_unix_s):
                until = expiry(authority, now.unix_s)
                content = amended(self._gossip.ledger, authority, self._own, member.node, expires_unix_s=until)
                self._write_by_itself(content, now)

    def _is_foremost(self) -> bool:
        """Of the admins that answer this is the most senior: one of them is enough for what any may do."""
        alive = {*self._up(), self._own}
        return next((admin for admin in self._gossip.authority.admins if admin in alive), None) == self._own

    def _resay(self, before: Authority, now: Instant) -> None:
        """What of ours was followed or proposed and is not any more, because another was first, is said again.

        A removal also where this device does not remember it: it was restored from a backup of before.
        """
        authority = self._gossip.authority
        lost: list[Lost | Pending] = [
            each
            for each in authority.lost
            if each.author == self._own and (before.follows(each.id) or isinstance(each.operation, _REMOVALS))
        ]
        standing = {each.id for each in [*authority.pending, *self._to_say]}
        lost += [each for each in before.pending if each.author == self._own and not authority.follows(each.id)]
        self._to_say += [each for each in lost if each.id not in standing]
        del self._to_say[RESAID_WAITING_MAX:]
        self._say_next(now)

    def _say_next(self, now: Instant) -> None:
        """One operation at a time: the next one stands behind the head that this one makes."""
        self._to_say = [each for each in self._to_say if self._is_to_say(each, now)]
        if self._to_say and self._resaid.take(now.monotonic_s):
            operation = self._to_say.pop(0).operation
            assert isinstance(operation, AuthorityOp)
            self.operate(operation, now)

    def _is_to_say(self, lost: Lost | Pending, now: Instant) -> bool:
        operation, authority, ledger = lost.operation, self._gossip.authority, self._gossip.ledger
        if not isinstance(operation, AuthorityOp) or now.unix_s > lost.at_unix_s + RESAID_AGE_S_MAX:
            return False
        if any(each.author == self._own and each.operation == operation for each in authority.pending):
            return False
        if rival(authority, self._own, operation) or is_taken_back(ledger, authority, lost):
            return False
        if is_withdrawal(operation) and ((taken := named(ledger, operation)) is None or taken.author == self._own):
            return False  # what was to be taken back is not said again
        return after(authority.chain, operation) != authority.chain

    def _approve_again(self, now: Instant) -> None:
        """What a person approved on this device and has to be said again needs no person again.

        One at a time: each may keep this device from signing the next one.
        """
        authority, ledger = self._gossip.authority, self._gossip.ledger
        for pending in authority.pending:
            if self._own in pending.signers or rival(authority, self._own, pending.operation, pending.id):
                continue
            if is_approved_before(ledger, authority, self._own, pending, now.unix_s):
                self._write_by_itself(Approval(pending.id), now)
                return

    # --- proofs -----------------------------------------------------------------------------------------

    def _rank(self, author: NodeId) -> int:
        """Our place among those who could say it, another one for each author."""
        order = sorted({*self._up(), self._own}, key=lambda node: blake2b(author + node).digest())
        return min(order.index(self._own), PROOF_RANKS_MAX)

    def _publish_proof(self, proof: Proof, now: Instant) -> None:
        lower, higher = proof
        content = Equivocation(lower.data, higher.data)
        told = {entry.content for entry in self._gossip.ledger.of_kind(Kind.EQUIVOCATION)}
        if content in told or any(isinstance(each, Equivocation) and each.author == lower.author for each in told):
            return
        self._write_by_itself(content, now)  # where it is too large, the alarm stays our own
