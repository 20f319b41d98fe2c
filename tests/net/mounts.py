"""Tests that mount something: pytest starts itself again within a mount namespace of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from clanmeshd.secrets import placement


def run_inside(path: Path) -> None:
    """Run all tests of a file there."""
    if os.geteuid() != 0 or not placement._is_mapped(1, "uid_map"):
        pytest.skip("needs root: it mounts a tmpfs in a mount namespace of its own, and gives files to others")
    finished = subprocess.run(
        ["unshare", "-m", sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", path],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert finished.returncode == 0, finished.stdout[-6000:] + finished.stderr[-2000:]
    assert " passed" in finished.stdout
