"""The placement process: how fast it starts, what it needs, and what it does on a real tmpfs.

The last needs mounts: see `placement_inside`.
"""

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
