"""Names: squatted, confusable, or no names at all."""

import pytest

from clanmesh_protocol.errors import MalformedError
from clanmesh_protocol.names import check_label_untrusted
from clanmesh_protocol.records import Credential
from clanmeshd.core.audience import Audience, recipients
from clanmeshd.core.wanted import names as wanted_names
from clanmeshd.core.wanted import overlay_address
from tests.core.worlds import UNIX_S
from tests.hostile.rules import hostile
from tests.hostile.stage import Stage
from tests.hostile.test_stolen_invite import refused, request

NEW = 3


def names(stage: Stage) -> dict[bytes, str]:
    """Who is called what."""
    return {node: member.name for node, member in stage.authority.members.items()}


@hostile("Joining", "join/name-taken")
def test_a_name_that_is_taken_at_the_door() -> None:
    stage = Stage(4, credentialed=3)
    refused(stage, request(stage, stage.invite().id, NEW, "node-0"), "name-taken")


@hostile("Joining", "join/name-of-a-tag")
def test_the_name_of_a_tag_at_the_door() -> None:
    stage = Stage(4, credentialed=2)
    stage.takes(stage.credential(0, 2, "node-2", "servers"))
    for name in ("servers", "guest", "all"):
        refused(stage, request(stage, stage.invite("guest").id, NEW, name), "name-taken")


@hostile("Secrets", "content/secret-node-text")
def test_who_has_a_tags_name_or_a_devices_former_name_is_not_meant() -> None:
    stage = Stage(4, credentialed=2)
    stage.takes(stage.credential(0, 2, "node-2", "servers"))
    stage.takes(stage.redemption(1, stage.invite(), NEW, "servers"))  # a member that let it in all the same
    meant = Audience(frozenset({"servers"}), frozenset({stage.node(1)}))
    members = stage.authority.members
    assert members[stage.node(NEW)].name == "servers"
    assert members[stage.node(NEW)].confirmed, "the admin's device does that by itself"
    assert recipients(meant, members, UNIX_S) == {stage.node(1), stage.node(2)}


@hostile("Who may say what", "authority/name-given-beats-chosen")
def test_a_member_that_lets_in_a_namesake_gives_it_a_number() -> None:
    stage = Stage(4, credentialed=3)
    invite = stage.invite()
    stage.takes(stage.redemption(1, invite, NEW, "node-0"))
    assert names(stage)[stage.node(0)] == "node-0"
    assert names(stage)[stage.node(NEW)] == "node-0-2"


@hostile("Who may say what", "authority/name-by-invite")
def test_who_comes_by_an_invite_with_a_name_has_no_choice() -> None:
    stage = Stage(4, credentialed=3)
    invite = stage.invite(name="tv")
    stage.takes(stage.redemption(1, invite, NEW, "router"))
    assert names(stage)[stage.node(NEW)] == "tv"


@hostile("Who may say what", "authority/name-given-twice")
def test_the_first_to_be_given_a_name_keeps_it() -> None:
    stage = Stage(4, admins=2)
    stage.takes(stage.says(1, Credential(stage.node(2), "node-0", (), 0, None), seq=1 << 60))
    assert names(stage)[stage.node(0)] == "node-0"


@hostile("Who may say what", "authority/name-squatting")
def test_nobody_squats_on_the_number_either() -> None:
    stage = Stage(5, credentialed=3)
    stage.takes(stage.credential(0, 3, "node-0-2"))
    stage.takes(stage.credential(0, 4, "node-0"))
    assert sorted(names(stage).values()).count("node-0") == 1
    assert len(set(names(stage).values())) == 5
    assert names(stage)[stage.node(3)] == "node-0-2"


@hostile("Payloads", "content/credential-name-not-ascii")
@pytest.mark.parametrize("name", ["Nas", "nаs", "nas.evil", "-nas", "nas-", "", "n" * 33, "na_s", "nas\n", "nas "])
def test_what_is_no_name(name: str) -> None:
    with pytest.raises(MalformedError):
        check_label_untrusted(name, "name")
    stage = Stage(4, credentialed=3)
    before = stage.trace()
    stage.hears(stage.says(0, Credential(stage.node(NEW), name, (), 0, None)))
    assert stage.trace() == before


@hostile("The overlay", "address/ok-member")
def test_the_names_that_devices_are_told_are_each_ones_own_address() -> None:
    stage = Stage(4, credentialed=3)
    stage.takes(stage.redemption(1, stage.invite(), NEW, "node-0"))
    told = wanted_names(stage.authority, UNIX_S).addresses
    members = stage.authority.members
    assert {address for _, address in told} == {overlay_address(stage.clan.id, node) for node in members}
    assert len({name for name, _ in told}) == 4
