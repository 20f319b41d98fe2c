"""How a command ends when it cannot be done: one line, and a status that scripts can tell apart."""

import sys
from typing import Final

EXIT_DONE: Final = 0
EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2
EXIT_UNREACHABLE: Final = 3  # no daemon answers on the control socket; `ping`: the device does not answer
EXIT_UNHEALTHY: Final = 4  # `status`, `doctor`: it answers, and something is wrong
EXIT_INTERRUPTED: Final = 130  # 128 + SIGINT, as shells count
EXIT_PIPE_CLOSED: Final = 141  # 128 + SIGPIPE


class Failure(Exception):
    """What failed, why, and what to do: the line that a person reads.

    `status` is the exit status. `kind` is the daemon's own word for a refusal (`control.Fault`), else empty.
    """

    def __init__(
        self, what: str, why: str, remedy: str = "", *, status: int = EXIT_FAILED, kind: str = ""
    ) -> None:
        super().__init__(what, why, remedy)
        self.what = what
        self.why = why
        self.remedy = remedy
        self.status = status
        self.kind = kind

    def __str__(self) -> str:
        text = f"{self.what}: {self.why}"
        return one_line(f"{text}; {self.remedy}" if self.remedy else text)


def one_line(text: str) -> str:
    """Join lines, and drop what could steer a terminal: the text may come from another machine."""
    return " ".join(printable(text).split())


def printable(text: str) -> str:
    """Drop control characters other than line breaks and tabs, and what cannot be encoded."""
    kept = (character for character in text if character in "\n\t" or character.isprintable())
    return "".join(kept).encode("utf-8", "replace").decode()


def complain(program: str, text: str) -> None:
    """Print one line to stderr, whatever stderr can take."""
    line = f"{program}: {one_line(text)}\n"
    encoding = sys.stderr.encoding or "ascii"
    sys.stderr.write(line.encode(encoding, "replace").decode(encoding))
    sys.stderr.flush()
