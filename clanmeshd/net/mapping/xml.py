"""Reads the small XML documents of UPnP. Pure.

A document with a DOCTYPE is refused, so that there are neither entities of its own nor anything external; depth,
elements and text are bounded. What is left is a flat list: elements without children, with their texts.
"""

from dataclasses import dataclass
from typing import Final
from xml.parsers import expat

from clanmesh_protocol.errors import LimitError, MalformedError

ELEMENTS_MAX: Final = 2000  # descriptions of routers have 60 to 300
DEPTH_MAX: Final = 32
TEXT_CHARACTERS_MAX: Final = 4096  # of one element


@dataclass(frozen=True, slots=True)
class Leaf:
    """An element without children. `parent` numbers the element around it."""

    parent: int
    name: str  # without a prefix
    text: str


def leaves_untrusted(document: bytes) -> tuple[Leaf, ...]:
    """Read a document. Raises MalformedError or LimitError."""
    builder = _Builder()
    parser = expat.ParserCreate()
    parser.StartDoctypeDeclHandler = _refuse_doctype
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.text
    try:
        parser.Parse(document.strip(b"\0 \t\r\n"), True)
    except (expat.ExpatError, LookupError, UnicodeError, ValueError):
        raise MalformedError("no document of XML") from None
    return tuple(builder.leaves)


def _refuse_doctype(*_: object) -> None:
    raise MalformedError("a document of XML with a DOCTYPE")


class _Builder:
    """The elements that are open, and the leaves that were closed."""

    def __init__(self) -> None:
        self.leaves: list[Leaf] = []
        self._open: list[int] = [0]
        self._count = 0
        self._is_leaf = False
        self._text = ""

    def start(self, name: str, attributes: dict[str, str]) -> None:
        self._count += 1
        if self._count > ELEMENTS_MAX or len(self._open) > DEPTH_MAX:
            raise LimitError("a document of XML with too many elements")
        self._open.append(self._count)
        self._is_leaf, self._text = True, ""

    def text(self, text: str) -> None:
        self._text += text
        if len(self._text) > TEXT_CHARACTERS_MAX:
            raise LimitError("a document of XML with too much text")

    def end(self, name: str) -> None:
        self._open.pop()
        if self._is_leaf:
            self.leaves.append(Leaf(self._open[-1], name.rpartition(":")[2], self._text.strip()))
        self._is_leaf, self._text = False, ""
