"""A relay at home, behind a router that maps ports (a real miniupnpd): who is outside reaches it."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from clanctl.demo.lab import Lab, Node
from clanmeshd.store import Store
from tests.clock import wait_until
from tests.net.home_router import OUTSIDE, PATIENCE_S, WAN, HomeRouter, program

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root: run `sudo make test`"),
    pytest.mark.skipif(program() is None, reason="there is no miniupnpd: apt install miniupnpd-nftables"),
]

CHECKOUT = Path(__file__).resolve().parents[2]
CONTROL = {"udp 51871", "tcp 51871"}


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with Lab(tmp_path) as made:
        yield made
    for log in tmp_path.glob("*/daemon.log"):
        assert "Traceback" not in log.read_text(), log.parent.name


def identity(node: Node) -> str:
    """A machine's node id, in hex."""
    keys = Store(node.instance.state_directory).load_keys()
    assert keys is not None
    return keys.node.hex()


@pytest.mark.parametrize("name", ["PCP", "UPnP"])
def test_the_port_of_a_pair_is_mapped_as_long_as_there_is_the_pair(lab: Lab, name: str) -> None:
    router = HomeRouter(lab)
    home, other = lab.add_node("home"), lab.add_node("other")
    for number, node in enumerate((home, other), 2):
        router.connect(node, number)
    router.start(name)
    for node in (home, other, router.outside):
        settings = node.directory / "clan.toml"
        settings.write_text(f'overlay = "none"\nmdns = false\nport_mapping = {str(node is home).lower()}\n')
        node.arguments = ("--config", str(settings))
        lab.start_daemon(node)
    lab.call(home, "init", {"name": "family", "node_name": "home", "signers": []})
    assert wait_until(lambda: router.forwards() == CONTROL, PATIENCE_S)
    for node in (other, router.outside):
        token = lab.call(home, "invite", {"tags": [], "uses": 1, "ttl_s": 600})["token"]
        lab.call(node, "join", {"token": token, "name": node.name})

    def asked() -> str:
        words = [os.fspath(router.outside.instance.state_directory), identity(home), WAN, identity(other), "show"]
        done = lab.exec(
            router.outside, [sys.executable, "-m", "tests.net.relay_member", *words], directory=CHECKOUT
        )
        assert done.returncode == 0, done.stderr
        return str(done.stdout).strip()

    assert asked() == "unwilling"
    lab.call(home, "tag", {"node": "home", "add": ["relay"], "remove": []})
    assert wait_until(lambda: asked() == f"{WAN}:51873 sees {OUTSIDE}", PATIENCE_S), asked()
    assert router.forwards() == {*CONTROL, "udp 51873"}
    lab.call(home, "tag", {"node": "home", "add": [], "remove": ["relay"]})
    assert wait_until(lambda: router.forwards() == CONTROL, PATIENCE_S)
    router.stop()
