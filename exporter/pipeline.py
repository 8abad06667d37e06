"""The cycle: desk state -> every analytic -> limits -> reading. This is the only place that knows the order.

Pure but for the stopwatch, so what-if runs the same cycle on a state that never happened.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from deskwatch.logs import get_logger
from exporter import limits
from exporter.analytic import Analytic, load_analytics
from exporter.book import Book
from exporter.desk import DeskState, forget
from exporter.reading import Family, Gap, Reading, Sample, Undefined

DATA_TIMESTAMP = Family("desk_data_timestamp_seconds", "Market time of the newest data of a source, Unix time", ("source",))
UNDEFINED = Family(
    "desk_analytic_undefined",
    "Numbers that have no value now, by analytic and reason; see /debug/undefined",
    ("analytic", "reason"),
)
ANALYTIC_DURATION = Family("desk_analytic_duration_seconds", "Time the analytic took in the last cycle", ("analytic",))
CYCLE_DURATION = Family("desk_cycle_duration_seconds", "Time all analytics took in the last cycle")
CYCLE_TIMESTAMP = Family("desk_cycle_timestamp_seconds", "Wall time of the last finished cycle, Unix time")
METRICS = (DATA_TIMESTAMP, UNDEFINED, ANALYTIC_DURATION, CYCLE_DURATION, CYCLE_TIMESTAMP)


def run_cycle(state: DeskState, analytics: Sequence[Analytic], stopwatch: Callable[[], float] = time.perf_counter) -> Reading:
    """Compute one reading.

    Args:
        state: the desk as of now.
        analytics: what to compute, in any order: none sees another's result.
        stopwatch: monotonic seconds.
    """
    started = stopwatch()
    samples: list[Sample] = []
    undefined: list[Undefined] = []
    durations: dict[str, float] = {}
    for analytic in analytics:
        began = stopwatch()
        found, missing = _shielded(analytic, state)
        samples += found
        undefined += missing
        durations[analytic.name] = stopwatch() - began
    flat = [name for name, book in state.books.items() if isinstance(book, Book) and book.flat]
    samples += limits.judge(state.config.limits, samples, flat)
    forget(state)
    samples += _about_the_cycle(state, undefined, durations, stopwatch() - started)
    return Reading(state.at, tuple(samples), tuple(undefined), durations)


def _shielded(analytic: Analytic, state: DeskState) -> tuple[list[Sample], list[Undefined]]:
    """One analytic's results; what it raises becomes an undefined number, and nothing not finite gets through."""
    samples: list[Sample] = []
    undefined: list[Undefined] = []
    try:
        for result in analytic.compute(state):
            if isinstance(result, Undefined):
                undefined.append(result)
            elif math.isfinite(result.value):
                samples.append(result)
            else:
                undefined.append(Undefined(analytic.name, Gap.NOT_FINITE, "/".join(result.labels)))
    except Exception:
        get_logger().exception("an analytic failed; its numbers are absent", analytic=analytic.name)
        return [], [Undefined(analytic.name, Gap.FAILED, "")]
    return samples, undefined


def _about_the_cycle(
    state: DeskState, undefined: Iterable[Undefined], durations: Mapping[str, float], cycle_seconds: float
) -> list[Sample]:
    counts: dict[tuple[str, str], int] = {}
    for gap in undefined:
        counts[gap.analytic, gap.reason.value] = counts.get((gap.analytic, gap.reason.value), 0) + 1
    return [
        *(
            DATA_TIMESTAMP.sample(feed.source, value=feed.snapshot.data_at.timestamp())
            for feed in state.feeds
            if feed.snapshot and feed.snapshot.data_at
        ),
        *(UNDEFINED.sample(*labels, value=float(count)) for labels, count in sorted(counts.items())),
        *(ANALYTIC_DURATION.sample(name, value=seconds) for name, seconds in durations.items()),
        CYCLE_DURATION.sample(value=cycle_seconds),
        CYCLE_TIMESTAMP.sample(value=state.at.timestamp()),
    ]


def families(analytics: Sequence[Analytic]) -> tuple[Family, ...]:
    """Every family a cycle can produce."""
    return (*(family for analytic in analytics for family in analytic.metrics), *limits.METRICS, *METRICS)


def catalogue() -> list[Mapping[str, Any]]:
    """Every family of the exporter, for `deskwatch metrics`."""
    from exporter.poller import METRICS as POLLER_METRICS
    from exporter.service import METRICS as SERVICE_METRICS
    from exporter.source import SOURCES

    delivered = [family for name in SOURCES.modules for family in SOURCES.plugin(name).metrics]
    return [
        {"name": family.name, "type": family.type, "labels": list(family.labels), "help": family.help}
        for family in (*families(load_analytics()), *delivered, *POLLER_METRICS, *SERVICE_METRICS)
    ]
