"""Real daemons: a device leaves its clan, starts anew, comes back as a new one, and is thrown out at last."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from clanctl.demo.lab import Lab, Node
from tests.clock import wait_until
from tests.net.clan_of_daemons import placed

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root: run `sudo make test`")

PATIENCE_S = 20.0
NAMES = ("desk", "nas", "phone")


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    directory = tmp_path_factory.mktemp("leaving")
    (directory / "plain.toml").write_text('overlay = "none"\n')
    with Lab(directory) as made:
        for name in NAMES:
            made.start_node(name, "--config", str(directory / "plain.toml"))
        made.call(made.nodes["desk"], "init", {"name": "family", "node_name": "desk"})
        for name in NAMES[1:]:
            _join(made, made.nodes[name])
        assert wait_until(lambda: _all_up(made), PATIENCE_S)
        yield made


def _join(lab: Lab, node: Node) -> None:
    token = lab.call(lab.nodes["desk"], "invite", {})["token"]
    lab.call(node, "join", {"token": token, "name": node.name})


def _all_up(lab: Lab) -> bool:
    return all(_up(lab, name) == set(NAMES) for name in NAMES)


def _up(lab: Lab, name: str) -> set[str]:
    peers = lab.call(lab.nodes[name], "peers")["peers"]
    return {peer["name"] for peer in peers if peer["state"] == "up"}


def test_a_device_leaves_and_comes_back_as_a_new_one(lab: Lab) -> None:
    desk, phone = lab.nodes["desk"], lab.nodes["phone"]
    assert lab.ctl(desk, "secrets", "set", "wifi", "--for", "all", stdin="value").returncode == 0
    assert wait_until(lambda: set(placed(phone)) == {"wifi"}, PATIENCE_S)
    before = lab.call(desk, "events")["newest"]
    old = _id_of(lab, "phone")
    answer = lab.call(phone, "leave", {})
    assert (answer["told"], answer["members"]) == (2, 2)
    assert wait_until(lambda: _up(lab, "desk") == _up(lab, "nas") == {"desk", "nas"}, PATIENCE_S)
    assert placed(phone) == {}
    told: list[dict[str, Any]] = lab.call(desk, "events", {"after": before})["events"]
    assert "member-left" in [event["kind"] for event in told]
    lab.kill(phone)
    lab.start_daemon(phone)
    assert _state_of(phone) == {"keys.json", "lock", Path(answer["kept"]).name}
    _join(lab, phone)
    assert wait_until(lambda: _all_up(lab), PATIENCE_S)
    assert _id_of(lab, "phone") != old


def test_one_that_was_thrown_out_knows_it_and_can_leave(lab: Lab) -> None:
    desk, phone = lab.nodes["desk"], lab.nodes["phone"]
    lab.call(desk, "remove", {"node": "phone"})

    def expelled() -> bool:
        return "expelled" in [problem["kind"] for problem in lab.call(phone, "status")["problems"]]

    assert wait_until(expelled, PATIENCE_S)
    assert lab.call(phone, "leave", {})["told"] == 0
    assert lab.call(desk, "admin-list")["pending"] == 0


def test_no_daemon_left_a_traceback(lab: Lab) -> None:
    for node in lab.nodes.values():
        assert "Traceback" not in node.log.read_text()


def _id_of(lab: Lab, name: str) -> str:
    return next(str(peer["id"]) for peer in lab.call(lab.nodes[name], "peers")["peers"] if peer["name"] == name)


def _state_of(node: Node) -> set[str]:
    return {path.name for path in node.instance.state_directory.iterdir()}
