"""Sound and unsound messages to start from: the published vectors, the frozen messages, and what has neither."""

import json
import struct
from base64 import b64encode
from functools import cache
from typing import Final

from clanmeshd.naming.dbus import BusMessage, Field, MessageKind, write_message
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

# What a home router says, as RFC 6887, RFC 6886 and UPnP have it.
GATEWAY: Final = "192.168.7.1"
PCP_ANSWERS: Final = (
    bytes.fromhex("0281000000001c2000000064") + bytes(12) + b"n" * 12 + bytes.fromhex("11000000ca9fca9f")
    + bytes(10) + bytes.fromhex("ffff64140001"),
    bytes.fromhex("0081000100000064"),
    bytes.fromhex("0281000200000e1000000064") + bytes(48),
)  # fmt: skip
NATPMP_ANSWERS: Final = (
    bytes.fromhex("008000000000006464140001"),
    bytes.fromhex("0081000000000064ca9fca9f00001c20"),
    bytes.fromhex("0082000300000064"),
)
SSDP_ANSWERS: Final = (
    b"HTTP/1.1 200 OK\r\nCACHE-CONTROL: max-age=120\r\nLOCATION: http://192.168.7.1:5000/d.xml\r\n\r\n",
    b"HTTP/1.0 200 OK\r\nlocation:http://192.168.7.1/\r\n\r\n",
)
_OK: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"
_CHUNKED: Final = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
_SERVICE: Final = (
    b"<service><serviceType>urn:schemas-upnp-org:service:WANIPConnection:2</serviceType>"
    b"<controlURL>http://192.168.7.1:81/c</controlURL></service>"
)
_DEVICE: Final = (
    b'<?xml version="1.0"?><root xmlns="x:y"><URLBase>http://192.168.7.1/</URLBase>' + _SERVICE + b"</root>"
)
DESCRIPTIONS: Final = (
    _OK + _DEVICE,
    _CHUNKED + b"%x\r\n%s\r\n0\r\n\r\n" % (len(_DEVICE), _DEVICE),
    _OK + b'<!DOCTYPE r [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]><r>&b;</r>',
)
RESULTS: Final = (
    _OK + b"<s:E xmlns:s='x'><NewExternalIPAddress>100.20.0.1</NewExternalIPAddress></s:E>",
    _OK + b"<E><NewExternalIPAddress>100.20.0.1</NewExternalIPAddress><NewReservedPort>5</NewReservedPort></E>",
    b"HTTP/1.1 500 Error\r\n\r\n<E><errorCode>718</errorCode></E>",
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


def dns_questions() -> tuple[bytes, ...]:
    """Questions to a clan's resolver: for an address, for a name, with options and without."""
    name = b"".join(bytes([len(label)]) + label for label in (b"nas", b"family", b"internal")) + b"\0"
    address = b"".join(b"\x01" + bytes([digit]) for digit in reversed(b"fd01020304050000")) + b"\3ip6\4arpa\0"
    options = struct.pack("!BHHIH", 0, 41, 1232, 0, 0)
    return tuple(
        struct.pack("!6H", 7, 0x0100, 1, 0, 0, bool(extra)) + asked + struct.pack("!HH", kind, 1) + extra
        for asked, kind in ((name, 28), (address, 12))
        for extra in (b"", options)
    )


def bus_messages() -> tuple[bytes, ...]:
    """What a message bus hands over: a call, a signal, values inside of values."""
    fields = {Field.PATH: "/", Field.MEMBER: "NameOwnerChanged", Field.SENDER: "org.freedesktop.DBus"}
    bodies = {
        "sss": ("org.freedesktop.resolve1", "", ":1.7"),
        "ia(iay)": (3, [(10, list(range(16)))]),
        "va{sv}": (("ai", [1, 2]), [("k", ("s", "v"))]),
    }
    return tuple(
        write_message(BusMessage(MessageKind.SIGNAL, 1, {**fields, Field.SIGNATURE: signature}, values))
        for signature, values in bodies.items()
    )


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
