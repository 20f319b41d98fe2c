"""Who keeps the clan out, by which chain, and what is typed to let it in."""

from dataclasses import replace

import pytest

from clanmeshd.checkup.diagnosis import diagnose
from clanmeshd.checkup.filtering import firewall
from clanmeshd.checkup.firewall.judging import Scene, judge
from clanmeshd.checkup.firewall.owners import Block, Ports, single_ports
from clanmeshd.checkup.firewall.reading import Printed, put_together, unnamed
from clanmeshd.checkup.firewall.rules import Ruleset
from clanmeshd.checkup.terms import Finding, Firewall, Level
from tests.core.test_checkup import WELL, away, line
from tests.core.test_firewall_rules import CLAN0, ETH0, ETH0_IPV6, PRINTED, WLAN0, rules

SCENE = Scene((ETH0, ETH0_IPV6), None, single_ports((51_871, 51_872), (51_871,)), has_mdns=True)
ABSENT = Printed(None, "nft, of the package nftables, is not there to ask")
NOTHING = Printed("")
PROGRAMS = ("nft", "iptables-save", "ip6tables-save", "iptables-legacy-save", "ip6tables-legacy-save")
NO_TABLES = Printed('{"nftables": []}')


def judged(ruleset: Ruleset, scene: Scene = SCENE) -> Firewall:
    found = judge(ruleset, scene)
    assert found is not None
    return found


def said(found: Firewall | None, *, is_alone: bool = False) -> list[Finding]:
    fellows = away("nas") if is_alone else WELL.fellows
    return list(firewall(replace(WELL, firewall=found, fellows=fellows)))


# the rule set, what is dropped, by which chain, and the commands
SAVED = ("ufw.save", "nixos.save")
BARRIERS = [
    (
        "ufw.save",
        "ufw on this device drops what comes to TCP 51871",
        "iptables table filter, chain INPUT, policy drop",
        "`ufw allow 51871/tcp`",
    ),
    (
        "nixos.save",
        "the firewall of NixOS on this device drops what comes to UDP 51871 and UDP 5353",
        "iptables table filter, chain nixos-fw-refuse",
        "`networking.firewall.allowedUDPPorts = [ 51871 5353 ];`, in the machine's configuration",
    ),
    (
        "nixos-closed.json",
        "the firewall of NixOS on this device drops what comes to UDP 51871, UDP 51872 and TCP 51871",
        "nftables table inet nixos-fw, chain input, policy drop",
        "`networking.firewall.allowedUDPPorts = [ 51871 51872 ];` and `networking.firewall.allowedTCPPorts",
    ),
    (
        "firewalld.json",
        "firewalld on this device drops what comes to UDP 51871, UDP 5353 and TCP 51871",
        "nftables table inet firewalld, chain filter_IN_FedoraServer",
        "`firewall-cmd --permanent --zone=FedoraServer --add-port=51871/udp --add-port=5353/udp "
        "--add-port=51871/tcp` and `firewall-cmd --reload`",
    ),
    (
        "workstation.json",
        "nftables on this device drops what comes to UDP 51871, UDP 51872, UDP 5353 and TCP 51871",
        "nftables table inet filter, chain input, policy drop",
        "`nft insert rule inet filter input udp dport '{ 51871, 51872, 5353 }' accept` and "
        "`nft insert rule inet filter input tcp dport 51871 accept`, and the same rule in /etc/nftables.conf",
    ),
    (
        "lan.json",
        "nftables on this device drops what comes to UDP 51871 from other networks than its own",
        "nftables table inet filter, chain input, policy drop",
        "`nft insert rule inet filter input udp dport 51871 accept`",
    ),
]


@pytest.mark.parametrize(("name", "what", "chain", "remedy"), BARRIERS)
def test_who_drops_is_named_with_the_way_in(name: str, what: str, chain: str, remedy: str) -> None:
    scene = replace(SCENE, wires=(ETH0,)) if name in (*SAVED, "lan.json") else SCENE
    found = said(judged(rules(name), scene))
    assert [(each.level, each.check, each.what) for each in found if each.what == what] == [
        (Level.NOTE, "firewall", what)
    ], [line(each) for each in found]
    (single,) = [each for each in found if each.what == what]
    assert single.why.startswith(f"{chain}: only answers")
    assert single.remedy.startswith(remedy)


