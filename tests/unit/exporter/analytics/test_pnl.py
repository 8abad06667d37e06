"""Profit of the day: hand-worked days, the identity with net asset value, and what is not known."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.analytics import pnl
from exporter.book import Trade
from exporter.desk import DeskState
from exporter.reading import Gap
from tests.unit.exporter.desks import (
    account,
    book,
    desk_of,
    feed,
    fill,
    history,
    make_config,
    make_state,
    position,
    price,
    results,
    terms,
)

MONDAY_NOON = datetime(2015, 1, 12, 12, tzinfo=UTC)
TUESDAY_NOON = datetime(2015, 1, 13, 12, tzinfo=UTC)
X = history("X", [100.0, 110.0])
"""Closes of Monday and Tuesday: Tuesday is the market day."""


def profit(state: DeskState, portfolio: str = "carry") -> Any:
    """Profit of the day in money, or the reason it is not known."""
    samples, gaps = results(pnl.compute, state)
    found = [value for key, value in samples.items() if key[:2] == ("desk_pnl_daily_value", portfolio)]
    return found[0] if found else next(reason for reason, subject in gaps if subject == portfolio)


def ratio(state: DeskState) -> float:
    """Profit of the day over net asset value at its start."""
    return results(pnl.compute, state)[0]["desk_pnl_daily_ratio", "carry"]


def test_what_was_held_all_day_earns_the_move() -> None:
    """100 units from 100 to 110; on a net asset value of 10,000 at the start that is 10 %."""
    state = desk_of({"X": 100}, [X], cash=0)
    assert (profit(state), ratio(state)) == (pytest.approx(1_000), pytest.approx(0.1))


def test_what_was_bought_today_earns_from_its_price() -> None:
    """100 held, 50 bought at 104 with a fee of 7: 100 x 10 + 50 x 6 - 7."""
    state = desk_of({"X": 150}, [X], fills=[fill("X", 50, 104, at=TUESDAY_NOON, fee=7)])
    assert profit(state) == pytest.approx(1_293)


def test_what_was_sold_today_stops_at_its_price() -> None:
    """100 held, 40 sold at 104: 100 x 10 - 40 x 6."""
    assert profit(desk_of({"X": 60}, [X], fills=[fill("X", -40, 104, at=TUESDAY_NOON)])) == pytest.approx(760)


def test_a_position_closed_today_still_has_its_day() -> None:
    """100 sold at 104, nothing left: 100 x 4, although the book is flat."""
    state = desk_of({}, [X], fills=[fill("X", -100, 104, at=TUESDAY_NOON)])
    assert book(state).flat
    assert profit(state) == pytest.approx(400)


def test_a_short_gains_when_the_price_falls() -> None:
    """-100 from 100 to 90, 30 bought back at 95: 1000 - 30 x 5."""
    state = desk_of({"X": -70}, [history("X", [100.0, 90.0])], fills=[fill("X", 30, 95, at=TUESDAY_NOON)])
    assert profit(state) == pytest.approx(850)


def test_fills_of_earlier_days_do_not_count() -> None:
    """A fill of Monday is part of what was held at Monday's close."""
    assert profit(desk_of({"X": 100}, [X], fills=[fill("X", 100, 80, at=MONDAY_NOON)])) == pytest.approx(1_000)


def test_after_a_weekend_the_day_begins_at_fridays_close() -> None:
    """A fill of Saturday is measured from its price, and what it bought is not part of what was held on Friday."""
    from datetime import date

    friday = date(2015, 1, 9)
    closes = history("BTC", [200.0, float("nan"), float("nan"), 260.0], first=friday)
    bought = fill("BTC", 1, 230, at=datetime(2015, 1, 10, 12, tzinfo=UTC))
    assert profit(desk_of({"BTC": 3}, [closes], fills=[bought])) == pytest.approx(2 * 60 + 30)


def test_a_live_mark_of_a_new_day_is_measured_from_the_last_close() -> None:
    """Mark of Friday, closes until Tuesday: the day began with Tuesday's close."""
    assert profit(desk_of({"X": 100}, [X], prices=[price("X", 111)])) == pytest.approx(100)


def test_a_fill_in_another_currency_is_converted() -> None:
    """5 shares at 20 dollars, now 22, one dollar 0.5 euro: (22 - 20) x 0.5 x 5; the exchange rate of shares held moves them."""
    histories = [history("US", [20.0, 22.0], "USD"), history("USD", [0.4, 0.5])]
    assert profit(desk_of({"US": 5}, histories, fills=[fill("US", 5, 20, currency="USD", at=TUESDAY_NOON)])) == pytest.approx(5)
    assert profit(desk_of({"US": 5}, histories)) == pytest.approx(5 * (11 - 8))


def test_foreign_cash_spent_today_was_held_at_the_start() -> None:
    """100 dollars bought 5 shares at 20 today: the day began with 100 dollars, which gained 0.1 each."""
    histories = [history("US", [20.0, 22.0], "USD"), history("USD", [0.4, 0.5])]
    accounts = [account(1_000), account(0, "USD")]
    state = desk_of({"US": 5}, histories, accounts=accounts, fills=[fill("US", 5, 20, currency="USD", at=TUESDAY_NOON)])
    assert profit(state) == pytest.approx(5 * 22 * 0.5 - 100 * 0.4)


