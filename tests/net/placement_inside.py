"""Placement on a real tmpfs: run by `test_placement`, inside a mount namespace of its own."""

import fcntl
import grp
import json
import os
import pwd
import random
import signal
import stat
import subprocess
import sys
import time
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from clanmesh_protocol.keys import ClanId, RecordId, exchange_public
from clanmesh_protocol.records import Secret
from clanmeshd.core.audience import EVERYONE
from clanmeshd.core.effects import SetSecrets, WantedSecret
from clanmeshd.secrets import place as place_module
from clanmeshd.secrets import placement
from clanmeshd.secrets.place import PlacementError, place
from clanmeshd.secrets.sealing import seal
from tests.core.authors import Author
from tests.net.test_placement import PROGRAM


@pytest.fixture
def runtime(tmp_path: Path) -> Iterator[Path]:
    """A runtime directory on a tmpfs of its own."""
    directory = tmp_path / "run"
    directory.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=0755", "test", directory], check=True)
    yield directory
    subprocess.run(["umount", "-l", directory], check=True)


def file(
    name: str, value: bytes, owner: str = "root", group: str = "root", mode: int = 0o400
) -> dict[str, object]:
    return {"name": name, "owner": owner, "group": group, "mode": mode, "value_b64": b64encode(value).decode()}


def request(directory: Path, generation: int, *files: dict[str, object], keep: tuple[str, ...] = ()) -> bytes:
    return json.dumps(
        {"directory": str(directory), "generation": generation, "files": files, "keep": keep}
    ).encode()


def run(
    directory: Path, generation: int, *files: dict[str, object], keep: tuple[str, ...] = ()
) -> tuple[int, str]:
    data = request(directory, generation, *files, keep=keep)
    finished = subprocess.run(PROGRAM, input=data, capture_output=True, timeout=20, check=False)
    assert finished.stdout == b""
    return finished.returncode, finished.stderr.decode()


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (directory / "secrets").iterdir()}


def generations(directory: Path) -> set[str]:
    return {path.name for path in (directory / "secrets.d").iterdir()}


# --- the process ---------------------------------------------------------------------------------------


def test_files_get_their_owner_and_mode(runtime: Path) -> None:
    assert run(runtime, 4, file("db", b"x", "daemon", "adm", 0o440), file("tls.key", b"\0" * 99)) == (0, "")
    about = (runtime / "secrets" / "db").stat()
    assert (about.st_uid, about.st_gid) == (pwd.getpwnam("daemon").pw_uid, grp.getgrnam("adm").gr_gid)
    assert stat.S_IMODE(about.st_mode) == 0o440
    assert contents(runtime) == {"db": b"x", "tls.key": b"\0" * 99}
    assert os.readlink(runtime / "secrets") == "secrets.d/4"
    for directory in (runtime / "secrets.d", runtime / "secrets.d" / "4"):
        assert stat.S_IMODE(directory.stat().st_mode) == 0o751


def test_a_new_set_replaces_the_old_one_whole(runtime: Path) -> None:
    run(runtime, 1, file("a", b"1"), file("b", b"1"))
    run(runtime, 2, file("b", b"2"))
    assert contents(runtime) == {"b": b"2"}
    assert generations(runtime) == {"2"}


def test_the_same_set_again_changes_nothing(runtime: Path) -> None:
    run(runtime, 1, file("a", b"1"))
    before = (runtime / "secrets" / "a").stat()
    assert run(runtime, 1, file("a", b"1")) == (0, "")
    assert (runtime / "secrets" / "a").stat() == before
    run(runtime, 1, file("a", b"1", mode=0o440))
    assert stat.S_IMODE((runtime / "secrets" / "a").stat().st_mode) == 0o440


def test_generations_only_grow(runtime: Path) -> None:
    run(runtime, 7, file("a", b"1"))
    run(runtime, 7, file("a", b"2"))
    assert generations(runtime) == {"8"}
    run(runtime, 2, file("a", b"3"))
    assert generations(runtime) == {"9"}
    assert contents(runtime) == {"a": b"3"}


def test_no_secrets_are_a_set_too(runtime: Path) -> None:
    run(runtime, 1, file("a", b"1"))
    assert run(runtime, 2) == (0, "")
    assert contents(runtime) == {}


@pytest.mark.parametrize(
    ("owner", "group", "what"), [("nobodyhere", "root", "user"), ("root", "nogrouphere", "group")]
)
def test_an_unknown_account_is_named_and_holds_up_nothing_else(
    runtime: Path, owner: str, group: str, what: str
) -> None:
    run(runtime, 1, file("db", b"old"), file("web", b"old"))
    status, line = run(runtime, 2, file("db", b"new", owner, group), file("web", b"new"))
    assert status == placement.EXIT_PARTLY
    remedy = f"make one, or set the secret with another --{'owner' if what == 'user' else 'group'}"
    assert line == f"secret db: this machine has no {what} {owner if what == 'user' else group}; {remedy}\n"
    assert contents(runtime) == {"db": b"old", "web": b"new"}, "the old value is better than none"


