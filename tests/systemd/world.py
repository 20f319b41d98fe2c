"""A clan of two on one container: `nas`, whose rollout is put to the test, and `peer`, which it has to reach.

The repository's scripts keep a service and note what they do; at any point of theirs they can be held, so that a
fault strikes exactly there. Everything is on a `Disk`.
"""

import json
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

from tests.clock import wait_until
from tests.systemd.container import IDENTITY, Container
from tests.systemd.disk import Disk

UNIT: Final = "clanmeshd.service"
PEER_UNIT: Final = "clanmeshd@peer.service"
REPOSITORY: Final = "/usr/local/config"  # not on the disk: a power cut is to strike the machine, not the author
STATE: Final = Path("var/lib/clanmesh/rollout")
OUTCOMES: Final = Path("root/outcomes")
ROLLOUT_TIMEOUT_S: Final = 90.0  # of anything that takes a second or five on an idle machine
START_TIMEOUT_S: Final = 30.0  # of a daemon that systemd starts again

# Holds a script at a point until the test has struck. It is gone when the file `at` names another point, or none.
_POINT: Final = """#!/bin/sh
[ "$CLAN_NODE" = nas ] && [ "$(cat /run/fault/at 2>/dev/null)" = "$1" ] || exit 0
mv /run/fault/at /run/fault/reached
while [ -e /run/fault/hold ]; do sleep 0.02; done
"""
_SERVICE: Final = """[Unit]
# {commit}
[Service]
ExecStart=/bin/sleep infinity
"""
_BUILD: Final = f"""#!/bin/sh
set -eu
/opt/faults/point build
sed "s/{{commit}}/$CLAN_COMMIT/" > web.service <<END
{_SERVICE}END
"""
_ACTIVATE: Final = """#!/bin/sh
set -eu
[ "$CLAN_NODE" = nas ] || exit 0
/opt/faults/point "$CLAN_PHASE"
if ! cmp -s web.service /etc/systemd/system/web.service; then
    cp web.service /etc/systemd/system/.web.service
    sync /etc/systemd/system/.web.service
    mv /etc/systemd/system/.web.service /etc/systemd/system/web.service
    systemctl daemon-reload
    systemctl restart web.service
fi
if [ -x ./also ]; then ./also; else rm -f /etc/systemd/system/clanmeshd.service.d/upgrade.conf; fi
/opt/faults/point "$CLAN_PHASE-end"
"""
_HEALTH: Final = """#!/bin/sh
[ "$CLAN_NODE" = nas ] || exit 0
[ "$CLAN_PHASE" = rollback ] || /opt/faults/point health
[ "$CLAN_PHASE" = rollback ] || [ ! -e ./unwell ]
"""
_HOOK: Final = """#!/bin/sh
echo "$CLAN_COMMIT $CLAN_RESULT" >> /root/outcomes
sync /root/outcomes
/opt/faults/point hook
"""
_TOML: Final = """[rollout]
driver = "command"
build = ["./build"]
activate = ["./activate"]
health = ["./health"]
build_timeout_s = 10
activate_timeout_s = 10
health_timeout_s = 5
settle_s = 1
health_units = ["web.service"]
"""
# The default route and an address for the two to meet at, of a network that leads nowhere.
_NETWORK: Final = """[Unit]
Before=clanmeshd.service clanmeshd@peer.service
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh -c "ip link add br0 type bridge && ip address add 192.0.2.1/24 dev br0 && ip link set br0 up"
ExecStart=/bin/sh -c "ip link set lo up && ip route add default via 192.0.2.254"
[Install]
WantedBy=multi-user.target
"""
_OTHER: Final = "[Service]\nExecStart=/bin/sleep infinity\n[Install]\nWantedBy=multi-user.target\n"


