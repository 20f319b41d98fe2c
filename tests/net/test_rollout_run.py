"""Devices that follow, fetch, build, activate and go back: real git, real scripts, the real activator."""

import time
from pathlib import Path

import pytest
import trio
import trio.testing

from clanmesh_protocol.records import RolloutState, Verb
from clanmeshd.core.effects import Order
from clanmeshd.rollout import attempt, repository, steward
from clanmeshd.rollout.activation import activator_lives
from clanmeshd.rollout.build import unfinished
from tests.net.rollout_devices import deploy, make_devices, running, wait_for, wait_until
from tests.net.rollout_world import (
    ACTIVATE,
    BUILD,
    CLAN_TOML,
    Author,
    Device,
    Key,
    phases,
    processes_with,
    relay_claim,
)

FAILING = "#!/bin/sh\necho 'the service is not there' >&2\nexit 3\n"
HANGING = "#!/bin/sh\nsleep 1000 &\nsleep 1000\n"
GATE = """#!/bin/sh
touch "$CLAN_RUNTIME_DIR/checking"
while [ ! -e "$CLAN_RUNTIME_DIR/go" ]; do sleep 0.02; done
"""
ESCAPING = "#!/bin/sh\nsetsid sleep 1000 &\nsleep 1000\n"  # out of its process group
QUICK = CLAN_TOML.replace("build_timeout_s = 5", "build_timeout_s = 1")  # for what hangs there, and nothing else
QUICK_HEALTH = CLAN_TOML.replace("health_timeout_s = 5", "health_timeout_s = 1")


async def test_a_push_is_built_tested_and_committed(device: Device, author: Author, alice: Key) -> None:
    new = author.commit()
    async with running(device):
        await deploy(device, author, alice, None, new)
        report = await device.reaches(RolloutState.CURRENT, new)
    assert report.wanted == new
    assert device.trace() == [[phase, new.hex(), f"built {new.hex()}"] for phase in ("test", "commit")]
    assert [entry["state"] for entry in device.rollout.history()] == ["current"]
    assert device.rollout.view()["last_good"] == new.hex()
    assert "activate (commit)" in device.rollout.log(None)


async def test_the_scripts_see_who_they_run_for(device: Device, author: Author, alice: Key) -> None:
    script = (
        '#!/bin/sh\nenv | grep ^CLAN_ >"$CLAN_RUNTIME_DIR/env.$CLAN_PHASE"\nls -a >"$CLAN_RUNTIME_DIR/files"\n'
    )
    new = author.commit({"activate": script})
    async with running(device):
        await deploy(device, author, alice, None, new)
        await device.reaches(RolloutState.CURRENT, new)
    seen = dict(line.split("=", 1) for line in (device.runtime / "env.test").read_text().splitlines())
    assert seen.pop("CLAN_ACTIVATION")
    assert seen == {
        "CLAN_NODE": "node1",
        "CLAN_TAGS": "all backup",
        "CLAN_COMMIT": new.hex(),
        "CLAN_PHASE": "test",
        "CLAN_RUNTIME_DIR": str(device.runtime),
    }
    assert ".git" not in (device.runtime / "files").read_text().split()


async def test_an_ext_url_in_gitmodules_does_nothing(tmp_path: Path, author: Author, alice: Key) -> None:
    pusher, other = make_devices(tmp_path, alice, 2)
    marker = tmp_path / "executed"
    text = f'[submodule "a"]\n\tpath = a\n\turl = ext::sh -c touch% {marker}\n\tupdate = checkout\n'
    new = author.commit({".gitmodules": text})
    async with running(pusher, other):
        given = await pusher.push(author, alice, None, new)
        pusher.put(given)
        other.put(given)
        await pusher.reaches(RolloutState.CURRENT, new)
        await other.reaches(RolloutState.CURRENT, new)
    assert not marker.exists()


async def test_three_devices_follow_one_push(tmp_path: Path, author: Author, alice: Key) -> None:
    devices = make_devices(tmp_path, alice, 3)
    new = author.commit()
    async with running(*devices):
        given = await devices[0].push(author, alice, None, new)
        for device in devices:
            device.put(given)
        for device in devices:
            await device.reaches(RolloutState.CURRENT, new)
        second = author.commit({"more": "text"})
        given = await devices[1].push(author, alice, new, second)
        for device in devices:
            device.put(given, holders=[devices[1]] if device is not devices[1] else [])
        for device in devices:
            await device.reaches(RolloutState.CURRENT, second)


