"""Tags decide who gets which secret and which configuration: nobody takes one for itself."""

from clanmesh_protocol.keys import NodeId, fingerprint_slot
from clanmesh_protocol.records import AdminRemove, Credential, Revocation
from clanmeshd.core.credentials import amended
from tests.hostile.rules import hostile
from tests.hostile.stage import NOW, Stage


def tags(stage: Stage, index: int) -> tuple[str, ...]:
    """What a member is tagged with."""
    return stage.authority.members[stage.node(index)].tags


@hostile("Who may say what", "authority/tags-by-oneself")
def test_a_member_tags_itself() -> None:
    stage = Stage()
    stage.refuses(stage.credential(1, 1, "node-1", "server"), code="unauthorized")
    assert tags(stage, 1) == ()


@hostile("Who may say what", "authority/tags-by-invite")
def test_who_comes_by_an_invite_has_the_invites_tags_and_no_others() -> None:
    stage = Stage(4, credentialed=3)
    invite = stage.invite("guest")
    stage.takes(stage.redemption(1, invite, 3, "tv"))
    assert tags(stage, 3) == ("guest",)
    stage.refuses(stage.credential(3, 3, "tv", "server"), code="unauthorized")
    assert tags(stage, 3) == ("guest",)


@hostile("Who may say what", "authority/tags-are-not-joined")
def test_a_junior_admins_word_does_not_go_before_a_seniors() -> None:
    stage = Stage(4, admins=2)
    stage.takes(stage.says(1, Credential(stage.node(3), "node-3", ("server",), 0, None), seq=1 << 60))
    assert tags(stage, 3) == ()


@hostile("Who may say what", "authority/tags-by-a-member")
def test_only_an_admins_word_goes_before_anothers() -> None:
    stage = Stage(4, admins=2)
    node = stage.node(3)
    first = amended(stage.mesh.ledger, stage.authority, stage.node(1), node, tags=("server",))
    stage.refuses(stage.says(2, first), code="unauthorized")
    stage.takes(stage.says(1, first))
    assert tags(stage, 3) == ("server",)


@hostile("Who may say what", "authority/tags-taken")
def test_what_a_removed_admin_had_raised_falls_back() -> None:
    stage = Stage(4, admins=3)
    node = stage.node(3)
    raised = amended(stage.mesh.ledger, stage.authority, stage.node(2), node, tags=("server",))
    stage.takes(stage.says(2, raised))
    assert tags(stage, 3) == ("server",)
    stage.governs(AdminRemove(stage.node(2)), 1)
    assert tags(stage, 3) == ()
    stage.refuses(stage.says(2, raised, seq=1 << 60), code="unauthorized")


@hostile("Payloads", "content/credential-tags-unsorted")
def test_tags_in_disorder_and_twice() -> None:
    stage = Stage()
    for crooked in (("b", "a"), ("a", "a"), ("Server",), ("a",) * 17):
        stage.refuses_any(stage.says(0, Credential(stage.node(3), "node-3", crooked, 0, None), seq=1 << 60))


@hostile("Who may say what", "authority/revoked-for-ever")
def test_one_who_was_put_out_is_tagged_no_more() -> None:
    stage = Stage()
    node: NodeId = stage.node(3)
    stage.mesh.publish(Revocation(node, "lost"), slot=fingerprint_slot(node), now=NOW)
    stage.takes(stage.credential(0, 3, "node-3", "server"))
    assert node not in stage.authority.members
