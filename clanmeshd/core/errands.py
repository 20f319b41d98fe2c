"""What the failure detector wants sent becomes frames: pings, and words on behalf of others."""

from typing import assert_never

from clanmesh_protocol.messages import IndirectResult, PingRequest
from clanmeshd.core.gossip import Gossip
from clanmeshd.core.meeting import Meeting
from clanmeshd.core.outbox import URGENCY_PROBE
from clanmeshd.core.reception import Reception
from clanmeshd.core.relays import Relayed
from clanmeshd.core.sessions import Sessions
from clanmeshd.core.subjects import AskIndirect, SendPing
from clanmeshd.core.traffic import Traffic


class Errands:
    """Runs them for one device. Whom they are for must be a member."""

    def __init__(
        self, traffic: Traffic, sessions: Sessions, gossip: Gossip, meeting: Meeting, reception: Reception
    ) -> None:
        self._traffic = traffic
        self._sessions = sessions
        self._gossip = gossip
        self._meeting = meeting
        self._reception = reception

    def perform(self, action: SendPing | AskIndirect | Relayed, now_s: float) -> None:
        """Have it sent with the next drain."""
        outbox = self._traffic.outbox
        match action:
            case SendPing():
                self._ping(action, now_s)
            case AskIndirect(via=via, number=number, target=target):
                outbox.put(via, PingRequest(number, target), URGENCY_PROBE)
            case Relayed(asker=asker, number=number, reached=reached):
                outbox.put(asker, IndirectResult(number, reached), URGENCY_PROBE)
            case _:
                assert_never(action)

    def _ping(self, ping: SendPing, now_s: float) -> None:
        root, paths = self._gossip.ledger.root(), self._traffic.paths
        if not ping.wide and not ping.hello and not paths.is_makeshift(ping.node):
            self._gossip.names_for_ping(ping.node, now_s)
            self._meeting.tell(ping.node, now_s)
            self._traffic.ping_with_the_rest(ping.node, ping.number, root)
            return
        if paths.is_makeshift(ping.node) and not ping.hello:
            self._gossip.names_for_ping(ping.node, now_s)  # goes the makeshift way alone
        paths.doubt(ping.node)
        endpoints = paths.several(ping.node)
        self._traffic.ping(ping.node, ping.number, root, endpoints)
        if ping.hello or not self._sessions.has_record(ping.node):
            self._traffic.hello(ping.node, self._reception.own_record(), endpoints, now_s)