def test_a_margined_instrument_earns_only_its_gain_at_the_rate_now() -> None:
    """A future's notional was never paid: 2 x 50 x (2,020 - 2,000) dollars at 0.5, not the dollar's rise on 200,000."""
    histories = [history("ES", [2_000.0, 2_020.0], "USD"), history("USD", [0.4, 0.5])]
    state = desk_of({"ES": 2}, histories, accounts=[account(0, equity=100_000)], instruments=[terms("ES", "future", "USD", 50)])
    assert profit(state) == pytest.approx(1_000)


def test_a_composite_has_its_members_fills() -> None:
    """What one member sold another holds on: the composite's day is the sum of theirs."""
    config = make_config({"one": "EUR", "two": "EUR"}, {"desk": ["one", "two"]})
    records = {
        "positions": [position("X", 60, "one"), position("X", -100, "two")],
        "accounts": [account(10_000, portfolio="one"), account(50_000, portfolio="two")],
        "histories": [X],
        "fills": [fill("X", -40, 104, at=TUESDAY_NOON, portfolio="one", fee=3)],
    }
    state = make_state(config, feed(**records))
    assert (profit(state, "one"), profit(state, "two")) == (pytest.approx(757), pytest.approx(-1_000))
    assert profit(state, "desk") == pytest.approx(-243)


def test_a_proposed_trade_earns_nothing() -> None:
    """Done at the mark it changes what is held from now on, not the day."""
    state = desk_of({"X": 100}, [X], fills=[fill("X", 50, 104, at=TUESDAY_NOON)])
    for quantity in (-100.0, -30.0, 70.0):
        assert profit(state.with_trades([Trade("carry", "X", quantity)])) == pytest.approx(profit(state))


def test_without_a_previous_close_the_day_is_not_known() -> None:
    """One position's missing yesterday makes the portfolio's day undefined; what was bought today needs none."""
    new = history("NEW", [50.0], first=datetime(2015, 1, 13, tzinfo=UTC).date())
    assert profit(desk_of({"X": 100, "NEW": 10}, [X, new])) is Gap.PRICE_MISSING
    bought = [fill("NEW", 10, 49, at=TUESDAY_NOON)]
    assert profit(desk_of({"X": 100, "NEW": 10}, [X, new], fills=bought)) == pytest.approx(1_010)


def test_without_fills_from_a_source_the_day_is_not_known() -> None:
    """What is held now may have been bought an hour ago."""
    state = make_state(make_config(), feed(positions=[position("X", 1)], accounts=[account(5)], histories=[X]))
    assert profit(state) is Gap.INPUT_MISSING


def test_a_fill_without_an_exchange_rate_is_not_guessed() -> None:
    """Its price cannot be compared with anything."""
    assert profit(desk_of({"X": 1}, [X], fills=[fill("X", 1, 5, currency="PLN", at=TUESDAY_NOON)])) is Gap.RATE_MISSING


def test_a_book_never_held_has_no_day() -> None:
    """No position, no fill: there is no market day to measure."""
    assert profit(desk_of({}, [X])) is Gap.FLAT_BOOK


def test_a_loss_of_everything_and_more_is_still_a_loss() -> None:
    """Net asset value now is small, at the start it was large: -99 % is a number."""
    assert ratio(desk_of({"X": 100}, [history("X", [100.0, 1.0])], cash=0)) == pytest.approx(-0.99)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["X", "US", "USD"]),
            st.floats(-50, 50).filter(lambda units: abs(units) > 1e-3),
            st.floats(1, 200),
            st.floats(0, 5),
        ),
        max_size=6,
    ),
    st.dictionaries(st.sampled_from(["X", "US"]), st.floats(-100, 100)),
)
def test_the_day_is_the_change_of_net_asset_value(trades: list[Any], held: dict[str, float]) -> None:
    """Whatever is traded in whatever currency: with complete fills and no deposits profit = value now - value at the start."""
    histories = [X, history("US", [20.0, 22.0], "USD"), history("USD", [0.4, 0.5])]
    quote = {"X": "EUR", "US": "USD", "USD": "EUR"}
    cash, now = {"EUR": 1e6, "USD": 500.0}, dict(held)
    fills = []
    for symbol, units, paid, fee in trades:
        fills.append(fill(symbol, units, paid, currency=quote[symbol], at=TUESDAY_NOON, fee=fee))
        cash[quote[symbol]] -= units * paid + fee
        if symbol == "USD":
            cash["USD"] += units
        else:
            now[symbol] = now.get(symbol, 0.0) + units
    at_start = 1e6 + 500 * 0.4 + sum(units * {"X": 100.0, "US": 8.0}[symbol] for symbol, units in held.items())
    accounts = [account(cash["EUR"]), account(cash["USD"], "USD")]
    state = desk_of(now, histories, accounts=accounts, fills=fills)
    assert profit(state) == pytest.approx(book(state).nav - at_start, abs=1e-6)
