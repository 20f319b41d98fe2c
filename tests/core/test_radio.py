"""When mDNS asks: often at first, then hardly, and not where another device has asked the same."""

from itertools import pairwise

import pytest
import trio
from trio.testing import MockClock

from clanmeshd.net.radio import ASK_JITTER, ASK_PAUSES_S, ASK_S, Radio
from clanmeshd.net.services import SERVICE_TTL_S, SERVICE_TYPE, question

HOURS = 4


class Heard(Radio):
    """A radio without a network, which keeps when it asked."""

    def __init__(self) -> None:
        super().__init__((), ())
        self.asked_s: list[float] = []

    def _tell(self, message: bytes) -> None:
        self.asked_s.append(trio.current_time())


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
