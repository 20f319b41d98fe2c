"""This version reads every message that an earlier one sent, and finds the same meaning in it.

The files under `frozen/` are never edited: they are what devices out there say. A later version adds its own in
a folder beside `v1`.
"""

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from tests.vectors import frozen_messages, make_vectors
from tests.vectors.meaning import meaning_of, still_means

FOLDER = make_vectors.FROZEN
FILES = sorted(FOLDER.rglob("*.json"))


def load(path: Path) -> tuple[str, bytes, Any]:
    """Read a frozen message: its family, its bytes, its meaning."""
    value = json.loads(path.read_text())
    return path.parent.name, bytes.fromhex(value["hex"]), value["meaning"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_it_is_still_read(path: Path) -> None:
    family, data, meaning = load(path)
    now = meaning_of(frozen_messages.read_frozen(family, data))
    assert still_means(now, meaning), f"was {meaning}, is {now}"


@pytest.mark.parametrize("version", sorted(FOLDER.iterdir()), ids=lambda path: path.name)
def test_nothing_was_edited_or_lost(version: Path) -> None:
    sums = dict(reversed(line.split("  ")) for line in (version / "SHA256SUMS").read_text().splitlines())
    files = sorted(version.rglob("*.json"))
    there = {path.relative_to(version).as_posix(): sha256(path.read_bytes()).hexdigest() for path in files}
    assert there == sums


def test_there_is_one_of_everything() -> None:
    names = {f"{path.parent.name}/{path.stem}" for path in FILES}
    assert names >= {
        name for version in make_vectors.VERSIONS for name, _ in frozen_messages.all_messages(version)
    }
    families = [path.parent.name for path in FILES]
    kinds = {load(path)[2]["record"]["kind"] for path in FILES if path.parent.name == "record"}
    assert kinds >= set(range(16))
    assert {family: families.count(family) for family in ("frame", "stream")} == {"frame": 17, "stream": 22}


def test_a_changed_meaning_shows() -> None:
    frozen = {"is": "Ping", "number": 7, "ids": ["aa", "bb"]}
    assert still_means({**frozen, "added": 1}, frozen)
    assert not still_means({**frozen, "number": 8}, frozen)
    assert not still_means({**frozen, "number": True}, {**frozen, "number": 1})
    assert not still_means({**frozen, "ids": ["aa"]}, frozen)
    assert not still_means({"is": "Ping"}, frozen)
