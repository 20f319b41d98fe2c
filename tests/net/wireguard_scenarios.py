"""What every backend must do, told once: run with wireguard-go here, with the kernel's own in another tier."""

import ipaddress
from base64 import b64encode

from tests.net.wireguard_machines import INTERFACE, PORT, Machine, Refused, eventually, machines, refusal, wanted

PING_S = 20  # the first packets wait for the handshake, which is repeated every 5 s when it is lost


def ping(one: Machine, other: Machine) -> bool:
    """Whether one reaches the other over the overlay."""
    address = str(ipaddress.IPv6Address(other.overlay))
    code, _, _ = one("run", argv=["ping", "-6", "-c", "1", "-W", "2", address])
    return bool(code == 0)


def joined(kind: str, one: Machine, other: Machine) -> None:
    """Bring up the overlay between two machines."""
    for machine, peer in ((one, other), (other, one)):
        assert machine.open(kind) == kind
        machine("apply", wanted=wanted(machine, peer))
    eventually(lambda: ping(one, other), within_s=PING_S)


def two_machines_ping(kind: str) -> None:
    """Two machines reach each other, and say what they saw of it."""
    with machines(2) as (one, other):
        joined(kind, one, other)
        state = one("read")[other.public_key.hex()]
        assert state["endpoint"] == f"{other.underlay}:{PORT}"
        assert state["handshake_unix_s"] > 0
        assert state["rx_bytes"] > 0
        assert state["tx_bytes"] > 0


def applying_twice_changes_nothing(kind: str) -> None:
    """Nothing differs after an apply, so the second one does nothing."""
    with machines(2) as (one, other):
        joined(kind, one, other)
        assert one("difference", wanted=wanted(one, other)) == []
        before = one("read")
        one("apply", wanted=wanted(one, other))
        assert one("read") == before


def a_change_leaves_other_sessions_alone(kind: str) -> None:
    """A peer that comes or goes ends nobody else's session."""
    with machines(3) as (one, other, third):
        joined(kind, one, other)
        before = one("read")[other.public_key.hex()]
        one("apply", wanted=wanted(one, other, third))
        assert one("read").keys() == {other.public_key.hex(), third.public_key.hex()}
        third.open(kind)
        third("apply", wanted=wanted(third, one))
        eventually(lambda: ping(one, third), within_s=PING_S)
        one("apply", wanted=wanted(one, other))
        after = one("read")
        assert after.keys() == {other.public_key.hex()}
        now = after[other.public_key.hex()]
        assert [now[each] for each in ("endpoint", "handshake_unix_s")] == [
            before[each] for each in ("endpoint", "handshake_unix_s")
        ]
        # Who has heard something and has nothing to say says so after ten seconds.
        assert all(now[each] >= before[each] for each in ("rx_bytes", "tx_bytes")), "it was made anew"
        assert not ping(third, one)


def roaming_survives(kind: str) -> None:
    """WireGuard follows a peer that moved; only another wanted endpoint makes us overrule it."""
    moved = 51_999
    with machines(2) as (one, other):
        joined(kind, one, other)
        key = other.public_key.hex()
        other("apply", wanted=wanted(other, one, port=moved))
        eventually(lambda: ping(other, one), within_s=PING_S)
        assert one("read")[key]["endpoint"] == f"{other.underlay}:{moved}"
        one("apply", wanted=wanted(one, other))
        assert one("read")[key]["endpoint"] == f"{other.underlay}:{moved}"
        one("apply", wanted=wanted(one, other, other_port=40_000))
        assert one("read")[key]["endpoint"] == f"{other.underlay}:40000"


def foreign_changes_are_repaired(kind: str) -> None:
    """Whatever others did to our interface, the next apply puts it right."""
    with machines(2) as (one, other):
        joined(kind, one, other)
        address = str(ipaddress.IPv6Address(one.overlay))
        network = str(ipaddress.IPv6Network((one.overlay, 48), strict=False))
        for damage in (
            ["ip", "address", "del", f"{address}/128", "dev", INTERFACE],
            ["ip", "-6", "route", "del", network, "dev", INTERFACE],
            ["ip", "link", "set", INTERFACE, "mtu", "1280"],
            ["ip", "link", "set", INTERFACE, "down"],
            ["ip", "address", "add", "fd99::1/64", "dev", INTERFACE],
            ["wg", "set", INTERFACE, "peer", b64encode(other.public_key).decode(), "remove"],
            ["wg", "set", INTERFACE, "peer", b64encode(other.public_key).decode(), "allowed-ips", "10.0.0.0/8"],
            ["wg", "set", INTERFACE, "listen-port", "40001"],
            ["ip", "link", "del", INTERFACE],
        ):
            one.run(*damage)
            eventually(lambda: _applies(one, other), within_s=PING_S)
            eventually(lambda: one("difference", wanted=wanted(one, other)) == [], within_s=PING_S)
            eventually(lambda: ping(one, other), within_s=2 * PING_S)


def _applies(one: Machine, other: Machine) -> bool:
    try:
        one("apply", wanted=wanted(one, other))
    except Refused:
        return False  # wireguard-go is just ending after its interface; the daemon tries again too
    return True


