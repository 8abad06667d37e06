"""Desks made by hand for tests: records in, desk state out, no source and no clock."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import cache
from typing import Any

import numpy as np

from exporter.analytic import load_analytics
from exporter.book import Book
from exporter.config import ExporterConfig
from exporter.desk import DeskState, Feed, assemble
from exporter.market import Floats
from exporter.pipeline import run_cycle
from exporter.reading import Family, Gap, Reading, Sample, Undefined
from exporter.snapshot import (
    Account,
    Fill,
    History,
    InstrumentTerms,
    Position,
    Price,
    Snapshot,
    StrategyReturns,
)

NOW = datetime(2015, 1, 16, 9, tzinfo=UTC)
MONDAY = date(2015, 1, 12)
FRANC_SLICE = (date(2014, 1, 2), date(2015, 2, 27))
"""Days of the ECB's reference rates around the franc break, pinned: history no release changes."""


def make_config(
    portfolios: Mapping[str, str] | None = None,
    composites: Mapping[str, Sequence[str]] | None = None,
    limits: Mapping[tuple[str, str], float] | None = None,
    base: str = "EUR",
    sectors: Mapping[str, str] | None = None,
    sources: Mapping[str, Sequence[str]] | None = None,
    **risk: int,
) -> ExporterConfig:
    """Section `exporter`: portfolio to base currency, composite to members, (portfolio, limit) to value."""
    simple = portfolios or {"carry": base}
    return ExporterConfig.model_validate(
        {
            "sources": [{"type": "ecb", "name": name} for name in ("book", "rates", "other")],
            "portfolios": [
                *(
                    {"name": name, "base_currency": currency, "sources": list((sources or {}).get(name, ()))}
                    for name, currency in simple.items()
                ),
                *(
                    {"name": name, "base_currency": base, "members": list(members)}
                    for name, members in (composites or {}).items()
                ),
            ],
            "limits": [
                {"portfolio": portfolio, "limit": limit, "value": value} for (portfolio, limit), value in (limits or {}).items()
            ],
            "sectors": dict(sectors or {}),
            "risk": {"window_days": 250, "minimum_days": 2, "minimum_sample": 8} | risk,
        }
    )


def feed(source: str = "book", *, stale: bool = False, missing: bool = False, **records: Iterable[Any]) -> Feed:
    """A source that delivered these records and provides their kinds."""
    snapshot = Snapshot(NOW, **{kind: tuple(found) for kind, found in records.items()})
    return Feed(source, "database", frozenset(records), None if missing else snapshot, stale)


def make_state(config: ExporterConfig, *feeds: Feed, previous: DeskState | None = None) -> DeskState:
    """The desk state of one cycle."""
    return assemble(NOW, config, feeds, previous)


def desk_of(
    quantities: Mapping[str, float],
    histories: Iterable[History],
    *,
    cash: float = 1_000_000,
    config: ExporterConfig | None = None,
    **records: Iterable[Any],
) -> DeskState:
    """One portfolio `carry` in EUR with these quantities, cash and price histories."""
    given: dict[str, Iterable[Any]] = {
        "positions": [position(symbol, quantity) for symbol, quantity in quantities.items()],
        "accounts": [account(cash)],
        "histories": histories,
        "fills": (),
    }
    return make_state(config or make_config(), feed(**(given | records)))


def position(
    symbol: str, quantity: float | str, portfolio: str = "carry", entry: float | None = None, currency: str = "EUR"
) -> Position:
    """A holding."""
    price = None if entry is None else Decimal(str(entry))
    return Position(portfolio, symbol, Decimal(str(quantity)), currency, price)


def account(cash: float | str, currency: str = "EUR", portfolio: str = "carry", equity: float | None = None) -> Account:
    """Cash, and the venue's own equity where one is given."""
    return Account(portfolio, currency, Decimal(str(cash)), None if equity is None else Decimal(str(equity)))


def price(symbol: str, value: float | str, currency: str = "EUR", at: datetime = NOW) -> Price:
    """A mark."""
    return Price(symbol, Decimal(str(value)), currency, at)


