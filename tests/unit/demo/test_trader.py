"""The trader's books balance to the cent, and fills explain everything in them."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from decimal import Decimal

import pytest

from deskwatch.demo.desk import BACKTEST_DAYS, BOOKS, CAPITAL, FIRST_DAY, TRACK_RECORD_DAYS
from deskwatch.demo.rates import Rates
from deskwatch.demo.trader import FIXING, Book, Fill, Trader, lot
from deskwatch.demo.trading import Trading, Update, backtest

CENT = Decimal("0.01")


@pytest.fixture
def start(rates: Rates) -> int:
    """Number of the first day of the replay."""
    return rates.index(FIRST_DAY)


def run(trading: Trading, days: int) -> list[Update]:
    """The track record and some days of replay."""
    return [*trading.track_record(), *(trading.advance() for _ in range(days))]


def all_fills(updates: list[Update], portfolio: str) -> list[Fill]:
    """Every execution of one book."""
    dealings = [dealing for update in updates for dealing in update.dealings if dealing.book.portfolio == portfolio]
    return [fill for dealing in dealings for fill in dealing.fills]


@pytest.mark.parametrize("portfolio", [book.portfolio for book in BOOKS])
def test_fills_explain_positions_and_cash(rates: Rates, start: int, portfolio: str) -> None:
    """Positions are the sum of signed fills, cash is capital less what each fill cost in whole cents and its fee."""
    trading = Trading(BOOKS, rates, start)
    fills = all_fills(run(trading, 60), portfolio)
    book = trading.books[portfolio]
    held: dict[str, Decimal] = {}
    cash = CAPITAL
    for fill in fills:
        sign = 1 if fill.order.side == "BUY" else -1
        held[fill.order.symbol] = held.get(fill.order.symbol, Decimal(0)) + sign * fill.quantity
        cash -= (sign * fill.quantity * fill.price).quantize(CENT) + fill.fee
    assert {symbol: quantity for symbol, quantity in held.items() if quantity} == book.quantities
    assert cash == book.cash
    assert cash == cash.quantize(CENT)


def test_fills_are_at_the_days_rate(rates: Rates, start: int) -> None:
    """One over the ECB's rate of the day, to ten digits: nobody deals at a price that never was."""
    trading = Trading(BOOKS, rates, start)
    for update in run(trading, 5):
        at = rates.index(update.day)
        for fill in (fill for dealing in update.dealings for fill in dealing.fills):
            assert abs(fill.price * rates.per_euro_of(fill.order.symbol, at) - 1) < Decimal("1e-7")
            assert fill.at.date() == update.day
            assert fill.at.timetz() >= FIXING


def test_net_asset_value_changes_by_fees_alone_when_trading(rates: Rates, start: int) -> None:
    """Dealing at the mark earns nothing: cash and positions after it are worth what they were, less fees and half cents."""
    trader = Trader(BOOKS[2], rates)
    for at in range(start - 20, start):
        before = trader.book.net_asset_value(rates, at)
        dealing = trader.deal(at)
        fees = sum((fill.fee for fill in dealing.fills), Decimal(0))
        assert fees > 0
        assert abs(before - fees - dealing.book.net_asset_value(rates, at)) <= len(dealing.fills) * CENT / 2


def test_returns_chain_to_the_net_asset_value(rates: Rates, start: int) -> None:
    """Compounded daily returns are the change of net asset value, a cut within a day included."""
    trading = Trading(BOOKS, rates, start)
    updates = run(trading, 30)
    francs = trading.books["carry"].quantities["CHF"]
    updates.append(trading.cut("carry", {"CHF": -francs / 2}))
    updates += [trading.advance() for _ in range(10)]
    by_day = {each.day: each.ratio for update in updates for each in update.returns if each.strategy == "carry"}
    first = next(dealing for dealing in updates[0].dealings if dealing.book.portfolio == "carry")
    grown = first.book.net_asset_value(rates, rates.index(updates[0].day))
    for day in sorted(by_day):
        grown *= 1 + by_day[day]
    assert abs(grown - trading.books["carry"].net_asset_value(rates, trading.at)) < Decimal("1e-12")
    assert len(by_day) == TRACK_RECORD_DAYS + 40


def test_the_same_days_give_the_same_fills(rates: Rates, start: int) -> None:
    """Nothing is random."""
    assert run(Trading(BOOKS, rates, start), 10) == run(Trading(BOOKS, rates, start), 10)


def test_no_strategy_looks_ahead(rates: Rates, start: int) -> None:
    """A signal is the same whatever rates come on its day and after it."""
    future = rates.closes.copy()
    future[start:] *= 1.5
    other = replace(rates, closes=future)
    for plan in BOOKS:
        assert Trader(plan, rates).deal(start).signals == Trader(plan, other).deal(start).signals


def test_orders_are_whole_lots_filled_in_clips(rates: Rates, start: int) -> None:
    """Every order is a multiple of the lot; one worth more than a clip is filled in several executions."""
    updates = run(Trading(BOOKS, rates, start), 0)
    orders = {fill.order for fill in all_fills(updates, "carry")}
    assert all(order.quantity % lot(order.symbol) == 0 for order in orders)
    opening = [fill for fill in all_fills(updates, "carry") if fill.order.symbol == "CHF"][:4]
    assert len({fill.order.order_id for fill in opening}) == 1
    assert len({fill.execution_id for fill in opening}) == 4


def test_a_cut_is_rounded_up_to_a_lot_and_never_past_flat(rates: Rates, start: int) -> None:
    """Rounding down would stay over the limit; rounding past flat would open the opposite position."""
    trader = Trader(BOOKS[0], rates)
    trader.book = Book("carry", CAPITAL, {"CHF": Decimal(-5500), "PLN": Decimal(3000)})
    after = trader.cut({"CHF": Decimal("1200.5"), "PLN": Decimal(-999999)}, start).book
    assert after.quantities == {"CHF": Decimal(-3500)}
    assert trader.cut({"CHF": Decimal(3400)}, start).book.quantities == {}


def test_a_cut_that_would_enlarge_a_position_is_left_out(rates: Rates, start: int) -> None:
    """What risk asks for only ever reduces."""
    trader = Trader(BOOKS[0], rates)
    trader.book = Book("carry", CAPITAL, {"CHF": Decimal(-5000)})
    dealing = trader.cut({"CHF": Decimal(-1000), "USD": Decimal(1000)}, start)
    assert dealing.orders == ()
    assert dealing.book == trader.book


def test_the_backtest_ends_before_the_track_record_begins(rates: Rates, start: int) -> None:
    """The two samples share no day: a test of one against the other would be flattered."""
    returns = list(backtest(BOOKS, rates, start))
    assert {each.strategy for each in returns} == {book.portfolio for book in BOOKS}
    assert len(returns) == len(BOOKS) * (BACKTEST_DAYS - 1)
    assert max(each.day for each in returns) < rates.days[start - TRACK_RECORD_DAYS]


def test_trading_begins_and_stands_at_the_first_day(rates: Rates, start: int) -> None:
    """After the track record the books stand at the day the replay begins."""
    trading = Trading(BOOKS, rates, start)
    assert len(trading.track_record()) == TRACK_RECORD_DAYS + 1
    assert trading.day == dt.date(2014, 11, 3)
