"""The containers of the systemd tier, and what it takes to have them."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.systemd.container import Container, folder_of_wheels

_PROGRAMS = {"systemd-nspawn": "systemd-container", "nsenter": "util-linux", "make": "make"}


def _missing() -> str:
    if os.geteuid() != 0:
        return "containers with a real systemd are for root"
    lacking = [package for program, package in _PROGRAMS.items() if shutil.which(program) is None]
    return f"the systemd tier needs: apt install {' '.join(lacking)}" if lacking else ""


@pytest.fixture(scope="session")
def wheels() -> Path:
    """A folder with all packages that an installation needs: containers have no network."""
    if _missing():
        pytest.skip(_missing())
    return folder_of_wheels()


@pytest.fixture(scope="module")
def boot(wheels: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Container]]:
    """Boots containers; they end with the module."""
    running: list[Container] = []

    def start(*, has_tunnels: bool = False) -> Container:
        running.append(Container(tmp_path_factory.mktemp("container"), wheels, has_tunnels=has_tunnels))
        return running[-1]

    yield start
    for container in running:
        container.end()
