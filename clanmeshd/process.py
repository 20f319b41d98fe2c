"""The only place that starts programs which end by themselves: bounded in time and in output."""

import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import trio

OUTPUT_BYTES_MAX: Final = 1 << 20  # a build's log is kept by its end; a megabyte holds the reason
_CHUNK_BYTES: Final = 65_536
_LINGER_S: Final = 0.2  # for output that is still in the pipes when the program has ended


@dataclass(frozen=True, slots=True)
class Finished:
    """How a program ended. `returncode` is negative for a signal, as in `subprocess`."""

    returncode: int
    stdout: bytes
    stderr: bytes
    timed_out: bool
    overflowed: bool = False  # it was ended since it wrote too much

    @property
    def ok(self) -> bool:
        """It exited with 0 in time, and in no more words than it was allowed."""
        return self.returncode == 0 and not self.timed_out and not self.overflowed

    @property
    def complaint(self) -> str:
        """The last line that it wrote to its standard error, for a one-line reason."""
        lines = self.stderr.decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else f"exit status {self.returncode}"


async def run(
    argv: Sequence[str | Path],
    *,
    timeout_s: float,
    stdin: bytes = b"",
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    output_bytes_max: int = OUTPUT_BYTES_MAX,
    end_at_overflow: bool = False,
    pass_fds: Sequence[int] = (),
) -> Finished:
    """Run a program to its end in a process group of its own, which is killed at the timeout or on cancellation.

    Output beyond `output_bytes_max` is dropped from its beginning, or ends the program. Raises OSError when that
    can't be started; a failing exit is a result, not an error.
    """
    process = await trio.lowlevel.open_process(
        [os.fspath(word) for word in argv],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=dict(env) if env is not None else None,
        cwd=cwd,
        pass_fds=tuple(pass_fds),
        start_new_session=True,
    )
    stdout, stderr = bytearray(), bytearray()
    timed_out = overflowed = False

    def overflow() -> None:
        nonlocal overflowed
        if end_at_overflow and not overflowed:
            overflowed = True
            _kill(process)

    try:
        with trio.move_on_after(timeout_s) as limit:
            async with trio.open_nursery() as nursery:
                assert process.stdin is not None
                assert process.stdout is not None
                assert process.stderr is not None
                nursery.start_soon(_feed, process.stdin, stdin)
                nursery.start_soon(_collect, process.stdout, stdout, output_bytes_max, overflow)
                nursery.start_soon(_collect, process.stderr, stderr, output_bytes_max, lambda: None)
                await process.wait()
                # A grandchild that holds the pipes open must not hold us: what it writes later is lost.
                nursery.cancel_scope.deadline = trio.current_time() + _LINGER_S
        timed_out = limit.cancelled_caught
    finally:
        await end(process)
    assert process.returncode is not None
    return Finished(process.returncode, bytes(stdout), bytes(stderr), timed_out, overflowed)


async def _feed(stream: trio.abc.SendStream, data: bytes) -> None:
    try:
        async with stream:
            await stream.send_all(data)
    except trio.BrokenResourceError:
        return  # it did not want to read all: its exit code tells


async def _collect(
    stream: trio.abc.ReceiveStream, into: bytearray, bytes_max: int, overflow: Callable[[], None]
) -> None:
    async with stream:
        async for chunk in stream:
            into += chunk
            if len(into) > bytes_max:
                del into[: len(into) - bytes_max]
                overflow()


def _kill(process: trio.Process) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


async def end(process: trio.Process) -> None:
    """Kill a program that leads a process group, with all of that, and wait for its end; also when cancelled."""
    _kill(process)
    with trio.CancelScope(shield=True):
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                await pipe.aclose()
        await process.wait()
