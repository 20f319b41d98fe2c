"""Machines by fork: under emulation an interpreter takes seconds to start and to import, a fork none."""

import ctypes
import os
import signal
import sys
from collections.abc import Sequence
from typing import IO

from tests.net import wireguard_node

_CLONE_NEWNS, _CLONE_NEWNET = 0x00020000, 0x40000000
_MS_REC, _MS_PRIVATE = 0x4000, 0x40000
_LIBC = ctypes.CDLL(None, use_errno=True)


class Forked:
    """A machine's process, in fresh namespaces or in those of the process `beside`."""

    def __init__(self, beside: int | None, _wrapper: Sequence[str]) -> None:
        for_it, ours = os.pipe()
        from_it, its = os.pipe()
        sys.stdout.flush()
        self.pid = os.fork()
        if self.pid == 0:
            _become_machine(beside, for_it, its)
        os.close(for_it)
        os.close(its)
        self.stdin: IO[bytes] | None = os.fdopen(ours, "wb", buffering=0)
        self.stdout: IO[bytes] | None = os.fdopen(from_it, "rb", buffering=0)
        self._status: int | None = None

    def kill(self) -> None:
        """End it."""
        if self._status is None:
            os.kill(self.pid, signal.SIGKILL)

    def wait(self) -> int:
        """Collect its status."""
        if self._status is None:
            self._status = os.waitpid(self.pid, 0)[1]
        return self._status


def _become_machine(beside: int | None, stdin: int, stdout: int) -> None:
    status = 1
    try:
        os.dup2(stdin, 0)
        os.dup2(stdout, 1)
        _enter(beside)
        wireguard_node.main()
        status = 0
    finally:
        os._exit(status)


def _enter(beside: int | None) -> None:
    if beside is None:
        _checked(_LIBC.unshare(_CLONE_NEWNS | _CLONE_NEWNET))
        _checked(_LIBC.mount(b"none", b"/", None, _MS_REC | _MS_PRIVATE, None))
        return
    for name, kind in (("net", _CLONE_NEWNET), ("mnt", _CLONE_NEWNS)):
        with open(f"/proc/{beside}/ns/{name}") as namespace:
            _checked(_LIBC.setns(namespace.fileno(), kind))


def _checked(result: int) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
