"""WireGuard in userspace: wireguard-go under our supervision, spoken to through its configuration socket."""

import errno
import logging
import os
import random
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import trio

from clanmeshd.overlay import uapi
from clanmeshd.overlay.child import Child
from clanmeshd.overlay.device import OverlayUnavailable, WireGuard
from clanmeshd.overlay.interface import require_ours
from clanmeshd.overlay.plan import Configure
from clanmeshd.overlay.routing import Routing

PROGRAM: Final = "wireguard-go"
SOCKET_DIRECTORY: Final = Path("/var/run/wireguard")  # compiled into every userspace WireGuard
TUN_DEVICE: Final = Path("/dev/net/tun")

START_TIMEOUT_S: Final = 5.0  # it takes 20 ms on an idle machine
READY_POLL_S: Final = 0.01
PREDECESSOR_GRACE_S: Final = 2.0  # the one of a daemon that was killed ends by itself at once
ANSWER_TIMEOUT_S: Final = 5.0
ANSWER_BYTES_MAX: Final = 4 << 20  # 500 peers are 150 KB
RESTART_FIRST_S: Final = 0.1
RESTART_MAX_S: Final = 30.0
STEADY_S: Final = 60.0  # one that ran so long starts the backoff anew
_READ_BYTES: Final = 65_536

log = logging.getLogger(__name__)


class UserspaceControl:
    """One interface of wireguard-go's. A program that does not answer is killed, one that ended is restarted."""

    kind = "userspace"

    def __init__(self, name: str, routing: Routing, nursery: trio.Nursery, program: str = PROGRAM) -> None:
        self._name = name
        self._routing = routing
        self._nursery = nursery
        self._program = program
        self._socket = os.fspath(SOCKET_DIRECTORY / f"{name}.sock")
        self._child: Child | None = None
        self._known: uapi.Known = {}
        self._supervision = trio.CancelScope()

    async def create(self) -> None:
        """Start the program and mark its interface. Raises OverlayUnavailable or OSError."""
        await self._end_child()
        program = self._find_program()
        await self._make_room()
        environment = {**os.environ, "LOG_LEVEL": "error"}
        self._child = Child([program, "-f", self._name], environment, self._nursery)
        await self._until_ready(self._child)
        link = await self._routing.read_link(self._name)
        if link is None:
            raise OSError(errno.ENODEV, f"{self._program} made no interface {self._name}")
        await self._routing.mark(link.index)

    async def read(self) -> WireGuard:
        """Read the device back."""
        return uapi.decode_device(await self._ask(uapi.GET), self._known)

    async def configure(self, change: Configure) -> None:
        """Make a change, in one transaction."""
        uapi.decode_result(await self._ask(uapi.encode_configure(change)))

    async def close(self) -> None:
        """End the program; its interface goes with it."""
        self._supervision.cancel()
        await self._end_child()

    async def supervise(self, restore: Callable[[], Awaitable[None]]) -> None:
        """Start the program again whenever it ends, with backoff, and have everything applied once more."""
        pause_s = RESTART_FIRST_S
        with self._supervision:
            while True:
                since = trio.current_time()
                await self._until_ended()
                if trio.current_time() - since > STEADY_S:
                    pause_s = RESTART_FIRST_S
                await trio.sleep(pause_s * (1 + random.random()))
                pause_s = min(2 * pause_s, RESTART_MAX_S)
                try:
                    await restore()
                except OSError as error:
                    log.warning("overlay: %s does not come back: %s", self._name, error)

    async def _until_ended(self) -> None:
        child = self._child
        if child is None or not child.running:
            return
        await child.wait()
        log.warning("overlay: %s of %s ended (%s)", self._program, self._name, await child.last_line())

    async def _end_child(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            await child.stop()

    def _find_program(self) -> str:
        program = shutil.which(self._program)
        if program is None:
            raise OverlayUnavailable(
                "the overlay",
                f"this kernel has no WireGuard, and there is no {self._program} to do without it",
                f"apt install {self._program}, or load the kernel's module: modprobe wireguard",
            )
        if not TUN_DEVICE.exists():
            raise OverlayUnavailable(
                "the overlay", f"there is no {TUN_DEVICE}", "modprobe tun; a container must be given the device"
            )
        return program

    async def _make_room(self) -> None:
        """See to it that neither an interface nor a program of the name is there. Raises OverlayUnavailable."""
        if not await self._predecessor_gone():
            raise OverlayUnavailable(
                f"the interface {self._name}",
                f"another program serves {self._socket}",
                "stop the other clanmeshd, or set another `interface` in the configuration",
            )
        link = await self._routing.read_link(self._name)
        if link is not None:
            require_ours(self._name, link)
            await self._routing.delete_link(link.index)
        try:
            SOCKET_DIRECTORY.mkdir(mode=0o755, parents=True, exist_ok=True)
        except OSError as error:
            raise OverlayUnavailable(
                "the overlay", f"{SOCKET_DIRECTORY} can't be made: {error.strerror}", "run clanmeshd as root"
            ) from error

    async def _predecessor_gone(self) -> bool:
        deadline = trio.current_time() + PREDECESSOR_GRACE_S
        while await self._answers():
            if trio.current_time() > deadline:
                return False
            await trio.sleep(READY_POLL_S)
        return True

    async def _until_ready(self, child: Child) -> None:
        with trio.move_on_after(START_TIMEOUT_S):
            while child.running:
                if await self._answers():
                    return
                await trio.sleep(READY_POLL_S)
            raise _refusal(self._program, await child.last_line())
        child.kill()
        raise OverlayUnavailable(
            "the overlay",
            f"{self._program} did not come up in {START_TIMEOUT_S:.0f} s",
            f"try it by hand: {self._program} -f {self._name}",
        )

    async def _answers(self) -> bool:
        try:
            stream = await trio.open_unix_socket(self._socket)
        except OSError:
            return False
        await stream.aclose()
        return True

    async def _ask(self, request: bytes) -> bytes:
        child = self._child
        if child is None or not child.running:
            raise OSError(errno.ENODEV, f"{self._program} is not running")
        try:
            with trio.fail_after(ANSWER_TIMEOUT_S):
                return await _exchange(self._socket, request)
        except trio.BrokenResourceError as error:
            raise OSError(errno.EPIPE, f"{self._program} hung up") from error
        except trio.TooSlowError:
            child.kill()  # the supervisor starts a sound one
            raise TimeoutError(errno.ETIMEDOUT, f"{self._program} did not answer") from None


async def _exchange(path: str, request: bytes) -> bytes:
    answer = bytearray()
    async with await trio.open_unix_socket(path) as stream:
        await stream.send_all(request)
        while not answer.endswith(uapi.END):
            chunk = await stream.receive_some(_READ_BYTES)
            answer += chunk
            if not chunk or len(answer) > ANSWER_BYTES_MAX:
                raise OSError(errno.EBADMSG, f"an answer broken off after {len(answer)} bytes")
    return bytes(answer)


def _refusal(program: str, said: str) -> OverlayUnavailable:
    if "not permitted" in said or "ermission denied" in said:
        return no_permission()
    return OverlayUnavailable("the overlay", f"{program}: {said}", f"try it by hand: {program} -f NAME")


def no_permission() -> OverlayUnavailable:
    """For one who is not root."""
    return OverlayUnavailable(
        "the overlay",
        "no permission to make a network interface",
        "run clanmeshd as root, or give it CAP_NET_ADMIN",
    )
