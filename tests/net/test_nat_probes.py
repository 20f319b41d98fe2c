"""Probes find a path wherever there can be one, through every pair of routers, and nowhere else."""

from collections.abc import Callable
from itertools import combinations

import pytest

from tests.net.nat_lab import Host, NatLab
from tests.net.nat_models import MODELS, Model, punchable
from tests.net.nat_punching import Station, punch_all, stations
from tests.net.test_nat_lab import pytestmark as pytestmark

WITHIN_S = 1.0
TRIES = 3  # of a path that has to be found in that time, on a machine that does other things as well
OBSERVERS = ("observer-1", "observer-2")

Pair = tuple[str, str]


async def found_paths(
    build: Callable[[NatLab], dict[str, Host]],
    expected: set[Pair],
    prepare: Callable[[dict[str, Station]], None] = lambda made: None,
) -> set[Pair]:
    """The pairs of hosts that found a path in time, in any of the tries that those had which should."""
    found: set[Pair] = set()
    for _ in range(TRIES):
        with NatLab() as lab:
            made = stations(build(lab) | {name: lab.host() for name in OBSERVERS})
            prepare(made)
            took_s = await punch_all(made, OBSERVERS, WITHIN_S)
        found |= {pair for pair, each in took_s.items() if each is not None}
        if found >= expected:
            break
    return found


def places(**models: tuple[Model, ...]) -> Callable[[NatLab], dict[str, Host]]:
    """A host at a site of its own for each name."""
    return lambda lab: {name: lab.host(lab.site(*each)) for name, each in models.items()}


def housemates(model: Model) -> Callable[[NatLab], dict[str, Host]]:
    """Two hosts behind one router."""

    def build(lab: NatLab) -> dict[str, Host]:
        site = lab.site(model)
        return {"one": lab.host(site), "other": lab.host(site)}

    return build


async def test_in_exactly_the_pairs_that_can_be_punched() -> None:
    """All pairs at once, each model with itself, too."""
    models = {f"{model.name}_{number}": model for model in MODELS for number in (1, 2)}
    expected = {pair for pair in combinations(models, 2) if punchable(*(models[name] for name in pair))}
    assert len(expected) == 36
    found = await found_paths(places(**{name: (model,) for name, model in models.items()}), expected)
    assert (sorted(expected - found), sorted(found - expected)) == ([], [])


async def test_behind_two_routers_of_their_own() -> None:
    """Openers have to pass both, which a device finds out; a carrier's hard one is as bad as one's own."""
    easy, hard = (Model.EASY, Model.EASY), (Model.EASY, Model.HARD)
    expected = {("double", "other"), ("double", "single"), ("other", "single")}
    assert (
        await found_paths(places(double=easy, other=easy, single=(Model.OPEN_INPUT,), hard=hard), expected)
        == expected
    )


@pytest.mark.parametrize("openers_arrive", [False, True])
async def test_openers_that_arrive_spoil_it_where_routers_take_what_they_do_not_know(openers_arrive: bool) -> None:
    """The router gives the outer port to what came unasked, and the answer to it another one."""

    def prepare(made: dict[str, Station]) -> None:
        for station in made.values():
            station.openers_arrive = openers_arrive

    expected = set() if openers_arrive else {("one", "other")}
    found = await found_paths(places(one=(Model.OPEN_INPUT,), other=(Model.OPEN_INPUT,)), expected, prepare)
    assert found == expected


@pytest.mark.parametrize("model", [Model.HAIRPIN, Model.EASY], ids=lambda model: model.value)
async def test_behind_one_router_by_the_outer_addresses_only_where_it_loops_back(model: Model) -> None:
    """Where it does not, their addresses inside are what is left."""
    expected = {("one", "other")} if model is Model.HAIRPIN else set()
    assert await found_paths(housemates(model), expected) == expected


async def test_behind_one_router_by_the_addresses_inside() -> None:
    def prepare(made: dict[str, Station]) -> None:
        for name in ("one", "other"):
            made[name].is_told = made[name].endpoint

    expected = {("one", "other")}
    assert await found_paths(housemates(Model.HARD), expected, prepare) == expected
