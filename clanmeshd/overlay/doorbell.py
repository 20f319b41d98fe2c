"""A socket on loopback at which WireGuard rings when it has something for a peer that sleeps.

It is where WireGuard has such a peer, so whatever it sends to it comes here, and nobody need look at counters to
find out. A handshake tells by its `mac1` for whom it is. One that is sent on from WireGuard's own port is as good
as one that WireGuard had sent there: what waits for it in WireGuard goes out once it is answered.

Packets of sessions that are still good come here as well, and do not tell. Other programs on this machine can ring
too, if they take WireGuard's port from it.
"""

import socket
from collections.abc import Callable, Mapping
from typing import Final

import trio

from clanmesh_protocol.endpoints import Endpoint
from clanmesh_protocol.keys import NodeId
from clanmeshd.overlay.wireguard_packets import DATA, INITIATION, INITIATION_BYTES, fits, mac1_key
from clanmeshd.sockets import prepared

BATCH_MAX: Final = 16  # packets of one turn; a handshake costs 1 us for each peer that there is
PAUSE_S: Final = 0.005  # between two turns: hundreds that are pinged at once are seen within a tenth of a second
LOOK_S: Final = 0.1  # and after packets that do not tell, for each of which all counters are looked at
BUFFER_BYTES: Final = 65_536  # of what comes meanwhile; the rest is lost, as it would be without a path

_LOOPBACK: Final = "127.0.0.1"
_PACKET_BYTES_MAX: Final = 9216  # more than any MTU of ours

Rung = Callable[[NodeId | None, bytes], None]


class Doorbell:
    """Rings of one WireGuard. Close it when `run` has ended. Raises OSError where there is no loopback."""

    def __init__(self, tunnel_port: int) -> None:
        self._tunnel_port = tunnel_port
        self._keys: dict[bytes, NodeId] = {}  # of mac1
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        with prepared(self._socket):
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
            self._socket.bind((_LOOPBACK, 0))
        self.endpoint = Endpoint(socket.inet_aton(_LOOPBACK), int(self._socket.getsockname()[1]))

    def set_peers(self, nodes: Mapping[bytes, NodeId]) -> None:
        """Say who may be rung for, by WireGuard's public key."""
        self._keys = {mac1_key(key): node for key, node in nodes.items()}

    async def run(self, rung: Rung) -> None:
        """Say whom each packet is for, None when it does not tell, for ever and at a bounded rate."""
        while True:
            await trio.lowlevel.wait_readable(self._socket)
            told = [self._take(rung) for _ in range(BATCH_MAX)]
            await trio.sleep(PAUSE_S if all(told) else LOOK_S)

    def _take(self, rung: Rung) -> bool:
        """Take one packet, if there is any. False: it does not tell for whom it is."""
        try:
            packet, source = self._socket.recvfrom(_PACKET_BYTES_MAX)
        except OSError:
            return True
        if source != (_LOOPBACK, self._tunnel_port):
            return True
        if packet.startswith(INITIATION) and len(packet) == INITIATION_BYTES:
            node = next((node for key, node in self._keys.items() if fits(packet, (key,))), None)
            if node is not None:
                rung(node, packet)
        elif packet.startswith(DATA):
            rung(None, packet)
            return False
        return True

    def close(self) -> None:
        """Hear nothing more."""
        self._socket.close()
