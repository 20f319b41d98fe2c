"""The laboratory is what it says: each model maps and lets in as its table, and nothing stays behind."""

import os
import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clock import wait_until
from tests.net.nat_internet import HOPS
from tests.net.nat_lab import RTT_S, Host, NatLab, Site
from tests.net.nat_models import HAIRPIN_PORT_STEP, MODELS, TUNNEL_PORT, Model

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("nft") is None or not os.path.exists("/dev/net/tun"),
    reason="namespaces need root, nftables and /dev/net/tun: run `sudo make test`",
)

PATIENCE_S = 10.0
BUILD_CPU_S_MAX = (
    1.0  # of all processes for a pair and its end, so that it is no matter what else runs; it takes 0.2
)
PORT = 41_000
_IP_TTL_DEFAULT = 64

# What comes in at a mapping that was made by speaking to one endpoint: from there, from another port of that
# address, from another address.
LETS_IN = {
    Model.FULL_CONE: {"same", "port", "address"},
    Model.ADDRESS: {"same", "port"},
    Model.EASY: {"same"},
    Model.OPEN_INPUT: {"same"},
    Model.HARD: {"same"},
}


@pytest.fixture(scope="module")
def lab() -> Iterator[NatLab]:
    with NatLab() as made:
        yield made


@pytest.fixture(scope="module")
def observers(lab: NatLab) -> tuple[Host, Host]:
    return lab.host(), lab.host()


def seen(sender: socket.socket, observer: socket.socket, patience_s: float = PATIENCE_S) -> tuple[str, int] | None:
    """Where an observer sees a socket; None if nothing arrives. Asked again and again, for a busy machine."""
    question, ends_s = f"where am I? {time.monotonic()}".encode(), time.monotonic() + patience_s
    observer.settimeout(8 * RTT_S)
    while True:
        sender.sendto(question, observer.getsockname())
        try:
            while True:
                data, source = observer.recvfrom(100)
                if data == question:
                    return source
        except TimeoutError:
            if time.monotonic() > ends_s:
                return None


def received(receiver: socket.socket) -> bytes:
    """The next packet, which has to come."""
    receiver.settimeout(PATIENCE_S)
    return receiver.recv(100)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.value)
def test_a_model_maps_as_its_table_says(model: Model, lab: NatLab, observers: tuple[Host, Host]) -> None:
    site = lab.site(model)
    with lab.host(site).socket(PORT) as inside:
        found = []
        for observer in observers:
            with observer.socket(PORT) as outside:
                found.append(seen(inside, outside, PATIENCE_S if model.maps != "none" else 0))
    if model.maps == "none":
        assert found == [None, None]
        return
    assert {each[0] for each in found if each} == {site.outside}
    assert (len({each[1] for each in found if each}) == 1) == (model.maps == "independent")


@pytest.mark.parametrize("model", LETS_IN, ids=lambda model: model.value)
def test_a_model_lets_in_whom_its_table_says(model: Model, lab: NatLab, observers: tuple[Host, Host]) -> None:
    one, other = observers
    with (
        lab.host(lab.site(model)).socket(PORT) as inside,
        one.socket(PORT) as same,
        one.socket(PORT + 1) as port,
        other.socket(PORT) as address,
    ):
        at = seen(inside, same)
        assert at is not None
        address.sendto(b"address", at)
        address.sendto(b"go on", same.getsockname())
        assert received(same) == b"go on"  # so what left before it has arrived, if it is let in
        port.sendto(b"port", at)
        same.sendto(b"same", at)
        arrived: set[str] = set()
        while "same" not in arrived:
            arrived.add(received(inside).decode())
    assert arrived == LETS_IN[model]


