"""What strangers, liars and recordings can do to a core: be counted."""

from collections.abc import Callable
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clanmesh_protocol.endpoints import Endpoint
from clanmesh_protocol.keys import fingerprint_slot
from clanmesh_protocol.limits import DATAGRAM_BYTES_MAX
from clanmesh_protocol.messages import (
    Ack,
    Digest,
    IHave,
    IndirectResult,
    Leaf,
    Ping,
    PingRequest,
    RecordFrame,
    Want,
)
from clanmesh_protocol.records import SINGLE_SLOT, Credential, Kind, Record, Revocation, Suspicion
from clanmesh_protocol.signing import Verified, read_untrusted
from clanmeshd.core.effects import FetchRecords, SendDatagram, StoreRecord
from clanmeshd.core.limits import GREETINGS_AGAIN, UNPROVEN_ACKS_BURST, VERIFICATIONS_BURST
from clanmeshd.core.mesh import Mesh
from tests.core.worlds import (
    START_SEQ,
    Clan,
    Puppet,
    datagrams,
    endpoint_of,
    found,
    instant,
    make_mesh,
    status,
)

CLAN = found(4)
NOW = instant(1.0)
VICTIM = Endpoint(bytes([203, 0, 113, 9]), 4444)


def started(clan: Clan = CLAN, seed: int = 0) -> Mesh:
    """The admin's core, with its first effects drained."""
    mesh = make_mesh(clan, 0, seed=seed)
    mesh.set_endpoints([endpoint_of(0)], instant(0.0))
    mesh.set_status(status(), instant(0.0))
    mesh.effects()
    return mesh


def met(clan: Clan = CLAN, seed: int = 0) -> tuple[Mesh, Puppet]:
    """A core and a member that it takes to be up."""
    mesh = started(clan, seed)
    puppet = Puppet(clan, 1, mesh)
    puppet.meet(NOW)
    return mesh, puppet


_MESH, _PUPPET = met()


class TestNoise:
    @given(st.binary(max_size=DATAGRAM_BYTES_MAX + 50))
    @settings(max_examples=200)
    def test_any_bytes(self, data: bytes) -> None:
        _MESH.receive(data, VICTIM, NOW)
        assert not [effect for effect in _MESH.effects() if isinstance(effect, SendDatagram | StoreRecord)]

    @given(st.binary(max_size=1000))
    @settings(max_examples=200)
    def test_any_plaintext_of_a_member(self, plaintext: bytes) -> None:
        class Raw:
            """A frame of whatever bytes."""

            TYPE = plaintext[0] if plaintext else 1

            def encode(self) -> bytes:
                return plaintext[1:]

        _PUPPET.send(Raw(), now=NOW)  # type: ignore[arg-type]

    @given(st.binary(max_size=900), st.integers(0, 255))
    @settings(max_examples=100)
    def test_any_record_of_a_member(self, body: bytes, place: int) -> None:
        good = bytearray(_PUPPET.record)
        good[place % len(good)] ^= 0x55
        before = len(_MESH.ledger)
        _PUPPET.send(RecordFrame(body), now=NOW)
        _PUPPET.send(RecordFrame(bytes(good)), now=NOW)
        _MESH.receive_record(body, _PUPPET.node, NOW)
        assert len(_MESH.ledger) == before

    @given(
        st.sampled_from([IHave, Want]),
        st.lists(st.binary(min_size=8, max_size=8), max_size=60),
        st.binary(max_size=3),
    )
    @settings(max_examples=60)
    def test_any_ids_of_a_member(self, kind: Callable[..., IHave], ids: list[bytes], prefix: bytes) -> None:
        digits = bytes(digit & 63 for digit in prefix)
        _PUPPET.send(kind(tuple(ids)), now=NOW)
        _PUPPET.send(Leaf(digits, tuple(ids)), now=NOW)
        _PUPPET.send(Digest(digits, tuple((*ids, *[bytes(8)] * 64)[:64])), now=NOW)

    def test_frames_about_nobody(self) -> None:
        for frame in (
            PingRequest(1, bytes(32)),
            PingRequest(1, _MESH.node),
            PingRequest(1, _PUPPET.node),
            IndirectResult(1, True),
            Ack(99, bytes(8), bytes(8), bytes(16)),
        ):
            _PUPPET.send(frame, now=NOW)
        _MESH.handle_deadline(instant(2.0))


