"""Backtests of VaR against published numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from exporter.risk.backtest import (
    LikelihoodRatio,
    acerbi_szekely_z2,
    binomial_pvalue,
    christoffersen,
    conditional_coverage,
    cumulative_probability,
    kupiec,
    time_until_first_failure,
    traffic_light,
    transitions,
)


def five_digits(found: LikelihoodRatio) -> tuple[float, float]:
    """As printed."""
    return float(f"{found.statistic:.5g}"), float(f"{found.pvalue:.5g}")


def test_the_example_of_mathworks() -> None:
    """57 exceptions in 1,043 days at 95 %. Source: MathWorks, Risk Management Toolbox, `varbacktest` documentation."""
    coverage, independence = kupiec(57, 1043, 0.05), christoffersen(932, 53, 53, 4)
    assert five_digits(coverage) == (0.46147, 0.49694)
    assert five_digits(independence) == (0.25866, 0.61104)
    assert five_digits(conditional_coverage(coverage, independence)) == (0.72013, 0.69763)
    assert five_digits(time_until_first_failure(58, 0.05)) == (1.7354, 0.18773)
    assert round(cumulative_probability(57, 1043, 0.05), 5) == 0.77913


def test_the_examples_of_jorion() -> None:
    """6 of 252 days at 99 %, 4 of them after an exception; J.P. Morgan 1998, 20 of 252 at 95 %.

    Source: P. Jorion, Value at Risk, 3rd edition, chapter 6, question 10 and the text on J.P. Morgan.
    """
    assert round(kupiec(6, 252, 0.01).statistic, 3) == 3.499
    assert round(christoffersen(244, 2, 2, 4).statistic, 3) == 25.837
    coverage, independence = kupiec(20, 252, 0.05), christoffersen(218, 14, 14, 6)
    found = (coverage.statistic, independence.statistic, conditional_coverage(coverage, independence).statistic)
    assert [round(each, 2) for each in found] == [3.91, 9.53, 13.44]


NON_REJECTION = [
    (0.01, 252, 0, 7), (0.01, 510, 1, 11), (0.01, 1000, 4, 17),
    (0.025, 252, 2, 12), (0.025, 510, 6, 21), (0.025, 1000, 15, 36),
    (0.05, 252, 6, 20), (0.05, 510, 16, 36), (0.05, 1000, 37, 65),
    (0.075, 252, 11, 28), (0.075, 510, 27, 51), (0.075, 1000, 59, 92),
    (0.10, 252, 16, 36), (0.10, 510, 38, 65), (0.10, 1000, 81, 120),
]  # fmt: skip


@pytest.mark.parametrize(("ratio", "days", "low", "high"), NON_REJECTION)
def test_the_non_rejection_regions_of_jorion(ratio: float, days: int, low: int, high: int) -> None:
    """Accepted strictly between the two at 5 %. Source: Jorion, table 6.2 (0 at 252 days and 1 % is rejected too)."""
    accepted = [count for count in range(days // 4) if kupiec(count, days, ratio).pvalue > 0.05]
    assert (accepted[0] - 1, accepted[-1] + 1) == (low, high)


def test_the_examples_of_hull() -> None:
    """15 of 1,000 at 1 %: 2.19; 12 of 600: 4.70 and an exact probability of 1.95 %; 9 of 600: 15.2 %.

    Source: J. Hull, Risk Management and Financial Institutions, chapter 9, question 14 and the text on back-testing.
    """
    assert round(kupiec(15, 1000, 0.01).statistic, 2) == 2.19
    assert round(kupiec(12, 600, 0.01).statistic, 2) == 4.70
    assert round(binomial_pvalue(12, 600, 0.01), 4) == 0.0195
    assert round(binomial_pvalue(9, 600, 0.01), 3) == 0.152


def test_three_of_250_at_one_percent_is_not_what_a_public_calculator_prints() -> None:
    """It prints 0.189; the right value is 0.0949, as vartests has it."""
    assert round(kupiec(3, 250, 0.01).statistic, 4) == 0.0949


def test_the_supervisors_zones() -> None:
    """Source: Basel Committee, Supervisory framework for the use of "backtesting" (1996), table 2."""
    cumulative = [round(100 * cumulative_probability(count, 250, 0.01), 2) for count in range(11)]
    assert cumulative == [8.11, 28.58, 54.32, 75.81, 89.22, 95.88, 98.63, 99.60, 99.89, 99.97, 99.99]
    assert [traffic_light(count, 250, 0.01) for count in range(12)] == ["green"] * 5 + ["yellow"] * 5 + ["red"] * 2


def test_a_state_that_never_occurs_is_no_crash() -> None:
    """GAS#5: the transition table crashed without exceptions. 0 log 0 is 0."""
    assert christoffersen(249, 0, 0, 0) == LikelihoodRatio(0.0, 1.0)
    assert christoffersen(0, 0, 0, 249) == LikelihoodRatio(0.0, 1.0)
    assert christoffersen(0, 0, 0, 0) == LikelihoodRatio(0.0, 1.0)
    assert kupiec(0, 250, 0.01).statistic == pytest.approx(-500 * math.log(0.99))
    assert kupiec(250, 250, 0.01).pvalue == 0.0


def test_thousands_of_clustered_days_do_not_underflow() -> None:
    """christoffersen-lib multiplied likelihoods: 5,000 clustered days gave LR 0, p 1."""
    exceptions = np.zeros(5_000, dtype=np.bool_)
    exceptions[1000:1050:2] = exceptions[1001:1050:10] = True
    found = christoffersen(*transitions(exceptions))
    assert found.statistic > 15
    assert found.pvalue < 1e-3


def test_transitions_count_pairs_of_days() -> None:
    """One fewer than days."""
    assert transitions(np.array([0, 0, 1, 1, 0, 1], dtype=np.bool_)) == (1, 2, 1, 1)


@given(st.integers(1, 2000).flatmap(lambda days: st.tuples(st.integers(0, days), st.just(days))), st.floats(0.001, 0.2))
def test_p_values_are_probabilities(counted: tuple[int, int], ratio: float) -> None:
    """Never outside 0 to 1, whatever is counted; the exact one agrees with scipy's binomial."""
    exceptions, days = counted
    assert 0.0 <= kupiec(exceptions, days, ratio).pvalue <= 1.0
    assert binomial_pvalue(exceptions, days, ratio) == pytest.approx(
        stats.binom.sf(exceptions - 1, days, ratio), rel=1e-9, abs=1e-300
    )


def test_z2_of_right_forecasts_falls_below_its_critical_value_once_in_twenty() -> None:
    """Normal losses, 250 days, 97.5 %: 5 % of the values lie below -0.70; Student's t with 3 degrees of freedom: -0.82.

    Source: Acerbi, Szekely (2014), table of critical levels. 4,000 samples: the share is 5 % give or take 1.2 %.
    """
    generator = np.random.default_rng(3)
    var, shortfall = stats.norm.ppf(0.975), stats.norm.pdf(stats.norm.ppf(0.975)) / 0.025
    flat = np.full(250, 1.0)
    values = [acerbi_szekely_z2(generator.standard_normal(250), var * flat, shortfall * flat, 0.025) for _ in range(4_000)]
    assert np.mean(np.array(values) < -0.70) == pytest.approx(0.05, abs=0.012)
    assert np.mean(values) == pytest.approx(0.0, abs=0.03)
    wrong = [acerbi_szekely_z2(1.5 * generator.standard_normal(250), var * flat, shortfall * flat, 0.025) for _ in range(500)]
    assert np.mean(np.array(wrong) < -0.70) > 0.9
