"""What becomes of a packet, by rule sets as each tool makes them: printed by nft 1.0.6 and iptables 1.8.9."""

import copy
import json
import random
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from clanmeshd.checkup.firewall import fate as fates
from clanmeshd.checkup.firewall import iptables, nftables
from clanmeshd.checkup.firewall.fate import Answer, Fate, fate
from clanmeshd.checkup.firewall.packets import Wire, incoming, outgoing
from clanmeshd.checkup.firewall.rules import Ruleset
from tests.seeds import seeds

PRINTED = Path(__file__).parent / "firewalls"
ACCEPTED, DROPPED, UNKNOWN = Answer.ACCEPTED, Answer.DROPPED, Answer.NOT_UNDERSTOOD

ETH0 = Wire("eth0", bytes((192, 168, 1, 2)), bytes((192, 168, 1, 3)))
ETH0_IPV6 = Wire(
    "eth0", bytes.fromhex("2001067c") + bytes(11) + b"\2", bytes.fromhex("2001067c") + bytes(11) + b"\3"
)
WLAN0 = ETH0._replace(name="wlan0")
CLAN0 = Wire("clan0", bytes.fromhex("fd01") + bytes(13) + b"\1", bytes.fromhex("fd01") + bytes(13) + b"\2")

WIRES = {"eth0": ETH0, "eth0 IPv6": ETH0_IPV6, "wlan0": WLAN0, "clan0": CLAN0}


def rules(name: str) -> Ruleset:
    """A rule set as one of the programs printed it."""
    path = PRINTED / name
    return iptables.read(path.read_text(), "ip") if name.endswith(".save") else nftables.read(path.read_bytes())


def tried(ruleset: Ruleset, said: str) -> Fate:
    """The fate of a packet: "udp 51871 stranger eth0 IPv6", by a wire's name.

    "reply" makes it an answer, and "out" has this machine send it.
    """
    protocol, port, *others = said.split()
    state = "established" if "reply" in others else "new"
    whom = "stranger" if "stranger" in others else "neighbour"
    made = outgoing if "out" in others else incoming
    wire = " ".join(word for word in others if word not in ("reply", "stranger", "out"))
    return fate(ruleset, made(WIRES[wire or "eth0"], protocol, int(port), whom, state))


