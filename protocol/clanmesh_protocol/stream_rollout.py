"""Stream frames of the rollout: packs of commits (purpose `pack`), and what was tried at a device (`rollout`).

Their order is the README's; `streams` knows them with all others.
"""

from dataclasses import dataclass
from typing import ClassVar, Self

from clanmesh_protocol.encoding import Fields
from clanmesh_protocol.errors import MalformedError
from clanmesh_protocol.limits import ASK_BYTES_MAX, PACK_COMMITS_MAX, TRIED_STATE_BYTES_MAX, TRIED_WHY_BYTES_MAX
from clanmesh_protocol.names import check_commit_untrusted, check_label_untrusted

HASH_BYTES_MAX = 32  # of git's two kinds of names


@dataclass(frozen=True, slots=True)
class WantPack:
    """The commits that lead to one, as a git pack; from an offset, where a part of that very pack has come."""

    TYPE: ClassVar[int] = 12
    commit: bytes
    haves: tuple[bytes, ...]  # commits that the client has, with all behind them
    pack: bytes | None = None  # the name of the pack that a part of is here
    offset: int = 0  # bytes of it that are here

    def fields(self) -> list[object]:
        """The frame as an array."""
        return [self.commit, list(self.haves), self.pack, self.offset]

    @classmethod
    def read_untrusted(cls, fields: Fields) -> Self:
        """Read the frame."""
        commit, haves = _name(fields, "commit"), _names(fields, "haves")
        pack = fields.blob_or_nil("pack", at_most=HASH_BYTES_MAX)
        if pack is not None:
            check_commit_untrusted(pack, "pack")
        offset = fields.uint("offset")
        if pack is None and offset:
            raise MalformedError("an offset into no pack")
        return cls(commit, haves, pack, offset)


@dataclass(frozen=True, slots=True)
class Pack:
    """What follows: a pack's bytes from an offset to its end."""

    TYPE: ClassVar[int] = 13
    name: bytes  # the pack's own checksum, which are its last bytes
    base: tuple[bytes, ...]  # commits that it builds upon, all of them among the client's
    size: int  # bytes, from the pack's beginning
    offset: int  # 0, or what the client asked for

    def fields(self) -> list[object]:
        """The frame as an array."""
        return [self.name, list(self.base), self.size, self.offset]

    @classmethod
    def read_untrusted(cls, fields: Fields) -> Self:
        """Read the frame."""
        name, base = _name(fields, "name"), _names(fields, "base")
        size, offset = fields.uint("size"), fields.uint("offset")
        if offset > size:
            raise MalformedError("a pack's rest that begins behind its end")
        return cls(name, base, size, offset)


@dataclass(frozen=True, slots=True)
class Ask:
    """A question about the rollout at a device: `history`, or the `log` of a commit (nil: of the newest)."""

    TYPE: ClassVar[int] = 14
    what: str
    commit: bytes | None = None

    def fields(self) -> list[object]:
        """The frame as an array."""
        return [self.what, self.commit]

    @classmethod
    def read_untrusted(cls, fields: Fields) -> Self:
        """Read the frame."""
        what = check_label_untrusted(fields.text("what", ASK_BYTES_MAX), "what", ASK_BYTES_MAX)
        commit = fields.blob_or_nil("commit", at_most=HASH_BYTES_MAX)
        return cls(what, check_commit_untrusted(commit, "commit") if commit is not None else None)


@dataclass(frozen=True, slots=True)
class Tried:
    """A revision that a device tried, and how that ended."""

    TYPE: ClassVar[int] = 15
    commit: bytes
    state: str  # a label: `current`, `rolled-back`, `failed`, …
    why: str  # for people; empty where all went well
    at_unix_s: int
    took_ms: int

    def fields(self) -> list[object]:
        """The frame as an array."""
        return [self.commit, self.state, self.why, self.at_unix_s, self.took_ms]

    @classmethod
    def read_untrusted(cls, fields: Fields) -> Self:
        """Read the frame."""
        commit = _name(fields, "commit")
        state = fields.text("state", TRIED_STATE_BYTES_MAX)
        check_label_untrusted(state, "state", TRIED_STATE_BYTES_MAX)
        why = fields.text("why", TRIED_WHY_BYTES_MAX)
        return cls(commit, state, why, fields.uint("at"), fields.uint("took"))


def _name(fields: Fields, what: str) -> bytes:
    return check_commit_untrusted(fields.blob(what, at_most=HASH_BYTES_MAX), what)


def _names(fields: Fields, what: str) -> tuple[bytes, ...]:
    values = fields.array(what, PACK_COMMITS_MAX)
    inner = Fields(values, what)
    return tuple(_name(inner, what) for _ in values)
