"""`clanctl doctor` on real daemons: what is broken on purpose is named, with the remedy, and in time."""

import ipaddress
import json
import os
import shlex
from collections.abc import Iterator
from typing import Any

import pytest

from clanctl.demo.lab import Lab, Node
from tests.clock import Stopwatch, wait_until
from tests.net.clan_of_daemons import PATIENCE_S, Clan

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root: run `sudo make test`")

LOOK_S_MAX = 10.0


@pytest.fixture(scope="module")
def clan(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clan]:
    """Three sound members, one whose clock is wrong, and one of an older version."""
    directory = tmp_path_factory.mktemp("doctor")
    with Lab(directory) as lab:
        made = Clan(lab, "", "desk", "nas", "tv")
        for name in ("late", "old"):
            made.nodes.append(made.start(name, "tests.net.odd_daemon"))
            made.join(made.nodes[-1], made.token())
        made.await_whole()
        addresses = [made.address(node) for node in made.nodes]
        made.await_all(lambda node: all(made.ping(node, address) for address in addresses))
        yield made
    for log in directory.glob("*/daemon.log"):
        assert "Traceback" not in log.read_text(), log.read_text()


def look(clan: Clan, node: Node) -> dict[str, list[dict[str, Any]]]:
    """The findings by their check; one that took too long fails."""
    with Stopwatch() as watch:
        done = clan.lab.ctl(node, "doctor", "--json")
    took_s = watch.passed_s
    assert took_s < LOOK_S_MAX
    found = json.loads(done.stdout)["findings"]
    assert done.returncode == (4 if any(each["level"] == "problem" for each in found) else 0), done.stderr
    print(f"{node.name}: {took_s:.2f} s, {[each['what'] for each in found if each['level'] != 'ok']}")
    by_check: dict[str, list[dict[str, Any]]] = {}
    for each in found:
        by_check.setdefault(each["check"], []).append(each)
    return by_check


def run(clan: Clan, node: Node, *words: str) -> None:
    """Run a command that must succeed on a machine."""
    done = clan.lab.exec(node, words)
    assert done.returncode == 0, done.stderr


def test_clocks_and_versions_are_compared(clan: Clan) -> None:
    found = look(clan, clan.founder)
    (clock,) = found["clock"]
    assert clock["level"] == "problem"
    assert clock["what"] == "late's clock is 6 minutes ahead of this device's"
    (version,) = found["version"]
    assert "a version on old too old to tell" in version["what"]
    (own,) = look(clan, clan.nodes[3])["clock"]
    assert own["what"] == "this device's clock is 6 minutes ahead of 3 members"


def test_what_is_sound_is_said_to_be(clan: Clan) -> None:
    found = look(clan, clan.founder)
    for check in ("udp", "nat", "router", "members", "tunnels", "disk"):
        assert [each["level"] for each in found[check]] == ["ok"], found[check]
    for node in clan.nodes[1:]:
        assert node.name in found["tunnels"][0]["what"]


def test_who_takes_the_clans_network_is_named(clan: Clan) -> None:
    desk, nas, _, *_ = clan.nodes
    prefix = ":".join(clan.address(desk).split(":")[:3])
    run(clan, desk, "ip", "link", "add", "vpn9", "type", "bridge")
    run(clan, desk, "ip", "link", "set", "vpn9", "up")
    run(clan, desk, "ip", "-6", "route", "add", f"{clan.address(nas)}/128", "dev", "vpn9", "table", "99")
    run(clan, desk, "ip", "-6", "rule", "add", "to", f"{prefix}::/48", "lookup", "99")
    run(clan, desk, "ip", "-6", "address", "add", f"{prefix}::9/64", "dev", "vpn9", "nodad")
    try:
        found = look(clan, desk)
        (route,) = found["routes"]
        assert route["what"] == "packets for nas leave by vpn9, not by clan0"
        assert any(f"vpn9 has the address {prefix}::9" in each["what"] for each in found["addresses"])
    finally:
        run(clan, desk, "ip", "-6", "rule", "del", "to", f"{prefix}::/48", "lookup", "99")
        run(clan, desk, "ip", "link", "del", "vpn9")
    assert look(clan, desk).keys().isdisjoint({"routes", "addresses"})


