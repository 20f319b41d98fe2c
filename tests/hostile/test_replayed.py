"""Old words, said again: records, datagrams, answers."""

from clanmesh_protocol.endpoints import Endpoint
from clanmesh_protocol.keys import fingerprint_slot
from clanmesh_protocol.records import SINGLE_SLOT, AdminRemove, Checkpoint, Kind, Revocation, Secret, Setting
from tests.core.worlds import Puppet, datagrams, endpoint_of, instant, status
from tests.hostile.rules import hostile
from tests.hostile.stage import NOW, Stage, stays_small

ELSEWHERE = Endpoint(bytes([203, 0, 113, 9]), 4444)


def met(stage: Stage) -> Puppet:
    """A member that the core takes to be up."""
    stage.mesh.set_endpoints([endpoint_of(0)], instant(0.0))
    stage.mesh.set_status(status(), instant(0.0))
    stage.mesh.effects()
    puppet = Puppet(stage.clan, 1, stage.mesh)
    puppet.meet(NOW)
    return puppet


@hostile("Registers", "ledger/replayed")
def test_the_same_record_again() -> None:
    stage = Stage()
    data = stage.says(1, status(1))
    stage.takes(data)
    stage.refuses(*[data] * 10, code="duplicate")


@hostile("Registers", "ledger/older")
def test_an_older_value() -> None:
    stage = Stage()
    old, new = stage.says(1, status(1)), stage.says(1, status(2))
    stage.takes(new)
    stage.refuses(old, code="stale")


@hostile("Registers", "ledger/older-than-tombstone")
def test_what_was_withdrawn() -> None:
    stage = Stage()
    content = Secret(1, None, "root", "root", 0o600, (), (), bytes(24), b"x")
    said = stage.says(1, content, slot="wifi")
    stage.takes(said, stage.says(1, None, kind=Kind.SECRET, slot="wifi"))
    stage.refuses(said, code="stale")


@hostile("Who may say what", "ledger/removed-for-ever")
def test_the_credential_of_one_who_was_put_out() -> None:
    stage = Stage()
    vouched = next(r.value for r in stage.clan.records if r.value.slot == fingerprint_slot(stage.node(2)))
    stage.takes(stage.says(0, Revocation(stage.node(2), "lost")))
    stage.refuses(vouched.data, code="duplicate")
    stage.takes(stage.credential(0, 2, "back"))
    assert stage.node(2) not in stage.authority.members


@hostile("Who may say what", "authority/settled-newest-counts")
def test_an_older_acknowledgement() -> None:
    stage = Stage(admins=3)
    first = stage.operation(1, Checkpoint("main", bytes(20)))
    older = stage.acknowledgement(1, first)
    second = stage.operation(1, Checkpoint("main", bytes([1] * 20)), stage.read(first))
    stage.takes(first, second, stage.acknowledgement(1, second))
    stage.refuses(older, code="stale")


@hostile("Who may say what", "authority/pin-approval")
def test_what_a_removed_admin_once_signed() -> None:
    stage = Stage(admins=3)
    before = stage.operation(2, Setting("colour", "red"))
    stage.governs(AdminRemove(stage.node(2)), 1)
    stage.hears_in_vain(before, stage.approval(2, before), stage.acknowledgement(2, before))


@hostile("Datagrams", "session/backwards")
def test_a_datagram_again_and_from_elsewhere() -> None:
    stage = Stage()
    puppet = met(stage)
    said = [puppet.seal(puppet.ping()) for _ in range(3)]
    for data in said:
        stage.mesh.receive(data, puppet.at, NOW)
    stage.mesh.effects()
    before = stage.trace()
    for data in said:
        stage.mesh.receive(data, ELSEWHERE, NOW)
    assert stage.mesh.counters["replayed"] == 3
    assert puppet.endpoint(NOW) == puppet.at
    assert datagrams(stage.mesh.effects()) == []
    assert stage.trace() == before


@hostile("Datagrams", "session/ok-unproven")
def test_a_recording_from_before_a_restart() -> None:
    stage = Stage()
    puppet = met(stage)
    recorded = puppet.seal(puppet.ping())
    restarted = Stage()
    restarted.mesh.receive(recorded, ELSEWHERE, NOW)
    peers = {peer.node: peer.state for peer in restarted.mesh.peers(NOW)}
    assert peers[puppet.node] == "unknown"
    assert restarted.mesh.ledger.get(puppet.node, Kind.STATUS, SINGLE_SLOT) is None


@hostile("Records", "ledger/replayed")
def test_a_thousand_echoes_leave_no_more_than_one() -> None:
    stage = Stage()
    data = stage.says(1, status(1))
    stage.takes(data)
    stays_small(stage, [data] * 1000)
