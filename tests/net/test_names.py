"""Names on real daemons and real tunnels: who answers, what, how soon, and to whom not."""

import ipaddress
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

from clanctl.demo.lab import Lab, Node
from clanctl.demo.network import enter_words
from clanmeshd.naming.zone import reverse_name, text_of
from tests.clock import Stopwatch, wait_until
from tests.net.clan_of_daemons import PATIENCE_S, Clan

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root: run `sudo make test`")

ANSWER_MS_MAX = 20.0
RENAME_S_MAX = 2.0
ASKED = 50  # questions for a median
OK, NO_SUCH_NAME, REFUSED = 0, 3, 5


@pytest.fixture(scope="module")
def clan(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clan]:
    """Three members whose tunnels work."""
    directory = tmp_path_factory.mktemp("names")
    with Lab(directory) as lab:
        made = Clan(lab, "", "desk", "nas", "tv")
        addresses = [made.address(node) for node in made.nodes]
        made.await_all(lambda node: all(made.ping(node, address) for address in addresses))
        yield made
    for log in directory.glob("*/daemon.log"):
        assert "Traceback" not in log.read_text(), log.read_text()


def _argv(server: str, *words: str) -> list[str]:
    return [sys.executable, "-m", "tests.net.dns_asker", server, *words]


def ask(clan: Clan, node: Node, server: str, *words: str) -> list[dict[str, Any]]:
    """Ask a server from a machine."""
    done = clan.lab.exec(node, _argv(server, *words))
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def pointer(address: str) -> str:
    """The name under which an address is looked up."""
    return text_of(reverse_name(ipaddress.IPv6Address(address).packed))


def test_each_device_answers_for_all_on_its_own_address(clan: Clan) -> None:
    """Both ways, over both transports, and says what is not there."""
    for node in clan.nodes:
        for transport in ("udp", "tcp"):
            for other in clan.nodes:
                address = clan.address(other)
                words = (f"{other.name}.family.internal", "AAAA", pointer(address), "POINTER")
                forward, back = ask(clan, node, clan.address(node), transport, *words)
                assert (forward["code"], forward["values"]) == (OK, [address])
                assert (back["code"], back["values"]) == (OK, [f"{other.name}.family.internal"])
            words = ("desk.family.internal", "A", "printer.family.internal", "AAAA", "example.org", "AAAA")
            answers = ask(clan, node, clan.address(node), transport, *words)
            assert [answer["code"] for answer in answers] == [OK, NO_SUCH_NAME, REFUSED]
            assert [answer["values"] for answer in answers] == [[], [], []]


def test_an_answer_comes_at_once(clan: Clan) -> None:
    """The median of many, on each machine."""
    for node in clan.nodes:
        answers = ask(clan, node, clan.address(node), "udp", *(("nas.family.internal", "AAAA") * ASKED))
        median = statistics.median(answer["ms"] for answer in answers)
        print(f"{node.name}: {median:.2f} ms, at most {max(answer['ms'] for answer in answers):.2f} ms")
        assert median <= ANSWER_MS_MAX


def test_other_members_are_answered_through_the_tunnel(clan: Clan) -> None:
    """And nobody else: not the LAN, not even with an address of the clan's."""
    desk, nas, _ = clan.nodes
    (answer,) = ask(clan, desk, clan.address(nas), "udp", "tv.family.internal", "AAAA")
    assert answer["values"] == [clan.address(clan.nodes[2])]
    stranger = clan.lab.add_node("stranger")
    lan = str(ipaddress.IPv6Interface(nas.place.ipv6).ip)
    forged = str(ipaddress.IPv6Address(clan.address(desk)) + 1)
    for words in (
        ["route", "add", f"{clan.address(nas)}/128", "via", lan, "dev", "eth0"],
        ["address", "add", f"{forged}/128", "dev", "eth0", "nodad"],
    ):
        assert clan.lab.exec(stranger, ["ip", "-6", *words]).returncode == 0
    assert clan.lab.exec(stranger, ["ping", "-6", "-c", "1", "-W", "2", lan]).returncode == 0
    for server in (lan, clan.address(nas)):
        for transport in ("udp", "tcp"):
            (answer,) = ask(clan, stranger, server, transport, "tv.family.internal", "AAAA")
            assert answer["code"] is None, (server, transport)
    clan.lab.crash(stranger)


