"""What waits for peers that slept: for whom, how long, and how often it is sent on."""

from dataclasses import dataclass, field
from math import inf

import trio
from trio.testing import MockClock

from clanmesh_protocol.endpoints import Endpoint, endpoint
from clanmesh_protocol.keys import NodeId
from clanmeshd.ringing import AGAIN_S, ALIKE_MAX, HELD_MAX, HELD_S, LOOKS_S, STRAY_S, Ringing
from clanmeshd.steering_terms import NOWHERE, Way

ANNA, BEN = (NodeId(letter * 32) for letter in (b"A", b"B"))
BELL = endpoint("127.0.0.1", 7)
THERE = endpoint("192.0.2.1", 51872)


@dataclass
class Outside:
    """The bell, and WireGuard's port."""

    endpoint: Endpoint = BELL
    sent: list[tuple[bytes, Endpoint]] = field(default_factory=list)

    def set_peers(self, nodes: dict[bytes, NodeId]) -> None:
        return

    def send_on(self, packet: bytes, endpoint: Endpoint) -> None:
        self.sent.append((packet, endpoint))


def ringing() -> tuple[Ringing, Outside]:
    outside = Outside()
    return Ringing(outside, outside), outside  # type: ignore[arg-type]


async def test_what_waits_goes_to_a_way_and_some_times_more(autojump_clock: MockClock) -> None:
    rung, outside = ringing()
    assert rung.way == Way(outside.endpoint, 0)
    rung.hold(ANNA, b"one")
    for nowhere in (NOWHERE, outside.endpoint):
        rung.send_on(ANNA, nowhere)
    rung.send_on(BEN, THERE)
    assert (outside.sent, rung.next_deadline()) == ([], inf)
    rung.send_on(ANNA, THERE)
    while (due_s := rung.next_deadline()) < inf:
        await trio.sleep_until(due_s)
        rung.go_on(due_s)
    assert outside.sent == [(b"one", THERE)] * (1 + len(AGAIN_S))


async def test_it_is_kept_for_a_better_way_but_not_for_long(autojump_clock: MockClock) -> None:
    rung, outside = ringing()
    rung.hold(ANNA, b"one")
    await trio.sleep(HELD_S - 0.01)
    assert rung.holds(ANNA)
    await trio.sleep(0.02)
    assert not rung.holds(ANNA)
    rung.send_on(ANNA, THERE)
    assert outside.sent == []


async def test_of_a_flood_the_last_ones_are_held(autojump_clock: MockClock) -> None:
    rung, outside = ringing()
    for number in range(100):
        rung.hold(ANNA, bytes([number]))
    rung.send_on(ANNA, THERE)
    assert outside.sent == [(bytes([number]), THERE) for number in range(100 - HELD_MAX, 100)]


async def test_what_does_not_say_for_whom_it_is_is_for_those_who_were_woken(autojump_clock: MockClock) -> None:
    """If they are few: whoever it is not for cannot read it."""
    crowd = [NodeId(bytes([number]) * 32) for number in range(ALIKE_MAX)]
    for woken, held in (([ANNA], [ANNA]), ([], []), ([ANNA, BEN], [ANNA, BEN]), ([ANNA, *crowd], [])):
        rung, _ = ringing()
        rung.hold(None, b"data")
        assert rung.attribute(woken) == held
        assert [node for node in (ANNA, BEN) if rung.holds(node)] == held


async def test_whom_it_is_for_may_be_counted_a_moment_later(autojump_clock: MockClock) -> None:
    """WireGuard sends first, and counts then."""
    rung, _ = ringing()
    assert rung.next_deadline() == inf
    rung.hold(None, b"data")
    for _ in range(1 + len(LOOKS_S)):
        await trio.sleep_until(rung.next_deadline())
        assert rung.wants_look(trio.current_time())
        assert rung.attribute([]) == []
    assert rung.next_deadline() == inf, "it has been looked for"
    await trio.sleep(STRAY_S - sum(LOOKS_S) - 0.01)
    assert rung.attribute([ANNA]) == [ANNA]
    assert rung.holds(ANNA)


async def test_what_nobody_was_sent_is_soon_forgotten(autojump_clock: MockClock) -> None:
    rung, _ = ringing()
    rung.hold(None, b"data")
    await trio.sleep(STRAY_S + 0.01)
    assert rung.attribute([ANNA]) == []
    assert not rung.holds(ANNA)


async def test_whom_it_is_for_may_have_been_counted_a_moment_before(autojump_clock: MockClock) -> None:
    """The counters were looked at for another reason, between the packet and its ring."""
    rung, _ = ringing()
    rung.attribute([ANNA])
    rung.hold(None, b"data")
    for _ in LOOKS_S:
        assert rung.attribute([]) == [], "rather somebody who is counted next"
    assert rung.attribute([]) == [ANNA]
    rung.hold(None, b"data")
    assert rung.attribute([BEN]) == [ANNA, BEN]
    await trio.sleep(STRAY_S + 0.01)
    rung.hold(None, b"data")
    for _ in range(1 + len(LOOKS_S)):
        assert rung.attribute([]) == [], "that is long ago"


async def test_without_a_bell_nobody_sleeps_at_one(autojump_clock: MockClock) -> None:
    rung = Ringing(None, Outside())  # type: ignore[arg-type]
    rung.set_peers({})
    assert rung.way is rung.endpoint is None
