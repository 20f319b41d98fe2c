"""A connection to the system's message bus: calls, one after the other, and signals in between.

Whatever goes wrong is an OSError: the bus may be restarted, and those behind it. A name that nobody has is not
started by calling it, since who switched a service off wants it so.
"""

import errno
import os
from collections import deque
from types import TracebackType
from typing import Any, Final, Self

import trio

from clanmesh_protocol.errors import ProtocolError
from clanmeshd.naming.dbus import (
    HEAD_BYTES,
    NO_START,
    BusMessage,
    Field,
    MessageKind,
    message_bytes_untrusted,
    read_message_untrusted,
    write_message,
)

ADDRESS_VARIABLE: Final = "DBUS_SYSTEM_BUS_ADDRESS"
SYSTEM_BUS: Final = "/run/dbus/system_bus_socket"
CALL_TIMEOUT_S: Final = 5.0  # a call takes milliseconds
SIGNALS_MAX: Final = 64  # while a call is under way; each says no more than that something has changed
LINE_BYTES_MAX: Final = 512  # of the words before messages begin

_DRIVER: Final = "org.freedesktop.DBus"
_DRIVER_PATH: Final = "/org/freedesktop/DBus"
_RECEIVE_BYTES: Final = 4096


class BusError(OSError):
    """A call was answered with an error. `name` is the bus' own for it, its last part."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(text or name)
        self.name = name.rpartition(".")[2]


class Bus:
    """An open connection. One task uses it at a time."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._buffer = bytearray()
        self._serial = 0
        self._signals: deque[BusMessage] = deque(maxlen=SIGNALS_MAX)

    async def aclose(self) -> None:
        """Close the connection."""
        await self._stream.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def call(
        self, destination: str, path: str, interface: str, member: str, signature: str = "", *values: Any
    ) -> tuple[Any, ...]:
        """Call a method; its results. Raises BusError, or another OSError when the bus is gone or silent."""
        self._serial += 1
        fields: dict[int, Any] = {
            Field.PATH: path,
            Field.INTERFACE: interface,
            Field.MEMBER: member,
            Field.DESTINATION: destination,
        }
        if signature:
            fields[Field.SIGNATURE] = signature
        message = BusMessage(MessageKind.CALL, self._serial, fields, values, NO_START)
        with trio.move_on_after(CALL_TIMEOUT_S):
            await self._send(write_message(message))
            return await self._reply(self._serial)
        raise OSError(errno.ETIMEDOUT, f"{destination} does not answer")

    async def driver(self, member: str, signature: str = "", *values: Any) -> tuple[Any, ...]:
        """Call the bus itself. Raises OSError."""
        return await self.call(_DRIVER, _DRIVER_PATH, _DRIVER, member, signature, *values)

    async def owner(self, name: str) -> str | None:
        """Who has a name now, by the name that no other connection ever gets. Raises OSError."""
        try:
            return str((await self.driver("GetNameOwner", "s", name))[0])
        except BusError as error:
            if error.name == "NameHasNoOwner":
                return None
            raise

    async def watch_owner(self, name: str) -> None:
        """From now on, let `owner_changed` hear of a name. Raises OSError."""
        rule = f"type='signal',sender='{_DRIVER}',member='NameOwnerChanged',arg0='{name}'"
        await self.driver("AddMatch", "s", rule)

    async def owner_changed(self) -> None:
        """Wait until a watched name has changed hands. Raises OSError."""
        while True:
            signal = self._signals.popleft() if self._signals else await self._receive()
            if signal.text(Field.SENDER) == _DRIVER and signal.text(Field.MEMBER) == "NameOwnerChanged":
                return

    async def _reply(self, serial: int) -> tuple[Any, ...]:
        while True:
            message = await self._receive()
            if message.kind == MessageKind.SIGNAL:
                self._signals.append(message)
            if message.fields.get(Field.REPLY_SERIAL) != serial:
                continue
            if message.kind == MessageKind.RETURN:
                return message.body
            if message.kind == MessageKind.ERROR:
                text = message.body[0] if message.body else ""
                raise BusError(message.text(Field.ERROR_NAME), str(text))

    async def _receive(self) -> BusMessage:
        try:
            size = message_bytes_untrusted(await self._peek(HEAD_BYTES))
            data = await self._peek(size)
            del self._buffer[:size]  # behind the last await: who is cancelled before it loses nothing
            return read_message_untrusted(data)
        except ProtocolError as error:
            raise OSError(errno.EBADMSG, f"the message bus: {error}") from error

    async def _peek(self, count: int) -> bytes:
        while len(self._buffer) < count:
            self._buffer += await self._some()
        return bytes(self._buffer[:count])

    async def _some(self) -> bytes:
        try:
            data = await self._stream.receive_some(_RECEIVE_BYTES)
        except trio.BrokenResourceError as error:
            raise _gone() from error
        if not data:
            raise _gone()
        return bytes(data)

    async def _send(self, data: bytes) -> None:
        try:
            await self._stream.send_all(data)
        except trio.BrokenResourceError as error:
            raise _gone() from error

    async def authenticate(self) -> None:
        """Say who we are, which the socket proves, and get a name. Raises OSError."""
        with trio.move_on_after(CALL_TIMEOUT_S):
            who = str(os.geteuid()).encode().hex()
            await self._send(f"\0AUTH EXTERNAL {who}\r\n".encode())
            line = await self._line()
            if not line.startswith(b"OK "):
                raise OSError(errno.EACCES, f"the message bus: {line.decode(errors='replace')}")
            await self._send(b"BEGIN\r\n")
            await self.driver("Hello")
            return
        raise OSError(errno.ETIMEDOUT, "the message bus does not answer")

    async def _line(self) -> bytes:
        while b"\r\n" not in self._buffer:
            if len(self._buffer) > LINE_BYTES_MAX:
                raise OSError(errno.EBADMSG, "the message bus speaks something else")
            self._buffer += await self._some()
        line, _, rest = bytes(self._buffer).partition(b"\r\n")
        self._buffer[:] = rest
        return line


async def system_bus() -> Bus:
    """Connect to the system's bus; the connection is a context. Raises OSError when there is none."""
    path = os.environ.get(ADDRESS_VARIABLE, "").partition("unix:path=")[2].partition(",")[0] or SYSTEM_BUS
    bus = Bus(await trio.open_unix_socket(path))
    try:
        await bus.authenticate()
    except BaseException:
        await bus.aclose()
        raise
    return bus


def _gone() -> OSError:
    return OSError(errno.ECONNRESET, "the message bus is gone")
