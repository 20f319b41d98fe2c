"""What each node says of the others and of an update, with the time at which this process heard it.

One loop listens to all nodes, of either kind: to clanmeshd by `events`, which waits for what comes next, and to
serf by its RPC. So all times are of one clock, and both kinds pay alike for being asked.
"""

import selectors
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

from bench.serf_rpc import PORT, VERSION, Answer, Answers, SerfError, request, told
from clanctl.client import Conversation
from clanctl.demo.lab import Node
from clanctl.demo.network import network_words

WAIT_S: Final = 25  # of one call for events: what the daemon allows at most
ANSWER_TIMEOUT_S: Final = 30.0  # of one frame behind that
TURN_S: Final = 0.05  # between two looks at whether what is waited for holds, when nothing is told
READ_BYTES: Final = 65_536
CONNECT_TRIES: Final = 1000  # one each 10 ms: an agent opens its RPC in far less

_MONITOR, _STREAM, _FIRST = 1, 2, 3  # sequence numbers on a connection with an agent

_CONNECT: Final = (
    "import socket, sys, time\n"
    "for _ in range(int(sys.argv[2])):\n"
    "    try:\n"
    "        made = socket.create_connection(('127.0.0.1', int(sys.argv[1])))\n"
    "        break\n"
    "    except OSError:\n"
    "        time.sleep(0.01)\n"
    "socket.send_fds(socket.socket(fileno=0), [b'.'], [made.fileno()])\n"
)


@dataclass(frozen=True, slots=True)
class Sighting:
    """A node says something: `up` or `down` with a member, or `update` with its name."""

    observer: str
    kind: str
    subject: str
    at_s: float  # monotonic


class Follower(Protocol):
    """A conversation with one node."""

    @property
    def socket(self) -> socket.socket:
        """Where the node speaks next: it may be another one after each `read`."""
        ...

    def read(self) -> list[tuple[str, str]]:
        """Take what waits at the socket: kinds and subjects."""
        ...


class EventFollower:
    """Asks a clanmeshd for its events, from its first one on."""

    _KINDS: Final = {"member-up": "up", "member-down": "down"}

    def __init__(self, node: Node) -> None:
        self._node = node
        self._after: int | None = None
        self._conversation = self._ask()

    @property
    def socket(self) -> socket.socket:
        """Of the question that waits."""
        return self._conversation.socket

    def read(self) -> list[tuple[str, str]]:
        """Take an answer, and ask for what comes behind it. Raises Failure."""
        with self._conversation as conversation:
            result = conversation.result()
        self._after = int(result["newest"])
        self._conversation = self._ask()
        return [each for event in result["events"] if (each := self._told(event)) is not None]

    def _ask(self) -> Conversation:
        args: dict[str, Any] = {"wait_s": WAIT_S}
        if self._after is not None:
            args["after"] = self._after
        conversation = Conversation.open(self._node.instance)
        conversation.ask("events", args, ANSWER_TIMEOUT_S)
        return conversation

    def _told(self, event: dict[str, Any]) -> tuple[str, str] | None:
        if event["kind"] == "operation":
            return "update", next((word for word in event["text"].split() if word.startswith("update-")), "")
        kind = self._KINDS.get(event["kind"])
        return (kind, str(event["node"])) if kind is not None else None


