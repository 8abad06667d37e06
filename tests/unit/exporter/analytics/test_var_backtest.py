"""Backtest of the book as it is now: counted by hand, and undefined where there is too little to count."""

from __future__ import annotations

import numpy as np
import pytest

from exporter.analytics.var_backtest import EXCEPTIONS, PVALUE, SAMPLE_SIZE, TRAFFIC_LIGHT, Z2, compute
from exporter.market import Floats
from exporter.reading import Gap
from exporter.risk.backtest import binomial_pvalue, kupiec
from exporter.risk.historical import expected_shortfall, historical_var
from tests.unit.exporter.desks import by_name, desk_of, history_of_returns, make_config, results


def config(window: int = 100, backtest: int = 60, minimum: int = 50) -> object:
    """Short windows, so that a test is quick."""
    return make_config(window_days=window, backtest_days=backtest, minimum_days=minimum)


def returns(days: int, seed: int = 11) -> Floats:
    """A calm market."""
    return np.random.default_rng(seed).normal(0.0, 0.01, days)


def test_exceptions_are_counted_as_a_loop_over_the_days_would() -> None:
    """VaR of the 100 days before each of the last 60, against that day's loss."""
    daily = returns(160)
    state = desk_of({"X": 1_000_000}, [history_of_returns("X", daily)], cash=0.01, config=config())
    samples, gaps = results(compute, state)
    assert gaps == []
    weight = 1_000_000 / 1_000_000.01
    losses = -daily * weight
    for label in ("0.95", "0.975", "0.99"):
        forecasts = [historical_var(losses[day - 100 : day], float(label)) for day in range(100, 160)]
        count = sum(losses[100:] > np.array(forecasts))
        ratio = round(1 - float(label), 9)
        assert by_name(samples, EXCEPTIONS)["carry", label, "60"] == count
        assert by_name(samples, PVALUE)["carry", label, "kupiec"] == pytest.approx(kupiec(count, 60, ratio).pvalue)
        assert by_name(samples, PVALUE)["carry", label, "binomial"] == pytest.approx(binomial_pvalue(count, 60, ratio))
    assert by_name(samples, SAMPLE_SIZE) == {("carry", "60"): 60.0}


def test_z2_compares_the_losses_beyond_var_with_the_shortfall_forecast() -> None:
    """Sum over exceptions of loss over expected shortfall, over the days and the tail."""
    daily = returns(160, seed=12)
    samples, _ = results(compute, desk_of({"X": 1_000_000}, [history_of_returns("X", daily)], cash=0.01, config=config()))
    losses = -daily * (1_000_000 / 1_000_000.01)
    total = 0.0
    for day in range(100, 160):
        before = losses[day - 100 : day]
        if losses[day] > historical_var(before, 0.975):
            total += losses[day] / float(expected_shortfall(before, 0.975))
    assert by_name(samples, Z2)["carry", "0.975"] == pytest.approx(1 - total / (60 * 0.025))


def test_a_market_that_turned_wild_is_found() -> None:
    """Calm days, then 60 of five times the volatility: too many exceptions, and losses far beyond the shortfall forecast."""
    daily = np.concatenate([returns(100), 5 * returns(60, seed=13)])
    samples, _ = results(compute, desk_of({"X": 1_000_000}, [history_of_returns("X", daily)], cash=0.01, config=config()))
    assert by_name(samples, PVALUE)["carry", "0.95", "kupiec"] < 1e-3
    assert by_name(samples, PVALUE)["carry", "0.95", "conditional_coverage"] < 1e-2
    assert by_name(samples, Z2)["carry", "0.975"] < -0.7


def test_losses_that_grow_each_day_turn_the_light_red() -> None:
    """Each day's loss is the worst yet: an exception every day, and exactly one zone is on."""
    daily = -np.linspace(0.001, 0.01, 160)
    samples, _ = results(compute, desk_of({"X": 1_000_000}, [history_of_returns("X", daily)], cash=0.01, config=config()))
    assert by_name(samples, EXCEPTIONS)["carry", "0.99", "60"] == 60
    lights = by_name(samples, TRAFFIC_LIGHT)
    assert lights == {("carry", "green"): 0.0, ("carry", "yellow"): 0.0, ("carry", "red"): 1.0}


@pytest.mark.parametrize(("days", "gap"), [(149, Gap.SHORT_HISTORY), (40, Gap.SHORT_HISTORY)])
def test_too_few_forecasts_are_undefined(days: int, gap: Gap) -> None:
    """49 forecasts where 50 are wanted; no full window at all."""
    state = desk_of({"X": 1}, [history_of_returns("X", returns(days))], config=config())
    assert results(compute, state) == ({}, [(gap, "carry")])


def test_a_flat_book_has_nothing_to_test() -> None:
    """Nor has one that holds an option."""
    assert results(compute, desk_of({}, [history_of_returns("X", returns(160))], config=config()))[1] == [
        (Gap.FLAT_BOOK, "carry")
    ]


def test_a_price_that_never_moves_has_no_shortfall_to_test() -> None:
    """No exception, every p-value as it should be, and no division by zero."""
    state = desk_of({"X": 1_000_000}, [history_of_returns("X", [0.0] * 160)], cash=0.01, config=config())
    samples, gaps = results(compute, state)
    assert gaps == [(Gap.BASELINE_ZERO, "carry z2")]
    assert by_name(samples, EXCEPTIONS)["carry", "0.99", "60"] == 0.0
