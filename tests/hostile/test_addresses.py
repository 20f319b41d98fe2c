"""Claims to an address or a tunnel that is another's."""

from dataclasses import replace

import pytest

from clanmesh_protocol.endpoints import Endpoint
from clanmesh_protocol.errors import ProtocolError
from clanmesh_protocol.keys import sign_detached
from clanmesh_protocol.records import SINGLE_SLOT, Node, tunnel_proof_input
from clanmeshd.core.author import node_content
from clanmeshd.core.effects import SetTunnels
from clanmeshd.core.wanted import overlay_address, overlay_prefix, tunnels
from tests.core.worlds import UNIX_S, endpoint_of
from tests.hostile.rules import hostile
from tests.hostile.stage import NOW, Stage


def content(stage: Stage, index: int) -> Node:
    """What a device honestly says of itself."""
    return node_content(stage.clan.keys[index], stage.clan.id, [endpoint_of(index)], 51872)


def wanted(stage: Stage) -> SetTunnels:
    """The tunnels that the core under attack wants."""
    return tunnels(
        stage.authority,
        stage.mesh.ledger,
        stage.clan.keys[0],
        listen_port=51872,
        endpoints={},
        now_unix_s=UNIX_S,
    )


@hostile("The overlay", "tunnel/other-node")
def test_another_members_tunnel_key() -> None:
    stage = Stage()
    honest = content(stage, 1)
    stage.takes(stage.says(1, honest))
    theirs = replace(
        content(stage, 2),
        tunnel_key=honest.tunnel_key,
        tunnel_number=honest.tunnel_number,
        tunnel_proof=honest.tunnel_proof,
    )
    stage.hears(stage.says(2, theirs))
    assert [tunnel.node for tunnel in wanted(stage).tunnels] == [stage.node(1)]


@hostile("The overlay", "tunnel/other-signer")
def test_a_tunnel_key_that_its_owner_did_not_give_away() -> None:
    stage = Stage()
    honest = content(stage, 1)
    mine = stage.clan.keys[2].tunnel_seed
    proof = sign_detached(mine, tunnel_proof_input(stage.clan.id, stage.node(2), 1))
    stage.hears(stage.says(2, replace(content(stage, 2), tunnel_key=honest.tunnel_key, tunnel_proof=proof)))
    assert wanted(stage).tunnels == ()


@hostile("The overlay", "tunnel/other-clan")
def test_a_proof_from_another_clan() -> None:
    stage = Stage()
    seed = stage.clan.keys[1].tunnel_seed
    other = tunnel_proof_input(type(stage.clan.id)(bytes(16)), stage.node(1), 1)
    stage.hears(stage.says(1, replace(content(stage, 1), tunnel_proof=sign_detached(seed, other))))
    assert wanted(stage).tunnels == ()


@hostile("The overlay", "address/ok-member")
def test_an_address_follows_from_the_identity_alone() -> None:
    stage = Stage()
    stage.takes(*[stage.says(index, content(stage, index)) for index in (1, 2, 3)])
    addresses = {tunnel.node: tunnel.address for tunnel in wanted(stage).tunnels}
    assert addresses == {
        stage.node(index): overlay_address(stage.clan.id, stage.node(index)) for index in (1, 2, 3)
    }
    assert len(set(addresses.values())) == 3


@hostile("The overlay", "address/ok-guest")
def test_an_endpoint_inside_of_the_tunnel_is_none() -> None:
    stage = Stage()
    inside = overlay_prefix(stage.clan.id) + bytes(9) + b"\1"
    stage.takes(stage.says(1, replace(content(stage, 1), endpoints=(Endpoint(inside, 51871),))))
    assert [tunnel.endpoint for tunnel in wanted(stage).tunnels] == [None]


@hostile("Payloads", "content/node-address-mapped")
def test_an_endpoint_in_two_spellings() -> None:
    stage = Stage()
    mapped = bytes(10) + b"\xff\xff" + bytes([10, 0, 0, 9])
    before = stage.trace()
    with pytest.raises(ProtocolError):
        stage.mesh.publish(
            replace(content(stage, 0), endpoints=(Endpoint(mapped, 51871),)), slot=SINGLE_SLOT, now=NOW
        )
    stage.hears(stage.says(1, replace(content(stage, 1), endpoints=(Endpoint(mapped, 51871),))))
    assert stage.trace() == before


@hostile("The overlay", "tunnel/zero")
def test_a_stranger_gets_no_tunnel() -> None:
    stage = Stage(credentialed=3)
    stage.refuses(stage.says(3, content(stage, 3)), code="unauthorized")
    assert wanted(stage).tunnels == ()
