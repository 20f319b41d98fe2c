"""Who leads packets for members elsewhere: read from what the kernel tells, and put so that it can be typed."""

import ipaddress
import struct
from collections.abc import Sequence

import pytest

from clanmeshd.checkup.routes import Route, Rule, led_away, read_route, read_rule, thrown_away
from clanmeshd.checkup.terms import Detour
from clanmeshd.overlay.netlink import attribute

NAS = ipaddress.IPv6Address("fd01:2:3::7").packed
MAIN = Rule(32_766, 254, 1, bytes(16), 0, is_narrow=False)
HAND = "another VPN made it, or somebody by hand"


def route(network: str, table: int = 254, metric: int = 1024, protocol: int = 4, kind: int = 1) -> Route:
    """A route to a network."""
    made = ipaddress.IPv6Network(network)
    return Route(made.network_address.packed, made.prefixlen, table, metric, protocol, kind, 9)


def rule(priority: int, table: int, network: str = "::/0", action: int = 1, *, is_narrow: bool = False) -> Rule:
    """A rule for what goes to a network."""
    made = ipaddress.IPv6Network(network)
    return Rule(priority, table, action, made.network_address.packed, made.prefixlen, is_narrow)


LED = [
    (route("fd01:2:3::/48", metric=1), [MAIN], Detour("wg9", "fd01:2:3::/48 metric 1", HAND)),
    (route("fd01:2:3::7/128"), [MAIN], Detour("wg9", "fd01:2:3::7/128", HAND)),
    (
        route("fd01:2:3::/56", protocol=9),
        [MAIN],
        Detour("wg9", "fd01:2:3::/56", "a router announced it"),
    ),
    (
        route("::/0", table=99),
        [rule(100, 99, "fd02::/16"), rule(200, 99, "fd00::/8"), rule(300, 99), MAIN],
        Detour("wg9", "default table 99", HAND, rule=200),
    ),
    (
        route("::/0", table=51_820),
        [rule(5, 51_820, is_narrow=True)],
        Detour("wg9", "default table 51820", HAND, 5),
    ),
    (route("::/0", table=98), [MAIN], Detour("wg9", "default table 98", HAND)),
    (None, [MAIN], Detour("wg9")),
]


@pytest.mark.parametrize(("found", "rules", "said"), LED)
def test_the_route_and_the_rule_are_named(found: Route | None, rules: Sequence[Rule], said: Detour) -> None:
    assert led_away("wg9", NAS, found, rules) == said


REFUSED = [
    ([], [MAIN], None),
    ([route("::/0", metric=(1 << 32) - 1, kind=7)], [MAIN], None),  # the kernel's own, at the end of each table
    ([route("fd02::/16", kind=7)], [MAIN], None),
    (
        [route("fd00::/8", kind=7), route("fd01:2:3::/56", kind=6)],
        [MAIN],
        Detour(None, "blackhole fd01:2:3::/56", HAND),
    ),
    (
        [route("fd01:2:3::/48", table=99, kind=8)],
        [rule(7, 99), MAIN],
        Detour(None, "prohibit fd01:2:3::/48 table 99", HAND, 7),
    ),
    ([], [rule(8, 0, "fd01:2:3::/48", action=8), MAIN], Detour(None, rule=8)),
    ([], [rule(8, 0, "fd09::/48", action=8), MAIN], None),
]


@pytest.mark.parametrize(("routes", "rules", "said"), REFUSED)
def test_what_throws_packets_away_is_named(
    routes: Sequence[Route], rules: Sequence[Rule], said: Detour | None
) -> None:
    assert thrown_away(NAS, routes, rules) == said


def header(bits: int, table: int, kind: int, protocol: int = 0, source_bits: int = 0) -> bytes:
    return struct.pack("=BBBBBBBBI", 10, bits, source_bits, 0, table, protocol, 0, kind, 0)


def number(kind: int, value: int) -> bytes:
    return attribute(kind, struct.pack("=I", value))


def test_routes_and_rules_are_read_as_the_kernel_tells_them() -> None:
    destination = ipaddress.IPv6Address("fd01:2:3::").packed
    told = (
        header(48, 252, 1, protocol=4) + attribute(1, destination) + number(15, 1000) + number(6, 5) + number(4, 9)
    )
    assert read_route(told) == route("fd01:2:3::/48", table=1000, metric=5)
    assert read_route(header(0, 254, 7)).spelt() == "unreachable default metric 0"
    told = header(48, 99, 1) + attribute(1, destination) + number(6, 100)
    assert read_rule(told) == rule(100, 99, "fd01:2:3::/48")
    for narrowing in (attribute(3, b"eth0\0"), number(10, 1)):
        assert read_rule(told + narrowing).is_narrow
    assert read_rule(header(0, 99, 1, source_bits=64)).is_narrow
    for short in (b"", header(48, 254, 1)[:-1]):
        with pytest.raises(OSError, match="message of"):
            read_route(short)
        with pytest.raises(OSError, match="message of"):
            read_rule(short)
