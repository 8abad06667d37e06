"""Correlation of a book's largest positions, how stable it is, and whether it has broken lately.

Daily returns of the risk window in base currency; recent means the last `risk.recent_days` of them. Of a book with more than
`risk.correlation_assets` positions the largest by exposure count. Refuses books of one position, and of fewer days than
`risk.minimum_days`; an asset whose price never moved in either period has no correlation and is left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from exporter.analytic import Result, per_book
from exporter.book import Book
from exporter.config import RiskConfig
from exporter.desk import DeskState
from exporter.market import Floats
from exporter.reading import Family, Gap, Undefined
from exporter.risk.correlation_break import break_pvalue, correlations, stability_ratio

CORRELATION = Family(
    "desk_correlation",
    "Pearson correlation of the daily returns of two of the largest positions over the risk window, -1 to 1",
    ("portfolio", "asset_a", "asset_b"),
)
STABILITY = Family(
    "desk_correlation_stability_ratio",
    "1 less half the mean absolute difference of recent and earlier correlations: 1 where none changed, 0 to 1",
    ("portfolio",),
)
BREAK = Family(
    "desk_correlation_break_pvalue",
    "Probability of a recent change of the correlations this large had there been none, 0 to 1; permutation test",
    ("portfolio",),
)
METRICS = (CORRELATION, STABILITY, BREAK)
NAME = "correlation"


def compute(state: DeskState) -> Iterator[Result]:
    """Matrix, stability and break test of every portfolio of two positions or more."""
    return per_book(state, NAME, lambda book: _of(book, state.config.risk))


def _of(book: Book, risk: RiskConfig) -> Iterator[Result]:
    if book.flat or len(book.symbols) < 2:
        yield Undefined(NAME, Gap.FLAT_BOOK if book.flat else Gap.SINGLE_POSITION, book.portfolio)
        return
    if book.returns.matrix.shape[0] < max(risk.minimum_days, 2 * risk.recent_days):
        yield Undefined(NAME, Gap.SHORT_HISTORY, book.portfolio)
        return
    chosen = np.sort(np.argsort(-np.abs(book.values), kind="stable")[: risk.correlation_assets])
    returns = book.returns.matrix[:, chosen]
    moving = _moves(returns[: -risk.recent_days]) & _moves(returns[-risk.recent_days :])
    if int(moving.sum()) < 2:
        yield Undefined(NAME, Gap.ZERO_VARIANCE, book.portfolio)
        return
    names = [book.symbols[at] for at in chosen[moving].tolist()]
    yield from _about(book.portfolio, names, returns[:, moving], risk.recent_days)


def _about(portfolio: str, names: Sequence[str], returns: Floats, recent_days: int) -> Iterator[Result]:
    pairs = zip(*(each.tolist() for each in np.triu_indices(len(names), 1)), strict=True)
    for (a, b), value in zip(pairs, correlations(returns).tolist(), strict=True):
        yield CORRELATION.sample(portfolio, names[a], names[b], value=value)
    earlier, recent = returns[:-recent_days], returns[-recent_days:]
    yield STABILITY.sample(portfolio, value=stability_ratio(earlier, recent))
    yield BREAK.sample(portfolio, value=break_pvalue(returns, recent_days))


def _moves(returns: Floats) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    """Which columns have variance beyond rounding."""
    scale = np.abs(returns).max(axis=0)
    with np.errstate(all="ignore"):
        deviation = (returns / scale).std(axis=0)
    moves: np.ndarray[tuple[int, ...], np.dtype[np.bool_]] = (scale > 0.0) & (deviation > 1e-12)
    return moves
