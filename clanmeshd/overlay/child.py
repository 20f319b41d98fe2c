"""A program that runs as long as we do: started, waited for, asked to end, and gone when we are."""

import contextlib
import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import trio

TETHER: Final = Path(__file__).with_name("tether.py")  # run, not imported: it takes a module that is large
TERM_GRACE_S: Final = 0.7  # wireguard-go needs milliseconds; we have to be gone within a second ourselves
_LAST_LINES_MAX: Final = 8
_LINE_BYTES_MAX: Final = 400
_READ_BYTES: Final = 4096


class Child:
    """A running program, which does not outlive its nursery. Its last lines of output are kept for an error."""

    def __init__(self, argv: Sequence[str], env: Mapping[str, str], nursery: trio.Nursery) -> None:
        """Start it now. A program that can't be run shows as one that ended, with the reason in its output."""
        reading, writing = os.pipe2(os.O_CLOEXEC)
        tied = [sys.executable, "-I", "-S", os.fspath(TETHER), str(os.getpid()), *argv]
        # Not through trio: it starts programs from a worker thread, and the tether is to the thread that forked.
        try:
            self._process = subprocess.Popen(
                tied,
                env=dict(env),
                stdin=subprocess.DEVNULL,
                stdout=writing,
                stderr=writing,
                start_new_session=True,  # a Ctrl-C in our terminal is ours to handle
            )
        except BaseException:
            os.close(reading)
            raise
        finally:
            os.close(writing)
        # At once: a status that `poll` has collected leaves nothing to open.
        self._pidfd = os.pidfd_open(self._process.pid)
        self._lines: deque[bytes] = deque(maxlen=_LAST_LINES_MAX)
        self._output_ended = trio.Event()
        self._ended = trio.Event()
        nursery.start_soon(self._reap)
        nursery.start_soon(self._keep_lines, trio.lowlevel.FdStream(reading))

    @property
    def pid(self) -> int:
        """Its process id, valid until `wait` has returned."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """It has not ended yet."""
        return self._process.poll() is None

    async def wait(self) -> None:
        """Return when it has ended."""
        await self._ended.wait()

    async def last_line(self) -> str:
        """What it said last, after it has ended; its exit status if it was silent."""
        with trio.move_on_after(TERM_GRACE_S):
            await self._output_ended.wait()
        said = [line.decode(errors="replace").strip() for line in self._lines if line.strip()]
        return said[-1] if said else f"it ended with status {self._process.returncode}"

    def kill(self) -> None:
        """End it now."""
        if self.running:
            self._process.send_signal(signal.SIGKILL)

    async def stop(self) -> None:
        """Ask it to end, and end it if it does not. It has ended when this returns."""
        if self.running:
            self._process.send_signal(signal.SIGTERM)
        try:
            with trio.move_on_after(TERM_GRACE_S):
                await self.wait()
        finally:
            self.kill()
        await self.wait()

    async def _reap(self) -> None:
        """Collect its status when it ends; if we are cancelled first, it ends with us, politely if it can."""
        try:
            await trio.lowlevel.wait_readable(self._pidfd)
        finally:
            if self.running:
                self._process.send_signal(signal.SIGTERM)
            with trio.CancelScope(shield=True):
                with trio.move_on_after(TERM_GRACE_S):
                    await trio.lowlevel.wait_readable(self._pidfd)
                self.kill()
                await trio.lowlevel.wait_readable(self._pidfd)
            os.close(self._pidfd)
            self._process.wait()
            self._ended.set()

    async def _keep_lines(self, output: trio.abc.ReceiveStream) -> None:
        rest = b""
        with contextlib.suppress(trio.BrokenResourceError):
            async with output:
                while chunk := await output.receive_some(_READ_BYTES):
                    *lines, rest = (rest + chunk).split(b"\n")
                    self._lines.extend(line[:_LINE_BYTES_MAX] for line in lines if line.strip())
                    rest = rest[:_LINE_BYTES_MAX]
        if rest.strip():
            self._lines.append(rest)
        self._output_ended.set()
