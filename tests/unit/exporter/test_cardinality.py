"""Bounds on series: the largest stay, the rest is counted."""

from __future__ import annotations

from exporter.cardinality import DROPPED, Bound, bounded
from exporter.config import CardinalityConfig
from exporter.reading import Family, Sample

WEIGHT = Family("desk_test_weight_ratio", "Weight", ("symbol",))
VALUE = Family("desk_test_value", "Value", ("symbol",))


def samples(family: Family, **values: float) -> list[Sample]:
    """One series for each symbol."""
    return [family.sample(symbol, value=value) for symbol, value in values.items()]


def test_the_largest_absolute_values_stay_in_their_order() -> None:
    """A short position is as large as a long one."""
    given = samples(WEIGHT, a=0.1, b=-0.9, c=0.5, d=0.2)
    found, dropped = bounded(given, CardinalityConfig(series_per_family=2))
    assert [sample.labels[0] for sample in found] == ["b", "c"]
    assert dropped == {WEIGHT.name: 2}


def test_each_family_has_its_own_bound() -> None:
    """The default for the others."""
    config = CardinalityConfig(series_per_family=1, families={VALUE.name: 3})
    found, dropped = bounded([*samples(WEIGHT, a=1, b=2), *samples(VALUE, a=1, b=2)], config)
    assert [(sample.family, sample.labels) for sample in found] == [(WEIGHT, ("b",)), (VALUE, ("a",)), (VALUE, ("b",))]
    assert dropped == {WEIGHT.name: 1, VALUE.name: 0}


def test_within_the_bound_nothing_is_copied() -> None:
    """The usual case costs one count."""
    given = samples(WEIGHT, a=1, b=2)
    assert bounded(given, CardinalityConfig())[0] is given


def test_of_equal_values_the_same_ones_stay_each_cycle() -> None:
    """Series must not come and go."""
    config = CardinalityConfig(series_per_family=2)
    one = bounded(samples(WEIGHT, c=1, a=1, b=1), config)[0]
    other = bounded(samples(WEIGHT, b=1, c=1, a=1), config)[0]
    assert {sample.labels for sample in one} == {sample.labels for sample in other} == {("a",), ("b",)}


def test_what_was_dropped_is_counted_over_the_cycles_and_zero_is_there_from_the_start() -> None:
    """An increase from nothing is no increase to Prometheus."""
    bound = Bound(CardinalityConfig(series_per_family=1))
    assert [sample.value for sample in bound.apply(samples(WEIGHT, a=1)) if sample.family is DROPPED] == [0.0]
    bound.apply(samples(WEIGHT, a=1, b=2, c=3))
    assert bound.apply(samples(WEIGHT, a=1, b=2))[-1] == Sample(DROPPED, (WEIGHT.name,), 3.0)
