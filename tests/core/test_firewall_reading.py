"""What is asked of nft and iptables, when they answer, say too much, say nothing, or are not there."""

import ipaddress
import stat
from pathlib import Path

import pytest

from clanmeshd.checkup.firewall import reading
from clanmeshd.checkup.firewall.packets import Wire
from clanmeshd.net.addresses import Interface
from tests.clock import Stopwatch

RULES = '{"nftables": [{"table": {"family": "inet", "name": "t"}}]}'


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with all the programs that are found, none at first; no firewall is switched on."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(reading, "_UFW", tmp_path / "ufw.conf")
    monkeypatch.setattr(reading, "_LEGACY_TABLES", {"ip": tmp_path / "ip", "ip6": tmp_path / "ip6"})
    return tmp_path


def install(programs: Path, name: str, script: str) -> None:
    path = programs / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


async def test_rules_are_what_nft_prints(programs: Path) -> None:
    install(programs, "nft", f"echo '{RULES}'")
    seen = await reading.see()
    assert ([table.name for table in seen.ruleset.tables], seen.unseen, seen.tools) == (["t"], None, ())


async def test_where_nothing_is_there_to_ask_services_and_settings_are_asked(programs: Path) -> None:
    assert await reading.see() == reading.Seen(
        reading.Ruleset(), "nft, of the package nftables, is not there to ask", ()
    )
    (programs / "ufw.conf").write_text("# x\nENABLED=yes\nLOGLEVEL=low\n")
    install(programs, "systemctl", "echo active; echo inactive; exit 3")
    assert (await reading.see()).tools == ("ufw", "firewalld")
    (programs / "ufw.conf").write_text("ENABLED=no\n")
    assert (await reading.see()).tools == ("firewalld",)


async def test_where_sets_are_too_long_they_are_left_out(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "RULES_BYTES_MAX", 1000)
    endless = "while :; do echo 0123456789012345678901234567890123456789; done"
    install(programs, "nft", f"case \"$*\" in *-t*) echo '{RULES}';; *) {endless};; esac")
    seen = await reading.see()
    assert ([table.name for table in seen.ruleset.tables], seen.unseen) == (["t"], None)
    install(programs, "nft", endless)
    assert (await reading.see()).unseen == "nft prints more than 0 KiB"


async def test_who_may_not_look_says_so_and_who_hangs_is_ended(
    programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(programs, "nft", "echo 'Operation not permitted (you must be root)' >&2; exit 1")
    assert (await reading.see()).unseen == "nft: Operation not permitted (you must be root)"
    monkeypatch.setattr(reading, "PRINT_S", 0.1)
    install(programs, "nft", "while :; do :; done")
    with Stopwatch() as watch:
        assert (await reading.see()).unseen == "nft: no answer"
    assert watch.passed_s < 5


async def test_rules_of_the_older_iptables_are_asked_for_where_there_are_any(programs: Path) -> None:
    install(programs, "nft", f"echo '{RULES}'")
    saved = "printf '*filter\\n:INPUT DROP [0:0]\\nCOMMIT\\n'"
    install(programs, "iptables-legacy-save", saved)
    assert len((await reading.see()).ruleset.tables) == 1
    (programs / "ip").write_text("filter\n")
    assert [table.tool for table in (await reading.see()).ruleset.tables] == ["nft", "iptables"]
    (programs / "ip6").write_text("filter\n")
    assert (await reading.see()).unseen == (
        "rules of the older iptables are hidden: "
        "ip6tables-legacy-save, of the package iptables, is not there to ask"
    )


def test_packets_come_in_by_real_networks_before_bridges(monkeypatch: pytest.MonkeyPatch) -> None:
    def adapter(name: str, *addresses: str) -> Interface:
        return Interface(name, 1, tuple(ipaddress.ip_address(each).packed for each in addresses))

    ours = adapter("clan0", "fd01:2:3::1")
    eth0 = adapter("eth0", "192.168.1.2", "fd01:2:3::9", "fe80::1", "2001:db8::2")
    bridge = adapter("docker0", "172.17.0.1")
    modem = adapter("wwan0", "10.1.1.1")
    prefix = bytes.fromhex("fd0100020003")
    found: list[Interface] = []
    monkeypatch.setattr(reading, "multicast_interfaces", lambda: tuple(found))
    monkeypatch.setattr(reading, "interfaces", lambda: [adapter("lo", "127.0.0.1", "::1"), ours, modem])
    found[:] = [ours, eth0, bridge]
    assert reading.wires("clan0", prefix) == (
        Wire("eth0", bytes((192, 168, 1, 2)), bytes((192, 168, 1, 3))),
        Wire("eth0", ipaddress.ip_address("2001:db8::2").packed, ipaddress.ip_address("2001:db8::3").packed),
    )
    found[:] = [ours, bridge]
    assert [each.name for each in reading.wires("clan0", prefix)] == ["docker0"]
    found[:] = [ours]
    assert [each.name for each in reading.wires("clan0", prefix)] == ["wwan0"]