RELAY = Block("udp", 51_873, 51_936)
RELAYED = [
    ("ufw.save", "`ufw allow 51873:51936/udp`"),
    ("nixos.save", "`networking.firewall.allowedUDPPortRanges = [ { from = 51873; to = 51936; } ];`"),
    ("firewalld.json", "--add-port=51873-51936/udp`"),
    ("workstation.json", "`nft insert rule inet filter input udp dport 51873-51936 accept`"),
]


@pytest.mark.parametrize(("name", "way"), RELAYED)
def test_a_relay_needs_a_row_of_ports(name: str, way: str) -> None:
    (found,) = said(judged(rules(name), Scene((ETH0,), None, Ports((RELAY,)))))
    assert "drops what comes to UDP 51873-51936" in found.what
    assert way in found.remedy


def test_iptables_is_told_by_its_own_command_for_each_family() -> None:
    saved = "*filter\n:INPUT DROP [0:0]\n-A INPUT -p udp -j ACCEPT\n-A INPUT -p tcp --dport 22 -j ACCEPT\nCOMMIT\n"
    printed = {
        **dict.fromkeys(PROGRAMS, NOTHING),
        "nft": NO_TABLES,
        "iptables-save": Printed(saved),
        "ip6tables-save": Printed(saved),
    }
    ruleset, unseen = put_together(printed, ())
    assert unseen is None
    (found,) = said(judged(ruleset))
    assert found.what == "iptables on this device drops what comes to TCP 51871"
    assert found.remedy.startswith(
        "`iptables -I INPUT -p tcp -m multiport --dports 51871 -j ACCEPT` and "
        "`ip6tables -I INPUT -p tcp -m multiport --dports 51871 -j ACCEPT`, and `netfilter-persistent save`"
    )


def test_what_drops_one_family_or_at_one_interface_says_so() -> None:
    ufw = rules("ufw.save")
    (found,) = said(judged(ufw))
    assert found.what == "ufw on this device drops what comes to TCP 51871 by IPv4"
    scene = replace(SCENE, wires=(ETH0, WLAN0))
    (found,) = said(judged(rules("firewalld.json"), scene))
    assert found.what.endswith("TCP 51871 at eth0")


def test_what_drops_answers_as_well_is_a_problem() -> None:
    (found,) = said(judged(rules("early.json")))
    assert (found.level, found.what) == (Level.PROBLEM, "nftables on this device drops what comes to UDP 51872")
    assert "not even answers" in found.why


def test_where_nobody_is_up_a_barrier_is_a_problem() -> None:
    assert [each.level for each in said(judged(rules("workstation.json")), is_alone=True)] == [Level.PROBLEM]


@pytest.mark.parametrize("name", ["nixos.json", "server.json", "libvirt.json", "docker.save", "fail2ban.json"])
def test_no_alarm_where_our_ports_are_let_in(name: str) -> None:
    found = said(judged(rules(name), replace(SCENE, has_mdns=False)))
    assert [each.level for each in found] == [Level.OK]


def test_where_no_rule_filters_that_is_said() -> None:
    assert [each.what for each in said(judged(Ruleset()))] == ["no firewall of this machine keeps anything out"]


def test_services_that_members_do_not_reach_are_named() -> None:
    (found,) = said(judged(rules("nixos.json"), replace(SCENE, tunnel=CLAN0)))[:1]
    assert found.level is Level.NOTE
    assert "drops members' new connections that come through the tunnels" in found.what
    assert '`networking.firewall.trustedInterfaces = [ "clan0" ];`' in found.remedy
    shut = said(judged(rules("odd.json"), Scene((), CLAN0, Ports())))
    assert "new connections and pings" in shut[0].what
    assert "`nft insert rule inet filter input iifname clan0 accept`" in shut[0].remedy
    ways = {
        "ufw-xt.json": "`ufw allow in on clan0`",
        "firewalld.json": "--zone=trusted --add-interface=clan0",
    }
    for name, way in ways.items():
        clan0 = CLAN0._replace(name="clan0") if name != "firewalld.json" else CLAN0._replace(name="eth0")
        for each in judged(rules(name), Scene((), clan0, Ports())).barriers:
            assert way.replace("clan0", clan0.name) in " ".join(each.commands)


