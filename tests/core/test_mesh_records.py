"""How records travel between whole cores: waves, repair, admission, in whatever order they come."""

import pytest

from clanmesh_protocol.errors import LimitError, UnauthorizedError
from clanmesh_protocol.keys import NodeId, fingerprint_slot, sign_detached, signing_public
from clanmesh_protocol.limits import RECORD_DATAGRAM_BYTES_MAX
from clanmesh_protocol.messages import IHave, RecordFrame, Want
from clanmesh_protocol.records import (
    SINGLE_SLOT,
    Credential,
    Invite,
    Kind,
    Record,
    Revocation,
    Secret,
    SignerAdd,
    Wrap,
    redemption_input,
)
from clanmesh_protocol.signing import Verified, read_untrusted
from clanmesh_protocol.streams import Join
from clanmeshd.core.admission import Refusal
from clanmeshd.core.effects import FetchRecords, StoreRecord
from clanmeshd.core.limits import PARKED_RECORDS_MAX
from clanmeshd.core.mesh import Mesh
from tests.core.worlds import (
    START_SEQ,
    UNIX_S,
    Clan,
    Puppet,
    datagrams,
    endpoint_of,
    found,
    instant,
    make_mesh,
    status,
)
from tests.sim.world import World

SIGNER = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFAKEFAKEFAKEFAKEFAKEFAKEFAKEFAKEFAKEFAKEFAK alice"


def formed(size: int, seed: int = 1, **options: float) -> World:
    """A clan that has found itself and is quiet."""
    world = World(size, seed, **options)  # type: ignore[arg-type]
    assert world.run_until(lambda: len(world.alive) == size and world.all_up() and world.roots_equal(), 30.0)
    world.run(5.0)
    return world


def secret(size: int, nodes: tuple[NodeId, ...] = ()) -> Secret:
    """A secret of about so many bytes."""
    wraps = tuple(Wrap(node, bytes(80)) for node in nodes)
    return Secret(1, None, "root", "root", 0o400, ("all",), wraps, bytes(24), bytes(size))


class TestWave:
    @pytest.mark.parametrize("size", [2, 3, 8])
    def test_reaches_every_up_peer_in_one_hop(self, size: int) -> None:
        world = formed(size)
        before = {index: world.devices[index].datagrams_sent for index in range(size)}
        record = world.mesh(1).publish(secret(10), slot="wifi", now=world.now(1))
        effects = world.mesh(1).effects()
        assert isinstance(effects[0], StoreRecord)
        sent = datagrams(effects)
        assert {datagram.destination for datagram in sent} == {endpoint_of(i) for i in range(size)} - {
            endpoint_of(1)
        }
        assert len(sent) == size - 1
        for datagram in sent:
            index = next(i for i in range(size) if endpoint_of(i) == datagram.destination)
            world.mesh(index).receive(datagram.data, endpoint_of(1), world.now(index))
        assert all(world.holds(index, record) for index in range(size))
        assert before == {index: world.devices[index].datagrams_sent for index in range(size)}

    def test_of_twenty_reaches_all_and_soon(self) -> None:
        world = formed(20)
        record = world.mesh(3).publish(secret(10), slot="wifi", now=world.now(3))
        world.settle(3)
        assert world.run_until(lambda: all(world.holds(index, record) for index in range(20)), 0.3)

    @pytest.mark.parametrize("seed", range(4))
    def test_loss_is_repaired_by_ids(self, seed: int) -> None:
        world = formed(6, seed)
        world.loss = 0.3
        record = world.mesh(3).publish(secret(10), slot="wifi", now=world.now(3))
        world.settle(3)
        assert world.run_until(lambda: all(world.holds(index, record) for index in range(6)), 8.0)

    def test_one_lost_push_is_made_good_at_once(self) -> None:
        world = formed(8)
        world.cut.add((3, 5))
        record = world.mesh(3).publish(secret(10), slot="wifi", now=world.now(3))
        world.settle(3)
        assert world.run_until(lambda: world.holds(5, record), 0.2)

    def test_what_is_stored_stands_before_what_tells_of_it(self) -> None:
        world = formed(3)
        world.mesh(0).publish(secret(10), slot="wifi", now=world.now(0))
        kinds = [type(effect).__name__ for effect in world.mesh(0).effects()]
        assert kinds.index("StoreRecord") < kinds.index("SendDatagram")

    def test_soft_state_is_never_stored(self) -> None:
        world = formed(3)
        stored = {record.value.kind for device in world.devices for record in device.disk}
        assert not stored & {Kind.STATUS, Kind.SUSPICION}

    def test_several_changes_of_status_share_a_record(self) -> None:
        world = formed(2)
        seqs = set()
        for number in range(1, 21):
            world.mesh(0).set_status(status(number), world.now(0))
            world.settle(0)
            world.run(0.05)
            entry = world.mesh(1).ledger.get(world.devices[0].node, Kind.STATUS, SINGLE_SLOT)
            assert entry is not None
            seqs.add(entry.value.seq)
        world.run(2.0)
        entry = world.mesh(1).ledger.get(world.devices[0].node, Kind.STATUS, SINGLE_SLOT)
        assert entry is not None
        assert entry.content == status(20)
        assert len(seqs) <= 3


