"""`doctor`: what is in the clan's way on this device; without a daemon, what can be seen from outside of one."""

from typing import Any, Final

import click

from clanctl import render_doctor, show
from clanctl.client import STOPPED, Instance, call
from clanctl.failures import EXIT_DONE, EXIT_UNHEALTHY, EXIT_UNREACHABLE, Failure
from clanctl.options import json_option, pass_instance

PATIENCE_S: Final = 15.0  # the daemon takes nine seconds at most


@click.command()
@json_option
@pass_instance
def doctor(where: Instance, as_json: bool) -> int:
    """Look for what is in the clan's way on this device, and say what to do about it.

    Exits with 4 when there is a problem, and with 3 when no daemon runs.
    """
    try:
        with show.progress("looking around"):
            result: dict[str, Any] = call(where, "doctor", timeout_s=PATIENCE_S)
    except Failure as failure:
        if failure.kind != STOPPED:
            raise
        show.answer(_without_daemon(where, failure), render_doctor.text, in_json=as_json)
        return EXIT_UNREACHABLE
    show.answer(result, render_doctor.text, in_json=as_json)
    return EXIT_UNHEALTHY if render_doctor.has_problem(result) else EXIT_DONE


def _without_daemon(where: Instance, failure: Failure) -> dict[str, Any]:
    from clanctl import outside_look

    return {"self": None, "version": None, "findings": outside_look.findings(where, failure)}
