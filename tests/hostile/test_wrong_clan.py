"""What was said in another clan, said here."""

import pytest

from clanmesh_protocol.errors import SignatureError, UnauthorizedError
from clanmesh_protocol.keys import ClanId, NodeId, sign_detached
from clanmesh_protocol.records import AdminAdd, Credential, Genesis, Setting, redemption_input, slot_of
from clanmesh_protocol.signing import read_untrusted, sign_genesis, sign_record
from clanmesh_protocol.streams import Hello, check_hello_untrusted, hello_input
from tests.core.worlds import Puppet, datagrams, endpoint_of, found, make_mesh
from tests.hostile.rules import hostile
from tests.hostile.stage import NOW, TOKEN, Stage

OTHER = ClanId(b"some other clan!")


@hostile("Signatures", "record/other-clan")
def test_an_admins_word_from_another_clan() -> None:
    stage = Stage()
    content = Credential(stage.node(3), "x", ("admin",), 0, None)
    seed = stage.clan.keys[0].identity_seed
    data = sign_record(seed, OTHER, content, kind=content.KIND, slot=slot_of(content), seq=1 << 60)
    stage.refuses(data, code="signature")


@hostile("Signatures", "record/no-clan")
def test_a_word_outside_of_any_clan() -> None:
    stage = Stage()
    seed = stage.clan.keys[0].identity_seed
    content = AdminAdd(stage.node(1), 1)
    data = sign_record(
        seed, ClanId(bytes(16)), content, kind=0, slot="00000001", seq=1 << 60, prev=stage.genesis.id
    )
    stage.refuses(data, code="signature")


@hostile("Records", "record/genesis-of-another-clan")
def test_a_second_genesis_by_the_founder_itself() -> None:
    stage = Stage()
    genesis = Genesis("family", stage.authority.chain.admins, None, ())
    data, _ = sign_genesis(stage.clan.keys[0].identity_seed, genesis, 1 << 60)
    with pytest.raises(SignatureError):
        read_untrusted(data, stage.clan.id)
    stage.refuses(data, code="signature")


@hostile("Records", "record/genesis-in-a-clan")
def test_a_genesis_that_is_signed_within_the_clan() -> None:
    stage = Stage()
    genesis = Genesis("mine", stage.authority.chain.admins, None, ())
    data = stage.says(0, genesis, kind=0, slot="00000000", seq=1 << 60)
    # `says` signs a genesis outside of any clan; put the clan's own signature in.
    inside = sign_record(
        stage.clan.keys[0].identity_seed, stage.clan.id, Setting("a", "b"), kind=0, slot="x", seq=1
    )
    stage.refuses(data[:33] + inside[33:97] + data[97:], code="signature")


@hostile("Datagrams", "session/other-clan")
def test_a_datagram_of_another_clan() -> None:
    stage = Stage()
    other = found(4, seed=9)
    mesh = make_mesh(other, 0)
    mesh.set_endpoints([endpoint_of(0)], NOW)
    mesh.effects()
    stranger = Puppet(other, 1, mesh)
    before = stage.trace()
    stage.mesh.receive(stranger.seal(stranger.ping()), endpoint_of(8), NOW)
    assert datagrams(stage.mesh.effects()) == []
    assert stage.mesh.counters["unknown-sender"] == 1
    assert stage.trace() == before


@hostile("Streams", "hello/other-clan")
def test_a_hello_to_another_clan() -> None:
    stage = Stage()
    seed, client, server, nonce = stage.clan.keys[1].identity_seed, stage.node(1), stage.node(0), bytes(32)
    signature = sign_detached(seed, hello_input(OTHER, server, NodeId(client), nonce, "records"))
    hello = Hello(stage.clan.id, NodeId(client), "records", signature)
    with pytest.raises(SignatureError):
        check_hello_untrusted(hello, server, nonce)


@hostile("Joining", "join/other-clan")
def test_a_proof_that_was_made_for_another_clan() -> None:
    stage = Stage(credentialed=3)
    invite = stage.invite()
    good = stage.read(stage.redemption(1, invite, 3, "tv"))
    statement = redemption_input(OTHER, invite.id, stage.node(3), "tv")
    proof = sign_detached(TOKEN, statement)
    content = read_untrusted(good.data, stage.clan.id).content
    lie = type(content)(*[getattr(content, name) for name in content.__slots__[:-2]], proof, proof)  # type: ignore[call-arg]
    stage.hears(stage.says(1, lie))  # type: ignore[arg-type]
    assert stage.node(3) not in stage.authority.members
    with pytest.raises(UnauthorizedError):
        stage.authority.may_author(stage.read(stage.says(3, Setting("a", "b"), slot="00000001")))
