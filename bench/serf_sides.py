"""The two that are compared, with one face: a clan of clanmeshd, and a cluster of serf's agents.

Each machine is a namespace with one process, on a LAN of its own; addresses are those set aside for documentation.
Serf encrypts with one key that all agents have, and logs to a file, as clanmeshd does. Who has which address on
the wire is told to all machines beforehand: a kernel keeps 1024 learnt ones for all its namespaces together, and
50 machines that speak with one another need 2450. So there is no ARP here, and none in the figures.
"""

import base64
import os
import signal
import subprocess
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, Final, Protocol, Self

from bench.record_logs import RecordLogs
from bench.serf_rpc import SerfError
from bench.serf_watch import AgentFollower, EventFollower, Watch
from clanctl.client import Conversation
from clanctl.demo.lab import COMMAND_TIMEOUT_S, Lab, Node
from clanctl.demo.network import INTERFACE, Place, enter_words, names
from clanmesh_protocol.keys import ClanId

JOIN_TIMEOUT_S: Final = 30.0
KEY_BYTES: Final = 32  # AES-256, serf's strongest
PAYLOAD_BYTES: Final = 192  # of serf's event: with its name and header about the size of our record

_KEY_TYPE: Final = b"\0\0\0\x0bssh-ed25519\0\0\0\x20"  # what a public key of this type begins with


class Side(Protocol):
    """One of the two. `nodes` have machines and processes once it is entered, and know nobody yet."""

    label: str
    nodes: list[Node]
    watch: Watch

    def join(self) -> float:
        """Let all find together, one after the other; give when the last one was in (monotonic s)."""
        ...

    def agree(self) -> bool:
        """Whether all agree, by what was heard so far."""
        ...

    def update(self, name: str) -> None:
        """Let the first node tell the others something small, without waiting for it. `name`: `update-NUMBER`."""
        ...

    def kill(self, node: Node) -> float:
        """Kill a process without a warning; give when (monotonic s)."""
        ...

    def revive(self, node: Node) -> None:
        """Start it again."""
        ...


class _Machines:
    """What both have in common: the machines, and the end of them."""

    label: str

    def __init__(self, folder: Path, size: int) -> None:
        self.folder = folder
        self.nodes: list[Node] = []
        self.watch = Watch()
        self.lab = Lab(folder)
        self._names = names(size)

    def _plug(self) -> None:
        """Make the machines."""
        self.nodes = [self.lab.add_node(name) for name in self._names]
        places = [node.place for node in self.nodes]
        for node in self.nodes:
            self.lab.configure(node.pid, neighbour_batch(node.place, places))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.watch.close()
        self.lab.stop()

    def agree(self) -> bool:
        """Everybody sees everybody up."""
        up, everybody = self.watch.up, set(self._names)
        return len(up) == len(everybody) and all(seen | {name} >= everybody for name, seen in up.items())

    def kill(self, node: Node) -> float:
        """Kill a process without a warning; give when (monotonic s)."""
        assert node.daemon is not None
        self.watch.drop(node.name)
        pid = node.daemon_pid
        killed_s = time.monotonic()
        os.kill(pid, signal.SIGKILL)
        node.daemon.wait(COMMAND_TIMEOUT_S)
        return killed_s


class Ours(_Machines):
    """A clan of clanmeshd, without overlays."""

    label = "clanmesh"

    def __init__(self, folder: Path, size: int) -> None:
        super().__init__(folder, size)
        self._asked: Conversation | None = None
        self._settings = folder / "clanmesh.toml"
        self._settings.write_text('overlay = "none"\n')

    def __enter__(self) -> Self:
        self._plug()
        for node in self.nodes:
            node.arguments = ("--config", str(self._settings))
            self.lab.start_daemon(node, wait=False)
        for node in self.nodes:
            self.lab.wait_ready(node)
        return self

    def join(self) -> float:
        """Found a clan on the first machine and let the others join."""
        founder, *others = self.nodes
        founded = self.lab.call(founder, "init", {"name": "bench", "node_name": founder.name, "signers": []})
        states = {node.name: node.instance.state_directory for node in self.nodes}
        self.logs = RecordLogs(ClanId(bytes.fromhex(founded["clan"]["id"])), states)
        self.watch.add(founder.name, EventFollower(founder))
        for node in others:
            self.watch.pump(0)  # what is known by now is not to be read behind the last join
            self.logs.refresh()
            token = self.lab.call(founder, "invite", {"tags": [], "uses": 1, "ttl_s": 600})["token"]
            self.lab.call(node, "join", {"token": token, "name": node.name})
            joined_s = time.monotonic()
            self.watch.add(node.name, EventFollower(node))
        return joined_s

    def agree(self) -> bool:
        """Everybody sees everybody up, and holds the same records."""
        if not super().agree():
            return False
        self.logs.refresh()
        return self.logs.equal()

    def update(self, name: str) -> None:
        """Let one more key sign commits: an operation, which each daemon tells as an event."""
        key = base64.b64encode(_KEY_TYPE + os.urandom(32)).decode()
        self._ask("signer-add", {"line": f"ssh-ed25519 {key} {name}"})

    def set_secret(self, name: str) -> None:
        """Set a secret for one device: a record that all store and one can read."""
        owner = {"owner": "root", "group": "root", "mode": 0o400}
        self._ask("secrets-set", {"name": name, "value": b"small", "for": [self.nodes[1].name], **owner})

    def revive(self, node: Node) -> None:
        """Start a daemon again; it knows its clan."""
        self.lab.start_daemon(node)
        self.watch.add(node.name, EventFollower(node))

    def _ask(self, call: str, args: dict[str, Any]) -> None:
        if self._asked is not None:
            with self._asked as asked:
                asked.result()
        self._asked = Conversation.open(self.nodes[0].instance)
        self._asked.ask(call, args)


