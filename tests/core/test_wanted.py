"""Wanted states: equal record sets give equal ones, and no claim of a peer reaches further than itself."""

import ipaddress
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clanmesh_protocol.encoding import UINT64_MAX
from clanmesh_protocol.endpoints import Endpoint, endpoint
from clanmesh_protocol.keys import NodeId, exchange_public, tunnel_private
from clanmesh_protocol.records import (
    Checkpoint,
    Credential,
    Head,
    Record,
    Revocation,
    RolloutState,
    Secret,
    SecretsState,
    Status,
    Wrap,
)
from clanmesh_protocol.signing import Verified
from clanmeshd.core import wanted
from clanmeshd.core.author import node_content
from clanmeshd.core.authority import fold
from clanmeshd.core.effects import SetRollout, SetTunnels
from clanmeshd.core.ledger import Ledger
from clanmeshd.core.roster import EXPIRY_GRACE_S
from clanmeshd.core.tunnel_keys import begun
from tests.core.authors import NOW_UNIX_S, SIGNER, Author, Family

LAN = endpoint("192.168.1.7", 51871)
WIDE = endpoint("9.9.9.9", 40000)  # ipaddress calls the documentation ranges private


@pytest.fixture
def family() -> Family:
    return Family(["desk"], ["nas", "phone"])


def family_entropy(count: int) -> bytes:
    return b"\x07" * count


def clan_records(family: Family) -> list[Verified[Record]]:
    desk = family["desk"]
    vouched = [desk.credential(author, tags=(f"t-{author.name}",)) for author in family.authors.values()]
    return [*vouched, *(author.node_record([LAN]) for author in family.authors.values())]


def tunnels(family: Family, *records: Verified[Record], seen: dict[NodeId, Endpoint] | None = None) -> SetTunnels:
    ledger = family.ledger(*records)
    return wanted.tunnels(
        fold(ledger), ledger, family["desk"].keys, listen_port=51872, endpoints=seen or {}, now_unix_s=NOW_UNIX_S
    )


# --- addresses and tunnels -----------------------------------------------------------------------------


def test_addresses_follow_from_identities(family: Family) -> None:
    address = wanted.overlay_address(family.clan, family["nas"].node)
    assert len(address) == 16
    assert address[:6] == wanted.overlay_prefix(family.clan) == b"\xfd" + family.clan[:5]
    assert ipaddress.IPv6Address(address).is_private
    assert address != wanted.overlay_address(family.clan, family["phone"].node)


def test_each_other_member_gets_a_tunnel(family: Family) -> None:
    state = tunnels(family, *clan_records(family))
    others = sorted(family[name].node for name in ("nas", "phone"))
    assert [tunnel.node for tunnel in state.tunnels] == others
    assert state.address == wanted.overlay_address(family.clan, family["desk"].node)
    assert exchange_public(state.private_key) not in {tunnel.public_key for tunnel in state.tunnels}
    nas = next(tunnel for tunnel in state.tunnels if tunnel.node == family["nas"].node)
    assert nas.public_key == exchange_public(tunnel_private(family["nas"].keys.tunnel_seed))
    assert nas.endpoint == Endpoint(LAN.ip, 51872)
    assert nas.keepalive_s == 0


def test_a_proven_endpoint_goes_before_a_published_one(family: Family) -> None:
    nas = family["nas"].node
    state = tunnels(family, *clan_records(family), seen={nas: WIDE})
    tunnel = next(tunnel for tunnel in state.tunnels if tunnel.node == nas)
    assert tunnel.endpoint == Endpoint(WIDE.ip, 51872)
    assert tunnel.keepalive_s == wanted.KEEPALIVE_S


def test_a_tunnel_never_leads_through_itself(family: Family) -> None:
    nas = family["nas"].node
    inside = Endpoint(wanted.overlay_address(family.clan, nas), 51871)
    state = tunnels(family, *clan_records(family), seen={nas: inside})
    assert next(tunnel for tunnel in state.tunnels if tunnel.node == nas).endpoint == Endpoint(LAN.ip, 51872)


def test_another_members_tunnel_key_cannot_be_claimed(family: Family) -> None:
    nas, phone = family["nas"], family["phone"]
    theft = phone.node_content()
    stolen = nas.node_content()
    claim = type(theft)(
        theft.static_key,
        theft.sealing_key,
        theft.prekeys,
        theft.endpoints,
        theft.tunnel_port,
        stolen.tunnel_key,
        stolen.tunnel_number,
        stolen.tunnel_proof,
    )
    state = tunnels(family, *clan_records(family), phone.write(claim))
    assert [tunnel.node for tunnel in state.tunnels] == [nas.node]


