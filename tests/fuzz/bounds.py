"""How many examples there are: the same ones in each run of the tests, others with each seed of `tests/soak`."""

import os
from collections.abc import Callable
from typing import Final, TypeVar

from hypothesis import Phase, seed, settings

from tests.seeds import SEED_VARIABLE

SOAK_FACTOR: Final = 20
_PROFILE_VARIABLE: Final = "HYPOTHESIS_PROFILE"

Test = TypeVar("Test", bound=Callable[..., object])


def fuzzed(examples: int) -> Callable[[Test], Test]:
    """Run a test with so many examples; a soak with as many times more, from its seed."""
    if os.environ.get(_PROFILE_VARIABLE) != "soak":
        return settings(max_examples=examples, derandomize=True)
    number = int(os.environ.get(SEED_VARIABLE, "1"))
    phases = [phase for phase in Phase if phase is not Phase.explain]

    def decorate(test: Test) -> Test:
        print(f"fuzzing: {SEED_VARIABLE}={number} {_PROFILE_VARIABLE}=soak repeats {test.__name__}")
        return seed(number)(settings(max_examples=SOAK_FACTOR * examples, phases=phases)(test))

    return decorate
