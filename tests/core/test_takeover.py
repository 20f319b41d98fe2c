"""What an admin takes over from another who goes: nobody falls out, nobody comes back, no name changes."""

from dataclasses import dataclass, field
from random import Random

import pytest

from clanmesh_protocol.records import AdminRemove, Credential, Head, Publishable, Record, slot_of
from clanmesh_protocol.signing import Verified
from clanmeshd.core.authority import Authority, fold
from clanmeshd.core.credentials import amended
from clanmeshd.core.ledger import Ledger
from clanmeshd.core.takeover import Takeover, takeover
from tests.core.authors import NOW_UNIX_S, Author, Family, fresh_seed, ledger_of
from tests.seeds import seeds

GUESTS = tuple(f"guest-{number}" for number in range(6))
SEQ_NOW = NOW_UNIX_S * 1000 << 16


@dataclass
class Story:
    """A clan of three admins, as it grows."""

    family: Family = field(default_factory=lambda: Family(("desk", "nas", "tower"), GUESTS, recovery=True))
    records: list[Verified[Record]] = field(default_factory=list)

    def __post_init__(self) -> None:
        for author in self.family.authors.values():
            author.seq += SEQ_NOW
        self.family.recovery.seq += SEQ_NOW

    @property
    def ledger(self) -> Ledger:
        return ledger_of(self.family.clan, [self.family.genesis, *self.records])

    @property
    def authority(self) -> Authority:
        return fold(self.ledger)

    def say(self, by: str, content: Publishable) -> None:
        self.records.append(self.family[by].write(content, slot=slot_of(content)))

    def take_over(self, by: str, leaving: str, **options: object) -> Takeover:
        """Publish what `by` says in the place of `leaving`."""
        nodes = self.family[by].node, self.family[leaving].node
        plan = takeover(self.ledger, self.authority, *nodes, now_unix_s=NOW_UNIX_S + 60, **options)  # type: ignore[arg-type]
        for content in (*plan.revocations, *plan.credentials, *plan.remembered):
            self.say(by, content)  # type: ignore[arg-type]
        return plan

    def dethrone(self, leaving: str, put_out_by: str | None = "desk") -> None:
        """The recovery key ends an admin's say, and another admin puts it out."""
        self.records.append(self.family.recovery.operation(AdminRemove(self.family[leaving].node), self.authority))
        if put_out_by is not None:
            self.records.append(self.family[put_out_by].revocation(self.family[leaving]))


def standing(authority: Authority) -> dict[bytes, tuple[str, tuple[str, ...], int]]:
    """Who is a member under which name, with which tags and until when."""
    return {node: (each.name, each.tags, each.expires_unix_s) for node, each in authority.members.items()}


@pytest.fixture
def story() -> Story:
    made = Story()
    for name in ("desk", "nas", "tower"):
        made.records.append(made.family[name].credential(made.family[name]))
    return made


def test_a_member_by_its_word_alone_stays(story: Story) -> None:
    story.records.append(story.family["nas"].credential(story.family["guest-0"], tags=["kitchen"]))
    before = standing(story.authority)
    plan = story.take_over("desk", "nas")
    assert [credential.node for credential in plan.credentials] == [story.family["guest-0"].node]
    story.dethrone("nas")
    del before[story.family["nas"].node]
    assert standing(story.authority) == before


def test_without_it_that_member_would_fall_out(story: Story) -> None:
    story.records.append(story.family["nas"].credential(story.family["guest-0"]))
    story.dethrone("nas")
    assert story.family["guest-0"].node not in story.authority.members


def test_who_counts_by_anothers_word_is_not_signed_again(story: Story) -> None:
    for by in ("desk", "nas"):
        story.records.append(story.family[by].credential(story.family["guest-0"]))
    assert story.take_over("desk", "nas").credentials == ()


def test_a_name_that_it_gave_last_stays(story: Story) -> None:
    guest = story.family["guest-0"]
    story.records.append(story.family["desk"].credential(guest))
    story.say("nas", amended(story.ledger, story.authority, story.family["nas"].node, guest.node, name="renamed"))
    assert story.authority.members[guest.node].name == "renamed"
    story.take_over("desk", "nas")
    story.dethrone("nas")
    assert story.authority.members[guest.node].name == "renamed"


def test_who_it_put_out_stays_out_but_no_admin_is_put_out_so(story: Story) -> None:
    guest = story.family["guest-0"]
    story.records.append(story.family["desk"].credential(guest))
    story.records += [story.family["nas"].revocation(story.family[name]) for name in ("guest-0", "desk", "tower")]
    plan = story.take_over("desk", "nas")
    assert [revocation.node for revocation in plan.revocations] == [guest.node]
    story.dethrone("nas")
    assert guest.node in story.authority.revoked
    assert set(story.authority.members) == {story.family["desk"].node, story.family["tower"].node}
    assert story.take_over("tower", "nas").revocations == ()


def test_who_came_by_its_invite_is_confirmed_and_the_open_ones_end(story: Story) -> None:
    seed, other = fresh_seed(), fresh_seed()
    invite, unused = story.family["nas"].invite(seed), story.family["nas"].invite(other)
    story.records += [invite, unused]
    story.records.append(story.family["desk"].redemption(invite, seed, story.family["guest-0"]))
    plan = story.take_over("desk", "nas")
    assert set(plan.invites_lapsed) == {unused.value.id}
    story.dethrone("nas")
    assert story.authority.members[story.family["guest-0"].node].confirmed
    assert not story.authority.invites


