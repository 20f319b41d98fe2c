"""What is written is read back, and what is random is refused with nothing but a ProtocolError."""

import contextlib
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from clanmesh_protocol import control, messages, streams
from clanmesh_protocol.encoding import Fields, decode_untrusted, encode
from clanmesh_protocol.endpoints import endpoint_from_fields_untrusted
from clanmesh_protocol.errors import ProtocolError
from clanmesh_protocol.keys import (
    CLAN_ID_NONE,
    ClanId,
    exchange_untrusted,
    node_from_text_untrusted,
    node_text,
    tunnel_public_untrusted,
    verify_detached_untrusted,
)
from clanmesh_protocol.names import check_commit_untrusted, check_label_untrusted, check_tags_untrusted
from clanmesh_protocol.records import (
    Genesis,
    Head,
    Kind,
    Secret,
    clan_of_genesis,
    decode_content_untrusted,
    parse_untrusted,
    slot_of,
)
from clanmesh_protocol.signing import read_untrusted, sign_record
from clanmesh_protocol.tokens import decode_bech32m_untrusted, decode_token_untrusted, encode_token
from tests.vectors import bech32, strategies
from tests.vectors.people import CLAN, MEMBER, sign_body
from tests.vectors.test_vectors import VECTORS

# --- round trips ---------------------------------------------------------------------------------------


@given(strategies.CONTENTS, strategies.UINT64, strategies.UINT32, st.none() | strategies.KEY)
def test_contents(content: Any, seq: int, ttl_s: int, prev: Any) -> None:
    match content:
        case Head():
            slot = "main"
        case Secret():
            slot = "wifi"
        case _:
            slot = slot_of(content)
    data = sign_record(MEMBER, CLAN, content, kind=content.KIND, slot=slot, seq=seq, ttl_s=ttl_s, prev=prev)
    verified = read_untrusted(data, CLAN)
    assert verified.content == content
    record = verified.value
    assert (record.data, record.kind, record.slot) == (data, content.KIND, slot)
    assert (record.seq, record.ttl_s, record.prev) == (seq, ttl_s, prev)


@given(strategies.OPERATIONS, strategies.UINT64)
def test_operations(operation: Any, seq: int) -> None:
    slot = "00000000" if isinstance(operation, Genesis) else "00000007"
    data = sign_record(MEMBER, CLAN, operation, kind=Kind.AUTHORITY, slot=slot, seq=seq)
    clan = clan_of_genesis(parse_untrusted(data, CLAN)) if isinstance(operation, Genesis) else CLAN
    assert read_untrusted(data, clan).content == operation


@given(st.lists(strategies.FRAMES, max_size=3))
def test_frames(frames: list[Any]) -> None:
    assert messages.parse_frames_untrusted(messages.encode_frames(frames)) == frames


@given(strategies.DIGESTS)
@settings(max_examples=20)
def test_digests(digest: messages.Digest) -> None:
    assert messages.parse_frames_untrusted(messages.encode_frames([digest])) == [digest]


@given(strategies.HEADERS)
def test_headers(header: messages.Header) -> None:
    assert messages.parse_header_untrusted(header.encode() + bytes(16)) == header


@given(strategies.STREAM_FRAMES)
def test_stream_frames(frame: streams.Frame) -> None:
    data = streams.encode_frame(frame)
    assert streams.read_frame_length_untrusted(data[:4]) == len(data) - 4
    assert streams.read_frame_untrusted(data[4:]) == frame


@given(strategies.TOKENS, st.booleans())
def test_tokens(token: Any, capitals: bool) -> None:
    text = encode_token(token)
    assert decode_token_untrusted(text.upper() if capitals else text) == token


@given(strategies.TOKENS, st.data())
def test_any_one_wrong_character_of_a_token_is_found(token: Any, data: st.DataObject) -> None:
    text = encode_token(token)
    at = data.draw(st.integers(5, len(text) - 1))
    other = data.draw(st.sampled_from(bech32.ALPHABET.replace(text[at], "")))
    with pytest.raises(ProtocolError, match="mistyped"):
        decode_token_untrusted(text[:at] + other + text[at + 1 :])


@given(strategies.KEY)
def test_node_texts(key: bytes) -> None:
    assert node_from_text_untrusted(node_text(key)) == key
    assert node_from_text_untrusted(node_text(key).upper()) == key


