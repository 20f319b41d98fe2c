"""When mDNS asks: often at first, then hardly, and not where another device has asked the same or nobody lacks.

And what was heard is heard once, until it may be otherwise.
"""

from collections.abc import Callable
from itertools import pairwise

import pytest
import trio
from trio.testing import MockClock

from clanmeshd.net.discovery import make_tag
from clanmeshd.net.radio import (
    ASK_JITTER,
    ASK_LATER_S,
    ASK_PAUSES_S,
    ASK_S,
    SAME_MAX,
    SAME_S,
    SIGHTINGS_MAX,
    Radio,
)
from clanmeshd.net.services import SERVICE_TTL_S, SERVICE_TYPE, Service, announcement, goodbye, question

HOURS = 4
SECRET = b"s" * 16
_RESPONSE = 0x80  # of the third byte of a message


class Heard(Radio):
    """A radio without a network, which keeps when it asked."""

    def __init__(self, misses: Callable[[], bool] = lambda: True) -> None:
        super().__init__((SECRET,), (), misses=misses)
        self.asked_s: list[float] = []

    def _tell(self, message: bytes) -> None:
        if not message[2] & _RESPONSE:
            self.asked_s.append(trio.current_time())

    def heard(self) -> int:
        """How many sightings wait to be taken, which they are by this."""
        count = 0
        while True:
            try:
                self.sightings.receive_nowait()
            except trio.WouldBlock:
                return count
            count += 1


def service(number: int) -> Service:
    """One of this clan."""
    tag = make_tag(SECRET, number.to_bytes(8, "big"))
    return Service(f"{number:016x}", 51871, (bytes([192, 0, 2, 1 + number % 250]),), tag)


async def test_questions_become_rare(autojump_clock: MockClock) -> None:
    radio, began_s = Heard(), trio.current_time()
    with trio.move_on_after(HOURS * ASK_S * (1 + ASK_JITTER)):
        await radio.run()
    first = radio.asked_s[0]
    assert first - began_s < 1
    gaps = [after - before for before, after in pairwise(radio.asked_s)]
    for gap, pause_s in zip(gaps, (*ASK_PAUSES_S, *[ASK_S] * HOURS), strict=False):
        assert pause_s <= gap <= pause_s * (1 + ASK_JITTER) + 0.001
    assert len(gaps) >= len(ASK_PAUSES_S) + HOURS - 1


@pytest.mark.parametrize("knows_more", [False, True])
async def test_anothers_question_is_as_good_as_ours(autojump_clock: MockClock, knows_more: bool) -> None:
    """Unless it keeps those silent whom we do not know."""
    radio = Heard()
    strange = (b"strange", *SERVICE_TYPE)
    data = question([(strange, SERVICE_TTL_S)] if knows_more else [])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(radio.run)
        for _ in range(HOURS * 2):
            await trio.sleep(ASK_S / 2)
            for _ in range(2):  # as it comes by both families
                radio.hear(data)
        nursery.cancel_scope.cancel()
    assert (len(radio.asked_s) > 1 + len(ASK_PAUSES_S)) is knows_more


async def test_who_announces_itself_asks_later_and_only_where_somebody_is_missing(
    autojump_clock: MockClock,
) -> None:
    everybody: set[str] = set()
    radio, began_s = Heard(lambda: "nas" not in everybody), trio.current_time()
    radio.announce(service(0))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(radio.run)
        await trio.sleep(ASK_LATER_S + 0.5)
        assert len(radio.asked_s) == 1
        assert radio.asked_s[0] - began_s >= ASK_LATER_S
        everybody.add("nas")
        await trio.sleep(HOURS * ASK_S)
        assert len(radio.asked_s) == 1
        everybody.clear()
        await trio.sleep(ASK_S * (1 + ASK_JITTER))
        assert len(radio.asked_s) == 2
        nursery.cancel_scope.cancel()


async def test_what_is_said_again_at_once_is_heard_once(autojump_clock: MockClock) -> None:
    radio = Heard()
    said, other = announcement(service(1)), announcement(service(2))
    for data in (said, said, other, said):
        radio.hear(data)
    assert radio.heard() == 2
    await trio.sleep(SAME_S)
    radio.hear(said)
    assert radio.heard() == 1


async def test_after_a_goodbye_it_may_be_there_again_at_once(autojump_clock: MockClock) -> None:
    """Nothing proves who said it."""
    radio = Heard()
    for data in (announcement(service(1)), goodbye(service(1)), announcement(service(1))):
        radio.hear(data)
    assert radio.heard() == 3


async def test_what_there_was_no_room_for_is_heard_when_it_is_said_again(autojump_clock: MockClock) -> None:
    radio = Heard()
    for number in range(SIGHTINGS_MAX + 1):
        radio.hear(announcement(service(number)))
    assert (radio.heard(), radio.dropped) == (SIGHTINGS_MAX, 1)
    radio.hear(announcement(service(SIGHTINGS_MAX)))
    assert radio.heard() == 1


async def test_what_was_said_is_remembered_within_bounds(autojump_clock: MockClock) -> None:
    radio = Heard()
    for number in range(2 * SAME_MAX):
        radio.hear(announcement(service(number)))
    assert len(radio._said) <= SAME_MAX + 1
    assert radio.hear(question([])) is False
    radio.announce(service(0))
    assert [radio.hear(question([])) for _ in range(2)] == [True, True]
