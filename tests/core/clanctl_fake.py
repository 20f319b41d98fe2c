"""A control server for the tests of `clanctl`: answers what it is told to, and keeps what it was asked."""

import os
import shutil
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from clanctl.cli import run
from clanmesh_protocol.control import (
    LENGTH_BYTES,
    SOCKET_NAME,
    Fault,
    Request,
    decode_frame_untrusted,
    encode_frame,
    fault_value,
    read_request_untrusted,
)

Answer = Callable[[Request, "Line"], Any]


class Line:
    """One connection, on the server's side."""

    def __init__(self, connected: socket.socket) -> None:
        self.socket = connected

    def exactly(self, count: int) -> bytes:
        """Read so many bytes."""
        data = b""
        while len(data) < count:
            chunk = self.socket.recv(count - len(data))
            if not chunk:
                raise ConnectionError("the client hung up")
            data += chunk
        return data

    def body(self) -> bytes:
        """Read a frame."""
        return self.exactly(int.from_bytes(self.exactly(LENGTH_BYTES), "big"))

    def frame(self) -> dict[str, Any]:
        """Read a frame's map."""
        return decode_frame_untrusted(self.body())

    def send(self, **frame: Any) -> None:
        """Send a frame."""
        self.socket.sendall(encode_frame(frame))


class FakeDaemon:
    """Serves one request a connection by the function of its call's name, until the block ends."""

    def __init__(self, runtime: Path) -> None:
        self.runtime = runtime
        self.answers: dict[str, Answer] = {}
        self.asked: list[Request] = []
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(os.fspath(runtime / SOCKET_NAME))
        self._listener.listen(8)
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def says(self, **results: Any) -> None:
        """Answer calls (hyphens as underscores) with these values; a Fault is a refusal."""
        for call, value in results.items():
            self.answers[call.replace("_", "-")] = lambda request, line, value=value: value

    def args(self, call: str) -> dict[str, Any]:
        """What the last request of a call was given."""
        return next(request.args for request in reversed(self.asked) if request.call == call)

    def close(self) -> None:
        """Stop serving and wait for the thread."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join(10)
        self._listener.close()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                connected, _ = self._listener.accept()
                with connected, suppress(ConnectionError):
                    self._converse(Line(connected))

    def _converse(self, line: Line) -> None:
        request = read_request_untrusted(line.body())
        self.asked.append(request)
        try:
            value = self.answers[request.call](request, line)
            if isinstance(value, Fault):
                raise value
        except Fault as fault:
            line.send(error=fault_value(fault))
        else:
            if value is not RAW:
                line.send(result=value)


RAW = object()  # what an answer gives when it has sent its result itself


@contextmanager
def fake_daemon(kind: type[FakeDaemon] = FakeDaemon) -> Iterator[FakeDaemon]:
    """A server in a directory with a short name: a socket's path has room for 107 bytes."""
    directory = Path(tempfile.mkdtemp(prefix="clan-"))
    server = kind(directory)
    try:
        yield server
    finally:
        server.close()
        shutil.rmtree(directory)


def ctl(daemon: FakeDaemon, *words: str) -> int:
    """Run a command that asks this server; its exit status."""
    return run(["--runtime-dir", str(daemon.runtime), *words])
