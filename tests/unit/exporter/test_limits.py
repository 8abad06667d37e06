"""Limits: which number each is set on, and what its utilization says."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from exporter.config import LIMITS, LimitConfig
from exporter.limits import MEASURES, judge
from exporter.reading import Family, Sample
from tests.unit.exporter.desks import all_analytics, desk_of, fill, history_of_returns, make_config, read, terms

X = history_of_returns("X", [-0.01, 0.02] * 60, 100.0)


def utilization(name: str, quantity: float, limit: float, cash: float = 1_000_000, **records: object) -> float | None:
    """Of one limit on a book of X at 100."""
    config = make_config(limits={("carry", name): limit})
    reading = read(desk_of({"X": quantity} if quantity else {}, [X], cash=cash, config=config, **records))
    (found,) = [family for family in {sample.family for sample in reading.samples} if family.name == "desk_limit"]
    assert reading.value(found, "carry", name) == limit
    used = [sample.value for sample in reading.samples if sample.family.name == "desk_limit_utilization_ratio"]
    return used[0] if used else None


@pytest.mark.parametrize(
    ("name", "measured"),
    [
        ("concentration", 0.2),
        ("concentration_hhi", 1.0),
        ("sector", 0.2),
        ("gross_exposure", 0.2),
        ("net_exposure", 0.2),
        ("leverage", 0.2),
        ("var_0.95", 0.004),
        ("var_0.99", 0.004),
        ("expected_shortfall_0.975", 0.004),
    ],
)
def test_utilization_is_measured_over_limit(name: str, measured: float) -> None:
    """Short 200,000 of 1,000,000: the amount counts, not the sign. X rises 2 % every other day: 0.4 % of the book."""
    assert utilization(name, -2_000, 0.1, cash=1_200_000) == pytest.approx(measured / 0.1)


def test_daily_loss_is_positive_for_a_loss_and_negative_for_a_gain() -> None:
    """X rose 2 % on the last day: the short lost 0.39 %."""
    loss = utilization("daily_loss", -2_000, 0.01, cash=1_200_000)
    assert loss == pytest.approx(2_000 * (100 - 100 / 1.02) / (1_000_000 + 2_000 * (100 - 100 / 1.02)) / 0.01)
    gain = utilization("daily_loss", 2_000, 0.01)
    assert gain is not None
    assert gain < 0


def test_an_undefined_number_has_a_limit_and_no_utilization() -> None:
    """Never 0: an alert must not resolve because the number went away."""
    assert utilization("var_0.99", 1, 0.1, instruments=[terms("X", "option")]) is None
    today = datetime(2016, 1, 1, tzinfo=UTC)
    assert utilization("daily_loss", 1, 0.1, fills=[fill("X", 1, 5, currency="PLN", at=today)]) is None


@pytest.mark.parametrize("name", sorted(set(LIMITS) - {"daily_loss"}))
def test_a_book_that_holds_nothing_uses_nothing_of_a_limit_on_positions(name: str) -> None:
    """Closing everything ends a breach at once, although VaR, sectors and concentration of nothing are undefined."""
    assert utilization(name, 0, 0.1) == 0.0


def test_a_flat_book_does_not_make_todays_loss_undone() -> None:
    """The day's loss stays what it is; unknown, it stays unknown."""
    assert utilization("daily_loss", 0, 0.1) is None


def test_every_limit_is_set_on_a_family_some_analytic_has() -> None:
    """With labels that family has."""
    families = {family.name: family for analytic in all_analytics() for family in analytic.metrics}
    for measure in MEASURES.values():
        assert {"portfolio", *dict(measure.having)} <= set(families[measure.family].labels)


def test_a_utilization_too_large_for_a_number_is_left_out() -> None:
    """A limit of 5e-324 is allowed; infinity is not exported."""
    limit = LimitConfig(portfolio="carry", limit="leverage", value=5e-324)
    leverage = Family("desk_leverage_ratio", "", ("portfolio",))
    found: list[Sample] = judge([limit], [leverage.sample("carry", value=2.0)])
    assert [sample.family.name for sample in found] == ["desk_limit"]
