"""All that reads what strangers, members or disks hand over: what each may raise, and what to feed it with."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Final

from clanmesh_protocol import control, messages, streams
from clanmesh_protocol.binds import read_bind_untrusted, read_bound_untrusted
from clanmesh_protocol.control import Fault
from clanmesh_protocol.encoding import decode_untrusted
from clanmesh_protocol.errors import MalformedError, ProtocolError
from clanmesh_protocol.keys import ClanId, NodeId, node_from_text_untrusted, node_text
from clanmesh_protocol.limits import (
    CONTROL_FRAME_BYTES_MAX,
    DATAGRAM_BYTES_MAX,
    RECORD_BYTES_MAX,
    STREAM_FRAME_BYTES_MAX,
)
from clanmesh_protocol.probes import read_packet_untrusted
from clanmesh_protocol.records import decode_content_untrusted, parse_untrusted
from clanmesh_protocol.signing import read_untrusted
from clanmesh_protocol.tokens import decode_recovery_untrusted, decode_token_untrusted
from clanmeshd.naming.dbus import MESSAGE_BYTES_MAX as BUS_MESSAGE_BYTES_MAX
from clanmeshd.naming.dbus import read_message_untrusted as read_bus_message_untrusted
from clanmeshd.naming.messages import QUERY_BYTES_MAX, read_query_untrusted
from clanmeshd.naming.zone import Zone
from clanmeshd.net.certificate import identity_of_certificate_untrusted
from clanmeshd.net.discovery import nonce_of_tag_untrusted
from clanmeshd.net.dns import MESSAGE_BYTES_MAX, read_message_untrusted
from clanmeshd.net.mapping import http, natpmp, pcp, soap
from clanmeshd.net.services import Known, Told, asks_for, told_untrusted
from clanmeshd.overlay.openers import read_died_untrusted
from clanmeshd.overlay.rawpackets import read_ipv4_untrusted
from clanmeshd.rollout.config import FILE_BYTES_MAX, parse_config_untrusted
from clanmeshd.rollout.signers import read_signature_untrusted, read_signer_untrusted
from clanmeshd.store import read_log_untrusted
from tests.fuzz import scraps
from tests.vectors.cases_binds import TOKEN
from tests.vectors.people import CLAN, GENESIS_DATA, MEMBER, sign_body

HEAD_BYTES: Final = 97  # of a record, before its body
TEXT_BYTES_MAX: Final = 4096  # a line of a signer, a token as a person pastes it
SIGNATURE_TEXT_BYTES_MAX: Final = 16_384  # more than the part of a commit that is read for it
RAW_BYTES_MAX: Final = 65_535  # of an IP packet
LOG_BYTES_MAX: Final = 262_144  # of many megabytes
PREFIX: Final = bytes.fromhex("fd0102030405")
ZONE: Final = Zone(
    "family.internal", [("nas.family.internal", PREFIX + bytes(10))], own=PREFIX + bytes(10), prefix=PREFIX
)


@dataclass(frozen=True)
class Reader:
    """One reader. Whatever it is given, it returns or raises one of `refusals`."""

    read: Callable[[bytes], object]
    scraps: Callable[[], tuple[bytes, ...]]
    bytes_max: int  # that it is ever handed, or that it looks at
    refusals: type[Exception] = ProtocolError

    def takes(self, data: bytes) -> bool:
        """Read; whether it was accepted. Raises what nobody expects."""
        try:
            self.read(data)
        except self.refusals:
            return False
        return True


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def _some(value: object) -> object:
    """A reader that gives None for what is not for us, as one that refuses it."""
    if value is None:
        raise MalformedError("not for us")
    return value


def _udp_packet(packet: bytes) -> object:
    return _some(read_ipv4_untrusted(packet, scraps.PORT))


def _icmp_packet(packet: bytes) -> object:
    return _some(read_died_untrusted(packet, scraps.PORT))


def _signed(body: bytes) -> object:
    """What a member says in a record whose signature holds."""
    return read_untrusted(sign_body(MEMBER, body), ClanId(CLAN))


def _content(body: bytes) -> object:
    return decode_content_untrusted(parse_untrusted(GENESIS_DATA[:HEAD_BYTES] + body, ClanId(CLAN)))


def _stream_hello(data: bytes) -> object:
    frame = streams.read_frame_untrusted(data)
    if isinstance(frame, streams.Hello):
        return streams.check_hello_untrusted(frame, NodeId(bytes(32)), bytes(32))
    return frame


def _hear(packet: bytes) -> list[Told]:
    """A packet from the LAN, on its way to what we make of it."""
    message, known = read_message_untrusted(packet), Known()
    heard = list(told_untrusted(message))
    for told in heard:
        known.note(told, 0.0)
        if told.tag is not None:
            nonce_of_tag_untrusted(scraps.DISCOVERY, told.tag)
    known.would_ask(message)
    asks_for(message, scraps.SERVICE)
    return heard


def _answered(question: bytes) -> object:
    """A question to the resolver, on its way to the answer."""
    query = read_query_untrusted(question)
    answer = ZONE.respond(question)
    assert answer is None or len(answer) <= QUERY_BYTES_MAX
    return query


def _called(data: bytes) -> object:
    """A router's answer to a call, on its way to the port and the address in it."""
    http.is_whole_untrusted(data)
    result = soap.read_result_untrusted(data)
    result.port("NewReservedPort", 1)
    return result.ipv4("NewExternalIPAddress")