class TestLargeRecords:
    def test_are_announced_and_fetched(self) -> None:
        world = formed(3)
        record = world.mesh(0).publish(secret(5000), slot="big", now=world.now(0))
        assert len(record.data) > RECORD_DATAGRAM_BYTES_MAX
        world.settle(0)
        assert world.run_until(lambda: all(world.holds(index, record) for index in range(3)), 2.0)

    def test_are_asked_of_the_peer_that_has_them(self) -> None:
        world = formed(2)
        record = world.mesh(0).publish(secret(5000), slot="big", now=world.now(0))
        moved = world.mesh(0).effects()
        fetches: list[FetchRecords] = []
        for _ in range(3):  # IHAVE, WANT, IHAVE again: too large for a datagram
            for datagram in datagrams(moved):
                index = 0 if datagram.destination == endpoint_of(0) else 1
                world.mesh(index).receive(datagram.data, endpoint_of(1 - index), world.now(index))
            moved = world.mesh(0).effects() + world.mesh(1).effects()
            fetches += [effect for effect in moved if isinstance(effect, FetchRecords)]
        assert [(fetch.peer, fetch.ids) for fetch in fetches] == [(world.devices[0].node, (record.id[:8],))]
        assert fetches[0].endpoints[0] == endpoint_of(0)

    def test_come_when_they_were_missed(self) -> None:
        world = formed(3)
        world.kill(2)
        record = world.mesh(0).publish(secret(5000), slot="big", now=world.now(0))
        world.settle(0)
        world.run(10.0)
        world.start(2)
        assert world.run_until(lambda: world.holds(2, record), 10.0)


