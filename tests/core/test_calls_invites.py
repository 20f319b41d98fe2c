"""`invite-list`, `invite-revoke`, `invite-confirm`: what became of a token, and of a stolen one."""

from pathlib import Path

import pytest

from clanmesh_protocol.keys import fingerprint_slot, node_text
from clanmesh_protocol.records import Redemption
from clanmesh_protocol.signing import read_untrusted
from clanmesh_protocol.tokens import Token, decode_token_untrusted
from clanmeshd.core.admission import Refusal
from clanmeshd.driver import instant
from clanmeshd.joining import make_join
from tests.core.households import Household


@pytest.fixture
async def house(tmp_path: Path) -> Household:
    made = Household(tmp_path)
    await made.join("nas")
    return made


async def _token(house: Household, **args: object) -> tuple[str, Token]:
    answer = await house["desk"].call("invite", **args)
    await house.share()
    return str(answer["id"]), decode_token_untrusted(answer["token"])


async def _listed(house: Household, at: str, invite: str) -> dict[str, object]:
    invites = (await house[at].call("invite-list"))["invites"]
    return next(each for each in invites if each["id"] == invite)


async def test_what_is_listed(house: Household) -> None:
    invite, token = await _token(house, name="lamp", tags=["kitchen"], ttl_s=600)
    open_one = await _listed(house, "nas", invite)
    expected = {"by": "desk", "name": "lamp", "tags": ["kitchen"], "uses": 1, "used": 0, "state": "open"}
    assert {key: open_one[key] for key in expected} == expected
    lamp = house.redeem("lamp", token, "nas")
    await house.share()
    used = await _listed(house, "lamp", invite)
    assert (used["state"], used["used"]) == ("used", 1)
    assert used["redeemed_by"] == [{"id": node_text(lamp.node), "name": "lamp", "state": "member"}]


async def test_a_withdrawn_invite_admits_nobody(house: Household) -> None:
    invite, token = await _token(house)
    assert (await house["nas"].refused("invite-revoke", id=invite)).kind == "denied"
    assert (await house["desk"].refused("invite-revoke", id="ffff")).kind == "not-found"
    assert (await house["desk"].refused("invite-revoke", id="")).kind == "not-found"
    assert await house["desk"].call("invite-revoke", id=invite[:8]) == {"id": invite, "dropped": []}
    await house.share()
    with pytest.raises(Refusal, match="withdrawn"):
        house.redeem("late", token, "nas")
    assert invite not in [each["id"] for each in (await house["nas"].call("invite-list"))["invites"]]


async def test_an_admins_device_is_replaced_in_another_way_which_is_named(house: Household) -> None:
    await house.admins("nas")
    fault = await house["desk"].refused("invite", succeeds="nas")
    assert (fault.kind, "`clanctl admin propose replace OLD NEW`" in fault.remedy) == ("refused", True)


async def test_any_admin_withdraws_anothers_invite(house: Household) -> None:
    invite, _ = await _token(house)
    await house.admins("nas")
    assert (await house["nas"].call("invite-revoke", id=invite))["id"] == invite


async def test_a_stolen_token_is_decided_by_an_admin(house: Household) -> None:
    invite, token = await _token(house, tags=["guest"])
    # The admin's device is away: two members admit one device each, and nobody has confirmed either.
    await house.join("hall")
    honest = house.redeem("honest", token, "nas")
    thief = house.redeem("thief", token, "hall")
    await house.share("nas", "hall", "honest", "thief")
    assert house["nas"].members() == {"desk", "nas", "hall"}
    house.restart("desk", "nas")
    await house.share()
    listed = await _listed(house, "desk", invite)
    assert (listed["state"], listed["used"]) == ("contested", 2)
    assert {(each["name"], each["state"]) for each in listed["redeemed_by"]} == {  # type: ignore[attr-defined]
        ("honest", "waiting"),
        ("thief", "waiting"),
    }
    problems = (await house["desk"].call("status"))["problems"]
    assert [each["kind"] for each in problems] == ["contested-invite"]
    assert invite[:10] in problems[0]["remedy"]
    assert (await house["desk"].refused("invite-confirm", id=invite, node="nobody")).kind == "not-found"
    assert (await house["nas"].refused("invite-confirm", id=invite, node="honest")).kind == "denied"
    answer = await house["desk"].call("invite-confirm", id=invite, node=node_text(honest.node)[:8])
    assert (answer["name"], answer["out"], answer["left"]) == ("honest", [node_text(thief.node)], 0)
    await house.share()
    for device in house:
        assert device.members() == {"desk", "nas", "hall", "honest"}
    assert (await house["desk"].call("status"))["healthy"]
    assert house["honest"].mesh.authority.members[honest.keys.node].tags == ("guest",)


async def test_of_two_uses_both_can_be_given(house: Household) -> None:
    await house.join("hall")
    invite, token = await _token(house, uses=2)
    for number, at in enumerate(("nas", "hall", "nas")):
        house.redeem(f"guest-{number}", token, at)
    await house.share("nas", "hall")
    house.restart("desk", "nas")
    await house.share()
    first = await house["desk"].call("invite-confirm", id=invite, node="guest-0")
    assert (first["out"], first["left"]) == ([], 1)
    second = await house["desk"].call("invite-confirm", id=invite, node="guest-1")
    assert (len(second["out"]), second["left"]) == (1, 0)
    await house.share()
    assert house["nas"].members() == {"desk", "nas", "hall", "guest-0", "guest-1"}


