"""Drift: Kolmogorov-Smirnov against scipy and the literature, false discovery rate, relative differences, what is refused."""

from __future__ import annotations

import math
import subprocess
import sys
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import stats

from exporter.analytics import drift
from exporter.analytics.drift import benjamini_yekutieli, two_sample_ks
from exporter.market import Floats
from exporter.reading import Gap
from exporter.risk.performance import mean_return, sharpe, win_rate
from tests.unit.exporter.desks import feed, make_config, make_state, results, strategy

RETURNS = arrays.arrays(np.float64, st.integers(1, 60), elements=st.floats(-1.0, 1.0))
BENJAMINI_HOCHBERG_1995 = [
    0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344,
    0.0459, 0.3240, 0.4262, 0.5719, 0.6528, 0.7590, 1.000,
]  # fmt: skip
"""Fifteen p-values of a myocardial infarction trial, Journal of the Royal Statistical Society B 57 (1995), 289, section 4."""


def drifts(live: object, backtest: object) -> tuple[dict[tuple[str, ...], float], list[tuple[Gap, str]]]:
    """What the analytic says about one strategy."""
    records = [strategy("s", "live", live), strategy("s", "backtest", backtest)]
    return results(drift.compute, make_state(make_config(), feed(returns=records)))


# ---- Kolmogorov-Smirnov ---------------------------------------------------------------------------------------------


def test_the_value_in_scipys_documentation() -> None:
    """ks_2samp's example: n 100, m 110, D 0.545454... has p 7.37417839555191e-15, here on samples rebuilt to that distance."""
    few, many = np.arange(100.0), np.arange(110.0)
    shifted = next(few + shift for shift in np.arange(0.0, 110.0, 0.5) if two_sample_ks(few + shift, many)[0] >= 6 / 11 - 1e-12)
    statistic, pvalue = two_sample_ks(shifted, many)
    assert statistic == pytest.approx(6 / 11, abs=1e-15)
    assert pvalue == pytest.approx(7.37417839555191e-15, rel=1e-12)


@pytest.mark.parametrize(
    ("few", "many"),
    [(1, 1), (1, 2), (2, 3), (8, 30), (30, 30), (100, 110), (60, 250), (250, 1_000), (252, 2_520), (997, 1_009)],
)
@pytest.mark.parametrize("shift", [0.0, 0.2, 3.0])
def test_statistic_and_pvalue_equal_scipys_exact_ones(few: int, many: int, shift: float) -> None:
    """To 1e-12, also where p is 1e-100; scipy#11184, #12999, #14019: exact gave 1 or overflowed at thousands of rows."""
    rng = np.random.default_rng(few * many)
    one, other = rng.normal(shift, size=few), rng.normal(size=many)
    expected = stats.ks_2samp(one, other, method="exact")
    statistic, pvalue = two_sample_ks(one, other)
    assert statistic == pytest.approx(expected.statistic, rel=1e-12)
    assert pvalue == pytest.approx(expected.pvalue, rel=1e-12)


def test_ten_thousand_rows_are_exact_and_one_more_is_not() -> None:
    """The border is scipy's: max(n, m) <= 10,000 exact, beyond it kstwo with round(nm / (n + m))."""
    rng = np.random.default_rng(1)
    live = rng.normal(0.05, size=300)
    for size, method in ((10_000, "exact"), (10_001, "asymp")):
        backtest = rng.normal(size=size)
        statistic, pvalue = two_sample_ks(live, backtest)
        assert pvalue == pytest.approx(stats.ks_2samp(live, backtest, method=method).pvalue, rel=1e-9)
        limit = stats.kstwo.sf(statistic, round(300 * size / (300 + size)))
        assert bool(pvalue == pytest.approx(limit, rel=1e-9)) == (method == "asymp")


@given(RETURNS, RETURNS)
def test_the_test_is_symmetric(one: Floats, other: Floats) -> None:
    """Which sample is live does not matter."""
    assert two_sample_ks(one, other) == two_sample_ks(other, one)


