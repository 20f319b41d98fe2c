"""A daemon that never hears of its own removal: what an expelled device could run.

It is `clanmeshd` in all else, with the same arguments. It keeps its tunnels, probes, asks for records and offers
its own, so that what ends its part in the clan is what the others do.
"""

import sys
from unittest.mock import patch

from clanmesh_protocol.errors import StaleError
from clanmesh_protocol.keys import NodeId, fingerprint_slot
from clanmesh_protocol.records import Kind, parse_untrusted
from clanmeshd.__main__ import main
from clanmeshd.core.gossip import Gossip

_take_untrusted = Gossip.take_untrusted


def _take_all_but_our_removal(gossip: Gossip, data: bytes, peer: NodeId, now_s: float) -> None:
    """Take a record as ever, unless it is a revocation of this device. Raises ProtocolError."""
    record = parse_untrusted(data, gossip.ledger.clan)
    if record.kind == Kind.REVOCATION and record.slot == fingerprint_slot(gossip._own):
        raise StaleError("this device does not want to know")
    _take_untrusted(gossip, data, peer, now_s)


if __name__ == "__main__":
    with patch.object(Gossip, "take_untrusted", _take_all_but_our_removal):
        sys.exit(main())
