"""What is said of what was seen: a table of one thing wrong each, and what must not be said of the rest."""

from dataclasses import replace

import pytest

from clanmesh_protocol.endpoints import endpoint
from clanmesh_protocol.signalling import NatKind
from clanmeshd.checkup.asking import VERSION_CHARACTERS_MAX, Told, read_untrusted
from clanmeshd.checkup.diagnosis import FINDINGS_MAX, diagnose
from clanmeshd.checkup.members import span, spoken
from clanmeshd.checkup.system import address_clashes
from clanmeshd.checkup.terms import (
    Clashes,
    Detour,
    Disk,
    Fellow,
    Finding,
    Level,
    Naming,
    Outside,
    Refusal,
    Router,
    Snapshot,
    Tunnels,
)
from clanmeshd.net.addresses import read_ipv6_table
from clanmeshd.net.mapping.terms import Reason
from clanmeshd.overlay.path_terms import PathKind, Why

PROBLEM, NOTE, OK = Level.PROBLEM, Level.NOTE, Level.OK
SEEN = endpoint("203.0.113.7", 40_001)
PLACE = endpoint("203.0.113.7", 51_872)
NO = Refusal("it is so", "change it")
NAS = Fellow("nas", "up", echo_s=0.002, connects=True, ahead_s=0.1, version="1.0")
PHONE = replace(NAS, name="phone", echo_s=0.03, is_reachable=True)
OFFICE = Detour("wg9", "fd01:2:3::/56", "somebody made it")
WELL = Snapshot(
    version="1.0",
    outside=Outside(nat=NatKind.EASY, seen_by=3, seen_at=SEEN, router=Router(by="PCP", place=PLACE)),
    tunnels=Tunnels(prefix="fd01:2:3::/48"),
    naming=Naming(by="systemd-resolved"),
    clashes=Clashes(),
    fellows=(NAS, PHONE),
    disk=Disk("/var/lib/clanmesh", 50 << 30, 100 << 30),
)


def outside(**changes: object) -> Snapshot:
    return replace(WELL, outside=replace(WELL.outside, **changes))  # type: ignore[arg-type]


def tunnels(**changes: object) -> Snapshot:
    return replace(WELL, tunnels=replace(WELL.tunnels, **changes))  # type: ignore[arg-type]


def nas(**changes: object) -> Snapshot:
    return replace(WELL, fellows=(replace(NAS, **changes), PHONE))  # type: ignore[arg-type]


def clocks(*ahead_s: float | None) -> Snapshot:
    made = [replace(PHONE, name=f"m{at}", ahead_s=each) for at, each in enumerate(ahead_s)]
    return replace(WELL, fellows=tuple(made))


def away(*names: str) -> tuple[Fellow, ...]:
    return tuple(Fellow(name, "down", PathKind.NONE, silent_s=7300.0) for name in names)


def refused(reason: Reason) -> Snapshot:
    return outside(router=Router(reason=reason, why="the router says no"))


