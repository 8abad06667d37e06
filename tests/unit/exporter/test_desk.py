"""Desk state: what is missing or stale takes down what rests on it and nothing else; what did not change is not made again."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest

from exporter import desk
from exporter.book import Book, Trade
from exporter.desk import DeskState, Feed, assemble, forget
from exporter.reading import Gap
from exporter.snapshot import History, Kind, Rejected
from tests.unit.exporter.desks import NOW, account, book, feed, fill, history, make_config, make_state, position, price, read

CHF, USD = history("CHF", [0.8, 0.9]), history("USD", [0.7, 0.8])
TWO = {"fx": "EUR", "shares": "EUR"}


def positions(**of_portfolio: str) -> dict[str, Any]:
    """One unit of a symbol in each portfolio, with cash."""
    return {
        "positions": [position(symbol, 1, name) for name, symbol in of_portfolio.items()],
        "accounts": [account(10, portfolio=name) for name in of_portfolio],
    }


def reasons(state: DeskState) -> dict[str, Gap | None]:
    """Portfolio to why it has no value."""
    return {name: None if isinstance(found, Book) else found for name, found in state.books.items()}


def test_a_source_that_has_not_delivered_leaves_everything_it_could_price_undefined() -> None:
    """Before its first snapshot nobody knows what it would have said."""
    feeds = [feed(**positions(fx="CHF", shares="CHF")), feed("rates", histories=[CHF], missing=True)]
    state = make_state(make_config(TWO), *feeds)
    assert reasons(state) == {"fx": Gap.INPUT_MISSING, "shares": Gap.INPUT_MISSING}


def test_a_stale_source_of_positions_takes_its_portfolio_and_the_composite_down() -> None:
    """A book with one venue missing is not a smaller book."""
    config = make_config(TWO, {"desk": ["fx", "shares"]}, sources={"fx": ["book"], "shares": ["other"]})
    feeds = [
        feed("book", **positions(fx="CHF")),
        feed("other", stale=True, **positions(shares="USD")),
        feed("rates", histories=[CHF, USD]),
    ]
    assert reasons(make_state(config, *feeds)) == {"fx": None, "shares": Gap.INPUT_STALE, "desk": Gap.INPUT_STALE}


@pytest.mark.parametrize(
    ("kind", "portfolio", "down"),
    [
        ("positions", "shares", {"shares", "desk"}),
        ("accounts", "shares", {"shares", "desk"}),
        ("positions", None, {"fx", "shares", "desk"}),
        ("orders", "shares", set()),
    ],
)
def test_a_rejected_record_takes_its_portfolio_down(kind: Kind, portfolio: str | None, down: set[str]) -> None:
    """A book without one of its positions is not a smaller book; whose it was may itself be unreadable."""
    config = make_config(TWO, {"desk": ["fx", "shares"]})
    whole = feed(histories=[CHF], **positions(fx="CHF", shares="CHF"))
    assert whole.snapshot is not None
    torn = replace(whole.snapshot, rejected=(Rejected(f"{kind}[7].quantity=None", "missing", kind, portfolio),))
    found = reasons(make_state(config, replace(whole, snapshot=torn)))
    assert {name for name, reason in found.items() if reason is Gap.INPUT_REJECTED} == down
    assert {name for name, reason in found.items() if reason is None} == {"fx", "shares", "desk"} - down


def test_a_rejected_fill_leaves_the_profit_of_the_day_undefined() -> None:
    """The value of the book stands."""
    whole = feed(histories=[CHF], fills=(), **positions(carry="CHF"))
    assert whole.snapshot is not None
    torn = replace(whole.snapshot, rejected=(Rejected("fills[0].price='nan'", "not_finite", "fills", "carry"),))
    state = make_state(make_config(), replace(whole, snapshot=torn))
    assert reasons(state) == {"carry": None}
    assert ("pnl", Gap.INPUT_REJECTED, "carry") in read(state).undefined


def test_a_stale_source_of_prices_takes_down_only_what_it_prices() -> None:
    """The dollar's source is stale: the book in francs has its value, the one in dollars and the composite do not."""
    config = make_config(TWO, {"desk": ["fx", "shares"]})
    feeds = [
        feed("book", **positions(fx="CHF", shares="USD")),
        feed("rates", histories=[CHF]),
        feed("other", stale=True, histories=[USD]),
    ]
    assert reasons(make_state(config, *feeds)) == {"fx": None, "shares": Gap.INPUT_STALE, "desk": Gap.INPUT_STALE}