def terms(
    symbol: str, instrument: Any = "spot", currency: str = "EUR", multiplier: float = 1, sector: str | None = None
) -> InstrumentTerms:
    """Reference data."""
    return InstrumentTerms(symbol, currency, sector, instrument, Decimal(str(multiplier)))


def fill(
    symbol: str,
    quantity: float,
    at_price: float,
    *,
    currency: str = "EUR",
    at: datetime = NOW,
    fee: float = 0,
    portfolio: str = "carry",
) -> Fill:
    """An execution; the quantity's sign gives the side."""
    side: Any = "BUY" if quantity > 0 else "SELL"
    amount, paid = Decimal(str(abs(quantity))), Decimal(str(at_price))
    return Fill("e1", portfolio, symbol, side, amount, paid, currency, at, fee=Decimal(str(fee)))


def history(symbol: str, closes: Sequence[float] | Floats, currency: str = "EUR", first: date = MONDAY) -> History:
    """Closes on consecutive calendar days."""
    days = np.datetime64(first, "D") + np.arange(len(closes))
    return History(symbol, currency, days, np.asarray(closes, dtype=np.float64))


def history_of_returns(symbol: str, returns: Sequence[float] | Floats, last: float = 1.0) -> History:
    """Closes in EUR that end at `last` and have these returns."""
    path = np.concatenate([[1.0], np.cumprod(1.0 + np.asarray(returns))])
    return history(symbol, path / path[-1] * last)


def strategy(name: str, sample: Any, values: Sequence[float] | Floats) -> StrategyReturns:
    """Returns of a strategy."""
    return StrategyReturns(name, sample, np.asarray(values, dtype=np.float64))


def book(state: DeskState, portfolio: str = "carry") -> Book:
    """The valued portfolio; fails where it has no value."""
    found = state.books[portfolio]
    assert isinstance(found, Book), found
    return found


def results(compute: Any, state: DeskState) -> tuple[dict[tuple[str, ...], float], list[tuple[Gap, str]]]:
    """What an analytic yields: (family, *labels) to value, and the gaps."""
    samples: dict[tuple[str, ...], float] = {}
    gaps: list[tuple[Gap, str]] = []
    for result in compute(state):
        if isinstance(result, Undefined):
            gaps.append((result.reason, result.subject))
        else:
            assert isinstance(result, Sample)
            assert (result.family.name, *result.labels) not in samples, "one series, one value"
            samples[result.family.name, *result.labels] = result.value
    return samples, gaps


def by_name(samples: Mapping[tuple[str, ...], float], family: Family) -> dict[tuple[str, ...], float]:
    """The series of one family by their label values."""
    return {key[1:]: value for key, value in samples.items() if key[0] == family.name}


@cache
def all_analytics() -> tuple[Any, ...]:
    """Every analytic there is."""
    return load_analytics()


def read(state: DeskState) -> Reading:
    """One whole cycle."""
    return run_cycle(state, all_analytics())


@cache
def euro_rates(*currencies: str) -> tuple[History, ...]:
    """Real reference rates of the ECB as prices in EUR on the days of `FRANC_SLICE`."""
    from currency_converter import CurrencyConverter, RateNotFoundError

    rates = CurrencyConverter()
    first, last = FRANC_SLICE
    days = [first + timedelta(days=offset) for offset in range((last - first).days + 1)]
    found: dict[str, list[tuple[date, float]]] = {currency: [] for currency in currencies}
    for day in days:
        for currency in currencies:
            try:
                found[currency].append((day, rates.convert(1.0, currency, "EUR", date=day)))
            except RateNotFoundError:
                continue
    return tuple(
        History(currency, "EUR", np.array([day for day, _ in rows], "datetime64[D]"), np.array([rate for _, rate in rows]))
        for currency, rows in found.items()
    )


def until(histories: Iterable[History], last: date) -> tuple[History, ...]:
    """The histories up to and with a day."""
    cut = np.datetime64(last, "D")
    return tuple(
        History(each.symbol, each.currency, each.days[each.days <= cut], each.closes[each.days <= cut]) for each in histories
    )
