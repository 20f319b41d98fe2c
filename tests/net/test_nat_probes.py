"""Probes find a path wherever there can be one, through every pair of routers, and nowhere else."""

from itertools import combinations_with_replacement

import pytest

from tests.net.nat_lab import Host, NatLab
from tests.net.nat_models import MODELS, Model, punchable
from tests.net.nat_punching import punch_all, stations
from tests.net.test_nat_lab import pytestmark as pytestmark

WITHIN_S = 1.0
OBSERVERS = ("observer-1", "observer-2")


def places(lab: NatLab, **hosts: tuple[Model, ...]) -> dict[str, Host]:
    """A host at a site of its own for each name, and two observers."""
    made = {name: lab.host(lab.site(*models)) for name, models in hosts.items()}
    return made | {name: lab.host() for name in OBSERVERS}


async def test_in_exactly_the_pairs_that_can_be_punched() -> None:
    """All pairs at once, each model with itself, too."""
    models = {f"{model.name}_{number}": model for model in MODELS for number in (1, 2)}
    with NatLab() as lab:
        found = await punch_all(
            stations(places(lab, **{name: (model,) for name, model in models.items()})), OBSERVERS, WITHIN_S
        )
    took_s: dict[tuple[Model, Model], list[float | None]] = {}
    for (one, other), each in found.items():
        took_s.setdefault((models[one], models[other]), []).append(each)
    assert len(took_s) >= len(list(combinations_with_replacement(MODELS, 2)))
    wrong = {
        (one.value, other.value): each
        for (one, other), each in took_s.items()
        if {took is not None for took in each} != {punchable(one, other)}
    }
    assert wrong == {}


async def test_behind_two_routers_of_their_own() -> None:
    """Openers have to pass both, which a device finds out; a carrier's hard one is as bad as one's own."""
    easy, hard = (Model.EASY, Model.EASY), (Model.EASY, Model.HARD)
    with NatLab() as lab:
        made = stations(places(lab, double=easy, other=easy, single=(Model.OPEN_INPUT,), hard=hard))
        found = await punch_all(made, OBSERVERS, WITHIN_S)
    reached = {pair for pair, took_s in found.items() if took_s is not None}
    assert reached == {("double", "other"), ("double", "single"), ("other", "single")}


@pytest.mark.parametrize(("openers_arrive", "is_found"), [(False, True), (True, False)])
async def test_openers_that_arrive_spoil_it_where_routers_take_what_they_do_not_know(
    openers_arrive: bool, is_found: bool
) -> None:
    """The router gives the outer port to what came unasked, and the answer to it another one."""
    with NatLab() as lab:
        made = stations(places(lab, one=(Model.OPEN_INPUT,), other=(Model.OPEN_INPUT,)))
        for station in made.values():
            station.openers_arrive = openers_arrive
        found = await punch_all(made, OBSERVERS, WITHIN_S)
    assert (found["one", "other"] is not None) == is_found


@pytest.mark.parametrize(("model", "is_found"), [(Model.HAIRPIN, True), (Model.EASY, False)])
async def test_behind_one_router_by_the_outer_addresses_only_where_it_loops_back(
    model: Model, is_found: bool
) -> None:
    """Where it does not, their addresses inside are what is left."""
    with NatLab() as lab:
        site = lab.site(model)
        hosts = {"one": lab.host(site), "other": lab.host(site)}
        made = stations(hosts | {name: lab.host() for name in OBSERVERS})
        found = await punch_all(made, OBSERVERS, WITHIN_S)
        assert (found["one", "other"] is not None) == is_found


async def test_behind_one_router_by_the_addresses_inside() -> None:
    with NatLab() as lab:
        site = lab.site(Model.HARD)
        made = stations({"one": lab.host(site), "other": lab.host(site)})
        for station in made.values():
            station.seen = [station.endpoint]
        found = await punch_all(made, (), WITHIN_S)
    assert found["one", "other"] is not None
    assert found["one", "other"] < 0.5
