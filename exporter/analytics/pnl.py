"""Profit and loss of the market day, in base currency and over net asset value at its start.

The day runs from each symbol's last close before the newest market day until now. What was held at its start is valued at
both ends; what was traded since, from its fill price to now, less fees. Fills in another currency are converted at the rate
now, and cash held in that currency is taken back to what it was before them, so with complete fills and no deposits the
result is the change of net asset value. Refuses to guess: without fills from a source, or without a previous close of
something that was held, the day's result is undefined.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np

from exporter.analytic import Result
from exporter.book import MARGINED, Book, Holdings, net
from exporter.config import PortfolioConfig
from exporter.desk import DeskState
from exporter.market import Market
from exporter.reading import Family, Gap, Undefined
from exporter.snapshot import Fill

DAILY_VALUE = Family(
    "desk_pnl_daily_value",
    "Profit of the market day in base currency: since the previous close, fees deducted; negative is a loss",
    ("portfolio", "currency"),
)
DAILY_RATIO = Family(
    "desk_pnl_daily_ratio",
    "Profit of the market day over net asset value at its start; negative is a loss",
    ("portfolio",),
)
METRICS = (DAILY_VALUE, DAILY_RATIO)
NAME = "pnl"
RECENT_DAYS = 10
"""Market days among which the previous close is looked for: longer than any holiday."""


def compute(state: DeskState) -> Iterator[Result]:
    """Profit of the day of every portfolio that can be valued and whose fills are known."""
    for portfolio in state.config.portfolios:
        yield from _of(state, portfolio)


def _of(state: DeskState, portfolio: PortfolioConfig) -> Iterator[Result]:
    book, holdings, fills = state.books[portfolio.name], state.holdings(portfolio), state.fills(portfolio)
    for part in (book, holdings, fills):
        if isinstance(part, Gap):
            yield Undefined(NAME, part, portfolio.name)
            return
    assert isinstance(book, Book) and isinstance(holdings, Holdings) and isinstance(fills, tuple)  # noqa: S101, PT018
    profit = daily_profit(book, holdings, fills)
    if isinstance(profit, Gap):
        yield Undefined(NAME, profit, portfolio.name)
        return
    yield DAILY_VALUE.sample(portfolio.name, book.currency, value=profit)
    at_start = book.nav - profit
    if 0.0 < at_start < math.inf:
        yield DAILY_RATIO.sample(portfolio.name, value=profit / at_start)
    else:
        yield Undefined(NAME, Gap.NOT_FINITE if at_start > 0.0 else Gap.NAV_NOT_POSITIVE, portfolio.name)


@dataclass(frozen=True, slots=True)
class Opening:
    """Value of one unit at the previous close, and its day. A margined instrument's is converted at the rate now: its
    notional was never paid, so the exchange rate moved only the gain."""

    unit: float
    day: date


def daily_profit(book: Book, holdings: Holdings, fills: Sequence[Fill]) -> float | Gap:
    """Profit since the previous close in the book's currency, or why it is not known.

    Args:
        book: the portfolio as it is now, proposed trades included: done at the mark, they earn nothing.
        holdings: what it was built from.
        fills: executions of the portfolio, of any day.
    """
    moved = {symbol for fill in fills for symbol in (fill.symbol, fill.currency)}
    symbols = sorted({*book.symbols, *moved, *(trade.symbol for trade in holdings.trades)})
    days = [day for symbol in symbols if (day := book.market.marked_at(symbol)) is not None]
    if not days:
        return Gap.FLAT_BOOK
    day = max(days)
    openings = previous_closes(symbols, book.currency, book.market, day)
    recent = [fill for fill in fills if _is_of_the_day(fill, openings, day)]
    rates = {currency: book.market.rate(currency, book.currency) for currency in {fill.currency for fill in recent}}
    known = {currency: rate for currency, rate in rates.items() if rate is not None}
    if len(known) < len(rates):
        return Gap.RATE_MISSING
    opening = _opening_quantities(book, holdings, recent)
    if any(symbol not in openings for symbol in opening):
        return Gap.PRICE_MISSING
    now = {symbol: _unit_now(symbol, book, openings) for symbol in symbols}
    held = (quantity * (now[symbol] - openings[symbol].unit) for symbol, quantity in opening.items())
    traded = (_gain(fill, now[fill.symbol], book.market, known[fill.currency]) for fill in recent)
    profit = sum(traded, start=sum(held, start=0.0))
    return profit if math.isfinite(profit) else Gap.NOT_FINITE


def _unit_now(symbol: str, book: Book, openings: Mapping[str, Opening]) -> float:
    """Value of one unit now. A symbol closed today may have no price any more; nothing of it is left, so any value does."""
    unit = book.market.unit_value(symbol, book.currency)
    if unit is not None:
        return unit
    return openings[symbol].unit if symbol in openings else 0.0


def previous_closes(symbols: Sequence[str], base: str, market: Market, day: np.datetime64) -> dict[str, Opening]:
    """Each symbol's last close before `day`; those that have none are left out."""
    before = int(np.searchsorted(market.closes.days, day))
    rows = slice(max(0, before - RECENT_DAYS), before)
    days = market.closes.days[rows]
    closes = market.base_closes(symbols, base, rows)
    found: dict[str, Opening] = {}
    for at, symbol in enumerate(symbols):
        known = np.flatnonzero(np.isfinite(closes[:, at]))
        if known.size:
            row = int(known[-1])
            unit = float(closes[row, at]) * market.multiplier(symbol) * _rate_drift(symbol, base, market, rows, row)
            found[symbol] = Opening(unit, days[row].astype(object))
    return found


