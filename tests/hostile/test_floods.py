"""A member that never stops: each record is in order, and each would have the whole authority worked out anew."""

from collections.abc import Callable
from functools import partial

from clanmesh_protocol.keys import NodeId, RecordId, fingerprint_slot
from clanmesh_protocol.limits import SLOTS_PER_AUTHOR_UNKNOWN_KINDS_MAX
from clanmesh_protocol.records import AdminRemove, Credential, Invite, Kind, Redemption, Revocation
from clanmesh_protocol.signing import sign_record
from clanmeshd.core.authority import fold
from clanmeshd.core.effects import SetNames
from clanmeshd.core.limits import (
    FOLD_S,
    FOLD_S_PER_RECORD,
    FOLDING_BURST_S,
    FOLDING_SHARE,
    FOLDING_URGENT_S,
    TRUST_RECORDS_BURST,
    TRUST_RECORDS_PER_S,
    VERIFICATIONS_BURST,
)
from tests.core.worlds import START_SEQ, UNIX_S, instant
from tests.hostile.rules import hostile
from tests.hostile.stage import NOW, Stage

START_S = NOW.monotonic_s
MEMBER, OTHER = 1, 2


def use_of_nothing(stage: Stage, number: int, by: int = MEMBER) -> bytes:
    """A use of an invite that nobody made, in one and the same register each time."""
    content = Redemption(
        RecordId(number.to_bytes(32, "big")), bytes(32), NodeId(bytes(32)), "x", 1, bytes(64), bytes(64)
    )
    return stage.says(by, content)


class Flooded:
    """A core of a clan, to which a member hands records at an even pace from second `START_S` on."""

    def __init__(self, size: int) -> None:
        self.stage = Stage(size, admins=2)
        self.folds = 0
        self.now_s = START_S

    def hears(self, data: bytes, now_s: float) -> None:
        """The core lives on until then, and is handed a record."""
        self.until(now_s)
        mesh = self.stage.mesh
        self._counting(lambda: mesh.receive_record(data, self.stage.node(MEMBER), instant(now_s)))

    def hears_uses(self, count: int, per_s: float, first: int = 0) -> None:
        """So many records that change nothing for anybody."""
        for number in range(count):
            self.hears(use_of_nothing(self.stage, first + number), self.now_s + 1 / per_s)

    def until(self, now_s: float) -> None:
        """The core lives on."""
        mesh = self.stage.mesh
        while (due_s := mesh.next_deadline()) <= now_s:
            self._counting(partial(mesh.handle_deadline, instant(max(due_s, self.now_s))))
        self.now_s = now_s

    def _counting(self, act: Callable[[], None]) -> None:
        before = self.stage.authority
        act()
        self.folds += self.stage.authority is not before
        self.stage.mesh.effects()


@hostile("Records", "authority/redemption-forged")
def test_a_member_cannot_keep_a_core_busy_with_folds() -> None:
    flooded = Flooded(40)
    flooded.hears_uses(1000, per_s=200.0)
    folding_s = flooded.folds * (FOLD_S + FOLD_S_PER_RECORD * len(flooded.stage.mesh.ledger))
    assert 1 < flooded.folds < 700
    assert folding_s <= FOLDING_BURST_S + FOLDING_SHARE * (flooded.now_s - START_S) + 0.01


@hostile("Records", "authority/redemption-forged")
def test_a_flood_that_ends_leaves_nothing_undone() -> None:
    flooded = Flooded(40)
    flooded.hears_uses(600, per_s=400.0)
    flooded.until(flooded.now_s + 6.0)
    stage = flooded.stage
    assert stage.authority == fold(stage.mesh.ledger, stage.authority.final)
    before = stage.authority
    flooded.until(flooded.now_s + 60.0)
    assert stage.authority is before, "with nothing new there is nothing to work out"


@hostile("Records", "authority/redemption-forged")
def test_what_waits_has_its_moment() -> None:
    """Later than all that a record gives a core to do besides."""
    flooded = Flooded(300)
    flooded.hears_uses(100, per_s=2000.0)
    stage, node = flooded.stage, NodeId((7).to_bytes(32, "big"))
    flooded.hears(word(stage, 1, 7), flooded.now_s)
    flooded.until(flooded.now_s + 0.01)
    assert node not in stage.authority.members
    flooded.until(flooded.now_s + 0.1)
    assert node in stage.authority.members


@hostile("Revocations", "authority/lapse-revocation-repeated")
def test_a_removal_in_a_flood_is_hardly_late() -> None:
    flooded = Flooded(40)
    flooded.hears_uses(600, per_s=400.0)
    stage = flooded.stage
    out = stage.says(1, Revocation(stage.node(OTHER), "lost"), slot=fingerprint_slot(stage.node(OTHER)))
    flooded.hears(out, flooded.now_s + 0.001)
    said_s = flooded.now_s
    flooded.until(said_s + FOLDING_URGENT_S + 0.001)
    assert not stage.authority.is_member(stage.node(OTHER))


