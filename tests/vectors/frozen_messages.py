"""One of each message, as it was when the version was made that first said it."""

from collections.abc import Iterator
from typing import Any

from clanmesh_protocol import binds, control, messages, streams
from clanmesh_protocol.keys import ClanId
from clanmesh_protocol.probes import read_packet_untrusted
from clanmesh_protocol.signing import read_untrusted
from clanmesh_protocol.tokens import decode_recovery_untrusted, decode_token_untrusted
from tests.vectors import (
    cases_binds,
    cases_content,
    cases_datagrams,
    cases_operations,
    cases_probes,
    cases_recovery,
    cases_rollout,
    cases_signalling,
    cases_streams,
    cases_tokens,
)
from tests.vectors.cases_state import secret_record
from tests.vectors.people import CLAN, FOUNDER, GENESIS_DATA, GENESIS_ID, SEQ, SIGNER, sign_payload


def read_frozen(family: str, data: bytes) -> Any:
    """Read one message with the readers of this version."""
    match family:
        case "record":
            verified = read_untrusted(data, ClanId(CLAN))
            return {"record": verified.value, "content": verified.content}
        case "datagram":
            return messages.parse_header_untrusted(data)
        case "frame":
            return messages.parse_frames_untrusted(data)
        case "stream":
            assert streams.read_frame_length_untrusted(data[:4]) == len(data) - 4
            return streams.read_frame_untrusted(data[4:])
        case "bind" if data.startswith(binds.BIND_MAGIC):
            return binds.read_bind_untrusted(cases_binds.TOKEN, data)
        case "bind":
            return binds.read_bound_untrusted(cases_binds.TOKEN, data)
        case "token":
            return decode_token_untrusted(data.decode())
        case "recovery":
            return decode_recovery_untrusted(data.decode())
        case "request":
            return control.read_request_untrusted(data[4:])
        case "reply":
            assert control.frame_length_untrusted(data[:4]) == len(data) - 4
            return control.decode_frame_untrusted(data[4:])
        case "probe":
            return read_packet_untrusted(data)
    raise AssertionError(f"{family} is not understood")


def all_messages(version: str) -> Iterator[tuple[str, bytes]]:
    """Give each message that a version was the first to say, with its name, `<family>/<name>`."""
    match version:
        case "v1":
            yield from _first_messages()
        case "v1.1":
            yield from _messages_of_several_admins()
        case "v1.2":
            said = _operations()
            yield from ((f"record/{name}", said[name]) for name in ("secret-nodes", "secret-removed"))
        case "v1.3":
            directives = cases_rollout.SOUND.items()
            yield from ((f"record/directive-{name}", cases_rollout.directive(*each)) for name, each in directives)
            yield "record/resolution", cases_operations.operation(cases_rollout.RESOLUTION)
        case "v1.4":
            for name, frame in cases_streams.OF_THE_ROLLOUT.items():
                yield f"stream/{name}", streams.encode_frame(frame)
        case "v1.5":
            for name, said in cases_signalling.FRAMES.items():
                yield f"frame/{name}", messages.encode_frames([said])
        case "v1.6":
            yield from (
                (f"probe/{name}", cases_probes.closed(each)) for name, each in cases_probes.PACKETS.items()
            )
        case "v1.7":
            for name, frame in cases_streams.OF_THE_RELAY.items():
                yield f"stream/{name}", streams.encode_frame(frame)
            yield from ((f"bind/{case.name.rpartition('/')[2]}", case.data) for case in cases_binds.sound())


def _first_messages() -> Iterator[tuple[str, bytes]]:
    yield from _records()
    yield "datagram/session", cases_datagrams.DATAGRAM
    yield "datagram/hello", cases_datagrams.DATAGRAM[:2] + b"\x02" + cases_datagrams.DATAGRAM[3:]
    for name, frame in cases_datagrams.FRAMES.items():
        yield f"frame/{name}", messages.encode_frames([frame])
    yield "frame/unknown", cases_datagrams.framed(200, b"later") + cases_datagrams.framed(0, bytes(3))
    for name, stream_frame in cases_streams.FRAMES.items():
        yield f"stream/{name}", streams.encode_frame(stream_frame)
    yield "token/two-endpoints", cases_tokens.TEXT.encode()
    yield from _control()


def _records() -> Iterator[tuple[str, bytes]]:
    yield "record/genesis", GENESIS_DATA
    for name in cases_content.GOOD:
        yield f"record/{name}", cases_content.good(name)
    operations: dict[str, list[Any]] = {
        "signer-add": [1, SIGNER],
        "signer-remove": [2, SIGNER],
        "checkpoint": [3, "main", cases_content.COMMIT],
    }
    for name, payload in operations.items():
        yield f"record/{name}", sign_payload(FOUNDER, 0, "00000001", payload, prev=GENESIS_ID)
    yield "record/head-ack-unread", sign_payload(FOUNDER, 8, "self", b"\x91\x01")
    yield "record/fork-proof-unread", sign_payload(FOUNDER, 9, "0", b"\x91\x01")
    yield "record/unknown-kind", sign_payload(FOUNDER, 200, "later", b"opaque")
    yield "record/tombstone", sign_payload(FOUNDER, 6, "wifi", b"")
    yield "record/largest-seq", secret_record(2**64 - 1)
    yield (
        "record/trailing-field",
        sign_payload(FOUNDER, 2, cases_content.MEMBER_SLOT, [*cases_content.REVOCATION, 7], seq=SEQ),
    )


def _control() -> Iterator[tuple[str, bytes]]:
    arguments: dict[str, Any] = {"name": "nas", "tags": ["backup"], "uses": 1, "ttl_s": 3600}
    yield "request/invite", control.request_frame(control.Request("invite", arguments))
    yield "request/peers", control.request_frame(control.Request("peers", {}))
    yield "request/secrets-set", control.request_frame(control.Request("secrets-set", {"value": b"\x00\xff"}))
    yield "reply/progress", control.encode_frame({"progress": "looking for a member of family"})
    yield "reply/item", control.encode_frame({"item": {"peers": []}})
    yield "reply/result", control.encode_frame({"result": {"rtt_ms": 0.7, "up": True, "none": None}})
    fault = control.Fault("no-clan", "inviting", "this device is in no clan", "run `clanctl init NAME`")
    yield "reply/error", control.encode_frame({"error": control.fault_value(fault)})


def _operations() -> dict[str, bytes]:
    return {case.name.removeprefix("content/ok-"): case.data for case in cases_operations.all_cases()}


def _messages_of_several_admins() -> Iterator[tuple[str, bytes]]:
    said = _operations()
    for name in (
        "admin-add",
        "admin-remove",
        "admin-replace",
        "thresholds",
        "recovery-replace",
        "recovery-replace-none",
        "setting",
        "setting-empty",
        "approval",
        "acknowledgement",
        "equivocation",
        "credential-replaces-and-succeeds",
        "invite-succeeds",
        "node-next-tunnel",
        "secret-random",
    ):
        yield f"record/{name}", said[name]
    yield "recovery/bech32m", cases_recovery.TEXT.encode()
    yield "recovery/base32", cases_recovery.OLD_TEXT.encode()
