"""A daemon with something odd, by its machine's name: a wrong clock (`late`), a version not told (`old`)."""

import socket
import sys
import time

AHEAD_S = 400.0
_true_time = time.time


def _wrong_time() -> float:
    return _true_time() + AHEAD_S


def main() -> int:
    """Run the daemon with what is odd about it."""
    if socket.gethostname() == "late":
        time.time = _wrong_time
    from clanmeshd import reaching
    from clanmeshd.__main__ import main as run

    if socket.gethostname() == "old":
        reaching.DEVICE = "unheard-of"  # type: ignore[misc]
    return run()


if __name__ == "__main__":
    sys.exit(main())
