"""Whether a path that is used is alive: what is sent, with nothing coming back, is asked about, and then judged.

WireGuard alone notices after 15 seconds. Traffic one way is no reason to doubt a path, so the peer's system is
asked for a sign of life first, through the tunnel: that goes whichever way the traffic goes, over a relay too. And
before the verdict the counters are looked at once more: a busy machine may have kept this one from its work.

In a crowd, where idle peers sleep, what WireGuard sends to keep a tunnel up is no traffic. It shows by its size.
"""

from math import inf
from typing import Final

from clanmesh_protocol.keys import NodeId
from clanmeshd.overlay.path_terms import DEAD_S, ECHO_S, LOOK_S, SILENCE_S, Action, Around, Echo, Look
from clanmeshd.overlay.wireguard_packets import DATA_BYTES_MIN, INITIATION_BYTES, RESPONSE_BYTES

# Between two looks: up to two keepalives and a handshake, as its one side or the other. Data are larger than a
# keepalive, and multiples of 16; a sum that could be both is rare, and no second one follows.
UPKEEP_BYTES: Final = frozenset(
    keepalives * DATA_BYTES_MIN + handshake
    for keepalives in range(3)
    for handshake in (0, RESPONSE_BYTES, INITIATION_BYTES, RESPONSE_BYTES + INITIATION_BYTES)
)


class Silence:
    """Watches the two counters of one peer, in bytes."""

    def __init__(self, now_s: float, around: Around) -> None:
        self._around = around
        self.used_s = now_s  # when something last went either way
        self.heard_s = -inf  # when something last came, by a path that is not dead
        self.came_s = -inf  # by whatever path: WireGuard has a session as long after that
        self.is_wanted = False  # the last look showed that something is to go to the peer, or comes from it
        self._counts: tuple[int, int] | None = None  # sent, received
        self._since_s: float | None = None
        self._echo_s = self._look_s = self._over_s = inf
        self._is_last_look = False  # it has been asked for

    def counted(self, sent: int, received: int, now_s: float) -> None:
        """Take what WireGuard has counted. Counters that went back are those of a peer that was added anew."""
        is_crowd = self._around.is_crowd
        before, self._counts = self._counts or ((sent, received) if is_crowd else (0, 0)), (sent, received)
        gone, come = sent - before[0], received - before[1]
        is_use = not (is_crowd and gone in UPKEEP_BYTES and come in UPKEEP_BYTES)
        # Nobody keeps a tunnel up that sleeps: a handshake begun here is for something that waits.
        self.is_wanted = come >= 0 and (is_use or (gone >= INITIATION_BYTES and not come))
        if come < 0:
            return
        if is_use and (come or gone > 0):
            self.used_s = now_s
        if come:
            self.heard_s = self.came_s = now_s
            self.forgive()
        elif gone > 0 and is_use and self._since_s is None:
            # Nothing has come since the look before, which may be as long as an answer takes.
            self._since_s, self._echo_s = now_s, max(now_s, self._around.looks_s[1] + SILENCE_S)
            self._look_s, self._over_s = self._echo_s + LOOK_S, now_s + DEAD_S

    def forgive(self) -> None:
        """It was heard, or the path is another one."""
        self._since_s, self._is_last_look = None, False
        self._echo_s = self._look_s = self._over_s = inf

    def bury(self) -> None:
        """The path is dead: what was heard on it says nothing any more."""
        self.forgive()
        self.heard_s = -inf

    @property
    def is_waiting(self) -> bool:
        """Whether something was sent that nothing came back for."""
        return self._since_s is not None

    def questions(self, node: NodeId, now_s: float) -> list[Action]:
        """What is to be asked now."""
        asked: list[Action] = [Echo(node)] if self.takes_echo(now_s) else []
        return [*asked, Look(node)] if self.takes_look(now_s) else asked

    def takes_echo(self, now_s: float) -> bool:
        """Whether to ask for a sign of life now."""
        if now_s < self._echo_s:
            return False
        self._echo_s = now_s + ECHO_S
        return True

    def takes_look(self, now_s: float) -> bool:
        """Whether the counters are to be looked at now."""
        is_last = now_s >= self._over_s and not self._is_last_look
        if now_s < self._look_s and not is_last:
            return False
        self._look_s, self._is_last_look = now_s + LOOK_S, self._is_last_look or is_last
        return True

    def is_over(self, now_s: float) -> bool:
        """Whether the path is dead."""
        return now_s >= self._over_s and self._around.looks_s[0] >= self._over_s

    def next_deadline(self) -> float:
        """When one of these changes."""
        waits = self._is_last_look and self._around.looks_s[0] < self._over_s
        return min(self._echo_s, self._look_s, inf if waits else self._over_s)