@hostile("Invites, redemptions and names", "authority/lapse-revocation-repeated")
def test_what_rests_on_a_late_answer_is_told_with_it() -> None:
    flooded = Flooded(40)
    flooded.hears_uses(600, per_s=400.0)
    stage, mesh = flooded.stage, flooded.stage.mesh
    assert not [each for each in mesh.effects() if isinstance(each, SetNames)]
    mesh.receive_record(word(stage, 1, 7), stage.node(1), instant(flooded.now_s))
    told = mesh.effects()
    for _ in range(10):
        flooded.now_s += 0.1
        mesh.handle_deadline(instant(flooded.now_s))
        told += mesh.effects()
    names = [each for each in told if isinstance(each, SetNames)]
    assert "n7" in str(names[-1])


@hostile("Revocations", "authority/lapse-revocation-repeated")
def test_the_cores_own_word_is_taken_at_once() -> None:
    flooded = Flooded(40)
    flooded.hears_uses(600, per_s=400.0)
    stage, now = flooded.stage, instant(flooded.now_s + 0.0005)
    node = stage.node(5)
    stage.mesh.publish(Revocation(node, "lost"), slot=fingerprint_slot(node), now=now)
    assert not stage.authority.is_member(node)
    record = stage.mesh.publish_operation(AdminRemove(stage.node(1)), now)
    assert [each.id for each in stage.authority.pending] == [record.id]


@hostile("Records", "authority/credentials-seniority")
def test_a_flood_by_one_admin_is_taken_in_bounded_time_and_no_faster() -> None:
    stage = Stage(3, admins=2)
    more = 40
    flood = [word(stage, 1, number) for number in range(int(TRUST_RECORDS_BURST) + more)]
    taken = taken_at(stage, flood, 0.0)
    assert taken == TRUST_RECORDS_BURST
    assert stage.mesh.counters["busy"] == more
    assert taken_at(stage, [word(stage, 0, 1), word(stage, 0, 2)], 0.0) == 2, "another one has its own share"
    assert taken_at(stage, flood[-more:], more / TRUST_RECORDS_PER_S) == more


def word(stage: Stage, by: int, number: int) -> bytes:
    """An admin vouches for some key."""
    return stage.says(by, Credential(NodeId(number.to_bytes(32, "big")), f"n{number}", (), 0, None))


def taken_at(stage: Stage, records: list[bytes], later_s: float) -> int:
    """How many of these the core takes in, from peers that each bring a few."""
    for number, data in enumerate(records):
        peer = stage.node((1, 2)[number % 2])
        stage.mesh.receive_record(data, peer, instant(START_S + later_s))
    return sum(stage.mesh.ledger.known(stage.read(data).id) for data in records)


@hostile("Records", "authority/redemption-forged")
def test_what_asks_for_three_checks_counts_as_three() -> None:
    stage = Stage(4)
    for number in range(int(VERIFICATIONS_BURST) // 3 + 10):
        stage.hears(use_of_nothing(stage, number))
    assert stage.mesh.counters["busy"] >= 9


@hostile("Records", "authority/redemption-forged")
def test_names_that_others_write_use_up_nobodys_share() -> None:
    stage = Stage(3, admins=2)
    for number in range(200):
        forged = bytearray(word(stage, 1, number))
        forged[40] ^= 1
        stage.hears(bytes(forged), passed_on_by=2)
    assert stage.mesh.counters["signature"] == 200
    flood = [word(stage, 1, number) for number in range(int(TRUST_RECORDS_BURST))]
    assert taken_at(stage, flood[:1900], 0.0) == 1900


@hostile("Registers", "record/ok-unknown-kind")
def test_later_kinds_together_have_a_bound() -> None:
    stage = Stage()
    for number in range(SLOTS_PER_AUTHOR_UNKNOWN_KINDS_MAX + 100):
        stage.hears(of_a_later_kind(stage, 15 + number % 200, f"{number:04d}"))
    found = [record for record in stage.mesh.ledger.records() if record.kind > 14]
    assert len(found) == SLOTS_PER_AUTHOR_UNKNOWN_KINDS_MAX
    assert len(stage.mesh.ledger.of_kind(Kind.CREDENTIAL)) == 4


def of_a_later_kind(stage: Stage, kind: int, slot: str) -> bytes:
    """A record that this version does not understand."""
    seed = stage.clan.keys[MEMBER].identity_seed
    content = Invite(bytes(32), None, (), 1, int(UNIX_S))
    return sign_record(seed, stage.clan.id, content, kind=kind, slot=slot, seq=START_SEQ + 1)
