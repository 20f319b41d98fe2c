"""Groups of commands: their lists have whole sentences, and whoever mistypes a command is told the nearest."""

from typing import Final

import click

SENTENCE_CHARACTERS_MAX: Final = 1000  # click cuts at this many; the longest sentence is about a hundred


class Group(click.Group):
    """A group of commands, and so are the groups in it."""

    group_class = type

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list, in lines as long as the terminal's; click's own cuts what is longer than one."""
        found = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl(
                [
                    (name, each.get_short_help_str(SENTENCE_CHARACTERS_MAX))
                    for name, each in found
                    if each is not None
                ]
            )

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find a command. Raises UsageError with those of nearly the same name."""
        name = args[0]
        known = self.list_commands(ctx)
        if name in known or name.startswith("-") or ctx.resilient_parsing:
            return super().resolve_command(ctx, args)
        from difflib import get_close_matches  # only whoever errs pays for it

        near = " or ".join(map(repr, get_close_matches(name, known)))
        raise click.UsageError(f"No such command {name!r}{f' (did you mean {near}?)' if near else ''}", ctx)
