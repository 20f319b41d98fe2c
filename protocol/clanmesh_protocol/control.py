"""The control socket between `clanctl` and `clanmeshd`: requests, replies, progress.

Each frame is `length u32 big-endian | one msgpack map`. A request is `{"v": 1, "call": …, "args": {…}}`. The
answer is any number of `{"progress": text}` or `{"item": value}` frames and then one `{"result": value}` or
`{"error": {"kind", "what", "why", "remedy"}}`. After the result of a call in RAW_CALLS both sides speak bytes.
"""

from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import msgpack

from clanmesh_protocol.errors import LimitError, MalformedError, VersionError
from clanmesh_protocol.limits import CONTROL_FRAME_BYTES_MAX

CONTROL_VERSION: Final = 1
SOCKET_NAME: Final = "control.sock"
LENGTH_BYTES: Final = 4

Json: TypeAlias = "dict[str, Json] | list[Json] | str | int | float | bool | bytes | None"

# call -> whether it changes anything. Readers are the `clanmesh` group; writers are root and the daemon's user.
# `push` is open to readers since the commit's own signature is the authority.
WRITES: Final[dict[str, bool]] = {
    "init": True,
    "join": True,
    "invite": True,
    "invite-list": False,
    "invite-revoke": True,
    "invite-confirm": True,
    "leave": True,
    "remove": True,
    "rename": True,
    "tag": True,
    "renew": True,
    "rotate": True,
    "admin-list": False,
    "admin-pending": False,
    "admin-propose": True,
    "admin-approve": True,
    "admin-recover": True,
    "events": False,
    "peers": False,
    "watch": False,
    "ping": False,
    "status": False,
    "doctor": False,
    "reach": False,
    "reached": False,
    "version": False,
    "signer-list": False,
    "signer-add": True,
    "signer-remove": True,
    "repo-info": False,
    "repo-checkpoint": True,
    "push": False,
    "git-upload-pack": False,
    "rollout-status": False,
    "rollout-history": False,
    "rollout-log": False,
    "rollout-pause": True,
    "rollout-resume": True,
    "rollout-promote": True,
    "rollout-retry": True,
    "rollout-resolve": True,
    "secrets-list": False,
    "secrets-set": True,
    "secrets-rotate": True,
    "secrets-remove": True,
    "secrets-show": True,
}
RAW_CALLS: Final = frozenset({"git-upload-pack"})


@dataclass(frozen=True, slots=True)
class Request:
    """One call with its arguments."""

    call: str
    args: dict[str, Any]


class Fault(Exception):
    """A refusal as a person reads it: what failed, why, what to do.

    `kind` is one of `usage`, `no-clan`, `denied`, `not-found`, `refused`, `unreachable`, `conflict`, `failed`.
    """

    def __init__(self, kind: str, what: str, why: str, remedy: str = "") -> None:
        super().__init__(kind, what, why, remedy)
        self.kind = kind
        self.what = what
        self.why = why
        self.remedy = remedy

    def __str__(self) -> str:
        text = f"{self.what}: {self.why}"
        return f"{text}; {self.remedy}" if self.remedy else text


def encode_frame(value: dict[str, Any]) -> bytes:
    """Pack one frame. Raises LimitError when it is too large."""
    body: bytes = msgpack.packb(value, use_bin_type=True)
    if len(body) > CONTROL_FRAME_BYTES_MAX:
        raise LimitError(f"a control frame of {len(body)} bytes")
    return len(body).to_bytes(LENGTH_BYTES, "big") + body


def frame_length_untrusted(head: bytes) -> int:
    """Read a frame's length from its first four bytes. Raises MalformedError or LimitError."""
    if len(head) != LENGTH_BYTES:
        raise MalformedError("a control frame's length is cut short")
    length = int.from_bytes(head, "big")
    if length > CONTROL_FRAME_BYTES_MAX:
        raise LimitError(f"a control frame of {length} bytes")
    return length


def decode_frame_untrusted(body: bytes) -> dict[str, Any]:
    """Read a frame's body. Raises MalformedError."""
    try:
        value = msgpack.unpackb(body, raw=False, strict_map_key=True, max_ext_len=0)
    except (ValueError, RecursionError, msgpack.UnpackException) as error:
        raise MalformedError(f"not one msgpack value: {type(error).__name__}") from error
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise MalformedError("a control frame is a map with text keys")
    return value


def request_frame(request: Request) -> bytes:
    """Pack a request."""
    return encode_frame({"v": CONTROL_VERSION, "call": request.call, "args": request.args})


def read_request_untrusted(body: bytes) -> Request:
    """Read a request. Raises MalformedError or VersionError."""
    value = decode_frame_untrusted(body)
    version = value.get("v")
    if type(version) is not int:  # True would equal 1
        raise MalformedError("a request has a version")
    if version != CONTROL_VERSION:
        raise VersionError(f"control version {version}, this is version {CONTROL_VERSION}")
    call, args = value.get("call"), value.get("args")
    if not isinstance(call, str) or not isinstance(args, dict):
        raise MalformedError("a request has a call and its args")
    if call not in WRITES:
        raise MalformedError(f"no call {call!r}")
    return Request(call, args)


def fault_value(fault: Fault) -> dict[str, Any]:
    """The value of an `error` key."""
    return {"kind": fault.kind, "what": fault.what, "why": fault.why, "remedy": fault.remedy}
