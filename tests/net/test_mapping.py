"""Ports are mapped at a real miniupnpd: packets from outside arrive until the end, and what changes is noticed."""

import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from clanctl.demo.lab import Lab, Node
from tests.clock import wait_until
from tests.net.home_router import LAN, PATIENCE_S, WAN, Device, HomeRouter, device, liar, program

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root: run `sudo make test`"),
    pytest.mark.skipif(program() is None, reason="there is no miniupnpd: apt install miniupnpd-nftables"),
]

OURS = {"udp 51871", "tcp 51871", "udp 51872"}
SPOKEN = ("PCP", "NAT-PMP", "UPnP")


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with Lab(tmp_path_factory.mktemp("lab")) as made:
        yield made


@pytest.fixture(scope="module")
def router(lab: Lab) -> Iterator[HomeRouter]:
    made = HomeRouter(lab)
    yield made
    made.stop()


@pytest.fixture(scope="module")
def home(lab: Lab, router: HomeRouter) -> Node:
    node = lab.add_node("home")
    router.connect(node, 2)
    return node


@pytest.fixture(scope="module")
def other(lab: Lab, router: HomeRouter) -> Node:
    node = lab.add_node("other")
    router.connect(node, 3)
    return node


def is_mapped(line: dict[str, Any]) -> bool:
    """Whether a device says that both ports are."""
    return line.get("family") == "ipv4" and len(line["external"]) == 2


def is_unmapped(line: dict[str, Any]) -> bool:
    """Whether a device says why no port is."""
    return line.get("family") == "ipv4" and line["reason"] not in ("searching", None)


def await_nothing(router: HomeRouter) -> None:
    """Wait until nothing is forwarded: a device that stops has said so, and the router may still be at it."""
    assert wait_until(lambda: router.forwards() == set(), PATIENCE_S), router.forwards()


def let_arrive(router: HomeRouter, running: Device, external: dict[str, str]) -> None:
    """Send to each mapped port from outside, by where it is there, until the device says that all came."""
    for port in ("51871", "51872"):
        router.send("hello", external[port])
        running.until(lambda line, port=port: line.get("arrived") == f"udp {port} hello")
    router.send("hello", external["51871"], tcp=True)
    running.until(lambda line: line.get("arrived") == "tcp 51871 hello")


@pytest.mark.parametrize("name", SPOKEN)
def test_packets_arrive_from_outside_until_it_stops(lab: Lab, router: HomeRouter, home: Node, name: str) -> None:
    router.start(name)
    with device(lab, home) as running:
        line = running.until(is_mapped)
        assert line["by"] == name
        assert line["external"] == {"51871": f"{WAN}:51871", "51872": f"{WAN}:51872"}
        assert router.forwards() == OURS
        let_arrive(router, running, line["external"])
        running.stop()
        await_nothing(router)
        running.until(lambda line: "stopped" in line)
    router.stop()


def test_a_device_that_was_killed_takes_up_what_it_had(lab: Lab, router: HomeRouter, home: Node) -> None:
    router.start()
    with device(lab, home) as running:
        running.until(is_mapped)
    assert router.forwards() == OURS
    with device(lab, home) as running:
        assert running.until(is_mapped)["external"]["51871"] == f"{WAN}:51871"
        assert router.forwards() == OURS
        running.stop()
    await_nothing(router)
    router.stop()


def test_two_devices_of_one_home_get_ports_of_their_own(
    lab: Lab, router: HomeRouter, home: Node, other: Node
) -> None:
    for name in SPOKEN:
        router.start(name)
        with device(lab, home) as one, device(lab, other) as two:
            lines = [each.until(is_mapped) for each in (one, two)]
            places = [at for line in lines for at in line["external"].values()]
            assert len(set(places)) == 4, places
            for running, line in zip((one, two), lines, strict=True):
                router.send("udp", line["external"]["51871"])
                router.send("tcp", line["external"]["51871"], tcp=True)
                running.until(lambda line: line.get("arrived") == "udp 51871 udp")
                running.until(lambda line: line.get("arrived") == "tcp 51871 tcp")
            one.stop()
            two.stop()
        await_nothing(router)
        router.stop()


def test_what_others_on_the_lan_answer_is_not_believed(
    lab: Lab, router: HomeRouter, home: Node, other: Node
) -> None:
    router.start("nothing")
    with liar(lab, other) as asked, device(lab, home) as running:
        assert running.until(is_unmapped)["reason"] == "silent"
        assert asked.readline().strip() == f"{LAN}.2", "the search reached it, and its answer was not believed"


