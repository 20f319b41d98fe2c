"""The kernel's WireGuard, through generic netlink."""

import errno
import struct
from typing import Final

from clanmeshd.overlay.device import OverlayUnavailable, WireGuard
from clanmeshd.overlay.interface import require_ours
from clanmeshd.overlay.netlink import NETLINK_GENERIC, NetlinkSocket, Request, attribute, parse_attributes
from clanmeshd.overlay.plan import Configure
from clanmeshd.overlay.routing import Routing
from clanmeshd.overlay.wireguard_messages import Known, decode_device, encode_configure, encode_get

LINK_KIND: Final = "wireguard"

_GENL_ID_CTRL: Final = 16
_CTRL_CMD_GETFAMILY: Final = 3
_CTRL_VERSION: Final = 1
_CTRL_ATTR_FAMILY_ID, _CTRL_ATTR_FAMILY_NAME = 1, 2
_GENL_HEADER: Final = struct.Struct("=BBxx")  # command, version


class KernelControl:
    """One WireGuard interface of the kernel's."""

    kind = "kernel"

    def __init__(self, name: str, routing: Routing) -> None:
        self._name = name
        self._routing = routing
        self._netlink = NetlinkSocket(NETLINK_GENERIC)
        self._known: Known = {}
        self._family = 0  # of the kernel's WireGuard; 0: not asked yet

    async def create(self) -> None:
        """Make the interface, or take over the one that an earlier run of ours left.

        Raises OverlayUnavailable, or OSError: EOPNOTSUPP when the kernel has no WireGuard, EPERM without
        permission.
        """
        link = await self._routing.read_link(self._name)
        if link is not None:
            require_ours(self._name, link)
            if link.kind == LINK_KIND:
                return
            await self._routing.delete_link(link.index)
        await self._routing.create_wireguard(self._name)

    async def read(self) -> WireGuard:
        """Dump the device."""
        family = await self._family_id()
        return decode_device(await self._netlink.dump(Request(family, 0, encode_get(self._name))), self._known)

    async def configure(self, change: Configure) -> None:
        """Make a change, several peers to a message."""
        family = await self._family_id()
        for body in encode_configure(self._name, change):
            await self._netlink.ask(Request(family, 0, body))

    async def close(self) -> None:
        """Close the socket."""
        self._netlink.close()

    async def _family_id(self) -> int:
        if self._family == 0:
            body = _GENL_HEADER.pack(_CTRL_CMD_GETFAMILY, _CTRL_VERSION)
            body += attribute(_CTRL_ATTR_FAMILY_NAME, b"wireguard\0")
            (reply,) = await self._netlink.ask(Request(_GENL_ID_CTRL, 0, body))
            found = parse_attributes(reply[_GENL_HEADER.size :])
            (self._family,) = struct.unpack("=H", found[_CTRL_ATTR_FAMILY_ID])
        return self._family


async def open_kernel(name: str, routing: Routing) -> KernelControl | None:
    """Make the kernel's interface; None when this kernel has no WireGuard. Raises OSError otherwise."""
    control = KernelControl(name, routing)
    try:
        await control.create()
    except OSError as error:
        await control.close()
        if error.errno in (errno.EOPNOTSUPP, errno.EAFNOSUPPORT):
            return None
        raise
    return control


def no_kernel_wireguard() -> OverlayUnavailable:
    """For one who insists on the kernel."""
    return OverlayUnavailable(
        "the kernel's WireGuard",
        "this kernel has no module of that name",
        'modprobe wireguard, install linux-image-amd64, or set overlay = "userspace"',
    )
