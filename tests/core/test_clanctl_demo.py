"""The demonstration's plans and words; the machines themselves are tried in the net tier."""

import ipaddress
import json
import os
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest

from clanctl.commands.demo import Teller
from clanctl.demo import network, scripts
from clanctl.demo.__main__ import enter_script
from clanctl.demo.network import Place
from clanctl.demo.processes import LabError, child_of, hold, release, wait_until
from clanctl.demo.sandbox import children, outer_pids, read_setting, refusal_remedy
from clanctl.failures import EXIT_FAILED, Failure
from clanctl.starter import FILES, write_starter
from clanmesh_protocol.names import is_label

SUMMARY: dict[str, Any] = {
    "nodes": 2,
    "steps": [{"name": "one", "seconds": 1.25}],
    "formed_s": 3.2,
    "push_s": 1.1,
    "build_s": 0.1,
    "peers": {"clan": {"id": "0", "name": "family"}, "self": "laptop", "peers": []},
}


def test_names_are_labels_and_differ() -> None:
    names = network.names(network.MACHINES_MAX)
    assert len(set(names)) == network.MACHINES_MAX
    assert all(map(is_label, names))


def test_each_machine_has_addresses_of_its_own_on_one_network() -> None:
    places = [Place(number, f"n{number}") for number in range(1, network.MACHINES_MAX + 1)]
    for kind, whole in (("ipv4", network.IPV4_NETWORK), ("ipv6", network.IPV6_NETWORK)):
        interfaces = [ipaddress.ip_interface(getattr(place, kind)) for place in places]
        assert len({interface.ip for interface in interfaces}) == len(places)
        assert {interface.network for interface in interfaces} == {whole}
    assert max(len(place.port) for place in places) <= 15  # the kernel's limit of an interface's name


def test_a_cable_has_one_end_at_the_switch_and_one_at_the_machine() -> None:
    batch = network.cable_batch(Place(3, "nas"), 4711)
    assert "peer name eth0 netns 4711" in batch
    assert f"port3 master {network.BRIDGE}" in batch
    assert network.link_batch(Place(3, "nas"), up=False) == "link set port3 down\n"


def test_every_ordered_pair_is_pinged() -> None:
    assert network.pairs(3) == [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)]


def test_only_strangers_to_root_take_a_user_namespace() -> None:
    assert "--user" not in network.unshare_words(mapped_root=False)
    assert network.unshare_words(mapped_root=True)[-2:] == ["--user", "--map-root-user"]
    assert "--kill-child" in network.unshare_words(mapped_root=False)


@pytest.mark.parametrize(
    ("user", "settings", "remedy"),
    [
        (0, {}, "CAP_SYS_ADMIN"),
        (1000, {"kernel/unprivileged_userns_clone": "0"}, "sysctl kernel.unprivileged_userns_clone=1"),
        (
            1000,
            {"kernel/apparmor_restrict_unprivileged_userns": "1", "kernel/unprivileged_userns_clone": "1"},
            "sysctl kernel.apparmor_restrict_unprivileged_userns=0",
        ),
        (1000, {"user/max_user_namespaces": "0"}, "sysctl user.max_user_namespaces="),
        (1000, {}, "run the demo by sudo"),
    ],
)
def test_a_refusal_of_the_system_has_its_remedy(user: int, settings: dict[str, str], remedy: str) -> None:
    assert remedy in refusal_remedy(user, settings.get)


def test_settings_that_this_kernel_does_not_have() -> None:
    assert read_setting("kernel/no_such_setting") is None
    assert read_setting("kernel/ostype") == "Linux"


# --- processes -----------------------------------------------------------------------------------------


def test_a_holder_is_ready_when_it_says_so_and_ends_when_released() -> None:
    holder = hold(["sh", "-c", "echo ready; exec cat"])
    assert Path(f"/proc/{holder.pid}").exists()
    release(holder)
    assert holder.returncode is not None


def test_a_holder_ends_with_its_pipe() -> None:
    holder = hold(["sh", "-c", "echo ready; exec cat"])
    assert holder.stdin is not None
    holder.stdin.close()
    assert holder.wait(10) == 0
    release(holder)


def test_a_holder_that_cannot_says_why() -> None:
    with pytest.raises(LabError, match="Operation not permitted"):
        hold(["sh", "-c", "echo first >&2; echo Operation not permitted >&2; exit 1"])


def test_a_child_is_found() -> None:
    holder = hold(["sh", "-c", "sleep 100 & echo ready; cat; kill $!"])
    child = child_of(holder.pid)
    assert child in children(holder.pid)
    assert wait_until(lambda: Path(f"/proc/{child}/cmdline").read_bytes().startswith(b"sleep"), 10.0)
    os.kill(child, 9)
    release(holder)


