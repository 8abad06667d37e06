"""The command `deskwatch`. Subcommands of the two processes come from entry points; what both share stands here."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import click

from deskwatch import __version__
from deskwatch.config import load, read, sections
from deskwatch.errors import ConfigError, DeskwatchError

COMMAND_GROUP = "deskwatch.commands"
CATALOGUE_GROUP = "deskwatch.catalogues"


class Commands(click.Group):
    """A group that also finds subcommands by entry point and shows deskwatch's own errors without a traceback."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of all subcommands."""
        return sorted({*super().list_commands(ctx), *(point.name for point in entry_points(group=COMMAND_GROUP))})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Load one subcommand; the others stay unimported."""
        for point in entry_points(group=COMMAND_GROUP):
            if point.name == cmd_name:
                command: click.Command = point.load()
                return command
        return super().get_command(ctx, cmd_name)

    def invoke(self, ctx: click.Context) -> Any:
        """Run; an error of ours becomes its message and exit code 1."""
        try:
            return super().invoke(ctx)
        except ConfigError as error:
            for fault in error.faults:
                click.echo(str(fault), err=True)
            ctx.exit(1)
        except DeskwatchError as error:
            click.echo(f"deskwatch: {error}", err=True)
            ctx.exit(1)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="deskwatch")
def main() -> None:
    """Watch a trading desk with Prometheus and Alertmanager."""


@main.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
def check(files: tuple[Path, ...]) -> None:
    """Check configuration files: every fault at once, exit 1 if there is any."""
    failed = False
    for file in files:
        try:
            content = read(file)
            wanted = {name: model() for name, model in sections().items() if name in content}
            load(file, wanted)
        except ConfigError as error:
            failed = True
            click.echo(f"{file}: {len(error.faults)} fault{'s' if len(error.faults) > 1 else ''}", err=True)
            for fault in error.faults:
                click.echo(f"  {fault}", err=True)
        else:
            click.echo(f"{file}: ok ({', '.join(sorted(wanted)) or 'empty'})")
    sys.exit(1 if failed else 0)


@main.command()
@click.option("--format", "form", type=click.Choice(["markdown", "json"]), default="markdown", show_default=True)
def metrics(form: str) -> None:
    """Print every metric family deskwatch exports."""
    from deskwatch.catalogue import as_json, as_markdown

    families = collect_catalogue()
    click.echo(as_json(families) if form == "json" else as_markdown(families))


def collect_catalogue() -> list[Mapping[str, Any]]:
    """Every family of the installed packages: `name`, `type`, `labels`, `help`, sorted by name."""
    found: dict[str, Mapping[str, Any]] = {}
    for point in entry_points(group=CATALOGUE_GROUP):
        families: Iterable[Mapping[str, Any]] = point.load()()
        # What both processes export about themselves is one family.
        found |= {str(family["name"]): family for family in families}
    return [found[name] for name in sorted(found)]
