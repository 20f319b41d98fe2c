"""`demo`: watch a clan of real daemons form on this one machine."""

import sys
from collections.abc import Mapping
from typing import Any, Final

import click

from clanctl import render, show
from clanctl.failures import EXIT_DONE, EXIT_FAILED, Failure, printable

NODES_MIN: Final = 2
NODES_MAX: Final = 50  # as many daemons as a common machine has memory for


@click.command()
@click.option("--nodes", type=click.IntRange(NODES_MIN, NODES_MAX), default=3, show_default=True)
@click.option("--keep", is_flag=True, envvar="KEEP", help="Leave the clan up and say how to enter it.")
@click.option("--json", "as_json", is_flag=True, help="Print the times as JSON.")
def demo(nodes: int, keep: bool, as_json: bool) -> int:
    """Form a clan of real daemons in network namespaces; share a secret, push a commit, see a bad one undone.

    It changes nothing in the system, and nothing of it is left at the end.
    """
    from clanctl.demo.sandbox import check_system, world

    check_system()
    teller = Teller(as_json=as_json)
    with world(nodes=nodes, keep=keep) as inside:
        for event in inside.events():
            teller.hear(event)
            if "kept" in event:
                _explain(event["kept"], inside.leave())
    return teller.close(inside.noise)


class Teller:
    """Shows the events of a run as they come, and keeps how it ended."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._summary: Mapping[str, Any] | None = None
        self._failed: Mapping[str, Any] | None = None

    def hear(self, event: Mapping[str, Any]) -> None:
        """Take one event."""
        if "begin" in event and not self._as_json and show.is_terminal():
            print(f"          {event['begin']} ...", end="\r", flush=True)
        elif "step" in event and not self._as_json:
            step = event["step"]
            blank = "    " if show.is_terminal() else ""  # over the dots of a step that ran
            print(f"{step['seconds']:7.2f} s  {step['name']}{blank}", flush=True)
        elif "summary" in event:
            self._summary = event["summary"]
            self._conclude(event["summary"])
        elif "failed" in event:
            self._failed = event["failed"]

    def _conclude(self, summary: Mapping[str, Any]) -> None:
        if self._as_json:
            show.as_json(summary)
            return
        show.lines(
            f"\nformed and pinging after {summary['formed_s']:.1f} s; pushed and running everywhere within "
            f"{summary['push_s']:.1f} s ({summary['build_s']:.1f} s of it building)\n"
        )
        show.lines("$ clanctl peers\n" + render.peers_title(summary["peers"]) + "\n")
        show.table(render.peers_sheet(summary["peers"]))
        notes = render.peers_notes(summary["peers"])
        show.lines("\n" + "\n".join(notes) if notes else "")

    def close(self, noise: str) -> int:
        """Give the exit status. Raises Failure with the step that did not hold."""
        if self._failed is not None:
            for name, log in self._failed["logs"].items():
                print(f"\n--- the daemon of {name} said last ---\n{printable(log)}", file=sys.stderr)
            raise Failure(
                "the demo failed", f"at {self._failed['step']!r}: {self._failed['why']}", status=EXIT_FAILED
            )
        if self._summary is None:
            print(printable(noise), file=sys.stderr)
            raise Failure("the demo failed", "its inside ended without a word", "what it printed is above")
        return EXIT_DONE


def _explain(kept: Mapping[str, Any], first: int) -> None:
    from clanctl.demo.sandbox import outer_pids

    pids = outer_pids(first, {name: int(pid) for name, (pid, _) in kept.items()})
    print("\nThe clan stays up. To be at one of its machines:", file=sys.stderr)
    for name, (_, script) in kept.items():
        entering = f"nsenter --preserve-credentials --target {pids.get(name, '?')} --all sh {script}"
        print(f"  {name}:  {entering}", file=sys.stderr)
    print(f"There, `clanctl peers` shows it all. To end it:  kill {first}", file=sys.stderr)