# the rule set and the packet, then the answer and the chain that drops
CASES = [
    ("ufw.save", "udp 51871", ACCEPTED, ""),
    ("ufw.save", "udp 51872 stranger", ACCEPTED, ""),
    ("ufw.save", "tcp 51871", DROPPED, "INPUT"),
    ("ufw.save", "tcp 51871 reply", ACCEPTED, ""),
    ("ufw.save", "udp 5353", ACCEPTED, ""),
    ("ufw.save", "udp 137", DROPPED, "ufw-skip-to-policy-input"),
    ("ufw.save", "tcp 22", ACCEPTED, ""),  # ufw's `limit`: the first try
    ("ufw-xt.json", "tcp 51871", UNKNOWN, ""),  # seen by nft, most tests of iptables are only names
    ("nixos.save", "udp 51871", DROPPED, "nixos-fw-refuse"),
    ("nixos.save", "udp 51872", ACCEPTED, ""),
    ("nixos.save", "udp 60001", ACCEPTED, ""),
    ("nixos.save", "tcp 51871", ACCEPTED, ""),
    ("nixos.save", "tcp 51872", DROPPED, "nixos-fw-refuse"),
    ("nixos.save", "udp 51871 reply", ACCEPTED, ""),
    ("nixos-xt.json", "udp 51872", UNKNOWN, ""),
    ("nixos.json", "udp 51871", ACCEPTED, ""),
    ("nixos.json", "udp 51872 stranger eth0 IPv6", ACCEPTED, ""),
    ("nixos.json", "tcp 51871", ACCEPTED, ""),
    ("nixos.json", "ipv6-icmp 0 clan0", ACCEPTED, ""),
    ("nixos-closed.json", "udp 51871", DROPPED, "input"),
    ("nixos-closed.json", "udp 51871 reply", ACCEPTED, ""),
    ("nixos-closed.json", "tcp 51871 stranger eth0 IPv6", DROPPED, "input"),
    ("nixos-closed.json", "udp 5353", ACCEPTED, ""),
    ("firewalld.json", "udp 51871", DROPPED, "filter_IN_FedoraServer"),
    ("firewalld.json", "udp 51872", ACCEPTED, ""),
    ("firewalld.json", "udp 51871 reply", ACCEPTED, ""),
    ("firewalld.json", "tcp 51871 stranger eth0 IPv6", DROPPED, "filter_IN_FedoraServer"),
    ("firewalld.json", "udp 51871 wlan0", ACCEPTED, ""),
    ("firewalld.json", "udp 5353 wlan0", ACCEPTED, ""),
    ("firewalld.json", "udp 5353", DROPPED, "filter_IN_FedoraServer"),
    ("firewalld.json", "udp 999 wlan0", DROPPED, "filter_IN_public"),
    ("firewalld.json", "tcp 1 clan0", ACCEPTED, ""),
    ("firewalld.json", "ipv6-icmp 0 eth0 IPv6", ACCEPTED, ""),
    ("docker.save", "udp 51871", ACCEPTED, ""),
    ("docker.save", "tcp 51871 stranger", ACCEPTED, ""),
    ("docker.save", "udp 3478", UNKNOWN, ""),  # goes to a container
    ("libvirt.json", "udp 51871", ACCEPTED, ""),
    ("workstation.json", "udp 51871", DROPPED, "input"),
    ("workstation.json", "tcp 51871 eth0 IPv6", DROPPED, "input"),
    ("workstation.json", "tcp 22", ACCEPTED, ""),
    ("workstation.json", "udp 51872 reply", ACCEPTED, ""),
    ("server.json", "udp 51871 stranger", ACCEPTED, ""),
    ("server.json", "tcp 51871", ACCEPTED, ""),
    ("server.json", "tcp 50999", DROPPED, "input"),
    ("server.json", "tcp 8080", ACCEPTED, ""),
    ("server.json", "tcp 22 stranger", ACCEPTED, ""),
    ("lan.json", "udp 51871", ACCEPTED, ""),
    ("lan.json", "udp 51871 stranger", DROPPED, "input"),
    ("lan.json", "udp 51871 stranger eth0 IPv6", DROPPED, "input"),
    ("lan.json", "udp 51871 clan0", ACCEPTED, ""),
    ("early.json", "udp 51872", DROPPED, "i"),
    ("early.json", "udp 51872 reply eth0 IPv6", DROPPED, "i"),
    ("early.json", "udp 51871", ACCEPTED, ""),
    ("odd.json", "udp 51871", UNKNOWN, ""),  # by the time of the day
    ("odd.json", "udp 51873", DROPPED, "input"),
    ("odd.json", "tcp 51871", DROPPED, "input"),  # whatever a test means that leads to the same
    ("fail2ban.json", "udp 51871 stranger", ACCEPTED, ""),
    ("fail2ban.json", "tcp 22 stranger", ACCEPTED, ""),  # a list of some is not of everybody
    ("tailscale.save", "udp 51871 stranger", ACCEPTED, ""),
    ("tailscale.save", "udp 51872", ACCEPTED, ""),
    ("tailscale.save", "udp 51872 stranger", DROPPED, "INPUT"),
    ("tailscale.save", "tcp 51871", DROPPED, "INPUT"),
    ("ufw-strict.save", "tcp 51871", ACCEPTED, ""),
    ("ufw-strict.save", "udp 51872 stranger", ACCEPTED, ""),
    ("ufw-strict.save", "udp 51872 out", DROPPED, "OUTPUT"),
    ("ufw-strict.save", "udp 51872 out reply", ACCEPTED, ""),
    ("ufw-strict.save", "udp 53 out", ACCEPTED, ""),
    ("ufw-strict.save", "tcp 51871 out", DROPPED, "OUTPUT"),
    ("ufw.save", "udp 51871 out stranger", ACCEPTED, ""),
    ("firewalld-strict.json", "udp 51871", ACCEPTED, ""),
    ("firewalld-strict.json", "udp 51871 out", DROPPED, "filter_OUT_policy_strict"),
    ("firewalld-strict.json", "tcp 51871 out stranger eth0 IPv6", DROPPED, "filter_OUT_policy_strict"),
    ("firewalld-strict.json", "tcp 51871 out reply", ACCEPTED, ""),
    ("firewalld-strict.json", "tcp 53 out", ACCEPTED, ""),
    ("kill-switch.json", "udp 51871 out", ACCEPTED, ""),
    ("kill-switch.json", "udp 51871 out stranger", DROPPED, "output"),
    ("kill-switch.json", "udp 51871 out reply stranger", DROPPED, "output"),
    ("kill-switch.json", "udp 5353 out eth0 IPv6", ACCEPTED, ""),
    ("kill-switch.json", "tcp 1 out clan0", ACCEPTED, ""),
    ("kill-switch.json", "udp 51871 stranger", ACCEPTED, ""),
    ("strict.json", "udp 51871 out", DROPPED, "out"),
    ("strict.json", "tcp 51871 out", ACCEPTED, ""),
    ("strict.json", "tcp 51871 out reply", ACCEPTED, ""),
    ("strict.json", "ipv6-icmp 0 out clan0", ACCEPTED, ""),
    ("strict.json", "tcp 1 out clan0", DROPPED, "out"),
    ("docker.save", "udp 51871 out stranger", ACCEPTED, ""),
    ("libvirt.json", "udp 51871 out", ACCEPTED, ""),
    ("tailscale.save", "udp 51871 out stranger", ACCEPTED, ""),
    ("odd.json", "udp 51871 out", ACCEPTED, ""),
    ("openwrt.json", "udp 51872 out", ACCEPTED, ""),
    ("openwrt.json", "udp 51872", ACCEPTED, ""),
    ("openwrt.json", "udp 51871", DROPPED, "handle_reject"),
    ("openwrt.json", "tcp 51871 stranger", DROPPED, "handle_reject"),
]


