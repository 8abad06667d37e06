"""The break test: right about how often it is wrong, whatever the tails, and it finds what changed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2

from exporter.market import Floats
from exporter.risk.correlation_break import break_pvalue, correlations, stability_ratio

DAYS, RECENT, ASSETS = 250, 60, 5
SAMPLES = 150


def market(generator: np.random.Generator, days: int, correlation: float, tails: str = "normal") -> Floats:
    """Returns with one correlation between all pairs; fat tails hit all assets on the same days, as real ones do."""
    matrix = np.full((ASSETS, ASSETS), correlation)
    np.fill_diagonal(matrix, 1.0)
    returns: Floats = generator.standard_normal((days, ASSETS)) @ np.linalg.cholesky(matrix).T
    if tails == "fat":
        returns /= np.sqrt(generator.chisquare(4, (days, 1)) / 4)
    if tails == "clustered":
        level = 0.0
        for day in range(days):
            level = 0.97 * level + 0.2 * generator.standard_normal()
            returns[day] *= np.exp(level / 2)
    return returns


def jennrich(earlier: Floats, recent: Floats) -> float:
    """The likelihood test usually taken, for comparison.

    Source: R. Jennrich, An asymptotic chi-square test for the equality of two correlation matrices, JASA 65 (1970), 904.
    """
    one, other = np.corrcoef(earlier.T), np.corrcoef(recent.T)
    total = len(earlier) + len(recent)
    pooled = (len(earlier) * one + len(recent) * other) / total
    inverse = np.linalg.inv(pooled)
    z = np.sqrt(len(earlier) * len(recent) / total) * inverse @ (one - other)
    diagonal = np.diag(z)
    statistic = 0.5 * np.trace(z @ z) - diagonal @ np.linalg.solve(np.eye(ASSETS) + pooled * inverse, diagonal)
    return float(chi2.sf(statistic, ASSETS * (ASSETS - 1) / 2))


@pytest.mark.parametrize("tails", ["normal", "fat", "clustered"])
def test_where_nothing_changed_one_in_twenty_is_below_five_percent(tails: str) -> None:
    """5 % of 150 samples, give or take three standard errors (5.3 %)."""
    generator = np.random.default_rng(1)
    found = [break_pvalue(market(generator, DAYS, 0.4, tails), RECENT) for _ in range(SAMPLES)]
    assert np.mean(np.array(found) < 0.05) <= 0.05 + 0.053


def test_the_usual_test_cries_wolf_on_fat_tails() -> None:
    """Why there is a permutation test: the likelihood test rejects more than two in five where nothing changed."""
    generator = np.random.default_rng(1)
    samples = [market(generator, DAYS, 0.4, "fat") for _ in range(SAMPLES)]
    assert np.mean([jennrich(each[:-RECENT], each[-RECENT:]) < 0.05 for each in samples]) > 0.4


@pytest.mark.parametrize("tails", ["normal", "fat", "clustered"])
@pytest.mark.parametrize("after", [0.8, 0.0])
def test_a_break_is_found(tails: str, after: float) -> None:
    """Correlations of 0.4 that went to 0.8, or to none, sixty days ago: found nine times in ten at least."""
    generator = np.random.default_rng(2)
    samples = [
        np.concatenate([market(generator, DAYS - RECENT, 0.4, tails), market(generator, RECENT, after, tails)])
        for _ in range(40)
    ]
    assert np.mean([break_pvalue(each, RECENT) < 0.05 for each in samples]) >= 0.9


def test_the_same_data_give_the_same_p_value_and_the_unit_does_not_matter() -> None:
    """Shuffles are seeded; ranks know no unit, and no order of the assets."""
    returns = market(np.random.default_rng(3), DAYS, 0.4)
    found = break_pvalue(returns, RECENT)
    assert break_pvalue(returns.copy(), RECENT) == found
    assert break_pvalue(returns * np.array([1e-6, 1.0, 1e6, 2.0, 3.0]), RECENT) == found
    assert break_pvalue(returns[:, ::-1], RECENT) == pytest.approx(found, abs=0.01)


def test_correlations_are_numpys() -> None:
    """Each pair, in order."""
    returns = market(np.random.default_rng(4), DAYS, 0.3)
    assert correlations(returns) == pytest.approx(np.corrcoef(returns.T)[np.triu_indices(ASSETS, 1)], abs=1e-12)


@given(st.integers(0, 10_000))
def test_correlations_stay_in_their_range(seed: int) -> None:
    """Rounding never leaves -1 to 1, for columns that are copies of each other too."""
    generator = np.random.default_rng(seed)
    one = generator.standard_normal((30, 1)) * 10.0 ** generator.integers(-100, 100)
    found = correlations(np.concatenate([one, one, -one], axis=1))
    assert found == pytest.approx([1.0, -1.0, -1.0])
    assert (np.abs(found) <= 1.0).all()


def test_stability_is_one_without_change_and_zero_between_extremes() -> None:
    """1 - mean |difference| / 2."""
    up = np.random.default_rng(5).standard_normal((100, 1))
    together, apart = np.concatenate([up, up], axis=1), np.concatenate([up, -up], axis=1)
    assert stability_ratio(together, together) == pytest.approx(1.0)
    assert stability_ratio(together, apart) == pytest.approx(0.0)
