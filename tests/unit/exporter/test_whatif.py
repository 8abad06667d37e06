"""What-if: the numbers after trades, and the trades that restore each limit, verified by the cycle the gauges come from."""

from __future__ import annotations

import json
import math
from datetime import date
from typing import Any

import pytest

from deskwatch.errors import Permanent, Retryable
from exporter.book import Trade
from exporter.config import LIMITS
from exporter.desk import DeskState
from exporter.limits import UTILIZATION
from exporter.whatif import answer_as_dict, trades_within, what_if
from tests.unit.exporter.desks import (
    account,
    all_analytics,
    book,
    desk_of,
    euro_rates,
    feed,
    history,
    make_config,
    make_state,
    position,
    read,
    terms,
    until,
)

CURRENCIES = ("CHF", "GBP", "JPY", "NOK", "SEK", "USD")
MEMBERS = ("carry", "macro", "flow")
HELD = {
    "carry": {"NOK": 5_000_000, "USD": 400_000, "CHF": -900_000},
    "macro": {"JPY": -120_000_000, "GBP": 500_000, "CHF": -250_000, "SEK": 3_000_000},
    "flow": {"CHF": 150_000, "USD": -300_000, "NOK": 1_000_000},
}
SECTORS = {"CHF": "havens", "JPY": "havens", "NOK": "nordics", "SEK": "nordics"}
ALL = "carry, macro, flow, desk"
LOOSE = 100.0


def franc_desk(limits: dict[tuple[str, str], float] | None = None, last: date = date(2015, 1, 15)) -> DeskState:
    """Three portfolios and the desk on the day of the franc break."""
    config = make_config(
        dict.fromkeys(MEMBERS, "EUR"), {"desk": MEMBERS}, limits, sectors=SECTORS, window_days=250, minimum_days=200
    )
    records: dict[str, Any] = {
        "positions": [position(symbol, units, name) for name, held in HELD.items() for symbol, units in held.items()],
        "accounts": [account(2_000_000, portfolio=name) for name in MEMBERS],
        "fills": (),
        "histories": until(euro_rates(*CURRENCIES), last),
    }
    return make_state(config, feed(**records))


def used(state: DeskState, portfolio: str, limit: str) -> float:
    """Utilization by a whole cycle."""
    found = read(state).value(UTILIZATION, portfolio, limit)
    assert found is not None
    return found


def measured(portfolio: str, limit: str) -> float:
    """What a limit of 100 times net asset value measures."""
    return used(franc_desk({(portfolio, limit): LOOSE}), portfolio, limit) * LOOSE


# ---- what_if --------------------------------------------------------------------------------------------------------


def test_an_answer_has_the_portfolio_and_its_composites_before_and_after() -> None:
    """Buying back 400,000 francs in carry changes carry and desk; macro is not shown."""
    state = franc_desk({("carry", "concentration"): 0.5})
    answer = what_if(state, [Trade("carry", "CHF", 400_000.0)], all_analytics())
    assert [change.portfolio for change in answer.portfolios] == ["carry", "desk"]
    carry = answer.portfolios[0]
    assert carry.after.net_asset_value == carry.before.net_asset_value == book(state, "carry").nav
    assert carry.after.weights["CHF"] == pytest.approx(carry.before.weights["CHF"] * 5 / 9)
    assert carry.after.expected_shortfall["0.975"] < carry.before.expected_shortfall["0.975"]
    assert set(carry.before.value_at_risk) == {"0.95", "0.975", "0.99"}
    assert carry.before.gross_exposure is not None
    assert carry.after.gross_exposure is not None
    assert carry.after.gross_exposure < carry.before.gross_exposure
    assert carry.after.limits["concentration"].limit == 0.5
    assert carry.after.concentration == max(abs(weight) for weight in carry.after.weights.values())
    assert carry.after.limits["concentration"].utilization == carry.after.concentration / 0.5
    assert carry.before.concentration_hhi is not None
    assert set(carry.before.sector_weights) == {"havens", "nordics", "unclassified"}
    assert carry.before.undefined == {}


