"""A clan of real daemons for tests of who may say what: joining, asking, cutting, waiting."""

import json
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from clanctl.demo.lab import Lab, Node
from clanctl.failures import Failure
from tests.clock import wait_until

PATIENCE_S = 20.0
PING_S = "0.3"  # a hundred times what an answer takes
LOOKS_MAX = 100  # at secrets that change while they are read


class Clan:
    """Machines that are members, the founder first."""

    def __init__(self, lab: Lab, configuration: str, *names: str) -> None:
        self.lab = lab
        self._settings = lab.directory / "clan.toml"
        self._settings.write_text(configuration)
        self.nodes = [self.start(name, wait=False) for name in names]
        for node in self.nodes:
            lab.wait_ready(node)
        founder, *others = self.nodes
        self.founded = lab.call(founder, "init", {"name": "family", "node_name": founder.name, "signers": []})
        for node in others:
            self.join(node, self.token())
        self.await_whole()

    @property
    def founder(self) -> Node:
        """The first admin."""
        return self.nodes[0]

    # --- machines ---

    def start(self, name: str, program: str = "clanmeshd", *, wait: bool = True) -> Node:
        """A machine with a daemon that is in no clan yet."""
        return self.lab.start_node(name, "--config", str(self._settings), program=program, wait=wait)

    def restored(self, name: str, state: Path) -> Node:
        """A new machine that was set up from another's state directory, which it takes."""
        node = self.lab.add_node(name)
        node.arguments = ("--config", str(self._settings))
        state.rename(node.instance.state_directory)
        self.lab.start_daemon(node)
        return node

    def token(self, *, uses: int = 1, **more: Any) -> str:
        """An invite by the founder."""
        args = {"tags": [], "uses": uses, "ttl_s": 600, **more}
        return str(self.lab.call(self.founder, "invite", args)["token"])

    def join(self, node: Node, token: str) -> Any:
        """Let a machine join. Raises Failure."""
        return self.lab.call(node, "join", {"token": token, "name": node.name})

    def guest(self, name: str, program: str = "clanmeshd") -> Node:
        """One more member, which `nodes` does not name, whom all see up."""
        node = self.start(name, program)
        self.join(node, self.token())
        self.await_whole(node)
        return node

    def restart(self, *nodes: Node) -> None:
        """Kill daemons without a warning, and start them again."""
        for node in nodes:
            self.lab.kill(node)
        for node in nodes:
            self.lab.start_daemon(node, wait=False)
        for node in nodes:
            self.lab.wait_ready(node)

    # --- words ---

    def ctl(self, node: Node, *words: str, stdin: str = "") -> Any:
        """Type a command that must succeed; its JSON."""
        done = self.lab.ctl(node, *words, "--json", stdin=stdin)
        assert done.returncode == 0, (node.name, words, done.stderr)
        return json.loads(done.stdout)

    def refusal(self, node: Node, *words: str, stdin: str = "") -> str:
        """Type a command that must be refused; the last line that it said."""
        done = self.lab.ctl(node, *words, stdin=stdin)
        assert done.returncode in (1, 2, 3), (done.stdout, done.stderr)
        assert "Traceback" not in done.stderr
        return done.stderr.strip().splitlines()[-1]

    def set_secret(self, node: Node, name: str, value: bytes = b"value") -> None:
        """Publish something at a machine."""
        args = {"name": name, "value": value, "for": ["all"], "owner": "root", "group": "root", "mode": 0o400}
        self.lab.call(node, "secrets-set", args)

    def secrets(self, node: Node) -> set[str]:
        """The names of what was published, as a machine knows them."""
        return {str(secret["name"]) for secret in self.lab.call(node, "secrets-list")["secrets"]}

    def value(self, node: Node, name: str) -> bytes:
        """A secret as a machine reads it. Raises Failure."""
        return bytes(self.lab.call(node, "secrets-show", {"name": name})["value"])

    # --- what they see ---

    def states(self, node: Node) -> dict[str, str]:
        """How each member looks from a machine, by name."""
        return {str(peer["name"]): str(peer["state"]) for peer in self.lab.call(node, "peers")["peers"]}

    def problems(self, node: Node) -> dict[str, str]:
        """What a daemon says is wrong, by kind."""
        return {each.get("kind", ""): each["what"] for each in self.lab.call(node, "status")["problems"]}

    def ping(self, node: Node, address: str) -> bool:
        """Whether an address answers."""
        return self.lab.exec(node, ["ping", "-6", "-n", "-c", "1", "-W", PING_S, address]).returncode == 0

    def address(self, node: Node) -> str:
        """A machine's overlay address."""
        return self.lab.address(node)

    def hosts(self, node: Node) -> str:
        """The names that a machine can resolve; empty before there are any."""
        try:
            return Path(f"/proc/{node.pid}/root/run/clanmesh/hosts").read_text()
        except FileNotFoundError:
            return ""

    # --- waiting ---

    def await_whole(self, *more: Node, within_s: float = PATIENCE_S) -> None:
        """Wait until all of them, and `more`, see one another up, and nobody else."""
        nodes = [*self.nodes, *more]
        wanted = {node.name: "up" for node in nodes}
        self.await_all(lambda node: self.states(node) == wanted, nodes, within_s=within_s)

    def await_all(
        self, holds: Callable[[Node], object], nodes: Iterable[Node] | None = None, *, within_s: float = PATIENCE_S
    ) -> None:
        """Wait until something holds at each machine; asks those again that failed."""
        waiting = list(self.nodes if nodes is None else nodes)

        def none_left() -> bool:
            waiting[:] = [node for node in waiting if not _holds(holds, node)]
            return not waiting

        assert wait_until(none_left, within_s), {node.name: self.lab.log_tail(node, 8) for node in waiting}


def placed(node: Node) -> dict[str, bytes]:
    """The secrets that lie on a machine: one whole set, although its daemon may just put another in its place."""
    link = node.instance.runtime_directory / "secrets"
    for _ in range(LOOKS_MAX):
        with suppress(FileNotFoundError):  # there is no set yet, or it went away while it was read
            folder = link.parent / link.readlink()
            found = {path.name: path.read_bytes() for path in list(folder.iterdir())}
            if link.parent / link.readlink() == folder:
                return found
    return {}


def _holds(holds: Callable[[Node], object], node: Node) -> bool:
    try:
        return bool(holds(node))
    except Failure:
        return False