def test_what_is_not_understood_is_no_alarm() -> None:
    (found,) = said(judged(rules("ufw-xt.json")))
    assert found.level is Level.OK
    assert found.what == "a firewall is active (nftables table ip filter, chain INPUT, policy drop)"
    assert (found.remedy, "is not known: not all of its rules are understood" in found.why) == ("", True)


def test_it_may_be_why_nobody_is_up() -> None:
    (found,) = said(judged(rules("ufw-xt.json")), is_alone=True)
    assert found.level is Level.NOTE
    assert found.remedy == "see that it does; `ufw allow 51871,51872/udp` and `ufw allow 51871/tcp` would"


# --- what this machine sends ---------------------------------------------------------------------------

LEAVING = [
    (
        "ufw-strict.save",
        "ufw on this device drops what this device sends by UDP 51871, UDP 51872, UDP 5353 and TCP 51871",
        "iptables table filter, chain OUTPUT, policy drop: only answers to what others sent go out",
        "`ufw allow out proto udp from any port 51871,51872,5353` and `ufw allow out 51871/tcp`",
    ),
    (
        "firewalld-strict.json",
        "firewalld on this device drops what this device sends by UDP 51871, UDP 51872, UDP 5353 and TCP 51871",
        "nftables table inet firewalld, chain filter_OUT_policy_strict: only answers",
        "`firewall-cmd --permanent --policy=strict --add-source-port=51871/udp --add-source-port=51872/udp "
        "--add-source-port=5353/udp`, `firewall-cmd --permanent --policy=strict --add-port=51871/tcp` and "
        "`firewall-cmd --reload`",
    ),
    (
        "kill-switch.json",
        "nftables on this device drops what this device sends by UDP 51871, UDP 51872 and TCP 51871 to other "
        "networks than its own",
        "nftables table inet vpn, chain output, policy drop: not even answers to what others sent go out",
        "`nft insert rule inet vpn output udp sport '{ 51871, 51872 }' accept` and "
        "`nft insert rule inet vpn output tcp dport 51871 accept`, and the same rule in /etc/nftables.conf",
    ),
    (
        "strict.json",
        "nftables on this device drops what this device sends by UDP 51871 and UDP 51872",
        "nftables table inet guard, chain out, policy drop: only answers",
        "`nft insert rule inet guard out udp sport '{ 51871, 51872 }' accept`",
    ),
]


@pytest.mark.parametrize(("name", "what", "why", "remedy"), LEAVING)
def test_who_keeps_in_what_this_machine_sends_is_named_with_the_way_out(
    name: str, what: str, why: str, remedy: str
) -> None:
    found = [each for each in said(judged(rules(name), replace(SCENE, wires=(ETH0,)))) if "sends" in each.what]
    (single,) = found
    assert (single.what, single.check) == (what, "firewall")
    assert single.level is (Level.PROBLEM if "not even" in why else Level.NOTE)
    assert single.why.startswith(why)
    assert single.remedy.startswith(remedy)


def saved(*lines: str, head: str = "*filter\n:INPUT ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n") -> Ruleset:
    text = Printed("".join([head, *(f"{line}\n" for line in lines), "COMMIT\n"]))
    printed = {**dict.fromkeys(PROGRAMS, NOTHING), "nft": NO_TABLES, "iptables-save": text, "ip6tables-save": text}
    return put_together(printed, ())[0]


OUT_BY_IPTABLES = [
    (
        ("-A OUTPUT -p udp -j DROP",),
        "`iptables -I OUTPUT -p udp -m multiport --sports 51871,51872,5353 -j ACCEPT` and `ip6tables -I OUTPUT",
    ),
    (
        (":nixos-fw - [0:0]", "-A OUTPUT -p tcp -j DROP"),
        "`iptables -I OUTPUT -p tcp -m multiport --dports 51871 -j ACCEPT` and `ip6tables -I OUTPUT -p tcp -m "
        "multiport --dports 51871 -j ACCEPT`, and the same as `networking.firewall.extraCommands` in the",
    ),
    (
        (
            ":INPUT_direct - [0:0]",
            ":OUTPUT_direct - [0:0]",
            "-A OUTPUT -j OUTPUT_direct",
            "-A OUTPUT_direct -j DROP",
        ),
        "`firewall-cmd --permanent --direct --add-rule ipv4 filter OUTPUT -1 -p udp -m multiport --sports "
        "51871,51872,5353 -j ACCEPT`, `firewall-cmd --permanent --direct --add-rule ipv4 filter OUTPUT -1 -p tcp",
    ),
    (
        (
            ":INPUT_direct - [0:0]",
            ":OUT_strict - [0:0]",
            "-A OUTPUT -j OUT_strict",
            "-A OUT_strict -p tcp -j DROP",
        ),
        "`firewall-cmd --permanent --policy=strict --add-port=51871/tcp` and `firewall-cmd --reload`",
    ),
]


