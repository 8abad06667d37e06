"""Prices of the desk as of now: marks, aligned daily closes, exchange rates. Pure; built once per change of the inputs.

Every price can be asked for in any base currency: `unit_value(symbol, base)` and `base_closes(symbols, base)` convert by the
desk's own rates, direct, inverse, or through one common currency.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from exporter.snapshot import History, InstrumentTerms, Price

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Closes:
    """Daily closes on the union of all days: `values` is (days, symbols) float64, NaN where a symbol has no close."""

    days: NDArray[np.datetime64]
    columns: Mapping[str, int]
    currencies: Mapping[str, str]
    values: Floats


def align(histories: Sequence[History]) -> Closes:
    """Put histories side by side; of two for one symbol the first counts."""
    chosen: dict[str, History] = {}
    for history in histories:
        if history.days.size:
            chosen.setdefault(history.symbol, history)
    if not chosen:
        return Closes(np.empty(0, "datetime64[D]"), {}, {}, np.empty((0, 0)))
    days = np.unique(np.concatenate([history.days for history in chosen.values()]))
    values = np.full((days.size, len(chosen)), np.nan)
    for column, history in enumerate(chosen.values()):
        values[np.searchsorted(days, history.days), column] = history.closes
    values.setflags(write=False)
    columns = {symbol: column for column, symbol in enumerate(chosen)}
    return Closes(days, columns, {symbol: history.currency for symbol, history in chosen.items()}, values)


@dataclass(frozen=True, slots=True)
class Market:
    """What things are worth. `marks`: newest price per symbol; a symbol without one is marked at its last close."""

    closes: Closes
    marks: Mapping[str, Price]
    terms: Mapping[str, InstrumentTerms]

    def mark(self, symbol: str) -> tuple[float, str] | None:
        """Latest price of one unit and its currency, None where the symbol has no price."""
        price = self.marks.get(symbol)
        if price is not None:
            return float(price.price), price.currency
        column = self.closes.columns.get(symbol)
        if column is None:
            return None
        series = self.closes.values[:, column]
        return float(series[np.flatnonzero(np.isfinite(series))[-1]]), self.closes.currencies[symbol]

    def rate(self, currency: str, base: str) -> float | None:
        """Units of `base` for one unit of `currency`, None where no price leads from one to the other."""
        if currency == base:
            return 1.0
        direct, inverse = self.mark(currency), self.mark(base)
        if direct is not None and direct[1] == base:
            return direct[0]
        if inverse is not None and inverse[1] == currency:
            return 1.0 / inverse[0]
        if direct is not None and inverse is not None and direct[1] == inverse[1]:
            return direct[0] / inverse[0]
        return None

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

    def multiplier(self, symbol: str) -> float:
        """Currency units per point and contract; 1 where no terms are known."""
        terms = self.terms.get(symbol)
        return float(terms.multiplier) if terms else 1.0

    def marked_at(self, symbol: str) -> np.datetime64 | None:
        """Market day of the symbol's latest price."""
        price = self.marks.get(symbol)
        if price is not None:
            return np.datetime64(price.at.date(), "D")
        column = self.closes.columns.get(symbol)
        if column is None:
            return None
        day: np.datetime64 = self.closes.days[np.flatnonzero(np.isfinite(self.closes.values[:, column]))[-1]]
        return day

    def base_closes(self, symbols: Sequence[str], base: str, rows: slice = slice(None)) -> Floats:
        """Closes of one unit in `base`, multiplier left out: (days, symbols), NaN where price or rate is missing."""
        matrix = np.empty((self.closes.days[rows].size, len(symbols)))
        for at, symbol in enumerate(symbols):
            matrix[:, at] = self._base_series(symbol, base)[rows]
        return matrix

    def _base_series(self, symbol: str, base: str) -> Floats:
        column = self.closes.columns.get(symbol)
        if column is None:
            return self._rate_series(symbol, base)
        series: Floats = self.closes.values[:, column]
        currency = self.closes.currencies[symbol]
        return series if currency == base else series * self._rate_series(currency, base)

    def _rate_series(self, currency: str, base: str) -> Floats:
        if currency == base:
            return np.ones(self.closes.days.size)
        direct, inverse = self._column(currency), self._column(base)
        if direct is not None and direct[1] == base:
            return direct[0]
        if inverse is not None and inverse[1] == currency:
            return 1.0 / inverse[0]
        if direct is not None and inverse is not None and direct[1] == inverse[1]:
            return direct[0] / inverse[0]
        return np.full(self.closes.days.size, np.nan)

    def _column(self, symbol: str) -> tuple[Floats, str] | None:
        column = self.closes.columns.get(symbol)
        return None if column is None else (self.closes.values[:, column], self.closes.currencies[symbol])


def newest(prices: Sequence[Price]) -> dict[str, Price]:
    """Of several marks for one symbol, the one with the latest market time."""
    chosen: dict[str, Price] = {}
    for price in prices:
        known = chosen.get(price.symbol)
        if known is None or price.at > known.at:
            chosen[price.symbol] = price
    return chosen