@pytest.mark.parametrize(("name", "said", "expected", "chain"), CASES)
def test_what_becomes_of_it(name: str, said: str, expected: Answer, chain: str) -> None:
    found = tried(rules(name), said)
    assert (found.answer, found.chain if expected is DROPPED else "") == (expected, chain)


def test_where_there_are_no_rules_all_is_accepted() -> None:
    assert tried(Ruleset(), "udp 51871") == Fate(ACCEPTED)


# --- what is not understood ------------------------------------------------------------------------------

DPORT = {"payload": {"protocol": "udp", "field": "dport"}}
FIVE = {"rate": 5, "burst": 5, "per": "second"}
LIMITS = ("wide", "over")
OURS = {"match": {"op": "==", "left": DPORT, "right": 51_871}}
ODD = {"match": {"op": "==", "left": {"meta": {"key": "hour"}}, "right": "10:00"}}
SENDER = {"payload": {"protocol": "ip", "field": "saddr"}}
ACCEPT, DROP = {"accept": None}, {"drop": None}


def chain(name: str = "input", policy: str | None = "drop", **more: Any) -> dict[str, Any]:
    hooked = {"type": "filter", "hook": "input", "prio": 0, "policy": policy} if policy is not None else {}
    return {"chain": {"family": "inet", "table": "t", "name": name, **hooked, **more}}


def made(
    *rules_of: list[Any], policy: str = "drop", others: Mapping[str, list[list[Any]]] | None = None
) -> Ruleset:
    """A table with one base chain of these rules, and other chains."""
    limits = [{"limit": {"family": "inet", "table": "t", "name": name, **FIVE}} for name in LIMITS]
    limits[1]["limit"]["inv"] = True
    objects: list[Any] = [{"table": {"family": "inet", "name": "t"}}, *limits, chain(policy=policy)]
    objects += [{"set": {"family": "inet", "table": "t", "name": "s", "elem": ["198.51.100.1"]}}]
    for name, listed in {"input": list(rules_of), **(others or {})}.items():
        objects += [chain(name, None)] if name != "input" else []
        objects += [{"rule": {"family": "inet", "table": "t", "chain": name, "expr": expr}} for expr in listed]
    return nftables.read(json.dumps({"nftables": objects}))


def right(value: Any, op: str = "==") -> list[Any]:
    return [{"match": {"op": op, "left": DPORT, "right": value}}, ACCEPT]


def noting(**values: Any) -> dict[str, Any]:
    """A statement that puts who sent the packet on a list."""
    return {"set": {"op": "add", "elem": SENDER, "set": "@s", **values}}


def fib(result: str, value: Any) -> list[Any]:
    looked_up = {"fib": {"result": result, "flags": ["saddr", "iif"]}}
    return [{"match": {"op": "==", "left": looked_up, "right": value}}, ACCEPT]


