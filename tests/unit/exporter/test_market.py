"""Market: marks, alignment, exchange rates in every direction, and prices that are none."""

from __future__ import annotations

import math
from datetime import UTC, datetime

import numpy as np
import pytest

from exporter.market import Market, align, newest
from exporter.snapshot import History
from tests.unit.exporter.desks import history, price, terms

EARLIER = datetime(2015, 1, 15, 9, tzinfo=UTC)


def market(*histories: History, prices: tuple[object, ...] = (), instruments: tuple[object, ...] = ()) -> Market:
    """A market of histories, marks and terms."""
    return Market(align(histories), newest(prices), {each.symbol: each for each in instruments})


def test_histories_are_aligned_on_the_union_of_days() -> None:
    """Where one symbol has no close there is NaN, never the close before."""
    closes = align([history("A", [1.0, 2.0, 3.0]), history("B", [5.0, math.nan, 6.0])])
    assert closes.values[:, closes.columns["A"]].tolist() == [1.0, 2.0, 3.0]
    assert np.isnan(closes.values[:, closes.columns["B"]]).tolist() == [False, True, False]
    assert closes.newest.tolist() == [2, 2]


def test_a_close_that_is_not_positive_is_no_close() -> None:
    """quantstats#545: a missing price filled with 0 is a return of -100 %, and the one after it infinite."""
    found = market(history("A", [1.0, 0.0, -1.0, 2.0, 0.0]), history("B", [0.0, 0.0]))
    assert found.mark("A") == (2.0, "EUR")
    assert found.mark("B") is None
    assert found.complete_days(["A"], "EUR").tolist() == [0, 3]


def test_of_two_histories_of_a_symbol_the_first_counts() -> None:
    """Sources stand in the order of the configuration."""
    assert market(history("A", [1.0]), history("A", [9.0])).mark("A") == (1.0, "EUR")


def test_a_live_mark_wins_over_the_last_close_and_the_newest_mark_over_older_ones() -> None:
    """By market time, not by order."""
    found = market(history("A", [1.0]), prices=(price("A", 3), price("A", 2, at=EARLIER)))
    assert found.mark("A") == (3.0, "EUR")
    assert market(history("A", [1.0])).mark("A") == (1.0, "EUR")


@pytest.mark.parametrize(
    ("currency", "base", "expected"),
    [("EUR", "EUR", 1.0), ("CHF", "EUR", 0.9), ("EUR", "CHF", 1 / 0.9), ("CHF", "USD", 0.9 / 0.8), ("PLN", "EUR", None)],
)
def test_rates_lead_directly_inversely_and_through_one_currency(currency: str, base: str, expected: float | None) -> None:
    """ECB rates are all against the euro; the franc in dollars goes through it."""
    found = market(history("CHF", [0.9]), history("USD", [0.8]))
    rate = found.rate(currency, base)
    assert rate == (expected if expected is None else pytest.approx(expected, rel=1e-15))
    series = found.base_closes([currency], base)[:, 0]
    assert series.tolist() == pytest.approx([math.nan if expected is None else expected], rel=1e-15, nan_ok=True)


def test_an_exchange_rate_of_zero_leads_nowhere() -> None:
    """A mark of 0 cannot be inverted; it is no rate, not an exception."""
    found = market(prices=(price("CHF", 0), price("USD", 5)))
    assert found.rate("EUR", "CHF") is None
    assert found.rate("USD", "CHF") is None
    assert found.unit_value("USD", "CHF") is None


def test_a_share_in_another_currency_is_worth_price_times_rate() -> None:
    """20 dollars at 0.8 euro; the multiplier counts in its value, not in its closes."""
    future = terms("US", "future", "USD", 50)
    found = market(history("US", [19.0, 20.0], "USD"), history("USD", [0.9, 0.8]), instruments=(future,))
    assert found.unit_value("US", "EUR") == pytest.approx(800.0)
    assert found.base_closes(["US"], "EUR")[:, 0].tolist() == pytest.approx([19 * 0.9, 16.0])
    assert found.base_closes(["US"], "EUR", slice(1, 2))[:, 0].tolist() == pytest.approx([16.0])


