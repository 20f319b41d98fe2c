"""What probes have proven is WireGuard's own way: a handshake goes through where they went, and nowhere else."""

import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.net.nat_lab import RTT_S, Host, NatLab
from tests.net.nat_models import Model
from tests.net.test_nat_lab import pytestmark as lab_mark
from tests.net.wireguard_machines import PORT, Machine, eventually, wanted
from tests.net.wireguard_scenarios import ping

pytestmark = [lab_mark, pytest.mark.skipif(shutil.which("wireguard-go") is None, reason="wireguard-go is missing")]

WITHIN_S = 20.0
OBSERVERS = ("3", "4")


@contextmanager
def placed(lab: NatLab, *models: Model) -> Iterator[tuple[list[Machine], list[Host]]]:
    """Machines at a site for each model, two more with public addresses; all probe from WireGuard's port."""
    made = [Machine(number) for number in range(1, 5)]
    try:
        sites = [*(lab.site(model) for model in models), None, None]
        names = [str(machine.number) for machine in made]
        hosts = []
        for machine, site in zip(made, sites, strict=True):
            machine("children")  # it answers: its namespaces are there
            hosts.append(lab.plug(machine.pid, site))
            others = [name for name in names if name != str(machine.number)]
            assert machine("share_port", name=str(machine.number), others=others, port=PORT) is None
        yield made, hosts
    finally:
        for machine in made:
            machine.end()


def proven(machine: Machine, name: str) -> list[str] | None:
    """Where another one was reached, and where it sees this one."""
    found = [each for each in machine("probed")["proven"] if each[0] == name]
    return found[-1][1:] if found else None


def seen_at(machine: Machine, observers: dict[str, str]) -> list[str]:
    """Where each observer sees a machine."""

    def asked() -> bool:
        for name, address in observers.items():
            if proven(machine, name) is None:
                machine("probe", name=name, target=f"{address}:{PORT}")
        return all(proven(machine, name) for name in observers)

    eventually(asked, within_s=WITHIN_S)
    return [found[1] for found in (proven(machine, name) for name in observers) if found]


def punched(harder: Machine, easier: Machine, easier_at: str, harder_at: str) -> str:
    """Open the way on both sides and probe; where the harder one has reached the easier."""
    easier("open_way", name=str(harder.number), target=harder_at)
    harder("open_way", name=str(easier.number), target=easier_at)

    def reached() -> bool:
        harder("probe", name=str(easier.number), target=easier_at)
        return proven(harder, str(easier.number)) is not None

    eventually(reached, within_s=WITHIN_S)
    found = proven(harder, str(easier.number))
    assert found is not None
    return found[0]


def tunnel_to(own: Machine, other: Machine, endpoint: str | None) -> dict[str, Any]:
    """A wanted state with one peer, at an endpoint."""
    state = wanted(own, other)
    state["tunnels"][0]["endpoint"] = endpoint
    return state


def at_rest(lab: NatLab) -> dict[tuple[str, str], int]:
    """What the internet has taken, once nothing is under way any more: probes were sent until one was answered."""
    flows = [lab.flows()]

    def is_at_rest() -> bool:
        threading.Event().wait(2 * RTT_S)
        flows.append(lab.flows())
        return flows[-1] == flows[-2]

    eventually(is_at_rest, within_s=WITHIN_S)
    return flows[-1]


@pytest.mark.parametrize(
    ("harder_model", "easier_model"),
    [(Model.EASY, Model.EASY), (Model.EASY, Model.OPEN_INPUT), (Model.HARD, Model.ADDRESS)],
    ids=lambda model: model.value,
)
def test_a_handshake_goes_where_a_probe_went(harder_model: Model, easier_model: Model) -> None:
    with NatLab() as lab, placed(lab, harder_model, easier_model) as ((harder, easier, *_), hosts):
        observers = dict(zip(OBSERVERS, (host.address for host in hosts[2:]), strict=True))
        for machine, other in ((harder, easier), (easier, harder)):
            assert machine.open("userspace") == "userspace"
            machine("apply", wanted=tunnel_to(machine, other, None))
        harder_at, easier_at = seen_at(harder, observers), seen_at(easier, observers)
        assert (len(set(harder_at)) > 1) == (harder_model is Model.HARD)
        target = punched(harder, easier, easier_at[-1], harder_at[-1])
        before = at_rest(lab)
        harder("apply", wanted=tunnel_to(harder, easier, target))
        eventually(lambda: ping(harder, easier), within_s=WITHIN_S)
        eventually(lambda: ping(easier, harder), within_s=WITHIN_S)
        assert easier("read")[harder.public_key.hex()]["endpoint"] in [
            source for name, source, _ in easier("probed")["heard"] if name == str(harder.number)
        ]
        outsides = {host.site.outside for host in hosts if host.site}
        carried = {pair for pair, count in lab.flows().items() if count > before.get(pair, 0)}
        assert carried <= {(one, other) for one in outsides for other in outsides}
