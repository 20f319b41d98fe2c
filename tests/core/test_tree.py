"""The tree of valid operations from one fold to the next: it is what it would be if it were built anew."""

import random
from collections.abc import Sequence

import pytest

from clanmesh_protocol.records import AdminRemove, Record, Setting, SignerAdd
from clanmesh_protocol.signing import Verified
from clanmeshd.core.authority import fold
from clanmeshd.core.ledger import Ledger
from clanmeshd.core.tree import Tree, grow
from tests.core.authors import Author, Family, ledger_of

Entry = Verified[Record]
NAMES = ("desk", "attic", "loft", "nas")


def behind(author: Author, parent: Entry, operation: Setting | SignerAdd | AdminRemove) -> Entry:
    """Sign an operation behind any other."""
    return author.write(operation, slot=f"{int(parent.value.slot) + 1:08d}", prev=parent.value.id)


def history(family: Family, rng: random.Random) -> list[Entry]:
    """Operations behind one another and beside one another, with some of the approvals that they need."""
    operations, records = [family.genesis], []
    for number in range(24):
        author, parent = family[rng.choice(NAMES)], rng.choice(operations[-4:])
        content = rng.choice(
            [
                Setting(f"s{number % 3}", str(number)),
                SignerAdd(f"ssh-ed25519 AAAA{number}"),
                AdminRemove(family[rng.choice(NAMES)].node),
            ]
        )
        operations.append(made := behind(author, parent, content))
        others = [family[name] for name in NAMES if family[name] is not author]
        records += [
            made,
            *(other.approval(made) for other in rng.sample(others, rng.choice((0, 2, 3)) if number else 3)),
        ]
    return records


def shape(tree: Tree) -> object:
    """All that a tree says."""
    steps = {
        step.id: (step.signers, step.state, step.below, step.pins, [child.id for child in step.children])
        for step in tree.steps.values()
    }
    return steps, [(each.record.id, each.signers) for each in tree.proposals], dict(tree.speakers)


def fresh(family: Family, entries: Sequence[Entry]) -> Ledger:
    """A ledger that nothing was worked out of yet."""
    return ledger_of(family.clan, entries)


@pytest.mark.parametrize("seed", range(20))
def test_a_tree_that_grew_is_the_one_that_is_built_anew(seed: int) -> None:
    rng = random.Random(seed)
    family = Family(NAMES, recovery=True)
    arrivals = [family.genesis, *history(family, rng)]
    rng.shuffle(arrivals)
    ledger = Ledger(family.clan)
    for place, entry in enumerate(arrivals):
        ledger.apply(entry)
        anew = fresh(family, arrivals[: place + 1])
        assert shape(grow(ledger)) == shape(grow(anew)), f"seed {seed}"
        assert fold(ledger) == fold(anew), f"seed {seed}"
    assert len(grow(ledger).steps) > 1, f"seed {seed}"


@pytest.mark.parametrize("seed", range(5))
def test_a_tree_that_lost_something_is_the_one_that_is_built_anew(seed: int) -> None:
    rng = random.Random(seed)
    family = Family(NAMES)
    records = [family.genesis, *history(family, rng)]
    ledger = fresh(family, records)
    grow(ledger)
    out = family[rng.choice(NAMES[1:])].node
    ledger.retain(lambda record: record.author != out)
    anew = fresh(family, [entry for entry in records if entry.value.author != out])
    assert shape(grow(ledger)) == shape(grow(anew)), f"seed {seed}"


def test_other_kinds_leave_the_tree_as_it_is() -> None:
    family = Family(NAMES)
    ledger = family.ledger(*history(family, random.Random(1)))
    tree = grow(ledger)
    ledger.apply(family["desk"].credential(family["nas"]))
    assert grow(ledger) is tree
    ledger.apply(behind(family["desk"], family.genesis, Setting("a", "b")))
    assert grow(ledger) is not tree


def test_each_ledger_has_its_own() -> None:
    family = Family(NAMES)
    one, other = family.ledger(), family.ledger()
    assert grow(one) is not grow(other)
    assert grow(one) is grow(one)
