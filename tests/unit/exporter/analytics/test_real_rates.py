"""Real reference rates of the ECB around the franc break of 2015-01-15, against a computation that shares no code."""

from __future__ import annotations

from datetime import date

import numpy as np
import pytest

from exporter.analytics.concentration import HHI, LARGEST
from exporter.analytics.exposure import GROSS, NET
from exporter.analytics.pnl import DAILY_VALUE
from exporter.analytics.tail_risk import (
    COMPONENT_EXPECTED_SHORTFALL,
    COMPONENT_VAR,
    EXPECTED_SHORTFALL,
    EXPECTED_SHORTFALL_VALUE,
    VAR,
    VAR_VALUE,
)
from exporter.book import Book
from exporter.market import Floats
from exporter.reading import Reading
from tests.unit.exporter.desks import account, desk_of, euro_rates, feed, make_config, make_state, position, read, until

PORTFOLIOS = {
    "carry": {"NOK": 5_000_000, "USD": 400_000, "CHF": -900_000},
    "macro": {"JPY": -120_000_000, "GBP": 500_000, "CHF": -250_000, "SEK": 3_000_000},
}
CASH = {"carry": 2_000_000.0, "macro": 1_500_000.0}
DESK = {
    symbol: sum(held.get(symbol, 0) for held in PORTFOLIOS.values())
    for symbol in sorted({symbol for held in PORTFOLIOS.values() for symbol in held})
}
BREAK = date(2015, 1, 15)
LEVELS = ("0.95", "0.975", "0.99")


def reading(last: date) -> Reading:
    """The desk on a day."""
    rates = euro_rates("CHF", "GBP", "JPY", "NOK", "SEK", "USD")
    config = make_config({"carry": "EUR", "macro": "EUR"}, {"desk": ["carry", "macro"]}, minimum_days=200)
    records = {
        "positions": [position(symbol, units, name) for name, held in PORTFOLIOS.items() for symbol, units in held.items()],
        "accounts": [account(cash, portfolio=name) for name, cash in CASH.items()],
        "fills": (),
        "histories": until(rates, last),
    }
    return read(make_state(config, feed(**records)))


def by_hand(units: dict[str, int], cash: float, last: date) -> tuple[Floats, Floats, Floats, float]:
    """Values, weights, (250, N) returns and net asset value with nothing but numpy."""
    rates = {each.symbol: each for each in until(euro_rates("CHF", "GBP", "JPY", "NOK", "SEK", "USD"), last)}
    closes = np.column_stack([rates[symbol].closes[-251:] for symbol in sorted(units)])
    values = np.array([units[symbol] for symbol in sorted(units)]) * closes[-1]
    nav = cash + values.sum()
    return values, values / nav, np.diff(closes, axis=0) / closes[:-1], float(nav)


@pytest.mark.parametrize("last", [date(2015, 1, 14), BREAK, date(2015, 2, 27)])
@pytest.mark.parametrize(
    ("name", "units", "cash"),
    [("carry", PORTFOLIOS["carry"], 2e6), ("macro", PORTFOLIOS["macro"], 1.5e6), ("desk", DESK, 3.5e6)],
)
def test_var_and_shortfall_equal_a_direct_computation(name: str, units: dict[str, int], cash: float, last: date) -> None:
    """To 1e-12, at every level, ratio and money, the components too."""
    found = reading(last)
    _, weights, returns, nav = by_hand(units, cash, last)
    losses = np.sort(-(returns * weights).sum(axis=1))[::-1]
    for level in LEVELS:
        size = 250 * (100 - float(level) * 100) / 100
        whole, part = int(size), size % 1
        var = losses[int(np.ceil(size)) - 1]
        shortfall = (losses[:whole].sum() + part * losses[min(whole, 249)]) / size
        key = ("historical", level, "1d")
        assert found.value(VAR, name, *key) == pytest.approx(var, rel=1e-12)
        assert found.value(EXPECTED_SHORTFALL, name, *key) == pytest.approx(shortfall, rel=1e-12)
        assert found.value(VAR_VALUE, name, *key, "EUR") == pytest.approx(var * nav, rel=1e-12)
        assert found.value(EXPECTED_SHORTFALL_VALUE, name, *key, "EUR") == pytest.approx(shortfall * nav, rel=1e-12)
        for family, total in ((COMPONENT_VAR, var), (COMPONENT_EXPECTED_SHORTFALL, shortfall)):
            shares = [sample.value for sample in found.of(family) if (sample.labels[0], *sample.labels[2:]) == (name, *key)]
            assert len(shares) == len(units)
            assert sum(shares) == pytest.approx(total, rel=1e-12)