def test_own_numbers_are_found_where_no_namespace_is_between() -> None:
    assert outer_pids(os.getpid(), {"self": os.getpid()}) == {"self": os.getpid()}
    assert outer_pids(os.getpid(), {"init": 1}) == {}


def test_waiting_is_bounded() -> None:
    assert wait_until(lambda: True, 0)
    assert not wait_until(lambda: False, 0)


# --- what people see -----------------------------------------------------------------------------------


def test_each_step_is_told_with_its_time(capsys: pytest.CaptureFixture[str]) -> None:
    teller = Teller(as_json=False)
    teller.hear({"begin": "laptop founds the clan"})
    teller.hear({"step": {"name": "laptop founds the clan", "seconds": 0.456}})
    teller.hear({"summary": SUMMARY})
    assert teller.close("") == 0
    out = capsys.readouterr().out
    assert "   0.46 s  laptop founds the clan" in out
    assert "formed and pinging after 3.2 s" in out
    assert "$ clanctl peers" in out


def test_json_is_the_summary_alone(capsys: pytest.CaptureFixture[str]) -> None:
    teller = Teller(as_json=True)
    teller.hear({"begin": "one"})
    teller.hear({"step": {"name": "one", "seconds": 1}})
    teller.hear({"summary": SUMMARY})
    assert json.loads(capsys.readouterr().out) == SUMMARY


def test_a_failure_names_its_step_and_shows_the_logs(capsys: pytest.CaptureFixture[str]) -> None:
    teller = Teller(as_json=False)
    teller.hear({"failed": {"step": "nas joins", "why": "nobody answered", "logs": {"nas": "last\x1b words"}}})
    with pytest.raises(Failure, match="at 'nas joins': nobody answered") as caught:
        teller.close("")
    assert caught.value.status == EXIT_FAILED
    assert "last words" in capsys.readouterr().err


def test_an_end_without_a_word_is_a_failure(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(Failure, match="ended without a word"):
        Teller(as_json=False).close("Traceback: something")
    assert "Traceback: something" in capsys.readouterr().err


# --- the scripts that are pushed -----------------------------------------------------------------------


@pytest.mark.parametrize(("greeting", "healthy"), [(scripts.GOOD, True), (scripts.BAD, False)])
def test_the_demonstrations_configuration_does_what_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, greeting: str, healthy: bool
) -> None:
    monkeypatch.setattr(scripts, "TRACES", str(tmp_path))
    texts = {
        name: text.replace("/run/clanmesh-demo", str(tmp_path / "traces"))
        for name, text in scripts.EXECUTABLES.items()
    }
    monkeypatch.setattr(scripts, "EXECUTABLES", texts)
    scripts.write(tmp_path, greeting)
    env = {**os.environ, "CLAN_PHASE": "test"}
    for name in ("build", "activate"):
        subprocess.run([f"./{name}"], cwd=tmp_path, env=env, check=True)
    assert (subprocess.run(["./health"], cwd=tmp_path, env=env, check=False).returncode == 0) is healthy
    assert (tmp_path / "traces" / "phases").read_text() == f"test {greeting}\n"
    begin, end = map(float, (tmp_path / "traces" / "build").read_text().split())
    assert begin <= end


def test_the_starter_is_written_only_into_an_empty_tree(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    assert write_starter(tmp_path) == list(FILES)
    table = tomllib.loads((tmp_path / "clan.toml").read_text())["rollout"]
    assert table["driver"] == "command"
    env = {**os.environ, "CLAN_NODE": "nas", "CLAN_PHASE": "test", "CLAN_COMMIT": "0" * 40}
    for key in ("build", "activate", "health"):
        subprocess.run(table[key], cwd=tmp_path, env=env, check=True, capture_output=True)
    (tmp_path / "health").write_text("mine")
    assert write_starter(tmp_path) == []
    assert (tmp_path / "health").read_text() == "mine"


def test_entering_quotes_what_it_must(tmp_path: Path) -> None:
    home = tmp_path / "it's"
    (home / "home").mkdir(parents=True)
    environment = {"HOME": "/a b", "PATH": os.environ["PATH"], "PYTHONPATH": "x:y", "GIT_CONFIG_NOSYSTEM": "1"}
    script = tmp_path / "enter"
    script.write_text(enter_script({**environment, "GIT_AUTHOR_NAME": "O'Neil"}, home))
    words = ["sh", str(script), "sh", "-c", 'echo "$HOME|$GIT_AUTHOR_NAME|$PWD"']
    finished = subprocess.run(words, capture_output=True, encoding="utf-8", check=True)
    assert finished.stdout == f"/a b|O'Neil|{home}/home\n"
