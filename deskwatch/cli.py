"""The command `deskwatch`. Subcommands of the two processes come from entry points; what both share stands here."""

from __future__ import annotations

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
@click.option("--connect", is_flag=True, help="Also ask every source, Alertmanager and receiver once: uses their rate limits.")
def check(files: tuple[Path, ...], connect: bool) -> None:
    """Check configuration files: every fault at once, exit 1 if there is any."""
    from deskwatch.connections import finish

    failed = False
    good: dict[Path, Mapping[str, Any]] = {}
    for file in files:
        try:
            content = read(file)
            wanted = {name: model() for name, model in sections().items() if name in content}
            good[file] = load(file, wanted)
        except ConfigError as error:
            failed = True
            click.echo(f"{file}: {len(error.faults)} fault{'s' if len(error.faults) > 1 else ''}", err=True)
            for fault in error.faults:
                click.echo(f"  {fault}", err=True)
        else:
            click.echo(f"{file}: ok ({', '.join(sorted(wanted)) or 'empty'})")
    if connect and good:
        failed = not _connect(good) or failed
    finish(1 if failed else 0)


def _connect(checked: Mapping[Path, Mapping[str, Any]]) -> bool:
    """Ask everything the files name and print what came of it; whether all of it answered."""
    from deskwatch.connections import ask
    from deskwatch.logs import LogConfig, configure

    configure(LogConfig(level="error"), component="check")
    well = True
    for file, found in zip(checked, ask(list(checked.values())), strict=True):
        for finding in found:
            well = well and finding.ok
            for line in finding.lines():
                click.echo(f"{file}: {line}", err=not finding.ok)
    return well


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
