"""Root and authority are functions of the record set: no order of arrival changes either."""

from hypothesis import given, settings
from hypothesis import strategies as st

from clanmesh_protocol.records import Acknowledgement, Approval, Checkpoint, Head, Record, SignerRemove
from clanmesh_protocol.signing import Verified
from clanmeshd.core.authority import fold
from clanmeshd.core.ledger import Ledger
from tests.core.authors import SIGNER, Author, Family, ledger_of, settled

SEED = bytes(range(32))
OTHER_SEED = bytes(range(1, 33))


def head(author: Author) -> Verified[Record]:
    return author.write(Head(None, bytes(20), b""), slot="main")


def _tangle() -> tuple[Family, list[Verified[Record]]]:
    """A clan with everything in it that could depend on an order."""
    family = Family(["desk", "attic"], ["nas", "phone", "guest", "thief", "out"])
    desk, attic, nas, phone = (family[name] for name in ("desk", "attic", "nas", "phone"))
    start = family.authority()
    one, two = desk.invite(SEED), attic.invite(OTHER_SEED, uses=2)
    records = [
        family.genesis,
        desk.credential(desk),
        desk.credential(nas, name="nas"),
        attic.credential(phone, name="nas"),
        attic.credential(nas, name="box"),
        one,
        two,
        mine := nas.redemption(one, SEED, family["guest"]),
        phone.redemption(one, SEED, family["thief"]),
        family["guest"].redemption(two, OTHER_SEED, family["out"]),
        attic.credential(family["guest"], redemption=mine.value.id),
        head(family["out"]),
        head(phone),
        phone.node_record(),
        family["thief"].node_record(),
        desk.revocation(phone),
        attic.revocation(desk),
    ]
    records += [author.operation(Checkpoint(author.name, bytes(20)), start) for author in (desk, attic)]
    records += [
        removal := desk.operation(SignerRemove(SIGNER), family.authority(records[-2])),
        attic.write(Approval(removal.value.id)),
        attic.write(Acknowledgement(1, records[-1].value.id)),
    ]
    records += [nas.write(Head(None, bytes([n]) * 20, b""), slot="main", seq=9_000_000) for n in (1, 2)]
    return family, records


FAMILY, TANGLE = _tangle()


@given(order=st.permutations(TANGLE), size=st.integers(1, len(TANGLE)))
@settings(max_examples=150, deadline=None)
def test_root_and_authority_are_functions_of_the_set(order: list[Verified[Record]], size: int) -> None:
    some = order[:size]
    expected = ledger_of(FAMILY.clan, sorted(some, key=lambda record: record.value.id))
    ledger = ledger_of(FAMILY.clan, some)
    assert ledger.root() == expected.root()
    assert fold(ledger) == fold(expected)


@given(order=st.permutations(TANGLE))
@settings(max_examples=100, deadline=None)
def test_nodes_that_admit_records_one_by_one_come_to_the_same_set(order: list[Verified[Record]]) -> None:
    whole = ledger_of(FAMILY.clan, TANGLE)
    whole.retain(fold(whole).lets_stay)
    ledger = settled(FAMILY.clan, order)
    assert ledger.root() == whole.root()
    assert fold(ledger) == fold(whole)


def test_dropping_what_may_not_stay_changes_nobodys_standing() -> None:
    ledger = ledger_of(FAMILY.clan, TANGLE)
    before = fold(ledger)
    assert ledger.retain(before.lets_stay)
    assert fold(ledger) == before
    assert ledger.retain(before.lets_stay) == []


def test_an_empty_ledger_folds() -> None:
    assert fold(Ledger(FAMILY.clan)).clan_name == ""
