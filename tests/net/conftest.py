"""The people and devices of rollout tests."""

from pathlib import Path

import pytest

from tests.net.rollout_devices import make_devices
from tests.net.rollout_world import Author, Device, Key, make_key


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Key]:
    directory = tmp_path_factory.mktemp("keys")
    return {name: make_key(directory, name) for name in ("alice", "bob", "mallory")}


@pytest.fixture
def alice(keys: dict[str, Key]) -> Key:
    return keys["alice"]


@pytest.fixture
def author(tmp_path: Path, alice: Key) -> Author:
    return Author(tmp_path / "author", alice)


@pytest.fixture
def device(tmp_path: Path, alice: Key) -> Device:
    return make_devices(tmp_path, alice, 1)[0]
