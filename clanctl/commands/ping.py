"""`ping`: round trips through the tunnel, one line each, and what they come to."""

from collections.abc import Iterator
from typing import Any, Final

import click

from clanctl import render_ping, show
from clanctl.client import Conversation, Instance
from clanctl.failures import EXIT_DONE, EXIT_INTERRUPTED, EXIT_UNREACHABLE, Failure
from clanctl.options import json_option, pass_instance

COUNT_MAX: Final = 10_000  # the daemon's own bounds
WITHIN_S_MAX: Final = 3600
PATIENCE_S: Final = 10.0  # for an answer beyond the interval: the daemon itself waits 2.5 s


@click.command()
@click.argument("node")
@click.option(
    "--count",
    "-c",
    type=click.IntRange(1, COUNT_MAX),
    default=5,
    show_default=True,
    help="Stop after so many round trips.",
)
@click.option(
    "--interval",
    "-i",
    type=click.FloatRange(0.1, 60),
    default=1.0,
    show_default=True,
    help="Seconds between two of them.",
)
@click.option("--deadline", "-w", type=click.IntRange(1, WITHIN_S_MAX), help="Stop after so many seconds.")
@json_option
@pass_instance
def ping(where: Instance, node: str, count: int, interval: float, deadline: int | None, as_json: bool) -> int:
    """Measure round trips to a device, by its name or id, through the clan's tunnel.

    Exits with 0 when it answered at least once, and with 3 when it did not.
    """
    args = {"node": node, "count": count, "interval_ms": round(interval * 1000)}
    answers: list[dict[str, Any]] = []
    who: dict[str, Any] = {}
    failure: Failure | None = None
    try:
        for item in _items(where, {**args, "within_s": deadline or WITHIN_S_MAX}, interval):
            if "sequence" not in item:
                who = item
                _say(render_ping.title(who), as_json=as_json)
                continue
            answers.append(item)
            _say(render_ping.line(item), as_json=as_json)
    except KeyboardInterrupt:
        if not answers:
            return EXIT_INTERRUPTED
        _say("", as_json=as_json)  # the terminal shows ^C there
    except Failure as error:  # what was measured before is shown all the same
        failure = error
    if who and (answers or failure is None):
        summary = render_ping.summary(answers)
        whole = {**who, "answers": answers, **summary}
        show.answer(whole, lambda _: render_ping.summary_text(who, summary), in_json=as_json)
    if failure is not None:
        raise failure
    return EXIT_DONE if any(item.get("rtt_ms") is not None for item in answers) else EXIT_UNREACHABLE


def _items(where: Instance, args: dict[str, Any], interval_s: float) -> Iterator[dict[str, Any]]:
    with Conversation.open(where) as conversation:
        conversation.ask("ping", args, timeout_s=interval_s + PATIENCE_S)
        yield from conversation.items()


def _say(text: str, *, as_json: bool) -> None:
    if not as_json:
        show.lines(text + "\n")
