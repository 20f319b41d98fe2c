"""Names under the real unit: systemd-resolved is told of them, or the hosts file has them; both forget them."""

import ipaddress
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.clock import seconds_until, wait_until
from tests.systemd import resolved
from tests.systemd.container import Container
from tools.console import Impossible

UNIT = "clanmeshd.service"
NAME = "nas.family.internal"
PATIENCE_S = 30.0
AGAIN_S_MAX = 5.0  # until what was lost is told again
RENAME_S_MAX = 2.0
HOSTS = b"127.0.0.1 localhost\n# mine\n"
PLAIN = b"nameserver 192.0.2.53\n"

pytestmark = pytest.mark.skipif(not Path("/dev/net/tun").exists(), reason="no /dev/net/tun on this machine")


@pytest.fixture(scope="module")
def installed(boot: Callable[..., Container]) -> Container:
    """A machine that founded a clan; systemd-resolved is there and off."""
    try:
        package = resolved.unpacked()
    except Impossible as why:
        pytest.skip(str(why))
    machine = boot(has_tunnels=True)
    (machine.root / "etc/hosts").write_bytes(HOSTS)
    resolved.put_into(machine, package)
    machine.run("make", "-C", "/root/clanmesh", "install", "WHEELS=/wheels")
    machine.run("clanctl", "init", "family", "--node-name", "nas")
    return machine


@pytest.fixture
def with_resolved(installed: Container) -> Container:
    """The machine with systemd-resolved, which was told."""
    resolv_conf = installed.root / "etc/resolv.conf"
    resolv_conf.unlink(missing_ok=True)
    resolv_conf.symlink_to(f"..{resolved.STUB}")
    installed.run("systemctl", "restart", resolved.UNIT, UNIT)
    assert wait_until(lambda: names(installed).get("by") == "systemd-resolved", PATIENCE_S), status(installed)
    return installed


@pytest.fixture
def plain(installed: Container) -> Iterator[Container]:
    """The machine with a resolv.conf that nobody looks after."""
    installed.run("systemctl", "stop", resolved.UNIT)
    resolv_conf = installed.root / "etc/resolv.conf"
    resolv_conf.unlink(missing_ok=True)
    resolv_conf.write_bytes(PLAIN)
    installed.run("systemctl", "restart", UNIT)
    yield installed
    installed.run("systemctl", "start", resolved.UNIT)


def status(machine: Container) -> dict[str, Any]:
    """What the daemon says of itself."""
    code, said = machine.attempt("clanctl", "status", "--json")
    value: dict[str, Any] = json.loads(said) if code in (0, 4) else {}
    return value


def names(machine: Container) -> dict[str, Any]:
    """And of names."""
    found: dict[str, Any] = status(machine).get("names", {})
    return found


def link(machine: Container, what: str) -> str:
    """What resolved knows of the link, `dns` for one."""
    code, said = machine.attempt("resolvectl", what, "clan0")
    return said.partition("): ")[2].strip() if code == 0 else ""


def address_of(machine: Container, name: str) -> str | None:
    """What any program on the machine finds, within the C library's own patience."""
    code, said = machine.attempt("timeout", "5", "getent", "ahostsv6", name)
    return said.split()[0] if code == 0 else None


def is_told(machine: Container, own: str) -> bool:
    """Whether any program finds the name, by what resolved was told."""
    return address_of(machine, NAME) == own and link(machine, "dns") == own


def reverse(address: str) -> str:
    """The zone of the clan's addresses."""
    digits = ipaddress.IPv6Address(address).exploded.replace(":", "")[:12]
    return ".".join([*reversed(digits), "ip6", "arpa"])


def test_resolved_asks_us_for_the_clan_and_for_nothing_else(with_resolved: Container) -> None:
    """Domains that route only, no default route, no signatures; any program finds the name, and the address."""
    own = status(with_resolved)["address"]
    assert link(with_resolved, "dns") == own
    assert sorted(link(with_resolved, "domain").split()) == sorted(["~family.internal", f"~{reverse(own)}"])
    for what in ("default-route", "dnssec", "dnsovertls", "llmnr", "mdns"):
        assert link(with_resolved, what) == "no", what
    assert address_of(with_resolved, NAME) == own
    assert NAME in with_resolved.run("getent", "hosts", own)
    assert with_resolved.attempt("getent", "hosts", "printer.family.internal")[0] == 2
    assert (with_resolved.root / "etc/resolv.conf").is_symlink()
    assert (with_resolved.root / "etc/hosts").read_bytes() == HOSTS
    assert not [each for each in status(with_resolved)["problems"] if each["what"].startswith("names")]


