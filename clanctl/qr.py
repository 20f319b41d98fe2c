"""A QR code in characters: two rows of squares in each line, by half blocks. Pure but for the library."""

from collections.abc import Sequence
from typing import Final

QUIET_SQUARES: Final = 4  # of light around the code, as the standard asks for
QUIET_SQUARES_NARROW: Final = 2  # scanners take this too, where the terminal is narrow

_HALVES: Final = {(False, False): "█", (False, True): "▀", (True, False): "▄", (True, True): " "}
_BLACK_ON_WHITE: Final = "\x1b[38;5;231;48;5;16m"  # the light squares are what is drawn
_RESET: Final = "\x1b[0m"

Squares = Sequence[Sequence[bool]]


def squares(text: str) -> list[list[bool]]:
    """Make the code of a text, True where it is dark, without a margin.

    A token means the same in capitals, and capitals take a code a third smaller.
    """
    import segno

    code = segno.make_qr(text.upper(), error="l", boost_error=False)
    return [[bool(square) for square in row] for row in code.matrix]


def drawing(code: Squares, width: int) -> str | None:
    """Draw a code in lines of at most `width` characters; None where it does not fit.

    Light squares are drawn and dark ones left out, with both colours named, so that it can be scanned from
    dark and from light terminals.
    """
    for quiet in (QUIET_SQUARES, QUIET_SQUARES_NARROW):
        if len(code) + 2 * quiet <= width:
            lines = half_blocks(with_margin(code, quiet))
            return "".join(f"{_BLACK_ON_WHITE}{line}{_RESET}\n" for line in lines)
    return None


def with_margin(code: Squares, quiet: int) -> list[list[bool]]:
    """Put light squares around."""
    side = len(code) + 2 * quiet
    empty = [[False] * side for _ in range(quiet)]
    return [*empty, *([False] * quiet + list(row) + [False] * quiet for row in code), *empty]


def half_blocks(code: Squares) -> list[str]:
    """Put each two rows into one line of characters."""
    rows = [*code, [False] * len(code[0])] if len(code) % 2 else list(code)
    return [
        "".join(_HALVES[upper, lower] for upper, lower in zip(rows[at], rows[at + 1], strict=True))
        for at in range(0, len(rows), 2)
    ]
