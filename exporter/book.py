"""One portfolio, valued: quantities, values and weights by symbol in the base currency, and the joint return history.

Built by `exporter.desk` from the last good snapshots; every risk number starts here. Pure. A portfolio that cannot be valued
honestly is a `Gap`, never a smaller book.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from exporter.market import Floats, Market
from exporter.reading import Gap
from exporter.snapshot import Account, Position

MARGINED = frozenset({"future", "perpetual"})
UNSUPPORTED = frozenset({"option", "unknown"})
DUST = 1e-12
"""Share of what was added up below which a net quantity is a rounding error, not a position."""


@dataclass(frozen=True, slots=True)
class Trade:
    """A proposed trade at the mark. `quantity` is signed: positive buys."""

    portfolio: str
    symbol: str
    quantity: float


@dataclass(frozen=True, slots=True)
class Returns:
    """Joint daily simple returns in the base currency on days for which every held instrument has a price.

    Args:
        days: (T,) the later day of each return, ascending.
        matrix: (T, N) ratio of the exposure, columns in the book's order of symbols; finite.
        coverage_ratio: days used over days asked for, 0 to 1.
        earlier: (E, N) returns of the days right before the first of `days`, oldest first: what backtests of forecasts need.
    """

    days: NDArray[np.datetime64]
    matrix: Floats
    coverage_ratio: float
    earlier: Floats


@dataclass(frozen=True, slots=True)
class Book:
    """A valued portfolio.

    Args:
        portfolio: its name.
        currency: base currency of `values` and `nav`.
        symbols: sorted; every array follows this order.
        sectors: sector of each symbol, `unclassified` where none is known.
        quantities: (N,) signed units, never zero.
        values: (N,) signed exposure: quantity x price x multiplier x rate; finite, as is the sum of their amounts.
        nav: net asset value, > 0.
        returns: joint history of the symbols.
        unsupported: symbols whose risk is not linear; no risk number is given for a book that holds one.
        market: what it was valued with.
    """

    portfolio: str
    currency: str
    symbols: tuple[str, ...]
    sectors: tuple[str, ...]
    quantities: Floats
    values: Floats
    nav: float
    returns: Returns
    unsupported: tuple[str, ...]
    market: Market

    @property
    def weights(self) -> Floats:
        """(N,) signed value over net asset value; finite, as is the sum of their amounts."""
        return self.values / self.nav

    @property
    def flat(self) -> bool:
        """Whether nothing is held."""
        return not self.symbols

    @property
    def day(self) -> np.datetime64 | None:
        """Newest market day of the prices; None for an empty book."""
        days = [self.market.marked_at(symbol) for symbol in self.symbols]
        return max((day for day in days if day is not None), default=None)


@dataclass(frozen=True, slots=True)
class Holdings:
    """What a portfolio consists of before valuation; a composite's are its members' put together."""

    positions: tuple[Position, ...]
    accounts: tuple[Account, ...]
    trades: tuple[Trade, ...] = ()
    cash_known: bool = True


@dataclass(frozen=True, slots=True)
class Valuation:
    """How a book is to be valued: name, base currency, scenarios wanted and days before them, symbol to sector."""

    portfolio: str
    currency: str
    window_days: int
    sectors: Mapping[str, str]
    earlier_days: int = 0


def build_book(valuation: Valuation, holdings: Holdings, market: Market, previous: Book | None = None) -> Book | Gap:
    """Value a portfolio.

    Args:
        valuation: name, currency, window.
        holdings: positions and cash as the sources gave them, plus trades proposed at the mark, which leave the
            net asset value as it is.
        market: prices and rates.
        previous: an earlier book of this portfolio; its returns are kept while closes, symbols and their kind are the same.

    Returns:
        The book, or why it has no value.
    """
    quantities = net_quantities(holdings, valuation.currency)
    symbols = tuple(quantities)
    held = {position.symbol for position in holdings.positions if position.quantity} | _cash(holdings) | set(symbols)
    if any(market.depends_on_stale(symbol, valuation.currency) for symbol in held):
        return Gap.INPUT_STALE
    units = [market.unit_value(symbol, valuation.currency) for symbol in symbols]
    if any(unit is None for unit in units):
        return _missing(symbols, units, market, _cash(holdings))
    nav = _net_asset_value(holdings, market, valuation.currency)
    if isinstance(nav, Gap):
        return nav
    amounts = np.array(list(quantities.values()), dtype=np.float64)
    with np.errstate(all="ignore"):
        values = amounts * np.array(units, dtype=np.float64)
        if not np.isfinite([nav, np.abs(values).sum(), np.abs(values / nav).sum()]).all():
            return Gap.NOT_FINITE
    return Book(
        portfolio=valuation.portfolio,
        currency=valuation.currency,
        symbols=symbols,
        sectors=tuple(_sector(symbol, market, valuation.sectors) for symbol in symbols),
        quantities=amounts,
        values=values,
        nav=nav,
        returns=_known_returns(previous, symbols, valuation, market)
        or joint_returns(symbols, valuation.currency, market, valuation.window_days, valuation.earlier_days),
        unsupported=tuple(symbol for symbol in symbols if market.instrument(symbol) in UNSUPPORTED),
        market=market,
    )


def _known_returns(previous: Book | None, symbols: tuple[str, ...], valuation: Valuation, market: Market) -> Returns | None:
    if previous is None or previous.market.closes is not market.closes:
        return None
    same = previous.symbols == symbols and previous.currency == valuation.currency
    return previous.returns if same and _margined(symbols, previous.market) == _margined(symbols, market) else None


def _margined(symbols: Sequence[str], market: Market) -> list[bool]:
    return [market.instrument(symbol) in MARGINED for symbol in symbols]


def joint_returns(symbols: Sequence[str], base: str, market: Market, window_days: int, earlier_days: int = 0) -> Returns:
    """The last `window_days` simple returns on days for which every symbol has a close, and up to `earlier_days` before them.

    A day missing for one symbol is left out for all, so the return after it spans more than one day for all of them alike.
    A margined instrument's notional was never paid, so it carries no exchange rate risk: its return is that of the price in
    its own currency, paid out at the day's rate.
    """
    wanted = window_days + earlier_days
    complete = market.complete_days(symbols, base)[-(wanted + 1) :] if symbols else np.empty(0, np.intp)
    if complete.size < 2:
        none = np.empty((0, len(symbols)))
        return Returns(np.empty(0, "datetime64[D]"), none, 0.0, none)
    matrix = returns_between(symbols, base, market, complete)
    finite = np.isfinite(matrix).all(axis=1)
    days = market.closes.days[complete[1:]]
    if not finite.all():
        days, matrix = days[finite], matrix[finite]
    matrix.setflags(write=False)
    recent = matrix[-window_days:]
    return Returns(days[-window_days:], recent, recent.shape[0] / window_days, matrix[: matrix.shape[0] - recent.shape[0]])


def returns_between(symbols: Sequence[str], base: str, market: Market, rows: NDArray[np.intp]) -> Floats:
    """(len(rows) - 1, N) simple returns from each of these rows of the closes to the next; not finite where a close is missing.

    Source of the treatment of margined instruments: see `joint_returns`.
    """
    with np.errstate(all="ignore"):
        matrix = _growth(symbols, base, market, rows) - 1.0
        for at, (symbol, margined) in enumerate(zip(symbols, _margined(symbols, market), strict=True)):
            if margined and market.priced_in(symbol) != base:
                matrix[:, at] -= _growth([market.priced_in(symbol)], base, market, rows)[:, 0] - 1.0
    return matrix


def _growth(symbols: Sequence[str], base: str, market: Market, rows: NDArray[np.intp]) -> Floats:
    """(T, N) close over the close before, row by row in memory: a scenario is one row, and the tail is read by rows."""
    closes = market.base_closes(symbols, base, rows)
    return np.divide(closes[1:], closes[:-1], order="C")


def net_quantities(holdings: Holdings, base: str) -> dict[str, float]:
    """Signed units by symbol, sorted, without what nets to nothing.

    Cash in a foreign currency is a position in that currency: it carries its risk. Base currency, held as cash or as a
    position, carries none and is left out.
    """
    parts: dict[str, list[float]] = {}
    for position in holdings.positions:
        parts.setdefault(position.symbol, []).append(float(position.quantity))
    for account in holdings.accounts:
        parts.setdefault(account.currency, []).append(float(account.cash))
    for trade in holdings.trades:
        parts.setdefault(trade.symbol, []).append(trade.quantity)
    parts.pop(base, None)
    totals = {symbol: net(amounts) for symbol, amounts in sorted(parts.items())}
    return {symbol: total for symbol, total in totals.items() if total != 0.0}


def net(amounts: Sequence[float]) -> float:
    """The sum, exactly 0 where only the rounding of decimals is left: 0.3 - 0.1 - 0.2 holds nothing."""
    total = sum(amounts)
    return total if abs(total) > DUST * sum(abs(amount) for amount in amounts) or not math.isfinite(total) else 0.0


def _cash(holdings: Holdings) -> set[str]:
    return {account.currency for account in holdings.accounts}


def _net_asset_value(holdings: Holdings, market: Market, base: str) -> float | Gap:
    total = 0.0
    with_equity = {account.portfolio for account in holdings.accounts if account.equity is not None}
    for account in holdings.accounts:
        amount = account.equity if account.portfolio in with_equity else account.cash
        rate = market.rate(account.currency, base)
        if rate is None:
            return Gap.RATE_MISSING
        total += float(amount or 0) * rate
    for position in holdings.positions:
        if position.portfolio in with_equity or position.quantity == 0:
            continue
        worth = _worth(position, market, base)
        if isinstance(worth, Gap):
            return worth
        total += worth
    if not holdings.cash_known:
        return Gap.EQUITY_MISSING
    if not math.isfinite(total):
        return Gap.NOT_FINITE
    return total if total > 0.0 else Gap.NAV_NOT_POSITIVE


def _worth(position: Position, market: Market, base: str) -> float | Gap:
    """What a position adds to the net asset value: its value, or for margined instruments the gain since entry."""
    unit = market.unit_value(position.symbol, base)
    if unit is None:
        return Gap.PRICE_MISSING
    if market.instrument(position.symbol) not in MARGINED:
        return float(position.quantity) * unit
    marked = market.mark(position.symbol)
    if position.entry_price is None or marked is None or marked[0] == 0.0:
        return Gap.EQUITY_MISSING
    return float(position.quantity) * unit * (1.0 - float(position.entry_price) / marked[0])


def _missing(symbols: Sequence[str], units: Sequence[float | None], market: Market, cash: Collection[str]) -> Gap:
    if market.awaited:
        return Gap.INPUT_MISSING
    unpriced = [symbol for symbol, unit in zip(symbols, units, strict=True) if unit is None]
    known = all(market.mark(symbol) is not None or symbol in cash for symbol in unpriced)
    return Gap.RATE_MISSING if known else Gap.PRICE_MISSING


def _sector(symbol: str, market: Market, configured: Mapping[str, str]) -> str:
    terms = market.terms.get(symbol)
    return configured.get(symbol) or (terms.sector if terms else None) or "unclassified"
