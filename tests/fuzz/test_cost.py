"""No reader takes longer than in proportion to what it is given, nor more memory."""

import pytest

from clanmesh_protocol.encoding import decode_untrusted
from tests.fuzz.cost import GROWTH, Cost, inputs, measure
from tests.fuzz.readers import READERS, Reader

NS_PER_BYTE_MAX = 1500.0  # three times the dearest, a token's, which is short
FIXED_S = 0.002  # for what has nothing to do with the size, signatures for one
GROWTH_MAX = 2.5 * GROWTH  # squares would be four times it
GROWTH_FROM_S = 0.004  # less is no trouble, and hard to compare
BYTES_PER_BYTE_MAX = 130  # an empty list takes 56 for one, and 8 in the list that it is in; a TOML table more
FIXED_BYTES = 65_536

# The log is our own disk's: a mark that is wrong costs the check of the longest record, and no more.
OWN = {"log of records"}


def faults(cost: Cost) -> list[str]:
    """What is too much about an input."""
    found = []
    if cost.cpu_s > FIXED_S + NS_PER_BYTE_MAX * cost.size / 1e9:
        found.append(f"{cost.ns_per_byte:.0f} ns a byte")
    if cost.cpu_s > GROWTH_FROM_S and cost.growth > GROWTH_MAX:
        found.append(f"{cost.growth:.0f} times the time for {GROWTH} times the size")
    if cost.peak_bytes > FIXED_BYTES + BYTES_PER_BYTE_MAX * cost.size:
        found.append(f"{cost.peak_bytes / cost.size:.0f} bytes a byte")
    return found


@pytest.mark.parametrize("name", [name for name in READERS if name not in OWN])
def test_time_and_memory_are_in_proportion(name: str) -> None:
    for shape, size, make in inputs(name):
        cost = measure(name, shape, size, make)
        if faults(cost):
            cost = measure(name, shape, size, make)  # the machine may have been at something else
        assert faults(cost) == [], (name, shape, cost)


def test_squares_and_waste_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def squares(data: bytes) -> int:
        return sum(sum(data[at:]) for at in range(0, len(data), 16))

    def waste(data: bytes) -> int:
        return len([bytes(100) for _ in range(2 * len(data))])

    for read, fault in ((squares, "times the time"), (waste, "bytes a byte")):
        monkeypatch.setitem(READERS, "careless", Reader(read, lambda: (b"",), 16_384))
        assert any(fault in each for each in faults(measure("careless", "zeros", 16_384, bytes)))


def test_a_depth_is_no_stack() -> None:
    """Not even for what is deeper than Python's own stack."""
    deep = Reader(lambda data: decode_untrusted(data, bytes_max=1 << 20), lambda: (b"",), 1 << 20)
    assert not any(deep.takes(opening * 500_000) for opening in (b"\x91", b"\x92\x91", b"\xdc\x00\x01"))
