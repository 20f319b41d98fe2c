"""`clanctl ping` on real daemons: only what came through the tunnel counts, and who goes away is noticed."""

import ipaddress
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
import trio

from clanctl.demo.lab import Lab, Node
from clanctl.demo.network import enter_words
from clanmeshd.overlay.echoes import ECHO_BYTES_MIN, echo, is_answer_untrusted
from tests.clock import wait_until
from tests.net.clan_of_daemons import PATIENCE_S, Clan

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root: run `sudo make test`")

LOOPBACK = ipaddress.IPv6Address("::1").packed
QUICK = ("-i", "0.1")


@pytest.fixture(scope="module")
def clan(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clan]:
    directory = tmp_path_factory.mktemp("ping")
    with Lab(directory) as lab:
        made = Clan(lab, "", "desk", "nas", "phone")
        addresses = [made.address(node) for node in made.nodes]
        made.await_all(lambda node: all(made.ping(node, address) for address in addresses))
        made.await_all(lambda node: kinds(made, node) == {"lan"})
        yield made
    for log in directory.glob("*/daemon.log"):
        assert "Traceback" not in log.read_text(), log.read_text()


def kinds(clan: Clan, node: Node) -> set[str]:
    """By what kinds of paths a machine reaches the others."""
    peers = clan.lab.call(node, "peers")["peers"]
    return {str(peer["path"]["kind"]) for peer in peers if peer["name"] != node.name}


async def test_an_echo_of_any_size_and_an_interface_that_is_not_there() -> None:
    for size in (ECHO_BYTES_MIN, 1420, 16_000):
        rtt_s = await echo("lo", LOOPBACK, size, PATIENCE_S)
        assert rtt_s is not None
        assert 0 < rtt_s < PATIENCE_S
    with pytest.raises(OSError, match="No such device"):
        await echo("none0", LOOPBACK, 104, PATIENCE_S)
    with trio.fail_after(PATIENCE_S / 2), pytest.raises(OSError, match="too long"):
        await echo("lo", LOOPBACK, 70_000, PATIENCE_S)


def test_only_an_answer_with_the_nonce_is_one() -> None:
    good = bytes([129, 0, 1, 2, 3, 4, 5, 6]) + b"12345678"
    assert is_answer_untrusted(good, b"12345678")
    for bad in (good[:-1], b"", bytes([128]) + good[1:], good[:8] + b"12345679"):
        assert not is_answer_untrusted(bad, b"12345678")


def test_round_trips_by_the_lan(clan: Clan) -> None:
    desk, nas, _ = clan.nodes
    said = clan.ctl(desk, "ping", "nas", "-c", "3", *QUICK)
    assert (said["name"], said["address"], said["sent"], said["received"]) == ("nas", clan.address(nas), 3, 3)
    assert {each["path"]["kind"] for each in said["answers"]} == {"lan"}
    assert 0 < said["min_ms"] <= said["avg_ms"] <= said["max_ms"] < 1000
    by_id = clan.lab.ctl(desk, "ping", said["id"][:10], "-c", "1")
    assert by_id.returncode == 0
    assert by_id.stdout.startswith(f"PING nas ({clan.address(nas)})")


def test_a_way_beside_the_tunnel_does_not_count(clan: Clan) -> None:
    """The peer has its overlay address on the LAN too, and ours has a route there: `ping` would be answered."""
    desk, nas, _ = clan.nodes
    lan = str(ipaddress.IPv6Interface(nas.place.ipv6).ip)
    detour = ["ip", "-6", "route", "add", f"{clan.address(nas)}/128", "via", lan, "metric", "1", "dev", "eth0"]
    assert clan.lab.exec(desk, detour).returncode == 0
    drop = ["nft", "add table inet t; add chain inet t i { type filter hook input priority 0; }; "]
    drop[1] += "add rule inet t i iifname clan0 icmpv6 type echo-request drop"
    assert clan.lab.exec(nas, drop).returncode == 0
    try:
        assert wait_until(lambda: clan.ping(desk, clan.address(nas)), PATIENCE_S)
        done = clan.lab.ctl(desk, "ping", "nas", "-c", "1")
        assert done.returncode == 3
        assert "a firewall there may keep ICMPv6 away" in done.stdout
    finally:
        clan.lab.exec(nas, ["nft", "delete table inet t"])
        clan.lab.exec(desk, ["ip", "-6", "route", "del", *detour[4:]])
    assert wait_until(lambda: clan.lab.ctl(desk, "ping", "nas", "-c", "1").returncode == 0, PATIENCE_S)


def test_who_leaves_meanwhile_ends_it(clan: Clan) -> None:
    desk = clan.founder
    words = [*enter_words(desk.pid), sys.executable, "-m", "clanctl", "ping", "phone", "-c", "1000", *QUICK]
    pinging = subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8", env=clan.lab.environment(desk)
    )
    assert pinging.stdout is not None
    for _ in range(3):
        assert pinging.stdout.readline()
    clan.ctl(desk, "remove", "phone", "--yes")
    out, err = pinging.communicate(timeout=20)
    assert pinging.returncode == 1
    assert "answered" in out
    assert err.strip() == "clanctl: ping phone: it is no member of the clan any more; see `clanctl events`"


def test_who_is_switched_off_does_not_answer_and_nor_does_a_daemon(clan: Clan) -> None:
    desk, nas, _ = clan.nodes
    clan.lab.kill(nas)
    assert wait_until(lambda: clan.lab.ctl(desk, "ping", "nas", "-c", "1", "-w", "1").returncode == 3, PATIENCE_S)
    clan.lab.kill(desk)
    done = clan.lab.ctl(desk, "ping", "nas")
    assert (done.returncode, "is not running" in done.stderr) == (3, True)
