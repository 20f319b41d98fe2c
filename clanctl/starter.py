"""The files that an empty configuration repository begins with: the least that a rollout needs."""

from pathlib import Path
from typing import Final

CLAN_TOML: Final = """\
# What every device of the clan does with a new commit of this repository.
[rollout]
driver = "command"
build = ["./build"]         # in a clean checkout; fails: nothing is touched
activate = ["./activate"]   # makes the device run this commit
health = ["./health"]       # exit 0 is healthy; anything else brings the last good commit back
health_timeout_s = 30
"""

BUILD: Final = """\
#!/bin/sh
# Prepares this commit on a device, in a checkout of its own. CLAN_NODE is the device's name, CLAN_TAGS its tags,
# CLAN_COMMIT the commit.
set -eu
echo "nothing to build on $CLAN_NODE"
"""

ACTIVATE: Final = """\
#!/bin/sh
# Makes a device run this commit. CLAN_PHASE is `test` when it is tried, `commit` once it proved healthy, and
# `rollback`, called in the last good checkout, when another one did not.
set -eu
echo "$CLAN_NODE: $CLAN_PHASE $CLAN_COMMIT"
"""

HEALTH: Final = """\
#!/bin/sh
# Says by its exit status whether the device is well after `activate`.
set -eu
exit 0
"""

FILES: Final[dict[str, tuple[str, int]]] = {
    "clan.toml": (CLAN_TOML, 0o644),
    "build": (BUILD, 0o755),
    "activate": (ACTIVATE, 0o755),
    "health": (HEALTH, 0o755),
}


def write_starter(directory: Path) -> list[str]:
    """Write the files into a directory that has none but `.git`; gives their names. Raises OSError."""
    if any(entry.name != ".git" for entry in directory.iterdir()):
        return []
    for name, (text, mode) in FILES.items():
        path = directory / name
        path.write_text(text)
        path.chmod(mode)
    return list(FILES)