class TestOrderOfArrival:
    """A member's records may come before the word that makes it one."""

    def stranger(self, clan: Clan) -> tuple[bytes, bytes]:
        """A record by the last device, and the credential for it."""
        index = len(clan.keys) - 1
        node = clan.keys[index].node
        content = Credential(node, "late", (), 0, None)
        word = clan.sign(0, content, slot=fingerprint_slot(node), seq=START_SEQ + 900)
        return clan.sign(index, secret(10), slot="wifi", seq=START_SEQ), word

    def met(self) -> tuple[Clan, Mesh, Puppet]:
        """A clan whose last device is no member yet, the core of a member, and another that has met it."""
        clan = found(4, credentialed=3)
        mesh = make_mesh(clan, 2)
        mesh.set_endpoints([endpoint_of(2)], instant(0.0))
        puppet = Puppet(clan, 1, mesh)
        puppet.meet(instant(1.0))
        return clan, mesh, puppet

    def test_in_one_datagram(self) -> None:
        clan, mesh, puppet = self.met()
        data, word = self.stranger(clan)
        puppet.send(RecordFrame(data), RecordFrame(word), now=instant(1.0))
        assert mesh.ledger.get(clan.keys[3].node, Kind.SECRET, "wifi") is not None

    def test_many_of_them_parked_and_most_forgotten_are_brought_by_repair(self) -> None:
        # Device 4 is credentialed at device 0 only; its records reach the others first, more than they can park.
        clan = found(5, credentialed=4)
        world = World(5, 3, clan=clan)
        world.run(1.0)
        strangers = PARKED_RECORDS_MAX + 40
        everything = [
            read_untrusted(clan.sign(4, None, kind=Kind.SECRET, slot=f"s{number}", seq=START_SEQ), clan.id)
            for number in range(strangers)
        ]
        for index in (1, 2, 3):
            for item in everything:
                world.mesh(index).receive_record(item.value.data, clan.keys[0].node, world.now(index))
            world.settle(index)
        assert world.mesh(1).counters["unauthorized"] >= strangers
        _, word = self.stranger(clan)
        world.mesh(0).receive_record(word, clan.keys[1].node, world.now(0))
        for item in everything:
            world.mesh(0).receive_record(item.value.data, clan.keys[1].node, world.now(0))
        world.settle(0)
        assert world.run_until(
            lambda: all(world.holds(index, item.value) for index in range(4) for item in everything), 20.0
        )

    def test_repair_brings_them_though_they_were_refused_before(self) -> None:
        # What was refused is not asked for again for a while; a new authority must end that.
        clan, mesh, puppet = self.met()
        data, word = self.stranger(clan)
        for number in range(2 * PARKED_RECORDS_MAX):
            filler = clan.sign(3, None, kind=Kind.SECRET, slot=f"s{number}", seq=START_SEQ)
            puppet.send(RecordFrame(data) if number == 0 else RecordFrame(filler), now=instant(1.0))
        puppet.send(RecordFrame(word), now=instant(1.0))
        short_id = read_untrusted(data, clan.id).value.id[:8]
        assert not mesh.ledger.known(short_id)
        assert Want((short_id,)) in puppet.send(IHave((short_id,)), now=instant(1.1))

    def test_a_revocation_takes_the_records_of_its_subject_out_everywhere(self) -> None:
        world = formed(4)
        gone = world.devices[3].node
        world.mesh(0).publish(Revocation(gone, "lost"), slot=fingerprint_slot(gone), now=world.now(0))
        world.settle(0)
        assert world.run_until(lambda: world.roots_equal([0, 1, 2]), 10.0)
        for index in (0, 1, 2):
            assert gone not in world.mesh(index).authority.members
            assert world.mesh(index).ledger.get(gone, Kind.NODE, SINGLE_SLOT) is None


