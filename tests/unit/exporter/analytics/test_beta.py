"""Beta: against a regression, and undefined where there is nothing to regress on."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.analytics.beta import BETA, beta, compute
from exporter.config import ExporterConfig
from exporter.reading import Gap
from tests.unit.exporter.desks import by_name, desk_of, history, history_of_returns, make_config, results

MARKET = np.random.default_rng(21).normal(0.0, 0.01, 200)


def config(*benchmarks: str) -> ExporterConfig:
    """With these benchmarks."""
    plain = make_config(minimum_days=50)
    return plain.model_copy(update={"risk": plain.risk.model_copy(update={"benchmarks": benchmarks})})


def test_a_book_that_doubles_the_market_has_a_beta_of_two() -> None:
    """Half invested in what moves four times as much."""
    histories = [history_of_returns("X", 4 * MARKET), history_of_returns("SPY", MARKET)]
    state = desk_of({"X": 1_000}, histories, cash=1_000, config=config("SPY"))
    assert by_name(results(compute, state)[0], BETA) == {("carry", "SPY"): pytest.approx(2.0, rel=1e-9)}


def test_beta_is_the_slope_of_a_regression() -> None:
    """Source: numpy's least squares, another way to the same number."""
    noise = np.random.default_rng(22).normal(0, 0.01, MARKET.size)
    expected = np.polyfit(MARKET, 0.7 * MARKET + noise, 1)[0]
    assert beta(0.7 * MARKET + noise, MARKET) == pytest.approx(expected, rel=1e-9)


@given(st.floats(1e-6, 1e6))
def test_the_unit_of_the_book_scales_beta(factor: float) -> None:
    """Twice the leverage, twice the beta."""
    one, scaled = beta(MARKET[::-1], MARKET), beta(factor * MARKET[::-1], MARKET)
    assert scaled == pytest.approx(factor * float(one), rel=1e-9)  # type: ignore[arg-type]


def test_a_flat_benchmark_has_no_beta() -> None:
    """quantstats gave 0.0."""
    assert beta(MARKET, np.zeros(200)) is Gap.ZERO_VARIANCE
    assert beta(MARKET, np.full(200, 0.01)) is Gap.ZERO_VARIANCE


def test_days_the_benchmark_does_not_trade_are_left_out_on_both_sides() -> None:
    """A holiday of the benchmark is no return of zero."""
    x, spy = history_of_returns("X", 2 * MARKET), history_of_returns("SPY", MARKET)
    closes = spy.closes.copy()
    closes[100] = np.nan
    holiday = type(spy)(spy.symbol, spy.currency, spy.days, closes)
    state = desk_of({"X": 1_000}, [x, holiday], cash=0.0001, config=config("SPY"))
    assert by_name(results(compute, state)[0], BETA)["carry", "SPY"] == pytest.approx(2.0, rel=1e-6)


def test_a_benchmark_without_history_is_undefined_and_none_configured_is_nothing() -> None:
    """Named with the portfolio."""
    state = desk_of({"X": 1}, [history_of_returns("X", MARKET)], config=config("SPY"))
    assert results(compute, state) == ({}, [(Gap.SHORT_HISTORY, "carry SPY")])
    assert results(compute, desk_of({"X": 1}, [history("X", [1.0, 2.0])])) == ({}, [])
