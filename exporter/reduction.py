"""Which positions to cut, and how far, to bring a book inside one limit: one rule per limit, pure functions of the book.

Positions are only ever reduced: nothing is turned over or opened as a hedge, for what to hedge with is the desk's decision.
What the rules return is a share to keep per position, `reducing_trades` makes it trades, `exporter.whatif` checks them through
the cycle.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import TypeAlias

import numpy as np

from deskwatch.errors import Permanent, Reason
from exporter.analytics.concentration import hhi
from exporter.analytics.exposure import sector_weights
from exporter.analytics.tail_risk import CONFIDENCES
from exporter.book import Book, Trade, net, net_quantities
from exporter.config import LIMITS, PortfolioConfig
from exporter.desk import DeskState
from exporter.market import Floats
from exporter.reading import Gap
from exporter.risk.historical import (
    component_expected_shortfall,
    expected_shortfall,
    historical_var,
    losses_of,
    tail,
    worst_first,
)

Rule: TypeAlias = Callable[[Book, float], Floats]
"""(book, limit as ratio of net asset value) -> (N,) share of each position to keep, 0 to 1."""
Measure: TypeAlias = Callable[[Floats, float], Floats]
WHOLE = frozenset({"share", "future", "option"})
"""Instruments traded in whole units."""
FINER_DIGITS = 4
"""Of every other quantity the step is the power of ten four digits below the position's first, at most one unit: currencies
trade in whole units from 10,000 on, 2.5 bitcoin in steps of 0.0001."""
GRID = np.linspace(0.0, 1.0, 65)[1:]
HALVINGS = 48
ROUNDING = 1e-12
"""Share of a limit that is rounding of the computation, not a reason to cut one more position."""


def concentration(book: Book, limit: float) -> Floats:
    """Cut every position larger than the limit to the limit."""
    amounts = np.abs(book.weights)
    return np.minimum(1.0, np.divide(limit, amounts, out=np.ones_like(amounts), where=amounts > 0.0))


def concentration_hhi(book: Book, limit: float) -> Floats:
    """Cut the largest positions to one common size, the largest at which the index respects the limit.

    Raises:
        Permanent: the index of N equal positions, 1/N, is still over the limit.
    """
    amounts = np.abs(book.values)
    held = amounts[amounts > 0.0]
    if held.size * limit < 1.0:
        least = f"{held.size} equal positions have an index of {1.0 / max(held.size, 1):.3g}"
        raise Permanent(
            f"{book.portfolio}: no reduction brings the index to {limit:.3g}: {least}; spread the book over more symbols",
            reason=Reason.REJECTED,
        )
    low, high = float(held.min()), float(held.max())
    for _ in range(HALVINGS):
        middle = low + (high - low) / 2.0
        inside = (hhi(np.minimum(held, middle)) or 0.0) <= limit
        low, high = (middle, high) if inside else (low, middle)
    return np.minimum(1.0, np.divide(low, amounts, out=np.ones_like(amounts), where=amounts > 0.0))


def sector(book: Book, limit: float) -> Floats:
    """Scale the heavy side of every sector over the limit, pro rata; the side that offsets it stays."""
    kept = np.ones(book.weights.size)
    for name, total in sector_weights(book).items():
        if abs(total) > limit:
            inside = np.array([each == name for each in book.sectors])
            kept[inside] = _heavy_side(book.weights[inside], limit)
    return kept


def gross_exposure(book: Book, limit: float) -> Floats:
    """Scale every position pro rata."""
    gross = float(np.abs(book.weights).sum())
    return np.full(book.weights.size, min(1.0, limit / gross) if gross > 0.0 else 1.0)


def net_exposure(book: Book, limit: float) -> Floats:
    """Scale the side that is too large, pro rata."""
    return _heavy_side(book.weights, limit)


def tail_measure(measure: Measure, confidence: float, book: Book, limit: float) -> Floats:
    """Reduce the position with the largest share in expected shortfall by the least that satisfies the limit; where closing it
    is not enough, close it and go on to the next.

    The least cut is the first of 64 equal steps that satisfies the limit, refined by bisection: VaR need not fall evenly.
    """
    returns, weights = book.returns.matrix, book.weights.copy()
    kept = np.ones(weights.size)
    losses = losses_of(weights, returns)
    for _ in range(weights.size):
        if measure(losses, confidence) <= limit * (1.0 + ROUNDING):
            break
        worst = tail(worst_first(losses), confidence)
        at = int(component_expected_shortfall(weights, returns, worst).argmax())
        left = 1.0 - _least_cut(measure, confidence, losses, 0.0 - weights[at] * returns[:, at], limit)
        kept[at] *= left
        weights[at] *= left
        losses = losses_of(weights, returns)
    return kept


def _least_cut(measure: Measure, confidence: float, losses: Floats, of_position: Floats, limit: float) -> float:
    """Share of one position to take out, 1 where no share is enough."""
    inside = np.flatnonzero(measure(losses[:, None] - of_position[:, None] * GRID, confidence) <= limit)
    if not inside.size:
        return 1.0
    enough = float(GRID[inside[0]])
    too_little = enough - float(GRID[0])
    for _ in range(HALVINGS):
        middle = (too_little + enough) / 2.0
        if measure(losses - middle * of_position, confidence) <= limit:
            enough = middle
        else:
            too_little = middle
    return enough


def _heavy_side(weights: Floats, limit: float) -> Floats:
    """Scale the longs where the sum is over the limit, the shorts where it is under minus the limit."""
    total = float(weights.sum())
    heavy = weights * np.sign(total) > 0.0
    excess = abs(total) - limit
    if excess <= 0.0:
        return np.ones(weights.size)
    return np.where(heavy, 1.0 - excess / float(np.abs(weights[heavy]).sum()), 1.0)


RULES: dict[str, Rule] = {
    "concentration": concentration,
    "concentration_hhi": concentration_hhi,
    "sector": sector,
    "gross_exposure": gross_exposure,
    "net_exposure": net_exposure,
    "leverage": gross_exposure,
    **{f"var_{level}": partial(tail_measure, historical_var, float(level)) for level in CONFIDENCES},
    **{f"expected_shortfall_{level}": partial(tail_measure, expected_shortfall, float(level)) for level in CONFIDENCES},
}
"""By name of the limit. A loss already made cannot be traded away, so the limit on it has no rule."""
if set(LIMITS) - set(RULES) != {"daily_loss"}:
    raise AssertionError(f"exporter.config.LIMITS and RULES disagree: {set(LIMITS) ^ set(RULES)}")


def reducing_trades(state: DeskState, config: PortfolioConfig, book: Book, kept: Floats) -> Iterator[Trade]:
    """Trades that reduce a portfolio's positions: rounded up to a whole step, never past zero.

    Args:
        state: the desk the book is of.
        config: the portfolio; in a composite the members that hold a position trade, the largest holder first.
        book: it, valued.
        kept: (N,) share of each position to keep, 0 to 1.
    """
    cuts = np.abs(book.quantities * (1.0 - kept)).tolist()
    holders = {member.name: _held(state, member, config.base_currency) for member in state.members(config)}
    for symbol, quantity, cut in zip(book.symbols, book.quantities.tolist(), cuts, strict=True):
        left = _rounded_up(cut, abs(quantity), book.market.instrument(symbol) in WHOLE)
        sign = math.copysign(1.0, quantity)
        amounts = {member: sign * quantities.get(symbol, 0.0) for member, quantities in holders.items()}
        for member in sorted(amounts, key=amounts.__getitem__, reverse=True):
            taken = min(left, amounts[member])
            if taken > 0.0:
                yield Trade(member, symbol, -sign * taken)
                left -= taken


def _held(state: DeskState, portfolio: PortfolioConfig, base: str) -> Mapping[str, float]:
    holdings = state.holdings(portfolio)
    return {} if isinstance(holdings, Gap) else net_quantities(holdings, base)


def _rounded_up(cut: float, held: float, whole: bool) -> float:
    """The cut on the next whole step, at most what is held."""
    if cut == 0.0:
        return 0.0
    exponent = 0 if whole else min(0, max(math.floor(math.log10(held)) - FINER_DIGITS, -300))
    steps = max(1, math.ceil(round(cut / 10.0**exponent, 9)))
    return min(round(steps * 10.0**exponent, -exponent), held)


def merged(trades: Iterable[Trade]) -> tuple[Trade, ...]:
    """One trade per portfolio and symbol, those that cancel left out."""
    amounts: dict[tuple[str, str], list[float]] = {}
    for trade in trades:
        amounts.setdefault((trade.portfolio, trade.symbol), []).append(trade.quantity)
    return tuple(Trade(*key, quantity=net(parts)) for key, parts in amounts.items() if net(parts))
