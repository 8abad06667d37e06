"""Correlation: the largest positions, stable or broken, and undefined for books it says nothing about."""

from __future__ import annotations

import numpy as np
import pytest

from exporter.analytics.correlation import BREAK, CORRELATION, STABILITY, compute
from exporter.config import ExporterConfig
from exporter.market import Floats
from exporter.reading import Gap
from tests.unit.exporter.desks import by_name, desk_of, history_of_returns, make_config, results


def config(**risk: int) -> ExporterConfig:
    """A window of 200 days, the last 60 recent."""
    return make_config(**({"window_days": 200, "minimum_days": 100} | risk))


def desk(returns: dict[str, Floats], quantities: dict[str, float] | None = None, **risk: int) -> object:
    """A book of these histories."""
    held = quantities or dict.fromkeys(returns, 1000.0)
    return desk_of(held, [history_of_returns(name, each) for name, each in returns.items()], config=config(**risk))


def noise(seed: int, days: int = 200) -> Floats:
    """Daily returns of 1 %."""
    return np.random.default_rng(seed).normal(0.0, 0.01, days)


def test_the_matrix_is_exported_once_for_each_pair() -> None:
    """Names in the order of the book; values as numpy has them."""
    x, y, z = noise(1), noise(2), noise(3)
    samples, gaps = results(compute, desk({"X": x, "Y": x + y, "Z": z}))
    assert gaps == []
    found = by_name(samples, CORRELATION)
    expected = np.corrcoef([x, x + y, z])
    assert found == {
        ("carry", "X", "Y"): pytest.approx(expected[0, 1]),
        ("carry", "X", "Z"): pytest.approx(expected[0, 2]),
        ("carry", "Y", "Z"): pytest.approx(expected[1, 2]),
    }


def test_a_pair_that_came_apart_is_a_break() -> None:
    """One common factor until sixty days ago, two since."""
    common, own = noise(4), noise(5)
    other = np.concatenate([common[:140] + 0.1 * own[:140], own[140:]])
    samples, _ = results(compute, desk({"X": common, "Y": other}))
    assert by_name(samples, BREAK)["carry",] < 0.01
    assert by_name(samples, STABILITY)["carry",] < 0.7
    calm, _ = results(compute, desk({"X": common, "Y": common + own}))
    assert by_name(calm, BREAK)["carry",] > 0.05
    assert by_name(calm, STABILITY)["carry",] > 0.9


def test_of_many_positions_the_largest_count() -> None:
    """Long or short."""
    returns = {name: noise(seed) for seed, name in enumerate("ABCD")}
    samples, _ = results(compute, desk(returns, {"A": 1.0, "B": -500.0, "C": 2.0, "D": 300.0}, correlation_assets=2))
    assert set(by_name(samples, CORRELATION)) == {("carry", "B", "D")}


def test_an_asset_that_never_moved_is_left_out() -> None:
    """Its correlation is 0/0; of two that are left there is one."""
    returns = {"X": noise(6), "Y": noise(7), "Z": np.zeros(200)}
    assert set(by_name(results(compute, desk(returns))[0], CORRELATION)) == {("carry", "X", "Y")}
    assert results(compute, desk({"X": noise(6), "Z": np.zeros(200)})) == ({}, [(Gap.ZERO_VARIANCE, "carry")])


def test_one_position_and_a_short_history_have_no_correlation() -> None:
    """120 days are two periods of 60; 119 are not."""
    assert results(compute, desk({"X": noise(8)})) == ({}, [(Gap.SINGLE_POSITION, "carry")])
    assert results(compute, desk({"X": noise(8, 119), "Y": noise(9, 119)})) == ({}, [(Gap.SHORT_HISTORY, "carry")])
    assert results(compute, desk({"X": noise(8, 120), "Y": noise(9, 120)}))[1] == []
    assert results(compute, desk({})) == ({}, [(Gap.FLAT_BOOK, "carry")])
