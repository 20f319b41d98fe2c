"""Revisions that change the daemon itself, one after the other, through the path that every revision takes.

    python -m tests.systemd.upgrades FIRST --count N [--minutes M]

runs the revisions number FIRST to FIRST + N - 1 on a machine of its own; the last line says where to go on.
"""

import sys
import time
from typing import Final

from tests.systemd.container import folder_of_wheels
from tests.systemd.machines import Numbers, campaign, temporary_machines
from tests.systemd.world import UNIT, World

# Every second one changes the unit, the others the program: a release of its own, as an installation makes one.
_UNIT: Final = """#!/bin/sh
set -eu
mkdir -p /etc/systemd/system/clanmeshd.service.d
printf '[Service]\\nEnvironment=UPGRADE={number}\\n' > /etc/systemd/system/clanmeshd.service.d/upgrade.conf
"""
_RELEASE: Final = """#!/bin/sh
set -eu
cd /opt/clanmesh
before=$(readlink current)
new=releases/{name}
if [ ! -d "$new" ]; then
    cp -al "$before" "$new.new"
    for file in clanmeshd clanctl git-remote-clan; do
        sed "s,$before/,/opt/clanmesh/$new/," "$before/bin/$file" > "$new.new/bin/.$file"
        chmod 755 "$new.new/bin/.$file"
        mv "$new.new/bin/.$file" "$new.new/bin/$file"
    done
    mv "$new.new" "$new"
fi
ln -sfn "/opt/clanmesh/$new" .current
mv -T .current current
"""
# The revision before takes the drop-in away when it is gone back to: its own `activate` does.
_BROKEN: Final = """#!/bin/sh
set -eu
mkdir -p /etc/systemd/system/clanmeshd.service.d
printf '[Service]\\nExecStart=\\nExecStart=/bin/false\\n' > /etc/systemd/system/clanmeshd.service.d/upgrade.conf
"""
RELEASE_FIRST: Final = 1000  # above those of the installation


def release_name(number: int) -> str:
    """The release that the revision of a number brings, or leaves as it is."""
    return str(RELEASE_FIRST + number - number % 2)


def upgrade(world: World, number: int, first: int = 1) -> list[str]:
    """Push the revision of a number, on a machine that began with `first`. Gives what is not well afterwards."""
    script = _UNIT.format(number=number) if number % 2 else _RELEASE.format(name=release_name(number))
    world.remove("unwell")
    world.write({"also": script})
    before = _main_pid(world)
    commit = world.push(f"upgrade {number}")
    if not world.has_ended(commit):
        return [f"it did not end: {world.status()}"]
    found = list(world.troubles(commit))
    if world.running() != commit:
        found.append(f"it runs {world.running()}: {world.status()}")
    world.good = commit
    if (told := world.outcomes(commit)) != ["good"]:
        found.append(f"the hook was told {told}")
    if _main_pid(world) == before:
        found.append("the daemon is the one of before")
    return [*found, *_troubles_of_version(world, number, first)]


def try_broken_upgrade(world: World) -> list[str]:
    """Push a revision with which the daemon does not start. Gives what is not well after it was undone."""
    world.remove("unwell")
    world.write({"also": _BROKEN})
    commit = world.push("broken upgrade")
    if not world.has_ended(commit):
        return [f"it did not end: {world.status()}"]
    found = list(world.troubles(commit))
    if world.outcomes(commit) != ["rolled-back"] or "daemon" not in str(world.status().get("why")):
        found.append(f"the hook was told {world.outcomes(commit)}, a person {world.status()}")
    return found


def _troubles_of_version(world: World, number: int, first: int) -> list[str]:
    pid = _main_pid(world)
    environment = (world.machine.inside / f"proc/{pid}/environ").read_bytes().split(b"\0")
    words = (world.machine.inside / f"proc/{pid}/cmdline").read_bytes().decode()
    unit = number if number % 2 else number - 1
    found = []
    if unit >= first and f"UPGRADE={unit}".encode() not in environment:
        found.append("it was not started by the newest unit")
    if number - number % 2 >= first and f"/releases/{release_name(number)}/" not in words:
        found.append(f"it was not started from the newest release: {words}")
    return found


def _main_pid(world: World) -> int:
    return int(world.machine.show(UNIT, "MainPID")["MainPID"])


def main() -> int:
    """Run a row of upgrades. Gives the exit status."""
    arguments = campaign("Revisions that change the daemon, one after the other.", "one", 50).parse_args()
    numbers = Numbers(arguments.first, arguments.first + arguments.count, arguments.minutes)
    with temporary_machines(folder_of_wheels(), 1) as [world]:
        for number in numbers:
            started = time.monotonic()
            try:
                found = upgrade(world, number, arguments.first)
            except AssertionError as error:
                found = [str(error)]
            if found:
                numbers.fail(number)
            print(
                f"upgrade {number}: {'; '.join(found) or 'well'} ({time.monotonic() - started:.1f} s)", flush=True
            )
    print(f"upgrades: {'one failed' if numbers.failed else 'all well'}; go on with {numbers.next}")
    return 1 if numbers.failed else 0


if __name__ == "__main__":
    sys.exit(main())
