"""The form of a vector file: `key: value` lines, an empty line, hex in lines of 64.

`expect`, `layer` and `comment` are always there; other keys are what the layer needs, or what it must derive.
`fill` appends that many zero bytes to the hex, for inputs that are refused for their size.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

EXPECTATIONS = frozenset(
    {
        "ok",
        "malformed",
        "limit",
        "version",
        "signature",
        "stale",
        "unauthorized",
        "expired",
        "seal",
        "replayed",
        "unknown-sender",
        "unknown-prekey",
        "unknown-invite",
        "used",
        "name-taken",
        "revoked",
    }
)
_HEX_PER_LINE = 64
_LENGTH_BYTES = 4


@dataclass(frozen=True)
class Vector:
    """One case. `data` is the input of the layer, `parameters` are its keys beside the three fixed ones."""

    name: str  # `<layer>/<case>`: its path without `.txt`
    expect: str
    comment: str
    data: bytes
    parameters: dict[str, str] = field(default_factory=dict)
    fill: int = 0

    @property
    def layer(self) -> str:
        """Which layer must give the expected verdict."""
        return self.name.partition("/")[0]

    @property
    def input(self) -> bytes:
        """The bytes that the layer is given."""
        return self.data + bytes(self.fill)

    def bytes_of(self, key: str) -> bytes:
        """A parameter as bytes."""
        return bytes.fromhex(self.parameters[key])


def framed(parts: Iterable[bytes]) -> bytes:
    """Records, and whatever follows them, as the input of a layer that takes several: each behind its length."""
    return b"".join(len(part).to_bytes(_LENGTH_BYTES, "big") + part for part in parts)


def unframed(data: bytes) -> list[bytes]:
    """Cut such an input apart."""
    parts = []
    while data:
        size = int.from_bytes(data[:_LENGTH_BYTES], "big")
        parts.append(data[_LENGTH_BYTES : _LENGTH_BYTES + size])
        data = data[_LENGTH_BYTES + size :]
    return parts


def write(vector: Vector) -> str:
    """Give the text of a vector's file."""
    lines = [f"expect: {vector.expect}", f"layer: {vector.layer}", f"comment: {vector.comment}"]
    lines += [f"{key}: {value}" for key, value in vector.parameters.items()]
    if vector.fill:
        lines.append(f"fill: {vector.fill}")
    digits = vector.data.hex()
    lines.append("")
    lines += [digits[at : at + _HEX_PER_LINE] for at in range(0, len(digits), _HEX_PER_LINE)]
    return "\n".join(lines) + "\n"


def read(name: str, text: str) -> Vector:
    """Read a vector's file. Raises ValueError for one that is not understood."""
    head, separator, digits = text.partition("\n\n")
    if not separator:
        head, digits = text.rstrip("\n"), ""
    values: dict[str, str] = {}
    for line in head.split("\n"):
        key, colon, value = line.partition(": ")
        if not colon or not key or key in values:
            raise ValueError(f"{name}: {line!r} is not understood")
        values[key] = value
    fill = int(values.pop("fill", "0"))
    vector = Vector(
        name=name,
        expect=values.pop("expect"),
        comment=values.pop("comment"),
        data=bytes.fromhex(digits),
        parameters={key: value for key, value in values.items() if key != "layer"},
        fill=fill,
    )
    if vector.expect not in EXPECTATIONS or values["layer"] != vector.layer:
        raise ValueError(f"{name}: unknown expectation, or in another layer's folder")
    return vector


def read_folder(folder: Path) -> list[Vector]:
    """Read all vectors below a folder, in the order of their names."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return [read(path.relative_to(folder).with_suffix("").as_posix(), path.read_text()) for path in paths]
