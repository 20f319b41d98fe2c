"""Makes a golden state directory with this version's real daemons: `python -m tests.golden.make_state DIR`.

Run it once a format version, as root, and commit what it leaves; an older one is never made again. The keys in
it belong to machines that existed for five seconds.
"""

import json
import shutil
import sys
import tempfile
import time
from pathlib import Path

from clanctl.demo import network
from clanctl.demo.lab import Lab
from clanctl.demo.story import Story
from tests.golden.test_golden_state import describe


def main() -> None:
    """Run the demonstration and keep the second machine's state, without its repository's objects."""
    target = Path(sys.argv[1])
    with tempfile.TemporaryDirectory() as folder, Lab(Path(folder)) as lab:
        Story(lab, network.names(3), print, time.monotonic()).tell()
        node = list(lab.nodes.values())[2]
        lab.kill(node)
        ignored = shutil.ignore_patterns(
            "*.git", "checkouts", "logs", "activation*", "quarantine", "lock", "*.lock"
        )
        shutil.copytree(node.instance.state_directory, target, ignore=ignored)
    memory = json.loads((target / "rollout/state.json").read_text())
    rollout = {"good": memory["good"], "bad": [entry["commit"] for entry in memory["bad"]]}
    expected = {"state": describe(target), "rollout": rollout}
    (target / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")


if __name__ == "__main__":
    main()