def test_what_it_said_lately_can_be_left_out(story: Story) -> None:
    nas, seed = story.family["nas"], fresh_seed()
    story.records.append(nas.credential(story.family["guest-0"]))
    nas.seq += 3600 * 1000 << 16
    story.records.append(nas.credential(story.family["guest-1"]))
    invite = nas.invite(seed)
    story.records += [invite, story.family["tower"].redemption(invite, seed, story.family["guest-2"])]
    plan = story.take_over("desk", "nas", before_unix_s=NOW_UNIX_S + 1800)
    assert [credential.name for credential in plan.credentials] == ["guest-0"]
    assert set(plan.distrusted) == {story.family["guest-1"].node, story.family["guest-2"].node}


def test_who_has_anothers_word_goes_back_to_that(story: Story) -> None:
    nas, guest = story.family["nas"], story.family["guest-0"]
    story.records.append(story.family["desk"].credential(guest, tags=["kitchen"]))
    nas.seq += 3600 * 1000 << 16
    story.say("nas", amended(story.ledger, story.authority, nas.node, guest.node, name="root", tags=["servers"]))
    assert story.authority.members[guest.node].tags == ("servers",)
    plan = story.take_over("tower", "nas", before_unix_s=NOW_UNIX_S + 1800)
    assert plan.distrusted == ()
    for _ in range(2):
        member = story.authority.members[guest.node]
        assert (member.name, member.tags) == ("guest-0", ("kitchen",))
        story.dethrone("nas")


def test_it_can_stay_a_member(story: Story) -> None:
    plan = story.take_over("desk", "nas", keeps_leaving=True)
    assert [credential.node for credential in plan.credentials] == [story.family["nas"].node]
    assert plan.remembered == ()
    story.dethrone("nas", put_out_by=None)
    assert story.family["nas"].node in story.authority.members


def test_what_it_and_those_it_put_out_wrote_stays(story: Story) -> None:
    """Of a key that nobody vouches for nothing is kept: secrets and heads would go with who wrote them."""
    nas, guest = story.family["nas"], story.family["guest-0"]
    story.records.append(nas.credential(guest))
    heads = [author.write(Head(None, bytes(20), b"signed"), slot="main") for author in (nas, guest)]
    story.records += [*heads, nas.revocation(guest)]
    plan = story.take_over("desk", "nas")
    assert {credential.node for credential in plan.remembered} == {nas.node, guest.node}
    story.dethrone("nas")
    after = story.authority
    assert not {nas.node, guest.node} & set(after.members)
    assert {nas.node, guest.node} <= after.revoked
    assert all(after.lets_stay(head.value) for head in heads)
    assert dict(after.former) == {nas.node: "nas", guest.node: "guest-0"}


def test_what_it_said_lately_of_those_who_are_out_is_left_out_too(story: Story) -> None:
    nas, guest = story.family["nas"], story.family["guest-0"]
    nas.seq += 3600 * 1000 << 16
    story.records += [nas.credential(guest), story.family["tower"].revocation(guest)]
    plan = story.take_over("desk", "nas", before_unix_s=NOW_UNIX_S + 1800)
    assert [credential.node for credential in plan.remembered] == [nas.node]


@pytest.mark.parametrize("seed", seeds(40))
def test_nothing_changes_but_who_decides(seed: int) -> None:
    """Whatever was said before: after the takeover and the removal all is as it was, but for the one who went."""
    dice, story = Random(seed), Story()
    for _ in range(12):
        _something(dice, story)
    before = story.authority
    plan = story.take_over("desk", "nas")
    assert not plan.distrusted
    assert standing(story.authority) == standing(before)
    story.dethrone("nas")
    expected, gone = standing(before), story.family["nas"].node
    expected.pop(gone, None)
    after = story.authority
    assert {node: each for node, each in standing(after).items() if node != gone} == expected, seed
    keys = {story.family[name].node for name in story.family.authors} - {gone}
    assert after.revoked & keys == before.revoked & keys
    assert {node for node in before.former if before.is_vouched(node)} <= {*after.former}, seed


def _something(dice: Random, story: Story) -> None:
    by, guest = dice.choice(("desk", "nas", "nas", "tower")), story.family[dice.choice(GUESTS)]
    admin = story.family[by]
    match dice.randrange(5):
        case 0:
            story.records.append(
                admin.credential(guest, tags=sorted(dice.sample(("attic", "kitchen"), dice.randrange(3))))
            )
        case 1:
            if guest.node in story.authority.members:
                tags = dice.sample(("backup", "relay"), dice.randrange(3))
                story.say(by, amended(story.ledger, story.authority, admin.node, guest.node, tags=tags))
        case 2:
            _rename(dice, story, by, guest)
        case 3:
            story.records.append(admin.revocation(guest))
        case 4:
            seed = fresh_seed()
            invite = admin.invite(seed, tags=("guest",))
            helper = story.family[dice.choice(("desk", "tower"))]
            story.records += [invite, helper.redemption(invite, seed, guest)]


def _rename(dice: Random, story: Story, by: str, guest: Author) -> None:
    name = f"name-{dice.randrange(1000)}"
    if guest.node in story.authority.members and story.authority.named(name) is None:
        content: Credential = amended(story.ledger, story.authority, story.family[by].node, guest.node, name=name)
        story.say(by, content)
