"""The placement process: how fast it starts, what it needs, and what it does on a real tmpfs.

The last needs mounts. So pytest starts itself again within `unshare -m`, once for the whole of `placement_inside`.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from clanmeshd.secrets import placement

START_MS_MAX = 80  # what one run may cost before it does any work
PROGRAM = [sys.executable, "-I", "-S", placement.__file__]
INSIDE = Path(__file__).with_name("placement_inside.py")


def test_on_a_real_tmpfs() -> None:
    if os.geteuid() != 0 or not placement._is_mapped(1, "uid_map"):
        pytest.skip("needs root: it mounts a tmpfs in a mount namespace of its own, and gives files to others")
    finished = subprocess.run(
        ["unshare", "-m", sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", INSIDE],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert finished.returncode == 0, finished.stdout[-6000:] + finished.stderr[-2000:]
    assert " passed" in finished.stdout


def test_the_process_starts_in_no_time() -> None:
    def start_ms() -> float:
        begin = time.monotonic()
        subprocess.run(PROGRAM, input=b"{}", capture_output=True, check=False, timeout=10)
        return (time.monotonic() - begin) * 1000

    best = min(start_ms() for _ in range(5))
    assert best <= START_MS_MAX, f"{best:.0f} ms"


def test_the_process_needs_the_standard_library_alone() -> None:
    look = f"import runpy, sys; runpy.run_path({placement.__file__!r}); print(chr(10).join(sys.modules))"
    report = subprocess.run(
        [sys.executable, "-I", "-S", "-c", look], capture_output=True, text=True, check=True, timeout=10
    )
    names = {name.partition(".")[0] for name in report.stdout.split()}
    assert names - set(sys.stdlib_module_names) <= {"__main__", "__mp_main__"}
