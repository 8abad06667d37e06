"""Beta: how much the book as it is now moves with each benchmark, over the days of its risk window.

Slope of the book's daily returns on the benchmark's, both in the base currency over the same spans of days. Refuses books
without a risk number, and benchmarks without prices for the days or without variance: a flat benchmark has no beta, not 0.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from exporter.analytic import Result, per_book
from exporter.analytics.tail_risk import risk_gap
from exporter.book import Book
from exporter.config import RiskConfig
from exporter.desk import DeskState
from exporter.market import Floats
from exporter.reading import Family, Gap, Undefined
from exporter.risk.historical import losses_of

BETA = Family(
    "desk_beta",
    "Change of the book's return for each unit of the benchmark's, over the risk window: 1 moves with it, negative against it",
    ("portfolio", "benchmark"),
)
METRICS = (BETA,)
NAME = "beta"
NOISE = 1e-12
"""Share of the largest return below which a deviation is rounding."""


def compute(state: DeskState) -> Iterator[Result]:
    """Beta of every portfolio with a risk number to every configured benchmark."""
    if state.config.risk.benchmarks:
        yield from per_book(state, NAME, lambda book: _of(book, state.config.risk))


def beta(returns: Floats, benchmark: Floats) -> float | Gap:
    """Covariance with the benchmark over its variance, both of (T,) simple returns.

    Source: W. F. Sharpe, Capital asset prices, Journal of Finance 19 (1964), 425, footnote 22: the slope of the regression.
    """
    scale = float(np.abs(benchmark).max(initial=0.0))
    if scale == 0.0:
        return Gap.ZERO_VARIANCE
    with np.errstate(all="ignore"):
        moves = benchmark / scale - (benchmark / scale).mean()
        variance = float(moves @ moves)
        if variance <= NOISE**2 * benchmark.size:
            return Gap.ZERO_VARIANCE
        slope = float(moves @ (returns - returns.mean())) / variance / scale
    return slope if math.isfinite(slope) else Gap.NOT_FINITE


def _of(book: Book, risk: RiskConfig) -> Iterator[Result]:
    gap = risk_gap(book, risk.minimum_days)
    if gap is not None:
        yield Undefined(NAME, gap, book.portfolio)
        return
    # The span of the first return begins on a day that is not among them: it is left out.
    returns = 0.0 - losses_of(book.weights, book.returns.matrix[1:])
    for name in risk.benchmarks:
        moves = _moves(book, name)
        found = Gap.SHORT_HISTORY if moves is None else beta(returns[moves[0]], moves[1])
        if moves is not None and moves[1].size < risk.minimum_days - 1:
            found = Gap.SHORT_HISTORY
        if isinstance(found, Gap):
            yield Undefined(NAME, found, f"{book.portfolio} {name}")
        else:
            yield BETA.sample(book.portfolio, name, value=found)


def _moves(book: Book, benchmark: str) -> tuple[Floats, Floats] | None:
    """Which of the book's spans the benchmark has both closes of, and its returns over those; None where it has no history."""
    market = book.market
    if benchmark not in market.closes.columns:
        return None
    rows = np.searchsorted(market.closes.days, book.returns.days)
    closes = market.base_closes([benchmark], book.currency, rows)[:, 0]
    with np.errstate(all="ignore"):
        moves = closes[1:] / closes[:-1] - 1.0
    known = np.isfinite(moves)
    return known, moves[known]
