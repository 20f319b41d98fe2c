"""Notices at once when somebody changes our interface, its address or the route to the clan: the kernel tells.

Network managers that are restarted take away what they did not make, and people type `ip link del`. What is
noticed is a reason to look, never more: whoever is woken reads what is there. WireGuard's own half has no such
news; changes of that are found by looking now and then.
"""

import socket
from collections.abc import Callable
from typing import Final

import trio

from clanmeshd.overlay.netlink import NETLINK_ROUTE, Message, parse_attributes, parse_messages

SETTLE_S: Final = 0.1  # who changes one thing changes several: a link goes with its addresses and routes
PAUSE_S: Final = 1.0  # between two wakings: who undoes all that we do gets no more of our time than this

_LINK_GROUP, _IPV6_ADDRESS_GROUP, _IPV6_ROUTE_GROUP = 0x1, 0x100, 0x400  # RTMGRP_* of linux/rtnetlink.h
_LINK_KINDS: Final = (16, 17)  # RTM_NEWLINK, RTM_DELLINK
_ADDRESS_KINDS: Final = (20, 21)
_ROUTE_KINDS: Final = (24, 25)
_LINK_HEADER_BYTES, _ADDRESS_HEADER_BYTES, _ROUTE_HEADER_BYTES = 16, 8, 12
_IFLA_IFNAME: Final = 3
_IFA_ADDRESS: Final = 1
_RTA_DST: Final = 1
_RECEIVE_BYTES: Final = 65_536
_READS_MAX: Final = 256  # of one turn: the socket's buffer holds fewer


class Drift:
    """Watches one interface by name. `prefix` gives what the clan's addresses begin with, once there are any."""

    def __init__(self, name: str, prefix: Callable[[], bytes | None]) -> None:
        self._name = name.encode() + b"\0"
        self._prefix = prefix

    async def run(self, noticed: Callable[[], None]) -> None:
        """Call `noticed` soon after each change, at a bounded rate, for ever.

        Returns where netlink is not permitted: then what is found by looking now and then must do.
        """
        kind = socket.SOCK_RAW | socket.SOCK_NONBLOCK
        try:
            listener = socket.socket(socket.AF_NETLINK, kind, NETLINK_ROUTE)
        except OSError:
            return
        with listener:
            listener.bind((0, _LINK_GROUP | _IPV6_ADDRESS_GROUP | _IPV6_ROUTE_GROUP))
            while True:
                await trio.lowlevel.wait_readable(listener)
                await trio.sleep(SETTLE_S)
                if self._drain(listener):
                    noticed()
                    await trio.sleep(PAUSE_S)

    def _drain(self, listener: socket.socket) -> bool:
        """Read what waits; whether any of it is about us. What was lost may have been."""
        is_ours = False
        for _ in range(_READS_MAX):
            try:
                is_ours |= any(map(self.concerns_us, parse_messages(listener.recv(_RECEIVE_BYTES))))
            except BlockingIOError:
                break
            except OSError:  # more came than the buffer holds, or it can't be read
                is_ours = True
        return is_ours

    def concerns_us(self, message: Message) -> bool:
        """Whether a piece of news is about the interface, or about an address or a route of the clan's network."""
        if message.kind in _LINK_KINDS:
            return parse_attributes(message.body[_LINK_HEADER_BYTES:]).get(_IFLA_IFNAME) == self._name
        prefix = self._prefix()
        if prefix is None:
            return False
        if message.kind in _ADDRESS_KINDS:
            address = parse_attributes(message.body[_ADDRESS_HEADER_BYTES:]).get(_IFA_ADDRESS, b"")
            return address.startswith(prefix)
        if message.kind in _ROUTE_KINDS:
            return parse_attributes(message.body[_ROUTE_HEADER_BYTES:]).get(_RTA_DST, b"").startswith(prefix)
        return False
