"""Two and three admins on real daemons: proposing and approving, losing one, recovering, parting and healing."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from clanctl.demo.lab import Lab, Node
from clanctl.failures import Failure
from tests.net.clan_of_daemons import Clan

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root: run `sudo make test`")

SILENT = 'overlay = "none"\n'
HEAL_S = 15.0  # from the healed network to one decision everywhere
NAMES = ("alpha", "beta", "gamma", "delta")


@pytest.fixture
def clan(tmp_path: Path) -> Iterator[Clan]:
    """Four members, of which the first is the only admin."""
    with Lab(tmp_path) as lab:
        yield Clan(lab, SILENT, *NAMES)
    for log in tmp_path.glob("*/daemon.log"):
        assert "Traceback" not in log.read_text(), log.parent.name


def _view(clan: Clan, node: Node) -> Any:
    return clan.lab.call(node, "admin-list")


def _admins(clan: Clan, node: Node) -> list[str]:
    return [admin["name"] for admin in _view(clan, node)["admins"]]


def _agree(clan: Clan, admins: list[str], *more: Node, within_s: float = HEAL_S) -> None:
    """Wait until every machine follows one and the same history, in which these are the admins."""
    nodes = [*clan.nodes, *more]
    clan.await_all(lambda node: _admins(clan, node) == admins, nodes, within_s=within_s)
    clan.await_all(
        lambda node: len({_view(clan, each)["head"] for each in nodes}) == 1, nodes[:1], within_s=within_s
    )


def _make_admins(clan: Clan, *others: Node) -> None:
    """Make the founder and `others` the admins; each of them but the last approves the next."""
    names = [clan.founder.name]
    for node in others:
        proposed = clan.ctl(clan.founder, "admin", "propose", "add", node.name, "--yes")
        names.append(node.name)
        if proposed["state"] == "pending":
            _approve(clan, others[0], proposed["id"])
        _agree(clan, names)


def _approve(clan: Clan, node: Node, operation: str) -> Any:
    """Approve once it has come there."""
    clan.await_all(lambda each: operation in {p["id"] for p in _pending(clan, each)}, [node])
    return clan.ctl(node, "admin", "approve", operation[:12])


def _peer(clan: Clan, node: Node, name: str) -> Any:
    """A member as it looks from a machine."""
    return next(peer for peer in clan.lab.call(node, "peers")["peers"] if peer["name"] == name)


def _pending(clan: Clan, node: Node) -> list[dict[str, Any]]:
    return list(clan.ctl(node, "admin", "pending")["pending"])


def _lose(clan: Clan, node: Node) -> None:
    """A machine is gone for good."""
    clan.lab.crash(node)
    clan.nodes.remove(node)


def _assert_unheard(clan: Clan, expelled: Node, member: Node) -> None:
    """What an expelled device says is heard by nobody, and it hears nothing of what a member says."""
    with suppress(Failure):  # it may have heard that it is out
        clan.set_secret(expelled, "by-the-expelled")
    clan.set_secret(member, "by-a-member")
    clan.await_all(lambda node: clan.secrets(node) == {"by-a-member"})
    assert "by-a-member" not in clan.secrets(expelled)


def test_two_of_three_decide_together(clan: Clan) -> None:
    alpha, beta, gamma, delta = clan.nodes
    _make_admins(clan, beta)
    proposed = clan.ctl(alpha, "admin", "propose", "add", "gamma", "--yes")
    assert (proposed["state"], proposed["weight"], proposed["needed"]) == ("pending", 1, 2)
    assert proposed["approvers"] == ["beta"]
    clan.await_all(lambda node: [p["id"] for p in _pending(clan, node)] == [proposed["id"]])
    assert [_pending(clan, node)[0]["mine"] for node in clan.nodes] == [False, True, False, False]
    assert "admin" in clan.refusal(delta, "admin", "approve", proposed["id"])
    assert _admins(clan, delta) == ["alpha", "beta"]

    assert _approve(clan, beta, proposed["id"])["state"] == "done"
    _agree(clan, ["alpha", "beta", "gamma"])
    assert _pending(clan, gamma) == []
    clan.await_all(lambda node: _view(clan, node)["final"]["id"] == _view(clan, node)["head"])
    before = _view(clan, alpha)["head"]
    clan.restart(*clan.nodes)
    clan.await_whole()
    assert {_view(clan, node)["head"] for node in clan.nodes} == {before}


def test_a_lost_admin_goes_and_what_it_vouched_for_stays(clan: Clan) -> None:
    alpha, beta, gamma, delta = clan.nodes
    _make_admins(clan, beta, gamma)
    epsilon = clan.start("epsilon")
    token = clan.lab.call(gamma, "invite", {"tags": ["backup"], "uses": 1, "ttl_s": 600})["token"]
    clan.join(epsilon, token)
    clan.await_whole(epsilon)
    invite = clan.ctl(gamma, "invite")["id"]
    state = gamma.instance.state_directory
    _lose(clan, gamma)

    removal = clan.ctl(alpha, "remove", "gamma", "--yes")
    assert removal["state"] == "pending"
    assert _approve(clan, beta, removal["decision"]["id"])["state"] == "done"
    _agree(clan, ["alpha", "beta"], epsilon)
    clan.await_whole(epsilon, within_s=HEAL_S)
    assert _peer(clan, beta, "epsilon")["tags"] == ["backup"]
    assert invite in removal["kept"]["invites_lapsed"]
    assert {each["by"] for each in clan.ctl(beta, "invite", "list")["invites"]} == {"alpha"}

    found = clan.restored("found", state)
    _assert_unheard(clan, found, delta)


def test_the_recovery_key_and_its_drill(clan: Clan) -> None:
    alpha, beta, gamma, delta = clan.nodes
    key = str(clan.founded["recovery"])
    assert clan.ctl(delta, "admin", "recover", "--drill", stdin=key)["holds"] is True
    assert _admins(clan, delta) == ["alpha"], "a drill changes nothing"
    mistyped = key[:-1] + ("a" if key[-1] != "a" else "b")
    assert "mistyped" in clan.refusal(delta, "admin", "recover", "--drill", stdin=mistyped)

    clan.set_secret(alpha, "by-the-lost", b"hunter2")
    clan.await_all(lambda node: "by-the-lost" in clan.secrets(node))
    _lose(clan, alpha)
    words = ("admin", "recover", "--add", "delta", "--remove", "alpha", "--new-key", "--yes")
    recovered = clan.ctl(delta, *words, stdin=key)
    assert [decision["state"] for decision in recovered["decisions"]] == ["done"] * 3
    _agree(clan, ["delta"])
    clan.await_whole()
    assert "replaced" in clan.refusal(beta, "admin", "recover", "--drill", stdin=key)
    assert clan.ctl(gamma, "admin", "recover", "--drill", stdin=recovered["recovery"])["holds"] is True
    clan.ctl(delta, "rename", "gamma", "gaius")
    clan.await_all(lambda node: "gaius" in clan.states(node))
    assert {clan.value(node, "by-the-lost") for node in clan.nodes} == {b"hunter2"}
    assert clan.problems(delta)["exposed-secret"].startswith("alpha (removed) knows")


def test_a_fork_made_while_parted_is_resolved_alike(clan: Clan) -> None:
    alpha, beta, gamma, delta = clan.nodes
    _make_admins(clan, beta, gamma)
    clan.lab.partition([alpha, delta])
    left = clan.ctl(alpha, "admin", "propose", "setting", "x-left", "1")
    right = clan.ctl(beta, "admin", "propose", "setting", "x-right", "2")
    assert (left["state"], right["state"]) == ("done", "done")
    assert left["number"] == right["number"]
    clan.await_all(lambda node: _view(clan, node)["head"] == right["id"], [beta, gamma])
    clan.await_all(lambda node: _view(clan, node)["head"] == left["id"], [alpha, delta])

    clan.lab.heal()
    clan.await_all(lambda node: _view(clan, node)["settings"].get("x-right") == "2", within_s=HEAL_S)
    clan.await_all(lambda node: _view(clan, node)["settings"] == {"x-left": "1", "x-right": "2"}, within_s=HEAL_S)
    _agree(clan, ["alpha", "beta", "gamma"])
    clan.await_all(lambda node: _view(clan, node)["final"]["id"] == _view(clan, node)["head"])


def test_a_thief_of_the_admin_loses_against_the_recovery_key(clan: Clan) -> None:
    alpha, beta, gamma, delta = clan.nodes
    clan.lab.partition([alpha, beta])
    assert clan.ctl(alpha, "admin", "propose", "add", "beta", "--yes")["state"] == "done"
    words = ("admin", "recover", "--add", "gamma", "--remove", "alpha", "--yes")
    clan.ctl(gamma, *words, stdin=str(clan.founded["recovery"]))
    clan.await_all(lambda node: _admins(clan, node) == ["gamma"], [delta])

    clan.lab.heal()
    clan.nodes.remove(alpha)
    _agree(clan, ["gamma"])
    clan.await_whole()
    _assert_unheard(clan, alpha, beta)


def test_a_new_name_keeps_the_address(clan: Clan) -> None:
    alpha, delta = clan.nodes[0], clan.nodes[-1]
    address = clan.address(delta)
    clan.ctl(alpha, "rename", "delta", "dora")
    wanted = {"alpha": "up", "beta": "up", "gamma": "up", "dora": "up"}
    clan.await_all(lambda node: clan.states(node) == wanted)
    clan.await_all(lambda node: "dora.family.internal" in clan.hosts(node))
    for node in clan.nodes:
        names = dict(line.split()[::-1] for line in clan.hosts(node).splitlines())
        assert names["dora.family.internal"] == address
        assert "delta.family.internal" not in names
    assert clan.address(delta) == address
    assert "another" in clan.refusal(alpha, "rename", "beta", "dora")


def test_a_successor_keeps_the_name(clan: Clan) -> None:
    alpha, delta = clan.nodes[0], clan.nodes[-1]
    before = _peer(clan, alpha, "delta")["id"]
    token = clan.ctl(alpha, "invite", "--replace", "delta")["token"]
    state = delta.instance.state_directory
    _lose(clan, delta)
    fresh = clan.start("fresh")
    assert clan.ctl(fresh, "join", "-", stdin=token)["self"] == "delta"
    clan.nodes.append(fresh)
    clan.await_all(lambda node: clan.states(node) == dict.fromkeys(NAMES, "up"))
    assert {_peer(clan, node, "delta")["id"] for node in clan.nodes} == {_peer(clan, fresh, "delta")["id"]}
    assert _peer(clan, fresh, "delta")["id"] != before
    _assert_unheard(clan, clan.restored("relic", state), alpha)
