"""Figures with their targets: printing, JSON and the verdict, alike for every benchmark."""

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

DIGITS: Final = 3  # of seconds: milliseconds


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured value. `target` None: quoted, not judged."""

    name: str
    value: float | None  # None: could not be measured, which a check counts as falling short
    unit: str
    target: float | None = None  # at most this
    is_floor: bool = False  # at least that

    @property
    def holds(self) -> bool:
        """The target is met, or there is none."""
        if self.target is None or self.value is None:
            return self.target is None
        return self.value >= self.target if self.is_floor else self.value <= self.target


def median(values: Sequence[float]) -> float | None:
    """The median, or None of nothing."""
    return statistics.median(values) if values else None


def rounded(value: float | None, digits: int = DIGITS) -> float | None:
    """A value as it is quoted, if there is one."""
    return round(value, digits) if value is not None else None


def over(
    values: Sequence[float | None], judge: Callable[[Sequence[float]], float | None], digits: int = DIGITS
) -> float | None:
    """Judge values, and round that. None of nothing, and where one is missing, which spoils it."""
    known = [value for value in values if value is not None]
    return rounded(judge(known), digits) if known and len(known) == len(values) else None


def load(moment: str) -> Figure:
    """How busy the machine is at a moment, `before` or `after`: processes, over the last minute."""
    return Figure(f"load of the machine {moment}", round(os.getloadavg()[0], 1), "")


def machine() -> dict[str, Any]:
    """Where and when the figures were taken."""
    return {
        "date": time.strftime("%Y-%m-%d"),
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
    }


def run(name: str, measure: Callable[[argparse.Namespace], list[Figure]], options: argparse.ArgumentParser) -> int:
    """Measure, print and judge. Gives the exit status: 1 when `--check` finds a target missed."""
    options.add_argument("--json", action="store_true", help="print one JSON object")
    options.add_argument("--check", action="store_true", help="exit with 1, naming what falls short of its target")
    arguments = options.parse_args()
    figures = measure(arguments)
    if arguments.json:
        rows = {f.name: {"value": f.value, "unit": f.unit, "target": f.target} for f in figures}
        print(json.dumps({"bench": name, "machine": machine(), "figures": rows}, indent=1))
    else:
        print_table(figures)
    short = [figure for figure in figures if not figure.holds]
    if arguments.check and short:
        for figure in short:
            print(
                f"bench.{name}: {figure.name} is {figure.value} {figure.unit}, target {figure.target}",
                file=sys.stderr,
            )
        return 1
    return 0


def print_table(figures: Sequence[Figure]) -> None:
    """Print one line a figure."""
    width = max(len(figure.name) for figure in figures)
    for figure in figures:
        value = "not measured" if figure.value is None else f"{figure.value:g} {figure.unit}"
        sign, missed = ">=" if figure.is_floor else "<=", "" if figure.holds else "   MISSED"
        target = "" if figure.target is None else f"   target {sign} {figure.target:g}{missed}"
        print(f"{figure.name:<{width}}  {value:>16}{target}")