def test_a_proven_next_key_goes_with_the_tunnel_and_a_claimed_one_does_not(family: Family) -> None:
    nas, phone = family["nas"], family["phone"]
    changing = begun(nas.keys, family_entropy, NOW_UNIX_S)
    assert changing.tunnel_next is not None
    said = node_content(changing, family.clan, [LAN], 51872)
    theft = replace(phone.node_content([LAN]), tunnel_next=said.tunnel_next)
    state = tunnels(family, *clan_records(family), nas.write(said), phone.write(theft))
    following = {tunnel.node: tunnel.following for tunnel in state.tunnels}
    assert following == {
        nas.node: exchange_public(tunnel_private(changing.tunnel_next.seed)),
        phone.node: None,
    }


def test_the_expired_and_the_removed_have_no_tunnel_and_no_name(family: Family) -> None:
    desk = family["desk"]
    records = clan_records(family)
    records.append(desk.write(Credential(family["nas"].node, "nas", (), NOW_UNIX_S - EXPIRY_GRACE_S - 1, None)))
    records.append(desk.revocation(family["phone"]))
    assert tunnels(family, *records).tunnels == ()
    names = wanted.names(family.authority(*records), NOW_UNIX_S)
    assert [name for name, _ in names.addresses] == ["desk.family.internal"]


def test_names_are_those_of_all_members(family: Family) -> None:
    names = wanted.names(family.authority(*clan_records(family)), NOW_UNIX_S)
    assert names.domain == "family.internal"
    assert dict(names.addresses) == {
        f"{name}.family.internal": wanted.overlay_address(family.clan, author.node)
        for name, author in family.authors.items()
    }


# --- secrets -------------------------------------------------------------------------------------------


def sealed(author: Author, epoch: int, readers: tuple[Author, ...] = (), name: str = "db") -> Verified[Record]:
    wraps = tuple(Wrap(reader.node, bytes(80)) for reader in readers)
    content = Secret(epoch, None, "root", "root", 0o400, ("all",), wraps, bytes(24), bytes([epoch % 256]) * 48)
    return author.write(content, slot=name)


@given(epochs=st.lists(st.integers(1, 4), min_size=3, max_size=3), order=st.permutations(range(3)))
@settings(max_examples=40, deadline=None)
def test_the_highest_epoch_stands_then_the_higher_id(epochs: list[int], order: list[int]) -> None:
    family = Family(["desk"], ["nas", "phone"])
    values = [sealed(author, epoch) for author, epoch in zip(family.authors.values(), epochs, strict=True)]
    ledger = family.ledger(*clan_records(family), *(values[place] for place in order))
    best = max(zip(epochs, values, strict=True), key=lambda pair: (pair[0], pair[1].value.id))[1]
    [item] = wanted.newest_secrets(ledger, fold(ledger))
    assert (item.name, item.record_id) == ("db", best.value.id)


def test_a_removed_members_value_loses_to_any_other_but_stays_alone(family: Family) -> None:
    desk, nas, phone = (family[name] for name in ("desk", "nas", "phone"))
    records = [
        *clan_records(family),
        theirs := sealed(nas, 1000, (phone,)),
        desk.write(Revocation(nas.node, "lost"), seq=10**9),
    ]
    ledger = family.ledger(*records)
    ledger.retain(fold(ledger).lets_stay)
    assert [item.record_id for item in wanted.newest_secrets(ledger, fold(ledger))] == [theirs.value.id]
    ledger.apply(ours := sealed(desk, 1, (phone,)))
    assert [item.record_id for item in wanted.newest_secrets(ledger, fold(ledger))] == [ours.value.id]


def test_values_by_those_who_never_were_members_do_not_stand(family: Family) -> None:
    ledger = family.ledger(sealed(family["nas"], 1))
    assert wanted.newest_secrets(ledger, fold(ledger)) == ()


def test_a_device_gets_what_it_holds_a_key_to(family: Family) -> None:
    desk, nas, phone = (family[name] for name in ("desk", "nas", "phone"))
    values = [sealed(desk, 3, (nas,), "b"), sealed(desk, 4, (nas, phone), "a"), sealed(desk, 9, (phone,), "c")]
    ledger = family.ledger(*clan_records(family), *values)
    state = wanted.secrets(fold(ledger), ledger, nas.node)
    assert [item.name for item in state.secrets] == ["a", "b"]
    assert state.generation == 7
    assert wanted.secrets(fold(ledger), ledger, desk.node).secrets == ()


