"""What becomes of WireGuard's peers, its sessions and the first handshake when a tunnel key changes."""

from collections.abc import Mapping
from dataclasses import replace

import pytest
import trio
from trio.testing import MockClock

from clanmeshd.core.effects import SetTunnels
from clanmeshd.overlay.backend import TunnelState
from clanmeshd.overlay.device import SESSION_S, Network, Peer
from clanmeshd.overlay.greeting import Greeter
from clanmeshd.overlay.plan import Configure, SetPeer, plan
from tests.core.test_overlay_plan import AWAY, HOME, NOW_S, PRIVATE, A, B, address, device, peer, tunnel, wanted

ALIVE_S, SILENT_S = int(NOW_S) - 10, int(NOW_S) - SESSION_S
OTHER = bytes([0xB8]) + PRIVATE[1:]
MINE = frozenset({Network(address(A), 128)})


def _change(peers: dict[bytes, Peer], goal: SetTunnels) -> Configure:
    steps = plan(device(peers), goal, applied={}, now_unix_s=NOW_S)
    assert len(steps) <= 1
    change = steps[0] if steps else Configure()
    assert isinstance(change, Configure)
    return change


# --- which peers ---


def test_a_next_key_is_not_let_in_while_the_other_is_alive() -> None:
    current = {A: peer(A, handshake_unix_s=ALIVE_S)}
    assert _change(current, wanted(replace(tunnel(A), following=B))) == Configure()


def test_a_next_key_is_let_in_without_the_address_when_the_other_is_silent() -> None:
    current = {A: peer(A, handshake_unix_s=SILENT_S)}
    change = _change(current, wanted(replace(tunnel(A), following=B)))
    assert change.peers == (SetPeer(B, False, frozenset(), HOME, 0),)
    assert change.removed == ()


def test_the_address_goes_to_whom_was_heard_last() -> None:
    next_peer = Peer(frozenset(), endpoint=HOME, handshake_unix_s=ALIVE_S)
    current = {A: peer(A, handshake_unix_s=SILENT_S), B: next_peer}
    change = _change(current, wanted(replace(tunnel(A), following=B)))
    assert SetPeer(B, True, MINE, None, None) in change.peers
    moved = {A: replace(current[A], allowed=frozenset()), B: replace(next_peer, allowed=MINE)}
    assert _change(moved, wanted(replace(tunnel(A), following=B))) == Configure()


def test_a_key_that_spoke_again_keeps_the_address_and_the_next_one_goes() -> None:
    current = {A: peer(A, handshake_unix_s=ALIVE_S), B: Peer(frozenset(), endpoint=HOME)}
    change = _change(current, wanted(replace(tunnel(A), following=B)))
    assert change.removed == (B,)
    assert change.peers == ()


@pytest.mark.parametrize(("heard_s", "endpoint"), [(ALIVE_S, AWAY), (SILENT_S, HOME)])
def test_a_new_key_takes_over_where_its_peer_was_seen(heard_s: int, endpoint: object) -> None:
    renewed = replace(tunnel(A), public_key=B)
    change = _change({A: peer(A, AWAY, handshake_unix_s=heard_s)}, wanted(renewed))
    assert change.removed == (A,)
    assert change.peers == (SetPeer(B, False, MINE, endpoint, 0),)


def test_an_own_new_key_leaves_all_peers_alone() -> None:
    goal = replace(wanted(tunnel(A)), private_key=OTHER)
    change = _change({A: peer(A, handshake_unix_s=ALIVE_S)}, goal)
    assert change == Configure(private_key=OTHER)


# --- who begins ---


class Backend:
    """Notes what was applied and when; has no session with anybody."""

    kind = "none"

    def __init__(self, notes: list[str]) -> None:
        self.notes = notes

    def take_lost(self) -> frozenset[bytes]:
        return frozenset()

    async def apply(self, wanted: SetTunnels) -> None:
        self.notes.append("apply")

    async def read(self) -> Mapping[bytes, TunnelState]:
        return {}

    async def close(self) -> None:
        return


async def _notes(*goals: SetTunnels) -> list[str]:
    notes: list[str] = []

    async def applied(goal: SetTunnels) -> None:
        notes.append(f"applied {goal.private_key == OTHER}")

    async with trio.open_nursery() as nursery:
        greeter = Greeter(Backend(notes), nursery, lambda address: notes.append("send"), applied)
        for goal in goals:
            await greeter.apply(goal)
            await trio.sleep(0.1)  # below the moment that the higher address waits
        nursery.cancel_scope.cancel()
    return notes


async def test_a_new_private_key_is_told_after_a_greeting_in_vain(autojump_clock: MockClock) -> None:
    goal = wanted(tunnel(A))
    notes = await _notes(goal, replace(goal, private_key=OTHER), replace(goal, private_key=OTHER))
    first, second, third = "".join(f"{note};" for note in notes).split("apply;")[1:]
    assert first.startswith("applied False;")
    assert second == "send;applied True;"
    assert third == ""


async def test_a_peer_with_a_new_key_is_greeted_at_once_whoever_is_lower(autojump_clock: MockClock) -> None:
    for own in (bytes(16), b"\xff" * 16):
        goal = replace(wanted(tunnel(A)), address=own)
        renewed = replace(wanted(replace(tunnel(A), public_key=B)), address=own)
        assert (await _notes(goal, renewed))[-2:] == ["apply", "send"]


async def test_who_hears_of_a_failure_hears_of_no_key(autojump_clock: MockClock) -> None:
    notes: list[str] = []

    class Broken(Backend):
        async def apply(self, wanted: SetTunnels) -> None:
            raise OSError("no")

    async def applied(goal: SetTunnels) -> None:
        notes.append("applied")

    async with trio.open_nursery() as nursery:
        greeter = Greeter(Broken(notes), nursery, lambda address: None, applied)
        with pytest.raises(OSError, match="no"):
            await greeter.apply(wanted(tunnel(A)))
    assert notes == []
