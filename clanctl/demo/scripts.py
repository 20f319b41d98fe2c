"""The configuration that the demonstration pushes: a greeting, and executables that leave traces."""

from pathlib import Path
from typing import Final

TRACES: Final = "/run/clanmesh-demo"  # each machine's own
MARKER: Final = f"{TRACES}/greeting"  # what runs now
PHASES: Final = f"{TRACES}/phases"  # what was tried, one line for each activation
BUILD_TIMES: Final = f"{TRACES}/build"  # begin and end of each build, Unix seconds

GOOD: Final = "good-morning"
BAD: Final = "broken"

CLAN_TOML: Final = """\
[rollout]
driver = "command"
build = ["./build"]
activate = ["./activate"]
health = ["./health"]
health_timeout_s = 10
"""

BUILD: Final = f"""\
#!/bin/sh
set -eu
mkdir -p {TRACES}
date +%s.%N >> {BUILD_TIMES}
test -s greeting
date +%s.%N >> {BUILD_TIMES}
"""

ACTIVATE: Final = f"""\
#!/bin/sh
set -eu
echo "$CLAN_PHASE $(cat greeting)" >> {PHASES}
cp greeting {MARKER}
"""

HEALTH: Final = f"""\
#!/bin/sh
set -eu
! grep -q {BAD} {MARKER}
"""

EXECUTABLES: Final = {"build": BUILD, "activate": ACTIVATE, "health": HEALTH}


def write(directory: Path, greeting: str) -> None:
    """Write the whole configuration with a greeting. Raises OSError."""
    (directory / "clan.toml").write_text(CLAN_TOML)
    (directory / "greeting").write_text(f"{greeting}\n")
    for name, text in EXECUTABLES.items():
        (directory / name).write_text(text)
        (directory / name).chmod(0o755)