def test_kept_files_are_carried_over_as_they_are(runtime: Path) -> None:
    run(runtime, 1, file("db", b"old", "daemon", "adm", 0o640), file("web", b"old"))
    before = (runtime / "secrets" / "db").stat()
    assert run(runtime, 2, file("web", b"new"), keep=("db", "never-there")) == (0, "")
    about = (runtime / "secrets" / "db").stat()
    assert (about.st_uid, about.st_gid, about.st_mode) == (before.st_uid, before.st_gid, before.st_mode)
    assert contents(runtime) == {"db": b"old", "web": b"new"}


def test_what_a_killed_run_left_is_cleaned_up(runtime: Path) -> None:
    run(runtime, 1, file("a", b"1"))
    half = runtime / "secrets.d" / "2"
    half.mkdir()
    (half / "a").write_bytes(b"half")
    (runtime / ".secrets.new").symlink_to("secrets.d/2")
    assert run(runtime, 2, file("a", b"2")) == (0, "")
    assert contents(runtime) == {"a": b"2"}
    assert generations(runtime) == {"2"}
    assert not (runtime / ".secrets.new").is_symlink()


def test_at_every_moment_of_a_killed_run_a_whole_set_is_there(runtime: Path) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    rng = random.Random(seed)

    def files(number: int) -> list[dict[str, object]]:
        return [file(f"s{place:03d}", f"{number}".encode() * 500) for place in range(150)]

    assert run(runtime, 1, *files(1))[0] == 0
    for number in range(2, 27):
        process = subprocess.Popen(PROGRAM, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)
        assert process.stdin is not None
        process.stdin.write(request(runtime, number, *files(number)))
        process.stdin.close()
        deadline = time.monotonic() + rng.uniform(0.0, 0.06)
        while time.monotonic() < deadline and process.poll() is None:
            found = contents_of_open_directory(runtime)
            assert len(found) in (0, 150), "never half a set"
            assert len(set(found.values())) <= 1, "never a mixture of two"
        process.send_signal(signal.SIGKILL)
        process.wait()
        now = contents(runtime)
        assert len(now) == 150
        assert len(set(now.values())) == 1
    assert run(runtime, 99, *files(99))[0] == 0
    assert generations(runtime) == {"99"}


def contents_of_open_directory(directory: Path) -> dict[str, bytes]:
    """What a reader sees that resolves the link once; nothing when the generation was pruned under its hands."""
    link = directory / "secrets"
    folder = directory / link.readlink()
    try:
        found = {path.name: path.read_bytes() for path in list(folder.iterdir())}
    except FileNotFoundError:
        return {}
    return found if directory / link.readlink() == folder else {}  # it may have been half gone when it was listed


def test_a_full_file_system_leaves_the_old_set(tmp_path: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "test", tmp_path], check=True)
    run(tmp_path, 1, file("a", b"1"))
    status, line = run(tmp_path, 2, file("a", b"2"), file("b", b"2" * 500_000))
    assert status == placement.EXIT_NOTHING
    assert "No space left" in line
    assert line.count("\n") == 1
    assert contents(tmp_path) == {"a": b"1"}
    assert generations(tmp_path) == {"1"}
    subprocess.run(["umount", "-l", tmp_path], check=True)


@pytest.mark.parametrize("name", ["", ".hidden", "../up", "a/b", "a\0b"])
def test_a_name_that_is_no_file_name_is_refused(runtime: Path, name: str) -> None:
    status, line = run(runtime, 1, file(name, b"1"))
    assert status == placement.EXIT_NOTHING
    assert "cannot be a file name" in line
    assert not (runtime / "secrets").exists()


@pytest.mark.parametrize("what", ["secrets", "secrets.d"])
def test_something_else_in_the_way_is_named_and_left_alone(runtime: Path, what: str) -> None:
    if what == "secrets":
        (runtime / "secrets").mkdir()
    else:
        (runtime / "secrets.d").symlink_to("/etc")
    status, line = run(runtime, 1, file("a", b"1"))
    assert status == placement.EXIT_NOTHING
    assert str(runtime / what) in line
    assert (runtime / what).exists()


# --- memory, not disk ----------------------------------------------------------------------------------


def test_on_a_disk_a_tmpfs_is_mounted_once(tmp_path: Path) -> None:
    if placement._file_system(str(tmp_path))[0] in placement.MEMORY_FILE_SYSTEMS:
        pytest.skip("the test directory is in memory already")
    run(tmp_path, 1, file("a", b"1"))
    run(tmp_path, 2, file("a", b"2"))
    root = tmp_path / "secrets.d"
    kind, options = placement._file_system(str(root))
    assert kind == "tmpfs"
    assert Path("/proc/self/mountinfo").read_text().count(str(root)) == 1
    assert contents(tmp_path) == {"a": b"2"}
    assert "noswap" in options or not kernel_knows_noswap(tmp_path)
    subprocess.run(["umount", "-l", root], check=True)


def kernel_knows_noswap(directory: Path) -> bool:
    probe = directory / "probe"
    probe.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "noswap", "t", probe], capture_output=True, check=False
    ).returncode:
        return False
    subprocess.run(["umount", probe], check=True)
    return True


