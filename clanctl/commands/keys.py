"""`rotate`: other keys for this device's tunnels and datagrams."""

import click

from clanctl import render_members, show
from clanctl.client import WORK_TIMEOUT_S, Instance, call
from clanctl.options import json_option, pass_instance


@click.command()
@json_option
@pass_instance
def rotate(where: Instance, as_json: bool) -> None:
    """Give this device other keys for its tunnels and messages, without a break.

    Who it is, its name and its address stay. Each device does this by itself now and then; `tunnel-key-days`
    (`clanctl admin propose setting`) says how often.
    """
    result = call(where, "rotate", timeout_s=WORK_TIMEOUT_S)
    show.answer(result, render_members.rotated_text, in_json=as_json)
