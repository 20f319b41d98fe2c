"""Where a peer may be reached: proven, signed, or only heard of.

Only a proven datagram makes an endpoint the live one. It stays so while it is proven again and again, though
others work too: two peers with two networks each would else swap theirs for ever. A peer that says in its node
record that it has other addresses has moved, and is where it was heard last. What that record lists is the peer's
own signed word; hints (where it was proven before, sources of hellos, which prove nothing) are knocked at and
never preferred. Whoever names another's address in a recorded hello has no more bytes sent there than it sent.
The peer's overlay address comes last: it carries control traffic wherever the tunnel goes, and is left for any
other as soon as that works. So is a stream that carries datagrams where no UDP comes: it has an address of its own
here (100::/64, RFC 6666, which no network has), that means the member at its other end.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from math import inf
from typing import Final

from clanmesh_protocol.endpoints import Endpoint
from clanmesh_protocol.keys import NodeId
from clanmeshd.core.limits import HINTS_MAX, LIVE_ENDPOINT_S, SETTLING_S, WIDE_ENDPOINTS_MAX
from clanmeshd.core.roundtrip import Quickest

_CARRIED: Final = bytes((1, *bytes(7)))  # 100::/64
_NODE_BYTES: Final = 8


def carried_endpoint(node: NodeId) -> Endpoint:
    """Where a member is that a stream carries datagrams to."""
    return Endpoint(_CARRIED + node[:_NODE_BYTES], 1)


def is_carried(endpoint: Endpoint) -> bool:
    """Whether an endpoint stands for a stream."""
    return len(endpoint.ip) == 16 and endpoint.ip.startswith(_CARRIED)


@dataclass(slots=True)
class _Path:
    live: Endpoint | None = None
    live_s: float = -inf  # when it was proven last
    doubted: bool = False  # a datagram to it went unanswered, or the peer has other addresses by now
    latest: Endpoint | None = None  # where the newest proven datagram came from
    overlay: Endpoint | None = None
    carried: Endpoint | None = None  # as long as a stream carries datagrams
    listed: tuple[Endpoint, ...] = ()
    hints: dict[Endpoint, float] = field(default_factory=dict)  # newest last; bytes that may still be sent there
    turn: int = 0
    since_s: float = -inf  # when the live endpoint became that
    quickest: Quickest = field(default_factory=Quickest)  # of its round trips

    def is_makeshift(self, endpoint: Endpoint | None) -> bool:
        """Whether one is used for want of a better one."""
        return endpoint is not None and endpoint in (self.overlay, self.carried)


class Paths:
    """The endpoints of all members. Bounded: one live, those of a node record and a few hints each."""

    def __init__(self) -> None:
        self._paths: dict[NodeId, _Path] = {}
        self.version = 0  # changes when any live or listed endpoint does
        self.heard_s = -inf  # when any member was last proven to speak, but for streams
        self.open_s = -inf  # the same, but for tunnels too: datagrams pass the networks in between

    def retain(self, members: frozenset[NodeId]) -> None:
        """Forget all others, and begin to keep these."""
        self._paths = {node: self._paths.get(node) or _Path() for node in sorted(members)}
        self.version += 1

    def set_listed(self, node: NodeId, endpoints: Iterable[Endpoint], overlay: Endpoint) -> None:
        """Take the endpoints of a node record, and where the peer would be reached through the tunnel."""
        path, listed = self._paths[node], tuple(filter(_is_unicast, endpoints))
        has_moved = path.listed and set(path.listed) != set(listed)
        path.listed, path.overlay = listed, overlay
        for endpoint in (*path.listed, overlay):
            path.hints.pop(endpoint, None)
        if has_moved and path.live is not None and not path.is_makeshift(path.live):
            path.doubted = True
            if path.latest not in (path.live, overlay):
                self._follow(node, path.latest)
        self.version += 1

    def _follow(self, node: NodeId, endpoint: Endpoint | None) -> None:
        """The peer is there now."""
        path = self._paths[node]
        before, path.live, path.doubted = path.live, endpoint, False
        path.quickest = Quickest()
        if endpoint is not None:
            path.hints.pop(endpoint, None)
        if before is not None:
            self.hint(node, before)
        self.version += 1

    def set_carried(self, node: NodeId, *, is_carried: bool) -> None:
        """Say whether a stream carries datagrams to a member and from it."""
        path = self._paths.get(node)
        if path is None:
            return
        if path.live is not None and path.live == path.carried and not is_carried:
            path.live = None
            self.version += 1
        path.latest = path.latest if path.latest != path.carried else None
        path.carried = carried_endpoint(node) if is_carried else None

    def prove(self, node: NodeId, endpoint: Endpoint, now_s: float) -> None:
        """A proven datagram came from here."""
        path = self._paths[node]
        if is_carried(endpoint):
            if endpoint != path.carried:
                return  # its stream has ended
        else:
            self.heard_s = now_s
            self.open_s = self.open_s if endpoint == path.overlay else now_s
        path.latest = endpoint
        if path.live == endpoint:
            path.live_s, path.doubted = now_s, False
            return
        if self._stays(path, endpoint, now_s):
            self.hint(node, endpoint)
            return
        path.live_s = path.since_s = now_s
        self._follow(node, endpoint)

    def _stays(self, path: _Path, endpoint: Endpoint, now_s: float) -> bool:
        """Whether the live endpoint is not left for another one that works."""
        is_fresh = path.live is not None and now_s < path.live_s + LIVE_ENDPOINT_S
        if path.is_makeshift(path.live):
            return is_fresh and path.is_makeshift(endpoint)
        return is_fresh and (not path.doubted or endpoint == path.overlay)

    def answered(self, node: NodeId, endpoint: Endpoint, seconds: float, now_s: float) -> None:
        """A ping was answered from here, so long after it.

        When a path has just begun, its first answers are often those of two daemons that are starting.
        """
        path = self._paths[node]
        if endpoint == path.live and now_s >= path.since_s + SETTLING_S:
            path.quickest.sample(seconds)

    def round_trip_s(self, node: NodeId) -> float | None:
        """To the live endpoint, in seconds: the quickest of late. None before it was measured."""
        path = self._paths[node]
        return path.quickest.seconds if path.live is not None else None

    def doubt(self, node: NodeId) -> None:
        """The live endpoint does not answer: the next one that is proven takes its place."""
        self._paths[node].doubted = True

    def hint(self, node: NodeId, endpoint: Endpoint, bytes_max: float = inf) -> None:
        """The peer may be here, which is worth so many bytes to find out."""
        path = self._paths[node]
        known = path.live, path.overlay, *path.listed
        if bytes_max <= 0 or endpoint in known or is_carried(endpoint):
            return
        path.hints[endpoint] = max(bytes_max, path.hints.get(endpoint, 0))
        if len(path.hints) > HINTS_MAX:
            del path.hints[next(iter(path.hints))]

    def spend(self, node: NodeId, endpoint: Endpoint, size: int) -> bool:
        """Whether so many bytes may be sent there; they are counted. A hint that is used up is forgotten."""
        hints = self._paths[node].hints if node in self._paths else {}
        if endpoint not in hints:
            return True
        left = hints[endpoint] = hints[endpoint] - size
        if left <= 0:
            del hints[endpoint]
        return left >= 0

    def live(self, node: NodeId) -> Endpoint | None:
        """The endpoint that was proven last; none of somebody who is no member."""
        path = self._paths.get(node)
        return path.live if path is not None else None

    def plain(self, node: NodeId) -> Endpoint | None:
        """The same, unless it is a stream."""
        live = self._paths[node].live
        return live if live is not None and not is_carried(live) else None

    def best(self, node: NodeId) -> Endpoint | None:
        """The one endpoint to use."""
        path = self._paths.get(node)
        if path is not None and path.live is not None:
            return path.live
        return next(iter(self.all(node)), None)

    def is_makeshift(self, node: NodeId) -> bool:
        """Whether the peer is reached through the tunnel or a stream only: look for better with each ping."""
        path = self._paths[node]
        return path.is_makeshift(path.live)

    def all(self, node: NodeId) -> tuple[Endpoint, ...]:
        """All endpoints, best first, each once; none of somebody who is no member."""
        path = self._paths.get(node, _Path())
        every = (path.live, path.carried, *path.listed, *reversed(path.hints), path.overlay)
        return tuple(dict.fromkeys(endpoint for endpoint in every if endpoint is not None))

    def signed(self, node: NodeId) -> tuple[Endpoint, ...]:
        """The endpoints that the peer itself stands for: a stranger cannot have put a victim's among them.

        No stream is one: what is wanted here is where streams, too, may be opened to.
        """
        path = self._paths[node]
        every = (path.live, *path.listed, path.overlay)
        return tuple(dict.fromkeys(each for each in every if each is not None and not is_carried(each)))

    def surest(self, node: NodeId) -> Endpoint | None:
        """The first of them, or a stream: where something for this peer alone may be sent without an answer."""
        path = self._paths[node]
        return path.live or path.carried or next(iter(self.signed(node)), None)

    def several(self, node: NodeId) -> tuple[Endpoint, ...]:
        """The best endpoint, a stream if there is one, and some others, others each time."""
        every = self.all(node)
        if len(every) <= WIDE_ENDPOINTS_MAX:
            return every
        path = self._paths[node]
        first = 2 if path.carried is not None else 1
        rest, count = every[first:], WIDE_ENDPOINTS_MAX - first
        start = path.turn % len(rest)
        path.turn += count
        return (*every[:first], *(rest + rest)[start : start + count])


def _is_unicast(endpoint: Endpoint) -> bool:
    # A signed record must not make the whole clan shout at a multicast group.
    ip = endpoint.ip
    is_multicast = ip[0] == 0xFF if len(ip) == 16 else 224 <= ip[0] < 240  # ff00::/8, 224.0.0.0/4
    return any(ip) and not is_multicast and ip != b"\xff\xff\xff\xff"