# --- health ------------------------------------------------------------------------------------------------


async def test_an_unhealthy_revision_goes_back(device: Device, author: Author, alice: Key) -> None:
    good = author.commit()
    bad = author.commit({"health": FAILING})
    better = author.commit({"health": "#!/bin/sh\n"})
    async with running(device):
        await deploy(device, author, alice, None, good)
        await device.reaches(RolloutState.CURRENT, good)
        await deploy(device, author, alice, good, bad)
        report = await device.reaches(RolloutState.ROLLED_BACK, good)
        assert report.bad == (bad,)
        assert report.wanted == bad
        assert device.rollout.view()["why"] == "health exited with 3"
        assert "the service is not there" in device.rollout.log(bad)
        await deploy(device, author, alice, bad, better)
        await device.reaches(RolloutState.CURRENT, better)
    expected = [
        ("test", good),
        ("commit", good),
        ("test", bad),
        ("rollback", good),
        ("test", better),
        ("commit", better),
    ]
    assert phases(device) == [(phase, commit.hex()) for phase, commit in expected]
    rollback = device.trace()[3]
    assert rollback[2] == f"built {good.hex()}", "the rollback runs in the last good checkout"


async def test_the_first_revision_has_nothing_to_go_back_to(device: Device, author: Author, alice: Key) -> None:
    bad = author.commit({"health": FAILING})
    async with running(device):
        await deploy(device, author, alice, None, bad)
        await device.reaches(RolloutState.FAILED, None)
    assert "no earlier revision" in str(device.rollout.view()["why"])
    assert phases(device) == [("test", bad.hex())]


async def test_hanging_health_is_bounded(device: Device, author: Author, alice: Key) -> None:
    good = author.commit()
    bad = author.commit({"health": ESCAPING, "clan.toml": QUICK_HEALTH})
    async with running(device):
        await deploy(device, author, alice, None, good)
        await device.reaches(RolloutState.CURRENT, good)
        await deploy(device, author, alice, good, bad)
        await device.reaches(RolloutState.ROLLED_BACK, good)
    assert device.rollout.view()["why"] == "health did not end within 1 s"
    await wait_until(lambda: not list(processes_with(f"CLAN_COMMIT={bad.hex()}".encode())))


async def test_a_failing_commit_phase_goes_back(device: Device, author: Author, alice: Key) -> None:
    good = author.commit()
    bad = author.commit({"activate": ACTIVATE + '[ "$CLAN_PHASE" != commit ]\n'})
    async with running(device):
        await deploy(device, author, alice, None, good)
        await device.reaches(RolloutState.CURRENT, good)
        await deploy(device, author, alice, good, bad)
        await device.reaches(RolloutState.ROLLED_BACK, good)
    assert phases(device)[-1] == ("rollback", good.hex())


async def test_a_failing_rollback_says_both(device: Device, author: Author, alice: Key) -> None:
    good = author.commit({"activate": ACTIVATE + '[ "$CLAN_PHASE" != rollback ]\n'})
    bad = author.commit({"health": FAILING})
    async with running(device):
        await deploy(device, author, alice, None, good)
        await device.reaches(RolloutState.CURRENT, good)
        await deploy(device, author, alice, good, bad)
        await device.reaches(RolloutState.FAILED, good)
    why = str(device.rollout.view()["why"])
    assert "health exited with 3" in why
    assert "activate (rollback) exited with 1" in why


