"""Where output goes: a terminal gets colours and a spinner, a pipe gets text, a script gets JSON."""

import base64
import json
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from clanctl.client import Progress
from clanctl.failures import printable
from clanctl.sheets import Sheet, drawn, fitted, plain

if TYPE_CHECKING:
    from rich.console import Console

WIDTH_DEFAULT: Final = 80  # where the terminal does not say
WIDTH_PIPE: Final = 1_000_000  # nothing is left out or cut for a program


def is_terminal() -> bool:
    """Whether stdout is looked at by a person."""
    return sys.stdout.isatty()


def asks() -> bool:
    """Whether there is a person who can answer."""
    return sys.stdin.isatty()


def notice(text: str) -> None:
    """Tell a person something beside the answer."""
    print(printable(text), file=sys.stderr, end="" if text.endswith("\n") else "\n", flush=True)


def width() -> int:
    """How many characters a line may have."""
    return shutil.get_terminal_size((WIDTH_DEFAULT, 24)).columns if is_terminal() else WIDTH_PIPE


def as_json(value: Any, *, compact: bool = False) -> None:
    """Print a result as it came; bytes, for which JSON has no form, in base64."""
    print(json.dumps(value, ensure_ascii=False, indent=None if compact else 2, default=_bytes), flush=compact)


def _bytes(value: object) -> str:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    raise TypeError(f"{type(value).__name__} has no place in an answer")


def answer(value: Any, text: str | Callable[[Any], str], *, in_json: bool) -> None:
    """Print a result as it came, or in words: those given, or those made of it."""
    if in_json:
        as_json(value)
    else:
        lines(text if isinstance(text, str) else text(value))


def lines(text: str) -> None:
    """Print text of any origin, cleaned of what could steer a terminal."""
    cleaned = printable(text) if is_terminal() else text
    print(cleaned, end="" if cleaned.endswith("\n") or not cleaned else "\n")


def table(value: Sheet) -> None:
    """Print a table in the form that suits stdout."""
    if not is_terminal():
        print(plain(value), end="")
        return
    console().print(drawn(fitted(value, width())))


def code(text: str) -> None:
    """Draw a text as a QR code, or say why not."""
    from clanctl.qr import drawing, squares

    picture = drawing(squares(text), width())
    if "utf" not in (sys.stdout.encoding or "").lower():
        print("(no QR code: this terminal has no block characters)\n")
    elif picture is None:
        print("(no QR code: it is wider than this terminal)\n")
    else:
        print(picture)


def recovery_key(key: str, clan: str, *, qr: bool | None, proposed: bool = False) -> None:
    """Show a recovery key, this one time. `proposed`: it is not in force yet."""
    from clanctl.paper import paper

    lines(paper(key, clan, proposed=proposed))
    if is_terminal() if qr is None else qr:
        lines("\nThe same key, for a printer or for a device without a network:\n")
        code(key)


def console() -> "Console":
    """Rich's view of stdout."""
    from rich.console import Console

    return Console(highlight=False, markup=False, emoji=False)


@contextmanager
def progress(first: str = "") -> Iterator[Progress]:
    """Tell a person on stderr what is being waited for: by a spinner on a terminal, else line by line."""
    if not sys.stderr.isatty():
        yield lambda text: print(printable(text), file=sys.stderr, flush=True)
        return
    from rich.console import Console
    from rich.text import Text

    encoding = (sys.stderr.encoding or "").lower().replace("-", "")
    with Console(stderr=True).status(Text(first), spinner="dots" if encoding == "utf8" else "line") as status:
        yield lambda text: status.update(Text(printable(text)))