class TestStrangers:
    def test_a_stranger_gets_no_answer(self) -> None:
        other = found(4, seed=9)
        mesh = started()
        stranger = Puppet(other, 1, started(other))
        mesh.receive(stranger.seal(stranger.ping()), VICTIM, NOW)
        assert datagrams(mesh.effects()) == []
        assert mesh.counters["unknown-sender"] == 1

    def test_a_claimed_sender_with_an_unknown_prekey_points_us_at_nobody(self) -> None:
        mesh, puppet = met()
        hello = puppet.sessions.seal_hello(mesh.node, RecordFrame(puppet.record))
        assert hello is not None
        mesh.receive(hello, VICTIM, NOW)  # a recording, played from the victim's address: that is but a hint
        mesh.effects()
        forged = bytearray(puppet.seal(puppet.ping()))
        forged[3] = 200
        sent = []
        for _ in range(50):
            mesh.receive(bytes(forged), VICTIM, instant(20.0))
            sent += datagrams(mesh.effects())
        assert [datagram.destination for datagram in sent] == [puppet.at]

    def test_a_revoked_member_is_a_stranger(self) -> None:
        mesh, puppet = met()
        mesh.publish(Revocation(puppet.node, "lost"), slot=fingerprint_slot(puppet.node), now=NOW)
        mesh.effects()
        assert puppet.send(puppet.ping(), now=NOW) == []
        assert mesh.counters["unknown-sender"] == 1
        assert puppet.node not in mesh.authority.members

    @pytest.mark.parametrize("named_in", ["earlier", "one-datagram"])
    def test_nothing_is_fetched_from_a_revoked_member(self, named_in: str) -> None:
        """What it had named is wanted of nobody any more, in whatever order word of it came."""
        mesh, puppet = met()
        names = [IHave((bytes([number]) * 8,)) for number in (1, 2)]
        removal = CLAN.sign(
            0, Revocation(puppet.node, "lost"), slot=fingerprint_slot(puppet.node), seq=START_SEQ + 99
        )
        if named_in == "earlier":
            puppet.send(*names, now=NOW)
            mesh.receive_record(removal, CLAN.keys[2].node, NOW)
        else:
            puppet.send(*names, *names, RecordFrame(removal), now=NOW)  # named twice: too large for datagrams
        due_s = mesh.next_deadline()
        effects = mesh.effects()
        while due_s < 60.0:
            mesh.handle_deadline(instant(due_s))
            effects += mesh.effects()
            due_s = mesh.next_deadline()
        assert not [effect for effect in effects if isinstance(effect, FetchRecords)]


class TestUnproven:
    def test_is_answered_with_no_more_bytes_and_changes_nothing(self) -> None:
        mesh, puppet = met()
        restarted = Puppet(CLAN, 1, mesh, run=2)
        question = restarted.seal(restarted.ping())
        later = instant(50.0)
        mesh.receive(question, VICTIM, later)
        answers = [d for d in datagrams(mesh.effects()) if d.destination == VICTIM]
        assert [len(answer.data) for answer in answers] == [len(question)]
        peer = next(peer for peer in mesh.peers(later) if peer.node == puppet.node)
        assert peer.endpoint == puppet.at
        assert peer.last_seen_s == pytest.approx(49.0)

    def test_answers_are_few(self) -> None:
        mesh, _ = met()
        restarted = Puppet(CLAN, 1, mesh, run=2)
        answers = []
        for number in range(500):
            mesh.receive(restarted.seal(restarted.ping(number)), VICTIM, NOW)
            answers += datagrams(mesh.effects())
        assert len(answers) <= UNPROVEN_ACKS_BURST

    def test_asks_for_nothing(self) -> None:
        mesh, _ = met()
        restarted = Puppet(CLAN, 1, mesh, run=2)
        known = mesh.ledger.records()[0].id[:8]
        for frame in (
            Want((known,)),
            IHave((b"unheard!",)),
            Leaf(b"", ()),
            Digest(b"", (bytes(8),) * 64),
            PingRequest(1, CLAN.keys[2].node),
        ):
            assert restarted.send(frame, now=NOW) == []

    def test_a_replayed_recording_moves_no_endpoint(self) -> None:
        mesh, puppet = met()
        recorded = [puppet.seal(puppet.ping()) for _ in range(3)]
        for data in recorded:
            mesh.receive(data, puppet.at, NOW)
        mesh.effects()
        for data in recorded:
            mesh.receive(data, VICTIM, NOW)
        assert puppet.endpoint(NOW) == puppet.at
        assert mesh.counters["replayed"] == 3
        assert datagrams(mesh.effects()) == []

    def test_recordings_do_not_bring_the_dead_back_to_a_restarted_core(self) -> None:
        # The attack: record a member, let our device restart (its windows are gone), play the recording.
        mesh, puppet = met()
        recorded = [puppet.seal(puppet.ping()) for _ in range(5)]
        restarted = make_mesh(CLAN, 0, seed=5, records=(*CLAN.records, *_all_records(mesh)))
        for data in recorded:
            restarted.receive(data, VICTIM, NOW)
        assert puppet.state(NOW) == "up"
        assert next(peer.state for peer in restarted.peers(NOW) if peer.node == puppet.node) == "unknown"

    def test_a_hello_is_answered_with_no_more_bytes(self) -> None:
        mesh = started()
        puppet = Puppet(CLAN, 1, mesh)
        question = puppet.sessions.seal_hello(mesh.node, RecordFrame(puppet.record))
        assert question is not None
        total = 0
        for _ in range(20):
            mesh.receive(question, VICTIM, NOW)
            total += sum(len(d.data) for d in datagrams(mesh.effects()) if d.destination == VICTIM)
        assert 0 < total <= len(question)
        assert puppet.state(NOW) == "unknown"

    def test_a_hello_that_answers_one_is_pinged_at_once_but_only_where_its_sender_says_that_it_is(self) -> None:
        mesh = started()
        puppet = Puppet(CLAN, 1, mesh)
        hello = puppet.sessions.seal_hello(mesh.node, RecordFrame(puppet.record))
        assert hello is not None
        mesh.receive(hello, puppet.at, NOW)
        mesh.effects()
        mesh.greet(puppet.node, NOW)
        assert puppet.at in {d.destination for d in datagrams(mesh.effects())}
        pings = []
        for _ in range(20):
            mesh.receive(hello, VICTIM, NOW)
            effects = mesh.effects()
            assert VICTIM not in {d.destination for d in datagrams(effects)}
            pings += [frame for frame in puppet.read(effects) if isinstance(frame, Ping)]
        assert len(pings) == GREETINGS_AGAIN, "it may be a recording"
        assert puppet.state(NOW) == "unknown"

    def test_a_hello_with_anything_else_in_it_is_refused(self) -> None:
        mesh, puppet = met()
        credential = next(r.value.data for r in CLAN.records if r.value.kind == Kind.CREDENTIAL)
        data = puppet.sessions.seal_hello(mesh.node, RecordFrame(credential))
        assert data is not None
        mesh.receive(data, VICTIM, NOW)
        assert datagrams(mesh.effects()) == []
        assert mesh.counters["malformed"] == 1


