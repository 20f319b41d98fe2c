"""The header of a git bundle: which commits it builds upon, and where its pack begins."""

import re
from dataclasses import dataclass, field
from typing import Final

from clanmesh_protocol.control import Fault

HEADER_BYTES_MAX: Final = 262_144  # 4096 prerequisites with a subject line each
_SIGNATURES: Final = (b"# v2 git bundle", b"# v3 git bundle")
_PREREQUISITE: Final = re.compile(rb"-([0-9a-f]{40})( .*)?")
_REFERENCE: Final = re.compile(rb"([0-9a-f]{40}) \S+")


@dataclass(slots=True)
class BundleReader:
    """Takes a bundle's bytes as they come; gives those of its pack back, and keeps what the header says."""

    prerequisites: list[bytes] = field(default_factory=list)
    _buffer: bytearray = field(default_factory=bytearray)
    _lines: int = 0
    _in_pack: bool = False

    def feed_untrusted(self, data: bytes) -> bytes:
        """Take some bytes; give those that belong to the pack. Raises Fault."""
        if self._in_pack:
            return data
        self._buffer += data
        while not self._in_pack:
            line, newline, rest = self._buffer.partition(b"\n")
            if len(line) > HEADER_BYTES_MAX or (not newline and len(self._buffer) > HEADER_BYTES_MAX):
                raise _refused("its header is too long")
            if not newline:
                return b""
            self._buffer = bytearray(rest)
            self._take(bytes(line))
        pack, self._buffer = bytes(self._buffer), bytearray()
        return pack

    @property
    def begun(self) -> bool:
        """The header is complete."""
        return self._in_pack

    def _take(self, line: bytes) -> None:
        self._lines += 1
        if self._lines == 1:
            if line not in _SIGNATURES:
                raise _refused("it does not begin as a git bundle does")
        elif not line:
            self._in_pack = True
        elif match := _PREREQUISITE.fullmatch(line):
            self.prerequisites.append(bytes.fromhex(match[1].decode()))
            if len(self.prerequisites) > HEADER_BYTES_MAX // 41:
                raise _refused("it builds upon too many commits")
        elif line.startswith(b"@"):
            if line != b"@object-format=sha1":
                raise _refused(f"it asks for {line[1:].decode(errors='replace')}, which is not supported")
        elif not _REFERENCE.fullmatch(line):
            raise _refused("its header has a line that means nothing")


def _refused(why: str) -> Fault:
    return Fault("refused", "the push", f"the bundle is damaged: {why}", "update clanctl and push again")
