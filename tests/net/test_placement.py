"""The placement process: how fast it starts, what it needs, and what it does on a real tmpfs.

The last needs mounts: see `placement_inside`.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

from clanmeshd.secrets import placement
from tests.net.mounts import run_inside

START_MS_MAX = 80  # what one run may cost before it does any work
PROGRAM = [sys.executable, "-I", "-S", placement.__file__]


def test_on_a_real_tmpfs() -> None:
    run_inside(Path(__file__).with_name("placement_inside.py"))


def test_the_process_starts_in_no_time() -> None:
    """Of the processors' time: how long it waits for them is not its doing. It waits for nothing else."""

    def start_ms() -> tuple[float, float]:
        begun_s, before = time.monotonic(), os.times()
        subprocess.run(PROGRAM, input=b"{}", capture_output=True, check=False, timeout=60)
        passed_s, after = time.monotonic() - begun_s, os.times()
        used_s = after.children_user + after.children_system - before.children_user - before.children_system
        return used_s * 1000, passed_s * 1000

    used_ms, passed_ms = map(min, zip(*(start_ms() for _ in range(5)), strict=True))
    assert used_ms <= START_MS_MAX, f"{used_ms:.0f} ms"
    assert passed_ms <= 10 * START_MS_MAX, f"{passed_ms:.0f} ms"


def test_the_process_needs_the_standard_library_alone() -> None:
    look = f"import runpy, sys; runpy.run_path({placement.__file__!r}); print(chr(10).join(sys.modules))"
    report = subprocess.run(
        [sys.executable, "-I", "-S", "-c", look], capture_output=True, text=True, check=True, timeout=10
    )
    names = {name.partition(".")[0] for name in report.stdout.split()}
    assert names - set(sys.stdlib_module_names) <= {"__main__", "__mp_main__"}