async def test_a_use_that_a_person_gave_stays_given_when_the_member_who_let_it_in_takes_that_back(
    house: Household,
) -> None:
    """Else the other two who contest the second use would both be in."""
    await house.join("hall")
    _, token = await _token(house, uses=2)
    guests = [house.redeem(f"guest-{number}", token, at) for number, at in enumerate(("nas", "hall", "hall"))]
    await house.share("nas", "hall")
    house.restart("desk", "nas")
    await house.share()
    await house["desk"].call("invite-confirm", id=token.invite_id.hex()[:16], node="guest-0")
    await house.share()
    said = make_join(token, guests[0].keys, "guest-0")
    late = Redemption(
        token.invite_id, said.invite_key, said.node, said.name, 1 << 40, said.invite_proof, said.node_proof
    )
    slot = fingerprint_slot(said.invite_key + said.node)
    house["nas"].mesh.publish(late, slot=slot, now=instant())
    await house.share()
    for device in house:
        assert device.mesh.authority.suspended == {guest.node for guest in guests[1:]}
        assert "guest-0" in device.members()


async def test_who_is_removed_does_not_come_back_by_its_old_token(house: Household) -> None:
    invite, token = await _token(house, uses=4)
    guest = house.redeem("guest", token, "desk")
    await house.share()
    # A second one comes while the admin's device is away, and nobody has confirmed it when the first goes.
    cousin = house.redeem("cousin", token, "nas")
    for record in house["nas"].mesh.ledger.records():
        house["desk"].mesh.receive_record(record.data, house["nas"].keys.node, instant())
    plan = await house["desk"].call("remove", node="guest", dry=True)
    assert (plan["state"], plan["invite"]) == ("planned", {"id": invite, "left": 2})
    assert "guest" in house["desk"].members()
    answer = await house["desk"].call("remove", node="guest", reason="sold")
    assert (answer["invite"], answer["reason"]) == ({"id": invite, "left": 2}, "sold")
    await house.share()
    with pytest.raises(Refusal, match="does not know this invite"):
        house.redeem("guest-again", token, "nas")
    for device in house:
        assert device.mesh.authority.members.keys() >= {cousin.keys.node}
        assert guest.keys.node not in device.mesh.authority.members


async def test_a_thief_that_came_first_goes_before_the_owner_is_confirmed(house: Household) -> None:
    invite, token = await _token(house)
    thief = house.redeem("thief", token, "desk")
    honest = house.redeem("honest", token, "nas")
    await house.share()
    assert "thief" in house["nas"].members()
    problems = (await house["desk"].call("status"))["problems"]
    assert "if thief may stay, `clanctl invite revoke" in problems[0]["remedy"]
    fault = await house["desk"].refused("invite-confirm", id=invite, node="honest")
    assert "thief came first and took its use" in fault.why
    assert "`clanctl remove thief`" in fault.remedy
    assert (await house["desk"].call("remove", node="thief"))["invite"] is None, "no use of it is left"
    answer = await house["desk"].call("invite-confirm", id=invite, node="honest")
    assert answer["name"] == "honest"
    await house.share()
    assert house["nas"].mesh.authority.is_member(honest.keys.node)
    assert not house["nas"].mesh.authority.is_member(thief.keys.node)


async def test_withdrawing_says_beforehand_who_goes_with_it(house: Household) -> None:
    invite, token = await _token(house, uses=2)
    house.redeem("guest", token, "nas")
    records = house["nas"].mesh.ledger.records()
    for record in records:
        house["desk"].mesh.ledger.apply(read_untrusted(record.data, token.clan))
    house["desk"].mesh.handle_deadline(instant())
    would = await house["desk"].call("invite-revoke", id=invite, dry=True)
    done = await house["desk"].call("invite-revoke", id=invite)
    assert would == done
    assert done["dropped"] in (["guest"], []), "unless this device has confirmed it in the meantime"
    assert ("guest" in house["desk"].members()) == (not done["dropped"])


async def test_a_device_takes_the_place_of_another(house: Household) -> None:
    await house["desk"].call("tag", node="nas", add=["backup"])
    await house.share()
    invite, token = await _token(house, succeeds="nas")
    assert (await _listed(house, "desk", invite))["succeeds"] == "nas"
    fresh = house.redeem("anything", token, "desk")
    old = house["nas"]
    await house.share()
    for device in (house["desk"], fresh):
        named = device.mesh.authority.named("nas")
        assert named is not None
        assert (named.node, named.tags) == (fresh.node, ("backup",))
        assert old.keys.node in device.mesh.authority.revoked
    assert (await house["desk"].refused("invite", succeeds="desk")).kind == "refused"
    assert (await house["desk"].refused("invite", succeeds="toaster")).kind == "not-found"
    assert (await house["desk"].refused("invite", name="nas")).kind == "conflict"
    assert (await house["desk"].refused("invite", succeeds="nas", uses=2)).kind == "refused"


async def test_of_several_tokens_for_one_place_the_last_is_good(house: Household) -> None:
    first, lost = await _token(house, succeeds="nas")
    other, _ = await _token(house, name="tv")
    answer = await house["desk"].call("invite", succeeds="nas")
    assert answer["withdrawn"] == [first]
    assert (await _listed(house, "desk", other))["state"] == "open"
    with pytest.raises(Refusal, match="withdrawn"):
        house.redeem("finder", lost, "desk")
    house.redeem("fresh", decode_token_untrusted(answer["token"]), "desk")
    await house.share()
    assert (await house["desk"].call("invite", succeeds="nas"))["withdrawn"] == [], "that one was used"


async def test_an_invite_is_good_for_a_month_at_most(house: Household) -> None:
    fault = await house["desk"].refused("invite", ttl_s=31 * 86_400)
    assert fault.why == "it can be good for 30 days at most"
    assert fault.remedy == "give --expires 30d, or less"
