"""Real daemons behind routers of the laboratory, and what their WireGuard says of one another."""

import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from clanctl.demo.lab import Lab, Node
from clanctl.demo.network import INTERFACE
from clanmeshd.overlay import uapi
from clanmeshd.overlay.device import WireGuard
from tests.net.nat_lab import NatLab, Site

_READ_BYTES: Final = 65_536


class NatWorld(Lab):
    """Machines with real daemons at the sites of a laboratory."""

    def __init__(self, directory: Path, nats: NatLab) -> None:
        super().__init__(directory)
        self._nats = nats
        self._sites: dict[str, Site | None] = {}
        self.addresses: dict[str, frozenset[str]] = {}  # by machine: its own, and that of its outermost router

    def start_at(self, name: str, site: Site | None) -> Node:
        """Start a machine and its daemon at a site, or with a public address. Raises LabError."""
        self._sites[name] = site
        return self.start_node(name, wait=False)

    def plug_in(self, node: Node) -> None:
        """Connect a new machine at its site."""
        site = self._sites[node.name]
        host = self._nats.plug(node.pid, site, INTERFACE)
        self.addresses[node.name] = frozenset({host.address} if site is None else {host.address, site.outside})

    def wireguard(self, node: Node) -> WireGuard:
        """What the WireGuard of a machine knows now; nothing as long as there is none."""
        directory = Path(f"/proc/{node.pid}/root/run/wireguard")
        for path in directory.glob("*.sock"):
            with socket.socket(socket.AF_UNIX) as asker:
                try:
                    asker.connect(str(path))
                    return uapi.decode_device(_exchanged(asker))
                except OSError:
                    break  # it is just coming up
        return WireGuard()


@contextmanager
def nat_world(nats: NatLab) -> Iterator[NatWorld]:
    """An empty world, whose files go with it."""
    with tempfile.TemporaryDirectory(prefix="clanmesh-bench-") as folder, NatWorld(Path(folder), nats) as world:
        yield world


def _exchanged(asker: socket.socket) -> bytes:
    asker.sendall(uapi.GET)
    answer = b""
    while not answer.endswith(uapi.END):
        chunk = asker.recv(_READ_BYTES)
        if not chunk:
            raise OSError("hung up")
        answer += chunk
    return answer