# --- builds ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("files", "why"),
    [
        ({"build": "#!/bin/sh\necho broken >&2\nexit 7\n"}, "build exited with 7: broken"),
        ({"build": HANGING, "clan.toml": QUICK}, "build did not end within 1 s"),
        ({"build": ESCAPING, "clan.toml": QUICK}, "build did not end within 1 s"),
        ({"build": "#!/bin/sh\nkill -9 $$\n"}, "build was killed by signal 9, 3 times"),
        ({"build": "no interpreter line"}, "./build cannot be run: Permission denied"),
        ({"activate": "#!/nowhere/sh\n"}, "./activate cannot be run: No such file or directory"),
    ],
)
async def test_what_cannot_be_built_is_remembered(
    device: Device, author: Author, alice: Key, files: dict[str, str], why: str
) -> None:
    good = author.commit()
    bad = author.commit(files)
    async with running(device):
        await deploy(device, author, alice, None, good)
        await device.reaches(RolloutState.CURRENT, good)
        await deploy(device, author, alice, good, bad)
        state = RolloutState.ROLLED_BACK if "activate" in files else RolloutState.FAILED
        report = await device.reaches(state, good)
    assert report.bad == (bad,)
    assert why in str(device.rollout.view()["why"])
    await wait_until(lambda: not list(processes_with(f"CLAN_COMMIT={bad.hex()}".encode())))


async def test_a_build_that_fails_ends_nobody_elses(tmp_path: Path, author: Author, alice: Key) -> None:
    """Two daemons on one machine build the same commit."""
    devices = make_devices(tmp_path, alice, 2)
    for device in devices:
        (device.runtime / "fails").write_text("7\n" if device is devices[0] else "0\n")
    script = '#!/bin/sh\ncd "$CLAN_RUNTIME_DIR"\necho >>building\nwhile [ ! -e go ]; do sleep 0.02; done\n'
    new = author.commit({"build": script + "exit $(cat fails)\n", "activate": "#!/bin/sh\n"})
    async with running(*devices):
        given = await devices[0].push(author, alice, None, new)
        for device in devices:
            device.put(given, holders=[devices[0]] if device is not devices[0] else [])
            await wait_for(device.runtime / "building")
        (devices[0].runtime / "go").touch()
        await devices[0].reaches(RolloutState.FAILED, None)
        (devices[1].runtime / "go").touch()
        await devices[1].reaches(RolloutState.CURRENT, new)
    assert (devices[1].runtime / "building").read_text() == "\n", "it was begun once"


async def test_hooks_are_told_of_a_build_that_failed(device: Device, author: Author, alice: Key) -> None:
    """The activator tells them, and the time that the build took counts all the same."""
    hook_of(device, 'echo "$CLAN_RESULT $CLAN_COMMIT $CLAN_WHY" >"$CLAN_RUNTIME_DIR/told"')
    bad = author.commit({"build": HANGING, "clan.toml": QUICK})
    async with running(device):
        await deploy(device, author, alice, None, bad)
        await device.reaches(RolloutState.FAILED, None)
        await wait_until((device.runtime / "told").exists)
        await wait_until(lambda: not activator_lives(device.root / "rollout"))
    assert (device.runtime / "told").read_text() == f"failed {bad.hex()} build did not end within 1 s\n"
    [entry] = device.rollout.history()
    assert (entry["commit"], entry["state"], entry["why"]) == (bad.hex(), "failed", "build did not end within 1 s")
    assert entry["seconds"] >= 1


async def test_a_failed_commit_is_not_tried_again_until_asked(device: Device, author: Author, alice: Key) -> None:
    """Nor after a restart; `retry` clears it."""
    good = author.commit()
    script = '#!/bin/sh\necho x >>"$CLAN_RUNTIME_DIR/checks"\n[ -e "$CLAN_RUNTIME_DIR/repaired" ]\n'
    bad = author.commit({"health": script})
    async with running(device):
        await deploy(device, author, alice, None, good)
        await device.reaches(RolloutState.CURRENT, good)
        given = await device.push(author, alice, good, bad)
        device.put(given)
        await device.reaches(RolloutState.ROLLED_BACK, good)
    device.restart()
    (device.runtime / "repaired").touch()
    async with running(device):
        device.put(given)
        report = await device.reaches(RolloutState.ROLLED_BACK, good)
        assert report.bad == (bad,)
        await trio.testing.wait_all_tasks_blocked(0.3)
        assert (device.runtime / "checks").read_text() == "x\n"
        await device.rollout.retry()
        report = await device.reaches(RolloutState.CURRENT, bad)
        assert report.bad == ()


