"""Damage to messages: what is flipped, cut, repeated, spliced. Each is a value, so that it can be shown."""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from random import Random
from typing import Any, Final

from hypothesis import strategies as st

from clanmesh_protocol.encoding import decode_untrusted, encode
from clanmesh_protocol.errors import ProtocolError

KINDS: Final = ("flip", "set", "number", "cut", "drop", "repeat", "insert", "splice")
BYTES: Final = bytes.fromhex(
    "00 01 06 07 0f 10 1f 20 3f 40 7f 80 90 91 9f a0 bf c0 c2 c4 c6 ca cf d9 db dc dd de df ff"
)
NUMBERS: Final = (b"\0\0", b"\0\1", b"\xff\xff", b"\x7f\xff\xff\xff", b"\xff" * 4, b"\x80" + bytes(7), b"\xff" * 8)
REPEATS_MAX: Final = 64
DAMAGED_BYTES_MAX: Final = 70_000  # a little over the largest record: limits have two sides


@dataclass(frozen=True, slots=True)
class Mutation:
    """One damage. `at` and `size` are taken modulo what fits."""

    kind: str
    at: int
    size: int
    data: bytes = b""

    def apply(self, message: bytes, other: bytes) -> bytes:
        """Damage a message; `other` is one to splice it with."""
        at = self.at % (len(message) + 1)
        size = self.size % 64 + 1
        before, behind = message[:at], message[at:]
        match self.kind:
            case "flip":
                return before + bytes([behind[0] ^ 1 << self.size % 8]) + behind[1:] if behind else message
            case "set":
                return before + BYTES[self.size % len(BYTES) :][:1] + behind[1:]
            case "number":
                number = NUMBERS[self.size % len(NUMBERS)]
                return before + number + behind[len(number) :]
            case "cut":
                return before
            case "drop":
                return before + behind[size:]
            case "repeat":
                return before + behind[:size] * (self.size % REPEATS_MAX) + behind[size:]
            case "insert":
                return before + self.data + behind
            case _:
                return before + other[self.size % (len(other) + 1) :]


def damage(message: bytes, other: bytes, mutations: Sequence[Mutation]) -> bytes:
    """Damage a message several times."""
    for mutation in mutations:
        message = mutation.apply(message, other)[:DAMAGED_BYTES_MAX]
    return message


_PLACE: Final = st.one_of(st.integers(0, 127), st.integers(0, DAMAGED_BYTES_MAX))
MUTATIONS: Final = st.lists(
    st.builds(Mutation, st.sampled_from(KINDS), _PLACE, _PLACE, st.binary(max_size=8)), min_size=1, max_size=4
)


def roll(dice: Random) -> list[Mutation]:
    """Mutations by dice, where there is no hypothesis about."""
    return [
        Mutation(
            dice.choice(KINDS),
            dice.randrange(dice.choice((128, DAMAGED_BYTES_MAX))),
            dice.randrange(DAMAGED_BYTES_MAX),
            dice.randbytes(dice.randrange(9)),
        )
        for _ in range(dice.randint(1, 4))
    ]


# --- damage that leaves the encoding sound ------------------------------------------------------------------

_VALUES: Final[tuple[Any, ...]] = (
    None,
    True,
    -1,
    0,
    1,
    255,
    2**32,
    2**64 - 1,
    b"",
    bytes(32),
    b"\xff" * 32,
    "",
    "x",
    "\u202e",
    [],
    [[]],
)


def rearrange(body: bytes, mutations: Sequence[Mutation]) -> bytes:
    """Damage fields of a record's body, or of its payload, and pack them again; as it was if it is not sound."""
    values = _unpacked(body)
    if values is None:
        return body
    for mutation in mutations:
        inner = _unpacked(values[-1]) if values and isinstance(values[-1], bytes) and mutation.size % 8 else None
        if inner is None:
            _damage_one(values, mutation)
        else:
            _damage_one(inner, mutation)
            values[-1] = encode(inner)
    return encode(values)[:DAMAGED_BYTES_MAX]


def _unpacked(data: bytes) -> list[Any] | None:
    try:
        return decode_untrusted(data, bytes_max=DAMAGED_BYTES_MAX)
    except ProtocolError:
        return None


def _damage_one(values: list[Any], mutation: Mutation) -> None:
    """Change one value of an array, or of an array within it. What is put in is a copy: nothing is in itself."""
    fresh = deepcopy(_VALUES[mutation.size % len(_VALUES)])
    if not values:
        values.append(fresh)
        return
    at = mutation.at % len(values)
    if isinstance(values[at], list) and mutation.size % 4:
        _damage_one(values[at], Mutation(mutation.kind, mutation.at // len(values), mutation.size // 4))
    elif mutation.kind in ("cut", "drop"):
        del values[at]
    elif mutation.kind in ("repeat", "insert"):
        values[at:at] = [deepcopy(values[at]) for _ in range(mutation.size % REPEATS_MAX)]
    elif mutation.kind == "splice":
        values[at] = deepcopy(values[mutation.size % len(values)])
    else:
        values[at] = fresh
