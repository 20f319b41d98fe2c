"""What members see of one another's addresses: what is said, to whom, how often; what is believed of it."""

import pytest

from clanmesh_protocol.endpoints import Endpoint, endpoint
from clanmesh_protocol.keys import NodeId
from clanmesh_protocol.messages import Ack, Frame
from clanmesh_protocol.signalling import NatKind, Seen
from clanmeshd.core.author import node_content
from clanmeshd.core.effects import Reflected
from clanmeshd.core.limits import LEFT_S, OBSERVERS_MAX, REFLECTIONS_MAX, SEEN_AGAIN_S, SEEN_LIFE_S, SEEN_TIMES
from clanmeshd.core.mesh import Mesh
from clanmeshd.core.sightings import Sightings, Tellings, is_meetable, is_outer, nat_kind
from clanmeshd.core.wanted import overlay_address, overlay_prefix
from tests.core.worlds import PORT, Puppet, endpoint_of, found, instant, make_mesh, status

CLAN = found(4)
INSIDE = overlay_prefix(CLAN.id)
MAPPED = endpoint("203.0.113.5", 40000)
ALSO_MAPPED = endpoint("203.0.113.5", 40001)
TUNNEL = endpoint("203.0.113.5", 50000)


def observers(count: int) -> list[NodeId]:
    return [NodeId(number.to_bytes(32, "big")) for number in range(count)]


@pytest.fixture
def met() -> tuple[Mesh, Puppet]:
    mesh = make_mesh(CLAN, 0)
    mesh.set_endpoints([endpoint_of(0)], instant(0.0))
    mesh.set_status(status(), instant(0.0))
    mesh.effects()
    puppet = Puppet(CLAN, 1, mesh)
    puppet.meet(instant(1.0))
    return mesh, puppet


def told(frames: list[Frame]) -> list[Seen]:
    return [frame for frame in frames if isinstance(frame, Seen)]


class TestTelling:
    def test_who_comes_from_a_listed_address_is_told_nothing(self, met: tuple[Mesh, Puppet]) -> None:
        _, puppet = met
        answers = [puppet.send(puppet.ping(number), now=instant(2.0 + number)) for number in range(20)]
        assert all(any(isinstance(frame, Ack) for frame in answer) for answer in answers)
        assert [seen for answer in answers for seen in told(answer)] == []

    @pytest.mark.parametrize(
        ("seen", "is_said"),
        [
            (endpoint("10.0.0.2", 7), False),
            (endpoint("10.0.0.2", 8), True),
            (endpoint("10.0.0.3", 7), True),
            (endpoint("127.0.0.1", 8), False),
        ],
    )
    def test_a_tunnel_from_a_listed_address_and_port_is_no_news(self, seen: Endpoint, is_said: bool) -> None:
        source = endpoint("10.0.0.2", PORT)
        record = node_content(CLAN.keys[1], CLAN.id, [source], 7)
        tellings = Tellings(INSIDE)
        tellings.set_tunnels({CLAN.keys[1].node: seen})
        word = tellings.word(CLAN.keys[1].node, source, bytes(8), record, 0.0)
        assert word == (Seen(None, seen) if is_said else None)

    def test_who_comes_from_elsewhere_is_told_some_times_and_then_rarely(self, met: tuple[Mesh, Puppet]) -> None:
        _, puppet = met
        words = [
            (second, seen)
            for second in range(2, 602)
            for seen in told(puppet.send(puppet.ping(second), now=instant(second), source=MAPPED))
        ]
        assert {seen for _, seen in words} == {Seen(MAPPED, None)}
        assert [second for second, _ in words][:SEEN_TIMES] == list(range(2, 2 + SEEN_TIMES))
        assert len(words) == SEEN_TIMES + 600 // int(SEEN_AGAIN_S) - 1

    def test_a_change_is_told_at_once(self, met: tuple[Mesh, Puppet]) -> None:
        mesh, puppet = met
        for number in range(SEEN_TIMES + 1):
            puppet.send(puppet.ping(number), now=instant(2.0), source=MAPPED)
        assert told(puppet.send(puppet.ping(8), now=instant(3.0), source=MAPPED)) == []
        assert told(puppet.send(puppet.ping(9), now=instant(3.0), source=ALSO_MAPPED)) == [Seen(ALSO_MAPPED, None)]
        mesh.meeting.set_tunnels({puppet.node: TUNNEL}, 3.0)
        assert told(puppet.read(mesh.effects())) == [Seen(None, TUNNEL)]  # its live endpoint is the listed one
        mesh.meeting.set_tunnels({puppet.node: TUNNEL}, 3.0)
        assert told(puppet.read(mesh.effects())) == []
        again = told(puppet.send(puppet.ping(10), now=instant(3.0), source=ALSO_MAPPED))
        assert again == [Seen(ALSO_MAPPED, TUNNEL)]

    def test_who_was_removed_meanwhile_is_told_nothing(self, met: tuple[Mesh, Puppet]) -> None:
        """WireGuard still has it as a peer, at the moment when it is asked."""
        mesh, _ = met
        mesh.meeting.set_tunnels({CLAN.keys[2].node: TUNNEL, bytes(32): TUNNEL}, 3.0)
        assert mesh.meeting.word(bytes(32), TUNNEL, 3.0) is None

    def test_who_has_started_anew_is_told_again(self, met: tuple[Mesh, Puppet]) -> None:
        mesh, puppet = met
        for number in range(SEEN_TIMES + 1):
            puppet.send(puppet.ping(number), now=instant(2.0), source=MAPPED)
        restarted = Puppet(CLAN, 1, mesh, run=2)
        words = [
            seen
            for number in range(4)
            for seen in told(restarted.send(restarted.ping(number), now=instant(3.0), source=MAPPED))
        ]
        assert words
        assert set(words) == {Seen(MAPPED, None)}

    def test_through_the_tunnel_nothing_is_seen(self, met: tuple[Mesh, Puppet]) -> None:
        _, puppet = met
        inside = Endpoint(overlay_address(CLAN.id, puppet.node), PORT)
        assert told(puppet.send(puppet.ping(5), now=instant(2.0), source=inside)) == []

    def test_what_proves_nothing_is_told_nothing(self, met: tuple[Mesh, Puppet]) -> None:
        mesh, _ = met
        stranger = Puppet(CLAN, 1, mesh, run=3)
        assert told(stranger.send(stranger.ping(1), now=instant(2.0), source=MAPPED)) == []