def test_an_answer_is_what_the_gauges_would_say() -> None:
    """Every figure after the trades equals the reading of a desk that really holds these positions (and paid for them)."""
    state = franc_desk({("carry", "leverage"): 2.0})
    trade = Trade("carry", "CHF", 400_000.0)
    after = what_if(state, [trade], all_analytics()).portfolios[0].after
    franc = euro_rates("CHF")[0].closes[euro_rates("CHF")[0].days.searchsorted(state.market_day())]
    held = [
        position(symbol, units + (400_000 if (name, symbol) == ("carry", "CHF") else 0), name)
        for name, of in HELD.items()
        for symbol, units in of.items()
    ]
    cash = [account(2_000_000 - (400_000 * franc if name == "carry" else 0), portfolio=name) for name in MEMBERS]
    histories = until(euro_rates(*CURRENCIES), date(2015, 1, 15))
    done = read(make_state(state.config, feed(positions=held, accounts=cash, histories=histories, fills=())))
    values = {(sample.family.name, *sample.labels): sample.value for sample in done.samples}
    assert after.net_asset_value == pytest.approx(values["desk_portfolio_value", "carry", "EUR"], rel=1e-12)
    assert after.leverage == pytest.approx(values["desk_leverage_ratio", "carry"], rel=1e-12)
    assert after.net_exposure == pytest.approx(values["desk_exposure_net_ratio", "carry"], rel=1e-9)
    assert after.concentration == pytest.approx(values["desk_concentration_max_ratio", "carry"], rel=1e-12)
    for level, shortfall in after.expected_shortfall.items():
        expected = values["desk_expected_shortfall_ratio", "carry", "historical", level, "1d"]
        assert shortfall == pytest.approx(expected, rel=1e-12)
    assert after.limits["leverage"].utilization == pytest.approx(values["desk_limit_utilization_ratio", "carry", "leverage"])


def test_asking_changes_nothing() -> None:
    """The desk's own reading is the same before and after a question, and no state of the question is kept."""
    state = franc_desk({("carry", "expected_shortfall_0.975"): 0.01})
    before = [sample for sample in read(state).samples if not sample.family.name.endswith("duration_seconds")]
    what_if(state, [Trade("carry", "CHF", 1e5)], all_analytics())
    trades_within(state, "carry", "expected_shortfall_0.975", all_analytics())
    assert [sample for sample in read(state).samples if not sample.family.name.endswith("duration_seconds")] == before
    assert (state.trades, state.previous) == ((), None)


def test_a_symbol_not_held_can_be_traded() -> None:
    """Where a source prices it."""
    answer = what_if(franc_desk(), [Trade("flow", "JPY", 1e7)], all_analytics())
    assert "JPY" not in answer.portfolios[0].before.weights
    assert answer.portfolios[0].after.weights["JPY"] > 0


def test_no_trades_is_a_question_about_the_desk_as_it_is() -> None:
    """With the portfolios asked about."""
    answer = what_if(franc_desk(), [], all_analytics(), about=["macro"])
    assert [change.portfolio for change in answer.portfolios] == ["macro", "desk"]
    assert answer.portfolios[0].before == answer.portfolios[0].after


def test_an_answer_is_json() -> None:
    """Undefined is null, nothing is NaN."""
    state = desk_of({"X": 1, "C": 1}, [history("X", [1.0, 2.0]), history("C", [1.0, 2.0])], instruments=[terms("C", "option")],
                    config=make_config(limits={("carry", "var_0.99"): 0.1}))  # fmt: skip
    found = json.loads(json.dumps(answer_as_dict(what_if(state, [Trade("carry", "X", 1.0)], all_analytics())), allow_nan=False))
    assert found["at"] == "2015-01-16T09:00:00+00:00"
    assert found["trades"] == [{"portfolio": "carry", "symbol": "X", "quantity": 1.0}]
    (carry,) = found["portfolios"]
    assert (carry["portfolio"], carry["currency"]) == ("carry", "EUR")
    assert carry["after"]["limits"] == {"var_0.99": {"limit": 0.1, "utilization": None}}
    assert carry["after"]["undefined"] == {"tail_risk": "unsupported_instrument"}
    assert carry["after"]["value_at_risk"] == {}


@pytest.mark.parametrize(
    ("trade", "message"),
    [
        (Trade("nobody", "CHF", 1.0), "trades[0].portfolio: no portfolio is called 'nobody'; there are: " + ALL),
        (
            Trade("desk", "CHF", 1.0),
            "trades[0].portfolio: desk is a composite and holds nothing itself; name one of its members: carry, macro, flow",
        ),
        (Trade("carry", "XXX", 1.0), "trades[0].symbol: no source prices 'XXX' in EUR; carry holds: CHF, NOK, USD"),
        (Trade("carry", "CHF", 0.0), "trades[0].quantity: must be a finite number other than 0, was 0.0"),
        (Trade("carry", "CHF", math.nan), "trades[0].quantity: must be a finite number other than 0, was nan"),
        (
            Trade("carry", "EUR", 1.0),
            "trades[0].symbol: EUR is the base currency of carry, in which every trade is funded; "
            "name what is bought or sold for it",
        ),
    ],
)
def test_a_trade_that_cannot_be_meant_is_refused(trade: Trade, message: str) -> None:
    """What, where, the value found, what to do."""
    with pytest.raises(Permanent) as refused:
        what_if(franc_desk(), [trade], all_analytics())
    assert str(refused.value) == message