# what is changed, then level, check, and words of the line
CASES: dict[str, tuple[Snapshot, Level, str, str]] = {
    "at home": (outside(nat=NatKind.NONE), OK, "nat", "no NAT in between"),
    "no NAT": (
        replace(outside(nat=NatKind.NONE), is_reachable=True),
        *(OK, "nat", "no NAT: others see this device"),
    ),
    "on the internet": (
        replace(outside(nat=NatKind.NONE, seen_by=0), is_reachable=True),
        *(OK, "nat", "an address of its own on the internet"),
    ),
    "easy": (WELL, OK, "nat", "3 members see this device at the same place, 203.0.113.7:40001"),
    "hard": (
        outside(nat=NatKind.HARD, router=Router(reason=Reason.SILENT)),
        *(NOTE, "nat", "hard (symmetric) NAT: 3 members see this device, at different ports"),
    ),
    "hard but mapped": (outside(nat=NatKind.HARD), OK, "nat", "but the router forwards 203.0.113.7:51872"),
    "not known": (outside(nat=NatKind.UNKNOWN, seen_by=0), OK, "nat", "as on one network"),
    "not known by one": (outside(nat=NatKind.UNKNOWN, seen_by=1), OK, "nat", "it takes two that compare"),
    "blocked": (outside(nat=NatKind.BLOCKED, is_blocked=True), PROBLEM, "udp", "no UDP passes"),
    "blocked, as connections show": (
        replace(WELL, fellows=tuple(replace(each, connects=True, version="1.0") for each in away("nas"))),
        *(PROBLEM, "udp", "no UDP passes"),
    ),
    "UDP passes": (WELL, OK, "udp", "UDP passes"),
    "forwarded": (WELL, OK, "router", "forwards 203.0.113.7:51872 to WireGuard here (PCP)"),
    "refused": (refused(Reason.REFUSED), NOTE, "router", "the router says no"),
    "silent": (refused(Reason.SILENT), NOTE, "router", "forward UDP 51872 and 51871 (and TCP 51871)"),
    "behind another": (refused(Reason.BEHIND_NAT), NOTE, "router", "forwards no ports"),
    "not needed": (refused(Reason.NOT_NEEDED), OK, "router", "no port mapping is needed"),
    "no router": (refused(Reason.NO_ROUTER), OK, "router", "there is no router here"),
    "switched off": (refused(Reason.OFF), OK, "router", "switched off"),
    "being asked": (outside(router=Router()), OK, "router", "being asked"),
    "IPv6 alone": (
        outside(router=Router(reason=Reason.REFUSED), pinhole=Router(by="PCP", place=PLACE)),
        *(OK, "router", "but lets IPv6 in"),
    ),
    "no raw sockets": (outside(unprobed=NO), PROBLEM, "probing", "not looked for"),
    "kernel": (WELL, OK, "wireguard", "the kernel's WireGuard runs on clan0"),
    "a program": (tunnels(backend="userspace"), NOTE, "wireguard", "runs as a program"),
    "no overlay": (tunnels(failure=NO), PROBLEM, "wireguard", "the overlay is not up"),
    "overlay off": (tunnels(is_wanted=False), OK, "wireguard", "switched off"),
    "a detour": (
        replace(WELL, clashes=Clashes(detours=(("nas", OFFICE), ("phone", OFFICE)))),
        *(PROBLEM, "routes", "packets for nas and phone leave by wg9, not by clan0"),
    ),
    "a detour's route": (
        replace(WELL, clashes=Clashes(detours=(("nas", OFFICE),))),
        *(PROBLEM, "routes", "until then `ip -6 route del fd01:2:3::/56 dev wg9`"),
    ),
    "a detour's rule": (
        replace(WELL, clashes=Clashes(detours=(("nas", replace(OFFICE, rule=99)),))),
        *(PROBLEM, "routes", "dev wg9` or `ip -6 rule del priority 99`"),
    ),
    "a way to nowhere": (
        replace(WELL, clashes=Clashes(detours=(("nas", Detour(None, "blackhole fd01:2:3::/56", "by hand")),))),
        *(PROBLEM, "routes", "nas are thrown away, not sent by clan0 (the route blackhole fd01:2:3::/56"),
    ),
    "a rule to nowhere": (
        replace(WELL, clashes=Clashes(detours=(("nas", Detour(None, rule=7)),))),
        *(PROBLEM, "routes", "(rule 7 goes before the clan's own, fd01:2:3::/48); leave"),
    ),
    "a detour that has just gone": (
        replace(WELL, clashes=Clashes(detours=(("nas", Detour("wg9")),))),
        *(PROBLEM, "routes", "`ip -6 route show table all dev wg9` shows it"),
    ),
    "a stranger": (
        replace(WELL, clashes=Clashes(strangers=(("eth1", "fd01:2:3::9"),))),
        *(PROBLEM, "addresses", "eth1 has the address fd01:2:3::9, which is of the clan's network fd01:2:3::/48"),
    ),
    "a double": (
        replace(WELL, clashes=Clashes(duplicates=(("eth0", "2001:db8::1"),))),
        *(PROBLEM, "addresses", "another machine on the network of eth0 has this device's address 2001:db8::1"),
    ),
    "the same network": (
        nas(kind=PathKind.DIRECT, same_network="192.168.1.0/24"),
        *(NOTE, "addresses", "nas is elsewhere, in a network with the same addresses as here (192.168.1.0/24)"),
    ),
    "reachable": (WELL, OK, "meeting", "reached from anywhere: phone"),
    "nobody reachable": (replace(WELL, fellows=(NAS,)), NOTE, "meeting", "give it the tag `relay`"),
    "this one reachable": (replace(WELL, is_reachable=True, fellows=(NAS,)), OK, "meeting", "this device"),
    "nobody reachable or up": (replace(WELL, fellows=away("nas")), PROBLEM, "meeting", "from outside"),
    "alone": (replace(WELL, fellows=()), OK, "members", "alone"),
    "all away": (replace(WELL, fellows=away("nas", "tv")), PROBLEM, "members", "answers: nas and tv"),
    "one away": (replace(WELL, fellows=(PHONE, *away("nas"))), NOTE, "members", "of nas for 2 hours"),
    "all up": (WELL, OK, "members", "all 2 other members are up"),
    "the only one up": (replace(WELL, fellows=(PHONE,)), OK, "members", "phone is up"),
    "a dead tunnel": (nas(echo_s=None, has_session=False), PROBLEM, "tunnels", "let UDP 51872 in and out"),
    "a firewall": (nas(echo_s=None), NOTE, "tunnels", "nas answers no ping through the tunnel"),
    "tunnels": (WELL, OK, "tunnels", "to nas and phone pass data (phone answers last, in 30.0 ms)"),
    "one tunnel": (
        replace(WELL, fellows=(PHONE,)),
        *(OK, "tunnels", "the tunnel to phone passes data (answered in 30.0 ms)"),
    ),
    "a narrow way": (nas(mtu=104), PROBLEM, "mtu", "only small packets get through the tunnel to nas"),
    "a smaller way": (nas(mtu=1312), OK, "mtu", "to nas have 1312 bytes at most, not 1420"),
    "a full way": (nas(mtu=1420), OK, "mtu", "packets of 1420 bytes pass in the tunnel to nas"),
    "connections": (WELL, OK, "streams", "get through to nas and phone"),
    "one refuses them": (nas(connects=False), NOTE, "streams", "to nas, though datagrams do"),
    "not tried": (replace(WELL, fellows=(replace(NAS, connects=None), PHONE)), OK, "streams", "to phone"),
    "all refuse them": (
        replace(WELL, fellows=(replace(PHONE, connects=False, ahead_s=None),)),
        *(PROBLEM, "streams", "let TCP 51871 in"),
    ),
    "relayed": (
        nas(kind=PathKind.RELAY, via="attic", why=Why.HARD_BOTH, next_try_s=38.0),
        *(
            NOTE,
            "relays",
            "by way of the relay attic (not directly: both routers are symmetric; tried again in 38 s)",
        ),
    ),
    "clocks agree": (WELL, OK, "clock", "those of nas and phone (0.1 s at most)"),
    "two clocks agree": (
        replace(WELL, fellows=(PHONE,)),
        OK,
        "clock",
        "agrees with that of phone",
    ),
    "one is ahead": (clocks(0, 0, 90), NOTE, "clock", "m2's clock is 90 s ahead of this device's"),
    "one is far behind": (clocks(1, 0, -4000), PROBLEM, "clock", "m2's clock is 66 minutes behind"),
    "this one is behind": (clocks(400, 401, 399), PROBLEM, "clock", "this device's clock is 6 minutes behind 3"),
    "this one and another": (clocks(90, 91, 500), PROBLEM, "clock", "m2's clock is 6 minutes ahead of most"),
    "of two": (clocks(-45), NOTE, "clock", "m0's clock is 45 s behind this device's"),
    "an older version": (nas(version=None), NOTE, "version", "1.0 here, a version on nas too old to tell"),
    "another version": (nas(version="2.0"), NOTE, "version", "1.0 here, 2.0 on nas"),
    "one version": (WELL, OK, "version", "nas, phone and this device run 1.0"),
    "named": (WELL, OK, "names", "looked up by systemd-resolved"),
    "names fail": (replace(WELL, naming=Naming(failure=NO)), PROBLEM, "names", "not found"),
    "names not told": (replace(WELL, naming=Naming(why="no systemd")), NOTE, "names", "no systemd"),
    "room": (WELL, OK, "disk", "53687 MB are left"),
    "little room": (replace(WELL, disk=Disk("/s", 100 << 20, 10 << 30)), NOTE, "disk", "105 MB are left at /s"),
    "no room": (replace(WELL, disk=Disk("/s", 1 << 20, 10 << 30)), PROBLEM, "disk", "the disk is full"),
    "a broken disk": (replace(WELL, disk=Disk("/s", 9 << 30, 10 << 30, "I/O")), PROBLEM, "disk", "I/O"),
    "something else": (replace(WELL, others=(NO,)), PROBLEM, "status", "it is so"),
}


