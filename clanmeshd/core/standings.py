"""The members by what is thought of them, each state's sorted by node id."""

from bisect import bisect_left, insort
from collections.abc import Iterable, Sequence

from clanmesh_protocol.keys import NodeId
from clanmeshd.core.subjects import State, Subject


class Standings:
    """Who is in which state. Asking for those that are up costs nothing while nobody came or went."""

    def __init__(self) -> None:
        self._nodes: dict[State, list[NodeId]] = {state: [] for state in State}
        self._up: tuple[NodeId, ...] | None = None

    def assign(self, subjects: Iterable[Subject]) -> None:
        """Take all members, sorted."""
        self._nodes, self._up = {state: [] for state in State}, None
        for subject in subjects:
            self._nodes[subject.state].append(subject.node)

    def move(self, node: NodeId, before: State, after: State) -> None:
        """Somebody is in another state now."""
        nodes = self._nodes[before]
        del nodes[bisect_left(nodes, node)]
        insort(self._nodes[after], node)
        self._up = None

    def of(self, state: State) -> Sequence[NodeId]:
        """Those in a state; good until the next change."""
        return self._nodes[state]

    def up(self) -> tuple[NodeId, ...]:
        """Those that are up."""
        if self._up is None:
            self._up = tuple(self._nodes[State.UP])
        return self._up

    def lost(self) -> list[NodeId]:
        """Those that are not up."""
        return sorted(node for state in State if state is not State.UP for node in self._nodes[state])