SINGLE: list[tuple[list[Any], Answer]] = [
    (right(51_871), ACCEPTED),
    (right({"range": [51_000, 52_000]}), ACCEPTED),
    (right({"set": [1, {"range": [51_871, 51_872]}]}), ACCEPTED),
    (right({"set": [1, {"elem": {"val": 51_871, "comment": "x"}}]}), ACCEPTED),
    (right(1, "!="), ACCEPTED),
    (right(51_870, ">"), ACCEPTED),
    (right(51_871, "<"), DROPPED),
    (right({"set": [1, 2]}), DROPPED),
    (right("@nowhere"), UNKNOWN),
    (right({"later": 1}), UNKNOWN),
    (right(1, "later"), UNKNOWN),
    (right([1, 2]), UNKNOWN),
    ([ODD, ACCEPT], UNKNOWN),
    ([ODD, DROP], DROPPED),
    ([OURS, ODD, ACCEPT], UNKNOWN),
    ([{"xt": {"type": "match", "name": "recent"}}, ACCEPT], UNKNOWN),
    ([{"xt": {"type": "match", "name": "comment"}}, ACCEPT], ACCEPTED),
    ([{"xt": {"type": "target", "name": "REJECT"}}], DROPPED),
    ([{"xt": {"type": "target", "name": "TARPIT"}}], UNKNOWN),
    ([{"xt": None}, ACCEPT], UNKNOWN),
    ([{"queue": {"num": 1}}], UNKNOWN),
    ([{"later": 1}, ACCEPT], UNKNOWN),
    ([{"jump": {"target": "nowhere"}}], UNKNOWN),
    ([{"jump": {"target": "input"}}], UNKNOWN),  # nft refuses it; it must not go round for ever
    ([{"limit": {"rate": 5, "burst": 5, "per": "second"}}, ACCEPT], ACCEPTED),
    ([{"limit": {"rate": 5, "burst": 5, "per": "second", "inv": True}}, ACCEPT], DROPPED),
    ([{"limit": {"rate": 5, "per": "second", "rate_unit": "mbytes"}}, ACCEPT], ACCEPTED),
    ([{"limit": {"rate": 5, "per": "second", "rate_unit": "bytes"}}, ACCEPT], UNKNOWN),
    ([{"limit": {"rate": 5, "per": "second"}}, ACCEPT], ACCEPTED),
    ([{"limit": "wide"}, ACCEPT], ACCEPTED),
    ([{"limit": "over"}, ACCEPT], DROPPED),
    ([{"limit": "nowhere"}, ACCEPT], UNKNOWN),
    ([{"limit": {"map": {"key": DPORT, "data": {"set": []}}}}, ACCEPT], UNKNOWN),
    ([{"ct count": {"val": 1}}, ACCEPT], ACCEPTED),
    ([{"ct count": {"val": 0}}, ACCEPT], DROPPED),
    ([{"ct count": {"val": 1, "inv": True}}, ACCEPT], DROPPED),
    ([{"ct count": {"val": 0, "inv": True}}, ACCEPT], ACCEPTED),
    ([{"ct count": None}, ACCEPT], UNKNOWN),
    ([{"quota": {"val": 9, "val_unit": "mbytes"}}, ACCEPT], UNKNOWN),  # who knows how much of it is left
    ([noting(), ACCEPT], ACCEPTED),
    ([noting(op="delete"), ACCEPT], ACCEPTED),
    ([noting(stmt=[{"counter": None}, {"limit": {"rate": 5, "burst": 5, "per": "minute"}}]), ACCEPT], ACCEPTED),
    ([noting(stmt=[{"limit": {"rate": 5, "burst": 5, "per": "minute", "inv": True}}]), ACCEPT], DROPPED),
    ([noting(stmt={"ct count": {"val": 9, "inv": True}}), ACCEPT], DROPPED),
    ([noting(stmt=["nonsense"]), ACCEPT], UNKNOWN),
    ([noting(elem={"payload": {"protocol": "ip6", "field": "saddr"}}), ACCEPT], DROPPED),  # it has none
    ([noting(elem={"&": [{"payload": {"protocol": "ip", "field": "saddr"}}, "255.0.0.0"]}), ACCEPT], ACCEPTED),
    ([noting(elem=None), ACCEPT], UNKNOWN),
    (
        [{"meter": {"key": DPORT, "stmt": {"limit": {"rate": 5, "burst": 5, "per": "day"}}, "name": "m"}}, ACCEPT],
        ACCEPTED,
    ),
    ([{"vmap": {"key": DPORT, "data": {"set": [[51_871, ACCEPT], ["*", DROP]]}}}], ACCEPTED),
    ([{"vmap": {"key": DPORT, "data": {"set": [["*", ACCEPT], [51_871, DROP]]}}}], DROPPED),
    ([{"vmap": {"key": DPORT, "data": "@nowhere"}}], UNKNOWN),
    (fib("oif", True), ACCEPTED),
    (fib("check", True), ACCEPTED),
    (fib("oif", False), DROPPED),
    (fib("oif", "eth0"), UNKNOWN),
    (["nonsense"], UNKNOWN),
    ([], DROPPED),
]