def _all_records(mesh: Mesh) -> list[Verified[Record]]:
    return [read_untrusted(record.data, mesh.ledger.clan) for record in mesh.ledger.records()]


class TestTheOrderOfChecks:
    """Each record is wrong in two ways; the cheaper check must be the one that speaks."""

    def broken(self, data: bytes) -> bytes:
        """Spoil the signature."""
        return data[:40] + bytes([data[40] ^ 1]) + data[41:]

    def test_known_before_signature(self) -> None:
        mesh, puppet = met()
        puppet.send(RecordFrame(self.broken(puppet.record)), now=NOW)
        assert mesh.counters == {**mesh.counters, "duplicate": 1}
        assert "signature" not in mesh.counters

    def test_newer_before_signature(self) -> None:
        mesh, puppet = met()
        old = CLAN.sign(1, status(), slot=SINGLE_SLOT, seq=START_SEQ)
        new = CLAN.sign(1, status(), slot=SINGLE_SLOT, seq=START_SEQ + 1)
        puppet.send(RecordFrame(new), now=NOW)
        puppet.send(RecordFrame(self.broken(old)), now=NOW)
        assert mesh.counters["stale"] == 1
        assert "signature" not in mesh.counters

    def test_credential_before_signature(self) -> None:
        clan = found(4, credentialed=2)
        mesh, puppet = met(clan)
        puppet.send(RecordFrame(self.broken(clan.sign(3, status(), slot=SINGLE_SLOT, seq=START_SEQ))), now=NOW)
        assert mesh.counters["unauthorized"] == 1
        assert "signature" not in mesh.counters

    def test_signature_at_last(self) -> None:
        mesh, puppet = met()
        puppet.send(RecordFrame(self.broken(CLAN.sign(1, status(), slot=SINGLE_SLOT, seq=START_SEQ))), now=NOW)
        assert mesh.counters["signature"] == 1

    def test_one_peer_has_a_budget_of_signature_checks(self) -> None:
        mesh, puppet = met()
        rng = Random(1)
        for number in range(int(VERIFICATIONS_BURST) + 200):
            forged = bytearray(CLAN.sign(1, None, kind=Kind.SECRET, slot="s", seq=START_SEQ))
            forged[40:48] = rng.randbytes(8)
            forged[-12] = number & 0x7F
            mesh.receive_record(bytes(forged), puppet.node, NOW)
        assert mesh.counters["signature"] <= VERIFICATIONS_BURST
        assert mesh.counters["busy"] >= 200