class TestHearing:
    @pytest.mark.parametrize(
        ("host", "is_good"),
        [
            ("203.0.113.5", True),
            ("10.1.2.3", True),
            ("100.64.0.1", True),
            ("2001:db8::1", True),
            ("fd12::1", True),
            ("0.1.2.3", False),
            ("127.0.0.1", False),
            ("169.254.1.1", False),
            ("224.0.0.1", False),
            ("240.0.0.1", False),
            ("255.255.255.255", False),
            ("::", False),
            ("::1", False),
            ("64:ff9b::1", False),
            ("fe80::1", False),
            ("ff02::1", False),
        ],
    )
    def test_addresses_where_nobody_can_be_are_dropped(self, host: str, is_good: bool) -> None:
        said, sightings = endpoint(host, 1), Sightings(INSIDE)
        sightings.hear(observers(1)[0], Seen(said, said), 0.0)
        reflected = sightings.reflected(())
        assert reflected.tunnel == reflected.control == ((said,) if is_good else ())
        assert is_meetable(said.ip, INSIDE) == is_good

    def test_the_overlay_itself_is_dropped(self) -> None:
        sightings = Sightings(INSIDE)
        inside = Endpoint(overlay_address(CLAN.id, CLAN.keys[1].node), 1)
        sightings.hear(observers(1)[0], Seen(inside, inside), 0.0)
        assert len(sightings) == 0

    @pytest.mark.parametrize(
        ("host", "is_everywhere"),
        [
            ("8.8.8.8", True),
            ("10.255.0.1", False),
            ("172.15.0.1", True),
            ("172.16.0.1", False),
            ("172.31.255.1", False),
            ("172.32.0.1", True),
            ("192.168.0.1", False),
            ("192.169.0.1", True),
            ("100.63.255.1", True),
            ("100.64.0.1", False),
            ("100.127.255.1", False),
            ("100.128.0.1", True),
            ("2001:db8::1", True),
            ("fdab::1", False),
        ],
    )
    def test_which_addresses_mean_the_same_everywhere(self, host: str, is_everywhere: bool) -> None:
        assert is_outer(endpoint(host, 1).ip) == is_everywhere

    def test_two_that_agree_go_before_one_that_came_later(self) -> None:
        first, second, liar = observers(3)
        sightings = Sightings(INSIDE)
        for observer in (first, second):
            sightings.hear(observer, Seen(None, MAPPED), 0.0)
        sightings.hear(liar, Seen(None, TUNNEL), 1.0)
        assert sightings.reflected(()).tunnel == (MAPPED, TUNNEL)
        assert sightings.reflected(()).nat is NatKind.EASY

    def test_each_has_one_word_and_it_does_not_last(self) -> None:
        [observer] = observers(1)
        sightings = Sightings(INSIDE)
        for port in range(1, 50):
            sightings.hear(observer, Seen(None, MAPPED._replace(port=port)), float(port))
        assert sightings.reflected(()).tunnel == (MAPPED._replace(port=49),)
        sightings.lapse(49 + SEEN_LIFE_S - 1)
        assert len(sightings) == 1
        sightings.lapse(49 + SEEN_LIFE_S)
        assert len(sightings) == 0

    def test_many_observers_are_bounded(self) -> None:
        sightings = Sightings(INSIDE)
        for number, observer in enumerate(observers(1000)):
            sightings.hear(observer, Seen(None, MAPPED._replace(port=number + 1)), 0.0)
        assert len(sightings) == OBSERVERS_MAX
        assert len(sightings.reflected(()).tunnel) == REFLECTIONS_MAX

    def test_after_a_move_words_of_before_count_only_with_a_fresh_answer(self) -> None:
        """Members say where its tunnel came from, and hear nothing new there for a while."""
        first, second = observers(2)
        sightings = Sightings(INSIDE)
        for observer in (first, second):
            sightings.hear(observer, Seen(None, MAPPED), 0.0)
        sightings.forget(10.0)
        sightings.hear(first, Seen(ALSO_MAPPED, MAPPED), 10.1)
        assert sightings.reflected(()) == Reflected(NatKind.UNKNOWN, (), (ALSO_MAPPED,))
        sightings.answered(first, TUNNEL, (), 10.2)
        sightings.hear(first, Seen(ALSO_MAPPED, MAPPED), 10.3)
        assert sightings.reflected(()).tunnel == (TUNNEL,), "nor do they take the place of an answer"
        sightings.answered(second, MAPPED, (), 10.4)
        sightings.hear(first, Seen(ALSO_MAPPED, MAPPED), 10.5)
        assert sightings.reflected(()).tunnel == (MAPPED,), "it is there after all"

    def test_a_word_without_a_tunnel_takes_back_no_answer_to_a_probe(self) -> None:
        """The observer's WireGuard was not spoken to yet."""
        [observer] = observers(1)
        sightings = Sightings(INSIDE)
        sightings.answered(observer, MAPPED, (), 0.0)
        sightings.hear(observer, Seen(ALSO_MAPPED, None), 0.1)
        assert sightings.reflected(()) == Reflected(NatKind.UNKNOWN, (MAPPED,), (ALSO_MAPPED,))
        sightings.hear(observer, Seen(None, TUNNEL), 0.2)
        assert sightings.reflected(()).tunnel == (TUNNEL,), "one that has been is heard"
        sightings.answered(observer, MAPPED, (MAPPED,), 0.3)
        sightings.hear(observer, Seen(ALSO_MAPPED, None), 0.4)
        assert sightings.reflected(()).tunnel == (), "nor has a later answer said otherwise"

    def test_after_a_while_words_of_before_count_again(self) -> None:
        """Who does not probe has nothing else."""
        [observer] = observers(1)
        sightings = Sightings(INSIDE)
        sightings.hear(observer, Seen(None, MAPPED), 0.0)
        sightings.forget(10.0)
        sightings.hear(observer, Seen(None, MAPPED), 10.0 + LEFT_S)
        assert sightings.reflected(()).tunnel == (MAPPED,)

    def test_a_device_that_moved_forgets(self, met: tuple[Mesh, Puppet]) -> None:
        mesh, puppet = met
        puppet.mesh.receive(puppet.seal(Seen(MAPPED, TUNNEL)), puppet.at, instant(2.0))
        said = Reflected(NatKind.UNKNOWN, (TUNNEL,), (MAPPED,))
        assert [effect for effect in mesh.effects() if isinstance(effect, Reflected)] == [said]
        mesh.set_endpoints([endpoint_of(0)], instant(3.0))
        assert not any(isinstance(effect, Reflected) for effect in mesh.effects())
        mesh.set_endpoints([endpoint_of(9)], instant(4.0))
        gone = Reflected(NatKind.UNKNOWN, (), ())
        assert [effect for effect in mesh.effects() if isinstance(effect, Reflected)] == [gone]