def test_a_currency_without_a_price_is_worth_its_rate() -> None:
    """Cash in euro of a book in dollars."""
    assert market(history("USD", [0.8])).unit_value("EUR", "USD") == pytest.approx(1.25)


def test_days_count_where_every_symbol_can_be_converted() -> None:
    """A day without an exchange rate is a day without a price in base currency."""
    found = market(history("US", [1.0, 2.0, 3.0], "USD"), history("USD", [0.8, math.nan, 0.8]))
    assert found.complete_days(["US"], "EUR").tolist() == [0, 2]
    assert found.complete_days(["US"], "USD").tolist() == [0, 1, 2]


def test_a_value_rests_on_stale_prices_of_the_symbol_and_of_the_rates_it_needs() -> None:
    """The dollar's source stale: a share in dollars is stale in euro and not in dollars."""
    found = market(history("US", [1.0], "USD"), history("USD", [0.8]), history("X", [1.0]))
    stale = Market(found.closes, found.marks, found.terms, frozenset({"USD"}))
    assert stale.depends_on_stale("US", "EUR")
    assert stale.depends_on_stale("USD", "EUR")
    assert stale.depends_on_stale("EUR", "USD")
    assert not stale.depends_on_stale("US", "USD")
    assert not stale.depends_on_stale("X", "EUR")


def test_no_history_at_all_is_an_empty_market() -> None:
    """Nothing is priced, nothing raises."""
    found = market()
    assert (found.mark("A"), found.rate("A", "B"), found.marked_at("A")) == (None, None, None)
    assert found.base_closes(["A"], "EUR").shape == (0, 1)


def test_a_rate_leads_over_any_number_of_currencies() -> None:
    """A coin priced in a stablecoin pegged to the dollar, the dollar priced in euro, wanted in francs priced in euro."""
    market = Market(
        closes=align([]),
        marks=newest([price("BTC", 60_000, "USDT"), price("USD", 0.8), price("CHF", 0.5)]),
        terms={},
        pegs={"USDT": "USD"},
    )
    assert market.rate("BTC", "CHF") == pytest.approx(60_000 * 0.8 / 0.5)
    assert market.rate("CHF", "USDT") == pytest.approx(0.5 / 0.8)
    assert market.rate("USDT", "USD") == 1.0
    assert market.rate("USDT", "GBP") is None


def test_a_peg_holds_against_a_price() -> None:
    """The operator said so; without the peg the price counts."""
    marks = newest([price("USDT", 0.97, "USD")])
    assert Market(align([]), marks, {}, pegs={"USDT": "USD"}).rate("USDT", "USD") == 1.0
    assert Market(align([]), marks, {}).rate("USDT", "USD") == 0.97


def test_prices_that_lead_in_a_circle_end() -> None:
    """Each of two currencies priced in the other."""
    market = Market(align([]), newest([price("EUR", 1.25, "USD"), price("USD", 0.8, "EUR")]), {})
    assert market.rate("EUR", "USD") == 1.25
    assert market.rate("USD", "EUR") == 0.8
    assert market.rate("EUR", "CHF") is None


def test_closes_convert_day_by_day_over_several_currencies() -> None:
    """As the marks do: pegs are one, and the rates are each day's own."""
    histories = [history("BTC", [100.0, 200.0], "USDT"), history("USD", [0.5, 0.8])]
    market = Market(align(histories), {}, {}, pegs={"USDT": "USD"})
    assert market.base_closes(["BTC"], "EUR")[:, 0].tolist() == [50.0, 160.0]


def test_a_stale_rate_anywhere_on_the_way_makes_the_value_stale() -> None:
    """But not the price of a currency that is pegged."""
    market = Market(
        align([]),
        newest([price("BTC", 60_000, "USDT"), price("USD", 0.8), price("USDT", 0.9, "USD")]),
        {},
        stale=frozenset({"USD"}),
        pegs={"USDT": "USD"},
    )
    assert market.depends_on_stale("BTC", "EUR")
    assert not market.depends_on_stale("BTC", "USD")
    assert not Market(align([]), market.marks, {}, frozenset({"USDT"}), {"USDT": "USD"}).depends_on_stale("BTC", "EUR")