def _rate_drift(symbol: str, base: str, market: Market, rows: slice, row: int) -> float:
    """Rate now over rate then for a margined instrument in a foreign currency; 1 for everything else."""
    currency = market.priced_in(symbol)
    rate = market.rate(currency, base)
    if currency == base or rate is None or market.instrument(symbol) not in MARGINED:
        return 1.0
    then = float(market.base_closes([currency], base, rows)[row, 0])
    return rate / then if then > 0.0 else math.nan


def _is_of_the_day(fill: Fill, openings: Mapping[str, Opening], day: np.datetime64) -> bool:
    opening = openings.get(fill.symbol)
    done = fill.at.date()
    today: date = day.astype(object)
    return done >= today if opening is None else done > opening.day


def _opening_quantities(book: Book, holdings: Holdings, fills: Iterable[Fill]) -> dict[str, float]:
    """Signed units held at the previous close: those held now without what was traded since. Zeros are left out."""
    parts = {symbol: [quantity] for symbol, quantity in zip(book.symbols, book.quantities.tolist(), strict=True)}
    for trade in holdings.trades:
        parts.setdefault(trade.symbol, []).append(-trade.quantity)
    cash = {(account.portfolio, account.currency) for account in holdings.accounts}
    for fill in fills:
        parts.setdefault(fill.symbol, []).append(-_signed(fill))
        if (fill.portfolio, fill.currency) in cash:
            parts.setdefault(fill.currency, []).append(_paid(fill, book.market))
    parts.pop(book.currency, None)
    totals = {symbol: net(amounts) for symbol, amounts in parts.items()}
    return {symbol: total for symbol, total in totals.items() if total != 0.0}


def _signed(fill: Fill) -> float:
    return float(fill.quantity) if fill.side == "BUY" else -float(fill.quantity)


def _paid(fill: Fill, market: Market) -> float:
    """What the fill took out of the cash of its currency: price and fee, for margined instruments the fee alone."""
    notional = _signed(fill) * float(fill.price) * market.multiplier(fill.symbol)
    return float(fill.fee) + (0.0 if market.instrument(fill.symbol) in MARGINED else notional)


def _gain(fill: Fill, unit_now: float, market: Market, rate: float) -> float:
    paid = float(fill.price) * market.multiplier(fill.symbol) * rate
    return _signed(fill) * (unit_now - paid) - float(fill.fee) * rate
