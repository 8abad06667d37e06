"""Whatever finite numbers come in, no analytic raises, warns, or lets an infinity, a NaN or a made-up 0 out."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from exporter.book import Trade
from exporter.reading import Gap
from tests.unit.exporter.desks import (
    account,
    all_analytics,
    feed,
    fill,
    history,
    make_config,
    make_state,
    position,
    price,
    read,
    results,
    strategy,
    terms,
)

ANY = st.floats(allow_nan=False, allow_infinity=False)
PRICES = st.floats(5e-324, 1.7e308)
EXTREMES = st.sampled_from([0.0, 1e308, -1e308, 1.7e308, 5e-324, -5e-324, 1e-308, 1.0, -1.0]) | ANY
SYMBOLS = ("X", "Y", "USD")


@st.composite
def desks(draw: st.DrawFn) -> Any:
    """A desk of anything finite: prices, quantities, cash, fills, trades, returns."""
    length = draw(st.integers(0, 6))
    currency = {symbol: draw(st.sampled_from(["EUR", "USD"])) if symbol != "USD" else "EUR" for symbol in SYMBOLS}
    closes = {symbol: draw(st.lists(PRICES, min_size=length, max_size=length)) for symbol in SYMBOLS}
    held = draw(st.dictionaries(st.sampled_from(SYMBOLS), EXTREMES))
    instrument = draw(st.sampled_from(["spot", "future", "option"]))
    returns = st.lists(EXTREMES, max_size=12)
    records = {
        "positions": [position(symbol, units, entry=draw(EXTREMES)) for symbol, units in held.items()],
        "accounts": [account(draw(EXTREMES)), account(draw(EXTREMES), "USD", equity=draw(st.none() | EXTREMES))],
        "histories": [history(symbol, closes[symbol], currency[symbol]) for symbol in SYMBOLS],
        "prices": [price(symbol, draw(EXTREMES), currency[symbol]) for symbol in draw(st.sets(st.sampled_from(SYMBOLS)))],
        "instruments": [terms("X", instrument, currency["X"], multiplier=draw(EXTREMES))],
        "fills": [
            fill(symbol, draw(EXTREMES) or 1.0, draw(EXTREMES), currency=draw(st.sampled_from(["EUR", "USD", "PLN"])))
            for symbol in draw(st.lists(st.sampled_from(SYMBOLS), max_size=3))
        ],
        "returns": [strategy(name, sample, draw(returns)) for name in "ab" for sample in ("live", "backtest")],
    }
    limits = {("desk", "concentration"): draw(st.floats(5e-324, 1e308)), ("carry", "daily_loss"): 5e-324}
    config = make_config({"carry": "EUR"}, {"desk": ["carry"]}, limits)
    state = make_state(config, feed(**records))
    trades = [Trade("carry", symbol, draw(EXTREMES)) for symbol in draw(st.sets(st.sampled_from(SYMBOLS)))]
    return state.with_trades(trades) if trades else state


@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large], deadline=None)
@given(desks())
def test_no_finite_input_gets_an_infinity_out(state: Any) -> None:
    """Analytic by analytic, so that the pipeline's guard is not what saves it; `failed` would mean it raised."""
    for analytic in all_analytics():
        samples, gaps = results(analytic.compute, state)
        assert all(math.isfinite(value) for value in samples.values()), samples
        assert all(type(value) is float for value in samples.values()), samples
        assert Gap.FAILED not in {gap for gap, _ in gaps}
    reading = read(state)
    assert all(math.isfinite(sample.value) for sample in reading.samples)
    assert Gap.FAILED not in {gap.reason for gap in reading.undefined}


@pytest.mark.parametrize("rows", [0, 1, 2])
def test_almost_no_history_is_no_error(rows: int) -> None:
    """Empty, one row, constant: value and exposure are there, VaR is undefined."""
    records = {
        "positions": [position("X", 1)],
        "accounts": [account(10)],
        "histories": [history("X", np.ones(rows))],
        "prices": [price("X", 1)],
        "fills": (),
    }
    reading = read(make_state(make_config(minimum_days=2), feed(**records)))
    names = {sample.family.name for sample in reading.samples}
    assert {"desk_portfolio_value", "desk_exposure_gross_ratio", "desk_concentration_max_ratio"} <= names
    assert "desk_var_ratio" not in names
    assert ("tail_risk", Gap.SHORT_HISTORY) in {(gap.analytic, gap.reason) for gap in reading.undefined}


def test_a_constant_price_has_a_var_of_zero() -> None:
    """Two hundred days without a move: a loss of 0 is known, and it is not -0."""
    records = {
        "positions": [position("X", -1)],
        "accounts": [account(10)],
        "histories": [history("X", np.ones(200))],
        "fills": (),
    }
    reading = read(make_state(make_config(), feed(**records)))
    zero = ("desk_var", "desk_component", "desk_pnl")
    values = [sample.value for sample in reading.samples if sample.family.name.startswith(zero)]
    assert values
    assert [math.copysign(1.0, value) for value in values] == [1.0] * len(values)
    assert set(values) == {0.0}