def test_a_symbol_a_fresh_source_prices_too_is_not_stale() -> None:
    """Two venues quote it, one is down."""
    feeds = [
        feed("book", **positions(carry="CHF")),
        feed("rates", prices=[price("CHF", 1)]),
        feed("other", stale=True, prices=[price("CHF", 2)]),
    ]
    assert reasons(make_state(make_config(), *feeds)) == {"carry": None}


def test_a_portfolio_reads_only_its_own_sources() -> None:
    """Records of the portfolio's name in another source are not its."""
    config = make_config(sources={"carry": ["book"]})
    feeds = [
        feed("book", **positions(carry="CHF")),
        feed("other", **positions(carry="USD")),
        feed("rates", histories=[CHF, USD]),
    ]
    state = make_state(config, *feeds)
    assert book(state).symbols == ("CHF",)


def test_one_portfolio_that_cannot_be_computed_leaves_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bug met in one book is `failed` for that book; the cycle goes on."""
    build = desk.build_book

    def fail(valuation: Any, *rest: Any) -> Any:
        if valuation.portfolio == "fx":
            raise ZeroDivisionError
        return build(valuation, *rest)

    monkeypatch.setattr(desk, "build_book", fail)
    state = make_state(make_config(TWO), feed(histories=[CHF], **positions(fx="CHF", shares="CHF")))
    reading = read(state)
    assert reasons(state) == {"fx": Gap.FAILED, "shares": None}
    assert ("value", Gap.FAILED, "fx") in {tuple(each) for each in reading.undefined}


def test_fills_of_no_source_are_missing_and_of_none_today_are_empty() -> None:
    """A desk whose sources report no fills does not know that there were none."""
    config = make_config()
    (carry,) = config.portfolios
    assert make_state(config, feed(positions=())).fills(carry) is Gap.INPUT_MISSING
    assert make_state(config, feed(fills=())).fills(carry) == ()
    assert make_state(config, feed(fills=(), stale=True)).fills(carry) is Gap.INPUT_STALE
    other = fill("CHF", 1, 1, portfolio="else")
    assert make_state(config, feed(fills=[other, fill("CHF", 2, 1)])).fills(carry) == (fill("CHF", 2, 1),)


def test_a_what_if_shares_what_its_trades_do_not_touch() -> None:
    """The market and the other portfolios are the same objects, so an answer costs what it changes."""
    config = make_config(TWO, {"desk": ["fx", "shares"]})
    state = make_state(config, feed(histories=[CHF, USD], **positions(fx="CHF", shares="USD")))
    after = state.with_trades([Trade("fx", "CHF", 1.0)])
    assert after.market is state.market
    assert after.books["shares"] is state.books["shares"]
    assert book(after, "fx").quantities.tolist() == [2.0]
    assert book(after, "desk").quantities.tolist() == [2.0, 1.0]
    assert book(after, "fx").returns is book(state, "fx").returns
    again = after.with_trades([Trade("fx", "CHF", -2.0)])
    assert book(again, "fx").flat
    assert book(state, "fx").quantities.tolist() == [1.0]


def test_the_past_is_cut_off_every_cycle() -> None:
    """A state does not keep the states before it, also where a cycle broke off before it could cut; memory does not grow."""
    config, feeds = make_config(), (feed(histories=[CHF], **positions(carry="CHF")),)
    state = assemble(NOW, config, feeds)
    first = weakref.ref(state)
    for _ in range(3):
        book(state)
        state = assemble(NOW, config, feeds, state)
    assert state.previous is not None
    assert state.previous.previous is None
    gc.collect()
    assert first() is None
    assert forget(state).previous is None


def test_a_new_configuration_starts_anew() -> None:
    """Window or base currency may have changed: nothing derived is carried over."""
    feeds = (feed(histories=[CHF], **positions(carry="CHF")),)
    one = make_state(make_config(), *feeds)
    assert assemble(NOW, make_config(), feeds, one).previous is None


def test_unchanged_histories_are_not_aligned_again() -> None:
    """Closes are kept while every history is the object it was; marks are new."""
    config = make_config()
    rates = Feed("rates", "reference", frozenset({"histories"}), feed(histories=[CHF]).snapshot, stale=False)
    one = make_state(config, rates, feed(**positions(carry="CHF")))
    two = make_state(config, rates, feed(prices=[price("CHF", 2)], **positions(carry="CHF")), previous=one)
    assert book(two).market.closes is book(one).market.closes
    assert book(two).values.tolist() == [2.0]


def test_the_market_day_is_the_newest_of_any_book() -> None:
    """None before there is a book."""
    state = make_state(make_config(), feed(histories=[CHF], **positions(carry="CHF")))
    assert str(state.market_day()) == "2015-01-13"
    assert make_state(make_config(), feed(histories=(), missing=True)).market_day() is None


def restarted(*kinds: Kind, kept: Iterable[History] = (), told: Iterable[str] = ()) -> Feed:
    """A source an earlier process has heard, and this one has not."""
    return Feed("book", "broker", frozenset(kinds), None, stale=True, kept=tuple(kept), before=frozenset(told))


def test_after_a_restart_without_its_venue_a_desk_says_stale_not_a_number() -> None:
    """Daily bars are there, positions and marks are not: the numbers are late, not unknown."""
    state = make_state(make_config(), restarted("positions", "prices", "histories", kept=[USD], told=["USD"]))
    assert state.books == {"carry": Gap.INPUT_STALE}


def test_bars_kept_from_before_give_numbers_where_everything_else_is_fresh() -> None:
    """Positions and marks from the database, bars from a venue that is down since the restart."""
    bars = restarted("histories", kept=[USD])
    state = make_state(make_config(), feed("other", positions=[position("USD", 1)], prices=[price("USD", 2)]), bars)
    assert book(state).returns.matrix.shape == (len(USD.closes) - 1, 1)
    stale = replace(bars, kept_stale=True)
    state = make_state(make_config(), feed("other", positions=[position("USD", 1)], prices=[price("USD", 2)]), stale)
    assert state.books == {"carry": Gap.INPUT_STALE}


def test_a_mark_that_is_late_since_a_restart_is_not_replaced_by_a_close() -> None:
    """The venue marked it before; its last close is not its price now."""
    late = restarted("histories", "prices", kept=[USD], told=["USD"])
    state = make_state(make_config(), feed("other", positions=[position("USD", 1)]), late)
    assert state.books == {"carry": Gap.INPUT_STALE}


def test_a_source_never_heard_takes_down_only_what_has_no_price_without_it() -> None:
    """A second venue that is down from the first start on does not blind the desk on the first."""
    never = Feed("other", "exchange", frozenset({"prices", "positions"}), None, stale=True)
    config = make_config({"carry": "EUR", "coins": "EUR"}, sources={"carry": ["book"], "coins": ["book"]})
    positions = [position("USD", 1), position("BTC", 1, "coins")]
    cash = [account(10), account(10, portfolio="coins")]
    state = make_state(config, feed(positions=positions, accounts=cash, prices=[price("USD", 2)]), never)
    assert isinstance(state.books["carry"], Book)
    assert state.books["coins"] is Gap.INPUT_MISSING