@pytest.mark.parametrize(("name", "units", "cash"), [("carry", PORTFOLIOS["carry"], 2e6), ("desk", DESK, 3.5e6)])
def test_exposure_concentration_and_profit_equal_a_direct_computation(name: str, units: dict[str, int], cash: float) -> None:
    """Gross, net, largest weight, HHI and the loss of the day of the break."""
    found = reading(BREAK)
    values, weights, returns, _ = by_hand(units, cash, BREAK)
    gross = np.abs(values).sum()
    assert found.value(GROSS, name) == pytest.approx(np.abs(weights).sum(), rel=1e-12)
    assert found.value(NET, name) == pytest.approx(weights.sum(), rel=1e-12)
    assert found.value(LARGEST, name) == pytest.approx(np.abs(weights).max(), rel=1e-12)
    assert found.value(HHI, name) == pytest.approx(((values / gross) ** 2).sum(), rel=1e-12)
    start = values / (1 + returns[-1])
    assert found.value(DAILY_VALUE, name, "EUR") == pytest.approx((values - start).sum(), rel=1e-11)


def test_a_book_short_franc_breaks_its_shortfall_but_hardly_its_var() -> None:
    """One scenario of 250 takes the 97.5 % shortfall of a book short its own size in francs from 0.25 % to 3.3 % of net asset
    value, VaR from 0.19 % to 0.26 %: why the desk limits shortfall."""
    days = (date(2015, 1, 14), BREAK)
    quiet, broken = (read(desk_of({"CHF": -1_000_000}, until(euro_rates("CHF"), day), cash=1_850_000)) for day in days)
    key = ("carry", "historical", "0.975", "1d")
    shortfall = [found.value(EXPECTED_SHORTFALL, *key) or 0.0 for found in (quiet, broken)]
    var = [found.value(VAR, *key) or 0.0 for found in (quiet, broken)]
    assert shortfall[1] > 10 * shortfall[0] > 0.0
    assert 0.0 < var[1] < 1.5 * var[0]


def test_the_worst_scenario_is_the_day_of_the_break() -> None:
    """The franc rose from 1.2010 to 1.0280 per euro in one day in the ECB's own series: 16.8 %."""
    (franc,) = until(euro_rates("CHF"), BREAK)
    assert franc.days[-1] == np.datetime64(BREAK)
    assert 1 / franc.closes[-2:] == pytest.approx([1.2010, 1.0280], abs=5e-5)


def test_the_base_currency_changes_the_units_not_the_book() -> None:
    """The same desk in dollars: net asset value and VaR are converted by ECB cross rates, HHI changes with the base asset."""
    rates = until(euro_rates("CHF", "USD"), BREAK)
    config = make_config({"carry": "USD"})
    records = {
        "positions": [position("CHF", -100_000)],
        "accounts": [account(1_000_000, "USD")],
        "histories": rates,
    }
    state = make_state(config, feed(**records))
    held = state.books["carry"]
    assert isinstance(held, Book)
    franc, dollar = (each.closes for each in rates)
    assert held.values.tolist() == pytest.approx([-100_000 * franc[-1] / dollar[-1]], rel=1e-15)
    cross = franc / dollar
    assert held.returns.matrix[:, 0] == pytest.approx((cross[1:] / cross[:-1] - 1)[-250:], rel=1e-12)