def _described(data: bytes) -> object:
    return soap.read_description_untrusted(data, scraps.GATEWAY, http.Place(80, "/"))


def _bodies() -> tuple[bytes, ...]:
    records = (*scraps.scraps("record"), *scraps.scraps("content"))
    return tuple(dict.fromkeys(data[HEAD_BYTES:] for data in records if len(data) > HEAD_BYTES))


def _of(layer: str, *, behind: int = 0) -> Callable[[], tuple[bytes, ...]]:
    return cache(lambda: tuple(data[behind:] for data in scraps.scraps(layer)))


def _names() -> tuple[bytes, ...]:
    return (node_text(NodeId(bytes(32))).encode(), node_text(NodeId(bytes(range(32)))).upper().encode())


def _logs() -> tuple[bytes, ...]:
    from clanmeshd.store import _entry

    entries = [_entry(data) for data in scraps.scraps("record") if len(data) < 2000]
    return (b"".join(entries[:4]), entries[0], entries[1] + bytes(40) + entries[2])


READERS: Final[dict[str, Reader]] = {
    "array": Reader(
        lambda data: decode_untrusted(data, bytes_max=RECORD_BYTES_MAX), cache(_bodies), RECORD_BYTES_MAX
    ),
    "record": Reader(lambda data: read_untrusted(data, ClanId(CLAN)), _of("record"), RECORD_BYTES_MAX),
    "record content": Reader(_content, cache(_bodies), RECORD_BYTES_MAX - HEAD_BYTES),
    "record signed": Reader(_signed, cache(_bodies), RECORD_BYTES_MAX - HEAD_BYTES),
    "datagram header": Reader(messages.parse_header_untrusted, _of("datagram"), DATAGRAM_BYTES_MAX),
    "datagram frames": Reader(messages.parse_frames_untrusted, _of("frame"), messages.PLAINTEXT_BYTES_MAX),
    "udp packet": Reader(_udp_packet, scraps.udp_packets, RAW_BYTES_MAX),
    "icmp packet": Reader(_icmp_packet, scraps.icmp_packets, RAW_BYTES_MAX),
    "probe": Reader(read_packet_untrusted, _of("probe"), DATAGRAM_BYTES_MAX),
    "stream length": Reader(lambda data: streams.read_frame_length_untrusted(data[:4]), _of("stream"), 4),
    "stream frame": Reader(_stream_hello, _of("stream", behind=4), STREAM_FRAME_BYTES_MAX),
    "bind": Reader(lambda data: read_bind_untrusted(TOKEN, data), _of("bind"), TEXT_BYTES_MAX),
    "bound": Reader(lambda data: read_bound_untrusted(TOKEN, data), _of("bind"), TEXT_BYTES_MAX),
    "control length": Reader(lambda data: control.frame_length_untrusted(data[:4]), _of("control"), 4),
    "control frame": Reader(control.decode_frame_untrusted, _of("control", behind=4), CONTROL_FRAME_BYTES_MAX),
    "control request": Reader(control.read_request_untrusted, _of("control", behind=4), CONTROL_FRAME_BYTES_MAX),
    "token": Reader(lambda data: decode_token_untrusted(_text(data)), _of("token"), TEXT_BYTES_MAX),
    "recovery key": Reader(lambda data: decode_recovery_untrusted(_text(data)), _of("recovery"), TEXT_BYTES_MAX),
    "node id": Reader(lambda data: node_from_text_untrusted(_text(data)), _names, TEXT_BYTES_MAX),
    "certificate": Reader(identity_of_certificate_untrusted, _of("certificate"), TEXT_BYTES_MAX),
    "mdns tag": Reader(lambda data: nonce_of_tag_untrusted(scraps.DISCOVERY, data), _of("mdns"), TEXT_BYTES_MAX),
    "mdns packet": Reader(_hear, cache(scraps.mdns_packets), MESSAGE_BYTES_MAX),
    "dns question": Reader(_answered, cache(scraps.dns_questions), QUERY_BYTES_MAX),
    "bus message": Reader(read_bus_message_untrusted, cache(scraps.bus_messages), BUS_MESSAGE_BYTES_MAX),
    "pcp": Reader(pcp.read_answer_untrusted, lambda: scraps.PCP_ANSWERS, pcp.MESSAGE_BYTES_MAX),
    "nat-pmp": Reader(natpmp.read_answer_untrusted, lambda: scraps.NATPMP_ANSWERS, pcp.MESSAGE_BYTES_MAX),
    "ssdp": Reader(
        lambda data: soap.read_found_untrusted(data, scraps.GATEWAY),
        lambda: scraps.SSDP_ANSWERS,
        soap.SEARCH_BYTES_MAX,
    ),
    "upnp description": Reader(_described, lambda: scraps.DESCRIPTIONS, http.ANSWER_BYTES_MAX),
    "upnp result": Reader(_called, lambda: scraps.RESULTS, http.ANSWER_BYTES_MAX),
    "ssh signer": Reader(lambda data: read_signer_untrusted(_text(data)), scraps.ssh_lines, TEXT_BYTES_MAX),
    "ssh signature": Reader(read_signature_untrusted, scraps.ssh_signatures, SIGNATURE_TEXT_BYTES_MAX),
    "clan.toml": Reader(parse_config_untrusted, lambda: (scraps.CLAN_TOML,), FILE_BYTES_MAX, Fault),
    "log of records": Reader(read_log_untrusted, cache(_logs), LOG_BYTES_MAX),
}