@given(RETURNS, RETURNS)
@settings(max_examples=200)
def test_ties_are_counted_as_scipy_counts_them(one: Floats, other: Floats) -> None:
    """Returns repeat: zeros, ticks. The statistic is the distance of right-continuous distribution functions."""
    one, other = np.round(one, 1), np.round(other, 1)
    with warnings.catch_warnings(record=True) as gave_up:
        warnings.simplefilter("always")
        expected = stats.ks_2samp(one, other, method="exact")
    statistic, pvalue = two_sample_ks(one, other)
    assert statistic == pytest.approx(expected.statistic, abs=1e-12)
    # scipy 1.17 gives up where its sum for n = m comes out as 1.0000000000000002.
    assert pvalue == pytest.approx(1.0 if gave_up else expected.pvalue, rel=1e-9)


@given(RETURNS)
def test_a_sample_does_not_differ_from_itself(values: Floats) -> None:
    """D 0, p 1; a constant sample too (evidently#1929: NaN)."""
    assert two_sample_ks(values, values) == (0.0, 1.0)


@given(RETURNS, RETURNS, st.floats(1e-3, 1e3))
def test_only_the_order_of_values_matters(one: Floats, other: Floats, rate: float) -> None:
    """A power-of-two rescale changes nothing; one fat-finger value moves D by 1/n (nannyml: from 0.174 to 0.0003)."""
    scale = 2.0 ** math.floor(math.log2(rate))
    if (np.abs(one[one != 0]) > 1e-200).all() and (np.abs(other[other != 0]) > 1e-200).all():
        assert two_sample_ks(one * scale, other * scale) == two_sample_ks(one, other)
    spoilt = np.append(other[:-1], 1e6)
    assert abs(two_sample_ks(one, spoilt)[0] - two_sample_ks(one, other)[0]) <= 1 / other.size + 1e-12


def test_under_no_drift_one_test_in_twenty_alarms() -> None:
    """2,000 pairs of equal samples, 5 % level: at most 5 % p-values below 0.05 within three standard errors."""
    rng = np.random.default_rng(7)
    alarms = sum(two_sample_ks(rng.normal(size=60), rng.normal(size=250))[1] < 0.05 for _ in range(2_000))
    assert 0.03 < alarms / 2_000 < 0.065


def test_scipy_stats_is_not_imported_for_desk_sized_samples() -> None:
    """Its import costs a second and 50 MB; up to 10,000 returns the exact p-value needs numpy alone."""
    program = (
        "import sys, numpy as np\n"
        "from exporter.analytics.drift import two_sample_ks\n"
        "two_sample_ks(np.arange(250.0), np.arange(1000.0))\n"
        "sys.exit('scipy.stats' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


# ---- false discovery rate -------------------------------------------------------------------------------------------


def test_benjamini_yekutieli_rejects_3_of_the_15_of_1995() -> None:
    """Where Benjamini-Hochberg rejects 4 and Bonferroni 3."""
    adjusted = benjamini_yekutieli(np.array(BENJAMINI_HOCHBERG_1995))
    assert (adjusted <= 0.05).tolist() == [True] * 3 + [False] * 12
    bonferroni = np.minimum(np.array(BENJAMINI_HOCHBERG_1995) * 15, 1.0)
    assert (bonferroni <= 0.05).sum() == 3


@given(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=40))
def test_benjamini_yekutieli_equals_scipy(pvalues: list[float]) -> None:
    """In the order given, and never below the p-value itself."""
    adjusted = benjamini_yekutieli(np.array(pvalues))
    assert adjusted == pytest.approx(stats.false_discovery_control(pvalues, method="by"), rel=1e-12, abs=1e-300)
    assert (adjusted >= np.array(pvalues)).all()


def test_no_strategy_has_nothing_to_adjust() -> None:
    """An empty list is not an error."""
    assert benjamini_yekutieli(np.empty(0)).size == 0


# ---- ratios ---------------------------------------------------------------------------------------------------------


def test_ratios_by_hand() -> None:
    """Live: mean 0.01, deviation 0.02, wins 3 of 4; backtest twice the mean, half the wins."""
    live, backtest = [0.03, 0.01, 0.03, -0.03, 0.0] * 4, [0.10, -0.06, 0.10, -0.06] * 5
    samples, gaps = drifts(live, backtest)
    assert gaps == []
    assert samples["desk_drift_ratio", "s", "win_rate"] == pytest.approx(0.5)
    assert samples["desk_drift_ratio", "s", "mean_return"] == pytest.approx(0.6)
    expected = abs(np.mean(live) / np.std(live, ddof=1) / (np.mean(backtest) / np.std(backtest, ddof=1)) - 1)
    assert samples["desk_drift_ratio", "s", "sharpe"] == pytest.approx(expected, rel=1e-12)
    assert samples["desk_drift_sample_size", "s", "returns", "live"] == 20.0


