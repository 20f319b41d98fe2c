"""How long the demo's clan takes: to form and ping, and from a push to activated on all three devices.

Runs `clanctl demo --json` (real daemons, mDNS, WireGuard and git in namespaces of its own) some times over.
"""

import argparse
import json
import subprocess
import sys
from typing import Any

from bench.figures import Figure, median, run

FORMED_S_TARGET = 10.0
PUSHED_S_TARGET = 2.0
RUN_TIMEOUT_S = 180.0


def measure(arguments: argparse.Namespace) -> list[Figure]:
    """Run the demo `--runs` times; medians of its own times."""
    runs = [_demo() for _ in range(arguments.runs)]
    return [
        Figure("clan formed and pinging", median([r["formed_s"] for r in runs]), "s", FORMED_S_TARGET),
        Figure(
            "push to activated on all, less the build",
            median([r["push_s"] - r["build_s"] for r in runs]),
            "s",
            PUSHED_S_TARGET,
        ),
        Figure("build", median([r["build_s"] for r in runs]), "s"),
        Figure("whole demo", median([sum(s["seconds"] for s in r["steps"]) for r in runs]), "s"),
    ]


def _demo() -> dict[str, Any]:
    words = [sys.executable, "-m", "clanctl", "demo", "--json"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=RUN_TIMEOUT_S, check=False)
    if done.returncode != 0:
        sys.exit(f"bench.demo: the demo failed: {done.stderr.strip().splitlines()[-1:]}")
    result: dict[str, Any] = json.loads(done.stdout)
    return result


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m bench.demo", description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    sys.exit(run("demo", measure, parser))