@pytest.mark.parametrize(("expr", "expected"), SINGLE, ids=lambda each: str(each)[:80])
def test_one_rule(expr: list[Any], expected: Answer) -> None:
    assert tried(made(expr), "udp 51871").answer is expected


def test_what_may_be_dropped_but_is_accepted_or_the_other_way_is_not_understood() -> None:
    assert tried(made([ODD, DROP], [OURS, ACCEPT]), "udp 51871").answer is UNKNOWN
    assert tried(made([OURS, ACCEPT], [ODD, DROP]), "udp 51871").answer is ACCEPTED
    assert tried(made([ODD, ACCEPT], policy="accept"), "udp 51871").answer is ACCEPTED


def test_who_was_put_on_a_list_is_on_it_and_nobody_else_is() -> None:
    on_it = [{"match": {"op": "==", "left": SENDER, "right": "@s"}}, ACCEPT]
    off_it = [{"match": {"op": "!=", "left": SENDER, "right": "@s"}}, ACCEPT]
    receiver = [
        {"match": {"op": "==", "left": {"payload": {"protocol": "ip", "field": "daddr"}}, "right": "@s"}},
        ACCEPT,
    ]
    masked = noting(elem={"&": [SENDER, "255.255.255.0"]})
    others = {"a": [[OURS, noting()]], "b": [[ODD, noting()]]}
    jump, jump_odd = [{"jump": {"target": "a"}}], [{"jump": {"target": "b"}}]

    def becomes(*lines: list[Any], said: str = "udp 51871") -> Answer:
        return tried(made(*lines, others=others), said).answer

    assert (becomes(jump, on_it), becomes(jump, on_it, said="udp 1")) == (ACCEPTED, DROPPED)
    assert (becomes(jump, off_it), becomes(on_it, jump), becomes(off_it, jump)) == (DROPPED, DROPPED, ACCEPTED)
    assert (becomes(jump, jump, on_it), becomes(jump_odd, on_it), becomes(jump_odd, jump, on_it)) == (
        *(ACCEPTED, UNKNOWN, ACCEPTED),
    )
    assert (becomes(jump, [noting(op="delete")], on_it), becomes([masked], on_it)) == (DROPPED, UNKNOWN)
    assert becomes(jump, receiver) is UNKNOWN


def test_a_rule_that_looks_up_what_to_do_counts_once() -> None:
    looked_up = {"vmap": {"key": DPORT, "data": {"set": [[1, DROP], [2, DROP], [51_871, ACCEPT], ["*", DROP]]}}}
    new = {"match": {"op": "!=", "left": SENDER, "right": "@s"}}
    once = noting(stmt=[{"limit": {"rate": 1, "per": "hour", "burst": 1}}])
    assert tried(made([new, once, looked_up]), "udp 51871").answer is ACCEPTED
    assert tried(made([noting()], [new, looked_up], policy="accept"), "udp 1").answer is ACCEPTED
    assert tried(made([ODD, looked_up]), "udp 51871").answer is UNKNOWN
    assert tried(made([ODD, looked_up]), "udp 1").answer is DROPPED


def test_who_comes_by_once_more_counts_twice() -> None:
    for burst, over, expected in (
        (1, True, ACCEPTED),
        (2, True, DROPPED),
        (1, False, DROPPED),
        (2, False, ACCEPTED),
    ):
        inv = {"inv": True} if over else {}
        counting = noting(stmt=[{"limit": {"rate": 1, "per": "hour", "burst": burst, **inv}}])
        assert tried(made([noting()], [counting, ACCEPT]), "udp 51871").answer is expected
        unsure = tried(made([ODD, noting()], [counting, ACCEPT]), "udp 51871").answer
        assert unsure is (UNKNOWN if burst == 1 else expected)


