"""One portfolio, valued: quantities, values and weights by symbol in the base currency, and the joint return history.

Built by `exporter.desk` from the last good snapshots; every risk number starts here. Pure. A portfolio that cannot be valued
honestly is a `Gap`, never a smaller book.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from exporter.market import Floats, Market
from exporter.reading import Gap
from exporter.snapshot import Account, Position

MARGINED = frozenset({"future", "perpetual"})
UNSUPPORTED = frozenset({"option"})
RECENT_DAYS = 10
"""Market days among which yesterday's close is looked for: longer than any holiday."""


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
        matrix: (T, N) ratio, columns in the book's order of symbols; finite.
        coverage_ratio: days used over days asked for, 0 to 1.
    """

    days: NDArray[np.datetime64]
    matrix: Floats
    coverage_ratio: float


@dataclass(frozen=True, slots=True)
class Book:
    """A valued portfolio.

    Args:
        portfolio: its name.
        currency: base currency of `values` and `nav`.
        symbols: sorted; every array follows this order.
        sectors: sector of each symbol, `unclassified` where none is known.
        quantities: (N,) signed units.
        values: (N,) signed exposure: quantity x price x multiplier x rate.
        nav: net asset value, > 0.
        returns: joint history of the symbols.
        unsupported: symbols whose risk is not linear; no risk number is given for a book that holds one.
        previous_values: (N,) exposure of the same quantities at the last close before the newest market day; NaN where unknown.
        day: newest market day of the prices; None for an empty book.
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
    previous_values: Floats
    day: np.datetime64 | None
    market: Market

    @property
    def weights(self) -> Floats:
        """(N,) signed value over net asset value."""
        return self.values / self.nav

    @property
    def flat(self) -> bool:
        """Whether nothing is held."""
        return not self.symbols


@dataclass(frozen=True, slots=True)
class Holdings:
    """What a portfolio consists of before valuation; a composite's are its members' put together."""

    positions: tuple[Position, ...]
    accounts: tuple[Account, ...]
    trades: tuple[Trade, ...] = ()
    cash_known: bool = True


@dataclass(frozen=True, slots=True)
class Valuation:
    """How a book is to be valued: name, base currency, scenarios wanted, symbol to sector."""

    portfolio: str
    currency: str
    window_days: int
    sectors: Mapping[str, str]


def build_book(valuation: Valuation, holdings: Holdings, market: Market, previous: Book | None = None) -> Book | Gap:
    """Value a portfolio.

    Args:
        valuation: name, currency, window.
        holdings: positions and cash as the sources gave them, plus trades proposed at the mark, which leave the
            net asset value as it is.
        market: prices and rates.
        previous: an earlier book of this portfolio; its return history is kept while closes and symbols are the same.

    Returns:
        The book, or why it has no value.
    """
    quantities = _net_quantities(holdings, valuation.currency)
    symbols = tuple(sorted(symbol for symbol, quantity in quantities.items() if quantity != 0.0))
    units = [market.unit_value(symbol, valuation.currency) for symbol in symbols]
    if any(unit is None for unit in units):
        return _missing(symbols, units, market)
    nav = _net_asset_value(holdings, market, valuation.currency)
    if isinstance(nav, Gap):
        return nav
    amounts = np.array([quantities[symbol] for symbol in symbols], dtype=np.float64)
    values = amounts * np.array(units, dtype=np.float64)
    days = [market.marked_at(symbol) for symbol in symbols]
    day = max((each for each in days if each is not None), default=None)
    return Book(
        portfolio=valuation.portfolio,
        currency=valuation.currency,
        symbols=symbols,
        sectors=tuple(_sector(symbol, market, valuation.sectors) for symbol in symbols),
        quantities=amounts,
        values=values,
        nav=nav,
        returns=_known_returns(previous, symbols, valuation, market)
        or joint_returns(symbols, valuation.currency, market, valuation.window_days),
        unsupported=tuple(symbol for symbol in symbols if _instrument(symbol, market) in UNSUPPORTED),
        previous_values=amounts * _previous_units(symbols, valuation.currency, market, day),
        day=day,
        market=market,
    )