@pytest.mark.parametrize(
    ("made", "what"),
    [
        ("{network} dev vpn9 table 99", "packets for {all} leave by vpn9, not by clan0"),
        ("{nas}/128 dev vpn9 metric 1", "packets for nas leave by vpn9, not by clan0"),
        ("blackhole {nas}/128 metric 1", "packets for nas are thrown away, not sent by clan0"),
    ],
)
def test_a_route_that_shadows_ours_is_named_and_its_remedy_undoes_it(clan: Clan, made: str, what: str) -> None:
    desk, nas, *_ = clan.nodes
    network = ipaddress.IPv6Network((clan.address(desk), 48), strict=False)
    run(clan, desk, "ip", "link", "add", "vpn9", "type", "bridge")
    try:
        run(clan, desk, "ip", "link", "set", "vpn9", "up")
        run(clan, desk, "ip", "-6", "route", "add", "fd00::/8", "dev", "vpn9", "metric", "1")
        run(clan, desk, "ip", "-6", "route", "add", str(network), "dev", "vpn9", "metric", "1")
        run(clan, desk, "ip", "-6", "rule", "add", "to", str(network), "lookup", "99", "priority", "9")
        assert "routes" not in look(clan, desk), "neither wider networks nor an empty table do any harm"
        words = made.format(network=network, nas=clan.address(nas)).split()
        run(clan, desk, "ip", "-6", "route", "add", *words)
        (found,) = look(clan, desk)["routes"]
        before, _, after = what.partition("{all}")
        assert found["what"].startswith(before)
        assert found["what"].endswith(after)
        if not after:
            assert found["what"] == what
        for command in quoted(found["remedy"]):
            run(clan, desk, *shlex.split(command))
        assert "routes" not in look(clan, desk)
    finally:
        clan.lab.exec(desk, ["ip", "-6", "rule", "del", "priority", "9"])  # it may be gone, by a remedy
        run(clan, desk, "ip", "link", "del", "vpn9")


def test_a_rule_that_throws_away_is_named(clan: Clan) -> None:
    desk, nas, *_ = clan.nodes
    run(clan, desk, "ip", "-6", "rule", "add", "to", f"{clan.address(nas)}/128", "prohibit", "priority", "7")
    (found,) = look(clan, desk)["routes"]
    assert (found["what"], found["why"][:6]) == ("packets for nas are thrown away, not sent by clan0", "rule 7")
    (command,) = quoted(found["remedy"])
    run(clan, desk, *shlex.split(command))
    assert "routes" not in look(clan, desk)


CLOSED = """table inet guard {
  set open { type inet_service; flags interval; elements = { 22, 1000-2000 } }
  chain input {
    type filter hook input priority 0; policy drop;
    ct state vmap { established : accept, related : accept, invalid : drop }
    iifname { "lo", "clan0" } accept
    meta l4proto { icmp, ipv6-icmp } accept
    tcp dport @open ct state new accept
    udp dport 5353 accept
  }
}
"""


def test_a_firewall_that_keeps_us_out_is_named_and_its_remedy_lets_us_in(clan: Clan) -> None:
    tv = clan.nodes[2]
    (found,) = look(clan, tv)["firewall"]
    assert found["what"] == "no firewall of this machine keeps anything out"
    done = clan.lab.exec(tv, ["nft", "-f", "-"], stdin=CLOSED)
    assert done.returncode == 0, done.stderr
    try:
        (found,) = look(clan, tv)["firewall"]
        assert found["level"] == "note"
        assert found["what"] == "nftables on this device drops what comes to UDP 51871, UDP 51872 and TCP 51871"
        assert found["why"].startswith("nftables table inet guard, chain input, policy drop: only answers")
        for command in quoted(found["remedy"]):
            run(clan, tv, *shlex.split(command))
        (found,) = look(clan, tv)["firewall"]
        assert found["level"] == "ok"
        assert found["why"] == "nftables table inet guard, chain input, policy drop"
        run(clan, tv, "nft", "insert rule inet guard input meta hour 08:00-09:00 drop")
        (found,) = look(clan, tv)["firewall"]
        assert (found["level"], "not all of its rules are understood" in found["why"]) == ("ok", True)
    finally:
        run(clan, tv, "nft", "delete table inet guard")