def test_a_router_that_takes_what_it_does_not_know_loses_its_mapping_to_who_was_first(
    lab: NatLab, observers: tuple[Host, Host]
) -> None:
    """The reason for openers that do not arrive."""
    ports = {}
    for model in (Model.OPEN_INPUT, Model.EASY):
        site = lab.site(model)
        with lab.host(site).socket(PORT) as inside, observers[0].socket(PORT) as early:
            early.sendto(b"unasked", (site.outside, PORT))
            with observers[1].socket(PORT) as other:
                assert seen(inside, other) == (site.outside, PORT)  # a round trip later: it has come
            found = seen(inside, early)
            assert found is not None
            ports[model] = found[1]
    assert ports[Model.EASY] == PORT
    assert ports[Model.OPEN_INPUT] != PORT


def test_two_hosts_behind_one_router_have_two_outer_ports_and_reach_each_other_inside(
    lab: NatLab, observers: tuple[Host, Host]
) -> None:
    site = lab.site(Model.EASY)
    one, other = lab.host(site), lab.host(site)
    with one.socket(PORT) as first, other.socket(PORT) as second, observers[0].socket(PORT) as outside:
        ports = [found[1] for found in (seen(first, outside), seen(second, outside)) if found]
        assert len(set(ports)) == 2
        first.sendto(b"by the way outside", (site.outside, ports[1]))
        first.sendto(b"hello", (other.address, PORT))
        assert received(second) == b"hello"


def test_a_router_that_loops_back_leads_from_inside_to_the_outer_address_in_again(
    lab: NatLab, observers: tuple[Host, Host]
) -> None:
    site = lab.site(Model.HAIRPIN)
    with (
        lab.host(site).socket(TUNNEL_PORT) as first,
        lab.host(site).socket(TUNNEL_PORT) as second,
        observers[0].socket(PORT) as outside,
    ):
        assert seen(first, outside) == (site.outside, TUNNEL_PORT)
        assert seen(second, outside) == (site.outside, TUNNEL_PORT + HAIRPIN_PORT_STEP)
        first.sendto(b"hello", (site.outside, TUNNEL_PORT + HAIRPIN_PORT_STEP))
        second.settimeout(PATIENCE_S)
        assert second.recvfrom(100) == (b"hello", (site.outside, TUNNEL_PORT))
        second.sendto(b"well met", (site.outside, TUNNEL_PORT))
        first.settimeout(PATIENCE_S)
        assert first.recvfrom(100) == (b"well met", (site.outside, TUNNEL_PORT + HAIRPIN_PORT_STEP))


@pytest.mark.parametrize("inner", [Model.EASY, Model.HARD], ids=lambda model: model.value)
@pytest.mark.parametrize("outer", [Model.EASY, Model.HARD], ids=lambda model: model.value)
def test_behind_two_routers_the_harder_one_shows(
    inner: Model, outer: Model, lab: NatLab, observers: tuple[Host, Host]
) -> None:
    site = lab.site(inner, outer)
    with lab.host(site).socket(PORT) as inside:
        found = []
        for observer in observers:
            with observer.socket(PORT) as outside:
                found.append(seen(inside, outside))
    assert {each[0] for each in found if each} == {site.outside}
    assert (len({each[1] for each in found if each}) > 1) == (Model.HARD in (inner, outer))


@pytest.mark.parametrize("depth", [1, 2])
def test_a_ttl_of_more_than_the_own_routers_ends_behind_them(
    depth: int, lab: NatLab, observers: tuple[Host, Host]
) -> None:
    site = lab.site(*[Model.EASY] * depth)
    with lab.host(site).socket(PORT) as inside, observers[0].socket(PORT) as outside:
        for ttl in range(depth + 1, depth + HOPS + 1):
            inside.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, ttl)
            inside.sendto(b"opener", outside.getsockname())
        inside.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, depth + HOPS + 1)
        inside.sendto(b"arrives", outside.getsockname())
        assert received(outside) == b"arrives"
        inside.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, _IP_TTL_DEFAULT)
        outside.sendto(b"at the opened port", (site.outside, PORT))
        assert received(inside) == b"at the opened port"


