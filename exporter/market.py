"""Prices of the desk as of now: marks, aligned daily closes, exchange rates. Pure; built once per change of the inputs.

Every price can be asked for in any base currency: `unit_value(symbol, base)` and `base_closes(symbols, base)` convert by the
desk's own rates. Each currency that has a price leads to the currency it is priced in, or to the one it is pegged to; two
currencies convert where their ways meet.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from exporter.snapshot import History, Instrument, InstrumentTerms, Price

Floats = NDArray[np.float64]
Rows: TypeAlias = slice | NDArray[np.intp]
Factor = TypeVar("Factor", float, Floats)
Way: TypeAlias = dict[str, Factor]
"""The currencies one leads to, itself first, and the price of one unit of it in each."""


@dataclass(frozen=True, slots=True)
class Closes:
    """Daily closes on the union of all days: `values` is (days, symbols) float64 > 0, NaN where a symbol has no close.

    `newest` is the row of each column's last close.
    """

    days: NDArray[np.datetime64]
    columns: Mapping[str, int]
    currencies: Mapping[str, str]
    values: Floats
    newest: NDArray[np.intp]


def align(histories: Sequence[History]) -> Closes:
    """Put histories side by side; of two for one symbol the first counts. A close that is not positive is no close."""
    chosen: dict[str, History] = {}
    for history in histories:
        if _usable(history.closes).any():
            chosen.setdefault(history.symbol, history)
    if not chosen:
        return Closes(np.empty(0, "datetime64[D]"), {}, {}, np.empty((0, 0)), np.empty(0, np.intp))
    days = np.unique(np.concatenate([history.days for history in chosen.values()]))
    # Column by column is how closes are read, so columns are contiguous.
    values = np.full((days.size, len(chosen)), np.nan, order="F")
    for column, history in enumerate(chosen.values()):
        usable = _usable(history.closes)
        values[np.searchsorted(days, history.days[usable]), column] = history.closes[usable]
    values.setflags(write=False)
    newest = days.size - 1 - np.isfinite(values[::-1]).argmax(axis=0)
    columns = {symbol: column for column, symbol in enumerate(chosen)}
    return Closes(days, columns, {symbol: history.currency for symbol, history in chosen.items()}, values, newest)


def _usable(closes: Floats) -> NDArray[np.bool_]:
    return np.isfinite(closes) & (closes > 0.0)


@dataclass(frozen=True, slots=True)
class Market:
    """What things are worth.

    Args:
        closes: daily closes, aligned.
        marks: newest price per symbol; a symbol without one is marked at its last close.
        terms: reference data per symbol.
        stale: symbols whose price came, or would come, from a source that is stale.
        pegs: currency to the one it is taken to be worth.
        awaited: whether a source of prices has never been heard: what it would price nobody knows.
    """

    closes: Closes
    marks: Mapping[str, Price]
    terms: Mapping[str, InstrumentTerms]
    stale: frozenset[str] = frozenset()
    pegs: Mapping[str, str] = field(default_factory=dict)
    awaited: bool = False

    def mark(self, symbol: str) -> tuple[float, str] | None:
        """Latest price of one unit and its currency, None where the symbol has no price."""
        price = self.marks.get(symbol)
        if price is not None:
            return float(price.price), price.currency
        column = self.closes.columns.get(symbol)
        if column is None:
            return None
        return float(self.closes.values[self.closes.newest[column], column]), self.closes.currencies[symbol]

    def rate(self, currency: str, base: str) -> float | None:
        """Units of `base` for one unit of `currency`, None where no price leads from one to the other."""
        met = _meeting(self._way(currency), self._way(base))
        return None if met is None else _quotient(*met[1:])

    def _way(self, currency: str) -> Way[float]:
        return _way(currency, 1.0, self._step)

    def _step(self, currency: str) -> tuple[float, str] | None:
        return (1.0, self.pegs[currency]) if currency in self.pegs else self.mark(currency)

    def unit_value(self, symbol: str, base: str) -> float | None:
        """Value in `base` of a position of quantity 1: price x multiplier x exchange rate. None where it cannot be known.

        A currency code without a price of its own is worth its exchange rate.
        """
        marked = self.mark(symbol)
        if marked is None:
            return self.rate(symbol, base)
        price, currency = marked
        rate = self.rate(currency, base)
        return None if rate is None else price * self.multiplier(symbol) * rate

    def priced_in(self, symbol: str) -> str:
        """The currency the symbol is quoted in; a currency without a price of its own is quoted in itself."""
        marked = self.mark(symbol)
        return symbol if marked is None else marked[1]

    def depends_on_stale(self, symbol: str, base: str) -> bool:
        """Whether the symbol's value in `base` rests on a price whose source is stale."""
        return any(name in self.stale for name in (symbol, *self._rates_used(self.priced_in(symbol), base)))

    def _rates_used(self, currency: str, base: str) -> list[str]:
        """The currencies whose own price the rate from one to the other is made of."""
        one, other = self._way(currency), self._way(base)
        met = _meeting(one, other)
        ways = [one, other] if met is None else [_until(one, met[0]), _until(other, met[0])]
        return [name for way in ways for name in way if name not in self.pegs]

    def multiplier(self, symbol: str) -> float:
        """Currency units per point and contract; 1 where no terms are known."""
        terms = self.terms.get(symbol)
        return float(terms.multiplier) if terms else 1.0

    def instrument(self, symbol: str) -> Instrument:
        """What the symbol is; `spot` where no terms are known."""
        terms = self.terms.get(symbol)
        return terms.instrument if terms else "spot"

    def marked_at(self, symbol: str) -> np.datetime64 | None:
        """Market day of the symbol's latest price."""
        price = self.marks.get(symbol)
        if price is not None:
            return np.datetime64(price.at.date(), "D")
        column = self.closes.columns.get(symbol)
        if column is None:
            return None
        day: np.datetime64 = self.closes.days[self.closes.newest[column]]
        return day

    def base_closes(self, symbols: Sequence[str], base: str, rows: Rows = slice(None)) -> Floats:
        """Closes of one unit in `base`, multiplier left out: (days, symbols), NaN where price or rate is missing."""
        matrix = np.empty((self.closes.days[rows].size, len(symbols)), order="F")
        with np.errstate(all="ignore"):
            for at, symbol in enumerate(symbols):
                matrix[:, at] = self._base_series(symbol, base, rows)
        return matrix

    def complete_days(self, symbols: Sequence[str], base: str) -> NDArray[np.intp]:
        """Rows of the closes on which every one of the symbols has a close in `base`, ascending."""
        complete = np.ones(self.closes.days.size, dtype=np.bool_)
        with np.errstate(all="ignore"):
            for symbol in symbols:
                complete &= np.isfinite(self._base_series(symbol, base, slice(None)))
        return np.flatnonzero(complete)

    def _base_series(self, symbol: str, base: str, rows: Rows) -> Floats:
        column = self.closes.columns.get(symbol)
        if column is None:
            return self._rate_series(symbol, base, rows)
        series: Floats = self.closes.values[rows, column]
        currency = self.closes.currencies[symbol]
        return series if currency == base else series * self._rate_series(currency, base, rows)

    def _rate_series(self, currency: str, base: str, rows: Rows) -> Floats:
        days = self.closes.days[rows].size
        if currency == base:
            return np.ones(days)

        def step(code: str) -> tuple[Floats, str] | None:
            return (np.ones(days), self.pegs[code]) if code in self.pegs else self._column(code, rows)

        met = _meeting(_way(currency, np.ones(days), step), _way(base, np.ones(days), step))
        return np.full(days, np.nan) if met is None else met[1] / met[2]

    def _column(self, symbol: str, rows: Rows) -> tuple[Floats, str] | None:
        column = self.closes.columns.get(symbol)
        return None if column is None else (self.closes.values[rows, column], self.closes.currencies[symbol])


def _way(currency: str, one: Factor, step: Callable[[str], tuple[Factor, str] | None]) -> Way[Factor]:
    way: Way[Factor] = {currency: one}
    while (found := step(currency)) is not None and found[1] not in way:
        way[found[1]] = way[currency] * found[0]
        currency = found[1]
    return way


def _meeting(one: Way[Factor], other: Way[Factor]) -> tuple[str, Factor, Factor] | None:
    """The first currency on the one way that lies on the other too, and the prices in it."""
    return next(((name, factor, other[name]) for name, factor in one.items() if name in other), None)


def _until(way: Way[float], end: str) -> list[str]:
    """The currencies before `end`."""
    names = list(way)
    return names[: names.index(end)]


def _quotient(amount: float, price: float) -> float | None:
    return amount / price if price > 0.0 else None


def newest(prices: Sequence[Price]) -> dict[str, Price]:
    """Of several marks for one symbol, the one with the latest market time."""
    chosen: dict[str, Price] = {}
    for price in prices:
        known = chosen.get(price.symbol)
        if known is None or price.at > known.at:
            chosen[price.symbol] = price
    return chosen
