"""A repository that fills the disk: what is said of it, and that it goes on once there is room.

That needs a disk which is full. So pytest starts itself again within `unshare -m`, for `rollout_disk_inside`.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from clanmeshd.secrets import placement

INSIDE = Path(__file__).with_name("rollout_disk_inside.py")


def test_on_a_disk_that_is_full() -> None:
    if os.geteuid() != 0 or not placement._is_mapped(1, "uid_map"):
        pytest.skip("needs root: it mounts a tmpfs in a mount namespace of its own")
    finished = subprocess.run(
        ["unshare", "-m", sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", INSIDE],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert finished.returncode == 0, finished.stdout[-6000:] + finished.stderr[-2000:]
    assert " passed" in finished.stdout
