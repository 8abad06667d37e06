"""`deskwatch demo`: the whole product on one machine, on real rates. Reads the options; `session` does the rest."""

from __future__ import annotations

import asyncio
import datetime as dt
import signal
import sys
import time
from pathlib import Path

import click

from deskwatch.clock import SystemClock
from deskwatch.demo.commentary import Commentary
from deskwatch.demo.desk import BOOKS, DESK, EARLIEST_DAY, FIRST_DAY, LAST_DAY
from deskwatch.demo.rates import require_rates
from deskwatch.demo.session import Options, Session
from deskwatch.web import until_stopped

STOP_SECONDS = 15.0
"""What an orderly end may take before it is cut short."""
INTRODUCTION = (
    "Three currency books on the European Central Bank's own reference rates. A simulated trader writes positions and fills "
    "into a trading database; the exporter turns them into gauges, Prometheus judges them, Alertmanager notifies, and the "
    "receiver delivers to this console. Days pass quickly; around 2015-01-15 they slow down.",
    "ES is the historical expected shortfall at 0.975, VaR the historical value at risk at 0.99: one day, in percent "
    "of net asset value.",
)


class Day(click.ParamType[dt.date]):
    """A calendar day, `2014-11-03`."""

    name = "date"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> dt.date:
        """Parse; anything else is a usage error."""
        if isinstance(value, dt.date):
            return value
        try:
            return dt.date.fromisoformat(str(value))
        except ValueError:
            self.fail(f"must be a date such as 2014-11-03, was {value!r}", param, ctx)


@click.command("demo", help="Run an embedded desk on real ECB rates, with everything around it, on loopback.")
@click.option("--from", "first_day", type=Day(), default=FIRST_DAY, show_default=True, help="First market day.")
@click.option("--to", "last_day", type=Day(), default=LAST_DAY, show_default=True, help="Last market day; the replay holds it.")
@click.option(
    "--speed", type=click.FloatRange(min=0.01, max=100), default=2.0, show_default=True, help="Market days per second."
)
@click.option("--seconds", type=click.FloatRange(min=1), help="End by itself after so many seconds.")
@click.option("--direct", is_flag=True, help="Without Prometheus and Alertmanager: the exporter reports to the receiver.")
@click.option("--folder", type=click.Path(path_type=Path, file_okay=False), help="Keep configuration, database and logs there.")
def command(
    first_day: dt.date, last_day: dt.date, speed: float, seconds: float | None, direct: bool, folder: Path | None
) -> None:
    """Run the demo until Ctrl-C, SIGTERM or `--seconds`."""
    require_rates()
    if first_day < EARLIEST_DAY:
        raise click.BadParameter(
            f"must be {EARLIEST_DAY} or later: the strategies need history, was {first_day}", param_hint="--from"
        )
    if last_day < first_day:
        raise click.BadParameter(f"must not be before --from ({first_day}), was {last_day}", param_hint="--to")
    asyncio.run(_run(Options(first_day, last_day, speed, seconds, direct, folder)))


async def _run(options: Options) -> None:
    began = time.monotonic()
    names = [*(book.portfolio for book in BOOKS), DESK]
    commentary = Commentary(sys.stdout, lambda: time.monotonic() - began, names)
    commentary.title("deskwatch demo", INTRODUCTION)

    async def main(stop: asyncio.Event) -> None:
        # A closed terminal ends the demo as Ctrl-C does.
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, stop.set)
        await Session(options, commentary, SystemClock()).run(stop)

    await until_stopped(main, grace_seconds=STOP_SECONDS)
    commentary.event("STOPPED", "every process has ended", "strong")
