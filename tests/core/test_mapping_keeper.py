"""Ports are mapped by whatever the router speaks, kept, and withdrawn; and what a router can do about it."""

from collections.abc import Iterable
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clanmesh_protocol.endpoints import Endpoint
from clanmeshd.net.mapping.keeper import CHECK_S, EXTERNAL_PORTS, PORT_TRIES_MAX, RETRY_S_MAX, Keeper
from clanmeshd.net.mapping.terms import Ask, Datagram, Effect, Heard, Reason, Rest, Search, Show, Transport
from tests.core.routers import ADDRESS, CONTROL, LINK, TUNNEL, Home, Router, description, nonce_of, page

BOTH = {51871: Endpoint(ADDRESS, 51871), 51872: Endpoint(ADDRESS, 51872)}
OURS = {(17, 51871), (6, 51871), (17, 51872)}
SPOKEN = [("pcp", "PCP"), ("natpmp", "NAT-PMP"), ("upnp", "UPnP")]
MINUTE_S = 60.0
HOUR_S = 3600.0


def of(*spoken: str) -> Router:
    """A router that speaks these."""
    return Router(speaks=frozenset(spoken))


def bytes_of(effects: Iterable[tuple[float, Effect]]) -> int:
    """How much was sent."""
    return sum(len(effect.data) for _, effect in effects if isinstance(effect, Datagram | Search | Ask))


@pytest.mark.parametrize(("spoken", "name"), SPOKEN)
def test_each_protocol_maps_all_ports(spoken: str, name: str) -> None:
    home = Home(of(spoken))
    standing = home.run(MINUTE_S)
    assert standing.external == BOTH
    assert (standing.by, standing.reason, standing.why) == (name, None, None)
    assert home.router.own() == OURS


def test_pcp_comes_first_and_nat_pmp_before_upnp() -> None:
    assert Home(of("pcp", "natpmp", "upnp")).run(1).by == "PCP"
    assert Home(of("natpmp", "upnp")).run(1).by == "NAT-PMP"


@pytest.mark.parametrize(("spoken", "name"), SPOKEN)
def test_mappings_are_withdrawn(spoken: str, name: str) -> None:
    home = Home(of(spoken))
    home.router.hold(Transport.UDP, 9)
    home.run(MINUTE_S)
    home.stop()
    assert home.router.own() == set()
    assert len(home.router.mapped) == 1, "another device's stays"


@pytest.mark.parametrize(("spoken", "name"), SPOKEN)
def test_a_router_that_restarted_is_asked_again(spoken: str, name: str) -> None:
    home = Home(of(spoken))
    home.run(MINUTE_S)
    home.router.restart(home.now_s)
    # By UPnP it is found anew first, since it serves another port now.
    assert home.until(lambda: home.router.own() == OURS, CHECK_S + 120)
    assert home.standing.external == BOTH


def test_an_announcement_makes_that_soon() -> None:
    home = Home(of("pcp"))
    home.run(MINUTE_S)
    home.router.restart(home.now_s)
    home.is_woken = True
    assert home.until(lambda: home.router.own() == OURS, 1)


def test_announcements_without_end_are_answered_seldom() -> None:
    home = Home(of("pcp"))
    home.run(MINUTE_S)
    before, until_s = len(home.sent), home.now_s + MINUTE_S
    while home.now_s < until_s:
        home.is_woken = True
        home.run(0.5)
    assert 0 < len(home.sent) - before <= 7 * (1 + len(OURS))


@pytest.mark.parametrize(("spoken", "name"), SPOKEN)
def test_a_new_address_outside_is_shown(spoken: str, name: str) -> None:
    home = Home(of(spoken))
    home.run(MINUTE_S)
    home.router.address = bytes([100, 20, 0, 9])
    home.run(CHECK_S + 1)
    assert home.standing.external[51872] == Endpoint(bytes([100, 20, 0, 9]), 51872)


