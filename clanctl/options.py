"""Options and arguments that several commands share."""

from typing import Final

import click

from clanctl.client import Instance

pass_instance: Final = click.make_pass_decorator(Instance)

json_option: Final = click.option("--json", "as_json", is_flag=True, help="Print the daemon's answer as JSON.")
