"""What a core wants done: complete, only when changed, and never later or more often than it must."""

from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clanmesh_protocol.endpoints import Endpoint
from clanmesh_protocol.keys import fingerprint_slot
from clanmesh_protocol.records import SINGLE_SLOT, Credential, Head, Kind
from clanmeshd.core.effects import (
    SendDatagram,
    SetNames,
    SetRollout,
    SetSecrets,
    SetTunnels,
    StoreRecord,
)
from clanmeshd.core.limits import LIVE_ENDPOINT_S
from clanmeshd.core.paths import Paths
from clanmeshd.core.roster import EXPIRY_GRACE_S
from clanmeshd.core.suggestions import Suggestions
from clanmeshd.core.wanted import overlay_address
from tests.core.test_mesh_records import formed, secret
from tests.core.worlds import PORT, datagrams, endpoint_of, found, instant, make_mesh, status
from tests.sim.world import World

WANTED = (SetTunnels, SetNames, SetSecrets, SetRollout)
ELSEWHERE = Endpoint(bytes([192, 0, 2, 77]), 9999)


def wanted_states(effects: list[object]) -> list[type]:
    """Which wanted states are among effects."""
    return [type(effect) for effect in effects if isinstance(effect, WANTED)]


class TestWantedStates:
    def test_all_four_are_told_at_the_start(self) -> None:
        mesh = make_mesh(found(2), 0)
        assert set(wanted_states([*mesh.effects()])) == set(WANTED)
        assert wanted_states([*mesh.effects()]) == []

    def test_are_silent_while_nothing_changes(self) -> None:
        world = formed(3)
        before = {device.index: {k: len(v) for k, v in device.states.items()} for device in world.devices}
        world.run(400.0)  # over a refresh of all statuses
        assert before == {device.index: {k: len(v) for k, v in device.states.items()} for device in world.devices}

    def test_tell_what_changed_and_nothing_else(self) -> None:
        world = formed(2)
        mesh = world.mesh(0)
        mesh.publish(Head(None, bytes(20), b"signature"), slot="main", now=world.now())
        assert wanted_states([*mesh.effects()]) == [SetRollout]
        mesh.publish(secret(10, (mesh.node,)), slot="wifi", now=world.now())
        assert wanted_states([*mesh.effects()]) == [SetSecrets]
        mesh.publish(secret(10), slot="other", now=world.now())
        assert wanted_states([*mesh.effects()]) == []

    def test_tunnels_name_each_other_member_where_it_is(self) -> None:
        world = formed(3)
        tunnels = world.devices[0].states["SetTunnels"][-1][1]
        assert isinstance(tunnels, SetTunnels)
        assert {tunnel.node for tunnel in tunnels.tunnels} == {d.node for d in world.devices[1:]}
        assert {tunnel.endpoint for tunnel in tunnels.tunnels} == {
            Endpoint(endpoint_of(index).ip, PORT + 1) for index in (1, 2)
        }
        assert tunnels.listen_port == PORT + 1

    def test_an_expired_member_leaves_the_overlay_on_time(self) -> None:
        clan = found(2)
        mesh = make_mesh(clan, 0)
        node = clan.keys[1].node
        content = Credential(node, "guest", (), int(instant(600.0).unix_s), None)
        mesh.publish(content, slot=fingerprint_slot(node), now=instant(1.0))
        names = [effect for effect in mesh.effects() if isinstance(effect, SetNames)]
        assert len(names[-1].addresses) == 2
        now_s = 1.0
        while now_s < 650.0 + EXPIRY_GRACE_S:
            now_s = mesh.next_deadline()
            mesh.handle_deadline(instant(now_s))
            names += [effect for effect in mesh.effects() if isinstance(effect, SetNames)]
        assert len(names[-1].addresses) == 1

    def test_holders_are_the_reachable_ones(self) -> None:
        world = formed(3)
        for index in (1, 2):
            head = Head(None, bytes([index]) * 20, b"sig")
            world.mesh(index).publish(head, slot="main", now=world.now(index))
            world.settle(index)
        world.run(1.0)
        world.kill(2)
        world.run(10.0)
        rollout = world.devices[0].states["SetRollout"][-1][1]
        assert isinstance(rollout, SetRollout)
        assert [holder.node for holder in rollout.holders] == [world.devices[1].node]