@pytest.mark.parametrize(("lines", "remedy"), OUT_BY_IPTABLES)
def test_each_tool_of_iptables_lets_out(lines: tuple[str, ...], remedy: str) -> None:
    (found,) = said(judged(saved(*lines)))
    assert "drops what this device sends by " in found.what
    assert found.remedy.startswith(remedy)


def test_what_this_device_cannot_send_to_members_is_named() -> None:
    def ways(name: str) -> str:
        found = judged(rules(name), Scene((), CLAN0, Ports())).barriers
        return " ".join(command for each in found if each.is_outgoing for command in each.commands)

    assert ways("ufw-strict.save") == ""  # it is about IPv4
    assert ways("strict.json") == "nft insert rule inet guard out oifname clan0 accept"
    rule = "rule family=ipv6 destination address=fd01::/48 accept"
    begin = "firewall-cmd --permanent --policy=strict --add-rich-rule="
    assert ways("firewalld-strict.json") == f"{begin}'{rule}' firewall-cmd --reload"
    every = said(judged(rules("strict.json"), replace(SCENE, tunnel=CLAN0)))
    (found,) = [each for each in every if "tunnels" in each.what]
    begin = "nftables on this device drops this device's"
    assert found.what == f"{begin} new connections to members through the tunnels"
    begin = "nftables table inet guard, chain out, policy drop"
    assert found.why == f"{begin}: only what it lets out to everywhere is reached"
    assert found.remedy.startswith("if it shall reach more: `nft insert rule")
    (found, _) = said(judged(saved("-A OUTPUT -j DROP"), Scene((), CLAN0, Ports())))
    assert "new connections and pings to members" in found.what
    assert "`ip6tables -I OUTPUT -o clan0 -j ACCEPT`" in found.remedy


def test_what_filters_both_ways_and_lets_all_pass_is_said_to() -> None:
    passing = saved("-A OUTPUT -p udp -j ACCEPT", "-A OUTPUT -p tcp -j ACCEPT", "-A OUTPUT -j DROP")
    (found,) = said(judged(passing))
    assert found.what.startswith("the firewall here lets in and out what the clan needs: UDP 51871")
    (found,) = said(judged(saved("-A OUTPUT -p udp -j ACCEPT")))
    assert found.what == "no firewall of this machine keeps anything out"
    doubtful = judged(saved("-A INPUT -p udp -j ACCEPT", "-A OUTPUT -m owner --uid-owner 0 -j DROP"))
    sure, unsure = said(doubtful)
    assert sure.what.startswith("the firewall here lets in what the clan needs")
    assert unsure.why.startswith("whether it lets out UDP 51871, UDP 51872 and TCP 51871 is not known: not all of")
    (_, unsure) = said(doubtful, is_alone=True)
    assert "`iptables -I OUTPUT -p udp -m multiport --sports 51871,51872 -j ACCEPT`" in unsure.remedy


# --- what cannot be read ---------------------------------------------------------------------------------


def test_without_a_network_nothing_is_called_open() -> None:
    assert judge(Ruleset(), replace(SCENE, wires=())) is None
    (found,) = said(judge(rules("nixos.json"), replace(SCENE, wires=())))
    assert "is not known: this device has no network" in found.why


