"""One conversation with the daemon over its control socket, blocking.

Nothing is read ahead: once the last frame is read, whatever follows on the socket belongs to the caller. That
is how git's bytes pass through it.
"""

import os
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from clanctl.failures import EXIT_FAILED, EXIT_UNREACHABLE, EXIT_USAGE, Failure
from clanmesh_protocol.control import (
    LENGTH_BYTES,
    SOCKET_NAME,
    Request,
    decode_frame_untrusted,
    encode_frame,
    frame_length_untrusted,
    request_frame,
)
from clanmesh_protocol.errors import ProtocolError

STATE_DIRECTORY: Final = Path("/var/lib/clanmesh")
RUNTIME_DIRECTORY: Final = Path("/run/clanmesh")
STATE_VARIABLE: Final = "CLANMESH_STATE_DIR"
RUNTIME_VARIABLE: Final = "CLANMESH_RUNTIME_DIR"

STOPPED: Final = "stopped"  # the kind of a Failure where no daemon runs

CONNECT_TIMEOUT_S: Final = 5.0  # a full backlog of the socket empties in far less
READ_TIMEOUT_S: Final = 10.0  # between two frames of a call that only looks something up
WORK_TIMEOUT_S: Final = 300.0  # between two frames of a call that does something; each reports its progress
CHUNK_BYTES: Final = 65_536

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Instance:
    """Which daemon is meant: a machine may run one for each clan it is in."""

    state_directory: Path
    runtime_directory: Path

    @property
    def socket_path(self) -> Path:
        """Where its control socket is."""
        return self.runtime_directory / SOCKET_NAME

    @property
    def is_default(self) -> bool:
        """Whether this is the instance that needs no options."""
        return self.runtime_directory == RUNTIME_DIRECTORY

    @property
    def start_command(self) -> str:
        """The command that starts its daemon."""
        if self.is_default:
            return "sudo systemctl start clanmeshd"
        return f"clanmeshd --state-dir {self.state_directory} --runtime-dir {self.runtime_directory}"


def instance(state_directory: str | Path | None = None, runtime_directory: str | Path | None = None) -> Instance:
    """Choose an instance by what was given, then the environment, then the defaults."""
    state = state_directory or os.environ.get(STATE_VARIABLE) or STATE_DIRECTORY
    runtime = runtime_directory or os.environ.get(RUNTIME_VARIABLE) or RUNTIME_DIRECTORY
    return Instance(Path(state).absolute(), Path(runtime).absolute())


class Conversation:
    """A connection on which one request is made."""

    def __init__(self, connected: socket.socket) -> None:
        self.socket = connected

    @classmethod
    def open(cls, where: Instance) -> Self:
        """Connect. Raises Failure with status EXIT_UNREACHABLE."""
        plain = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        plain.settimeout(CONNECT_TIMEOUT_S)
        try:
            plain.connect(os.fspath(where.socket_path))
        except OSError as error:
            plain.close()
            raise _unreachable(where, error) from error
        return cls(plain)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.socket.close()

    def ask(self, call: str, args: dict[str, Any], timeout_s: float | None = READ_TIMEOUT_S) -> None:
        """Send the request. `timeout_s` is for each frame of the answer. Raises Failure."""
        self.socket.settimeout(timeout_s)
        try:
            self._send(request_frame(Request(call, args)))
        except ProtocolError as error:
            raise Failure(call, f"the request is too large: {error}", "give it less at once") from error

    def send(self, value: dict[str, Any]) -> None:
        """Send a frame that follows the request. Raises Failure."""
        self._send(encode_frame(value))

    def result(self, progress: Progress | None = None) -> Any:
        """Read to the result. Raises Failure, also when the daemon refuses."""
        for frame in self._frames():
            if "progress" in frame and progress is not None:
                progress(str(frame["progress"]))
            if "result" in frame:
                return frame["result"]
        raise AssertionError("frames end with a failure")

    def items(self) -> Iterator[Any]:
        """Read the values of a call that gives many, until its result. Raises Failure."""
        for frame in self._frames():
            if "item" in frame:
                yield frame["item"]
            if "result" in frame:
                return

    def _frames(self) -> Iterator[dict[str, Any]]:
        while True:
            frame = self._receive()
            if "error" in frame:
                raise _refusal(frame["error"])
            yield frame

    def _receive(self) -> dict[str, Any]:
        try:
            length = frame_length_untrusted(self._exactly(LENGTH_BYTES))
            return decode_frame_untrusted(self._exactly(length))
        except ProtocolError as error:
            remedy = "install clanctl and clanmeshd of one version"
            raise Failure("the daemon", f"it does not speak as clanctl does: {error}", remedy) from error

    def _exactly(self, count: int) -> bytes:
        taken = bytearray()
        while len(taken) < count:
            try:
                chunk = self.socket.recv(min(count - len(taken), CHUNK_BYTES))
            except OSError as error:
                raise _lost(error) from error
            if not chunk:
                raise _lost(None)
            taken += chunk
        return bytes(taken)

    def _send(self, data: bytes) -> None:
        try:
            self.socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            return  # it has refused already: the reason waits to be read
        except OSError as error:
            raise _lost(error) from error