class AgentFollower:
    """Listens to an agent of serf, and asks it for things on the same connection."""

    def __init__(self, node: Node) -> None:
        self.socket = _connected_in(node)
        self.answers: dict[int, Answer] = {}  # to `ask`, those with a body
        self._taken = Answers()
        self._next = _FIRST
        self.socket.sendall(
            request("handshake", 0, {"Version": VERSION})
            + request("monitor", _MONITOR, {"LogLevel": "INFO"})
            + request("stream", _STREAM, {"Type": "user"})
        )

    def ask(self, command: str, body: dict[str, Any]) -> int:
        """Send a request; give the number under which its answer will be in `answers`."""
        self._next += 1
        self.socket.sendall(request(command, self._next, body))
        return self._next

    def read(self) -> list[tuple[str, str]]:
        """Take what came. Raises SerfError when the agent is gone or has refused something."""
        data = self.socket.recv(READ_BYTES)
        if not data:
            raise SerfError("an agent of serf hung up")
        found = []
        for answer in self._taken.feed(data):
            if answer.error:
                raise SerfError(f"an agent of serf refused: {answer.error}")
            if answer.body is None:
                continue
            if answer.seq >= _FIRST:
                self.answers[answer.seq] = answer
            elif (each := told(answer.body)) is not None:
                found.append(each)
        return found


class Watch:
    """Listens to all nodes. `up`: whom each of them holds to be up, beside itself."""

    def __init__(self) -> None:
        self.up: dict[str, set[str]] = {}
        self._seen: list[Sighting] = []
        self._followers: dict[str, Follower] = {}
        self._selector = selectors.DefaultSelector()

    def add(self, name: str, follower: Follower) -> None:
        """Listen to one more node."""
        self._followers[name] = follower
        self.up[name] = set()
        self._selector.register(follower.socket, selectors.EVENT_READ, name)

    def drop(self, name: str) -> None:
        """Listen to a node no more."""
        follower = self._followers.pop(name)
        self._selector.unregister(follower.socket)
        follower.socket.close()
        del self.up[name]

    def close(self) -> None:
        """Listen to nobody any more."""
        for name in list(self._followers):
            self.drop(name)
        self._selector.close()

    def pump(self, timeout_s: float) -> None:
        """Wait so long for somebody to say something, and take what is said. Raises Failure or SerfError."""
        for key, _ in self._selector.select(timeout_s):
            name = str(key.data)
            follower = self._followers[name]
            now_s = time.monotonic()
            self._selector.unregister(follower.socket)
            said = follower.read()
            self._selector.register(follower.socket, selectors.EVENT_READ, name)
            for kind, subject in said:
                self._note(Sighting(name, kind, subject, now_s))

    def until(self, holds: Callable[[], bool], timeout_s: float, turn_s: float = TURN_S) -> bool:
        """Listen until something holds; False when it does not within the time. `turn_s`: it is asked so often."""
        deadline_s = time.monotonic() + timeout_s
        while not holds():
            if time.monotonic() > deadline_s:
                return False
            self.pump(turn_s)
        return True

    def rest(self, seconds: float) -> None:
        """Listen for so long."""
        self.until(lambda: False, seconds)

    def forget(self) -> None:
        """Forget what was said, but not who is up."""
        self._seen.clear()

    def first(self, kind: str, subject: str) -> dict[str, float]:
        """When each node first said something, since the last `forget` (monotonic s)."""
        found: dict[str, float] = {}
        for each in self._seen:
            if each.kind == kind and each.subject == subject:
                found.setdefault(each.observer, each.at_s)
        return found

    def count(self, kind: str, *, but: str = "") -> int:
        """How often something was said since the last `forget`, of all members but one."""
        return sum(each.kind == kind and each.subject != but for each in self._seen)

    def _note(self, sighting: Sighting) -> None:
        self._seen.append(sighting)
        if sighting.kind == "up":
            self.up[sighting.observer].add(sighting.subject)
        elif sighting.kind == "down":
            self.up[sighting.observer].discard(sighting.subject)


def _connected_in(node: Node) -> socket.socket:
    """A connection with the RPC of a machine's agent, which only a process in its network can make."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        words = [*network_words(node.pid), sys.executable, "-S", "-c", _CONNECT]
        subprocess.run([*words, str(PORT), str(CONNECT_TRIES)], stdin=theirs.fileno(), check=True)
        _, descriptors, _, _ = socket.recv_fds(ours, 1, 1)
    return socket.socket(fileno=descriptors[0])