def test_where_each_of_a_set_has_a_rate_who_is_in_it_may_fit() -> None:
    objects: list[Any] = [{"table": {"family": "inet", "name": "t"}}, chain()]
    each = {"family": "inet", "table": "t", "name": "s", "elem": [{"prefix": {"addr": "192.168.1.0", "len": 24}}]}
    on_it = [{"match": {"op": "==", "left": SENDER, "right": "@s"}}, ACCEPT]
    objects += [{"rule": {"family": "inet", "table": "t", "chain": "input", "expr": on_it}}]
    for stmt, expected in (([], ACCEPTED), ([{"counter": None}], ACCEPTED), ([{"limit": {"rate": 1}}], UNKNOWN)):
        ruleset = nftables.read(json.dumps({"nftables": [*objects, {"set": {**each, "stmt": stmt}}]}))
        assert tried(ruleset, "udp 51871").answer is expected


def test_a_mark_that_rules_set_is_not_known() -> None:
    marked = [{"match": {"op": "==", "left": {"meta": {"key": "mark"}}, "right": 1}}, ACCEPT]
    assert tried(made(marked), "udp 51871").answer is DROPPED
    marking = [{"mangle": {"key": {"meta": {"key": "mark"}}, "value": 1}}]
    assert tried(made(marking, marked), "udp 51871").answer is UNKNOWN


def test_a_chain_that_returns_goes_on_and_one_that_was_gone_to_does_not() -> None:
    others = {"a": [[OURS, {"return": None}], [DROP]], "b": [[{"goto": {"target": "a"}}], [ACCEPT]]}
    jump_a, jump_b = ([{"jump": {"target": name}}] for name in "ab")
    assert tried(made(jump_a, [ACCEPT], others=others), "udp 51871").answer is ACCEPTED
    assert tried(made(jump_b, policy="drop", others=others), "udp 51871").chain == "input"
    assert tried(made(jump_a, [ACCEPT], others=others), "udp 1").chain == "a"
    found = tried(made([{"jump": {"target": "b"}}], others=others), "udp 1")
    assert found.through == ("input", "b", "a")


def test_too_many_rules_are_not_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    many = made(*([{"match": {"op": "==", "left": DPORT, "right": port}}, ACCEPT] for port in range(200)))
    assert tried(many, "udp 51871").answer is DROPPED
    monkeypatch.setattr(fates, "STEPS_MAX", 100)
    assert tried(many, "udp 51871").answer is UNKNOWN


def test_sets_that_were_not_printed_are_not_empty() -> None:
    printed = (PRINTED / "server.json").read_bytes()
    assert tried(nftables.read(printed), "udp 51871").answer is ACCEPTED
    assert tried(nftables.read(printed, terse=True), "udp 51871").answer is UNKNOWN


def test_a_table_that_sleeps_filters_nothing() -> None:
    printed = json.loads((PRINTED / "early.json").read_text())
    printed["nftables"][1]["table"]["flags"] = ["dormant"]
    assert tried(nftables.read(json.dumps(printed)), "udp 51872").answer is ACCEPTED


@pytest.mark.parametrize("printed", ["", "{}", "[]", '{"nftables": ', "[" * 100_000, "null"])
def test_what_nft_does_not_print_is_refused(printed: str) -> None:
    with pytest.raises(ValueError, match="not what nft prints"):
        nftables.read(printed)