@dataclass
class World:
    """The machine, its disk and what was pushed."""

    directory: Path
    wheels: Path
    machine: Container = field(init=False)  # from `found` or `clone_of` on
    good: str = ""  # the commit that it should be able to go back to

    def __post_init__(self) -> None:
        self.disk = Disk(self.directory / "disk.img", self.directory / "root")

    # --- making ----------------------------------------------------------------------------------------

    def found(self) -> None:
        """Install, found the clan, let the peer join, roll the first revision out."""
        self.disk.make()
        self.disk.mount()
        self.machine = Container(self.directory, self.wheels)
        run = self.machine.run
        self._write_units()
        wants = self.disk.place / "etc/systemd/system/multi-user.target.wants"
        (wants / "web.service").symlink_to("../web.service")  # a revision writes it
        run("systemctl", "daemon-reload")
        run("systemctl", "enable", "--now", "network-of-faults.service", "other.service")
        run("make", "-C", "/root/clanmesh", "install", "WHEELS=/wheels")
        # It is there to be reached. Where its rollout would be is a file, so it follows nothing.
        run("install", "-D", "--mode=600", "/dev/null", "/var/lib/clanmesh-peer/rollout")
        run("systemctl", "enable", "--now", PEER_UNIT)
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", "/root/.ssh/id_ed25519")
        run("clanctl", "init", "family", "--node-name", "nas", "--signer", "/root/.ssh/id_ed25519.pub")
        token = json.loads(run("clanctl", "invite", "--name", "peer", "--json"))["token"]
        run("clanctl", "--runtime-dir", "/run/clanmesh-peer", "join", token)
        run("clanctl", "repo", "init", REPOSITORY)
        self._write_scripts()
        self.good = self.push("First")
        assert self.ends("current", self.good), self.status()

    def clone_of(self, other: "World") -> None:
        """Be a copy of a world that was left."""
        self.disk.copy_of(other.disk)
        shutil.copytree(other.directory / "usr-local", self.directory / "usr-local", symlinks=True)
        self.good = other.good
        self.disk.mount()
        self.machine = Container(self.directory, self.wheels)

    def leave(self) -> None:
        """Switch it off, as one should."""
        if hasattr(self, "machine"):
            self.machine.end()
        self.disk.unmount()

    def _write_units(self) -> None:
        root = self.disk.place
        texts = {
            "etc/systemd/system/network-of-faults.service": _NETWORK,
            "etc/systemd/system/other.service": _OTHER,
            "etc/clanmesh/clanmesh.toml": 'overlay = "none"\nmdns = false\n',
            "etc/clanmesh/peer.toml": 'port = 51881\ntunnel_port = 51882\noverlay = "none"\nmdns = false\n'
            'hooks = "/nonexistent"\n',
            "etc/clanmesh/hooks.d/10-note": _HOOK,
            "opt/faults/point": _POINT,
        }
        for name, text in texts.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text)
            (root / name).chmod(0o755 if text.startswith("#!") else 0o644)

    def _write_scripts(self) -> None:
        self.write({"clan.toml": _TOML, "build": _BUILD, "activate": _ACTIVATE, "health": _HEALTH})

    @property
    def _repository(self) -> Path:
        return self.directory / "usr-local/config"

    def write(self, files: dict[str, str]) -> None:
        """Write files of the repository."""
        for name, text in files.items():
            path = self._repository / name
            path.write_text(text)
            path.chmod(0o755 if text.startswith("#!") else 0o644)

    def remove(self, *names: str) -> None:
        """Remove files of the repository."""
        for name in names:
            (self._repository / name).unlink(missing_ok=True)

    def push(self, message: str) -> str:
        """Commit everything and push it; gives the commit."""
        git = ("git", "-C", REPOSITORY)
        self.machine.run(*git, "add", "--all")
        self.machine.run(*git, "commit", "--quiet", "--allow-empty", "--message", message, env=IDENTITY)
        self.machine.run(*git, "push", "--quiet", "clan", "main", env=IDENTITY)
        return self.machine.run(*git, "rev-parse", "HEAD").strip()

    # --- faults ----------------------------------------------------------------------------------------

    @property
    def _fault(self) -> Path:
        return self.machine.inside / "run/fault"

    def hold_at(self, point: str) -> None:
        """Let the scripts stop at a point, once."""
        self._fault.mkdir(exist_ok=True)
        (self._fault / "reached").unlink(missing_ok=True)
        (self._fault / "hold").touch()
        (self._fault / "at").write_text(point)

    def is_held(self) -> bool:
        """A script has come to the point."""
        return (self._fault / "reached").exists()

    def release(self) -> None:
        """Let it go on."""
        for name in ("hold", "at"):
            (self._fault / name).unlink(missing_ok=True)

    def activators(self) -> list[int]:
        """Guard and worker of nas, in this order; of the two that of the lower number was there first."""
        request = b"/" + bytes(STATE / "activation.json")
        found = self.machine.processes_with(b"clanmeshd.rollout.activator", request)
        return sorted(found, key=lambda pid: (_parent(pid) in found, pid))

    def power_cut(self) -> None:
        """Pull the plug, lose what was not synced, and boot again."""
        self.machine.cut()
        self.disk.cut()
        self.disk.mount()
        self.machine.boot()

    # --- looking ---------------------------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        """What the daemon says of its rollout; empty while it does not answer."""
        try:
            said = self.machine.ask("rollout-status")
        except OSError:
            return {}
        return said if isinstance(said, dict) else {}

    def ends(self, state: str, commit: str) -> bool:
        """Wait until the rollout is in a state, running a commit."""

        def holds() -> bool:
            now = self.status()
            return now.get("state") == state and now.get("commit") == commit

        return wait_until(holds, ROLLOUT_TIMEOUT_S)

    def has_ended(self, commit: str) -> bool:
        """Wait until a commit has a result in the history, and the daemon is at rest."""

        def holds() -> bool:
            now = self.status()
            return now.get("state") in ("current", "rolled-back", "failed") and commit in self.tried()

        return all(wait_until(one, ROLLOUT_TIMEOUT_S) for one in (holds, lambda: not self.activators()))

    def tried(self) -> list[str]:
        """The commits that have a result, in their order."""
        try:
            said = self.machine.ask("rollout-history")
        except OSError:
            return []
        return [entry["commit"] for entry in said["entries"]]

    def outcomes(self, commit: str) -> list[str]:
        """What the hook was told of a commit."""
        lines = [line.split() for line in (self.disk.place / OUTCOMES).read_text().splitlines()]
        return [words[1] for words in lines if words[:1] == [commit] and len(words) > 1]

    def told_twice(self) -> list[str]:
        """Commits of whose outcome the hook was told more than once."""
        lines = (self.disk.place / OUTCOMES).read_text().splitlines()
        commits = [line.split()[0] for line in lines if line.strip()]
        return sorted({commit for commit in commits if commits.count(commit) > 1})

    def running(self) -> str:
        """The commit that the service in fact is of."""
        lines = (self.disk.place / "etc/systemd/system/web.service").read_text().splitlines()
        return next((line.removeprefix("# ") for line in lines if line.startswith("# ")), "nothing")

    def troubles(self, commit: str) -> Sequence[str]:
        """All that is not as it must be after any fault: daemon, network, revision. Empty when it is well."""
        return [*self._troubles_of_daemon(), *self._troubles_of_revision(commit)]

    def _troubles_of_daemon(self) -> list[str]:
        found = []
        if not wait_until(lambda: self._is_active(UNIT), START_TIMEOUT_S):
            found.append("the daemon does not run")
        both = ("clanmesh", "clanmesh-peer")
        found += [
            f"{one} reaches nobody"
            for one in both
            if not wait_until(partial(self._reaches, one), ROLLOUT_TIMEOUT_S)
        ]
        if "default" not in self.machine.run("ip", "route"):
            found.append("there is no default route")
        return found

    def _reaches(self, runtime: str) -> bool:
        try:
            return bool(self.machine.ask("reach", runtime)["reached"])
        except OSError:
            return False

    def _troubles_of_revision(self, commit: str) -> list[str]:
        found, now = [], self.status()
        if now.get("commit") not in (commit, self.good) or now.get("commit") != self.running():
            found.append(f"it says that it runs {now.get('commit')}, and runs {self.running()}")
        if now.get("commit") == commit and now.get("state") != "current":
            found.append(f"it runs the new commit and is {now.get('state')}")
        untouched = now.get("state") == "failed" and str(now.get("why")).startswith("build")
        if now.get("commit") == self.good and now.get("state") != "rolled-back" and not untouched:
            found.append(f"it runs the commit before and is {now.get('state')}: {now.get('why')}")
        if self.tried().count(commit) != 1:
            found.append(f"its history is {self.tried()}")
        units = ("web.service", "other.service")
        return [*found, *(f"{unit} does not run" for unit in units if not self._is_active(unit))]

    def _is_active(self, unit: str) -> bool:
        return self.machine.show(unit, "ActiveState")["ActiveState"] == "active"


def _parent(pid: int) -> int:
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("PPid:"):
                return int(line.split()[1])
    return 0
