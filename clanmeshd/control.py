"""The control socket: who may call, one task a connection, every answer bounded.

The file mode lets root and the `clanmesh` group connect; a connection may read. What changes anything asks for
root or for the user that the daemon runs as, by the kernel's word (SO_PEERCRED).
"""

import grp
import logging
import os
import socket
import struct
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import trio

from clanmesh_protocol.control import (
    LENGTH_BYTES,
    RAW_CALLS,
    SOCKET_NAME,
    WRITES,
    Fault,
    Request,
    decode_frame_untrusted,
    encode_frame,
    fault_value,
    frame_length_untrusted,
    read_request_untrusted,
)
from clanmesh_protocol.errors import ProtocolError

GROUP: Final = "clanmesh"
CONNECTIONS_MAX: Final = 64  # people and their scripts; the 65th waits
BACKLOG: Final = 1024  # that wait in the kernel: beyond it a connect fails at once, whatever its patience
REQUEST_TIMEOUT_S: Final = 5.0  # to send the request; the answer may take as long as it takes
FRAME_TIMEOUT_S: Final = 30.0  # for a client to send a frame or to read one: whoever hangs gives up the place
_SOCKET_MODE: Final = 0o660
_PEERCRED: Final = struct.Struct("3i")

log = logging.getLogger(__name__)


class Conversation:
    """One connection with `clanctl`: frames in, frames out.

    Receiving and sending raise TooSlowError for a client that hangs, BrokenResourceError for one that is gone.
    """

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self._buffer = bytearray()
        self._sending = trio.Lock()  # a call may tell of several things that it does at once

    async def receive(self) -> dict[str, Any]:
        """Wait for a frame. Raises ProtocolError for what is none."""
        return decode_frame_untrusted(await self.receive_body())

    async def receive_body(self) -> bytes:
        """Wait for a frame's undecoded body. Raises as `receive`."""
        with trio.fail_after(FRAME_TIMEOUT_S):
            length = frame_length_untrusted(await self._exactly(LENGTH_BYTES))
            return await self._exactly(length)

    async def progress(self, text: str) -> None:
        """Tell a person what is being done. It goes on without them: half a join would help nobody."""
        with suppress(trio.BrokenResourceError):
            await self._send({"progress": text})

    async def item(self, value: Any) -> None:
        """Send one of many values."""
        await self._send({"item": value})

    async def result(self, value: Any) -> None:
        """Send the final value."""
        await self._send({"result": value})

    async def refuse(self, fault: Fault) -> None:
        """Send why there is no result."""
        await self._send({"error": fault_value(fault)})

    async def _send(self, value: dict[str, Any]) -> None:
        with trio.fail_after(FRAME_TIMEOUT_S):
            async with self._sending:
                await self.stream.send_all(encode_frame(value))

    async def _exactly(self, count: int) -> bytes:
        while len(self._buffer) < count:
            chunk = await self.stream.receive_some(65_536)
            if not chunk:
                raise trio.BrokenResourceError("the client hung up")
            self._buffer += chunk
        taken = bytes(self._buffer[:count])
        del self._buffer[:count]
        return taken


Answer = Callable[[Request, Conversation], Awaitable[Any]]


def socket_path(runtime_directory: Path) -> Path:
    """Where the control socket of an instance is."""
    return runtime_directory / SOCKET_NAME


def listen(runtime_directory: Path) -> trio.SocketListener:
    """Open the socket, replacing one that a killed daemon left (the state lock says that it is dead).

    Raises OSError.
    """
    runtime_directory.mkdir(mode=0o755, parents=True, exist_ok=True)
    path = socket_path(runtime_directory)
    path.unlink(missing_ok=True)
    plain = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    before = os.umask(0o777 & ~_SOCKET_MODE)
    try:
        plain.bind(os.fspath(path))
    finally:
        os.umask(before)
    plain.listen(BACKLOG)
    if os.geteuid() == 0:
        _give_to_group(path)
    return trio.SocketListener(trio.socket.from_stdlib_socket(plain))


def _give_to_group(path: Path) -> None:
    try:
        os.chown(path, 0, grp.getgrnam(GROUP).gr_gid)
    except (KeyError, OSError):
        return  # not installed as a package, or a user namespace without that group: its root alone speaks to it


class _Bounded(trio.abc.Listener[trio.SocketStream]):
    """A listener that accepts a connection only when there is a place for it; the rest waits in the kernel."""

    def __init__(self, listener: trio.SocketListener, places: trio.Semaphore) -> None:
        self._listener = listener
        self._places = places

    async def accept(self) -> trio.SocketStream:
        """Accept the next connection; whoever gets it releases its place."""
        await self._places.acquire()
        try:
            return await self._listener.accept()
        except BaseException:
            self._places.release()
            raise

    async def aclose(self) -> None:
        """Stop listening."""
        await self._listener.aclose()


async def serve(listener: trio.SocketListener, answer: Answer) -> None:
    """Serve for ever. A client's faults and the world's end its connection; ours propagate."""
    places = trio.Semaphore(CONNECTIONS_MAX)

    async def converse(stream: trio.SocketStream) -> None:
        try:
            async with stream:
                await _converse(Conversation(stream), answer)
        except (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError) as error:
            log.debug("control: the client went away or hangs: %s", error)
        finally:
            places.release()

    await trio.serve_listeners(converse, [_Bounded(listener, places)])


async def _converse(conversation: Conversation, answer: Answer) -> None:
    try:
        with trio.fail_after(REQUEST_TIMEOUT_S):
            request = read_request_untrusted(await conversation.receive_body())
    except ProtocolError as error:
        why = str(error)
        await conversation.refuse(
            Fault("usage", "the request was not understood", why, "use the clanctl of this version")
        )
        return
    try:
        _authorize(request, conversation.stream)
        result = await answer(request, conversation)
        if request.call not in RAW_CALLS:
            await conversation.result(result)
    except Fault as fault:
        await conversation.refuse(fault)
    except OSError as error:
        log.warning("control: %s", error)
        why = error.strerror or str(error)
        await conversation.refuse(Fault("failed", "the daemon", why, "see its log: `journalctl -u clanmeshd`"))
    except ProtocolError as error:
        await conversation.refuse(Fault("refused", request.call, str(error), "see `clanctl status`"))


def _authorize(request: Request, stream: trio.SocketStream) -> None:
    if not WRITES[request.call]:
        return
    credentials = stream.socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEERCRED.size)
    _, uid, _ = _PEERCRED.unpack(credentials)
    if uid not in (0, os.geteuid()):
        what = f"{request.call.replace('-', ' ')} was refused"  # as it is typed, mostly
        raise Fault("denied", what, f"it {_deed(request.call)}, which is for root", "try sudo")


def _deed(call: str) -> str:
    match call:
        case "secrets-show":
            return "shows a secret"
        case "init" | "join" | "leave" | "rotate":
            return "changes this device"
    return "changes the clan"