KEPT_IN = """table inet guard {
  chain out {
    type filter hook output priority 0; policy drop;
    ct state established,related accept
    oifname "lo" accept
    meta l4proto { icmp, ipv6-icmp } accept
    udp dport { 53, 123 } accept
  }
}
"""


def test_a_firewall_that_keeps_in_what_we_send_is_named_and_its_remedy_lets_it_out(clan: Clan) -> None:
    tv = clan.nodes[2]
    done = clan.lab.exec(tv, ["nft", "-f", "-"], stdin=KEPT_IN)
    assert done.returncode == 0, done.stderr
    try:
        found = look(clan, tv)["firewall"]
        ports = "UDP 51871, UDP 51872, UDP 5353 and TCP 51871"
        assert [each["what"] for each in found] == [
            f"nftables on this device drops what this device sends by {ports}",
            "nftables on this device drops this device's new connections to members through the tunnels",
        ]
        assert all(each["why"].startswith("nftables table inet guard, chain out, policy drop: ") for each in found)
        for command in [each for finding in found for each in quoted(finding["remedy"])]:
            run(clan, tv, *shlex.split(command))
        (found,) = look(clan, tv)["firewall"]
        assert (found["level"], found["what"][:55]) == (
            "ok",
            "the firewall here lets in and out what the clan needs: ",
        )
    finally:
        run(clan, tv, "nft", "delete table inet guard")


def quoted(remedy: str) -> list[str]:
    """The commands of a remedy."""
    return [part for part in remedy.split("`")[1::2] if part.split()[0] in ("ip", "nft")]


def test_a_tunnel_that_a_firewall_closed_is_not_called_sound(clan: Clan) -> None:
    desk, _, tv, *_ = clan.nodes
    rules = "add table inet t; add chain inet t i { type filter hook prerouting priority -400; }; "
    rules += "add rule inet t i udp dport 51872 drop"
    run(clan, tv, "nft", rules)
    try:
        found = look(clan, desk)
        (mute,) = [each for each in found["tunnels"] if "tv" in each["what"]]
        assert (mute["level"], "firewall" in mute["why"]) == ("note", True)
        assert all("tv" not in each["what"] for each in found["tunnels"] if each["level"] == "ok")
        (shut,) = look(clan, tv)["firewall"]
        assert (shut["level"], shut["what"]) == (
            "problem",
            "nftables on this device drops what comes to UDP 51872",
        )
        assert shut["why"].startswith("nftables table inet t, chain i, policy accept: not even answers")
    finally:
        run(clan, tv, "nft", "delete table inet t")


def test_a_port_of_ours_that_another_has_is_named(clan: Clan) -> None:
    """While the daemon runs it has the port itself; so somebody took it while it did not."""
    tv = clan.nodes[2]
    clan.lab.kill(tv)
    words = "import socket, time; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(('', 51872))"
    taker = clan.lab.exec(tv, ["sh", "-c", f'python3 -c "{words}; time.sleep(600)" >/dev/null 2>&1 & echo $!'])
    try:
        taken = ["ss", "-Hlnu", "sport = :51872"]
        assert wait_until(lambda: clan.lab.exec(tv, taken).stdout != "", PATIENCE_S)
        done = clan.lab.ctl(tv, "doctor")
        assert done.returncode == 3
        assert "problem: UDP port 51872 is in use by another program" in done.stdout
        assert "ss -lnp 'sport = :51872'" in done.stdout
        clan.lab.start_daemon(tv)
        assert wait_until(lambda: "another program has it" in clan.lab.ctl(tv, "doctor").stdout, PATIENCE_S)
    finally:
        run(clan, tv, "kill", taker.stdout.strip())
