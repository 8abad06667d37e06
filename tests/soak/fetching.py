"""10,000 cycles of an exporter whose sources do everything wrong, beside one whose sources are well: does anything pile up?

Two real exporter processes, the same sources; the venues are here. One of them gets every fault of `tests.soak.faults` and a
reload every few seconds. A probe inside each looks at memory, objects, tasks, sockets and files. Their slopes over the cycles,
after a warm-up, must be no larger than those of the control, and the control's no larger than nothing: a loss in what both do
would not show otherwise.

    python -m tests.soak.fetching [--cycles 10000] [--seed 1] [--output FILE]
"""

from __future__ import annotations

import asyncio
import logging
import os
import platform
import signal
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import numpy as np

from tests import bookkeeper
from tests.flows.exporter.running import Running, Series, running, value, write_configuration
from tests.plug_ins import installed
from tests.soak import faults, probe
from tests.soak.faults import Venues

INTERVAL_SECONDS, TIMEOUT_SECONDS, STALE_SECONDS, CYCLE_SECONDS = 0.1, 1.0, 2.0, 0.05
LOOK_SECONDS, RELOAD_SECONDS = 1.0, 4.0
WARM_UP_RATIO = 0.25
BLOCKS = 24
"""Means of so many stretches of the run are what the line is drawn through: looks close together are not independent."""
WATCHED: Mapping[str, tuple[str, float, float]] = {
    probe.MEMORY.name: ("memory, kB", 1024.0, 2048.0),
    probe.OBJECTS.name: ("objects", 1.0, 2000.0),
    probe.TASKS.name: ("tasks", 1.0, 1.0),
    probe.SOCKETS.name: ("sockets", 1.0, 1.0),
    probe.FILES.name: ("files", 1.0, 1.0),
    probe.THREADS.name: ("threads", 1.0, 1.0),
}
"""Family to its title, its unit, and how much it may grow over the whole run, noise apart."""


@dataclass
class Seen:
    """What was seen of one exporter: a row for each look."""

    rows: list[dict[str, float]] = field(default_factory=list)
    first: Series = field(default_factory=dict)
    last: Series = field(default_factory=dict)
    reloads: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    """What it logged as an error: nothing a venue does is one of ours."""

    @property
    def cycles(self) -> float:
        """Finished so far."""
        return self.rows[-1][probe.CYCLES.name] if self.rows else 0.0

    def hear(self, said: list[dict[str, Any]]) -> None:
        """Lines of its log; they are forgotten then."""
        for each in said:
            if each["level"] in ("error", "critical"):
                last = str(each.get("exception", "")).strip().rpartition("\n")[2]
                self.errors[f"{each['event']} ({each.get('analytic') or each.get('source')}): {last}"] += 1
        said.clear()

    def look(self, page: Series) -> None:
        """One page; one without a new look of the probe is passed over."""
        row = {family.name: value(page, family.name) for family in probe.FAMILIES}
        found = {name: number for name, number in row.items() if number is not None}
        if len(found) == len(row) and found[probe.CYCLES.name] > self.cycles:
            self.rows.append(found)
            self.last = page

    def total(self, name: str, label: str | None = None) -> Counter[str]:
        """What a counter counted since the faults began, over all sources but the probe, by a label."""
        counts: Counter[str] = Counter()
        for (family, labels), number in self.last.items():
            of = dict(labels)
            if family == name and of.get("source") != probe.NAME:
                since = number - self.first.get((family, labels), 0.0)
                counts[of[label] if label else ""] += int(since if since >= 0 else number)  # one that went and came starts anew
        return counts


