"""The guest's side of the kernel tier: every scenario against the kernel's own WireGuard, a line for each.

Run as root in a throw-away machine.
"""

import hashlib
import ipaddress
import platform
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any

from tests.kernel.forked import Forked
from tests.net.wireguard_machines import INTERFACE, PREFIX, Machine, eventually, machines, refusal, wanted
from tests.net.wireguard_scenarios import PING_S, SCENARIOS, joined, ping

KIND = "kernel"
PEERS = 500  # eight messages to set them; the dump is several as well


def auto_takes_the_kernel() -> None:
    """With a kernel that has WireGuard, that is what `auto` takes; it loads the module itself."""
    with machines(1) as (one,):
        assert one.open("auto") == KIND
        assert "wireguard" in one.run("ip", "-d", "link", "show", INTERFACE)
        assert "alias clanmesh" in one.run("ip", "link", "show", INTERFACE)


def sessions_outlive_the_daemon() -> None:
    """A killed daemon's interface goes on, and its successor takes it over without ending a session."""
    with machines(2) as (one, other):
        joined(KIND, one, other)
        before = one("read")
        successor = Machine(one.number, beside=one)
        try:
            successor("children")
            one.kill()
            eventually(lambda: ping(other, successor), within_s=PING_S)
            assert successor.open(KIND) == KIND
            successor("apply", wanted=wanted(successor, other, other_port=40_000))
            after = successor("read")[other.public_key.hex()]
            assert after["handshake_unix_s"] == before[other.public_key.hex()]["handshake_unix_s"]
            assert after["endpoint"] == before[other.public_key.hex()]["endpoint"]
        finally:
            successor.end()


def a_foreign_wireguard_is_left_alone() -> None:
    """Neither is another one's WireGuard interface ours, though it is of the right kind."""
    with machines(1) as (one,):
        one.run("ip", "link", "add", INTERFACE, "type", "wireguard")
        assert "did not make it" in refusal(lambda: one.open(KIND))["why"]
        one.run("ip", "link", "show", INTERFACE)


def wg_sees_what_we_wanted() -> None:
    """An independent reader agrees, with IPv4 and IPv6 endpoints and with more peers than fit a message."""
    with machines(1) as (one,):
        one.open(KIND)
        state = crowd(one, PEERS)
        print(f"MEASURED apply of {PEERS} peers: {one('apply', wanted=state):.3f} s", flush=True)
        lines = [line.split("\t") for line in one.run("wg", "show", INTERFACE, "dump").splitlines()]
        assert lines[0][2] == str(state["listen_port"])
        seen = {(line[2], line[3], line[7]) for line in lines[1:]}
        assert seen == {(tunnel["endpoint"], _allowed(tunnel), "25") for tunnel in state["tunnels"]}
        assert one("difference", wanted=state) == []
        check_s = one("apply", wanted=state)
        state["tunnels"].pop()
        change_s = one("apply", wanted=state)
        print(f"MEASURED check {check_s:.4f} s, one change {change_s:.4f} s", flush=True)
        assert len(one("read")) == PEERS - 1


def crowd(one: Machine, count: int) -> dict[str, Any]:
    """A wanted state of so many peers."""
    tunnels = [
        {
            "public_key": hashlib.blake2b(number.to_bytes(4, "big"), digest_size=32).hexdigest(),
            "address": (PREFIX + (number + 100).to_bytes(10, "big")).hex(),
            "endpoint": f"[2001:db8::{number + 1:x}]:5000" if number % 2 else f"192.0.2.9:{number + 1}",
            "keepalive_s": 25,
        }
        for number in range(count)
    ]
    return wanted(one) | {"tunnels": tunnels}


def _allowed(tunnel: dict[str, Any]) -> str:
    return f"{ipaddress.IPv6Address(bytes.fromhex(tunnel['address']))}/128"


def _shared(scenario: Callable[[str], None]) -> Callable[[], None]:
    return lambda: scenario(KIND)


CHECKS: dict[str, Callable[[], None]] = {
    "auto_takes_the_kernel": auto_takes_the_kernel,
    "sessions_outlive_the_daemon": sessions_outlive_the_daemon,
    "a_foreign_wireguard_is_left_alone": a_foreign_wireguard_is_left_alone,
    "wg_sees_what_we_wanted": wg_sees_what_we_wanted,
    **{scenario.__name__: _shared(scenario) for scenario in SCENARIOS},
}


def main() -> int:
    """Run all; 0 when all held."""
    print(f"kernel {platform.release()}", flush=True)
    Machine.launch = staticmethod(Forked)
    failed = 0
    for name, check in CHECKS.items():
        start = time.monotonic()
        try:
            check()
        except Exception:
            failed += 1
            print(f"FAILED {name}\n{traceback.format_exc()}", flush=True)
        else:
            print(f"PASSED {name} {time.monotonic() - start:.1f} s", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
