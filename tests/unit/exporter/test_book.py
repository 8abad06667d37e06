"""Book: netting, net asset value with cash, equity and margin, weights, joint returns, and why a portfolio has no value."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.book import Book, Trade, net
from exporter.desk import DeskState
from exporter.reading import Gap
from exporter.snapshot import History
from tests.unit.exporter.desks import account, book, desk_of, feed, history, make_config, make_state, position, price, terms

CHF, USD = history("CHF", [0.8, 0.9]), history("USD", [0.7, 0.8])


def gap(state: DeskState) -> Gap:
    """Why `carry` has no value."""
    found = state.books["carry"]
    assert isinstance(found, Gap)
    return found


def test_net_asset_value_is_cash_and_signed_values() -> None:
    """Short 100 francs at 0.9 with 190 euro: 100; the weight is -0.9 of it."""
    held = book(desk_of({"CHF": -100}, [CHF], cash=190))
    assert held.nav == pytest.approx(100.0)
    assert held.weights.tolist() == pytest.approx([-0.9])
    assert held.day == np.datetime64("2015-01-13")


def test_cash_in_a_foreign_currency_is_a_position_in_it() -> None:
    """It carries the currency's risk; base currency does not, held as cash or as a position."""
    state = desk_of({"EUR": 40}, [CHF], accounts=[account(10), account(100, "CHF")])
    held = book(state)
    assert held.symbols == ("CHF",)
    assert held.nav == pytest.approx(140.0)
    assert held.values.tolist() == pytest.approx([90.0])


def test_what_nets_to_nothing_is_not_held() -> None:
    """0.3 - 0.1 - 0.2 is 5.6e-17 in floating point: dust, not a position."""
    members = {"one": 0.3, "two": -0.1, "three": -0.2}
    config = make_config(dict.fromkeys(members, "EUR"), {"desk": list(members)})
    records = {
        "positions": [position("CHF", units, name) for name, units in members.items()],
        "accounts": [account(100, portfolio=name) for name in members],
        "histories": [CHF],
    }
    desk = make_state(config, feed(**records)).books["desk"]
    assert isinstance(desk, Book)
    assert desk.flat
    assert desk.nav == pytest.approx(300.0)


@given(st.lists(st.floats(-1e9, 1e9), max_size=6))
def test_a_sum_is_only_rounded_to_nothing(amounts: list[float]) -> None:
    """Netting changes no sum but one that is rounding."""
    total = net(amounts)
    assert total == sum(amounts) or (total == 0.0 and abs(sum(amounts)) <= 1e-12 * sum(abs(each) for each in amounts))


def test_equity_the_venue_reports_is_the_net_asset_value() -> None:
    """And no position is added to it again."""
    future = [terms("ES", "future")]
    state = desk_of({"ES": 2}, [history("ES", [2_000.0])], accounts=[account(0, equity=100_000)], instruments=future)
    assert book(state).nav == 100_000.0


def test_a_margined_instrument_adds_its_gain_since_entry() -> None:
    """Two contracts of 50 from 1,990 to 2,000 on 10,000 of cash: 11,000 net asset value, 200,000 exposure."""
    records = {
        "positions": [position("ES", 2, entry=1_990)],
        "instruments": [terms("ES", "future", multiplier=50)],
        "accounts": [account(10_000)],
    }
    held = book(desk_of({}, [history("ES", [2_000.0])], **records))
    assert held.nav == pytest.approx(11_000.0)
    assert held.values.tolist() == pytest.approx([200_000.0])


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        (desk_of({"ABC": 1}, [CHF]), Gap.PRICE_MISSING),
        (desk_of({"ABC": 1, "CHF": 1}, [CHF]), Gap.PRICE_MISSING),
        (desk_of({"ABC": 1}, [history("ABC", [1.0], "PLN")]), Gap.RATE_MISSING),
        (desk_of({}, [CHF], accounts=[account(1), account(1, "PLN")]), Gap.RATE_MISSING),
        (desk_of({"CHF": -100}, [CHF], cash=90), Gap.NAV_NOT_POSITIVE),
        (desk_of({"CHF": 1}, [CHF], accounts=()), Gap.EQUITY_MISSING),
        (desk_of({"P": 1}, [history("P", [1.0])], instruments=[terms("P", "perpetual")]), Gap.EQUITY_MISSING),
        (desk_of({"CHF": 1e308}, [CHF], cash=1e308, instruments=[terms("CHF", multiplier=1e10)]), Gap.NOT_FINITE),
        (desk_of({"CHF": 1e300}, [CHF], accounts=[account(0, equity=1e-300)]), Gap.NOT_FINITE),
    ],
)
def test_a_portfolio_without_a_value_says_why(state: DeskState, reason: Gap) -> None:
    """A price missing is told from a rate missing, also where the other positions have both."""
    assert gap(state) is reason


