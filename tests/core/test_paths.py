"""Where a peer may be reached: what a node record may make us send to."""

import pytest

from clanmesh_protocol.endpoints import endpoint
from clanmesh_protocol.keys import NodeId
from clanmeshd.core.paths import Paths

PEER = NodeId(bytes(32))
OVERLAY = endpoint("fd00::1", 1)


@pytest.mark.parametrize(
    ("host", "is_taken"),
    [
        ("223.255.255.255", True),
        ("224.0.0.0", False),
        ("239.255.255.255", False),
        ("240.0.0.1", True),
        ("255.255.255.255", False),
        ("0.0.0.0", False),
        ("fe80::1", True),
        ("ff02::fb", False),
        ("::", False),
        ("e000::1", True),
    ],
)
def test_a_record_that_lists_no_machine_is_no_reason_to_shout(host: str, is_taken: bool) -> None:
    paths, listed = Paths(), endpoint(host, 51871)
    paths.retain(frozenset({PEER}))
    paths.set_listed(PEER, [listed], OVERLAY)
    assert (listed in paths.all(PEER)) == is_taken