class TestDeadlines:
    def test_without_peers_there_is_little_to_do(self) -> None:
        mesh = make_mesh(found(1), 0)
        mesh.set_endpoints([endpoint_of(0)], instant(0.0))
        mesh.set_status(status(), instant(0.0))
        turns, now_s = 0, 0.0
        while now_s < 3600.0:
            now_s = mesh.next_deadline()
            mesh.handle_deadline(instant(now_s))
            mesh.effects()
            turns += 1
        assert turns <= 30

    @given(st.integers(1, 6), st.integers(0, 5), st.floats(0.0, 0.3))
    @settings(max_examples=10)
    def test_nothing_happens_before_the_deadline_and_all_of_it_then(
        self, size: int, seed: int, loss: float
    ) -> None:
        # World asserts after each wake-up that the next deadline lies ahead, and counts turns without time.
        world = World(size, seed, loss=loss)
        world.run(7.0)
        for index in range(size):
            mesh = world.mesh(index)
            due_s = mesh.next_deadline()
            mesh.effects()
            early = world.now_s + (min(due_s, 1e9) - world.now_s) * 0.99
            mesh.handle_deadline(instant(early))
            assert [e for e in mesh.effects() if isinstance(e, SendDatagram | StoreRecord)] == []
            assert mesh.next_deadline() == due_s

    def test_a_publication_from_outside_needs_no_deadline(self) -> None:
        world = formed(2)
        world.mesh(0).publish(secret(10), slot="wifi", now=world.now())
        assert datagrams(world.mesh(0).effects())


class TestView:
    def test_of_oneself_and_the_others(self) -> None:
        world = formed(3)
        peers = {peer.name: peer for peer in world.mesh(0).peers(world.now())}
        assert set(peers) == {"node-0", "node-1", "node-2"}
        own, other = peers["node-0"], peers["node-1"]
        assert (own.state, own.endpoint, own.rtt_ms) == ("up", None, None)
        assert other.state == "up"
        assert other.endpoint == endpoint_of(1)
        assert other.address == overlay_address(world.clan.id, other.node)
        assert other.rtt_ms is not None
        assert 1.0 <= other.rtt_ms <= 6.0
        assert other.last_seen_s is not None
        assert other.last_seen_s < 3.0
        assert other.status == status()

    def test_counters_tell_of_traffic(self) -> None:
        world = formed(2)
        assert world.mesh(0).counters["datagrams-sent"] == world.devices[0].datagrams_sent
        assert world.mesh(0).counters["datagrams-received"] > 0

    def test_endpoints_are_as_told(self) -> None:
        mesh = make_mesh(found(1), 0)
        mesh.set_endpoints([endpoint_of(0), ELSEWHERE, endpoint_of(0)], instant(0.0))
        assert mesh.endpoints == (endpoint_of(0), ELSEWHERE)

    def test_the_node_record_follows_the_endpoints_and_only_them(self) -> None:
        mesh = make_mesh(found(1), 0)
        for second, expected in enumerate((1, 0, 0)):
            mesh.set_endpoints([endpoint_of(0)], instant(float(second)))
            stored = [e.record.value.kind for e in mesh.effects() if isinstance(e, StoreRecord)]
            assert stored.count(Kind.NODE) == expected
        mesh.set_endpoints([ELSEWHERE], instant(9.0))
        assert len([e for e in mesh.effects() if isinstance(e, StoreRecord)]) == 1