@pytest.mark.parametrize(
    ("text", "data"),
    [
        ("A1LQFN3A", b""),  # the valid spellings of BIP-350, for prefixes of any kind
        ("a1lqfn3a", b""),
        ("abcdef1l7aum6echk45nj3s0wdvt2fg8x9yrzpqzd3ryx", None),
        ("?1v759aa", b""),
    ],
)
def test_published_spellings(text: str, data: bytes | None) -> None:
    prefix = text.rpartition("1")[0].lower()
    if data is None:
        digits = list(reversed(range(32)))
        assert bech32.spell(prefix, digits) == text
    else:
        assert decode_bech32m_untrusted(prefix, text) == data


@pytest.mark.parametrize("text", ["M1VUXWEZ", "in1muywd", "mm1crxm3i", "au1s5cgom", "qyrz8wqd2c9m"])
def test_published_misspellings(text: str) -> None:
    prefix = text.rpartition("1")[0].lower()
    with pytest.raises(ProtocolError):
        decode_bech32m_untrusted(prefix, text)


# --- random input --------------------------------------------------------------------------------------

READERS: dict[str, Callable[[bytes], object]] = {
    "record": lambda data: parse_untrusted(data, CLAN),
    "record and signature": lambda data: read_untrusted(data, CLAN),
    "array": lambda data: decode_untrusted(data, bytes_max=1000),
    "datagram": messages.parse_header_untrusted,
    "frames": messages.parse_frames_untrusted,
    "stream length": lambda data: streams.read_frame_length_untrusted(data[:4]),
    "stream frame": streams.read_frame_untrusted,
    "control length": lambda data: control.frame_length_untrusted(data[:4]),
    "control frame": control.decode_frame_untrusted,
    "control request": control.read_request_untrusted,
    "token": lambda data: decode_token_untrusted(data.decode("latin-1")),
    "node id": lambda data: node_from_text_untrusted(data.decode("latin-1")),
    "tunnel key": tunnel_public_untrusted,
    "exchange": lambda data: exchange_untrusted(MEMBER, data),
    "signature": lambda data: verify_detached_untrusted(data[:32].ljust(32), data, data[:64].ljust(64)),
    "label": lambda data: check_label_untrusted(data.decode("latin-1"), "label"),
    "tags": lambda data: check_tags_untrusted(tuple(data.decode("latin-1"))),
    "commit": lambda data: check_commit_untrusted(data, "commit"),
}
SCRAPS = [vector.data for vector in VECTORS if len(vector.data) < 2000]


def refuses_or_reads(read: Callable[[bytes], object], data: bytes) -> None:
    """Any other exception than a ProtocolError is ours, and fails the test."""
    with contextlib.suppress(ProtocolError):
        read(data)


@pytest.mark.parametrize("name", READERS)
@given(data=st.binary(max_size=300))
@example(b"")
@example(b"\x91" * 300)
@example(b"\xdf\xff\xff\xff\xff" * 20)
def test_random_bytes(name: str, data: bytes) -> None:
    refuses_or_reads(READERS[name], data)


@pytest.mark.parametrize("name", READERS)
@given(scrap=st.sampled_from(SCRAPS), data=st.data())
@settings(max_examples=60)
def test_damaged_messages(name: str, scrap: bytes, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, max(0, len(scrap) - 1)))
    size = data.draw(st.integers(0, 4))
    damaged = scrap[:at] + data.draw(st.binary(max_size=4)) + scrap[at + size :]
    refuses_or_reads(READERS[name], damaged)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.binary(max_size=70) | st.text(max_size=40),
    lambda inner: st.lists(inner, max_size=6),
    max_leaves=12,
)


@given(
    kind=st.integers(0, 12), values=st.lists(VALUES, max_size=10), slot=st.sampled_from(["self", "00000000", "x"])
)
@settings(max_examples=300)
def test_random_payloads(kind: int, values: list[Any], slot: str) -> None:
    body = encode([kind, slot, 1, 0, None, encode(values)])
    scope = CLAN_ID_NONE if kind == 0 and slot == "00000000" else CLAN
    data = sign_body(MEMBER, body, scope)
    refuses_or_reads(lambda data: decode_content_untrusted(parse_untrusted(data, ClanId(CLAN))), data)


@given(number=st.integers(0, 12), values=st.lists(VALUES, max_size=8))
@settings(max_examples=300)
def test_random_stream_frames(number: int, values: list[Any]) -> None:
    refuses_or_reads(streams.read_frame_untrusted, bytes([number]) + encode(values))


@given(values=st.lists(VALUES, max_size=3))
def test_random_endpoints(values: list[Any]) -> None:
    refuses_or_reads(lambda _: endpoint_from_fields_untrusted(Fields(values, "endpoint")), b"")
