"""The way into the overlay: find out what this machine has, and open it."""

import errno
from collections.abc import Mapping
from typing import Protocol

import trio

from clanmeshd.core.effects import SetTunnels
from clanmeshd.overlay.device import OverlayUnavailable, TunnelState
from clanmeshd.overlay.interface import Control, Interface
from clanmeshd.overlay.routing import Routing
from clanmeshd.overlay.wireguard_kernel import no_kernel_wireguard, open_kernel
from clanmeshd.overlay.wireguard_userspace import UserspaceControl, no_permission

__all__ = ["Backend", "OverlayUnavailable", "TunnelState", "open_backend"]


class Backend(Protocol):
    """An open overlay interface. All methods raise OSError for the world's faults."""

    @property
    def kind(self) -> str:
        """`kernel`, `userspace` or `none`."""
        ...

    async def apply(self, wanted: SetTunnels) -> None:
        """Make the interface what is wanted. Doing it twice is harmless, and repairs what others changed.

        Raises OSError; among them OverlayUnavailable with a remedy, for a port in use or a foreign interface.
        """
        ...

    def take_lost(self) -> frozenset[bytes]:
        """Drain the public keys of peers with whom the session is gone, though nobody wanted that."""
        ...

    async def read(self) -> Mapping[bytes, TunnelState]:
        """What WireGuard knows of each peer, by X25519 public key. Raises OSError when the interface is gone."""
        ...

    async def close(self) -> None:
        """Remove the interface that we made."""
        ...


class NoOverlay:
    """The backend of one who switched the overlay off."""

    kind = "none"

    async def apply(self, wanted: SetTunnels) -> None:
        """Nothing."""

    def take_lost(self) -> frozenset[bytes]:
        """Nobody's."""
        return frozenset()

    async def read(self) -> Mapping[bytes, TunnelState]:
        """Nobody."""
        return {}

    async def close(self) -> None:
        """Nothing."""


async def open_backend(interface: str, nursery: trio.Nursery, kind: str = "auto") -> Backend:
    """Open the overlay: `kind` is `auto` (kernel, else userspace), `kernel`, `userspace` or `none`.

    Makes the interface, or takes over the one that an earlier run of ours left. Raises only OverlayUnavailable.
    The supervision of wireguard-go runs in `nursery`, and ends with `close` or with the nursery.
    """
    if kind == "none":
        return NoOverlay()
    try:
        return await _open(interface, nursery, kind)
    except OverlayUnavailable:
        raise
    except OSError as error:
        if error.errno in (errno.EPERM, errno.EACCES):
            raise no_permission() from error
        why = error.strerror or str(error)
        raise OverlayUnavailable(f"the interface {interface}", why, "see the log") from error


async def _open(name: str, nursery: trio.Nursery, kind: str) -> Backend:
    routing = Routing()
    try:
        control: Control | None = None
        if kind in ("auto", "kernel"):
            control = await open_kernel(name, routing)
            if control is None and kind == "kernel":
                raise no_kernel_wireguard()
        if control is not None:
            return Interface(name, routing, control)
        return await _open_userspace(name, routing, nursery)
    except BaseException:
        routing.close()
        raise


async def _open_userspace(name: str, routing: Routing, nursery: trio.Nursery) -> Backend:
    control = UserspaceControl(name, routing, nursery)
    try:
        await control.create()
    except BaseException:
        await control.close()
        raise
    interface = Interface(name, routing, control)
    nursery.start_soon(control.supervise, interface.restore)
    return interface
