"""What a hostile party is let loose on: one real core of a small clan, and the proof that it left no trace.

Device 0 is the core under attack, and an admin. The others exist as keys alone: tests sign with them by hand, and
hand the bytes over as a member would that passes them on.
"""

import gc
from collections.abc import Iterable
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Final

import pytest

from clanmesh_protocol.errors import ProtocolError
from clanmesh_protocol.keys import DeviceKeys, NodeId, RecordId, fingerprint_slot, sign_detached, signing_public
from clanmesh_protocol.records import (
    Acknowledgement,
    Approval,
    AuthorityOp,
    Credential,
    Invite,
    Kind,
    Publishable,
    Record,
    Redemption,
    Suspicion,
    parse_untrusted,
    redemption_input,
    slot_of,
)
from clanmesh_protocol.signing import read_untrusted, sign_record
from clanmeshd.core.authority import Authority
from clanmeshd.core.effects import Effect, StoreAnchor, StoreRecord
from clanmeshd.core.mesh import Mesh
from tests.core.worlds import START_SEQ, UNIX_S, Clan, found, instant, make_mesh, pass_time

NOW: Final = instant(1.0)
RECOVERY: Final = bytes(range(32))  # the recovery key's seed
TOKEN: Final = bytes(range(32, 64))  # the seed of an invite's key
SIGNER: Final = "ssh-ed25519 AAAAx x"
REST_S: Final = 6.0  # longer than a core ever waits before it draws its conclusions
TRACE_OBJECTS_MAX: Final = 4_000  # that a flood may leave in a core: full tables, not ever longer ones

Trace = tuple[bytes, int, int, Authority]


