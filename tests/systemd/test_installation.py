"""`make install` and `make uninstall` on a booted machine: what they leave, twice, by halves, without a start."""

import os
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from tests.systemd.container import Container

MAKE = ("make", "--no-print-directory", "-C", "/root/clanmesh")
INSTALL = (*MAKE, "install", "WHEELS=/wheels")
UNINSTALL = (*MAKE, "uninstall")

# What changes on any machine that runs: the journal, clocks, what account tools keep beside the account files.
_RESTLESS = ("var/log", "var/lib/systemd", "var/tmp", "tmp", "root", "run", "dev", "proc", "sys")
_BACKUPS = {
    "etc/.pwd.lock",
    "etc/group-",
    "etc/gshadow-",
    "etc/passwd-",
    "etc/shadow-",
    "etc/.updated",
    "var/.updated",
}


@pytest.fixture(scope="module")
def machine(boot: Callable[[], Container]) -> Container:
    """A machine without clanmesh."""
    return boot()


@pytest.fixture
def bare(machine: Container) -> Container:
    """The same, whatever the test before has left."""
    machine.run(*UNINSTALL)
    machine.run("rm", "-rf", "/var/lib/clanmesh")
    return machine


def tree(container: Container) -> dict[str, str]:
    """What is in the container's own folders: each path with its kind, mode, owner and content or target."""
    found = {}
    for top in (container.root, container.local):
        for directory, folders, files in os.walk(top):
            here = Path(directory).relative_to(top)
            folders[:] = [name for name in folders if str(here / name) not in _RESTLESS or top is container.local]
            for name in [*folders, *files]:
                label = f"{'/usr/local/' if top is container.local else '/'}{here / name}"
                if str(here / name) not in _BACKUPS:
                    with suppress(FileNotFoundError):  # a program that runs has just taken it away
                        found[label] = _describe(Path(directory, name))
    return found


def _describe(path: Path) -> str:
    about = path.lstat()
    what = ""
    if path.is_symlink():
        what = os.fspath(path.readlink())
    elif path.is_file():
        what = path.read_bytes().hex()
    return f"{stat.filemode(about.st_mode)} {about.st_uid}:{about.st_gid} {what}"


def test_uninstall_leaves_nothing_but_the_state(bare: Container) -> None:
    """The whole tree before and after is compared: every file, its mode, its owner, its content."""
    before = tree(bare)
    bare.run(*INSTALL)
    installed = tree(bare)
    for path in ("/usr/local/bin/clanctl", "/usr/local/bin/git-remote-clan", "/opt/clanmesh/current"):
        assert path in installed
    assert not [path for path in installed if path.startswith("/usr/local/bin/.")]
    assert bare.run(*UNINSTALL).strip().endswith("kept: /var/lib/clanmesh, keys and all")
    after = {path: about for path, about in tree(bare).items() if not path.startswith("/var/lib/clanmesh")}
    assert after == before
    assert "clanmesh" not in bare.run("systemctl", "list-units", "--all", "--no-pager")
    assert bare.attempt("test", "-e", "/run/clanmesh")[0] != 0
    assert bare.attempt("getent", "group", "clanmesh")[0] != 0


def test_installing_again_finds_the_state_and_keeps_the_release_before(bare: Container) -> None:
    """A new release takes over; what still runs the one before keeps its files; older ones go."""
    for _ in range(3):
        bare.run(*INSTALL)
    assert bare.run("readlink", "/opt/clanmesh/current").strip() == "/opt/clanmesh/releases/3"
    assert bare.run("ls", "/opt/clanmesh/releases").split() == ["2", "3"]
    pid = bare.show("clanmeshd.service", "MainPID")["MainPID"]
    assert "/opt/clanmesh/releases/3/" in bare.run("cat", f"/proc/{pid}/cmdline").replace("\0", " ")


def test_it_starts_nothing_when_told_so(bare: Container) -> None:
    """NO_START=1 leaves the unit there, neither started nor enabled."""
    said = bare.run(*INSTALL, "NO_START=1")
    assert "systemctl enable --now clanmeshd.service" in said
    state = bare.show("clanmeshd.service", "ActiveState", "UnitFileState")
    assert state == {"ActiveState": "inactive", "UnitFileState": "disabled"}
    assert bare.attempt("clanctl", "status")[0] == 3


def test_uninstall_works_on_half_an_installation(bare: Container) -> None:
    """Whatever is missing, the rest goes; on nothing at all it is content as well."""
    before = tree(bare)
    bare.run(*INSTALL)
    bare.run("rm", "/usr/local/lib/systemd/system/clanmeshd.service", "/usr/local/bin/clanctl")
    bare.run("rm", "-r", "/opt/clanmesh/releases")
    bare.run("groupdel", "clanmesh")
    bare.run(*UNINSTALL)
    bare.run(*UNINSTALL)
    bare.run("rm", "-rf", "/var/lib/clanmesh")
    assert tree(bare) == before


def test_a_failed_installation_leaves_the_old_release_running(bare: Container) -> None:
    """Without packages there is no new release, one line says so, and nothing was changed."""
    bare.run(*INSTALL)
    before = tree(bare)
    bare.run("sh", "-c", "mkdir -p /root/few && cp /wheels/pip-*.whl /root/few")
    for wheels, complaint in (
        ("/root/few", "install: the packages of requirements.lock could not be had"),
        ("/nowhere", "install: there is no folder /nowhere"),
    ):
        status, said = bare.attempt(*MAKE, "install", f"WHEELS={wheels}")
        assert status != 0
        assert complaint in said
        assert tree(bare) == before
    assert bare.show("clanmeshd.service", "ActiveState")["ActiveState"] == "active"


def test_another_program_of_the_same_name_stays(bare: Container) -> None:
    """Only links into our own folder are taken away."""
    bare.run("sh", "-c", "echo mine > /usr/local/bin/clanctl")
    bare.run(*UNINSTALL)
    assert bare.run("cat", "/usr/local/bin/clanctl") == "mine\n"
    bare.run("rm", "/usr/local/bin/clanctl")


def test_it_is_for_root(bare: Container) -> None:
    """Anybody else is told so in one line."""
    bare.run("cp", "-r", "/root/clanmesh", "/opt/copy")
    try:
        unprivileged = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
        status, said = bare.attempt(*unprivileged, "make", "--no-print-directory", "-C", "/opt/copy", "install")
        assert status != 0
        assert "sudo make install" in said
        assert "Traceback" not in said
    finally:
        bare.run("rm", "-r", "/opt/copy")
