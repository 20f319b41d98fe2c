"""The path engine where one member alone has seen both: nobody knows which router is harder."""

import pytest

from tests.core.path_network import Net, couple, introduce, steady
from tests.core.test_overlay_paths import PAIRS, are_direct, is_punchable


@pytest.mark.parametrize(("first", "second"), [pair for pair in PAIRS if is_punchable(*pair)])
def test_who_begins_wrongly_does_not_keep_the_other_for_long(first: str, second: str) -> None:
    net = Net(1, knows_nats=False)
    one, other, _ = couple(net, first, second)
    introduce(one, other)
    steady(one, other)
    assert net.run_until(are_direct(one, other), 3.0)
    print(f"{first} x {second}: {net.now_s:.2f} s")
    assert net.now_s <= 0.7
