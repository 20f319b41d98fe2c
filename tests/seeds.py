"""Where the dice of the tests that take chances begin."""

import os

SEED_VARIABLE = "CLANMESH_SEED"


def seeds(count: int) -> list[int]:
    """Seeds for `count` runs: the same ones each time, or those from CLANMESH_SEED on (see tests/soak)."""
    first = int(os.environ.get(SEED_VARIABLE, "1"))
    return [first * 1_000 + number for number in range(count)]
