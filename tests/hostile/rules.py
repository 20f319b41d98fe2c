"""Each case of the corpus names the rule that it is about, and the vector that shows it to other programs."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeVar

Case = TypeVar("Case", bound=Callable[..., object])


@dataclass(frozen=True)
class Shown:
    """A section of the protocol by its title, without its number, and a vector by its name."""

    rule: str
    vector: str


SHOWN: Final = "shown"


def hostile(rule: str, vector: str) -> Callable[[Case], Case]:
    """Say of a test what it is about."""

    def mark(case: Case) -> Case:
        setattr(case, SHOWN, Shown(rule, vector))
        return case

    return mark