class TestKinds:
    OWN = (endpoint("10.0.0.2", 1).ip,)
    PUBLIC = (endpoint("198.51.100.7", 1).ip,)
    OTHER = endpoint("203.0.113.5", 40002)

    @pytest.mark.parametrize(
        ("seen", "own", "kind"),
        [
            ([], OWN, NatKind.UNKNOWN),
            ([], PUBLIC, NatKind.NONE),
            ([], (endpoint("2001:db8::1", 1).ip,), NatKind.NONE),
            ([endpoint("198.51.100.7", 9)], PUBLIC, NatKind.NONE),
            ([MAPPED], OWN, NatKind.UNKNOWN),
            ([MAPPED, MAPPED], OWN, NatKind.EASY),
            ([MAPPED, ALSO_MAPPED], OWN, NatKind.HARD),
            ([MAPPED, ALSO_MAPPED, OTHER], OWN, NatKind.HARD),
            ([MAPPED, MAPPED, OTHER], OWN, NatKind.EASY),
            ([MAPPED, MAPPED, OTHER, ALSO_MAPPED], OWN, NatKind.HARD),
            # an observer between two routers sees the inner one's mapping: no contradiction
            ([MAPPED, MAPPED, endpoint("192.168.1.9", 7)], OWN, NatKind.EASY),
            # of both families IPv4 decides
            ([MAPPED, ALSO_MAPPED, endpoint("2001:db8::1", 7)], OWN, NatKind.HARD),
        ],
    )
    def test_kind(self, seen: list[Endpoint], own: tuple[bytes, ...], kind: NatKind) -> None:
        assert nat_kind(seen, own) is kind

    def test_one_word_about_the_tunnel_is_less_than_two_about_the_control_port(self) -> None:
        first, second = observers(2)
        sightings = Sightings(INSIDE)
        sightings.hear(first, Seen(MAPPED, TUNNEL), 0.0)
        sightings.hear(second, Seen(ALSO_MAPPED, None), 0.0)
        assert sightings.reflected(self.OWN).nat is NatKind.HARD
