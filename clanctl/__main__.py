"""`clanctl`: nothing but the guard is imported before it stands, so that even an early Ctrl-C ends quietly."""

import sys

from clanctl.guard import guarded


def main() -> int:
    """Run one command. Gives the exit status: 0 done, 1 failed, 2 usage, 3 no daemon, 4 unhealthy."""
    return guarded("clanctl", _run)


def _run() -> int:
    from clanctl.cli import run

    return run(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