class TestSuggestions:
    def test_bring_two_together_who_know_no_address(self) -> None:
        world = World(2, 1)  # its devices know only what was suggested
        assert world.run_until(lambda: len(world.alive) == 2 and world.all_up(), 2.0)

    def test_of_an_address_where_nobody_is_end(self) -> None:
        world = formed(2)
        world.kill(1)
        world.run(10.0)
        for _ in range(100):
            world.mesh(0).suggest(ELSEWHERE, world.now())
        world.settle(0)
        sent = world.devices[0].bytes_sent
        world.run(300.0)
        middle = world.devices[0].bytes_sent
        world.run(300.0)
        assert middle - sent < 40_000
        assert world.devices[0].bytes_sent - middle < middle - sent

    def test_are_ignored_when_all_are_up(self) -> None:
        world = formed(2)
        world.mesh(0).suggest(ELSEWHERE, world.now())
        assert datagrams(world.mesh(0).effects()) == []

    def test_of_our_own_address_are_none(self) -> None:
        mesh = make_mesh(found(2), 0)
        mesh.set_endpoints([endpoint_of(0)], instant(0.0))
        mesh.effects()
        mesh.suggest(endpoint_of(0), instant(1.0))
        assert datagrams(mesh.effects()) == []

    def test_give_everybody_a_turn(self) -> None:
        suggestions = Suggestions()
        lost = [keys.node for keys in found(20).keys]
        assert suggestions.hear(ELSEWHERE, 0.0)
        tried = []
        while (when_s := suggestions.next_deadline()) < inf:
            tried += [node for _, nodes in suggestions.due(lost, [], when_s) for node in nodes]
        assert {tried.count(node) for node in lost} == {6}

    def test_admins_come_first(self) -> None:
        suggestions = Suggestions()
        lost = [keys.node for keys in found(20).keys]
        suggestions.hear(ELSEWHERE, 0.0)
        [(_, nodes)] = suggestions.due(lost, [lost[13], lost[17]], 0.0)
        assert nodes[:3] == [lost[13], lost[17], lost[0]]

    def test_are_bounded(self) -> None:
        suggestions = Suggestions()
        heard = [suggestions.hear(endpoint_of(index), 0.0) for index in range(1000)]
        assert sum(heard) == 16


class TestPaths:
    """One peer with two addresses, and its place on the overlay."""

    LAN, WAN, INSIDE = endpoint_of(1), ELSEWHERE, Endpoint(b"\xfd" + bytes(15), PORT)

    def test_a_live_endpoint_is_kept_though_another_works_too(self) -> None:
        paths, node = Paths(), found(2).keys[1].node
        paths.retain(frozenset([node]))
        paths.set_listed(node, [self.LAN, self.WAN], self.INSIDE)
        for second in range(60):
            paths.prove(node, self.LAN, float(second))
            paths.prove(node, self.WAN, second + 0.5)
            assert paths.live(node) == self.LAN

    def test_it_is_left_when_it_is_silent_or_doubted(self) -> None:
        node = found(2).keys[1].node
        for doubted, later_s in ((True, 1.0), (False, LIVE_ENDPOINT_S)):
            paths = Paths()
            paths.retain(frozenset([node]))
            paths.prove(node, self.LAN, 0.0)
            if doubted:
                paths.doubt(node)
            paths.prove(node, self.WAN, later_s)
            assert paths.live(node) == self.WAN

    def test_the_overlay_is_left_for_anything_else_at_once(self) -> None:
        paths, node = Paths(), found(2).keys[1].node
        paths.retain(frozenset([node]))
        paths.set_listed(node, [self.LAN], self.INSIDE)
        assert paths.all(node)[-1] == self.INSIDE
        paths.prove(node, self.INSIDE, 0.0)
        assert paths.is_makeshift(node)
        paths.prove(node, self.LAN, 0.1)
        assert paths.live(node) == self.LAN

    def test_all_are_tried_in_turn(self) -> None:
        paths, node = Paths(), found(2).keys[1].node
        paths.retain(frozenset([node]))
        paths.set_listed(node, [endpoint_of(index) for index in range(1, 9)], self.INSIDE)
        tried = [endpoint for _ in range(4) for endpoint in paths.several(node)]
        assert set(tried) == set(paths.all(node))

    @pytest.mark.parametrize("ip", [bytes([224, 0, 0, 1]), bytes(4), b"\xff" * 4, b"\xff\x02" + bytes(14)])
    def test_a_signed_record_cannot_make_us_shout(self, ip: bytes) -> None:
        paths, node = Paths(), found(2).keys[1].node
        paths.retain(frozenset([node]))
        paths.set_listed(node, [Endpoint(ip, PORT)], self.INSIDE)
        assert paths.all(node) == (self.INSIDE,)

    def test_a_peer_that_moved_is_followed(self) -> None:
        world = formed(3)
        world.move(1, endpoint_of(40))
        assert world.run_until(
            lambda: all(
                next(p.endpoint for p in world.mesh(i).peers(world.now(i)) if p.node == world.devices[1].node)
                == endpoint_of(40)
                for i in (0, 2)
            ),
            LIVE_ENDPOINT_S + 5.0,
        )
        assert world.all_up()


def test_a_status_that_nobody_set_is_none() -> None:
    mesh = make_mesh(found(1), 0)
    assert mesh.ledger.get(mesh.node, Kind.STATUS, SINGLE_SLOT) is None