class Stage:
    """A clan of `size` devices, of whom the first `credentialed` are members and the first `admins` admins.

    The core under attack is device 0, unless another one is `attacked`. It has been up for a while.
    """

    def __init__(
        self, size: int = 4, *, admins: int = 1, credentialed: int | None = None, attacked: int = 0
    ) -> None:
        self.clan: Clan = found(size, credentialed=credentialed, admins=admins, recovery=RECOVERY)
        self._seq = START_SEQ + 1000
        self.mesh: Mesh = make_mesh(self.clan, attacked, now=instant(-REST_S))
        self._comes_home(1 if attacked == 0 else 0)

    def _comes_home(self, greeted_by: int) -> None:
        """The core under attack has been among the others for long enough to know that it missed nothing."""
        if len(self.authority.members) > 1:
            for at_s in (-REST_S, -REST_S / 2):
                greeting = self.says(greeted_by, Suspicion(()))
                self.mesh.receive_record(greeting, self.node(greeted_by), instant(at_s))
                pass_time(self.mesh, at_s, at_s + REST_S / 2)
        self.mesh.effects()

    @property
    def authority(self) -> Authority:
        """What the core under attack believes."""
        return self.mesh.authority

    @property
    def genesis(self) -> Record:
        """The clan's first record."""
        return self.clan.records[0].value

    def node(self, index: int) -> NodeId:
        """The identity of the n-th device."""
        return self.clan.keys[index].node

    # --- signing ----------------------------------------------------------------------------------------

    def says(
        self,
        by: int | bytes,
        content: Publishable | AuthorityOp | None,
        *,
        behind: Record | None = None,
        kind: int | None = None,
        slot: str | None = None,
        seq: int | None = None,
    ) -> bytes:
        """What a device (by number) or any seed signs: a register's value, or an operation behind another."""
        seed = by if isinstance(by, bytes) else self.clan.keys[by].identity_seed
        if behind is not None:
            slot = slot or f"{int(behind.slot) + 1:08d}"
        if slot is None:
            slot = slot_of(content)  # type: ignore[arg-type]
        self._seq += 1
        return sign_record(
            seed,
            self.clan.id,
            content,
            kind=int(getattr(content, "KIND", Kind.AUTHORITY)) if kind is None else kind,
            slot=slot,
            seq=self._seq if seq is None else seq,
            prev=behind.id if behind is not None else None,
        )

    def operation(self, by: int | bytes, content: AuthorityOp, behind: Record | None = None) -> bytes:
        """An operation behind the head, or behind another record."""
        return self.says(by, content, behind=behind or self.head)

    def approval(self, by: int | bytes, operation: bytes) -> bytes:
        """A name under an operation."""
        return self.says(by, Approval(self.read(operation).id))

    def acknowledgement(self, by: int | bytes, operation: bytes) -> bytes:
        """The word that an operation is followed."""
        record = self.read(operation)
        return self.says(by, Acknowledgement(int(record.slot), record.id))

    def credential(self, by: int | bytes, subject: int, name: str, *tags: str) -> bytes:
        """A word for a device."""
        return self.says(by, Credential(self.node(subject), name, tags, 0, None))

    def redemption(self, by: int, invite: Record, subject: int, name: str, *, seed: bytes = TOKEN) -> bytes:
        """A device comes by an invite, and a member vouches for that."""
        keys: DeviceKeys = self.clan.keys[subject]
        statement = redemption_input(self.clan.id, invite.id, keys.node, name)
        proofs = sign_detached(seed, statement), sign_detached(keys.identity_seed, statement)
        content = Redemption(invite.id, signing_public(seed), keys.node, name, int(UNIX_S), *proofs)
        return self.says(by, content)

    def invite(self, *tags: str, name: str | None = None, uses: int = 1, ttl_s: int = 3600) -> Record:
        """An invite by the core under attack."""
        content = Invite(signing_public(TOKEN), name, tags, uses, int(UNIX_S) + ttl_s)
        return self.mesh.publish(content, slot=fingerprint_slot(content.key), now=NOW)

    def read(self, data: bytes) -> Record:
        """A record as it would be read."""
        return parse_untrusted(data, self.clan.id)

    # --- listening --------------------------------------------------------------------------------------

    @property
    def head(self) -> Record:
        """The operation that is followed."""
        return self.held(self.authority.head)

    def held(self, record: RecordId) -> Record:
        """A record by its id."""
        found = self.mesh.ledger.by_short_id(record[:8])
        assert found is not None
        return found

    def trace(self) -> Trace:
        """All that records can change here."""
        ledger = self.mesh.ledger
        return ledger.root(), len(ledger), ledger.version, self.authority

    def hears(self, *records: bytes, passed_on_by: int = 1) -> list[Effect]:
        """The core is handed records by a member."""
        for data in records:
            self.mesh.receive_record(data, self.node(passed_on_by), NOW)
        return self.mesh.effects()

    def rests(self, seconds: float = REST_S) -> None:
        """Time passes, and what has waited is done."""
        pass_time(self.mesh, NOW.monotonic_s, NOW.monotonic_s + seconds)

    def takes(self, *records: bytes) -> None:
        """The core takes records in, one after the other."""
        for data in records:
            self.hears(data)
            assert self.mesh.ledger.known(self.read(data).id)

    def restarts(self, *more: bytes, anchored: bool = True) -> None:
        """The core starts again from its disk, on which there is `more`; without its anchor if that was lost."""
        disk = [record.data for record in self.mesh.ledger.records()]
        records = tuple(read_untrusted(data, self.clan.id) for data in (*disk, *more))
        anchor = self.authority.final if anchored else None
        self.mesh = make_mesh(self.clan, 0, seed=1, now=NOW, records=records, anchor=anchor)
        self.mesh.effects()

    def governs(self, operation: AuthorityOp, *agreeing: int) -> Record:
        """The core's person does something, others agree and follow it: it is final."""
        record = self.mesh.publish_operation(operation, NOW)
        for index in agreeing:
            self.takes(self.approval(index, record.data), self.acknowledgement(index, record.data))
        self.mesh.effects()
        assert self.authority.head == self.authority.final == record.id
        return record

    def refuses(self, *records: bytes, code: str) -> None:
        """The core refuses each record for one reason, and nothing of it is left behind."""
        self.mesh.effects()
        before, counted = self.trace(), self.mesh.counters.get(code, 0)
        effects = self.hears(*records)
        assert self.mesh.counters.get(code, 0) == counted + len(records), self.mesh.counters
        assert self.trace() == before
        assert not [effect for effect in effects if isinstance(effect, StoreRecord | StoreAnchor)]

    def refuses_any(self, *records: bytes) -> None:
        """The core refuses each record, for whatever reason, and nothing of it is left behind."""
        before = self.trace()
        for data in records:
            with pytest.raises(ProtocolError):
                read_untrusted(data, self.clan.id)
        self.hears(*records)
        assert self.trace() == before

    def hears_in_vain(self, *records: bytes) -> None:
        """Refused, or kept as void where forks may need it: who may do what, and who waits for what, stays."""
        before = self.authority
        self.hears(*records)
        now = self.authority
        assert (now.chain, now.final, now.roster) == (before.chain, before.final, before.roster)
        assert (now.pending, now.lost) == (before.pending, before.lost)

    def keeps_head(self, *records: bytes) -> None:
        """Whatever becomes of the records: who the admins are, what is followed and what is settled stays."""
        before = self.authority
        self.hears(*records)
        assert (self.authority.chain, self.authority.final) == (before.chain, before.final)


def objects(root: object) -> int:
    """How many things hang on one: a core that is flooded must not grow without end."""
    skipped = (type, ModuleType, FunctionType, BuiltinFunctionType, MethodType)
    seen: set[int] = set()
    waiting = [root]
    while waiting:
        each = waiting.pop()
        if id(each) not in seen and not isinstance(each, skipped):
            seen.add(id(each))
            waiting += gc.get_referents(each)
    return len(seen)


def stays_small(stage: Stage, flood: Iterable[bytes]) -> None:
    """A core is no larger after a flood than its tables allow."""
    before = objects(stage.mesh)
    for data in flood:
        stage.hears(data)
    grown = objects(stage.mesh) - before
    assert grown <= TRACE_OBJECTS_MAX, f"{grown} things are left"
