"""A table as plain values, and its two forms: columns of text for pipes, rich for terminals.

What does not fit gives way column by column, the least important first; only then are texts cut. Colour only
repeats what a word says already.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, TypeAlias

from clanctl.failures import printable

if TYPE_CHECKING:
    from rich.table import Table

Tone: TypeAlias = Literal["plain", "good", "warn", "bad", "faint"]

GAP: Final = 2  # blanks between columns
CUT_WIDTH_MIN: Final = 8  # of the first column when all else has given way

# Blue, yellow and bold magenta stay apart in every common colour blindness; green and red do not.
STYLES: Final[dict[Tone, str]] = {
    "plain": "",
    "good": "bright_blue",
    "warn": "yellow",
    "bad": "bold bright_magenta",
    "faint": "dim",
}


class Cell(NamedTuple):
    """One field of a table."""

    text: str
    tone: Tone = "plain"


@dataclass(frozen=True, slots=True)
class Column:
    """`rank` 0 always stays; of the others the highest is left out first where the width is short."""

    title: str
    rank: int = 0
    right: bool = False


@dataclass(frozen=True, slots=True)
class Sheet:
    """Rows of one cell for each column."""

    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]

    def widths(self) -> list[int]:
        """What each column needs, in characters."""
        return [
            max([len(column.title), *(len(row[at].text) for row in self.rows)])
            for at, column in enumerate(self.columns)
        ]


def sheet(columns: Sequence[Column], rows: Sequence[Sequence[Cell | str]]) -> Sheet:
    """Make a table; texts are cleaned of control characters."""
    return Sheet(tuple(columns), tuple(tuple(_clean(value) for value in row) for row in rows))


def _clean(value: Cell | str) -> Cell:
    cell = value if isinstance(value, Cell) else Cell(value)
    return Cell(" ".join(printable(cell.text).split()), cell.tone)


def fitted(table: Sheet, width: int) -> Sheet:
    """Leave out what `width` characters have no room for, then cut the widest texts."""
    while sum(table.widths()) + GAP * (len(table.columns) - 1) > width:
        ranks = [column.rank for column in table.columns]
        if max(ranks) == 0:
            return _cut(table, width)
        table = _without(table, ranks.index(max(ranks)))
    return table


def _without(table: Sheet, at: int) -> Sheet:
    return Sheet(
        table.columns[:at] + table.columns[at + 1 :], tuple(row[:at] + row[at + 1 :] for row in table.rows)
    )


def _cut(table: Sheet, width: int) -> Sheet:
    """Shorten the widest column as far as needed, then the next one."""
    widths = table.widths()
    room = max(width - GAP * (len(widths) - 1), CUT_WIDTH_MIN)
    while sum(widths) > room and max(widths) > 1:
        widths[widths.index(max(widths))] -= 1
    columns = tuple(
        Column(shortened(column.title, widths[at]), column.rank, column.right)
        for at, column in enumerate(table.columns)
    )
    rows = tuple(
        tuple(Cell(shortened(cell.text, widths[at]), cell.tone) for at, cell in enumerate(row))
        for row in table.rows
    )
    return Sheet(columns, rows)


def shortened(text: str, width: int) -> str:
    """Cut a text to `width` characters, the last of which says so."""
    return text if len(text) <= width else text[: max(width - 1, 0)] + "…"


def plain(table: Sheet) -> str:
    """Draw as text, every line ended."""
    widths = table.widths()
    lines = [_line([column.title for column in table.columns], table, widths)]
    lines += [_line([cell.text for cell in row], table, widths) for row in table.rows]
    return "".join(line + "\n" for line in lines)


def _line(texts: Sequence[str], table: Sheet, widths: Sequence[int]) -> str:
    padded = (
        text.rjust(width) if column.right else text.ljust(width)
        for text, column, width in zip(texts, table.columns, widths, strict=True)
    )
    return (" " * GAP).join(padded).rstrip()


def drawn(table: Sheet) -> "Table":
    """Draw by rich."""
    from rich.table import Table
    from rich.text import Text

    picture = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="bold")
    for column in table.columns:
        picture.add_column(column.title, no_wrap=True, justify="right" if column.right else "left")
    for row in table.rows:
        picture.add_row(*(Text(cell.text, style=STYLES[cell.tone]) for cell in row))
    return picture
