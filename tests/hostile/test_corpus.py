"""Every hostile case names a section of the protocol and a vector, and both are there."""

import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hostile.rules import SHOWN, Shown, hostile
from tests.hostile.stage import NOW, TRACE_OBJECTS_MAX, Stage, objects, stays_small

HERE = Path(__file__).parent
PROTOCOL = HERE.parent.parent / "protocol"
THEMES = {
    "addresses",
    "back_dated",
    "cloned",
    "duelling",
    "evicted",
    "floods",
    "forged",
    "malleated",
    "names",
    "over_long",
    "re_ordered",
    "replayed",
    "rolled_back",
    "stolen_invite",
    "tags",
    "wrong_clan",
}
CASES_PER_THEME_MIN = 4


def cases(theme: str) -> Iterator[tuple[str, Shown | None]]:
    """The tests of a theme, with what each says that it is about."""
    module = importlib.import_module(f"tests.hostile.test_{theme}")
    for name, value in vars(module).items():
        if name.startswith("test_"):
            yield name, getattr(value, SHOWN, None)


def titles() -> set[str]:
    """The sections of the specification, without their numbers."""
    lines = (PROTOCOL / "README.md").read_text(encoding="utf-8").splitlines()
    return {re.sub(r"^#+ (\d+(\.\d+)*\.? )?", "", line) for line in lines if line.startswith("#")}


def test_each_theme_has_a_file() -> None:
    assert {path.stem.removeprefix("test_") for path in HERE.glob("test_*.py")} == THEMES | {"corpus"}


@pytest.mark.parametrize("theme", sorted(THEMES))
def test_each_case_names_a_rule_and_a_vector_that_are_there(theme: str) -> None:
    found = dict(cases(theme))
    assert len(found) >= CASES_PER_THEME_MIN
    assert [name for name, shown in found.items() if shown is None] == []
    rules = {shown.rule for shown in found.values() if shown is not None}
    assert rules - titles() == set()
    vectors = {shown.vector for shown in found.values() if shown is not None}
    assert {vector for vector in vectors if not (PROTOCOL / "vectors" / f"{vector}.txt").is_file()} == set()


def test_a_case_carries_its_mark() -> None:
    def case() -> None:
        """Nothing."""

    assert getattr(hostile("Records", "record/empty")(case), SHOWN) == Shown("Records", "record/empty")


def test_a_trace_would_be_seen() -> None:
    stage = Stage()
    with pytest.raises(AssertionError):
        stage.refuses(stage.credential(0, 2, "other"), code="unauthorized")


def test_growth_would_be_seen() -> None:
    stage = Stage()
    before = objects(stage.mesh)
    stage.mesh.grown = [object() for _ in range(TRACE_OBJECTS_MAX + 1)]  # type: ignore[attr-defined]
    assert objects(stage.mesh) > before + TRACE_OBJECTS_MAX
    with pytest.raises(AssertionError):
        stays_small(stage, (grow(stage) for _ in range(1)))


def grow(stage: Stage) -> bytes:
    """Put something aside behind the core's back."""
    stage.mesh.more = [object() for _ in range(TRACE_OBJECTS_MAX + 1)]  # type: ignore[attr-defined]
    stage.mesh.handle_deadline(NOW)
    return b""
