"""Real daemons: joining by any member, two devices with one token, what a removed member held and could read."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from clanctl.demo import network
from clanctl.demo.lab import Lab, Node
from clanctl.failures import Failure
from clanmesh_protocol.tokens import decode_token_untrusted, encode_token
from clanmeshd.resealing import REROLL_PAUSE_S
from tests.clock import Stopwatch
from tests.net.clan_of_daemons import PATIENCE_S, Clan, placed

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root: run `sudo make test`")

CUT_S = 3.0  # from the command to the end of the last stream


@pytest.fixture(scope="module")
def clan(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clan]:
    """Three members; alpha is the admin, and invites."""
    with Lab(tmp_path_factory.mktemp("joining")) as lab:
        yield Clan(lab, 'overlay = "none"\n', "alpha", "beta", "gamma")


def without_endpoints(token: str) -> str:
    """A token that leads nowhere by itself."""
    return encode_token(replace(decode_token_untrusted(token), endpoints=()))


def without_mdns(token: str) -> str:
    """A token by whose discovery secret nobody is found."""
    return encode_token(replace(decode_token_untrusted(token), discovery=bytes(16)))


def remove(clan: Clan, *nodes: Node) -> None:
    """Let the admin put devices out, and switch them off."""
    for node in nodes:
        clan.ctl(clan.founder, "remove", node.name, "--yes")
    clan.await_all(lambda each: not {node.name for node in nodes} & set(clan.states(each)))
    for node in nodes:
        clan.lab.crash(node)


def members(clan: Clan, node: Node) -> set[str]:
    return set(clan.states(node))


@pytest.mark.parametrize("change", [without_mdns, without_endpoints], ids=["by endpoint", "by mDNS"])
def test_a_device_joins_by_another_member_while_the_inviter_is_off(clan: Clan, change: Any) -> None:
    token = clan.token()
    assert len(decode_token_untrusted(token).endpoints) >= len(clan.nodes)
    name = f"delta-{change.__name__.rpartition('_')[2]}"
    delta = clan.start(name)
    clan.lab.kill(clan.founder)
    clan.join(delta, change(token))
    clan.await_all(lambda node: clan.states(node).get(name) == "up", clan.nodes[1:])
    assert json.loads((delta.instance.state_directory / "anchor.json").read_text())["operation"]
    clan.lab.start_daemon(clan.founder)
    clan.await_whole(delta)
    confirmed = {peer["name"]: peer["confirmed"] for peer in clan.lab.call(clan.nodes[1], "peers")["peers"]}
    assert set(confirmed) == {name, *(node.name for node in clan.nodes)}
    clan.await_all(
        lambda node: all(peer["confirmed"] for peer in clan.lab.call(node, "peers")["peers"]), [*clan.nodes, delta]
    )
    remove(clan, delta)


def test_members_refuse_in_one_line_what_another_has_let_in(clan: Clan) -> None:
    token, other = clan.token(), clan.token()
    first, second = clan.start("first"), clan.start("second")
    clan.join(first, token)
    clan.await_whole(first)
    clan.lab.kill(clan.founder)
    for bad, why in ((token, "used already"), (clan_token_of_nobody(token), "does not know this invite")):
        with pytest.raises(Failure, match=why) as caught:
            clan.join(second, bad)
        assert "\n" not in str(caught.value)
    clan.lab.start_daemon(clan.founder)
    clan.await_whole(first)
    invite = decode_token_untrusted(other).invite_id.hex()[:16]
    clan.await_all(lambda node: invite in str(clan.lab.call(node, "invite-list")))
    clan.ctl(clan.founder, "invite", "revoke", invite)
    # By all: another one is asked, too, when the first is slow to answer.
    clan.await_all(lambda node: invite not in str(clan.lab.call(node, "invite-list")))
    with pytest.raises(Failure, match="withdrawn"):
        clan.join(second, other)
    clan.lab.crash(second)
    remove(clan, first)


def clan_token_of_nobody(token: str) -> str:
    """A token for an invite that was never made."""
    return encode_token(replace(decode_token_untrusted(token), invite_id=decode_token_untrusted(token).clan * 2))  # type: ignore[arg-type]


def test_two_devices_with_one_token_are_judged_alike_everywhere(clan: Clan) -> None:
    token = clan.token()
    one, other = clan.start("one"), clan.start("other")
    alpha, beta, gamma = clan.nodes
    clan.lab.kill(alpha)
    clan.lab.partition([beta, one], [gamma, other])
    with ThreadPoolExecutor(2) as pool:
        for joining in [pool.submit(clan.join, node, token) for node in (one, other)]:
            joining.result(PATIENCE_S)
    clan.lab.heal()
    clan.await_all(lambda node: members(clan, node) == {"alpha", "beta", "gamma"}, [beta, gamma])
    clan.lab.start_daemon(alpha)
    # It may hear of one of them a moment before the other, and let that in: then there is nothing to choose.
    up = dict.fromkeys(("alpha", "beta", "gamma"), "up")
    clan.await_all(lambda node: up.items() <= clan.states(node).items())
    clan.await_all(lambda node: "contested-invite" in clan.problems(node), [alpha])
    invite = decode_token_untrusted(token).invite_id.hex()[:16]
    right, wrong = (one, other) if "one" in clan.states(alpha) else (other, one)
    if right.name not in clan.states(alpha):
        clan.ctl(alpha, "invite", "confirm", invite, right.name)
    clan.await_whole(right)
    clan.await_all(lambda node: "expelled" in clan.problems(node), [wrong])
    clan.lab.crash(wrong)
    remove(clan, right)


def test_what_a_removed_member_had_open_is_cut_at_every_node(clan: Clan) -> None:
    mallory = clan.guest("mallory")
    holder = _hold_streams(clan, mallory)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "open\n"
        clan.ctl(clan.founder, "remove", "mallory", "--yes")
        with Stopwatch() as watch:
            said, _ = holder.communicate(timeout=PATIENCE_S)
        assert said.splitlines() == ["cut", *["refused unauthorized"] * len(clan.nodes)]
        assert watch.passed_s <= CUT_S
    finally:
        holder.kill()
        holder.wait()
    clan.await_whole()
    clan.lab.crash(mallory)


def _hold_streams(clan: Clan, node: Node) -> "subprocess.Popen[str]":
    status = clan.lab.call(node, "status")
    peers = [peer for peer in clan.lab.call(node, "peers")["peers"] if peer["name"] != node.name]
    targets = [f"{peer['id']}@{peer['path']['endpoint']}" for peer in peers]
    assert len(targets) == len(clan.nodes)
    words = [sys.executable, "-m", "tests.net.stream_holder", os.fspath(node.instance.state_directory)]
    return subprocess.Popen(
        [*network.enter_words(node.pid), *words, status["clan"]["id"], *targets],
        stdout=subprocess.PIPE,
        text=True,
        env=clan.lab.environment(node) | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )


def test_secrets_and_the_discovery_secret_change_when_a_reader_is_removed(clan: Clan) -> None:
    trudy = clan.guest("trudy")
    clan.ctl(clan.founder, "secrets", "set", "db", "--for", "all", "--random", "24")
    clan.ctl(clan.founder, "secrets", "set", "wifi", "--for", "all", stdin="hunter2")
    everyone = [*clan.nodes, trudy]
    clan.await_all(lambda node: set(placed(node)) == {"db", "wifi"}, everyone)
    clan.await_all(lambda node: _discovery(node) == _discovery(clan.founder), everyone)
    before, before_discovery = placed(trudy), _discovery(trudy)
    clan.ctl(clan.founder, "remove", "trudy", "--yes")
    clan.await_all(lambda node: placed(node).get("db", before["db"]) != before["db"])
    assert len({placed(node)["db"] for node in clan.nodes}) == 1
    assert {placed(node)["wifi"] for node in clan.nodes} == {b"hunter2"}
    # It may have been replaced for a device that was removed before, and for her while that was under way.
    patience_s = PATIENCE_S + 2 * REROLL_PAUSE_S
    clan.await_all(lambda node: _discovery(node) not in (before_discovery, _discovery(trudy)), within_s=patience_s)
    clan.await_all(lambda node: _discovery(node) == _discovery(clan.founder))
    assert "clanmesh-discovery" not in placed(clan.founder)
    clan.await_all(lambda node: _exposed(clan, node) == {"wifi": 1, "db": 0})
    listed = clan.lab.ctl(clan.nodes[1], "secrets", "list").stdout
    assert "clanctl secrets rotate wifi" in listed
    clan.ctl(clan.nodes[1], "secrets", "rotate", "wifi", stdin="hunter3")
    clan.await_all(lambda node: placed(node).get("wifi") == b"hunter3")
    clan.await_all(lambda node: _exposed(clan, node) == {"wifi": 0, "db": 0})
    assert placed(trudy).get("wifi") != b"hunter3"
    clan.lab.crash(trudy)


def _discovery(node: Node) -> str:
    return str(json.loads((node.instance.state_directory / "clan.json").read_text())["discovery"])


def _exposed(clan: Clan, node: Node) -> dict[str, int]:
    return {each["name"]: len(each["exposed"]) for each in clan.lab.call(node, "secrets-list")["secrets"]}


def test_no_daemon_left_a_traceback(clan: Clan) -> None:
    for log in clan.lab.directory.glob("*/daemon.log"):
        assert "Traceback" not in log.read_text(), log.parent.name