def test_a_portfolio_without_a_value_can_be_asked_about_later() -> None:
    """Stale is not wrong."""
    state = make_state(make_config(limits={("carry", "leverage"): 1}), feed(positions=(), histories=(), stale=True))
    with pytest.raises(Retryable, match=r"carry cannot be valued now \(input_stale\)"):
        what_if(state, [Trade("carry", "CHF", 1.0)], all_analytics())
    with pytest.raises(Retryable, match=r"carry cannot be valued now \(input_stale\)"):
        trades_within(state, "carry", "leverage", all_analytics())


# ---- trades_within --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("portfolio", ["carry", "macro", "desk"])
@pytest.mark.parametrize("limit", sorted(set(LIMITS) - {"daily_loss"}))
@pytest.mark.parametrize("share", [0.98, 0.6, 0.15])
def test_the_trades_restore_the_limit(portfolio: str, limit: str, share: float) -> None:
    """Every limit, a little and far over, in a portfolio and in the composite: recomputed by a cycle it holds, and nothing of
    it is left unused beyond rounding."""
    least = 1 / len(book(franc_desk(), portfolio).symbols) if limit == "concentration_hhi" else 0.0
    value = least + (measured(portfolio, limit) - least) * share
    state = franc_desk({(portfolio, limit): value})
    assert used(state, portfolio, limit) > 1.0
    trades = trades_within(state, portfolio, limit, all_analytics())
    after = used(state.with_trades(trades), portfolio, limit)
    assert 1.0 - 1e-4 < after <= 1.0
    for trade in trades:
        held = HELD[trade.portfolio][trade.symbol]
        assert trade.quantity * held < 0, "only ever reduces"
        assert abs(trade.quantity) <= abs(held)
        assert trade.quantity == round(trade.quantity), "currencies in whole units"


@pytest.mark.parametrize("limit", ["concentration", "gross_exposure", "net_exposure", "expected_shortfall_0.975", "var_0.95"])
def test_one_step_less_would_not_do(limit: str) -> None:
    """The trades are minimal by their rule: with one unit less of the largest the limit is breached still."""
    state = franc_desk({("carry", limit): measured("carry", limit) * 0.7})
    trades = list(trades_within(state, "carry", limit, all_analytics()))
    worth = [abs(trade.quantity) * (book(state).market.unit_value(trade.symbol, "EUR") or 0.0) for trade in trades]
    at = worth.index(max(worth))
    step = math.copysign(3.0, trades[at].quantity)
    trades[at] = Trade(trades[at].portfolio, trades[at].symbol, trades[at].quantity - step)
    assert used(state.with_trades(trades), "carry", limit) > 1.0


def test_the_franc_break_is_cut_in_the_franc() -> None:
    """The book short the franc breaches its shortfall limit; the proposal buys francs back and nothing else."""
    state = franc_desk({("carry", "expected_shortfall_0.975"): 0.01})
    (trade,) = trades_within(state, "carry", "expected_shortfall_0.975", all_analytics())
    assert (trade.portfolio, trade.symbol) == ("carry", "CHF")
    assert 0 < trade.quantity < 900_000


def test_in_a_composite_the_largest_holder_trades_first() -> None:
    """The desk is short 1,000,000 francs net: carry (-900,000) buys back before macro (-250,000); flow, which is long, not."""
    desk = measured("desk", "concentration")
    state = franc_desk({("desk", "concentration"): desk * 0.05})
    trades = trades_within(state, "desk", "concentration", all_analytics())
    francs = {trade.portfolio: trade.quantity for trade in trades if trade.symbol == "CHF"}
    assert francs["carry"] == 900_000
    assert 0 < francs.get("macro", 1) < 250_000
    assert "flow" not in francs