def call(
    where: Instance,
    name: str,
    args: dict[str, Any] | None = None,
    *,
    progress: Progress | None = None,
    timeout_s: float = READ_TIMEOUT_S,
) -> Any:
    """Ask one thing and give the result. Raises Failure."""
    with Conversation.open(where) as conversation:
        conversation.ask(name, args or {}, timeout_s)
        return conversation.result(progress)


def _refusal(value: Any) -> Failure:
    """Make a Failure of an `error` frame, whose fields come from the daemon as they are."""
    fields = value if isinstance(value, dict) else {}
    what, why, remedy = (str(fields.get(key) or "") for key in ("what", "why", "remedy"))
    status = EXIT_USAGE if fields.get("kind") == "usage" else EXIT_FAILED
    kind = str(fields.get("kind") or "failed")
    return Failure(what or "the daemon", why or "it refused without a reason", remedy, status=status, kind=kind)


def _lost(error: OSError | None) -> Failure:
    if isinstance(error, TimeoutError):
        why = "it accepted the call and does not answer"
    else:
        why = f"it ended the conversation{f' ({error.strerror})' if error and error.strerror else ''}"
    return Failure("the daemon", why, "see `journalctl -u clanmeshd`", status=EXIT_UNREACHABLE)


def _unreachable(where: Instance, error: OSError) -> Failure:
    path, down = where.socket_path, "clanmeshd is not running"
    match error:
        case FileNotFoundError() | NotADirectoryError():
            what, why, remedy = down, f"no control socket at {path}", f"start it: `{where.start_command}`"
        case ConnectionRefusedError():
            what, why, remedy = down, f"{path} was left by one that is gone", f"start it: `{where.start_command}`"
        case PermissionError():
            what, why = "no permission to speak to clanmeshd", f"{path} is for root and the group clanmesh"
            remedy = 'use sudo, or `sudo usermod --append --groups clanmesh "$USER"` and log in again'
        case TimeoutError() | BlockingIOError():
            what, why = "clanmeshd does not answer", f"{path} accepts no call"
            remedy = "restart it: `sudo systemctl restart clanmeshd`"
        case _ if "too long" in str(error):  # Python's own check: it has no errno
            what, why = "the control socket", f"{path} is longer than a socket's name may be (107 bytes)"
            remedy = "choose a shorter --runtime-dir"
        case _:
            what, why = "the control socket", f"{path}: {error.strerror or error}"
            remedy = "see `journalctl -u clanmeshd`"
    return Failure(what, why, remedy, status=EXIT_UNREACHABLE, kind=STOPPED if what == down else "")
