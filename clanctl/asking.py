"""What a person is asked at a terminal: whether to go on, and for the recovery key. Programs are never asked."""

import sys
from pathlib import Path
from typing import Final

import click

from clanctl.failures import EXIT_USAGE, Failure

KEY_CHARACTERS_MAX: Final = 4096  # of a file that should hold one recovery key, and white space
_WHAT: Final = "the recovery key"


def confirm(question: str, what: str, *, yes: bool) -> None:
    """Ask at a terminal, unless `yes`. Raises Failure, also where there is nobody to ask."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise Failure(what, "it has to be confirmed, and stdin is no terminal", "give --yes", status=EXIT_USAGE)
    if not click.confirm(question, err=True):
        raise Failure(what, "you did not confirm it", "nothing was changed")


def recovery_key(path: str | None) -> str:
    """Read the recovery key: from a file, from stdin (`-`, or no terminal), or typed, which shows nothing.

    It never comes as an argument: those are seen by every program and kept by the shell. Raises Failure.
    """
    if path is not None and path != "-":
        spelled = _of_file(Path(path))
    elif path is None and sys.stdin.isatty():
        spelled = str(click.prompt("recovery key (it does not show)", hide_input=True, err=True))
    else:
        spelled = sys.stdin.read(KEY_CHARACTERS_MAX)
    _check(spelled)
    return spelled.strip()


def _of_file(path: Path) -> str:
    try:
        with path.open() as opened:
            return opened.read(KEY_CHARACTERS_MAX)
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else "it is no text"
        raise Failure("--key", f"{path}: {why}", "name a file that you can read") from error


def _why(spelled: str, error: str) -> str:
    from clanmesh_protocol.tokens import RECOVERY_PREFIX

    if not spelled.strip().lower().startswith(RECOVERY_PREFIX):
        return f"one begins with {RECOVERY_PREFIX}1"
    return error.replace("the token", "it", 1)


def _check(spelled: str) -> None:
    """Find a wrong letter before anybody is asked. Raises Failure."""
    from clanmesh_protocol.errors import ProtocolError, VersionError
    from clanmesh_protocol.tokens import decode_recovery_untrusted

    if not spelled.strip():
        raise Failure(_WHAT, "it is empty", "type it as it stands on the paper", status=EXIT_USAGE)
    try:
        decode_recovery_untrusted(spelled)
    except VersionError as error:
        raise Failure(_WHAT, "it is of a later version of clanmesh", "update clanmesh on this device") from error
    except ProtocolError as error:
        raise Failure(
            _WHAT, _why(spelled, str(error)), "type it again, letter by letter, as it stands on the paper"
        ) from error