def test_on_a_disk_without_the_right_to_mount_it_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    for parent in tmp_path.parents:
        parent.chmod(parent.stat().st_mode | 0o011)
    finished = subprocess.run(
        ["setpriv", "--bounding-set=-sys_admin", "--inh-caps=-all", *PROGRAM],
        input=request(tmp_path, 1, file("a", b"1")),
        capture_output=True,
        timeout=20,
        check=False,
    )
    assert finished.returncode == placement.EXIT_NOTHING
    line = finished.stderr.decode()
    assert "secrets must never reach a disk" in line
    assert line.count("\n") == 1
    assert list((tmp_path / "secrets.d").iterdir()) == []


# The program is read before it becomes somebody else: a checkout under /root can be read by nobody else.
AS_DAEMON = """
import os, pwd, sys, types
module = types.ModuleType("placement")
sys.modules["placement"] = module
exec(compile(open(sys.argv[1]).read(), sys.argv[1], "exec"), module.__dict__)
user = pwd.getpwnam("daemon")
os.setgroups([])
os.setgid(user.pw_gid)
os.setuid(user.pw_uid)
sys.exit(module.main())
"""


def test_another_user_places_its_own_and_names_what_it_cannot(runtime: Path) -> None:
    runtime.chmod(0o777)
    for parent in runtime.parents:
        parent.chmod(parent.stat().st_mode | 0o011)
    finished = subprocess.run(
        [sys.executable, "-I", "-S", "-c", AS_DAEMON, placement.__file__],
        input=request(runtime, 1, file("mine", b"1", "daemon", "daemon"), file("roots", b"1")),
        capture_output=True,
        timeout=20,
        check=False,
    )
    assert finished.returncode == placement.EXIT_PARTLY
    assert finished.stderr.decode().startswith("secret roots: clanmeshd may not give it to root:root")
    assert contents(runtime) == {"mine": b"1"}


# --- the daemon's side ---------------------------------------------------------------------------------

CLAN = ClanId(bytes(range(16)))
NAS, PHONE = Author("nas", 1), Author("phone", 2)


def sealed(name: str, value: bytes, reader: Author = NAS, owner: str = "root") -> WantedSecret:
    keys = {reader.node: exchange_public(reader.keys.sealing_private)}
    secret: Secret = seal(CLAN, NAS.node, name, 1, None, value, owner, "root", 0o400, EVERYONE, keys, os.urandom)
    return WantedSecret(name, NAS.node, RecordId(bytes(32)), secret)


async def test_the_daemon_opens_and_places(runtime: Path) -> None:
    wanted = SetSecrets(CLAN, (sealed("a", b"1"), sealed("b", bytes(32_768))), 2)
    await place(runtime, wanted, NAS.keys)
    assert contents(runtime) == {"a": b"1", "b": bytes(32_768)}
    await place(runtime, SetSecrets(CLAN, (), 0), NAS.keys)
    assert contents(runtime) == {}


async def test_what_does_not_open_is_named_and_the_rest_is_placed(runtime: Path) -> None:
    await place(runtime, SetSecrets(CLAN, (sealed("a", b"1"), sealed("b", b"1")), 2), NAS.keys)
    with pytest.raises(PlacementError, match=r"^secret a: it is not sealed to this device$"):
        await place(runtime, SetSecrets(CLAN, (sealed("a", b"2", PHONE), sealed("b", b"2")), 3), NAS.keys)
    assert contents(runtime) == {"a": b"1", "b": b"2"}


async def test_the_daemon_is_told_why_in_one_line(runtime: Path) -> None:
    wanted = SetSecrets(CLAN, (sealed("a", b"1", owner="nobodyhere"), sealed("b", b"1", owner="nobodythere")), 1)
    why = "secret a: this machine has no user nobodyhere; make one, or set the secret with another --owner"
    with pytest.raises(PlacementError, match=f"^{why}$"):
        await place(runtime, wanted, NAS.keys)


async def test_a_stuck_process_is_ended(runtime: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (runtime / "secrets.d").mkdir()
    lock = os.open(runtime / "secrets.d", os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        with monkeypatch.context() as impatient:
            impatient.setattr(place_module, "TIMEOUT_S", 0.3)
            with pytest.raises(PlacementError, match="took over"):
                await place(runtime, SetSecrets(CLAN, (sealed("a", b"1"),), 1), NAS.keys)
    finally:
        os.close(lock)
    with trio.fail_after(20):
        await place(runtime, SetSecrets(CLAN, (sealed("a", b"1"),), 1), NAS.keys)
    assert contents(runtime) == {"a": b"1"}


def test_in_a_user_namespace_nothing_is_given_to_accounts_outside(runtime: Path) -> None:
    finished = subprocess.run(
        ["unshare", "--user", "--map-root-user", *PROGRAM],
        input=request(runtime, 1, file("a", b"1"), file("b", b"1", "daemon", "daemon")),
        capture_output=True,
        timeout=20,
        check=False,
    )
    assert finished.stderr.decode().startswith("secret b: clanmeshd may not give it to daemon:daemon")
    assert finished.returncode == placement.EXIT_PARTLY
    assert contents(runtime) == {"a": b"1"}
