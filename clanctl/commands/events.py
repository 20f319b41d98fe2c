"""`events`: what happened in the clan, once or as it comes."""

from typing import Final

import click

from clanctl import render_members, show
from clanctl.answers import number_of, rows_of
from clanctl.client import Instance, call
from clanctl.options import json_option, pass_instance

WAIT_S: Final = 20  # the daemon holds a question so long, and then answers that nothing came
PATIENCE_S: Final = WAIT_S + 10.0
LINES_DEFAULT: Final = 50  # two screens


@click.command()
@click.option("--follow", "-f", is_flag=True, help="Go on showing what comes until Ctrl-C.")
@click.option(
    "--lines",
    "-n",
    type=click.IntRange(min=0),
    help=f"How many of those that were [{LINES_DEFAULT}; all in JSON].",
)
@json_option
@pass_instance
def events(where: Instance, follow: bool, lines: int | None, as_json: bool) -> None:
    """Show what happened in the clan as this device saw it, the newest last."""
    result = call(where, "events")
    past = list(rows_of(result, "events"))
    count = lines if lines is not None else len(past) if as_json else LINES_DEFAULT
    past = past[max(0, len(past) - count) :]
    if as_json and not follow:
        show.as_json({**result, "events": past})
        return
    if not past and not follow:
        show.lines("nothing happened since the daemon was started" if count else "")
    _print(past, as_json=as_json)
    newest = int(number_of(result, "newest"))
    while follow:
        result = call(where, "events", {"after": newest, "wait_s": WAIT_S}, timeout_s=PATIENCE_S)
        _print(list(rows_of(result, "events")), as_json=as_json)
        newest = int(number_of(result, "newest")) or newest


def _print(found: list[dict[str, object]], *, as_json: bool) -> None:
    for event in found:
        if as_json:
            show.as_json(event, compact=True)
        else:
            print(render_members.event_line(event), flush=True)