def test_it_listens_nowhere_else(clan: Clan) -> None:
    """One address, in both transports."""
    for node in clan.nodes:
        own = f"[{clan.address(node)}]:53"
        said = clan.lab.exec(node, ["ss", "-Hlntu", "sport = :53"]).stdout
        assert [line.split()[4] for line in said.splitlines()] == [own, own]


def test_a_new_name_is_known_within_two_seconds(clan: Clan) -> None:
    """On every device; and the old one is gone."""
    desk, nas, tv = clan.nodes
    waiting = {
        node.name: subprocess.Popen(
            [
                *enter_words(node.pid),
                *_argv(clan.address(node), "udp", "until", "cellar.family.internal", "AAAA", str(PATIENCE_S)),
            ],
            stdout=subprocess.PIPE,
            encoding="utf-8",
            env=clan.lab.environment(node),
        )
        for node in clan.nodes
    }
    for process in waiting.values():
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    begun_s = time.time()
    with Stopwatch() as watch:
        clan.lab.call(desk, "rename", {"node": "nas", "name": "cellar"})
        answers = {name: json.loads(process.communicate()[0]) for name, process in waiting.items()}
    for name, answer in answers.items():
        print(f"{name}: {answer['unix_s'] - begun_s:.3f} s")
        assert answer["values"] == [clan.address(nas)]
        assert answer["unix_s"] - begun_s - watch.paused_s <= RENAME_S_MAX
    for node in (desk, tv):
        assert ask(clan, node, clan.address(node), "udp", "nas.family.internal", "AAAA")[0]["code"] == NO_SUCH_NAME
    clan.lab.call(desk, "rename", {"node": "cellar", "name": "nas"})


def test_it_answers_again_when_the_interface_was_made_anew(clan: Clan) -> None:
    """Whoever deleted it; the resolver kept its port meanwhile."""
    tv = clan.nodes[2]
    assert clan.lab.exec(tv, ["ip", "link", "delete", "clan0"]).returncode == 0

    def answers() -> bool:
        return bool(ask(clan, tv, clan.address(tv), "udp", "nas.family.internal", "AAAA")[0]["values"])

    assert wait_until(answers, PATIENCE_S)


def test_status_says_how_names_are_given(clan: Clan) -> None:
    """These daemons were started by hand, so the system is told nothing, and that is no problem."""
    assert wait_until(lambda: clan.lab.call(clan.founder, "status")["healthy"], PATIENCE_S)
    status = clan.lab.call(clan.founder, "status")
    assert status["names"] == {
        "domain": "family.internal",
        "answers": True,
        "by": None,
        "why": "this daemon was not started by systemd",
    }
    said = clan.lab.ctl(clan.founder, "status").stdout
    assert "*.family.internal, not given to the system (this daemon was not started by systemd)" in said


def test_a_port_that_another_has_is_named_with_a_remedy(clan: Clan) -> None:
    """And it is taken as soon as it is free."""
    guest = clan.lab.add_node("guest")
    guest.arguments = clan.founder.arguments
    other = subprocess.Popen(
        [
            *enter_words(guest.pid),
            *(sys.executable, "-c"),
            "import socket; s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM); s.bind(('::', 53)); input()",
        ],
        stdin=subprocess.PIPE,
    )
    try:
        bound = [*enter_words(guest.pid), "ss", "-Hlnu", "sport = :53"]
        assert wait_until(lambda: subprocess.run(bound, capture_output=True, check=True).stdout != b"", PATIENCE_S)
        clan.lab.start_daemon(guest)
        clan.join(guest, clan.token())
        assert wait_until(lambda: "another program has it" in str(_device_problems(clan, guest)), PATIENCE_S)
        (problem,) = _device_problems(clan, guest)
        assert "ss -lnp" in problem["remedy"]
    finally:
        other.communicate(b"\n", timeout=PATIENCE_S)
    assert wait_until(lambda: not _device_problems(clan, guest), PATIENCE_S)
    assert clan.lab.call(guest, "status")["names"]["answers"]


def _device_problems(clan: Clan, node: Node) -> list[dict[str, str]]:
    return [each for each in clan.lab.call(node, "status")["problems"] if each["what"].startswith("names:")]
