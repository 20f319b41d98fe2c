"""Real daemons expel one of theirs: it is out at every node, and no way that it tries leads back.

Where it matters the expelled runs `bench.stubborn`, which never hears of its own removal: what keeps it out is
what the others do, not its good manners.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import closing, suppress

import pytest

from clanctl.demo.lab import Lab, Node
from clanctl.failures import Failure
from clanmesh_protocol.records import Kind, fingerprint_slot, parse_untrusted
from clanmeshd.store import Store
from tests.net.clan_of_daemons import Clan

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root: run `sudo make test`")

STUBBORN = "bench.stubborn"
OUT_S = 3.0  # from the command to every node that can be reached


@pytest.fixture(scope="module")
def clan(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clan]:
    """Three members with an overlay; the expelled are guests."""
    with Lab(tmp_path_factory.mktemp("expulsion")) as lab:
        yield Clan(lab, "", "alpha", "beta", "gamma")


def _expel(clan: Clan, node: Node) -> None:
    """Remove a member, and wait until no other one that is reachable knows it any more."""
    clan.ctl(clan.founder, "remove", node.name, "--yes")
    clan.await_all(lambda each: node.name not in clan.states(each), within_s=OUT_S)


def _assert_out(clan: Clan, expelled: Node, address: str) -> None:
    """Nothing passes between an expelled device and any member, on any of the ways."""
    _assert_no_packet(clan, expelled, address)
    _assert_no_record(clan, expelled)


def _assert_no_packet(clan: Clan, expelled: Node, address: str) -> None:
    clan.await_all(lambda node: not clan.ping(node, address), within_s=OUT_S)  # a tunnel ends soon after
    clan.await_all(lambda node: not clan.ping(expelled, clan.address(node)), within_s=OUT_S)
    clan.await_all(lambda node: expelled.name not in clan.hosts(node), within_s=OUT_S)


def _assert_no_record(clan: Clan, expelled: Node) -> None:
    """What it publishes comes to nobody, what others publish does not come to it."""
    outside = f"by-{expelled.name}"
    with suppress(Failure):  # its own daemon refuses when it has heard of the removal
        clan.set_secret(expelled, outside)
    fresh = {f"after-{expelled.name}-{node.name}" for node in clan.nodes}
    for node in clan.nodes:
        clan.set_secret(node, f"after-{expelled.name}-{node.name}")
    clan.await_all(lambda node: fresh <= clan.secrets(node))
    assert not fresh & clan.secrets(expelled), "it still gets records"
    for node in clan.nodes:
        assert outside not in clan.secrets(node), f"{node.name} still takes records from it"
        assert expelled.name not in clan.states(node)


def _forget_all_but_the_keys(node: Node) -> None:
    state, keys = node.instance.state_directory, (node.instance.state_directory / "keys.json").read_bytes()
    shutil.rmtree(state)
    state.mkdir(mode=0o700)
    (state / "keys.json").write_bytes(keys)
    (state / "keys.json").chmod(0o600)


def _knows_of_its_removal(node: Node) -> bool:
    with closing(Store(node.instance.state_directory)) as store:
        keys, membership = store.load_keys(), store.load_membership()
        assert keys is not None
        assert membership is not None
        records = [parse_untrusted(data, membership.clan) for data in store.load_records().records]
    return (Kind.REVOCATION, fingerprint_slot(keys.node)) in {(record.kind, record.slot) for record in records}


def test_an_expelled_device_is_out_at_every_node(clan: Clan) -> None:
    expelled = clan.guest("mallory", STUBBORN)
    address = clan.address(expelled)
    clan.await_all(lambda node: clan.ping(node, address))
    clan.await_all(lambda node: clan.ping(expelled, clan.address(node)))
    _expel(clan, expelled)
    _assert_out(clan, expelled, address)
    clan.lab.crash(expelled)


def test_an_expelled_device_learns_why_nobody_answers(clan: Clan) -> None:
    expelled = clan.guest("carol")
    _expel(clan, expelled)
    clan.await_all(lambda node: "expelled" in clan.problems(node), [expelled])
    clan.lab.crash(expelled)


def test_it_stays_out_after_every_node_has_restarted(clan: Clan) -> None:
    expelled = clan.guest("trudy", STUBBORN)
    address = clan.address(expelled)
    _expel(clan, expelled)
    clan.restart(*clan.nodes, expelled)
    clan.await_whole()
    _assert_out(clan, expelled, address)
    clan.lab.crash(expelled)


@pytest.mark.parametrize(("name", "program"), [("oscar", "clanmeshd"), ("olivia", STUBBORN)])
def test_a_restored_disk_stays_out(clan: Clan, name: str, program: str) -> None:
    expelled = clan.guest(name)
    state, backup = expelled.instance.state_directory, expelled.directory / "backup"
    address = clan.address(expelled)
    clan.lab.kill(expelled)
    shutil.copytree(state, backup)
    clan.lab.start_daemon(expelled)
    _expel(clan, expelled)
    clan.lab.kill(expelled)
    shutil.rmtree(state)
    backup.rename(state)
    expelled.program = program
    assert not _knows_of_its_removal(expelled), "the backup is from before"
    clan.lab.start_daemon(expelled)
    _assert_out(clan, expelled, address)
    clan.await_whole()
    clan.lab.crash(expelled)


def test_an_invite_does_not_bring_it_back(clan: Clan) -> None:
    token = clan.token(uses=2)
    expelled = clan.start("peggy")
    clan.join(expelled, token)
    clan.await_whole(expelled)
    _expel(clan, expelled)
    clan.lab.kill(expelled)
    _forget_all_but_the_keys(expelled)
    clan.lab.start_daemon(expelled)
    for again in (token, clan.token()):
        with pytest.raises(Failure, match="removed"):
            clan.join(expelled, again)
    clan.await_whole()
    clan.lab.crash(expelled)


def test_a_used_invite_brings_nobody_in_its_place(clan: Clan) -> None:
    token = clan.token()
    expelled, other = clan.start("sybil"), clan.start("double")
    clan.join(expelled, token)
    clan.await_whole(expelled)
    _expel(clan, expelled)
    with pytest.raises(Failure, match="used"):
        clan.join(other, token)
    clan.lab.crash(expelled)
    clan.lab.crash(other)


@pytest.mark.parametrize(("away_name", "name", "knocks"), [("delta", "victor", True), ("dinah", "vera", False)])
def test_one_that_was_away_learns_of_it(clan: Clan, away_name: str, name: str, *, knocks: bool) -> None:
    """Where the expelled `knocks` at once, too, it is out within the same time; else nothing ever comes of it."""
    away, expelled = clan.guest(away_name), clan.start(name, STUBBORN)
    clan.join(expelled, clan.token())
    clan.await_whole(away, expelled)
    address = clan.address(expelled)
    clan.lab.kill(away)
    _expel(clan, expelled)
    clan.lab.partition(*([] if knocks else [[expelled]]))
    clan.lab.start_daemon(away)
    clan.await_all(lambda node: name not in clan.states(node), [away], within_s=OUT_S)
    clan.lab.heal()
    clan.await_whole(away)
    clan.await_all(lambda node: not clan.ping(node, address), [away], within_s=OUT_S)  # a tunnel ends soon after
    clan.await_all(lambda node: not clan.ping(expelled, clan.address(node)), [away], within_s=OUT_S)
    if not knocks:
        told = [event["text"] for event in clan.lab.call(away, "events", {})["events"]]
        assert f"{name} answers" not in told
    clan.lab.crash(expelled)
    _expel(clan, away)
    clan.lab.crash(away)


def test_what_it_says_beside_one_that_is_unaware_takes_no_members_place(clan: Clan) -> None:
    unaware, expelled = clan.guest("ursula"), clan.start("walter", STUBBORN)
    clan.join(expelled, clan.token())
    clan.await_whole(unaware, expelled)
    clan.set_secret(clan.founder, "key", b"of a member")
    clan.await_all(lambda node: clan.value(node, "key") == b"of a member", [expelled, unaware])
    clan.lab.partition([unaware, expelled])
    _expel(clan, expelled)
    clan.set_secret(expelled, "key", b"of the expelled")
    clan.await_all(lambda node: clan.value(node, "key") == b"of the expelled", [unaware])
    clan.lab.heal()
    clan.await_whole(unaware)
    clan.await_all(lambda node: clan.value(node, "key") == b"of a member", [*clan.nodes, unaware])
    clan.lab.crash(expelled)
    _expel(clan, unaware)
    clan.lab.crash(unaware)


def test_no_daemon_left_a_traceback(clan: Clan) -> None:
    for log in clan.lab.directory.glob("*/daemon.log"):
        assert "Traceback" not in log.read_text(), log.parent.name