@dataclass(frozen=True)
class Line:
    """A line through what was seen: growth per cycle, and its standard error."""

    first: float
    last: float
    slope: float
    error: float

    @classmethod
    def through(cls, rows: Sequence[Mapping[str, float]], name: str) -> Line:
        """After the warm-up."""
        kept = rows[int(len(rows) * WARM_UP_RATIO) :]
        blocks = [block for block in np.array_split(np.arange(len(kept)), min(BLOCKS, max(3, len(kept) // 3))) if block.size]
        x = np.array([np.mean([kept[at][probe.CYCLES.name] for at in block]) for block in blocks])
        y = np.array([np.mean([kept[at][name] for at in block]) for block in blocks])
        spread = x - x.mean()
        slope = float(spread @ y / (spread @ spread))
        rest = y - y.mean() - slope * spread
        error = float(np.sqrt(rest @ rest / max(1, len(x) - 2) / (spread @ spread)))
        return cls(float(y[0]), float(y[-1]), slope, error)


@dataclass(frozen=True)
class Verdict:
    """One quantity of both exporters in its own unit. Growth: over the watched part of the run; noise: two standard errors."""

    title: str
    with_faults: Line
    without: Line
    cycles: float
    unit: float
    tolerance: float

    @property
    def grown(self) -> tuple[float, float]:
        """The control's growth, and its noise."""
        return self._over_the_run(self.without.slope), self._over_the_run(2.0 * self.without.error)

    @property
    def excess(self) -> tuple[float, float]:
        """How much more it grew than the control's, and the noise of that."""
        noise = 2.0 * float(np.hypot(self.with_faults.error, self.without.error))
        return self._over_the_run(self.with_faults.slope - self.without.slope), self._over_the_run(noise)

    @property
    def holds(self) -> bool:
        """Neither is larger than noise and tolerance."""
        return all(growth <= noise + self.tolerance for growth, noise in (self.grown, self.excess))

    def _over_the_run(self, per_cycle: float) -> float:
        return per_cycle * self.cycles / self.unit


def configuration(venues: Venues, turn: int = 0) -> dict[str, Any]:
    """The desk; each turn of the reloads rotates the keys, moves an interval, or takes a source away and brings it back."""
    names = [name for name in faults.NAMES if not (turn % 4 == 2 and name in ("well", "hang"))]
    sources: list[dict[str, Any]] = [
        {
            "type": bookkeeper.NAME,
            "name": name,
            "base_url": venues.urls[name],
            "key": f"key-{turn // 2}",
            "interval_seconds": INTERVAL_SECONDS * (1.5 if turn % 4 == 3 and name == "slow" else 1.0),
            "timeout_seconds": TIMEOUT_SECONDS,
            "stale_after_seconds": STALE_SECONDS,
            "breaker": {"failures": 4},
        }
        for name in names
    ]
    for each in sources:
        if each["name"] == "tls":
            each["http"] = {"ca_file": venues.ca_file.name}
        if each["name"] == "quota" and venues.faults:
            each |= {"limit": 10, "window_seconds": 2}
    look = {"type": probe.NAME, "name": probe.NAME, "interval_seconds": LOOK_SECONDS, "timeout_seconds": 10, "jitter_ratio": 0}
    portfolios = [{"name": name, "base_currency": "USD", "sources": [name]} for name in names]
    exporter = {
        "web": {"listen": "127.0.0.1:0"},
        "cycle_seconds": CYCLE_SECONDS,
        "sources": [*sources, look],
        "portfolios": [*portfolios, {"name": "desk", "base_currency": "USD", "members": names}],
    }
    return {"logs": {"format": "json"}, "exporter": exporter}


async def soak(cycles: int, seed: int, folder: Path) -> tuple[Seen, Seen]:
    """Run both until each has finished so many cycles; what was seen of the faulty one and of the control."""
    seen = Seen(), Seen()
    async with AsyncExitStack() as stack:
        ours = [await stack.enter_async_context(faults.venues(seed, _made(folder / name))) for name in ("faulty", "control")]
        desks = [
            await stack.enter_async_context(running(folder / name, configuration(venues)))
            for name, venues in zip(("faulty", "control"), ours, strict=True)
        ]
        for exporter, each in zip(desks, seen, strict=True):
            each.first = await exporter.until(has_numbers)
        ours[0].faults = True
        reloading = asyncio.ensure_future(_reload(folder / "faulty", ours[0], desks[0], seen[0]))
        try:
            while min(each.cycles for each in seen) < cycles:
                await asyncio.sleep(LOOK_SECONDS)
                for venues, exporter, each in zip(ours, desks, seen, strict=True):
                    venues.forget()
                    each.hear(exporter.said)
                    each.look(await exporter.series())
                if reloading.done():
                    await reloading
        finally:
            reloading.cancel()
            await asyncio.wait({reloading})
    return seen


def has_numbers(page: Series) -> bool:
    """Every source has delivered."""
    return value(page, "desk_portfolio_value", portfolio="desk", currency="USD") is not None


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


async def _reload(folder: Path, venues: Venues, exporter: Running, seen: Seen) -> None:
    while True:
        seen.reloads += 1
        write_configuration(folder, configuration(venues, seen.reloads))
        exporter.process.send_signal(signal.SIGHUP)
        await asyncio.sleep(RELOAD_SECONDS)


def judge(seen: tuple[Seen, Seen], tolerance: float = 1.0) -> list[Verdict]:
    """Every quantity; `tolerance` multiplies what each may grow more than the control."""
    with_faults, without = seen
    watched = min(each.cycles for each in seen) * (1 - WARM_UP_RATIO)
    verdicts = []
    for name, (title, unit, allowed) in WATCHED.items():
        lines = Line.through(with_faults.rows, name), Line.through(without.rows, name)
        verdicts.append(Verdict(title, *lines, watched, unit, allowed * tolerance))
    return verdicts


def table(seen: tuple[Seen, Seen], verdicts: Sequence[Verdict]) -> Iterator[str]:
    """For a person."""
    for title, each in zip(("with faults", "control"), seen, strict=True):
        failures = each.total("desk_source_fetch_failures_total", "reason")
        rejected = each.total("desk_records_rejected_total")[""]
        fetches = each.total("desk_source_fetches_total")[""]
        by_source = each.total("desk_source_fetches_total", "source")
        least = min(by_source, key=lambda name, counts=by_source: counts[name])  # type: ignore[misc]
        done = (
            f"{each.cycles:,.0f} cycles, {fetches:,} fetches (fewest of {least}: {by_source[least]:,}), {each.reloads} reloads"
        )
        yield f"{title}: {done}, {each.errors.total()} errors logged"
        yield from (f"  {count} x {event}" for event, count in each.errors.most_common())
        if sum(failures.values()):
            said = ", ".join(f"{reason} {count:,}" for reason, count in failures.most_common() if count)
            yield f"  failed {sum(failures.values()):,}: {said}; records rejected {rejected:,}"
    yield ""
    titles = ("with faults", "control", "control grew by", "more than it by")
    yield f"{'':12}{''.join(f'{title:>22}' for title in titles)}{'allowed':>10}"
    yield f"{'':12}{'first':>11}{'last':>11}{'first':>11}{'last':>11}{'':>11}{'(2 s.e.)':>11}{'':>11}{'(2 s.e.)':>11}"
    for each in verdicts:
        ends = (each.with_faults.first, each.with_faults.last, each.without.first, each.without.last)
        shown = "".join(f"{number / each.unit:11,.1f}" for number in ends)
        judged = "".join(f"{number:11,.1f}" for number in (*each.grown, *each.excess))
        yield f"{each.title:12}{shown}{judged}{each.tolerance:10,.0f}  {'ok' if each.holds else 'TOO MUCH'}"


def _heading(cycles: int, seed: int, seconds: float) -> Iterator[str]:
    commit = _git("rev-parse", "--short", "HEAD") + (" and what is not committed yet" if _git("status", "--porcelain") else "")
    yield f"Soak of the exporter's fetching, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC, commit {commit}"
    yield f"python -m tests.soak.fetching --cycles {cycles} --seed {seed}: {seconds / 60:.1f} minutes"
    yield f"Python {platform.python_version()}, {os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}"
    timing = f"cycle {CYCLE_SECONDS:g} s, interval {INTERVAL_SECONDS:g} s, deadline {TIMEOUT_SECONDS:g} s"
    yield f"{len(faults.NAMES)} sources; {timing}; a reload every {RELOAD_SECONDS:g} s"
    yield f"the first {WARM_UP_RATIO:.0%} is warm-up; lines through the means of {BLOCKS} stretches of the rest"
    yield ""


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], capture_output=True, text=True, check=False).stdout.strip()


@click.command()
@click.option("--cycles", default=10_000, show_default=True)
@click.option("--seed", default=1, show_default=True)
@click.option("--output", type=click.Path(path_type=Path), help="Written as well as printed.")
def main(cycles: int, seed: int, output: Path | None) -> None:
    """Run it and print the table; exit code 1 where something piles up."""
    begun = datetime.now(UTC)
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)  # whoever asked has gone: in a soak that is nothing
    with tempfile.TemporaryDirectory() as name:
        os.environ["PYTHONPATH"] = str(plug_ins(Path(name)))
        seen = asyncio.run(soak(cycles, seed, Path(name)))
    verdicts = judge(seen)
    lines = [*_heading(cycles, seed, (datetime.now(UTC) - begun).total_seconds()), *table(seen, verdicts)]
    click.echo("\n".join(lines))
    if output:
        output.write_text("\n".join(lines) + "\n")
    if not all(each.holds for each in verdicts):
        raise SystemExit(1)


def plug_ins(folder: Path) -> Path:
    """What PYTHONPATH needs."""
    return installed(folder, "deskwatch.sources", {each.NAME: each.__name__ for each in (bookkeeper, probe)})


if __name__ == "__main__":
    main()