def line(finding: Finding) -> str:
    return f"{finding.what} ({finding.why}); {finding.remedy}"


@pytest.mark.parametrize("name", CASES)
def test_it_is_said(name: str) -> None:
    snapshot, level, check, words = CASES[name]
    found = [each for each in diagnose(snapshot) if each.check == check and words in line(each)]
    assert [each.level for each in found] == [level], [line(each) for each in diagnose(snapshot)]


@pytest.mark.parametrize("name", CASES)
def test_nothing_else_is_wrong_then(name: str) -> None:
    """But for what follows from the same cause: who is away can have no tunnel, and nobody is there to meet."""
    snapshot, level, check, _ = CASES[name]
    along = {"meeting", "members", check} if check in ("meeting", "members", "udp") else {check}
    wrong = {each.check for each in diagnose(snapshot) if each.level is not OK}
    hard = {"router"} if name == "hard" else set()
    assert wrong - along - hard == set()
    assert level is OK or check in wrong


def test_of_who_is_out_nothing_is_said_but_that() -> None:
    out = Refusal("this device was removed from the clan", "run `clanctl leave`")
    snapshot = replace(WELL, is_member=False, others=(out,), fellows=away("nas", "tv"), is_reachable=False)
    found = diagnose(snapshot)
    assert [(each.level, each.what) for each in found if each.level is not OK] == [(PROBLEM, out.why)]
    assert {each.check for each in found} == {"status", "wireguard", "disk"}