def test_a_removed_device_gets_nothing_more(family: Family) -> None:
    desk, nas = family["desk"], family["nas"]
    ledger = family.ledger(*clan_records(family), sealed(desk, 1, (nas,)), desk.revocation(nas))
    assert wanted.secrets(fold(ledger), ledger, nas.node).secrets == ()


def test_no_epoch_makes_the_generation_too_large_to_report(family: Family) -> None:
    desk, nas = family["desk"], family["nas"]
    values = [sealed(desk, UINT64_MAX, (nas,), name) for name in ("a", "b")]
    ledger = family.ledger(*clan_records(family), *values)
    assert wanted.secrets(fold(ledger), ledger, nas.node).generation == UINT64_MAX


# --- rollout -------------------------------------------------------------------------------------------


def commit(number: int) -> bytes:
    return bytes([number]) * 20


def running(author: Author, state: RolloutState) -> Verified[Record]:
    return author.write(Status(commit(1), commit(2), state, 0, SecretsState.CURRENT), ttl_s=60)


def rollout(ledger: Ledger, author: Author, reachable: list[NodeId]) -> SetRollout:
    """What one device is told, for which each other one is at the same place."""
    return wanted.rollout(
        fold(ledger),
        ledger,
        author.node,
        reachable=reachable,
        endpoints=lambda _: (LAN,),
        now_unix_s=NOW_UNIX_S,
    )


@pytest.mark.parametrize(
    ("state", "has"),
    [
        (RolloutState.FETCHING, frozenset({commit(1)})),
        (RolloutState.VERIFYING, frozenset({commit(1)})),
        (RolloutState.BUILDING, frozenset({commit(1), commit(2)})),
    ],
)
def test_holders_are_said_to_have_what_they_have(
    family: Family, state: RolloutState, has: frozenset[bytes]
) -> None:
    desk, nas = family["desk"], family["nas"]
    heads = [
        desk.write(Head(None, commit(1 + index), b"sig"), slot=slot) for index, slot in enumerate(("main", "next"))
    ]
    ledger = family.ledger(*clan_records(family), *heads, running(nas, state))
    found = rollout(ledger, desk, [nas.node])
    [holder] = found.holders
    assert (holder.node, holder.endpoints, holder.commits) == (nas.node, (LAN,), has)


def test_the_rollout_is_told_who_claims_what_and_who_may_sign(family: Family) -> None:
    desk, nas, phone = (family[name] for name in ("desk", "nas", "phone"))
    checkpoint = desk.operation(Checkpoint("main", commit(9)), family.authority())
    heads = [author.write(Head(commit(1), commit(3), b"sig"), slot="main") for author in (nas, phone)]
    records = [*clan_records(family), checkpoint, *heads, desk.revocation(phone)]
    ledger = family.ledger(*records)
    ledger.retain(fold(ledger).lets_stay)
    everyone = [author.node for author in (desk, nas, phone)]
    state = rollout(ledger, desk, everyone)
    assert (state.node_name, state.tags, state.signers) == ("desk", ("t-desk",), (SIGNER,))
    assert state.checkpoints == (("main", commit(9)),)
    assert {claim.author for claim in state.heads} == {nas.node, phone.node}, "the SSH signature decides"
    assert [(holder.node, holder.commits) for holder in state.holders] == [(nas.node, frozenset({commit(3)}))]


def test_the_one_holder_of_a_new_commit_is_found_behind_all_that_have_the_old_one() -> None:
    many = Family(["desk"], [f"node-{index}" for index in range(29)])
    authors = list(many.authors.values())
    old = authors[0].write(Head(None, commit(1), b"sig"), slot="main")
    new = authors[29].write(Head(commit(1), commit(2), b"sig"), slot="main")
    ledger = many.ledger(
        *clan_records(many), old, new, *(running(each, RolloutState.FETCHING) for each in authors)
    )
    state = rollout(ledger, authors[5], [author.node for author in authors])
    assert [holder.node for holder in state.holders if commit(2) in holder.commits] == [authors[29].node]
    assert len(state.holders) == wanted.HOLDERS_EACH + 1, "and enough of the old one"
    assert authors[5].node not in {holder.node for holder in state.holders}