def test_without_any_rules_the_services_tell() -> None:
    ruleset, unseen = put_together(dict.fromkeys(PROGRAMS, ABSENT), ())
    assert unseen == "nft, of the package nftables, is not there to ask"
    (found,) = said(judge(ruleset, SCENE, unseen))
    assert (found.level, found.remedy) == (Level.OK, "")
    needed = "UDP 51871, UDP 51872 and TCP 51871"
    assert found.what == f"whether a firewall here is in the way of {needed} was not looked at"
    assert found.why == unseen
    (found,) = said(judge(ruleset, SCENE, unseen), is_alone=True)
    assert (found.level, found.remedy) == (Level.NOTE, "see that none is")
    (found,) = said(judge(ruleset, SCENE, unseen, ("firewalld",)))
    assert (found.level, found.what) == (Level.OK, "a firewall is active (firewalld)")
    (found,) = said(judge(ruleset, SCENE, unseen, ("firewalld",)), is_alone=True)
    assert "--zone=public --add-port=51871/udp" in found.remedy


def test_nothing_is_called_open_while_rules_are_hidden() -> None:
    saved = Printed((PRINTED / "docker.save").read_text())
    printed = {**dict.fromkeys(PROGRAMS, ABSENT), "iptables-save": saved}
    ruleset, unseen = put_together(printed, ())
    (found,) = said(judge(ruleset, SCENE, unseen))
    assert "is not known: nft, of the package nftables, is not there to ask" in found.why
    assert found.why.startswith("whether it lets in and out ")


def test_rules_of_which_nft_shows_names_alone_say_which_program_shows_more() -> None:
    missing = Printed(None, "iptables-save, of the package iptables, is not there to ask")
    xt = Printed((PRINTED / "ufw-xt.json").read_text())
    printed = {**dict.fromkeys(PROGRAMS, missing), "nft": xt}
    ruleset, unseen = put_together(printed, ())
    hint = unnamed(printed, ruleset)
    (found,) = said(judge(ruleset, SCENE, unseen, hint=hint))
    assert found.why.endswith(
        "is not known: nft shows only names of rules that iptables made, and iptables-save, of the package "
        "iptables, is not there to ask"
    )
    shown = {**printed, "iptables-save": Printed((PRINTED / "ufw.save").read_text()), "ip6tables-save": NOTHING}
    assert unnamed(shown, put_together(shown, ())[0]) is None
    assert unnamed({**printed, "nft": NO_TABLES}, Ruleset()) is None


def test_of_tables_that_both_show_what_iptables_shows_is_taken() -> None:
    both = {
        **dict.fromkeys(PROGRAMS, NOTHING),
        "nft": Printed((PRINTED / "ufw-xt.json").read_text()),
        "iptables-save": Printed((PRINTED / "ufw.save").read_text()),
    }
    ruleset, unseen = put_together(both, ())
    assert unseen is None
    assert [(table.tool, table.name) for table in ruleset.tables] == [("iptables", "filter")]
    (found,) = judged(ruleset, replace(SCENE, wires=(ETH0,))).barriers
    assert (found.tool, found.dropped) == ("ufw", ("TCP 51871",))


def test_rules_of_the_older_iptables_are_read_beside_the_newer() -> None:
    older = Printed((PRINTED / "nixos.save").read_text().replace("(nf_tables)", "(legacy)"))
    printed = {**dict.fromkeys(PROGRAMS, NOTHING), "nft": NO_TABLES, "iptables-legacy-save": older}
    ruleset, unseen = put_together(printed, ("ip",))
    assert ([table.name for table in ruleset.tables], unseen) == (["mangle", "filter"], None)
    hidden = {**printed, "iptables-legacy-save": Printed(None, "it is not there")}
    assert put_together(hidden, ("ip",))[1] == "rules of the older iptables are hidden: it is not there"
    shown_once = {**printed, "iptables-save": older}
    assert len(put_together(shown_once, ("ip",))[0].tables) == 2


@pytest.mark.parametrize("program", ["nft", "iptables-save"])
def test_what_makes_no_sense_is_said_to_be_hidden(program: str) -> None:
    printed = {**dict.fromkeys(PROGRAMS, NOTHING), "nft": NO_TABLES, program: Printed("*filter\n:INPUT\n")}
    assert put_together(printed, ())[1] == f"what {program} prints is not understood"


def test_each_is_one_line_and_among_the_findings() -> None:
    for name in ("ufw.save", "nixos.json", "early.json", "ufw-xt.json"):
        found = diagnose(replace(WELL, firewall=judged(rules(name))))
        own = [each for each in found if each.check == "firewall"]
        assert own
        assert all("\n" not in line(each) for each in own)