def another_clan_takes_the_place_of_the_first(kind: str) -> None:
    """A new overlay address drops the old one and its route; routes that somebody else made stay."""
    with machines(1) as (one,):
        one.open(kind)
        one("apply", wanted=wanted(one))
        one.run("ip", "-6", "route", "add", "2001:db8:9::/48", "dev", INTERFACE)
        moved = wanted(one) | {"address": "fdaaaaaaaaaa00000000000000000001"}
        one("apply", wanted=moved)
        assert one("difference", wanted=moved) == []
        routes = one.run("ip", "-6", "route", "show", "dev", INTERFACE)
        assert "fdaa:aaaa:aaaa::/48" in routes
        assert "fd01:203:405::/48" not in routes
        assert "2001:db8:9::/48" in routes


def a_foreign_interface_is_left_alone(kind: str) -> None:
    """An interface of our name that we did not make is neither used nor removed, and is named in the error."""
    with machines(2) as (one, other):
        one.run("ip", "link", "add", INTERFACE, "type", "veth", "peer", "name", "theirs")
        before = one.run("ip", "-o", "link", "show", INTERFACE)
        refused = refusal(lambda: one.open(kind))
        assert "did not make it" in refused["why"]
        assert INTERFACE in refused["remedy"]
        assert one.run("ip", "-o", "link", "show", INTERFACE) == before
        one.run("ip", "link", "del", INTERFACE)
        joined(kind, one, other)


def a_taken_port_is_named(kind: str) -> None:
    """A port that another program has is said in one line with a remedy, and works once it is free."""
    with machines(2) as (one, other):
        squatter = Machine(9, beside=one)
        try:
            squatter("take_port", port=PORT)
            one.open(kind)
            refused = refusal(lambda: one("apply", wanted=wanted(one, other)))
            assert str(PORT) in refused["what"]
            assert "another program" in refused["why"]
            assert "tunnel_port" in refused["remedy"]
        finally:
            squatter.end()
        one("apply", wanted=wanted(one, other))
        other.open(kind)
        other("apply", wanted=wanted(other, one))
        eventually(lambda: ping(one, other), within_s=PING_S)


def closing_leaves_nothing(kind: str) -> None:
    """After close there is neither interface nor program nor route of ours."""
    with machines(2) as (one, other):
        eventually(lambda: "fe80::/64" in one.run("ip", "-6", "route"), within_s=PING_S)  # the cable is in use
        before = _network(one)
        joined(kind, one, other)
        one("close")
        eventually(lambda: _network(one) == before, within_s=PING_S)
        assert one("children") == []


def _network(machine: Machine) -> str:
    return machine.run("ip", "-o", "link") + machine.run("ip", "-6", "route")


def a_killed_daemon_is_succeeded(kind: str) -> None:
    """What a `kill -9` leaves behind is taken over or gone; the successor does not stumble over it."""
    with machines(2) as (one, other):
        joined(kind, one, other)
        successor = Machine(one.number, beside=one)
        try:
            successor("children")  # it has come into the namespaces, which would go with the last process in them
            one.kill()
            assert successor.open(kind) == kind
            successor("apply", wanted=wanted(successor, other))
            eventually(lambda: ping(successor, other), within_s=2 * PING_S)
        finally:
            successor.end()


def probes_share_wireguards_port(kind: str) -> None:
    """From WireGuard's port to WireGuard's port in both families, with the tunnel up, and it notices nothing."""
    with machines(2) as (one, other):
        joined(kind, one, other)
        for machine, device in ((one, "wire2"), (other, "wire")):
            machine.run("ip", "address", "add", f"{_ipv6(machine)}/64", "dev", device, "nodad")
        assert one("share_port", name="one", others=["other"], port=PORT) is None
        assert other("share_port", name="other", others=["one"], port=PORT) is None
        targets = [f"{other.underlay}:{PORT}", f"[{_ipv6(other)}]:{PORT}"]
        for target in targets:
            assert one("probe", name="other", target=target)
        seen = [f"{one.underlay}:{PORT}", f"[{_ipv6(one)}]:{PORT}"]
        expected = [["other", target, own] for target, own in zip(targets, seen, strict=True)]
        eventually(lambda: sorted(one("probed")["proven"]) == expected, within_s=PING_S)
        assert sorted(other("probed")["heard"]) == [["one", own, t] for own, t in zip(seen, targets, strict=True)]
        assert one("probed")["refused"] == one("probed")["counters"] == {}
        before = other("read")[one.public_key.hex()]
        eventually(lambda: ping(one, other), within_s=PING_S)
        after = other("read")[one.public_key.hex()]
        assert after["handshake_unix_s"] == before["handshake_unix_s"]
        assert after["endpoint"] == before["endpoint"]


def _ipv6(machine: Machine) -> str:
    return f"2001:db8::{machine.number}"


SCENARIOS = (
    two_machines_ping,
    applying_twice_changes_nothing,
    a_change_leaves_other_sessions_alone,
    roaming_survives,
    foreign_changes_are_repaired,
    another_clan_takes_the_place_of_the_first,
    a_foreign_interface_is_left_alone,
    a_taken_port_is_named,
    closing_leaves_nothing,
    a_killed_daemon_is_succeeded,
    probes_share_wireguards_port,
)