@pytest.mark.parametrize(
    ("printed", "why"),
    [
        ("*filter\n-A \n", "not enough values"),
        ("*filter\n:INPUT\n", "not enough values"),
        ('*filter\n-A INPUT -s "x\n', "No closing quotation"),
        ("*filter\n-A INPUT --mark x\n", "invalid literal"),
    ],
)
def test_what_iptables_does_not_print_is_refused(printed: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        iptables.read(printed, "ip")


OPTIONS = [
    ("-p 17 --dport 51871", ACCEPTED),
    ("-p udp -m udp --dport 51000:52000", ACCEPTED),
    ("! -p udp", DROPPED),
    ("-i eth+ -p udp", ACCEPTED),
    ("-i wlan+", DROPPED),
    ("! -i wlan0", ACCEPTED),
    ("! -s 192.168.0.0/16", DROPPED),
    ("-d 192.168.1.2/32", ACCEPTED),
    ("-m set --match-set friends src", UNKNOWN),
    ("-m conntrack --ctstate NEW,RELATED", ACCEPTED),
    ("-m conntrack --ctstatus DNAT", DROPPED),
    ("-m conntrack --ctstatus ASSURED", UNKNOWN),
    ("-m mark --mark 0x1/0xff", DROPPED),
    ("-m rpfilter", ACCEPTED),
    ("-m rpfilter --invert", DROPPED),
    ("-m limit --limit 3/min", ACCEPTED),
    ("-m addrtype --dst-type LOCAL", ACCEPTED),
    ("-p udp --later 1", UNKNOWN),
    ("-m recent --set --name A --mask 255.255.255.255 --rsource", ACCEPTED),
    ("-m recent ! --set --name A --mask 255.255.255.255 --rsource", DROPPED),
    ("-m recent --rcheck --seconds 30 --name A --mask 255.255.255.255 --rsource", DROPPED),
    ("-m recent ! --rcheck --seconds 30 --name A --mask 255.255.255.255 --rsource", ACCEPTED),
    ("-m recent --update --seconds 30 --hitcount 6 --name A --mask 255.255.255.255 --rsource", DROPPED),
    ("-m recent ! --update --seconds 30 --hitcount 6 --name A --mask 255.255.255.255 --rsource", ACCEPTED),
    ("-m recent --remove --name A --mask 255.255.255.255 --rsource", DROPPED),
    ("-m recent --name A", UNKNOWN),
    ("-m recent --set --name A -m recent --rcheck --name B", DROPPED),
    ("-m recent --set --name A -m recent --rcheck --name A", ACCEPTED),
    (
        "-m hashlimit --hashlimit-upto 5/min --hashlimit-burst 5 --hashlimit-mode srcip --hashlimit-name x",
        ACCEPTED,
    ),
    (
        "-m hashlimit --hashlimit-above 5/min --hashlimit-burst 5 --hashlimit-mode srcip --hashlimit-name x",
        DROPPED,
    ),
    ("-m hashlimit --hashlimit-upto 512kb/s --hashlimit-mode srcip --hashlimit-name x", ACCEPTED),
    ("-m hashlimit --hashlimit-upto 9b/s --hashlimit-mode srcip --hashlimit-name x", UNKNOWN),
    ("-m hashlimit --hashlimit-upto 5/s --hashlimit-name x --hashlimit-rate-match", UNKNOWN),
    ("-m hashlimit --hashlimit-name x", UNKNOWN),
    ("-m connlimit --connlimit-upto 1 --connlimit-mask 32 --connlimit-saddr", ACCEPTED),
    ("-m connlimit --connlimit-above 9 --connlimit-mask 32 --connlimit-saddr", DROPPED),
    ("-m connlimit --connlimit-above 0 --connlimit-mask 32 --connlimit-saddr", ACCEPTED),
    ("-m connlimit ! --connlimit-above 9", ACCEPTED),
    ("-m connlimit --connlimit-saddr", UNKNOWN),
    ("-m statistic --mode random --probability 0.5", UNKNOWN),
    ("-m connlimit --connlimit-upto 1 -p udp --dport 1", DROPPED),
    ("-m recent --set --name A --later 1", UNKNOWN),
    ('-m comment --comment "-j DROP"', ACCEPTED),
]


@pytest.mark.parametrize(("option", "expected"), OPTIONS)
def test_options_of_iptables(option: str, expected: Answer) -> None:
    saved = f"*filter\n:INPUT DROP [0:0]\n-A INPUT {option} -j ACCEPT\nCOMMIT\n"
    assert tried(iptables.read(saved, "ip"), "udp 51871").answer is expected


# rules, what becomes of everybody's first packet to 51871
NOTING = "-m recent --set --name A --mask 255.255.255.255 --rsource"
SIX = "-m recent --update --seconds 30 --hitcount 6 --name A --mask 255.255.255.255 --rsource"
ONE = "-m recent --rcheck --seconds 30 --name A --mask 255.255.255.255 --rsource"
TAKING = "-m recent --remove --name A --mask 255.255.255.255 --rsource"
LISTS: list[tuple[tuple[str, ...], Answer]] = [
    ((f"{NOTING}", f"{SIX} -j DROP", "-j ACCEPT"), ACCEPTED),
    ((f"{NOTING}", *(f"{SIX} -j DROP",) * 3, "-j ACCEPT"), ACCEPTED),
    ((*(NOTING,) * 6, f"{SIX} -j DROP", "-j ACCEPT"), DROPPED),
    ((NOTING.replace("source", "dest"), f"{ONE} -j ACCEPT"), UNKNOWN),  # it may have a mask
    ((NOTING, f"{TAKING} -j DROP", f"{ONE} -j ACCEPT"), DROPPED),
    ((NOTING, TAKING, f"{ONE} -j ACCEPT"), DROPPED),
    ((NOTING, f"-m later {TAKING}", f"{ONE} -j ACCEPT"), UNKNOWN),
    ((f"-m later {NOTING}", f"{SIX} -j DROP", f"{ONE} -j DROP"), DROPPED),
    ((f"-m later {NOTING}", f"{ONE} -j ACCEPT"), UNKNOWN),
    ((f"{SIX} -j DROP", f"{SIX.replace('--update', '! --update')} -j ACCEPT"), ACCEPTED),
    ((f"{ONE} -j DROP", "-p udp --dport 51871 -j ACCEPT", f"{NOTING} -j DROP"), ACCEPTED),  # of who scans ports
    ((f"-p udp --dport 7 {NOTING} -j DROP", f"{ONE} -j ACCEPT"), DROPPED),  # of who knocks
    ((NOTING, f"{ONE} -j ACCEPT"), ACCEPTED),
    (("-p tcp -j REJECT --reject-with tcp-reset", "-p udp -g gone", "-j ACCEPT"), UNKNOWN),
    ((f"{ONE} -j REJECT --reject-with icmp-port-unreachable", "-j ACCEPT"), ACCEPTED),
]


@pytest.mark.parametrize(("lines", "expected"), LISTS)
def test_lists_of_iptables(lines: tuple[str, ...], expected: Answer) -> None:
    rules_of = "".join(f"-A INPUT {line}\n" for line in lines)
    saved = f"*filter\n:INPUT DROP [0:0]\n{rules_of}COMMIT\n"
    assert tried(iptables.read(saved, "ip"), "udp 51871").answer is expected


# --- what no program prints ------------------------------------------------------------------------------

JUNK: list[Any] = [None, True, -1, 1 << 70, 3.5, "", "*", "@x", [], {}, [[]], ["a", 1], {"a": 1}]
JUNK += [{"set": None}, {"elem": {}}, {"concat": []}, {"range": ["a", 2]}, {"&": [1, 2]}, {"fib": None}]
JUNK += [{"prefix": {"addr": "1.2.3.4", "len": 99}}]
WORDS = ("!", "-j", "-m", "x", "--mark", "\n", "", "-p", "9" * 12, "--dport", "'", ":", "*", "-A")
DAMAGED = 300


def places(thing: Any) -> Iterator[tuple[Any, Any]]:
    """Every place in a structure: what holds it, and its key there."""
    pairs = thing.items() if isinstance(thing, dict) else enumerate(thing) if isinstance(thing, list) else ()
    for key, value in list(pairs):
        yield thing, key
        yield from places(value)


@pytest.mark.parametrize("seed", seeds(2))
def test_damaged_rules_are_refused_or_followed(seed: int) -> None:
    rng = random.Random(seed)
    printed = [path.read_text() for path in sorted(PRINTED.glob("*.json"))]
    saved = [path.read_text() for path in sorted(PRINTED.glob("*.save"))]
    followed = 0
    for _ in range(DAMAGED):
        damaged = json.loads(rng.choice(printed))
        for _ in range(rng.randrange(1, 4)):
            holder, key = rng.choice(list(places(damaged)))
            holder[key] = copy.deepcopy(rng.choice(JUNK))  # the next damage may be done to it
        words = rng.choice(saved).split(" ")
        for _ in range(3):
            words[rng.randrange(len(words))] = rng.choice(WORDS)
        texts = ((nftables.read, (json.dumps(damaged),)), (iptables.read, (" ".join(words), "ip")))
        for read, arguments in texts:
            with suppress(ValueError):
                ruleset = read(*arguments)
                for each in ("udp 51871", "tcp 51871 stranger eth0 IPv6"):
                    followed += tried(ruleset, each).answer in Answer
    print(f"seed {seed}: {followed} followed")
    assert followed > DAMAGED
