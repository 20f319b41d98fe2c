"""The commands of `clanctl`: their names, their one-line help, and where each is, without importing any."""

import importlib
import os
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import click

from clanctl.client import instance
from clanctl.failures import EXIT_DONE, EXIT_INTERRUPTED, EXIT_USAGE, Failure
from clanctl.groups import Group


class Place(NamedTuple):
    """Where a command is defined, its line in the help, and under which heading that is."""

    module: str
    attribute: str
    summary: str
    heading: str


_CLAN: Final = "The clan"
_SAY: Final = "What all follow"
_HERE: Final = "This device"

COMMANDS: Final[dict[str, Place]] = {
    "init": Place("clan", "init", "Found a clan, with this device as its first admin.", _CLAN),
    "invite": Place("invite", "invite", "Make a token with which one more device may join.", _CLAN),
    "join": Place("clan", "join", "Join a clan with a token that an admin made.", _CLAN),
    "peers": Place("peers", "peers", "Show every device of the clan and how it does.", _CLAN),
    "ping": Place("ping", "ping", "Measure round trips to a device through its tunnel.", _CLAN),
    "rename": Place("devices", "rename", "Give a device another name.", _CLAN),
    "tag": Place("devices", "tag", "Give a device tags, or take some away.", _CLAN),
    "renew": Place("devices", "renew", "Prolong a membership.", _CLAN),
    "remove": Place("devices", "remove", "Put a device out of the clan, for ever.", _CLAN),
    "admin": Place("admin", "admin", "Who decides for the clan, and the recovery key.", _CLAN),
    "repo": Place("repo", "repo", "The git repository that the clan follows.", _SAY),
    "signer": Place("signer", "signer", "The SSH keys that may sign what the clan runs.", _SAY),
    "secrets": Place("secrets", "secrets", "Values that only chosen devices can read.", _SAY),
    "status": Place("status", "status", "Show this device, what is wrong with it, and what to do.", _HERE),
    "doctor": Place(
        "doctor", "doctor", "Look for what is in the clan's way here, and what to do about it.", _HERE
    ),
    "events": Place("events", "events", "Show what happened.", _HERE),
    "rollout": Place("rollout", "rollout", "How far this device is with the newest commit.", _HERE),
    "rotate": Place("keys", "rotate", "Give this device other keys for its tunnels.", _HERE),
    "leave": Place("clan", "leave", "Take this device out of its clan.", _HERE),
    "demo": Place("demo", "demo", "Watch a clan of real daemons form on this one machine.", _HERE),
    "version": Place("status", "version", "Show the versions of clanctl and of the daemon.", _HERE),
}

COMPLETION_VARIABLE: Final = "_CLANCTL_COMPLETE"  # click's: a shell asks for completions


class LazyGroup(Group):
    """A group whose commands are imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name the commands in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command."""
        place = COMMANDS.get(cmd_name)
        if place is None:
            return None
        command = getattr(importlib.import_module(f"clanctl.commands.{place.module}"), place.attribute)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands from the table alone."""
        width = max(map(len, COMMANDS))
        for heading in dict.fromkeys(place.heading for place in COMMANDS.values()):
            with formatter.section(heading):
                rows = [(name, place) for name, place in COMMANDS.items() if place.heading == heading]
                formatter.write_dl([(name.ljust(width), place.summary) for name, place in rows])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--state-dir", metavar="DIR", help="State of the instance [/var/lib/clanmesh].")
@click.option("--runtime-dir", metavar="DIR", help="Where its control socket is [/run/clanmesh].")
@click.pass_context
def cli(context: click.Context, state_dir: str | None, runtime_dir: str | None) -> None:
    """Devices that find one another, share an overlay and secrets, and follow one signed repository.

    The directories can also be set as CLANMESH_STATE_DIR and CLANMESH_RUNTIME_DIR. Exit status: 0 done,
    1 failed, 2 usage, 3 the daemon (or who is pinged) is not reachable, 4 the clan is unhealthy.
    """
    context.obj = instance(state_dir, runtime_dir)


def run(arguments: Sequence[str]) -> int:
    """Run one command line and give its exit status. Raises Failure."""
    if COMPLETION_VARIABLE in os.environ:
        cli.main(list(arguments), prog_name="clanctl")
    try:
        # Not by `main`: it answers a closed pipe and Ctrl-C in ways of its own, and the guard has ours.
        with cli.make_context("clanctl", list(arguments)) as context:
            status: Any = cli.invoke(context)
    except click.exceptions.Exit as done:
        return done.exit_code
    except click.exceptions.Abort:
        return EXIT_INTERRUPTED
    except click.UsageError as error:
        return _usage(error)
    except click.ClickException as error:
        raise Failure("clanctl", _sentence(error.format_message())) from error
    return status if isinstance(status, int) else EXIT_DONE


def _usage(error: click.UsageError) -> int:
    """Show the help where nothing was asked (click has an exception for it from 8.2 on), else one line."""
    if type(error).__name__ == "NoArgsIsHelpError":
        error.show()
        return EXIT_USAGE
    path = error.ctx.command_path if error.ctx is not None else "clanctl"
    what = path.removeprefix("clanctl").strip() or "usage"
    raise Failure(what, _sentence(error.format_message()), f"see `{path} --help`", status=EXIT_USAGE) from error


def _sentence(message: str) -> str:
    """Click's message as a part of our line: no capital, no full stop, and what it proposes in brackets."""
    said, _, proposed = message.strip().removesuffix(".").partition(". Did you mean ")
    text = said[:1].lower() + said[1:]
    return f"{text} (did you mean {proposed})" if proposed else text
