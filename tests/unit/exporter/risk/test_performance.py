"""Performance against published numbers, and the bugs of others that must not be here."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.market import Floats
from exporter.reading import Gap
from exporter.risk.performance import (
    drawdown_duration,
    drawdowns,
    expected_maximum_sharpe,
    probabilistic_sharpe,
    profit_factor,
    sharpe,
    sortino,
    volatility,
    wealth,
    win_rate,
)

BACON = np.array([
    0.003, 0.026, 0.011, -0.010, 0.015, 0.025, 0.016, 0.067, -0.014, 0.040, -0.005, 0.081,
    0.040, -0.037, -0.061, 0.017, -0.049, -0.022, 0.070, 0.058, -0.065, 0.024, -0.005, -0.009,
])  # fmt: skip
"""24 monthly returns. Source: C. Bacon, Practical Portfolio Performance Measurement and Attribution, chapter 4."""
RETURNS = st.lists(st.floats(-0.5, 0.5), min_size=2, max_size=60).map(np.array)


def test_bacons_profit_factor() -> None:
    """1.78."""
    assert profit_factor(BACON) == pytest.approx(1.7798, abs=5e-5)


def test_the_probabilistic_sharpe_ratio_of_its_authors() -> None:
    """0.458 a month over 24 months: 0.982 if normal, 0.913 with skewness -2.448 and kurtosis 10.164.

    Source: Bailey, Lopez de Prado (2012), the hedge fund example.
    """
    assert probabilistic_sharpe(0.458, 0.0, 24, 0.0, 3.0) == pytest.approx(0.982, abs=5e-4)
    assert probabilistic_sharpe(0.458, 0.0, 24, -2.448, 10.164) == pytest.approx(0.913, abs=5e-4)


def test_the_probabilistic_sharpe_ratio_of_performance_analytics() -> None:
    """2/sqrt(12) against 1/sqrt(12) over 59 months, skewness -0.72, kurtosis 5.78: 0.9487. Source: its snapshot test."""
    found = probabilistic_sharpe(2 / math.sqrt(12), 1 / math.sqrt(12), 59, -0.72, 5.78)
    assert found == pytest.approx(0.9487, abs=5e-5)


def test_the_deflated_sharpe_ratio_of_its_authors() -> None:
    """100 trials, variance 1/2 a year, 2.5 a year over 1,250 days, skewness -3, kurtosis 10: 0.1132 a day and 0.9004; with 46
    trials 0.9505. Source: Bailey, Lopez de Prado (2014), the numerical example."""
    variance, ratio = 0.5 / 250, 2.5 / math.sqrt(250)
    best = expected_maximum_sharpe(100, variance)
    assert best == pytest.approx(0.1132, abs=5e-5)
    assert probabilistic_sharpe(ratio, best, 1250, -3.0, 10.0) == pytest.approx(0.9004, abs=5e-5)
    best = expected_maximum_sharpe(46, variance)
    assert probabilistic_sharpe(ratio, best, 1250, -3.0, 10.0) == pytest.approx(0.9505, abs=5e-5)


def test_a_loss_on_the_first_day_is_a_drawdown() -> None:
    """quantstats#438: the peak is the wealth before the first return."""
    assert drawdowns(wealth(np.array([-0.10, 0.05]))).tolist() == pytest.approx([0.0, 0.10, 0.055])


def test_a_drawdown_still_open_counts_to_the_end() -> None:
    """quantstats#233."""
    assert drawdown_duration(wealth(np.array([0.1, -0.2, 0.05, 0.01]))) == 3
    assert drawdown_duration(wealth(np.array([0.1, -0.2, 0.5]))) == 0
    assert drawdown_duration(wealth(np.array([-0.2]))) == 1


@pytest.mark.parametrize("returns", [np.zeros(10), np.full(10, 0.01), np.full(10, 1 / 3)])
def test_a_series_that_never_moved_has_no_sharpe_ratio(returns: Floats) -> None:
    """empyrical#93, ffn#317: infinite, 1e16, deflated Sharpe 1.0."""
    assert sharpe(returns) is Gap.ZERO_VARIANCE


def test_without_a_loss_there_is_no_profit_factor_and_no_sortino_ratio() -> None:
    """quantstats: infinite for a series, 0.0 for a frame."""
    assert profit_factor(np.array([0.1, 0.2])) is Gap.BASELINE_ZERO
    assert sortino(np.array([0.1, 0.2])) is Gap.ZERO_VARIANCE


def test_large_positive_returns_are_returns() -> None:
    """quantstats takes returns above 1 for prices: Sharpe 4.2, true 21.3."""
    returns = np.random.default_rng(1).normal(1.5, 0.07, 500)
    assert sharpe(returns) == pytest.approx(returns.mean() / returns.std(ddof=1))


def test_the_downside_deviation_is_over_all_periods() -> None:
    """One loss of 2 % among four: root of 0.0004 / 4, mean 0.5 %."""
    assert sortino(np.array([0.01, -0.02, 0.03, 0.0])) == pytest.approx(0.005 / 0.01)


def test_the_win_rate_leaves_out_days_on_which_nothing_happened() -> None:
    """Two gains of three decided days."""
    assert win_rate(np.array([0.1, 0.0, 0.0, -0.1, 0.2])) == pytest.approx(2 / 3)
    assert win_rate(np.zeros(3)) is Gap.ZERO_VARIANCE


def test_volatility_is_annualised_by_the_root_of_the_periods() -> None:
    """1 % a day is 15.9 % a year of 252 days; one return has none."""
    returns = np.array([0.01, -0.01] * 500)
    assert volatility(returns) == pytest.approx(returns.std(ddof=1) * math.sqrt(252))
    assert volatility(np.zeros(5)) == 0.0
    assert volatility(np.array([0.1])) is Gap.SHORT_SAMPLE


@given(RETURNS)
def test_no_result_is_nan_or_infinite(returns: Floats) -> None:
    """A number or a reason, for any finite series."""
    for measure in (sharpe, sortino, win_rate, profit_factor, volatility):
        found = measure(returns)
        assert isinstance(found, Gap) or math.isfinite(found)
    falls = drawdowns(wealth(returns))
    assert ((falls >= 0.0) & (falls <= 1.0)).all()


@given(RETURNS, st.floats(0.01, 100))
def test_the_unit_does_not_matter_to_ratios(returns: Floats, factor: float) -> None:
    """Sharpe, Sortino, win rate and profit factor know no leverage."""
    for measure in (sharpe, sortino, profit_factor):
        one, scaled = measure(returns), measure(returns * factor)
        if not isinstance(one, Gap) and not isinstance(scaled, Gap):
            assert scaled == pytest.approx(one, rel=1e-6, abs=1e-9)
