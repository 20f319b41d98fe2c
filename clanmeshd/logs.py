"""Where the log goes: to the journal with its fields where systemd-python is installed, else to stderr.

A line on stderr that the journal reads begins with its priority in angle brackets (sd-daemon(3)), so that
`journalctl -p warning` works without any library too.
"""

import logging
import os
import sys
from typing import Final

_PRIORITIES: Final = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}
_IDENTIFIER: Final = "clanmeshd"


def start_logging() -> None:
    """Set the root logger up, once. CLANMESH_LOG names the lowest level that is shown (INFO)."""
    level = os.environ.get("CLANMESH_LOG", "INFO").upper()
    known = level if level in logging.getLevelNamesMapping() else "INFO"
    logging.basicConfig(level=known, handlers=[_handler()])
    # Its libraries' chatter about their own inner life is for their developers.
    logging.getLogger("asyncio").setLevel(logging.WARNING)


def _handler() -> logging.Handler:
    if "JOURNAL_STREAM" in os.environ:
        return _journal_handler()
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    return handler


def _journal_handler() -> logging.Handler:
    try:
        from systemd.journal import JournalHandler
    except ImportError:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(_Prefixed("%(name)s: %(message)s"))
        return handler
    journal: logging.Handler = JournalHandler(SYSLOG_IDENTIFIER=_IDENTIFIER)
    journal.setFormatter(logging.Formatter("%(name)s: %(message)s"))
    return journal


class _Prefixed(logging.Formatter):
    """Puts `<priority>` before each line of a message."""

    def format(self, record: logging.LogRecord) -> str:
        """Format as the base class does, line by line with the priority."""
        prefix = f"<{_PRIORITIES.get(record.levelno, 6)}>"
        return "\n".join(prefix + line for line in super().format(record).splitlines())