def test_all_is_well() -> None:
    assert {each.level for each in diagnose(WELL)} == {OK}


def test_the_worst_is_first_and_the_list_has_an_end() -> None:
    many = tuple(replace(NAS, name=f"m{at}", echo_s=None, has_session=False) for at in range(500))
    strangers = tuple((f"eth{at}", "fd00::1") for at in range(500))
    found = diagnose(replace(WELL, fellows=many, clashes=Clashes(strangers=strangers)))
    assert len(found) == FINDINGS_MAX
    assert {each.level for each in found} == {PROBLEM}


def test_every_problem_has_a_remedy_and_each_is_one_line() -> None:
    for snapshot, *_ in CASES.values():
        for finding in diagnose(snapshot):
            assert finding.remedy or finding.level is not PROBLEM, finding
            assert finding.what
            assert not finding.what.endswith(".")
            assert "\n" not in line(finding)


def test_a_tunnel_that_sleeps_is_not_dead() -> None:
    asleep = nas(kind=PathKind.NONE, why=str(Why.ASLEEP), echo_s=None, has_session=False)
    assert "nas" not in "".join(each.what for each in diagnose(asleep) if each.check == "tunnels")


def test_names_and_spans_are_spelt() -> None:
    assert spoken([]) == ""
    assert spoken(["a"]) == "a"
    assert spoken(["a", "b", "c"]) == "a, b and c"
    assert spoken([str(at) for at in range(9)]) == "0, 1, 2, 3, 4 and 4 more"
    assert [span(each) for each in (0.2, 119, 120, 7200, 200_000)] == [
        "1 s",
        "119 s",
        "2 minutes",
        "2 hours",
        "2 days",
    ]


# --- what comes from outside ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({}, Told()),
        ({"version": "1.2", "unix-ms": "1500"}, Told("1.2", 0.5)),
        ({"version": "\x1b[2J1.2\n", "unix-ms": "500"}, Told("[2J1.2", -0.5)),
        ({"version": "x" * 999}, Told("x" * VERSION_CHARACTERS_MAX)),
        ({"unix-ms": "-5"}, Told()),
        ({"unix-ms": "1e9"}, Told()),
        ({"unix-ms": "\u0661"}, Told()),
        ({"unix-ms": "9" * 400}, Told()),
        ({"version": ""}, Told()),
    ],
)
def test_what_a_member_says_of_itself_is_bounded(said: dict[str, str], told: Told) -> None:
    assert read_untrusted(said, 1.0) == told


def test_addresses_are_read_from_the_kernels_table() -> None:
    table = (
        "fd010002000300000000000000000001 0b 80 00 80    clan0\n"
        "fd010002000300000000000000000009 02 40 00 80     eth0\n"
        "20010db8000000000000000000000001 02 40 00 88     eth0\n"
        "fe800000000000000000000000000001 02 40 20 80     eth0\n"
        "cut short\n"
    )
    rows = list(read_ipv6_table(table))
    assert [each.is_double for each in rows] == [False, False, True, False]
    clashes = address_clashes(rows, "clan0", bytes.fromhex("fd0100020003"))
    assert clashes.strangers == (("eth0", "fd01:2:3::9"),)
    assert clashes.duplicates == (("eth0", "2001:db8::1"),)