def _known_returns(previous: Book | None, symbols: tuple[str, ...], valuation: Valuation, market: Market) -> Returns | None:
    if previous is None or previous.market.closes is not market.closes:
        return None
    same = previous.symbols == symbols and previous.currency == valuation.currency
    return previous.returns if same else None


def joint_returns(symbols: Sequence[str], base: str, market: Market, window_days: int) -> Returns:
    """The last `window_days` simple returns on days for which every symbol has a close.

    A day missing for one symbol is left out for all, so the return after it spans more than one day for all of them alike.
    """
    empty = Returns(np.empty(0, "datetime64[D]"), np.empty((0, len(symbols))), 0.0)
    if not symbols:
        return empty
    closes = market.base_closes(symbols, base)
    complete = np.flatnonzero(np.isfinite(closes).all(axis=1))[-(window_days + 1) :]
    if complete.size < 2:
        return empty
    prices = closes[complete]
    matrix = prices[1:] / prices[:-1] - 1.0
    matrix.setflags(write=False)
    return Returns(market.closes.days[complete[1:]], matrix, matrix.shape[0] / window_days)


def _net_quantities(holdings: Holdings, base: str) -> dict[str, float]:
    """Signed units by symbol. Cash in a foreign currency is a position in that currency: it carries its risk."""
    quantities: dict[str, float] = {}
    for position in holdings.positions:
        quantities[position.symbol] = quantities.get(position.symbol, 0.0) + float(position.quantity)
    for account in holdings.accounts:
        if account.currency != base:
            quantities[account.currency] = quantities.get(account.currency, 0.0) + float(account.cash)
    for trade in holdings.trades:
        quantities[trade.symbol] = quantities.get(trade.symbol, 0.0) + trade.quantity
    return quantities


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
    return total if total > 0.0 and np.isfinite(total) else Gap.NAV_NOT_POSITIVE


def _worth(position: Position, market: Market, base: str) -> float | Gap:
    """What a position adds to the net asset value: its value, or for margined instruments the gain since entry."""
    unit = market.unit_value(position.symbol, base)
    if unit is None:
        return Gap.PRICE_MISSING
    if _instrument(position.symbol, market) not in MARGINED:
        return float(position.quantity) * unit
    marked = market.mark(position.symbol)
    if position.entry_price is None or marked is None or marked[0] == 0.0:
        return Gap.EQUITY_MISSING
    return float(position.quantity) * unit * (1.0 - float(position.entry_price) / marked[0])


def _missing(symbols: Sequence[str], units: Sequence[float | None], market: Market) -> Gap:
    priced = all(market.mark(symbol) is not None for symbol, unit in zip(symbols, units, strict=True) if unit is None)
    return Gap.RATE_MISSING if priced else Gap.PRICE_MISSING


def _instrument(symbol: str, market: Market) -> str:
    terms = market.terms.get(symbol)
    return terms.instrument if terms else "spot"


def _sector(symbol: str, market: Market, configured: Mapping[str, str]) -> str:
    terms = market.terms.get(symbol)
    return configured.get(symbol) or (terms.sector if terms else None) or "unclassified"


def _previous_units(symbols: Sequence[str], base: str, market: Market, day: np.datetime64 | None) -> Floats:
    """Unit values at each symbol's last close before `day`; NaN where there is none."""
    units = np.full(len(symbols), np.nan)
    if day is None:
        return units
    before = int(np.searchsorted(market.closes.days, day))
    closes = market.base_closes(symbols, base, slice(max(0, before - RECENT_DAYS), before))
    for at, symbol in enumerate(symbols):
        known = np.flatnonzero(np.isfinite(closes[:, at]))
        if known.size:
            units[at] = closes[known[-1], at] * market.multiplier(symbol)
    return units