@pytest.mark.parametrize("name", SPOKEN)
def test_behind_another_nat_it_says_so(lab: Lab, router: HomeRouter, home: Node, name: str) -> None:
    router.run(router.node, "ip", "address", "replace", "10.9.0.1/24", "dev", "wan")
    router.run(router.node, "ip", "address", "delete", f"{WAN}/24", "dev", "wan")
    router.start(name)
    with device(lab, home) as running:
        line = running.until(is_unmapped)
        assert (line["reason"], line["external"]) == ("refused", {}), "miniupnpd itself refuses then"
        assert router.forwards() == set()
    router.run(router.node, "ip", "address", "replace", f"{WAN}/24", "dev", "wan")
    router.run(router.node, "ip", "address", "delete", "10.9.0.1/24", "dev", "wan")
    router.stop()


def test_without_a_router_it_says_so(lab: Lab, router: HomeRouter, home: Node) -> None:
    router.start()
    router.run(home, "ip", "route", "delete", "default")
    with device(lab, home) as running:
        assert running.until(is_unmapped)["reason"] == "no-router"
        router.connect(home, 2)
        running.until(is_mapped)
        router.run(home, "ip", "address", "add", "100.30.0.2/24", "dev", "eth0")
        router.run(home, "ip", "route", "replace", "default", "via", "100.30.0.1", "dev", "eth0")
        assert running.until(is_unmapped)["reason"] == "public"
    router.run(home, "ip", "address", "delete", "100.30.0.2/24", "dev", "eth0")
    router.connect(home, 2)


def test_a_router_that_restarted_is_asked_again(lab: Lab, router: HomeRouter, home: Node) -> None:
    router.start()
    with device(lab, home) as running:
        running.until(is_mapped)
        router.stop()
        router.start()  # it has forgotten all
        router.announce()
        assert wait_until(lambda: router.forwards() == OURS, PATIENCE_S)
        running.stop()
    await_nothing(router)
    router.stop()


def test_the_firewall_lets_ipv6_in(lab: Lab, router: HomeRouter, other: Node) -> None:
    address = router.connect_ipv6(other, 3)
    router.start()
    with device(lab, other) as running:
        line = running.until(lambda line: line.get("family") == "ipv6" and len(line["external"]) == 2)
        assert line["by"] == "PCP"
        assert line["external"] == {"51871": f"[{address}]:51871", "51872": f"[{address}]:51872"}
        let_arrive(router, running, line["external"])
        running.stop()
    router.stop()


def test_a_device_outside_joins_through_the_mapping(lab: Lab, router: HomeRouter, home: Node) -> None:
    (lab.directory / "plain.toml").write_text('overlay = "none"\nmdns = false\n')
    for node in (home, router.outside):
        node.arguments = ("--config", str(lab.directory / "plain.toml"))
    router.start()
    lab.start_daemon(home)
    lab.start_daemon(router.outside)
    lab.call(home, "init", {"name": "family", "node_name": "home", "signers": []})
    place = f"{WAN}:51871"
    expected = {"by": "PCP", "control": place, "tunnel": None, "reason": None, "why": None}
    assert wait_until(lambda: lab.call(home, "status")["port_mapping"]["ipv4"] == expected, PATIENCE_S)
    assert f"router   forwards {place} to here (PCP)" in lab.ctl(home, "status").stdout

    invite = lab.call(home, "invite", {"tags": [], "uses": 1, "ttl_s": 600})
    assert place in invite["endpoints"]
    lab.call(router.outside, "join", {"token": invite["token"], "name": "outside"})
    assert wait_until(lambda: states(lab, router.outside) == {"home": "up", "outside": "up"}, PATIENCE_S)
    peers = lab.call(router.outside, "peers")["peers"]
    assert [peer["path"]["endpoint"] for peer in peers if peer["name"] == "home"] == [place]

    assert router.forwards() == {"udp 51871", "tcp 51871"}
    lab.kill(home, signal.SIGTERM)
    await_nothing(router)
    assert "Traceback" not in lab.log_tail(home, 1000)
    router.stop()


def test_a_daemon_that_may_not_ask_does_not(lab: Lab, router: HomeRouter, home: Node) -> None:
    (lab.directory / "quiet.toml").write_text('overlay = "none"\nmdns = false\nport_mapping = false\n')
    home.arguments = ("--config", str(lab.directory / "quiet.toml"))
    router.start()
    lab.start_daemon(home)
    for mapping in lab.call(home, "status")["port_mapping"].values():
        assert (mapping["reason"], mapping["why"]) == ("off", "it is switched off")
    assert wait_until(lambda: states(lab, home).get("outside") == "up", PATIENCE_S), "it has spoken by now"
    assert router.forwards() == set()
    lab.kill(home)
    router.stop()


def states(lab: Lab, node: Node) -> dict[str, str]:
    """How each member looks from a machine."""
    return {peer["name"]: peer["state"] for peer in lab.call(node, "peers")["peers"]}
