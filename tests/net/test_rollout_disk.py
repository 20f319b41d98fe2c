"""A repository that fills the disk: what is said of it, and that it goes on once there is room."""

from pathlib import Path

from tests.net.mounts import run_inside


def test_on_a_disk_that_is_full() -> None:
    run_inside(Path(__file__).with_name("rollout_disk_inside.py"))
