"""Stress: worked by hand, on days of history, and undefined where a position cannot be put through the scenario."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest

from exporter.analytics.stress import STRESS, WORST, WORST_DAY, compute
from exporter.config import ExporterConfig
from exporter.reading import Gap
from tests.unit.exporter.desks import (
    MONDAY,
    by_name,
    desk_of,
    euro_rates,
    history,
    history_of_returns,
    make_config,
    results,
    terms,
    until,
)


def config(*scenarios: dict[str, Any]) -> ExporterConfig:
    """With these scenarios."""
    plain = make_config()
    risk = plain.risk.model_dump() | {"stress": list(scenarios)}
    return ExporterConfig.model_validate(plain.model_dump(mode="python") | {"risk": risk, "sources": _sources()})


def _sources() -> list[dict[str, str]]:
    return [{"type": "ecb", "name": name} for name in ("book", "rates", "other")]


def test_a_made_up_scenario_moves_what_it_names_most_particularly() -> None:
    """X by its own name, Y by its sector, Z by the rest: 0.3 x 10 % + 0.2 x 5 % - 0.1 x 2 % is lost."""
    shocks = {"X": -0.10, "sector:tech": -0.05, "*": 0.02}
    state = desk_of(
        {"X": 300, "Y": 200, "Z": 100},
        [history(symbol, [1.0, 1.0]) for symbol in "XYZ"],
        cash=400,
        config=config({"name": "crash", "shocks": shocks}),
        instruments=[terms("X", sector="tech"), terms("Y", sector="tech"), terms("Z")],
    )
    samples, _ = results(compute, state)
    assert by_name(samples, STRESS)["carry", "crash"] == pytest.approx(0.3 * 0.10 + 0.2 * 0.05 - 0.1 * 0.02)


def test_what_a_scenario_does_not_name_does_not_move() -> None:
    """And a short gains what a long loses."""
    state = desk_of(
        {"X": -500, "Y": 500},
        [history("X", [1.0, 1.0]), history("Y", [1.0, 1.0])],
        cash=1000,
        config=config({"name": "x_falls", "shocks": {"X": -0.2}}),
    )
    assert by_name(results(compute, state)[0], STRESS) == {("carry", "x_falls"): pytest.approx(-0.1)}


def test_the_day_the_franc_broke_hits_a_short_in_francs() -> None:
    """On 2015-01-15 a franc rose from 1/1.2010 to 1/1.0280 euro. Source: reference rates of the European Central Bank."""
    franc = until(euro_rates("CHF"), date(2015, 2, 27))
    state = desk_of({"CHF": -1_000}, franc, cash=3_000, config=config({"name": "franc_break", "day": date(2015, 1, 15)}))
    samples, _ = results(compute, state)
    nav = 3_000 - 1_000 * franc[0].closes[-1]
    weight = -1_000 * franc[0].closes[-1] / nav
    assert by_name(samples, STRESS)["carry", "franc_break"] == pytest.approx(-weight * (1.2010 / 1.0280 - 1))


@pytest.mark.parametrize("day", [date(2015, 1, 12), date(2015, 1, 17), date(2030, 1, 1), date(2000, 1, 1)])
def test_a_day_without_closes_before_it_and_on_it_is_undefined(day: date) -> None:
    """The first day, one between, one after and one before all."""
    state = desk_of({"X": 1}, [history("X", [1.0, 2.0, 3.0], first=MONDAY)], config=config({"name": "then", "day": day}))
    samples, gaps = results(compute, state)
    assert by_name(samples, STRESS) == {}
    assert (Gap.PRICE_MISSING, "carry then") in gaps


def test_the_worst_days_are_named() -> None:
    """Loss and day, worst first."""
    state = desk_of({"X": 1_000_000}, [history_of_returns("X", [0.01, -0.03, 0.02, -0.05, -0.01])], cash=0.0001)
    samples, _ = results(compute, state)
    losses, days = by_name(samples, WORST), by_name(samples, WORST_DAY)
    assert [losses["carry", str(rank)] for rank in (1, 2, 3)] == pytest.approx([0.05, 0.03, 0.01])
    first = state.books["carry"].returns.days  # type: ignore[union-attr]
    assert days["carry", "1"] == first[3].astype("datetime64[s]").astype(int)


def test_nothing_held_has_nothing_to_lose_and_an_option_no_linear_loss() -> None:
    """Undefined, each for its reason."""
    assert results(compute, desk_of({}, [history("X", [1.0])])) == ({}, [(Gap.FLAT_BOOK, "carry")])
    state = desk_of({"O": 1}, [history("O", [1.0, 2.0])], instruments=[terms("O", instrument="option")])
    assert results(compute, state)[1] == [(Gap.UNSUPPORTED_INSTRUMENT, "carry")]
