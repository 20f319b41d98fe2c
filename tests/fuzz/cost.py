"""What the readers cost, in time and memory for each byte, of inputs that are made to be dear.

`python -m tests.fuzz.cost` prints the dearest of each reader, the worst first.
"""

import gc
import time
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Final

from clanmesh_protocol.encoding import encode
from clanmesh_protocol.limits import RECORD_BYTES_MAX
from clanmeshd.store import ENTRY_MARKER
from tests.fuzz.readers import READERS, Reader
from tests.vectors import bech32

REPEATS: Final = 3  # the least of so many counts: others use the machine, too
GROWTH: Final = 4  # of the input, to see whether the time grows faster
TIMED_BYTES_MAX: Final = 66_560  # of inputs that may be larger still: the rest is in proportion
TIMED_BYTES: Final = {"clan.toml": 16_384}  # what takes seconds need not be whole to show it
LONG_S: Final = 0.2  # one count of such a time is enough

# Kinds with their slots and the size of the largest body: those of the longest payloads.
DEEP_KINDS: Final = ((0, "00000007", 4100), (6, "x", 65_600), (14, "x", 4100))
DEEP_SHAPES: Final = ("empty arrays", "pairs", "nothings", "numbers", "short texts", "keys")
_BODY_BYTES: Final = 40  # of a body around its payload

