"""Five hundred peers: what the first apply, a change and a check cost with wireguard-go."""

import hashlib
from typing import Any

import pytest

from tests.net.test_wireguard import pytestmark as pytestmark
from tests.net.wireguard_machines import PREFIX, machines, wanted

PEERS = 500
# Bounds for a machine that does other things as well; alone it takes 35, 5 and 4 ms.
FIRST_S_MAX = 0.4
CHANGE_S_MAX = 0.03
ROUNDS = 5
FIRST_ROUNDS = 3


def crowd(first: int, count: int, mtu: int = 0) -> list[dict[str, Any]]:
    """So many peers that are not there. `mtu`: proven of each, which gives it a route of its own."""
    return [
        {
            "public_key": hashlib.blake2b(number.to_bytes(4, "big"), digest_size=32).hexdigest(),
            "address": (PREFIX + (number + 100).to_bytes(10, "big")).hex(),
            "endpoint": f"192.0.2.77:{1000 + number}",
            "keepalive_s": 0,
            "mtu": mtu,
        }
        for number in range(first, first + count)
    ]


def first_apply_s(mtu: int) -> float:
    """What the first apply takes on a machine of its own."""
    with machines(1) as (one,):
        one.open("userspace")
        return float(one("apply", wanted=wanted(one) | {"tunnels": crowd(0, PEERS, mtu)}))


@pytest.mark.parametrize("mtu", [0, 1420])
def test_five_hundred_peers(mtu: int) -> None:
    """The best of some rounds, so that what else the machine does counts little."""
    first_s = min(first_apply_s(mtu) for _ in range(FIRST_ROUNDS))
    with machines(1) as (one,):
        one.open("userspace")
        everyone = wanted(one) | {"tunnels": crowd(0, PEERS, mtu)}
        one("apply", wanted=everyone)
        assert len(one("read")) == PEERS
        unchanged_s = min(one("apply", wanted=everyone) for _ in range(ROUNDS))
        change_s = min(
            one("apply", wanted=everyone | {"tunnels": [*everyone["tunnels"], *crowd(PEERS + number, 1, mtu)]})
            for number in range(ROUNDS)
        )
        print(f"{PEERS} peers: first {first_s:.4f} s, change {change_s:.4f} s, check {unchanged_s:.4f} s")
        assert first_s < FIRST_S_MAX
        assert change_s < CHANGE_S_MAX
        assert unchanged_s < CHANGE_S_MAX