class TestLies:
    def test_a_member_cannot_write_anothers_register(self) -> None:
        mesh, puppet = met()
        forged = bytearray(CLAN.sign(1, status(5), slot=SINGLE_SLOT, seq=START_SEQ))
        forged[1:33] = CLAN.keys[2].node
        puppet.send(RecordFrame(bytes(forged)), now=NOW)
        assert mesh.ledger.get(CLAN.keys[2].node, Kind.STATUS, SINGLE_SLOT) is None

    def test_a_member_cannot_make_members(self) -> None:
        clan = found(4, credentialed=3)
        mesh, puppet = met(clan)
        content = Credential(clan.keys[3].node, "mine", (), 0, None)
        data = clan.sign(1, content, slot=fingerprint_slot(clan.keys[3].node), seq=START_SEQ)
        puppet.send(RecordFrame(data), now=NOW)
        assert clan.keys[3].node not in mesh.authority.members
        assert mesh.counters["unauthorized"] == 1

    @pytest.mark.parametrize("ahead", [1, 2**63])
    def test_an_accusation_of_a_future_incarnation_moves_nothing(self, ahead: int) -> None:
        mesh, puppet = met()
        own = mesh.ledger.get(mesh.node, Kind.STATUS, SINGLE_SLOT)
        assert own is not None
        lie = Suspicion(((mesh.node, own.value.seq + ahead),))
        puppet.send(RecordFrame(CLAN.sign(1, lie, slot=SINGLE_SLOT, seq=START_SEQ)), now=NOW)
        after = mesh.ledger.get(mesh.node, Kind.STATUS, SINGLE_SLOT)
        assert after is own

    def test_accusers_cannot_make_us_sign_without_end(self) -> None:
        mesh, puppet = met()
        seqs = set()
        for number in range(100):
            own = mesh.ledger.get(mesh.node, Kind.STATUS, SINGLE_SLOT)
            assert own is not None
            seqs.add(own.value.seq)
            lie = Suspicion(((mesh.node, own.value.seq),))
            puppet.send(
                RecordFrame(CLAN.sign(1, lie, slot=SINGLE_SLOT, seq=START_SEQ + number)),
                now=instant(1.0 + number / 100),
            )
            mesh.handle_deadline(instant(1.0 + number / 100))
        assert 2 <= len(seqs) <= 8

    def test_a_far_future_seq_hurts_its_author_alone(self) -> None:
        mesh, puppet = met()
        far = CLAN.sign(1, status(7), slot=SINGLE_SLOT, seq=2**64 - 1)
        puppet.send(RecordFrame(far), now=NOW)
        assert mesh.publish(status(8), slot=SINGLE_SLOT, now=NOW).seq < 2**62

    def test_equivocation_is_announced_and_evicts_nobody(self) -> None:
        mesh, puppet = met()
        puppet.send(RecordFrame(CLAN.sign(1, status(1), slot=SINGLE_SLOT, seq=START_SEQ)), now=NOW)
        mesh.receive_record(CLAN.sign(1, status(2), slot=SINGLE_SLOT, seq=START_SEQ), puppet.node, NOW)
        assert [e for e in mesh.effects() if getattr(e, "kind", "") == "equivocation"]
        assert puppet.state(NOW) == "up"

    def test_a_root_that_is_never_ours_costs_little(self) -> None:
        mesh, puppet = met()
        for second in range(2, 600):
            now = instant(float(second))
            puppet.send(puppet.ping(second, root=b"\xff" * 16), now=now)
            while mesh.next_deadline() <= now.monotonic_s:
                mesh.handle_deadline(now)
            puppet.read(mesh.effects())
        assert mesh.counters["datagrams-sent"] < 5 * 600


def test_pings_name_our_status_now_and_then() -> None:
    mesh, puppet = met()
    own = mesh.ledger.get(mesh.node, Kind.STATUS, SINGLE_SLOT)
    assert own is not None
    puppet.send(IHave((own.value.id[:8],)), now=NOW)  # or it would be told of it anew until it shows it
    pings = named = 0
    now_s = 100.0
    while now_s < 180.0:
        now_s = max(now_s, mesh.next_deadline())
        mesh.handle_deadline(instant(now_s))
        frames = puppet.read(mesh.effects())
        pings += sum(isinstance(frame, Ping) for frame in frames)
        named += sum(isinstance(frame, IHave) and own.value.id[:8] in frame.ids for frame in frames)
        puppet.send(puppet.ping(), now=instant(now_s))
    assert pings > 30
    assert pings / 10 <= named <= pings / 6


def test_a_ping_carries_what_it_must() -> None:
    mesh, puppet = met()
    (ack,) = [frame for frame in puppet.send(puppet.ping(42), now=NOW) if isinstance(frame, Ack)]
    assert ack == Ack(42, ack.token, puppet.sessions.token(mesh.node), mesh.ledger.root())
    assert isinstance(puppet.ping(), Ping)