async def test_a_running_commit_is_not_activated_again(device: Device, author: Author, alice: Key) -> None:
    new = author.commit()
    async with running(device):
        given = await device.push(author, alice, None, new)
        device.put(given)
        await device.reaches(RolloutState.CURRENT, new)
    device.restart()
    async with running(device):
        device.put(given)
        await device.reaches(RolloutState.CURRENT, new)
        device.put(given, relay_claim(given, 9))
        await trio.testing.wait_all_tasks_blocked(0.2)
    assert len(device.trace()) == 2


async def test_a_newer_commit_ends_a_build_for_an_older(device: Device, author: Author, alice: Key) -> None:
    patient = CLAN_TOML.replace("build_timeout_s = 5", "build_timeout_s = 1000")
    script = '#!/bin/sh\ntouch "$CLAN_RUNTIME_DIR/building"\nsleep 1000\n'
    slow = author.commit({"build": script, "clan.toml": patient})
    new = author.commit({"build": "#!/bin/sh\n", "activate": "#!/bin/sh\n"})
    async with running(device):
        await deploy(device, author, alice, None, slow)
        await wait_for(device.runtime / "building")
        await deploy(device, author, alice, slow, new)
        await device.reaches(RolloutState.CURRENT, new)
    assert [entry["commit"] for entry in device.rollout.history()] == [new.hex()]
    await wait_until(lambda: not list(processes_with(f"CLAN_COMMIT={slow.hex()}".encode())))


async def test_old_checkouts_go_away(device: Device, author: Author, alice: Key) -> None:
    old: bytes | None = None
    async with running(device):
        for number in range(3):
            new = author.commit({"number": str(number)})
            await deploy(device, author, alice, old, new)
            await device.reaches(RolloutState.CURRENT, new)
            old = new
        assert old is not None
        checkouts, wanted = device.root / "rollout" / "checkouts", [old.hex()]
        await wait_until(lambda: [path.name for path in checkouts.iterdir()] == wanted)


async def test_packs_are_joined(
    device: Device, author: Author, alice: Key, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repository, "PACKS_MAX", 2)
    old: bytes | None = None
    for number in range(4):
        new = author.commit({"number": str(number)})
        await device.push(author, alice, old, new)
        old = new
    packs = list((device.root / "rollout" / "repo.git" / "objects" / "pack").glob("*.pack"))
    assert len(packs) <= 2
    assert device.rollout.head == old


