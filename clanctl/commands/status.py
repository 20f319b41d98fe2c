"""`status` and `version`: this device and its daemon."""

import click

from clanctl import render, show
from clanctl.client import Instance, call
from clanctl.failures import EXIT_DONE, EXIT_UNHEALTHY, EXIT_UNREACHABLE, Failure
from clanctl.options import json_option, pass_instance
from clanmesh_protocol.version import version_text


@click.command()
@json_option
@pass_instance
def status(where: Instance, as_json: bool) -> int:
    """Show this device, what is wrong with it, and what to do. Exits with 4 when something is."""
    result = call(where, "status")
    show.answer(result, render.status_text, in_json=as_json)
    return EXIT_DONE if result.get("healthy") else EXIT_UNHEALTHY


@click.command()
@json_option
@pass_instance
def version(where: Instance, as_json: bool) -> None:
    """Show the versions of clanctl and, where one runs, of the daemon."""
    own = version_text()
    try:
        daemon = str(call(where, "version").get("version"))
    except Failure as failure:
        if failure.status != EXIT_UNREACHABLE:
            raise
        daemon = None
    text = f"clanctl    {own}\nclanmeshd  {daemon or 'not running'}"
    show.answer({"clanctl": own, "clanmeshd": daemon}, text, in_json=as_json)