# Each fills so many bytes with what one reader or another goes deep into.
SHAPES: Final[dict[str, Callable[[int], bytes]]] = {
    "zeros": bytes,
    "ones": lambda size: b"\xff" * size,
    "arrays in arrays": lambda size: b"\x91" * size,
    "empty arrays": lambda size: _array(size, b"\x90"),
    "pairs": lambda size: _array(size, b"\x92\xc0\xc0"),
    "nothings": lambda size: _array(size, b"\xc0"),
    "numbers": lambda size: _array(size, b"\xcf" + b"\xff" * 8),
    "short texts": lambda size: _array(size, b"\xa1x"),
    "ids": lambda size: _array(size, b"\xc4\x08" + bytes(8)),
    "keys": lambda size: _array(size, b"\xc4\x20" + bytes(32)),
    "arrays in a frame": lambda size: b"\x07" + _array(size, b"\x90"),
    "records in a frame": lambda size: b"\x07\x91" + _array(size, b"\xc4\x62" + bytes(98)),
    "ids in a frame": lambda size: b"\x08\x91" + _array(size, b"\xc4\x08" + bytes(8)),
    "lines in a frame": lambda size: b"\x0a\x91" + _array(size, b"\xa1x"),
    "one line in a frame": lambda size: b"\x0a\x91\x91\xdb" + _u32(size - 8) + b"x" * (size - 8),
    "map": lambda size: (
        b"\xdf" + _u32(size // 6) + b"".join(b"\xa4%04x\xc0" % (n % 65536) for n in range(size // 6))
    ),
    "frames": lambda size: b"\x63\0\0" * (size // 3),
    "names": lambda size: b"\x06" + _u32(size - 3)[2:] + bytes(max(0, size - 3)),
    "letters": lambda size: b"q" * size,
    "capitals": lambda size: b"A" * size,
    "spaces": lambda size: b" " * size,
    "token": lambda size: _spelt("clan", size),
    "signer": lambda size: b"ssh-ed25519 " + b"AAAAC3NzaC1lZDI1NTE5" + b"AAAA" * (size // 4),
    "ends of armour": lambda size: (
        b"-----BEGIN SSH SIGNATURE-----\n" + b"-----END SSH SIGNATURE----- " * (size // 28)
    ),
    "spaces in armour": lambda size: b"-----BEGIN SSH SIGNATURE-----" + b"\n" * size,
    "tables": lambda size: b"[a.b.c]\n[a.b.d]\n" + b"".join(b"[x%d]\n" % number for number in range(size // 7)),
    "dots": lambda size: b"a." * (size // 2 - 2) + b"a=1",
    "settings": lambda size: b"[rollout]\n" + b"".join(b"k%d=1\n" % number for number in range(size // 8)),
    "brackets": lambda size: b"a=" + b"[" * size,
    "marks of entries": lambda size: (ENTRY_MARKER + _u32(RECORD_BYTES_MAX) + bytes(4)) * (size // 10),
    "headers": lambda size: b"HTTP/1.1 200 OK\r\n" + b"a:b\r\n" * (size // 5 - 6) + b"\r\n\r\n",
    "spaces in a header": lambda size: b"HTTP/1.1 200 OK\r\nlocation:" + b" " * size,
    "chunks": lambda size: _web(b"Transfer-Encoding: chunked", b"1\r\nx\r\n" * (size // 6)),
    "elements": lambda size: _web(b"A: b", b"<a>" + b"<b/>" * (size // 4 - 20) + b"</a>"),
    "services": lambda size: _web(b"A: b", b"<a>" + _SERVICE * (size // len(_SERVICE) - 1) + b"</a>"),
    "attributes": lambda size: _web(
        b"A: b", b"<a " + b"".join(b"a%06d='' " % n for n in range(size // 12)) + b"/>"
    ),
    "letters as numbers": lambda size: _web(b"A: b", b"<a>" + b"&#65;" * (size // 5 - 20) + b"</a>"),
    "names that point back": lambda size: _pointing(size),
    "names along a chain": lambda size: _chained(size),
}


_SERVICE: Final = b"<serviceType>urn:schemas-upnp-org:service:WANIPConnection:1</serviceType>"


def _web(header: bytes, body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\n" + header + b"\r\n\r\n" + body


def _u32(number: int) -> bytes:
    return max(0, number).to_bytes(4, "big")


def _array(size: int, item: bytes) -> bytes:
    return b"\xdd" + _u32(size // len(item)) + item * (size // len(item))


def _spelt(prefix: str, size: int) -> bytes:
    return bech32.spell(prefix, [0] * size).encode()


def _pointing(size: int) -> bytes:
    """A DNS answer of many names, each of which is where the one before it points."""
    head, count = b"\0\0\x84\0\0\0", min(0xFFFF, size // 16)
    item = b"\1a\xc0\x0c" + b"\0\x0c\0\1\0\0\0\x78\0\2\xc0\x0c"
    return head + count.to_bytes(2, "big") + bytes(4) + item * count


def _chained(size: int) -> bytes:
    """A DNS answer with a row of pointers, each to the one before it, from whose end each of many names starts."""
    entry = b"\0\x10\0\1" + bytes(4)  # TEXT, of the internet, not for long
    count = min(100, max(1, size // 24 - 2))
    links = max(1, (size - 12 - 11 - 12 * count) // 2 - 1)
    begin = 12 + 11
    chain = b"\0\0" + b"".join(_pointer(begin + max(0, 2 * number - 2)) for number in range(1, links))
    named = _pointer(begin + 2 * links - 2) + entry + b"\0\0"
    head = b"\0\0\x84\0\0\0" + (count + 1).to_bytes(2, "big") + bytes(4)
    return head + b"\0" + entry + len(chain).to_bytes(2, "big") + chain + named * count


def _pointer(place: int) -> bytes:
    return (0xC000 | place & 0x3FFF).to_bytes(2, "big")


@dataclass(frozen=True, slots=True)
class Cost:
    """What one input cost a reader. `growth` is of the time, where the input is `GROWTH` times larger."""

    reader: str
    shape: str
    size: int
    cpu_s: float
    peak_bytes: int
    growth: float

    @property
    def ns_per_byte(self) -> float:
        """Time for each byte, of the whole."""
        return 1e9 * self.cpu_s / self.size


def inputs(name: str) -> Iterator[tuple[str, int, Callable[[int], bytes]]]:
    """Shapes for a reader, with the largest size that it looks into. Its own scraps, repeated, are shapes, too."""
    reader = READERS[name]
    size = min(reader.bytes_max, TIMED_BYTES.get(name, TIMED_BYTES_MAX))
    for shape, make in SHAPES.items():
        yield shape, size, make
    for number, scrap in enumerate(sorted(reader.scraps(), key=len)[-3:]):
        if scrap:
            yield f"scrap {number}, over and over", size, partial(_over_and_over, scrap)
            yield f"scrap {number}, nothing behind", len(scrap), partial(_over_and_over, scrap)
    if name == "record content":
        for kind, slot, most in DEEP_KINDS:
            for shape in DEEP_SHAPES:
                yield f"kind {kind} of {shape}", most, partial(_record_body, kind, slot, SHAPES[shape])


def _record_body(kind: int, slot: str, make: Callable[[int], bytes], most: int) -> bytes:
    return encode([kind, slot, 1, 0, None, make(max(0, most - _BODY_BYTES))])


def _over_and_over(scrap: bytes, most: int) -> bytes:
    return (scrap * (most // len(scrap) + 1))[:most]


def measure(name: str, shape: str, size: int, make: Callable[[int], bytes]) -> Cost:
    """Time a reader on an input of at most so many bytes, and on one of a fourth.

    What the collector of cycles does meanwhile has to do with how much there is elsewhere, and is left out.
    """
    reader = READERS[name]
    large, small = make(size)[: reader.bytes_max], make(size // GROWTH)[: reader.bytes_max]
    gc.disable()
    try:
        cpu_s, small_s = _least_s(reader, large), _least_s(reader, small)
    finally:
        gc.enable()
    return Cost(name, shape, max(1, len(large)), cpu_s, _peak_bytes(reader, large), cpu_s / small_s)


def _least_s(reader: Reader, data: bytes) -> float:
    times = []
    for _ in range(REPEATS):
        begun_s = time.thread_time()
        reader.takes(data)
        times.append(time.thread_time() - begun_s)
        if times[0] > LONG_S:
            break
    return max(1e-7, min(times))


def _peak_bytes(reader: Reader, data: bytes) -> int:
    tracemalloc.start()
    try:
        reader.takes(data)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def main() -> None:
    """Print the dearest input of each reader by time, and the one that takes most memory."""
    rows = []
    for name in READERS:
        costs = [measure(name, shape, size, make) for shape, size, make in inputs(name)]
        rows.append((max(costs, key=lambda cost: cost.cpu_s), max(costs, key=lambda cost: cost.peak_bytes)))
    print(f"{'reader':<17}{'ns/byte':>8}{'ms':>8}{'bytes':>8}{'growth':>7}  shape;  most memory for each byte")
    for slow, large in sorted(rows, key=lambda row: -row[0].ns_per_byte):
        print(
            f"{slow.reader:<17}{slow.ns_per_byte:>8.0f}{1000 * slow.cpu_s:>8.2f}{slow.size:>8}{slow.growth:>7.1f}"
            f"  {slow.shape};  {large.peak_bytes / large.size:.0f} of {large.size}: {large.shape}"
        )


if __name__ == "__main__":
    main()