class TestAdmission:
    def invited(self, world: World, uses: int = 1) -> tuple[bytes, Record]:
        """An invite by the admin."""
        seed = bytes(range(32))
        invite = Invite(signing_public(seed), None, ("guest",), uses, int(UNIX_S) + 3600)
        record = world.mesh(0).publish(invite, slot=fingerprint_slot(invite.key), now=world.now(0))
        world.settle(0)
        return seed, record

    def request(self, clan: Clan, index: int, seed: bytes, invite: Record, name: str) -> Join:
        """What the n-th device asks."""
        keys = clan.keys[index]
        statement = redemption_input(clan.id, invite.id, keys.node, name)
        return Join(
            invite=invite.id,
            invite_key=signing_public(seed),
            node=keys.node,
            name=name,
            invite_proof=sign_detached(seed, statement),
            node_proof=sign_detached(keys.identity_seed, statement),
        )

    def joined(self, by: int) -> World:
        """A clan of three whose third device was admitted by the n-th."""
        world = World(3, 4, clan=found(3, credentialed=2))
        world.kill(2)
        assert world.run_until(lambda: len(world.alive) >= 2 and world.all_up([0, 1]), 10.0)
        world.kill(2)
        seed, invite = self.invited(world)
        world.run(2.0)
        world.mesh(by).admit(self.request(world.clan, 2, seed, invite, "phone"), world.now(by))
        world.settle(by)
        bundle = world.mesh(by).ledger.bundle()
        world.devices[2].disk = [read_untrusted(data, world.clan.id) for data in bundle]
        assert world.devices[2].disk[0].value.is_genesis
        world.start(2)
        return world

    @pytest.mark.parametrize("by", [0, 1])
    def test_a_joiner_is_in_the_clan_within_a_second(self, by: int) -> None:
        world = self.joined(by)
        assert world.run_until(lambda: world.all_up() and world.roots_equal(), 1.0)
        for index in range(3):
            assert world.mesh(index).authority.members[world.devices[2].node].name == "phone"

    def test_an_admin_confirms_by_itself(self) -> None:
        world = self.joined(1)
        world.run(2.0)
        assert world.mesh(1).authority.members[world.devices[2].node].confirmed

    def test_a_second_use_is_refused(self) -> None:
        world = World(2, 4, clan=found(4, credentialed=2))
        world.run(2.0)
        seed, invite = self.invited(world)
        world.mesh(0).admit(self.request(world.clan, 2, seed, invite, "phone"), world.now())
        with pytest.raises(Refusal, match="used"):
            world.mesh(0).admit(self.request(world.clan, 3, seed, invite, "tablet"), world.now())

    def test_the_same_device_may_ask_again(self) -> None:
        world = World(2, 4, clan=found(4, credentialed=2))
        world.run(2.0)
        seed, invite = self.invited(world)
        for _ in range(2):
            world.mesh(0).admit(self.request(world.clan, 2, seed, invite, "phone"), world.now())
        assert world.clan.keys[2].node in world.mesh(0).authority.members


class TestPublishing:
    def test_what_this_device_may_not_say_is_not_said(self) -> None:
        mesh = make_mesh(found(3), 1)
        invite = Invite(bytes(32), None, (), 1, 10)
        before = mesh.ledger.root()
        with pytest.raises(UnauthorizedError):
            mesh.publish(invite, slot=fingerprint_slot(invite.key), now=instant(1.0))
        with pytest.raises(UnauthorizedError):
            mesh.publish_operation(SignerAdd(SIGNER), instant(1.0))
        assert mesh.ledger.root() == before
        assert not [effect for effect in mesh.effects() if isinstance(effect, StoreRecord)]

    def test_what_is_too_large_is_not_said(self) -> None:
        mesh = make_mesh(found(1), 0)
        with pytest.raises(LimitError):
            mesh.publish(secret(70_000), slot="huge", now=instant(1.0))

    def test_operations_form_a_chain(self) -> None:
        world = formed(2)
        first = world.mesh(0).publish_operation(SignerAdd(SIGNER), world.now())
        second = world.mesh(0).publish_operation(SignerAdd(SIGNER.replace("FAKE", "FACE")), world.now())
        world.settle(0)
        assert (first.slot, second.slot, second.prev) == ("00000001", "00000002", first.id)
        assert world.run_until(lambda: len(world.mesh(1).authority.signers) == 2, 1.0)

    def test_withdrawing_empties_the_register_everywhere(self) -> None:
        world = formed(3)
        world.mesh(1).publish(secret(10), slot="wifi", now=world.now(1))
        world.settle(1)
        world.run(1.0)
        gone = world.mesh(1).withdraw(Kind.SECRET, "wifi", world.now(1))
        world.settle(1)
        assert world.run_until(lambda: all(world.holds(index, gone) for index in range(3)), 1.0)

    def test_seq_grows_though_the_clock_stands_still(self) -> None:
        mesh = make_mesh(found(1), 0)
        seqs = [mesh.publish(secret(n), slot="wifi", now=instant(1.0)).seq for n in range(5)]
        assert seqs == sorted(set(seqs))


def test_disks_of_all_give_the_same_root_in_any_order() -> None:
    world = formed(4)
    disk: list[Verified[Record]] = world.devices[2].disk
    meshes = [make_mesh(world.clan, 2, records=tuple(order)) for order in (disk, disk[::-1])]
    assert len({mesh.ledger.root() for mesh in meshes}) == 1
