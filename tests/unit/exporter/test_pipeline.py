"""The cycle: a reading is finite and complete, one analytic's failure stays its own, order and names are settled."""

from __future__ import annotations

import math
from collections.abc import Iterator

from exporter.analytic import Analytic, load_analytics
from exporter.desk import DeskState
from exporter.pipeline import families, run_cycle
from exporter.reading import Family, Gap, Sample, Undefined
from tests.unit.exporter.desks import all_analytics, desk_of, history, make_config, read

X = history("X", [100.0, 110.0])
ODD = Family("desk_odd_ratio", "For this test", ("portfolio",))


def test_an_analytic_that_raises_loses_only_its_own_numbers() -> None:
    """What it had yielded before counts no more: half a subject is not a smaller subject."""

    def broken(_: DeskState) -> Iterator[Sample | Undefined]:
        yield ODD.sample("carry", value=1.0)
        raise ZeroDivisionError

    reading = run_cycle(desk_of({"X": 1}, [X]), [Analytic("odd", (ODD,), broken), *all_analytics()])
    assert Undefined("odd", Gap.FAILED, "") in reading.undefined
    assert list(reading.of(ODD)) == []
    assert any(sample.family.name == "desk_portfolio_value" for sample in reading.samples)
    counts = [sample for sample in reading.samples if sample.labels == ("odd", "failed")]
    assert [sample.value for sample in counts] == [1.0]


def test_nothing_that_is_not_finite_passes() -> None:
    """It becomes an undefined number."""

    def wild(_: DeskState) -> Iterator[Sample | Undefined]:
        yield ODD.sample("a", value=math.nan)
        yield ODD.sample("b", value=math.inf)
        yield ODD.sample("c", value=1.0)

    reading = run_cycle(desk_of({}, [X]), [Analytic("odd", (ODD,), wild)])
    assert [sample.labels for sample in reading.of(ODD)] == [("c",)]
    assert reading.undefined == (Undefined("odd", Gap.NOT_FINITE, "a"), Undefined("odd", Gap.NOT_FINITE, "b"))


def test_what_is_undefined_is_counted_by_analytic_and_reason() -> None:
    """Two flat books, two numbers without a value."""
    config = make_config({"carry": "EUR"}, {"desk": ["carry"]})
    reading = read(desk_of({}, [X], config=config))
    counts = {sample.labels: sample.value for sample in reading.samples if sample.family.name == "desk_analytic_undefined"}
    assert counts == {
        ("concentration", "flat_book"): 2.0,
        ("correlation", "flat_book"): 2.0,
        ("pnl", "flat_book"): 2.0,
        ("regime", "flat_book"): 2.0,
        ("stress", "flat_book"): 2.0,
        ("tail_risk", "flat_book"): 2.0,
        ("var_backtest", "flat_book"): 2.0,
    }


def test_every_analytic_says_how_long_it_took() -> None:
    """By a stopwatch that can be handed in."""
    ticks = iter(range(100))
    analytics = all_analytics()
    reading = run_cycle(desk_of({"X": 1}, [X]), analytics, lambda: float(next(ticks)))
    assert dict(reading.durations_seconds) == {analytic.name: 1.0 for analytic in analytics}


def test_every_family_is_declared_once_and_named_as_prometheus_names() -> None:
    """`desk_` and a unit; help in one sentence; no series outside its analytic's declaration."""
    declared = families(load_analytics())
    names = [family.name for family in declared]
    assert len(names) == len(set(names))
    assert all(name.startswith("desk_") for name in names)
    assert all(family.help and not family.help.endswith(".") for family in declared)
    for analytic in all_analytics():
        assert analytic.metrics or analytic.name == "observed"  # its sources declare what it passes on
        for result in analytic.compute(desk_of({"X": 1}, [X])):
            assert isinstance(result, Undefined) or result.family in analytic.metrics
            assert not isinstance(result, Undefined) or result.analytic == analytic.name


def test_the_same_state_gives_the_same_reading() -> None:
    """Analytics keep nothing between calls."""
    state = desk_of({"X": 1}, [X])
    first, second = read(state), read(state)
    fixed = [
        [sample for sample in reading.samples if not sample.family.name.endswith("duration_seconds")]
        for reading in (first, second)
    ]
    assert fixed[0] == fixed[1]
    assert first.undefined == second.undefined