def test_inside_the_limit_nothing_is_traded() -> None:
    """Also exactly at it."""
    exact = measured("carry", "leverage")
    for value in (exact, exact * 1.1):
        assert trades_within(franc_desk({("carry", "leverage"): value}), "carry", "leverage", all_analytics()) == ()


def test_headroom_is_left_unused() -> None:
    """A quarter of the limit."""
    state = franc_desk({("carry", "leverage"): 0.5})
    trades = trades_within(state, "carry", "leverage", all_analytics(), headroom=0.25)
    assert used(state.with_trades(trades), "carry", "leverage") == pytest.approx(0.75, abs=1e-5)
    with pytest.raises(Permanent, match=r"headroom: must be at least 0 and less than 1, was 1"):
        trades_within(state, "carry", "leverage", all_analytics(), headroom=1)


def test_days_that_count_again_without_a_closed_position_do_not_break_the_promise() -> None:
    """B has no close on the day A crashed, so no scenario has the crash while B is held; closing B brings it back, and A is cut
    further until the limit holds in the cycle."""
    crash = [100.0, 100.1] * 60 + [100.0, 60.0, 60.0, 60.0]
    gapped = [50.0, 49.0] * 60 + [50.0, math.nan, 50.0, 50.0]
    config = make_config(limits={("carry", "expected_shortfall_0.99"): 0.0009})
    state = desk_of({"A": 100, "B": 200}, [history("A", crash), history("B", gapped)], cash=100_000, config=config)
    trades = trades_within(state, "carry", "expected_shortfall_0.99", all_analytics())
    assert used(state.with_trades(trades), "carry", "expected_shortfall_0.99") <= 1.0


def test_shares_are_traded_whole() -> None:
    """40 shares, the limit allows 36.7: four are sold."""
    config = make_config(limits={("carry", "gross_exposure"): 0.3667})
    histories = [history("US", [100.0])]
    state = desk_of({"US": 40}, histories, cash=6_000, config=config, instruments=[terms("US", "share")])
    assert trades_within(state, "carry", "gross_exposure", all_analytics()) == (Trade("carry", "US", -4.0),)


def test_a_limit_finer_than_a_share_is_refused() -> None:
    """A net limit of 20 euro on shares of over 1,000: every sale overshoots, and closing the whole book is not proposed."""
    config = make_config(limits={("carry", "net_exposure"): 0.00001})
    prices = (1009.0, 1103.0, 1201.0, 1301.0, 1409.0, 1511.0, 1601.0, 1709.0)
    held = dict(zip("ABCDEFGH", (42, 16, 1, -28, -24, -56, -51, -59), strict=True))
    histories = [history(symbol, [price]) for symbol, price in zip(held, prices, strict=True)]
    shares = [terms(symbol, "share") for symbol in held]
    state = desk_of(held, histories, cash=2_000_000, config=config, instruments=shares)
    with pytest.raises(Permanent, match="carry: whole steps are too coarse to bring net_exposure inside 1e-05"):
        trades_within(state, "carry", "net_exposure", all_analytics())


def test_a_loss_already_made_cannot_be_traded_away() -> None:
    """The error says why."""
    state = franc_desk({("carry", "daily_loss"): 0.001})
    with pytest.raises(Permanent, match="carry: no trade restores the limit daily_loss: it measures what has happened already"):
        trades_within(state, "carry", "daily_loss", all_analytics())


def test_an_unknown_limit_or_portfolio_is_named_with_those_there_are() -> None:
    """What, where, the value found, what to do."""
    state = franc_desk({("carry", "leverage"): 1, ("carry", "sector"): 1})
    with pytest.raises(Permanent, match="limit: carry has no limit 'concentration'; it has: leverage, sector"):
        trades_within(state, "carry", "concentration", all_analytics())
    with pytest.raises(Permanent, match="limit: macro has no limit 'leverage'; it has: none"):
        trades_within(state, "macro", "leverage", all_analytics())
    with pytest.raises(Permanent, match="portfolio: no portfolio is called 'x'; there are: carry, macro, flow, desk"):
        trades_within(state, "x", "leverage", all_analytics())


def test_a_limit_on_a_number_that_is_undefined_can_be_asked_about_later() -> None:
    """With the reason."""
    config = make_config(limits={("carry", "var_0.99"): 0.1}, minimum_days=200)
    state = desk_of({"X": 1}, [history("X", [1.0, 2.0])], config=config)
    with pytest.raises(Retryable, match=r"carry: what the limit var_0.99 is set on is undefined now \(short_history\)"):
        trades_within(state, "carry", "var_0.99", all_analytics())