@pytest.mark.parametrize("lifetime_s", [1, 119, 120, 600, 7200, 0xFFFFFFFF])
def test_mappings_are_renewed_at_half_of_their_life(lifetime_s: int) -> None:
    home = Home(of("pcp"))
    home.router.lifetime_s = lifetime_s
    home.run(1)
    before = len(home.sent)
    life_s = min(max(lifetime_s, 120), 7200)
    home.run(life_s / 2 + 1)
    renewals = len(home.sent) - before
    checks = int(life_s / 2 // CHECK_S)
    assert 4 <= renewals <= 4 + checks, "a look, three ports, and what was asked between"


@pytest.mark.parametrize(("spoken", "name"), SPOKEN)
def test_an_hour_is_cheap(spoken: str, name: str) -> None:
    home = Home(of(spoken))
    home.run(MINUTE_S)
    home.sent.clear()
    home.run(HOUR_S)
    assert 0 < bytes_of(home.sent) / HOUR_S < 10


def test_a_port_that_somebody_has_is_had_elsewhere_by_both_transports() -> None:
    for spoken, _ in SPOKEN:
        home = Home(of(spoken))
        home.router.hold(Transport.UDP, 51871)
        external = home.run(MINUTE_S).external
        assert external[51871].port != 51871, spoken
        assert external[51871].port != external[51872].port
        assert {(17, external[51871].port), (6, external[51871].port)} <= home.router.own()
        assert len(home.router.own()) == 3, spoken


@pytest.mark.parametrize("spoken", ["pcp", "natpmp"])
def test_a_router_that_takes_ports_from_other_forwards_of_ours(spoken: str) -> None:
    class Careless(Router):
        """It replaces whatever the same device has at the port."""

        def _take(self, transport: int, port: int, own_port: int, lifetime_s: int) -> int:
            if self.mapped.get((transport, port), (b"", 0))[0] == LINK.own:
                del self.mapped[(transport, port)]
            return super()._take(transport, port, own_port, lifetime_s)

    home = Home(Careless(speaks=frozenset({spoken})))
    home.router.hold(Transport.UDP, 51871)
    for _ in range(3):
        home.run(HOUR_S)
        external = home.standing.external
        assert {(17, external[51871].port), (6, external[51871].port), (17, external[51872].port)} == (
            home.router.own()
        )
        assert len(home.router.own()) == 3


def test_where_only_the_second_transport_is_held_the_first_moves_along() -> None:
    for spoken, _ in SPOKEN:
        home = Home(of(spoken))
        home.router.hold(Transport.TCP, 51871)
        port = home.run(MINUTE_S).external[51871].port
        assert EXTERNAL_PORTS[0] <= port <= EXTERNAL_PORTS[1]
        assert {(17, port), (6, port)} <= home.router.own()
        assert len(home.router.own()) == 3, spoken


def test_where_one_door_is_refused_the_other_stays_and_the_reason_is_named() -> None:
    class Stingy(Router):
        def _act(self, action: str, values: dict[str, str]) -> tuple[int, dict[str, str]]:
            is_tcp = values.get("NewProtocol") == "TCP" and action == "AddPortMapping"
            return (718, {}) if is_tcp else super()._act(action, values)

    home = Home(Stingy(speaks=frozenset({"upnp"})))
    standing = home.run(MINUTE_S)
    assert standing.external == {51872: Endpoint(ADDRESS, 51872)}
    assert standing.reason is Reason.REFUSED
    assert standing.why == "the router has given the ports that we asked for to others"
    assert home.router.own() == {(17, 51872)}
    adds = [effect for _, effect in home.sent if isinstance(effect, Ask) and b"#AddPortMapping" in effect.data]
    assert len(adds) <= 2 * PORT_TRIES_MAX + 1


@pytest.mark.parametrize(("spoken", "name"), SPOKEN)
@pytest.mark.parametrize("address", ["0a000001", "64400001", "c0a80001", "00000000", "e0000001", "7f000001"])
def test_an_address_that_is_none_of_the_internets_is_behind_another_nat(
    spoken: str, name: str, address: str
) -> None:
    home = Home(of(spoken))
    home.router.address = bytes.fromhex(address)
    standing = home.run(MINUTE_S / 2)
    assert standing.reason is Reason.BEHIND_NAT
    assert standing.why is not None
    assert "another NAT" in standing.why
    assert all(not shown.external for shown in home.shown), "it was never published"
    assert home.router.own() == set()


@pytest.mark.parametrize(("spoken", "name", "result"), [("pcp", "PCP", 2), ("natpmp", "NAT-PMP", 2)])
def test_a_refusal_is_named(spoken: str, name: str, result: int) -> None:
    home = Home(of(spoken))
    home.router.result = result
    standing = home.run(MINUTE_S / 2)
    assert standing.reason is Reason.REFUSED
    assert standing.why is not None
    assert standing.why.endswith(f"({name})")
    assert standing.external == {}


def test_a_router_without_any_is_asked_rarely() -> None:
    home = Home(of())
    assert home.run(MINUTE_S).reason is Reason.SILENT
    assert len(home.sent) < 15
    home.run(24 * HOUR_S)
    assert len(home.sent) < 200
    assert bytes_of(home.sent) / home.now_s < 0.5
    gaps = [after - before for (before, _), (after, _) in zip(home.sent, home.sent[1:], strict=False)]
    assert max(gaps) <= RETRY_S_MAX + 60


def test_a_router_that_refuses_datagrams_is_known_at_once() -> None:
    home = Home(of("upnp"))
    home.router.is_listening = False
    assert home.run(0.1).by == "UPnP"


def test_a_router_that_comes_later_is_found() -> None:
    home = Home(of("natpmp"))
    home.router.is_up = False
    assert home.run(MINUTE_S).external == {}
    home.router.is_up = True
    assert home.until(lambda: home.router.own() == OURS, 10 * MINUTE_S)


@pytest.mark.parametrize(("spoken", "name"), SPOKEN)
def test_a_router_that_restarts_for_two_minutes_keeps_its_place(spoken: str, name: str) -> None:
    home = Home(of(spoken))
    home.run(MINUTE_S)
    home.router.is_up = False
    home.run(CHECK_S)
    home.run(2 * MINUTE_S)
    assert home.standing.external == BOTH
    home.router.restart(home.now_s)
    home.router.is_up = True
    assert home.until(lambda: home.router.own() == OURS, 2 * MINUTE_S)


def test_a_router_that_is_gone_is_given_up() -> None:
    home = Home(of("pcp"))
    home.run(MINUTE_S)
    home.router.is_up = False
    assert home.run(20 * MINUTE_S).external == {}
    assert home.standing.reason is Reason.SILENT


def test_another_router_at_the_same_address_is_found() -> None:
    home = Home(of("pcp"))
    home.run(MINUTE_S)
    home.router = of("upnp")
    assert home.until(lambda: home.router.own() == OURS, 20 * MINUTE_S)
    assert home.until(lambda: home.standing.by == "UPnP", 1)


# --- what is wanted for a while -------------------------------------------------------------------------


@pytest.mark.parametrize(("spoken", "name"), SPOKEN)
def test_what_is_wanted_for_a_while_comes_and_goes_at_once(spoken: str, name: str) -> None:
    home = Home(of(spoken))
    home.run(MINUTE_S)
    home.want(51873, 51874)
    home.run(0.0)
    assert home.standing.external == BOTH | {port: Endpoint(ADDRESS, port) for port in (51873, 51874)}
    assert home.router.own() == OURS | {(17, 51873), (17, 51874)}
    home.want(51874)
    home.run(0.0)
    assert home.standing.external == BOTH | {51874: Endpoint(ADDRESS, 51874)}
    assert home.router.own() == OURS | {(17, 51874)}
    home.stop()
    assert home.router.own() == set()


@pytest.mark.parametrize(("spoken", "name"), SPOKEN)
def test_it_is_kept_as_the_others_are(spoken: str, name: str) -> None:
    home = Home(of(spoken))
    home.want(51873)
    home.run(MINUTE_S)
    wanted = OURS | {(17, 51873)}
    assert home.router.own() == wanted, "it was wanted before there was a router"
    home.router.restart(home.now_s)
    assert home.until(lambda: home.router.own() == wanted, CHECK_S + 120)
    home.router.mapped.pop((17, 51873))
    home.run(HOUR_S + MINUTE_S)
    assert home.router.own() == wanted, "it was renewed"
    assert home.standing.external[51873] == Endpoint(ADDRESS, 51873)


def test_that_it_is_refused_is_no_complaint_and_it_is_tried_again_with_the_others() -> None:
    class Small(Router):
        room = 3

        def _act(self, action: str, values: dict[str, str]) -> tuple[int, dict[str, str]]:
            is_full = action == "AddPortMapping" and len(self.mapped) >= self.room
            return (
                (728, {}) if is_full and int(values["NewInternalPort"]) > 51872 else super()._act(action, values)
            )

    router = Small(speaks=frozenset({"upnp"}))
    home = Home(router)
    home.run(MINUTE_S)
    home.want(51873)
    home.run(MINUTE_S)
    asked = len(home.sent)
    assert (home.standing.external, home.standing.reason) == (BOTH, None)
    assert home.router.own() == OURS
    home.run(MINUTE_S)
    assert len(home.sent) == asked, "it is not asked for again and again"
    router.room = 4
    home.run(HOUR_S)
    assert home.router.own() == OURS | {(17, 51873)}


def test_wishes_without_end_cost_a_handful_of_packets_each_and_hold_up_no_renewal() -> None:
    home = Home(of("pcp"))
    home.run(MINUTE_S)
    before, began_s = len(home.sent), home.now_s
    for number in range(1000):
        home.want(*[51873] * (number % 2))
        home.run(5.0)
    assert len(home.sent) - before <= 1000 * 2 + 10 * len(OURS), "the wish, and a look"
    renewed = [
        at_s
        for at_s, effect in home.sent
        if isinstance(effect, Datagram) and effect.data[40:42] == (51872).to_bytes(2, "big") and at_s > began_s
    ]
    assert renewed, "its life is two hours, and half of that is over"


def test_a_router_that_does_not_know_it_any_more_is_told_once_it_is_wanted_no_more() -> None:
    home = Home(of("pcp"))
    home.want(51873)
    home.run(MINUTE_S)
    home.router.is_up = False
    home.want()
    home.run(20 * MINUTE_S)
    assert home.standing.reason is Reason.SILENT
    home.router.is_up = True
    assert home.until(lambda: home.standing.external == BOTH, 2 * HOUR_S)


def test_what_a_silence_has_kept_from_being_renewed_is_renewed_soon() -> None:
    class Faltering(Router):
        """It answers so many more requests."""

        left = 1000

        def answer(self, effect: Effect, now_s: float) -> bytes | None:
            self.left -= 1
            return super().answer(effect, now_s) if self.left >= 0 else None

    router = Faltering(speaks=frozenset({"pcp"}))
    home = Home(router)
    home.run(MINUTE_S)
    home.is_woken, router.left = True, 1  # a look, and then all is mapped again
    home.run(MINUTE_S)
    assert router.left < 0
    router.left = 1000
    home.sent.clear()
    home.run(MINUTE_S)
    asked = {effect.data[40:42] for _, effect in home.sent if isinstance(effect, Datagram)}
    assert {port.to_bytes(2, "big") for port in (51871, 51872)} <= asked


ANSWERS = st.one_of(
    st.none(),
    st.binary(max_size=80),
    st.builds(
        bytes.__add__, st.sampled_from([b"\x02\x81\0\0", b"\0\x80\0\0", b"\0\x81\0\0"]), st.binary(max_size=60)
    ),
    st.builds(
        page, st.sampled_from([description(), b"<a><errorCode>718</errorCode></a>"]), st.sampled_from([200, 500])
    ),
    st.just(b"HTTP/1.1 200 OK\r\nLOCATION: http://192.168.7.1:5000/x\r\n\r\n"),
)


@given(answers=st.lists(ANSWERS, max_size=40), seed=st.integers(0, 99))
@settings(max_examples=200, derandomize=True)
def test_no_router_makes_it_fail_or_publish_another_kind_of_address(
    answers: list[bytes | None], seed: int
) -> None:
    talk = Keeper(LINK, (CONTROL, TUNNEL), nonce_of, Random(seed), 0.0).run()
    effect, now_s, sent_s, rest = next(talk), 0.0, list[float](), iter(answers)
    for _ in range(600):
        data = None
        if isinstance(effect, Show):
            assert all(endpoint.port > 0 for endpoint in effect.standing.external.values())
        elif isinstance(effect, Rest):
            now_s += effect.wait_s if not effect.wakes else 0.0
        else:
            sent_s.append(now_s)
            data = next(rest, None)
            now_s += 0.01
        effect = talk.send(Heard(now_s, data, 0.01))
    assert len(sent_s) < 600
