"""Methods of VaR against closed forms, published numbers, and the laws they are made for."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import ndtri

from exporter.market import Floats
from exporter.risk.cornish_fisher import (
    bend,
    cornish_fisher_expected_shortfall,
    cornish_fisher_var,
    is_monotone,
    sample_shape,
    shape_with,
)
from exporter.risk.ewma import burn_in_days, ewma_deviations, filtered_losses
from exporter.risk.historical import historical_var
from exporter.risk.normal import moments, normal_expected_shortfall, normal_var
from tests.unit.exporter.desks import euro_rates


@pytest.mark.parametrize(
    ("confidence", "var", "shortfall"),
    [(0.90, 162.1, 222.0), (0.95, 208.1, 260.9), (0.975, 247.9, 295.7), (0.99, 294.3, 337.1), (0.995, 325.8, 365.8)],
)
def test_the_example_of_mcneil_frey_embrechts(confidence: float, var: float, shortfall: float) -> None:
    """10,000 in a share of 20 % annual volatility, 250 days. Source: Quantitative Risk Management (2005), example 2.14."""
    deviation = 10_000 * 0.20 / math.sqrt(250)
    assert round(normal_var(0.0, deviation, confidence), 1) == var
    assert round(normal_expected_shortfall(0.0, deviation, confidence), 1) == shortfall


def test_moments_are_those_of_the_sample_at_any_scale() -> None:
    """Standard deviation by n - 1; 1e300 does not overflow."""
    losses = np.array([1.0, 2.0, 4.0])
    assert moments(losses) == pytest.approx((7 / 3, math.sqrt(7 / 3)))
    assert moments(losses * 1e300) == pytest.approx((7e300 / 3, math.sqrt(7 / 3) * 1e300))
    assert moments(np.zeros(3)) == (0.0, 0.0)


@pytest.mark.parametrize(("decay", "days"), [(0.94, 74), (0.97, 151)])
def test_the_memory_of_riskmetrics(decay: float, days: int) -> None:
    """Days with 99 % of the weight. Source: RiskMetrics Technical Document (1996), table 5.7."""
    assert burn_in_days(decay) == days


def test_variance_tomorrow_is_the_recursion_by_hand() -> None:
    """decay x variance + (1 - decay) x loss^2, from the mean square of the burn-in."""
    decay = 0.5
    burn = burn_in_days(decay)
    losses = np.array([0.1] * burn + [0.2, 0.0])
    expected = [0.01, 0.5 * 0.01 + 0.5 * 0.04, 0.5 * (0.5 * 0.01 + 0.5 * 0.04)]
    assert ewma_deviations(losses, decay).tolist() == pytest.approx(np.sqrt(expected).tolist())


def test_the_first_estimate_is_forgotten() -> None:
    """Two histories that differ only before the last 151 days end within half a percent of one volatility at 0.94."""
    generator = np.random.default_rng(5)
    recent = generator.normal(0, 0.01, 200)
    calm, wild = np.concatenate([np.full(80, 0.001), recent]), np.concatenate([np.full(80, 0.05), recent])
    one, other = ewma_deviations(calm, 0.94)[-1], ewma_deviations(wild, 0.94)[-1]
    assert one == pytest.approx(other, rel=5e-3)


def test_filtered_losses_of_a_market_that_calmed_down_are_smaller() -> None:
    """A storm a year ago, calm since: history remembers the storm at its size, the filter at today's."""
    generator = np.random.default_rng(7)
    losses = np.concatenate([generator.normal(0, 0.01, 74), generator.normal(0, 0.05, 100), generator.normal(0, 0.01, 150)])
    deviations = ewma_deviations(losses, 0.94)
    filtered = filtered_losses(losses, deviations)
    assert filtered.size == losses.size - 74
    assert historical_var(filtered, 0.99) < 0.6 * historical_var(losses, 0.99)
    assert historical_var(filtered, 0.99) == pytest.approx(2.33 * deviations[-1], rel=0.35)


