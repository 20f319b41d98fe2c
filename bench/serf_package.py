"""Debian's `serf`: the machine's own, or unpacked from the package into a folder of this checkout."""

import shutil
import sys
from pathlib import Path
from typing import Final

from tools import debian
from tools.console import Impossible

PACKAGE: Final = "serf"
CACHE: Final = Path(__file__).resolve().parent.parent / ".cache" / "serf"
UNPACKED: Final = CACHE / "root"


def find() -> Path | None:
    """The program, if it is here."""
    found = shutil.which("serf") or shutil.which("serf", path=str(UNPACKED / "usr/bin"))
    return Path(found) if found is not None else None


def fetch() -> Path:
    """The program; unpacked from its package where it is missing. Ends this process when it cannot be had."""
    found = find()
    if found is None:
        CACHE.mkdir(parents=True, exist_ok=True)
        try:
            debian.unpack([PACKAGE], UNPACKED, CACHE)
        except (Impossible, OSError) as error:
            sys.exit(f"bench.gossip_vs_serf: nothing to compare with: {error}")
        found = find()
    if found is None:
        sys.exit(f"bench.gossip_vs_serf: nothing to compare with: the package {PACKAGE} has no such program")
    return found
