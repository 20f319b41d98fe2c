"""What each layer of the vectors means: one function that reads the input and derives what a vector may name.

A layer first does what stands in front of it without being asked for a verdict (`assert` there: a vector that
fails earlier than it says is a wrong vector), then what it is named for. It raises ProtocolError or gives back
the values that the vector's parameters are compared with.
"""

from collections.abc import Callable, Mapping

from clanmesh_protocol import binds, streams
from clanmesh_protocol import control as control_socket
from clanmesh_protocol.encoding import encode
from clanmesh_protocol.errors import ProtocolError
from clanmesh_protocol.keys import ClanId, NodeId, signing_public, verify_detached_untrusted
from clanmesh_protocol.messages import parse_frames_untrusted, parse_header_untrusted
from clanmesh_protocol.probes import read_packet_untrusted
from clanmesh_protocol.records import (
    GENESIS_SLOT,
    decode_content_untrusted,
    parse_untrusted,
    signing_input,
)
from clanmesh_protocol.signalling import Call, check_call_untrusted
from clanmesh_protocol.signing import check_signature_untrusted, read_untrusted
from clanmesh_protocol.stores import read_store_line_untrusted
from clanmesh_protocol.tokens import decode_recovery_untrusted, decode_token_untrusted
from tests.vectors.form import Vector

Derived = Mapping[str, str]


def record(vector: Vector) -> Derived:
    """Envelope, then signature; the payload is not looked into."""
    clan = ClanId(vector.bytes_of("clan"))
    parsed = parse_untrusted(vector.input, clan)
    check_signature_untrusted(parsed, clan)
    return {"id": parsed.id.hex()}


def content(vector: Vector) -> Derived:
    """The payload of a record whose envelope and signature hold; the whole door must say the same."""
    clan = ClanId(vector.bytes_of("clan"))
    with must_pass(vector):
        parsed = parse_untrusted(vector.input, clan)
        check_signature_untrusted(parsed, clan)
    decode_content_untrusted(parsed)
    read_untrusted(vector.input, clan)
    return {}


def datagram(vector: Vector) -> Derived:
    """The clear header."""
    header = parse_header_untrusted(vector.input)
    assert vector.input.startswith(header.encode())
    return {}


def probe(vector: Vector) -> Derived:
    """The shape of a probe."""
    packet = read_packet_untrusted(vector.input)
    assert vector.input.startswith(packet.encode())
    return {}


def frame(vector: Vector) -> Derived:
    """The frames of an opened datagram."""
    parse_frames_untrusted(vector.input)
    return {}


def call(vector: Vector) -> Derived:
    """The signature of a well-formed call; its bytes are those that it is made of again."""
    with must_pass(vector):
        read = Call.read_untrusted(vector.input)
    assert read.encode() == vector.input
    check_call_untrusted(read, ClanId(vector.bytes_of("clan")))
    return {}


def stream(vector: Vector) -> Derived:
    """One whole frame of a stream."""
    _stream_frame(vector)
    return {}


def _stream_frame(vector: Vector) -> streams.Frame:
    length = streams.read_frame_length_untrusted(vector.input[:4])
    body = vector.input[4:]
    assert len(body) == length
    return streams.read_frame_untrusted(body)


def hello(vector: Vector) -> Derived:
    """The signature of a well-formed hello."""
    with must_pass(vector):
        read = _stream_frame(vector)
    assert isinstance(read, streams.Hello)
    streams.check_hello_untrusted(read, NodeId(vector.bytes_of("server")), vector.bytes_of("nonce"))
    return {}


def bind(vector: Vector) -> Derived:
    """What goes between a member and a relay's port."""
    token = vector.bytes_of("token")
    if vector.parameters["from"] == "member":
        return {"number": str(binds.read_bind_untrusted(token, vector.input))}
    bound = binds.read_bound_untrusted(token, vector.input)
    return {"number": str(bound.number), "seen": str(bound.seen), "other": str(bound.other_is_bound).lower()}


def control(vector: Vector) -> Derived:
    """One request on the control socket."""
    length = control_socket.frame_length_untrusted(vector.input[:4])
    body = vector.input[4:]
    assert len(body) == length
    control_socket.read_request_untrusted(body)
    return {}


def token(vector: Vector) -> Derived:
    """An invite token."""
    read = decode_token_untrusted(vector.input.decode())
    fields = [
        read.clan,
        read.clan_name,
        read.invite_seed,
        read.invite_id,
        read.authority_head,
        read.inviter,
        read.floor,
        read.discovery,
        read.expires_unix_s,
        [list(at) for at in read.endpoints],
    ]
    return {"payload": (b"\x01" + encode(fields)).hex()}


def recovery(vector: Vector) -> Derived:
    """A recovery key as a person keeps it."""
    seed = decode_recovery_untrusted(vector.input.decode())
    return {"seed": seed.hex(), "key": signing_public(seed).hex()}


def store(vector: Vector) -> Derived:
    """The first line on a stream of purpose `store`."""
    _, key = read_store_line_untrusted(vector.input)
    return {"key": key.hex()}


LAYERS: dict[str, Callable[[Vector], Derived]] = {
    "record": record,
    "content": content,
    "datagram": datagram,
    "frame": frame,
    "call": call,
    "probe": probe,
    "stream": stream,
    "hello": hello,
    "bind": bind,
    "control": control,
    "token": token,
    "recovery": recovery,
    "store": store,
}


class must_pass:  # noqa: N801 - reads as a statement
    """Turns a refusal by an earlier layer into a failure of the vector itself."""

    def __init__(self, vector: Vector) -> None:
        self._name = vector.name

    def __enter__(self) -> None:
        """Nothing to prepare."""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Say that the vector is wrong."""
        if isinstance(error, ProtocolError):
            raise AssertionError(f"{self._name} fails before its layer: {error}") from error


def signature_holds(vector: Vector) -> bool:
    """Say whether a record's bytes are truly signed, whatever they mean."""
    data = vector.input
    genesis = data[97:].startswith(b"\x96\x00\xa8" + GENESIS_SLOT.encode())
    scope = ClanId(bytes(16)) if genesis else ClanId(vector.bytes_of("clan"))
    try:
        verify_detached_untrusted(data[1:33], signing_input(scope, data[1:33], data[97:]), data[33:97])
    except ProtocolError:
        return False
    return True