def test_at_constant_volatility_the_filter_changes_nothing() -> None:
    """Losses of one size."""
    losses = np.where(np.arange(200) % 2, 0.01, -0.01)
    assert filtered_losses(losses, ewma_deviations(losses, 0.94)) == pytest.approx(losses[74:])


def test_without_skewness_and_kurtosis_the_polynomial_is_the_quantile() -> None:
    """And the law is the normal one."""
    assert bend(-1.645, 0.0, 0.0) == -1.645
    shape = shape_with(0.0, 0.0)
    assert shape is not None
    assert cornish_fisher_var(0.1, 2.0, shape, 0.99) == pytest.approx(normal_var(0.1, 2.0, 0.99))
    assert cornish_fisher_expected_shortfall(0.1, 2.0, shape, 0.99) == pytest.approx(normal_expected_shortfall(0.1, 2.0, 0.99))


def law(skew: float, kurtosis: float, count: int = 200_001) -> Floats:
    """The Cornish-Fisher law with these parameters as a sample of its own quantiles, ascending."""
    z = ndtri((np.arange(count) + 0.5) / count)
    bent: Floats = z + (z**2 - 1) * skew / 6 + (z**3 - 3 * z) * kurtosis / 24 - (2 * z**3 - 5 * z) * skew**2 / 36
    return bent


@pytest.mark.parametrize(("skew", "kurtosis"), [(-0.5, 1.5), (0.3, 0.9), (0.0, 2.0), (0.8, 4.0)])
@pytest.mark.parametrize("confidence", [0.95, 0.99])
def test_the_parameters_are_solved_for_and_give_the_laws_own_quantile(skew: float, kurtosis: float, confidence: float) -> None:
    """A sample drawn from a known law: its moments lead back to it. Taking the moments for parameters misses by percents."""
    assert is_monotone(skew, kurtosis)
    sample = law(skew, kurtosis)
    shape = shape_with(*sample_shape(sample))
    assert shape is not None
    assert (shape.skew, shape.kurtosis) == pytest.approx((skew, kurtosis), abs=0.03)
    mean, deviation = moments(sample)
    assert cornish_fisher_var(mean, deviation, shape, confidence) == pytest.approx(np.quantile(sample, confidence), rel=2e-3)
    beyond = sample[int(confidence * sample.size) :].mean()
    assert cornish_fisher_expected_shortfall(mean, deviation, shape, confidence) == pytest.approx(beyond, rel=3e-3)


def test_the_franc_peg_has_no_cornish_fisher_number() -> None:
    """A year of the pegged franc and the day it broke: taken as it comes the polynomial makes VaR 95 % a gain."""
    (franc,) = euro_rates("CHF")
    losses = 1.0 - franc.closes[1:] / franc.closes[:-1]
    skew, kurtosis = sample_shape(losses)
    mean, deviation = moments(losses)
    assert mean + deviation * bend(float(ndtri(0.95)), skew, kurtosis) < 0.0
    assert shape_with(skew, kurtosis) is None


@given(st.floats(-3, 3), st.floats(-2, 30))
def test_no_law_is_given_outside_the_domain(skew: float, kurtosis: float) -> None:
    """Whatever the moments: a monotone law that has them, or none."""
    shape = shape_with(skew, kurtosis)
    if shape is not None:
        assert is_monotone(shape.skew, shape.kurtosis)
        quantiles = [cornish_fisher_var(0, 1, shape, confidence) for confidence in (0.01, 0.1, 0.5, 0.9, 0.95, 0.99, 0.999)]
        assert quantiles == sorted(quantiles)


def test_a_sample_without_variance_has_no_shape() -> None:
    """NaN, never a division by zero."""
    assert all(map(math.isnan, sample_shape(np.full(10, 0.5))))
    assert shape_with(math.nan, math.nan) is None
