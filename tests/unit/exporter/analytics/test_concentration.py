"""Concentration: largest weight over net asset value, Herfindahl-Hirschman index on gross."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from exporter.analytics import concentration
from exporter.analytics.concentration import hhi
from exporter.market import Floats
from exporter.reading import Gap
from tests.unit.exporter.desks import desk_of, history, price, results

VALUES = arrays.arrays(np.float64, st.integers(1, 50), elements=st.floats(-1e6, 1e6)).filter(lambda a: np.abs(a).sum() > 1e-3)


def test_the_largest_weight_is_over_net_asset_value_and_hhi_over_gross() -> None:
    """-90,000 and 30,000 on 1,000,000: 0.09; shares of gross 3/4 and 1/4: 10/16, as 1.6 equal ones."""
    state = desk_of({"A": -90, "B": 30}, [history("A", [1_000.0]), history("B", [1_000.0])], cash=1_060_000)
    samples, gaps = results(concentration.compute, state)
    assert gaps == []
    assert samples == {
        ("desk_concentration_max_ratio", "carry"): pytest.approx(0.09),
        ("desk_concentration_hhi_ratio", "carry"): pytest.approx(0.625),
        ("desk_concentration_effective_positions", "carry"): pytest.approx(1.6),
    }


def test_a_flat_book_has_no_concentration() -> None:
    """Undefined, not 0."""
    assert results(concentration.compute, desk_of({}, [])) == ({}, [(Gap.FLAT_BOOK, "carry")])


def test_positions_worth_nothing_have_no_index() -> None:
    """All weights zero: the largest is 0, the index 0/0 is undefined."""
    state = desk_of({"A": 5, "B": -5}, [], prices=[price("A", 0), price("B", 0)])
    samples, gaps = results(concentration.compute, state)
    assert (samples, gaps) == ({("desk_concentration_max_ratio", "carry"): 0.0}, [(Gap.FLAT_BOOK, "carry")])


@given(VALUES, st.floats(1e-6, 1e6), st.integers(0, 2**32 - 1))
def test_the_index_ignores_unit_sign_and_order(values: Floats, rate: float, seed: int) -> None:
    """And lies between 1/N and 1."""
    index = hhi(values)
    assert index is not None
    assert 1 / values.size - 1e-12 <= index <= 1 + 1e-12
    rng = np.random.default_rng(seed)
    other = rng.permutation(values * rate) * rng.choice([-1.0, 1.0], values.size)
    assert hhi(other) == pytest.approx(index, rel=1e-9)


@pytest.mark.parametrize("count", [1, 2, 7, 1000])
def test_n_equal_positions_have_an_index_of_one_over_n(count: int) -> None:
    """Its inverse is the effective number of positions."""
    assert hhi(np.full(count, -3.0)) == pytest.approx(1 / count, rel=1e-12)