def test_a_proposed_trade_changes_the_position_and_not_the_net_asset_value() -> None:
    """Done at the mark: 50 francs more are 45 euro less cash."""
    state = desk_of({"CHF": -100}, [CHF], cash=190)
    after = book(state.with_trades([Trade("carry", "CHF", 50.0)]))
    assert (after.quantities.tolist(), after.nav) == ([-50.0], book(state).nav)
    assert book(state.with_trades([Trade("carry", "CHF", 100.0)])).flat


def test_a_trade_in_the_base_currency_is_no_position() -> None:
    """It is what every trade is paid with."""
    assert book(desk_of({}, [CHF]).with_trades([Trade("carry", "EUR", 50.0)])).flat


def test_returns_are_those_of_the_last_joint_days() -> None:
    """Two of three returns asked for: simple, in base currency, oldest first, row by row in memory."""
    share = history("US", [10.0, 11.0, 11.0, 22.0], "USD")
    dollar = history("USD", [1.0, 1.0, 2.0, 2.0])
    returns = book(desk_of({"US": 1}, [share, dollar], config=make_config(window_days=2))).returns
    assert returns.matrix[:, 0].tolist() == pytest.approx([1.0, 1.0])
    assert returns.days.tolist() == [np.datetime64("2015-01-14").item(), np.datetime64("2015-01-15").item()]
    assert returns.coverage_ratio == 1.0
    assert returns.matrix.flags.c_contiguous
    assert not returns.matrix.flags.writeable


def test_the_notional_of_a_future_carries_no_exchange_rate_risk() -> None:
    """The dollar doubles, the future does not move: a share in dollars doubles too, the future earns nothing. When the future
    rises 10 %, that is paid out in dollars that are worth twice as much as when the day began."""
    dollar = history("USD", [1.0, 2.0, 4.0])
    closes = [10.0, 10.0, 11.0]
    both = [history("ES", closes, "USD"), history("US", closes, "USD"), dollar]
    state = desk_of({"ES": 1, "US": 1}, both, accounts=[account(0, equity=100)], instruments=[terms("ES", "future", "USD")])
    assert book(state).returns.matrix[:, 0].tolist() == pytest.approx([0.0, 0.2])
    assert book(state).returns.matrix[:, 1].tolist() == pytest.approx([1.0, 1.2])


def test_a_return_too_large_for_a_number_is_left_out() -> None:
    """Its day is missing and the coverage says so."""
    wild = History("X", "EUR", np.arange("2015-01-12", "2015-01-16", dtype="datetime64[D]"), np.array([1.0, 5e-324, 1.0, 2.0]))
    returns = book(desk_of({"X": 1}, [wild])).returns
    assert returns.matrix[:, 0].tolist() == [-1.0, 1.0]
    assert returns.days.size == 2
    assert returns.coverage_ratio == 2 / 250


def test_returns_are_kept_while_closes_and_symbols_are_the_same() -> None:
    """A new mark or quantity does not compute the history again; a new close or symbol does."""
    histories, config = [CHF, USD], make_config()
    one = desk_of({"CHF": 1}, histories, config=config)
    first = book(one).returns
    records = {"positions": [position("CHF", 2)], "accounts": [account(5, equity=5)], "fills": ()}
    same = make_state(config, feed(histories=histories, prices=[price("CHF", 1)], **records), previous=one)
    assert book(same).returns is first
    other = make_state(config, feed(histories=[history("CHF", [0.8, 0.9]), USD], **records), previous=same)
    assert book(other).returns is not first
    future = make_state(config, feed(histories=histories, instruments=[terms("CHF", "future")], **records), previous=one)
    assert book(future).returns is not first
