"""Regime: today's volatility among the window's, and how settled the last days were."""

from __future__ import annotations

import numpy as np
import pytest

from exporter.analytics.regime import ENTROPY, REGIME, compute, entropy_ratio, regimes
from exporter.market import Floats
from exporter.reading import Gap
from tests.unit.exporter.desks import by_name, desk_of, history_of_returns, make_config, results


def book(returns: Floats) -> object:
    """All of it in X."""
    config = make_config(minimum_days=50)
    return desk_of({"X": 1_000_000}, [history_of_returns("X", returns)], cash=0.01, config=config)


def noise(days: int, deviation: float, seed: int = 1) -> Floats:
    """Daily returns of that size."""
    return np.random.default_rng(seed).normal(0.0, deviation, days)


@pytest.mark.parametrize(("last", "regime"), [(0.05, "storm"), (0.001, "calm")])
def test_a_month_unlike_the_year_is_its_own_regime(last: float, regime: str) -> None:
    """Exactly one of the three is on."""
    samples, gaps = results(compute, book(np.concatenate([noise(220, 0.01), noise(30, last, 2)])))
    assert gaps == []
    assert by_name(samples, REGIME) == {("carry", name): float(name == regime) for name in ("calm", "normal", "storm")}
    assert 0.0 <= by_name(samples, ENTROPY)["carry",] < 1.0


def test_days_are_ranked_among_all_days() -> None:
    """A third is calm, a tenth a storm; equal days are one regime."""
    found = regimes(np.arange(1.0, 31.0))
    assert np.bincount(found).tolist() == [10, 17, 3]
    assert set(regimes(np.ones(30)).tolist()) == {1}


def test_entropy_is_one_for_three_equal_shares_and_zero_for_one() -> None:
    """Shannon over ln 3."""
    assert entropy_ratio(np.array([0, 1, 2] * 5)) == pytest.approx(1.0)
    assert entropy_ratio(np.zeros(20, dtype=np.intp)) == 0.0
    assert entropy_ratio(np.array([0, 1] * 5)) == pytest.approx(np.log(2) / np.log(3))


def test_too_little_or_nothing_to_rank_is_undefined() -> None:
    """74 days of burn-in and 20 to look at; a price that never moves has no regime."""
    assert results(compute, book(noise(93, 0.01))) == ({}, [(Gap.SHORT_HISTORY, "carry")])
    assert results(compute, book(noise(94, 0.01)))[1] == []
    assert results(compute, book(np.zeros(200))) == ({}, [(Gap.ZERO_VARIANCE, "carry")])
    assert results(compute, desk_of({}, [history_of_returns("X", noise(94, 0.01))])) == ({}, [(Gap.FLAT_BOOK, "carry")])
