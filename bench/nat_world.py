"""Real daemons behind routers of the laboratory."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from clanctl.demo.lab import Lab, Node
from clanctl.demo.network import INTERFACE
from tests.net.nat_lab import Host, NatLab, Site


class NatWorld(Lab):
    """Machines with real daemons at the sites of a laboratory."""

    def __init__(self, directory: Path, nats: NatLab) -> None:
        super().__init__(directory)
        self._nats = nats
        self._sites: dict[str, Site | None] = {}
        self._hosts: dict[str, Host] = {}
        self.addresses: dict[str, frozenset[str]] = {}  # by machine: its own, and that of its outermost router

    def start_at(self, name: str, site: Site | None, program: str = "clanmeshd", *arguments: str) -> Node:
        """Start a machine and its daemon at a site, or with a public address. Raises LabError."""
        self._sites[name] = site
        return self.start_node(name, *arguments, program=program, wait=False)

    def plug_in(self, node: Node) -> None:
        """Connect a new machine at its site."""
        site = self._sites[node.name]
        host = self._hosts[node.name] = self._nats.plug(node.pid, site, INTERFACE)
        self.addresses[node.name] = frozenset({host.address} if site is None else {host.address, site.outside})

    def unplug(self, node: Node) -> None:
        """Pull a machine's cable."""
        self._nats.unplug(self._hosts[node.name], INTERFACE)

    def move(self, node: Node, site: Site | None) -> None:
        """Carry a machine to another site, where it has another address."""
        self.unplug(node)
        self._sites[node.name] = site
        self.plug_in(node)

    def renumber(self, node: Node) -> None:
        """Give a machine's site another address outside, of which the machine sees nothing."""
        site = self._sites[node.name]
        assert site is not None
        self._nats.renumber(site)
        self.addresses[node.name] = frozenset({self._hosts[node.name].address, site.outside})

    def cut(self, one: Node, other: Node) -> None:
        """Lose all that passes between two machines' places on the internet."""
        self._nats.cut(self.outside(one), self.outside(other))

    def outside(self, node: Node) -> str:
        """The address that a machine has for the internet."""
        site = self._sites[node.name]
        return self._hosts[node.name].address if site is None else site.outside


@contextmanager
def nat_world(nats: NatLab) -> Iterator[NatWorld]:
    """An empty world, whose files go with it."""
    with tempfile.TemporaryDirectory(prefix="clanmesh-bench-") as folder, NatWorld(Path(folder), nats) as world:
        yield world
