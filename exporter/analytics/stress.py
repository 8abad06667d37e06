"""Stress: what the book as it is now would lose in the desk's own scenarios, on named days of history, and on its worst days.

A loss is positive. A made-up scenario moves what it names and nothing else; a historical one needs a close of everything held
on that day and before it, else it is undefined: a scenario that leaves a position out is not that scenario.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import date

import numpy as np

from exporter.analytic import Result, per_book
from exporter.analytics.tail_risk import risk_gap
from exporter.book import Book, returns_between
from exporter.config import RiskConfig, StressConfig
from exporter.desk import DeskState
from exporter.market import Floats
from exporter.reading import Family, Gap, Undefined
from exporter.risk.historical import losses_of, worst_first

STRESS = Family(
    "desk_stress_loss_ratio",
    "Loss of the book in the scenario over net asset value: positive is a loss",
    ("portfolio", "scenario"),
)
WORST = Family(
    "desk_worst_day_loss_ratio",
    "What the book would have lost on the worst, second and third worst day of the window, over net asset value",
    ("portfolio", "rank"),
)
WORST_DAY = Family(
    "desk_worst_day_timestamp_seconds",
    "Which day that was: its start in UTC, Unix time",
    ("portfolio", "rank"),
)
METRICS = (STRESS, WORST, WORST_DAY)
NAME = "stress"
RANKS = 3


def compute(state: DeskState) -> Iterator[Result]:
    """Every configured scenario and the worst days, of every portfolio that can be valued and holds something."""
    return per_book(state, NAME, lambda book: _of(book, state.config.risk))


def _of(book: Book, risk: RiskConfig) -> Iterator[Result]:
    if book.flat or book.unsupported:
        yield Undefined(NAME, Gap.FLAT_BOOK if book.flat else Gap.UNSUPPORTED_INSTRUMENT, book.portfolio)
        return
    for scenario in risk.stress:
        moves = made_up(book, scenario) if scenario.day is None else of_day(book, scenario.day)
        loss = math.nan if isinstance(moves, Gap) else float(losses_of(book.weights, moves[np.newaxis])[0])
        if math.isfinite(loss):
            yield STRESS.sample(book.portfolio, scenario.name, value=loss)
        else:
            gap = moves if isinstance(moves, Gap) else Gap.NOT_FINITE
            yield Undefined(NAME, gap, f"{book.portfolio} {scenario.name}")
    yield from _worst(book, risk)


def made_up(book: Book, scenario: StressConfig) -> Floats:
    """(N,) simple return of each position in a scenario of the desk's own."""
    rest = scenario.shocks.get("*", 0.0)
    return np.array(
        [
            scenario.shocks.get(symbol, scenario.shocks.get(f"sector:{sector}", rest))
            for symbol, sector in zip(book.symbols, book.sectors, strict=True)
        ]
    )


def of_day(book: Book, day: date) -> Floats | Gap:
    """(N,) simple return of each position on a day of history, from the last day before it on which all have a close."""
    complete = book.market.complete_days(book.symbols, book.currency)
    days = book.market.closes.days[complete]
    at = int(np.searchsorted(days, np.datetime64(day, "D")))
    if at == 0 or at == days.size or days[at] != np.datetime64(day, "D"):
        return Gap.PRICE_MISSING
    moves = returns_between(book.symbols, book.currency, book.market, complete[at - 1 : at + 1])[0]
    return moves if np.isfinite(moves).all() else Gap.NOT_FINITE


def _worst(book: Book, risk: RiskConfig) -> Iterator[Result]:
    gap = risk_gap(book, risk.minimum_days)
    if gap is not None:
        yield Undefined(NAME, gap, f"{book.portfolio} worst days")
        return
    losses = losses_of(book.weights, book.returns.matrix)
    for rank, row in enumerate(worst_first(losses)[:RANKS].tolist(), start=1):
        if math.isfinite(losses[row]):
            yield WORST.sample(book.portfolio, str(rank), value=float(losses[row]))
            seconds = book.returns.days[row].astype("datetime64[s]").astype(np.int64)
            yield WORST_DAY.sample(book.portfolio, str(rank), value=float(seconds))