@pytest.mark.parametrize("model", [Model.EASY, Model.HARD], ids=lambda model: model.value)
def test_a_site_that_gets_another_address_has_other_mappings(
    model: Model, lab: NatLab, observers: tuple[Host, Host]
) -> None:
    site = lab.site(model)
    with lab.host(site).socket(PORT) as inside, observers[0].socket(PORT) as outside:
        before = seen(inside, outside)
        assert before is not None
        assert before[0] == site.outside
        lab.renumber(site)
        after = seen(inside, outside)
        assert after is not None
        assert after[0] == site.outside != before[0]
        outside.sendto(b"to where it was", before)
        outside.sendto(b"to where it is", after)
        assert received(inside) == b"to where it is"


def test_a_host_may_move_to_another_site(lab: NatLab, observers: tuple[Host, Host]) -> None:
    first, second = lab.site(Model.EASY), lab.site(Model.EASY)
    host = lab.host(first)
    for site in (first, second):
        with host.socket(PORT) as inside, observers[0].socket(PORT) as outside:
            found = seen(inside, outside)
        assert found is not None
        assert found[0] == site.outside
        if site is first:
            lab.unplug(host)
            host = lab.plug(host.pid, second)


def test_a_mapping_that_nothing_passes_is_forgotten(lab: NatLab, observers: tuple[Host, Host]) -> None:
    site = lab.site(Model.HARD, mapping_s=5)  # longer than a machine stands still
    with lab.host(site).socket(PORT) as inside, observers[0].socket(PORT) as outside:
        first = seen(inside, outside)
        assert first is not None
        outside.sendto(b"still there?", first)
        assert received(inside) == b"still there?"
        assert lab.mappings(site) > 0
        assert wait_until(lambda: lab.mappings(site) == 0, 4 * PATIENCE_S)
        outside.sendto(b"still there?", first)
        second = seen(inside, outside)
        assert second is not None
        outside.sendto(b"now here", second)
        assert received(inside) == b"now here"


def test_an_address_that_is_nobody_s_outside_goes_nowhere(lab: NatLab, observers: tuple[Host, Host]) -> None:
    """Neither does what a router forgot to translate."""
    before = lab.flows()
    one, other = observers
    with one.socket(PORT) as sender, other.socket(PORT) as receiver:
        sender.sendto(b"x", ("10.0.1.2", PORT))
        sender.sendto(b"y", (other.address, PORT))
        assert received(receiver) == b"y"
    assert sum(lab.flows().values()) == sum(before.values()) + 1


def test_the_way_takes_its_time_and_can_be_cut_and_lossy(lab: NatLab) -> None:
    one, other = lab.host(), lab.host()
    with one.socket(PORT) as first, other.socket(PORT) as second:
        begun_s = time.monotonic()
        first.sendto(b"there", second.getsockname())
        received(second)
        second.sendto(b"and back", first.getsockname())
        received(first)
        assert time.monotonic() - begun_s >= RTT_S
        lab.cut(one.address, other.address)
        first.sendto(b"lost", second.getsockname())
        before = lab.flows().get((one.address, other.address), 0)
        lab.cut(one.address, other.address, is_cut=False)
        lab.weather(RTT_S, 0.5)
        for _ in range(200):
            first.sendto(b"perhaps", second.getsockname())
        lab.weather(RTT_S)
        first.sendto(b"last", second.getsockname())
        while received(second) != b"last":
            pass
        assert before == 1
        assert 50 < lab.flows()[one.address, other.address] - before < 150


def test_a_pair_is_quickly_made_and_nothing_stays_behind() -> None:
    def links() -> list[str]:
        return sorted(os.listdir("/sys/class/net"))

    before, took_s = links(), list[float]()
    for _ in range(3):
        begun = os.times()
        with NatLab() as lab:
            hosts = [lab.host(lab.site(model)) for model in (Model.EASY, Model.HARD)] + [lab.host()]
            pids = [*(host.pid for host in hosts), *_routers(host.site for host in hosts)]
        assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]
        took_s.append(sum(os.times()[:4]) - sum(begun[:4]))
    assert links() == before
    assert min(took_s) < BUILD_CPU_S_MAX, took_s


def _routers(sites: Iterator[Site | None]) -> list[int]:
    return [router.pid for site in sites if site for router in site.routers]