class Serf(_Machines):
    """A cluster of serf's agents with one of its timing profiles."""

    def __init__(self, folder: Path, size: int, program: Path, profile: str) -> None:
        super().__init__(folder, size)
        self.label = f"serf ({profile})"
        self._words = [str(program), "agent", f"-profile={profile}", "-log-level=info"]
        self._words.append(f"-encrypt={base64.b64encode(os.urandom(KEY_BYTES)).decode()}")
        self._agents: dict[str, AgentFollower] = {}

    def __enter__(self) -> Self:
        self._plug()
        for node in self.nodes:
            self._start(node)
        for node in self.nodes:
            self._follow(node)
        return self

    def join(self) -> float:
        """Let each agent join the first one."""
        for node in self.nodes[1:]:
            self._join(node, self.nodes[0])
        return time.monotonic()

    def update(self, name: str) -> None:
        """Send a user event: nothing that is kept, and not held back to be merged with others."""
        self._agents[self.nodes[0].name].ask(
            "event", {"Name": name, "Payload": os.urandom(PAYLOAD_BYTES), "Coalesce": False}
        )

    def revive(self, node: Node) -> None:
        """Start an agent again and let it join."""
        self._start(node)
        self._follow(node)
        self._join(node, next(each for each in self.nodes if each is not node))

    def _start(self, node: Node) -> None:
        words = [*self._words, f"-node={node.name}", f"-bind={_ip(node)}"]
        with node.log.open("ab") as log:
            node.daemon = subprocess.Popen(
                [*enter_words(node.pid), *words],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _follow(self, node: Node) -> None:
        self._agents[node.name] = AgentFollower(node)
        self.watch.add(node.name, self._agents[node.name])

    def _join(self, node: Node, contact: Node) -> None:
        agent = self._agents[node.name]
        number = agent.ask("join", {"Existing": [_ip(contact)], "Replay": False})
        if not self.watch.until(lambda: number in agent.answers, JOIN_TIMEOUT_S):
            raise SerfError(f"the agent of {node.name} could not join within {JOIN_TIMEOUT_S:.0f} s")


@contextmanager
def ours(size: int) -> Iterator[Ours]:
    """A clan whose daemons run and are in no clan yet."""
    with TemporaryDirectory(prefix="clanmesh-bench-") as folder, Ours(Path(folder), size) as side:
        yield side


@contextmanager
def serf(size: int, program: Path, profile: str) -> Iterator[Serf]:
    """Agents that run and know nobody yet."""
    with (
        TemporaryDirectory(prefix="clanmesh-bench-") as folder,
        Serf(Path(folder), size, program, profile) as side,
    ):
        yield side


def neighbour_batch(own: Place, places: Iterable[Place]) -> str:
    """Input of `ip -batch -` on a machine: its own address on the wire, and those of all others."""
    lines = [f"link set {INTERFACE} address {_wire_address(own)}"]
    for place in places:
        if place != own:
            known = f"lladdr {_wire_address(place)} dev {INTERFACE} nud permanent"
            lines += [f"neigh replace {ip.partition('/')[0]} {known}" for ip in (place.ipv4, place.ipv6)]
    return "".join(f"{line}\n" for line in lines)


def _wire_address(place: Place) -> str:
    return f"02:00:00:00:{place.number >> 8:02x}:{place.number & 255:02x}"  # 02: given by hand, as to no card made


def _ip(node: Node) -> str:
    return node.place.ipv4.partition("/")[0]