def test_it_is_told_again_when_it_was_restarted(with_resolved: Container) -> None:
    """Also when it forgot what it knew of its links."""
    own = status(with_resolved)["address"]
    for forget in ("true", "rm -r /run/systemd/resolve/netif"):
        with_resolved.run("systemctl", "stop", resolved.UNIT)
        with_resolved.run("sh", "-c", forget)
        with_resolved.run("systemctl", "start", resolved.UNIT)
        taken = seconds_until(lambda: is_told(with_resolved, own), PATIENCE_S)
        print(f"after `{forget}`: {taken:.2f} s")
        assert taken <= AGAIN_S_MAX
    assert wait_until(lambda: names(with_resolved).get("by") == "systemd-resolved", PATIENCE_S)


def test_it_is_told_again_when_the_interface_was_made_anew(with_resolved: Container) -> None:
    """Which is another link, with another number."""
    own = status(with_resolved)["address"]
    with_resolved.run("ip", "link", "delete", "clan0")
    assert wait_until(lambda: with_resolved.attempt("ip", "link", "show", "clan0")[0] == 0, PATIENCE_S)
    taken = seconds_until(lambda: is_told(with_resolved, own), PATIENCE_S)
    print(f"after the interface was there: {taken:.2f} s")
    assert taken <= AGAIN_S_MAX


def test_a_new_name_is_found_within_two_seconds(with_resolved: Container) -> None:
    """By any program, although resolved keeps what it heard."""
    own = status(with_resolved)["address"]
    assert address_of(with_resolved, NAME) == own
    assert address_of(with_resolved, "cellar.family.internal") is None
    with_resolved.run("clanctl", "rename", "nas", "cellar")
    taken = seconds_until(lambda: address_of(with_resolved, "cellar.family.internal") == own, PATIENCE_S)
    print(f"after the rename: {taken:.2f} s")
    assert taken <= RENAME_S_MAX
    with_resolved.run("clanctl", "rename", "cellar", "nas")
    assert wait_until(lambda: address_of(with_resolved, NAME) == own, PATIENCE_S)


def test_a_stop_leaves_nothing_with_resolved(with_resolved: Container) -> None:
    """No link, no name, nothing kept for the next start."""
    with_resolved.run("systemctl", "stop", UNIT)
    assert wait_until(lambda: address_of(with_resolved, NAME) is None, PATIENCE_S)
    assert wait_until(lambda: "family" not in with_resolved.run("resolvectl", "status"), PATIENCE_S)
    assert wait_until(lambda: not with_resolved.run("ls", "/run/systemd/resolve/netif").split(), PATIENCE_S)


def test_a_plain_machine_has_the_names_in_its_hosts_file(plain: Container) -> None:
    """And a resolv.conf that nobody touched. A clean stop takes them out again."""
    hosts = plain.root / "etc/hosts"
    assert wait_until(lambda: names(plain).get("by") == "the hosts file", PATIENCE_S), status(plain)
    own = status(plain)["address"]
    assert hosts.read_bytes().endswith(HOSTS)
    assert address_of(plain, NAME) == own
    plain.run("clanctl", "rename", "nas", "cellar")
    taken = seconds_until(lambda: address_of(plain, "cellar.family.internal") == own, PATIENCE_S)
    print(f"after the rename: {taken:.2f} s")
    assert taken <= RENAME_S_MAX
    assert address_of(plain, NAME) is None
    plain.run("clanctl", "rename", "cellar", "nas")
    assert wait_until(lambda: address_of(plain, NAME) == own, PATIENCE_S)
    assert (plain.root / "etc/resolv.conf").read_bytes() == PLAIN
    plain.run("systemctl", "stop", UNIT)
    assert hosts.read_bytes() == HOSTS


def test_another_resolver_that_comes_is_told_instead(plain: Container) -> None:
    """The block goes when systemd-resolved looks names up from now on."""
    assert wait_until(lambda: names(plain).get("by") == "the hosts file", PATIENCE_S)
    (plain.root / "etc/resolv.conf").unlink()
    (plain.root / "etc/resolv.conf").symlink_to(f"..{resolved.STUB}")
    plain.run("systemctl", "start", resolved.UNIT)
    taken = seconds_until(lambda: names(plain).get("by") == "systemd-resolved", PATIENCE_S)
    assert taken <= AGAIN_S_MAX
    assert (plain.root / "etc/hosts").read_bytes() == HOSTS


def test_an_uninstallation_finds_what_a_killed_daemon_left(plain: Container) -> None:
    """The last one: nothing is installed behind it."""
    assert wait_until(lambda: names(plain).get("by") == "the hosts file", PATIENCE_S)
    drop_in = f"/run/systemd/system/{UNIT}.d"
    plain.run("sh", "-c", f"mkdir -p {drop_in} && printf '[Service]\\nRestart=no\\n' > {drop_in}/once.conf")
    plain.run("systemctl", "daemon-reload")
    plain.run("systemctl", "kill", "--signal=KILL", UNIT)
    assert wait_until(lambda: plain.show(UNIT, "ActiveState")["ActiveState"] != "active", PATIENCE_S)
    assert (plain.root / "etc/hosts").read_bytes() != HOSTS
    plain.run("make", "-C", "/root/clanmesh", "uninstall")
    assert (plain.root / "etc/hosts").read_bytes() == HOSTS
