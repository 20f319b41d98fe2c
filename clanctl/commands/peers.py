"""`peers`: the whole clan at a glance, once or live."""

from typing import Any, Final

import click

from clanctl import render, show
from clanctl.client import Conversation, Instance, call
from clanctl.failures import one_line
from clanctl.options import json_option, pass_instance

WATCH_INTERVAL_S: Final = 1


@click.command()
@click.option("--watch", is_flag=True, help="Go on showing it until Ctrl-C.")
@json_option
@pass_instance
def peers(where: Instance, watch: bool, as_json: bool) -> None:
    """Show every device of the clan: whether it lives, how it is reached, and what it runs."""
    if watch:
        _watch(where, as_json=as_json)
        return
    result = call(where, "peers")
    if as_json:
        show.as_json(result)
    else:
        _print(result)


def _print(result: dict[str, Any]) -> None:
    show.lines(render.peers_title(result) + "\n")
    show.table(render.peers_sheet(result))
    notes = render.peers_notes(result)
    if notes:
        show.lines("\n" + "\n".join(notes))


def _watch(where: Instance, *, as_json: bool) -> None:
    with Conversation.open(where) as conversation:
        conversation.ask("watch", {"interval_s": WATCH_INTERVAL_S}, timeout_s=None)
        if as_json:
            for result in conversation.items():
                show.as_json(result, compact=True)
        elif show.is_terminal():
            _live(conversation)
        else:
            for result in conversation.items():
                _print(result)
                print(flush=True)


def _live(conversation: Conversation) -> None:
    from rich.console import Group
    from rich.live import Live
    from rich.text import Text

    from clanctl.sheets import drawn, fitted

    console = show.console()
    with Live(console=console, auto_refresh=False, transient=False) as live:
        for result in conversation.items():
            table = fitted(render.peers_sheet(result), console.width)
            notes = [Text(one_line(note)) for note in render.peers_notes(result)]
            title = Text(render.peers_title(result), style="bold")
            live.update(Group(title, Text(), drawn(table), *notes), refresh=True)