async def test_packs_stay_while_objects_are_borrowed_from_them(
    device: Device, author: Author, alice: Key, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is being checked may rest upon an object that no head leads to, and joining would drop."""
    monkeypatch.setattr(repository, "PACKS_MAX", 1)
    published = device.rollout._repository
    old: bytes | None = None

    async def push(number: int) -> int:
        nonlocal old
        new = author.commit({"number": str(number)})
        await device.push(author, alice, old, new)
        old = new
        return len(list((published.path / "objects" / "pack").glob("*.pack")))

    assert [await push(number) for number in range(3)] == [1, 1, 1]
    async with published.quarantine():
        assert [await push(number) for number in range(3, 6)] == [2, 3, 4]
    assert await push(6) == 1


async def test_the_way_back_is_built_again_when_it_is_gone(device: Device, author: Author, alice: Key) -> None:
    good = author.commit()
    bad = author.commit({"health": FAILING})
    async with running(device):
        await deploy(device, author, alice, None, good)
        await device.reaches(RolloutState.CURRENT, good)
        checkout = device.root / "rollout" / "checkouts" / good.hex()
        checkout.rename(device.root / "stolen")
        await deploy(device, author, alice, good, bad)
        await device.reaches(RolloutState.ROLLED_BACK, good)
    assert phases(device)[-1] == ("rollback", good.hex())


@pytest.mark.parametrize("how", ["failed", "cut off"])
async def test_a_way_back_that_was_built_by_half_is_begun_anew(
    device: Device, author: Author, alice: Key, how: str
) -> None:
    """It is no way back, though there is a folder of its name."""
    good = author.commit({"build": '#!/bin/sh\n[ ! -e "$CLAN_RUNTIME_DIR/broken" ] || exit 1\n' + BUILD})
    bad = author.commit({"health": FAILING, "build": BUILD})
    worse = author.commit({"more": "1"})
    checkouts = device.root / "rollout" / "checkouts"
    async with running(device):
        await deploy(device, author, alice, None, good)
        await device.reaches(RolloutState.CURRENT, good)
        (checkouts / good.hex()).rename(device.root / "stolen")
        if how == "failed":
            (device.runtime / "broken").touch()
            await deploy(device, author, alice, good, bad)
            await device.reaches(RolloutState.FAILED, good)
            assert "no earlier revision" in str(device.rollout.view()["why"])
            (device.runtime / "broken").unlink()
        else:
            unfinished(checkouts / good.hex()).touch()
            (checkouts / good.hex()).mkdir()
            await deploy(device, author, alice, good, bad)
            await device.reaches(RolloutState.ROLLED_BACK, good)
        await deploy(device, author, alice, bad, worse)
        await wait_until(lambda: len(device.rollout.history()) == 3)
        await wait_until(lambda: [path.name for path in checkouts.iterdir()] == [good.hex()])
    assert device.trace()[-1] == ["rollback", good.hex(), f"built {good.hex()}"]


# --- restarts ----------------------------------------------------------------------------------------------


async def test_a_result_that_came_while_the_daemon_was_away(device: Device, author: Author, alice: Key) -> None:
    new = author.commit({"health": GATE})
    async with running(device):
        given = await device.push(author, alice, None, new)
        device.put(given)
        await wait_for(device.runtime / "checking")
    (device.runtime / "go").touch()
    device.restart()
    await wait_until(lambda: not activator_lives(device.root / "rollout"))
    back_unix_s = time.time()
    async with running(device):
        device.put(given)
        await device.reaches(RolloutState.CURRENT, new)
    assert phases(device) == [("test", new.hex()), ("commit", new.hex())]
    [entry] = device.rollout.history()
    assert entry["state"] == "current"
    assert back_unix_s - 60 < entry["at_unix_s"] < back_unix_s  # when it was so, and not when it was read


async def test_an_activator_killed_with_its_guard_while_we_watch(
    device: Device, author: Author, alice: Key
) -> None:
    good = author.commit()
    guard = "$(awk '/^PPid/ {print $2}' /proc/$PPID/status)"
    bad = author.commit({"health": f"#!/bin/sh\nkill -9 {guard} $PPID\nsleep 1000\n"})
    async with running(device):
        await deploy(device, author, alice, None, good)
        await device.reaches(RolloutState.CURRENT, good)
        await deploy(device, author, alice, good, bad)
        await device.reaches(RolloutState.ROLLED_BACK, good)
    assert "killed" in str(device.rollout.view()["why"])
    assert phases(device)[-1] == ("rollback", good.hex())
    await wait_until(lambda: not list(processes_with(f"CLAN_COMMIT={bad.hex()}".encode())))


async def test_an_activator_that_cannot_be_started(
    device: Device, author: Author, alice: Key, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def launch(path: Path) -> None:
        raise OSError("no memory for it")

    monkeypatch.setattr(steward, "launch", launch)
    monkeypatch.setattr(attempt, "ALIVE_CHECK_S", 0.01)
    new = author.commit()
    async with running(device):
        await deploy(device, author, alice, None, new)
        await device.reaches(RolloutState.FAILED, None)
    assert "no memory for it" in str(device.rollout.view()["why"])


def hook_of(device: Device, body: str) -> None:
    """Have the owner of a device want to be told."""
    path = device.root / "hooks.d" / "10-note"
    path.parent.mkdir()
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


async def test_what_is_paused_while_earlier_hooks_run_does_not_begin(
    device: Device, author: Author, alice: Key
) -> None:
    """They may take minutes, and the next revision waits for them, built and ready."""
    hook_of(device, 'while [ ! -e "$CLAN_RUNTIME_DIR/go" ]; do sleep 0.02; done')
    first = author.commit()
    second = author.commit({"more": "1"})
    async with running(device):
        await deploy(device, author, alice, None, first)
        await device.reaches(RolloutState.CURRENT, first)
        given = await device.push(author, alice, first, second)
        device.put(given)
        await wait_for(device.root / "rollout" / "checkouts" / second.hex() / "artifact")
        device.orders = (Order(Verb.PAUSE, "main", device.node, "laptop", 1, None, ""),)
        device.put(given)
        await device.reaches(RolloutState.HELD, first)
        (device.runtime / "go").touch()
        await wait_until(lambda: not activator_lives(device.root / "rollout"))
        await trio.testing.wait_all_tasks_blocked(0.2)
        assert second.hex() not in {commit for _, commit in phases(device)}
        device.orders = ()
        device.put(given)
        await device.reaches(RolloutState.CURRENT, second)


async def test_what_was_asked_for_and_not_begun_is_looked_at_anew(
    device: Device, author: Author, alice: Key, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The power went between the request and its first step; meanwhile an admin paused."""

    async def never(path: Path) -> None:
        await trio.sleep_forever()

    state = device.root / "rollout"
    new = author.commit()
    with monkeypatch.context() as patch:
        patch.setattr(steward, "launch", never)
        async with running(device):
            given = await device.push(author, alice, None, new)
            device.put(given)
            await wait_for(state / "activation.json")
    device.restart()
    device.orders = (Order(Verb.PAUSE, "main", device.node, "laptop", 1, None, ""),)
    async with running(device):
        device.put(given)
        await device.reaches(RolloutState.HELD, None)
        await wait_until(lambda: not (state / "activation.json").exists())
        assert not (state / "activation.resume").exists()
        assert device.trace() == []
        device.orders = ()
        device.put(given)
        await device.reaches(RolloutState.CURRENT, new)


async def test_hooks_are_told_after_a_power_cut_right_behind_the_result(
    device: Device, author: Author, alice: Key
) -> None:
    """The result was on the disk, and nobody had been told, nor had the daemon read it."""
    new = author.commit({"health": GATE})
    async with running(device):
        given = await device.push(author, alice, None, new)
        device.put(given)
        await wait_for(device.runtime / "checking")
    state = device.root / "rollout"
    (device.runtime / "go").touch()
    await wait_until(lambda: not activator_lives(state))
    hook_of(device, 'echo "$CLAN_RESULT $CLAN_COMMIT" >>"$CLAN_RUNTIME_DIR/told"')
    device.restart()
    async with running(device):
        device.put(given)
        await device.reaches(RolloutState.CURRENT, new)
        await wait_for(device.runtime / "told")
        await wait_until(lambda: not activator_lives(state))
    device.restart()
    async with running(device):
        await wait_until(lambda: not (state / "activation.resume").exists())
    assert (device.runtime / "told").read_text() == f"good {new.hex()}\n"


@pytest.mark.parametrize("damage", [b"", b"{", b'{"format": 9}', b"[]", b'{"format": 1, "good": 5}', b"\xff\xfe"])
async def test_a_damaged_state_file_is_begun_anew(
    device: Device, author: Author, alice: Key, damage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    new = author.commit()
    async with running(device):
        given = await device.push(author, alice, None, new)
        device.put(given)
        await device.reaches(RolloutState.CURRENT, new)
    (device.root / "rollout" / "state.json").write_bytes(damage)
    (device.root / "rollout" / "activation.json").unlink()
    device.restart()
    async with running(device):
        device.put(given)
        await device.reaches(RolloutState.CURRENT, new)
    assert len(device.trace()) == 2, "what runs is known from the repository too"
    assert "state.json: damaged" in caplog.text


async def test_a_damaged_repository_comes_back_from_the_others(
    tmp_path: Path, author: Author, alice: Key, caplog: pytest.LogCaptureFixture
) -> None:
    pusher, device = make_devices(tmp_path, alice, 2)
    new = author.commit()
    given = await pusher.push(author, alice, None, new)
    async with running(device):
        device.put(given)
        await device.reaches(RolloutState.CURRENT, new)
    for pack in (device.root / "rollout" / "repo.git" / "objects" / "pack").iterdir():
        pack.unlink()
    device.restart()
    second = author.commit({"more": "1"})
    given = await pusher.push(author, alice, new, second)
    async with running(device):
        device.put(given)
        await device.reaches(RolloutState.CURRENT, second)
    assert "repo.git: damaged" in caplog.text
