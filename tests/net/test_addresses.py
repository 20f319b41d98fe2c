"""Own addresses, seen in a network namespace that the test fills as it likes."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from clanmesh_protocol.limits import ENDPOINTS_MAX

CHECKOUT = Path(__file__).resolve().parents[2]

LOOK = """
import json
from clanmeshd.net.addresses import local_endpoints, multicast_interfaces
print(json.dumps({
    "endpoints": [str(each) for each in local_endpoints(51871, bytes.fromhex("fdaabbccddee"))],
    "multicast": [each.name for each in multicast_interfaces()],
}))
"""

WATCH = """
import trio
from clanmeshd.net.addresses import multicast_interfaces, watch_addresses
async def main():
    with watch_addresses() as watch, trio.fail_after(10):
        print([each.name for each in multicast_interfaces()], flush=True)
        await trio.run_process(["ip", "address", "add", "192.0.2.9/24", "dev", "lan"])
        await watch.changed()
        print([each.name for each in multicast_interfaces()], flush=True)
        with trio.move_on_after(1.5) as quiet:
            await watch.changed()
        print("quiet" if quiet.cancelled_caught else "woken for nothing")
trio.run(main)
"""


def _cable(name: str) -> list[str]:
    """A connected interface without an address; its other end has none either."""
    return [
        f"ip link add {name} type veth peer name far-{name}",
        f"ip link set {name} addrgenmode none && ip link set far-{name} addrgenmode none",
        f"ip link set {name} up && ip link set far-{name} up",
    ]


def _inside(script: str, *setup: str) -> str:
    """Run commands and then a Python script in a fresh network namespace; what it prints."""
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    commands = " && ".join([*setup, f'exec "{sys.executable}" -W error -c "$SCRIPT"'])
    finished = subprocess.run(
        ["unshare", *user, "--net", "sh", "-c", commands],
        cwd=CHECKOUT,
        env={**os.environ, "PYTHONPATH": f"{CHECKOUT}:{CHECKOUT / 'protocol'}", "SCRIPT": script},
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr.decode()
    return finished.stdout.decode()


def _seen(*setup: str) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(_inside(LOOK, *setup))
    return answer


def test_a_machine_with_loopback_only_has_nothing_to_offer() -> None:
    assert _seen("ip link set lo up") == {"endpoints": [], "multicast": []}


def test_what_peers_cannot_use_is_left_out() -> None:
    """Loopback, link-local addresses and the overlay's own; real ones stay, IPv4 first."""
    seen = _seen(
        *_cable("lan"),
        *("ip address add 192.0.2.7/24 dev lan", "ip address add 169.254.7.7/16 dev lan"),
        *("ip address add 2001:db8::7/64 dev lan nodad", "ip address add fdaa:bbcc:ddee::7/48 dev lan nodad"),
        "ip address add fdaa:bbcc:ddef::7/48 dev lan nodad",
    )
    assert seen["endpoints"] == ["192.0.2.7:51871", "[2001:db8::7]:51871", "[fdaa:bbcc:ddef::7]:51871"]
    assert seen["multicast"] == ["lan"]


def test_bridges_of_containers_come_last_and_the_list_is_bounded() -> None:
    many = [f"ip address add 198.51.100.{number}/24 dev lan" for number in range(1, ENDPOINTS_MAX)]
    bridge = [*_cable("docker0"), "ip address add 10.0.0.1/24 dev docker0"]
    assert _seen(*_cable("lan"), *bridge, *many)["endpoints"][-1] == "10.0.0.1:51871"
    more = [*many, "ip address add 198.51.100.99/24 dev lan"]
    endpoints = _seen(*_cable("lan"), *bridge, *more)["endpoints"]
    assert len(endpoints) == ENDPOINTS_MAX
    assert "10.0.0.1:51871" not in endpoints


def test_mdns_speaks_on_connected_lans_only() -> None:
    """Up, connected and able to multicast; a tunnel, a cut cable and an interface that is down are not."""
    seen = _seen(
        *(*_cable("lan"), "ip address add 192.0.2.7/24 dev lan"),
        "ip link add cut type veth peer name end",
        *("ip link set cut up", "ip address add 198.51.100.7/24 dev cut"),
        "ip link add idle type veth peer name other",
        "ip address add 203.0.113.7/24 dev idle",
        *("ip tuntap add dev tunnel mode tun", "ip link set tunnel up", "ip address add 10.9.9.9/24 dev tunnel"),
    )
    assert seen["multicast"] == ["lan"]
    assert "10.9.9.9:51871" in seen["endpoints"]  # a route into somebody's VPN is worth a try all the same


def test_a_new_address_wakes_the_watch_once() -> None:
    printed = _inside(WATCH, *_cable("lan"))
    assert printed.splitlines() == ["[]", "['lan']", "quiet"]