def test_a_constant_series_has_no_sharpe_ratio() -> None:
    """empyrical#93, ffn#317, quantstats: zero variance gave infinity or 2.4e16. Rounding is not variance."""
    assert sharpe(np.full(30, 0.1)) is Gap.ZERO_VARIANCE
    assert sharpe(np.zeros(30)) is Gap.ZERO_VARIANCE
    assert sharpe(np.array([0.1, 0.1, 0.3 - 0.2])) is Gap.ZERO_VARIANCE
    assert isinstance(sharpe(np.array([0.1, 0.1, 0.1000001])), float)


def test_a_backtest_that_earned_nothing_is_no_baseline() -> None:
    """A difference relative to zero is undefined, also where the zero is rounding."""
    live, nothing = [0.01, -0.02] * 10, [0.1, 0.2, -0.3] * 10
    assert mean_return(np.array(nothing)) == 0.0
    samples, gaps = drifts(live, nothing)
    assert (Gap.BASELINE_ZERO, "s mean_return") in gaps
    assert ("desk_drift_ratio", "s", "mean_return") not in samples


def test_a_strategy_that_does_not_trade_has_no_win_rate() -> None:
    """Gains over periods that were not zero (quantstats' convention): 0 of 0."""
    assert win_rate(np.zeros(5)) is Gap.ZERO_VARIANCE
    assert win_rate(np.array([0.0, 0.1, -0.1, 0.2])) == pytest.approx(2 / 3)


def test_constant_live_returns_still_have_a_test() -> None:
    """A strategy that stopped earning anything differs from its backtest: p is defined, the Sharpe ratio is not."""
    samples, gaps = drifts([0.0] * 50, np.linspace(-0.02, 0.03, 50))
    assert samples["desk_drift_pvalue", "s", "returns", "ks"] < 0.01
    assert (Gap.ZERO_VARIANCE, "s sharpe") in gaps


# ---- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("live", "backtest"), [(7, 100), (100, 7), (0, 100), (100, 0)])
def test_a_short_sample_is_not_tested(live: int, backtest: int) -> None:
    """On either side; the sizes are exported so that one sees why."""
    samples, gaps = drifts(np.linspace(-1, 1, live), np.linspace(-1, 1, backtest))
    assert gaps == [(Gap.SHORT_SAMPLE, "s")]
    assert samples == {
        ("desk_drift_sample_size", "s", "returns", "live"): float(live),
        ("desk_drift_sample_size", "s", "returns", "backtest"): float(backtest),
    }


def test_a_value_that_is_no_number_is_not_passed_as_no_drift() -> None:
    """evidently: NaN gave p NaN and "no drift"."""
    _, gaps = drifts([math.nan] + [0.1] * 20, [0.1] * 20)
    assert gaps == [(Gap.NOT_FINITE, "s")]


def test_a_stale_source_of_returns_leaves_no_drift() -> None:
    """One undefined number, no series."""
    state = make_state(make_config(), feed(returns=[strategy("s", "live", [0.1] * 20)], stale=True))
    assert results(drift.compute, state) == ({}, [(Gap.INPUT_STALE, "")])


def test_strategies_are_adjusted_together() -> None:
    """Two strategies with the same p: each is adjusted by 2 (1 + 1/2) / rank; one that is too short does not count."""
    rng = np.random.default_rng(3)
    live, backtest = rng.normal(0.5, size=40), rng.normal(size=100)
    records = [strategy(name, sample, values) for name in "ab" for sample, values in (("live", live), ("backtest", backtest))]
    samples, _ = results(drift.compute, make_state(make_config(), feed(returns=[*records, strategy("c", "live", [0.1])])))
    pvalue = samples["desk_drift_pvalue", "a", "returns", "ks"]
    for name in "ab":
        assert samples["desk_drift_adjusted_pvalue", name, "returns", "ks"] == pytest.approx(min(1.0, pvalue * 1.5))
    assert ("desk_drift_adjusted_pvalue", "c", "returns", "ks") not in samples
