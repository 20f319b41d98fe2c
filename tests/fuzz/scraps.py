"""Sound and unsound messages to start from: the published vectors, the frozen messages, and what has neither."""

import json
import struct
from base64 import b64encode
from functools import cache
from typing import Final

from clanmeshd.net.services import SERVICE_TYPE, Service, announcement, goodbye, question
from tests.vectors import make_vectors
from tests.vectors.form import read_folder
from tests.vectors.people import INVITE_KEY, SIGNER

DISCOVERY: Final = bytes(range(16))
SCRAP_BYTES_MAX: Final = 70_000
CLAN_TOML: Final = (
    b'[rollout]\ndriver = "command"\nactivate = ["./a", "b"]\nhealth = ["./h"]\nhealth_timeout_s = 3\n'
)

SERVICE: Final = Service(
    "00aa11bb", 51871, (bytes([192, 0, 2, 7]), bytes.fromhex("20010db8") + bytes(12)), "t" * 60
)

# Frozen families that have a layer of the vectors for a reader.
_FAMILIES: Final = {"request": "control", "reply": "control"}


@cache
def scraps(layer: str) -> tuple[bytes, ...]:
    """All messages of a layer, sound ones first. There is at least one."""
    sound, unsound = _frozen(layer), list[bytes]()
    for vector in read_folder(make_vectors.FOLDER):
        if vector.layer == layer and len(vector.input) <= SCRAP_BYTES_MAX:
            (sound if vector.expect == "ok" else unsound).append(vector.input)
    found = tuple(dict.fromkeys((*sound, *unsound)))
    assert found, f"no message of layer {layer}"
    return found


def _frozen(layer: str) -> list[bytes]:
    paths = sorted(make_vectors.FROZEN.rglob("*.json"))
    of_layer = (path for path in paths if _FAMILIES.get(path.parent.name, path.parent.name) == layer)
    return [bytes.fromhex(json.loads(path.read_text())["hex"]) for path in of_layer]


def ssh_lines() -> tuple[bytes, ...]:
    """Lines of signers."""
    return SIGNER.encode(), SIGNER.replace("ed25519", "rsa").encode(), b"ssh-ed25519 AAAA", b""


def ssh_signatures() -> tuple[bytes, ...]:
    """Signatures in their binary and their text form."""
    key = b"\0\0\0\x0bssh-ed25519\0\0\0\x20" + INVITE_KEY
    parts = key, b"git", b"", b"sha512", b"\0\0\0\x0bssh-ed25519\0\0\0\x40" + bytes(64)
    binary = b"SSHSIG\0\0\0\1" + b"".join(len(part).to_bytes(4, "big") + part for part in parts)
    text = b"-----BEGIN SSH SIGNATURE-----\n" + b64encode(binary) + b"\n-----END SSH SIGNATURE-----\n"
    return binary, text


def mdns_packets() -> tuple[bytes, ...]:
    """An announcement of a clan's device, what takes it back, and questions."""
    known = [((b"some", *SERVICE_TYPE), 4000)]
    return announcement(SERVICE), goodbye(SERVICE), question(()), question(known)


PORT: Final = 51_872


def _ipv4(protocol: int, payload: bytes, options: bytes = b"") -> bytes:
    lead = bytes([0x45 + len(options) // 4, 0, 0, 0, 0, 0, 0, 0, 64, protocol, 0, 0])
    return lead + bytes([10, 0, 0, 1, 10, 0, 0, 2]) + options + payload


def udp_packets() -> tuple[bytes, ...]:
    """As a raw socket gives them, with and without IP options."""
    udp = struct.pack("!HHHH", 7, PORT, 8 + 63, 0) + bytes(63)
    return _ipv4(17, udp), _ipv4(17, udp, bytes(8))


def icmp_packets() -> tuple[bytes, ...]:
    """A router's word that a packet of ours died, and another one."""
    quoted = _ipv4(17, struct.pack("!HHHH", PORT, 7, 71, 0))
    return _ipv4(1, bytes([11]) + bytes(7) + quoted), _ipv4(1, bytes([3]) + bytes(7) + quoted, bytes(4))
