"""What prepares a checkout: when an environment is good, which packages apt would bring, no service started."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.house.source import ROOT
from tools import debian, virtual
from tools.console import Impossible
from tools.virtual import Environment, Lock

SIMULATED = """NOTE: This is only a simulation!
Inst libxtables12 (1.8.9-2 Debian:12.11/stable [amd64])
Inst libc6 [2.36-9] (2.36-10 Debian:12.11/stable [amd64]) []
Inst nftables (1.0.6-2+deb12u2 Debian:12.11/stable [amd64])
Conf libxtables12 (1.8.9-2 Debian:12.11/stable [amd64])
"""


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    """A small environment, with nothing in it."""
    made = Environment(tmp_path / "venv", ROOT, tmp_path / "cache")
    made.make()
    return made


def test_an_environment_runs_where_it_was_made_and_nowhere_else(environment: Environment) -> None:
    """Moved, or made by another interpreter, it is made anew."""
    assert environment.runs()
    moved = environment.path.with_name("moved")
    environment.path.rename(moved)
    assert not environment.runs()
    assert not Environment(moved, ROOT, environment.cache).runs()


def test_an_environment_whose_interpreter_is_gone_does_not_run(environment: Environment) -> None:
    """As after an upgrade of the system's Python."""
    environment.python.unlink()
    environment.python.symlink_to("/nonexistent/python3")
    assert not environment.runs()


def test_an_interrupted_environment_does_not_count(environment: Environment) -> None:
    """The stamp is what says that it is whole."""
    (environment.path / virtual.STAMP).write_text('{"made": ')
    assert not environment.runs()


def test_a_changed_lock_is_noticed(environment: Environment, tmp_path: Path) -> None:
    """By content; a lock that was never installed is not outdated but missing."""
    lock = Lock(tmp_path / "some.lock")
    lock.path.write_text("# nothing\n")
    assert not environment.has(lock)
    assert not environment.outdated(lock)
    environment.install([lock])
    assert environment.has(lock)
    lock.path.write_text("# nothing new\n")
    assert environment.outdated(lock)


def test_the_checkouts_commands_run(environment: Environment) -> None:
    """They find the checkout, wherever they are called from. (Packages come from this process's environment.)"""
    environment.link_project()
    paths = {name: str(Path(module.__file__).parent.parent) for name, module in _libraries().items()}
    finished = subprocess.run(
        [environment.path / "bin" / "clanctl", "--help"],
        cwd="/",
        env={"PYTHONPATH": ":".join(sorted(set(paths.values())))},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    assert "Usage: clanctl" in finished.stdout


def _libraries() -> dict[str, "os.PathLike[str]"]:
    import click
    import msgpack
    import nacl

    return {"click": click, "msgpack": msgpack, "nacl": nacl}  # type: ignore[dict-item]


def test_a_copy_of_the_project_is_whole(environment: Environment) -> None:
    """It knows its version, and needs the checkout no more."""
    environment.copy_project()
    site = environment.site_packages()
    assert not list(site.glob("*.pth"))
    assert (site / "clanmeshd" / "daemon.py").read_bytes() == (ROOT / "clanmeshd" / "daemon.py").read_bytes()
    asked = (
        "from importlib.metadata import version; from clanmesh_protocol.version import version_text; "
        "print(version('clanmesh'), version_text())"
    )
    said = subprocess.run(
        [environment.python, "-I", "-c", asked], capture_output=True, encoding="utf-8", check=True
    )
    assert said.stdout.split() == ["0.1.0", "0.1.0"]


def test_a_long_path_does_not_break_the_commands(tmp_path: Path) -> None:
    """Kernels cut the first line of a script; blanks split it."""
    deep = tmp_path / "a folder" / ("d" * 100)
    deep.mkdir(parents=True)
    interpreter = deep / "python"
    interpreter.symlink_to(sys.executable)
    script = tmp_path / "script"
    script.write_text(f"{virtual._shebang(interpreter)}\nprint('ran')\n")
    script.chmod(0o755)
    assert subprocess.run([script], capture_output=True, encoding="utf-8", check=True).stdout == "ran\n"


def test_only_packages_that_are_new_are_unpacked() -> None:
    """One that would replace an installed package (a libc!) is left out: its old self is there and fits."""
    assert debian._WILL_INSTALL.findall(SIMULATED) == ["libxtables12", "nftables"]


@pytest.mark.parametrize("before", [None, "#!/bin/sh\nexit 0\n"])
def test_services_are_kept_from_starting_for_the_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: str | None
) -> None:
    """The policy is there while apt works, and afterwards it is what it was, whatever happened."""
    policy = tmp_path / "policy-rc.d"
    monkeypatch.setattr(debian, "POLICY", policy)
    if before is not None:
        policy.write_text(before)
        policy.chmod(0o744)

    def interrupted() -> None:
        with debian._no_service_starts():
            assert subprocess.run([policy], check=False).returncode == 101
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert (policy.read_text() if policy.exists() else None) == before
    assert before is None or policy.stat().st_mode & 0o777 == 0o744


def test_a_policy_that_a_killed_run_left_is_ours_to_remove(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise no package would ever start a service on that machine again."""
    policy = tmp_path / "policy-rc.d"
    monkeypatch.setattr(debian, "POLICY", policy)
    policy.write_text(debian.POLICY_TEXT)
    with debian._no_service_starts():
        pass
    assert not policy.exists()


def test_without_apt_it_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line, with the package's name."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Impossible, match="missing: wireguard-go; there is no apt here"):
        debian.unpack(["wireguard-go"], tmp_path / "target", tmp_path / "cache")


def test_what_was_unpacked_comes_after_the_systems_own(tmp_path: Path) -> None:
    """The run wrapper puts our environment first and unpacked programs last."""
    tools = tmp_path / ".cache" / "tools"
    (tools / "usr/sbin").mkdir(parents=True)
    (tools / "usr/lib/x86_64-linux-gnu").mkdir(parents=True)
    (tmp_path / "tools").mkdir()
    wrapper = tmp_path / "tools" / "env"
    wrapper.write_bytes((ROOT / "tools" / "env").read_bytes())
    wrapper.chmod(0o755)
    said = subprocess.run(
        [wrapper, "sh", "-c", 'echo "$PATH"; echo "$LD_LIBRARY_PATH"'],
        env={"PATH": "/usr/bin:/bin"},
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    path, libraries = said.stdout.splitlines()
    assert path.startswith(f"{tmp_path}/.venv/bin:/usr/bin:/bin:")
    assert path.endswith(f":{tools}/usr/sbin")
    assert libraries == f"{tools}/usr/lib/x86_64-linux-gnu"
