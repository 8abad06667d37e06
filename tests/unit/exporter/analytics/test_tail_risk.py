"""Historical VaR and expected shortfall: published conventions, hand-worked books, invariants, and what is refused."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from exporter.analytics import tail_risk
from exporter.analytics.tail_risk import (
    COMPONENT_EXPECTED_SHORTFALL,
    COMPONENT_VAR,
    CONFIDENCES,
    COVERAGE,
    EXPECTED_SHORTFALL,
    EXPECTED_SHORTFALL_VALUE,
    MARGINAL_VAR,
    VAR,
    VAR_VALUE,
)
from exporter.market import Floats
from exporter.reading import Gap
from exporter.risk.historical import (
    component_expected_shortfall,
    component_var,
    expected_shortfall,
    historical_var,
    losses_of,
    tail,
    tail_size,
    worst_first,
)
from tests.unit.exporter.desks import (
    account,
    book,
    by_name,
    desk_of,
    feed,
    history,
    history_of_returns,
    make_config,
    make_state,
    position,
    results,
    terms,
)

ONE_TO_HUNDRED = np.arange(1.0, 101.0)
LOSSES = arrays.arrays(np.float64, st.integers(1, 300), elements=st.floats(-1.0, 1.0, allow_subnormal=False))
LEVELS = st.sampled_from([float(level) for level in CONFIDENCES])


@st.composite
def books(draw: st.DrawFn) -> tuple[Floats, Floats]:
    """Weights and returns of a book."""
    scenarios, positions = draw(st.integers(1, 60)), draw(st.integers(1, 8))
    ratios = st.floats(-2.0, 2.0, allow_subnormal=False)
    moves = st.floats(-0.5, 0.5, allow_subnormal=False)
    weights = draw(arrays.arrays(np.float64, positions, elements=ratios))
    return weights, draw(arrays.arrays(np.float64, (scenarios, positions), elements=moves))


# ---- conventions ----------------------------------------------------------------------------------------------------


def test_losses_of_1_to_100_have_a_95_percent_var_of_96_and_a_shortfall_of_98() -> None:
    """The k-th worst with k = ceil(aT) = 5 is 96 (Hull; riskfolio agrees); the mean of 96 to 100 is 98 (Acerbi-Tasche)."""
    assert historical_var(ONE_TO_HUNDRED, 0.95) == 96.0
    assert expected_shortfall(ONE_TO_HUNDRED, 0.95) == pytest.approx(98.0, rel=1e-15)


def test_of_500_scenarios_the_99_percent_var_is_the_fifth_worst() -> None:
    """Source: J. Hull, Options, Futures, and Other Derivatives, historical simulation example."""
    assert historical_var(np.arange(1.0, 501.0), 0.99) == 496.0


def test_250_days_at_99_percent_count_the_third_worst_day_by_half() -> None:
    """aT = 2.5: two whole days and half of the next; the mean of the days beyond the quantile alone would be 249."""
    losses = np.arange(1.0, 251.0)
    assert historical_var(losses, 0.99) == 248.0
    assert expected_shortfall(losses, 0.99) == pytest.approx((250 + 249 + 0.5 * 248) / 2.5, rel=1e-15)


@pytest.mark.parametrize("scenarios", [20, 100, 1000, 2000, 10_000])
def test_one_minus_confidence_does_not_push_var_one_scenario_out(scenarios: int) -> None:
    """riskfolio-lib: VaR_Hist(x, 1 - 0.95) differs from VaR_Hist(x, 0.05), because 1 - 0.95 = 0.050000000000000044."""
    assert tail_size(scenarios, 0.95) == scenarios * 5 / 100
    assert historical_var(np.arange(float(scenarios)), 0.95) == scenarios - scenarios * 5 // 100


def test_fewer_scenarios_than_the_quantile_needs_give_the_worst() -> None:
    """With aT below 1 VaR and shortfall are the worst loss, not an error."""
    assert historical_var(np.array([1.0, 3.0, 2.0]), 0.99) == 3.0
    assert expected_shortfall(np.array([1.0, 3.0, 2.0]), 0.99) == 3.0


def test_a_book_that_cannot_lose_has_a_negative_var() -> None:
    """No abs(): all scenarios gain, so the quantile of the losses is negative (idaholab/raven#1749)."""
    gains = losses_of(np.array([1.0]), np.linspace(0.01, 0.02, 100)[:, None])
    assert historical_var(gains, 0.99) == pytest.approx(-0.01)
    assert expected_shortfall(gains, 0.99) < 0.0


def test_shortfall_of_several_books_is_not_their_var() -> None:
    """quantstats#467: for a table of returns the shortfall silently equalled VaR."""
    rng = np.random.default_rng(1)
    losses = rng.normal(size=(250, 3))
    each = [float(expected_shortfall(losses[:, column], 0.975)) for column in range(3)]
    assert expected_shortfall(losses, 0.975).tolist() == each
    assert (expected_shortfall(losses, 0.975) > historical_var(losses, 0.975) + 0.01).all()


# ---- invariants -----------------------------------------------------------------------------------------------------


@given(LOSSES, LEVELS)
def test_shortfall_is_the_weighted_mean_of_the_tail(losses: Floats, confidence: float) -> None:
    """The sum of the floor(aT) worst and the fraction of the next, over aT: Acerbi-Tasche written out."""
    size = tail_size(losses.size, confidence)
    worst = np.sort(losses)[::-1]
    whole = math.floor(size)
    total = worst[:whole].sum() + ((size - whole) * worst[whole] if size > whole else 0.0)
    assert expected_shortfall(losses, confidence) == pytest.approx(total / size, rel=1e-12, abs=1e-15)


@given(LOSSES, LEVELS)
def test_shortfall_is_never_below_var(losses: Floats, confidence: float) -> None:
    """Not even by rounding."""
    assert expected_shortfall(losses, confidence) >= historical_var(losses, confidence)


@given(LOSSES)
def test_var_and_shortfall_grow_with_confidence(losses: Floats) -> None:
    """0.95 <= 0.975 <= 0.99."""
    levels = [float(level) for level in CONFIDENCES]
    var = [float(historical_var(losses, level)) for level in levels]
    shortfall = [float(expected_shortfall(losses, level)) for level in levels]
    assert var == sorted(var)
    assert all(low <= high + 1e-15 for low, high in itertools.pairwise(shortfall))


@given(LOSSES, LEVELS, st.randoms())
def test_the_order_of_days_does_not_matter(losses: Floats, confidence: float, random: object) -> None:
    """VaR and shortfall depend on what was lost, not when."""
    shuffled = losses.tolist()
    random.shuffle(shuffled)
    assert historical_var(np.array(shuffled), confidence) == historical_var(losses, confidence)
    assert expected_shortfall(np.array(shuffled), confidence) == pytest.approx(
        float(expected_shortfall(losses, confidence)), rel=1e-12, abs=1e-15
    )


@given(LOSSES, LEVELS, st.floats(1e-6, 1e6))
def test_the_unit_of_money_does_not_matter(losses: Floats, confidence: float, rate: float) -> None:
    """Losses in another currency have VaR and shortfall in that currency."""
    for measure in (historical_var, expected_shortfall):
        there = float(measure(losses * rate, confidence))
        assert there == pytest.approx(float(measure(losses, confidence)) * rate, rel=1e-12, abs=1e-15 * rate)


@given(books(), LEVELS)
def test_components_add_up(held: tuple[Floats, Floats], confidence: float) -> None:
    """Component VaR sums to VaR and component shortfall to shortfall, to 1e-12 of what is added."""
    weights, returns = held
    losses = losses_of(weights, returns)
    worst = tail(worst_first(losses), confidence)
    of_var = component_var(weights, returns, worst)
    of_shortfall = component_expected_shortfall(weights, returns, worst)
    var, shortfall = float(historical_var(losses, confidence)), float(expected_shortfall(losses, confidence))
    assert float(of_var.sum()) == pytest.approx(var, rel=1e-12, abs=1e-12 * float(np.abs(of_var).sum()))
    scale = float(np.abs(weights) @ np.abs(returns).max(axis=0))
    assert float(of_shortfall.sum()) == pytest.approx(shortfall, rel=1e-12, abs=1e-12 * scale)
    assert worst.shares.sum() == pytest.approx(1.0, abs=1e-12)
    assert (worst.shares > 0.0).all()


def test_the_var_scenario_is_one_named_day() -> None:
    """Of equal losses the earlier day counts, so the components are those of a day one can look up."""
    losses = np.array([1.0, 5.0, 5.0, 9.0] + [0.0] * 96)
    worst = tail(worst_first(losses), 0.975)
    assert worst.rows.tolist() == [3, 1, 2]
    assert (worst.scenario, worst.shares.tolist()) == (2, pytest.approx([0.4, 0.4, 0.2]))
    many = np.tile([0.0, 1.0], 500)
    assert tail(worst_first(many), 0.95).rows.tolist() == list(range(1, 100, 2))


# ---- the analytic ---------------------------------------------------------------------------------------------------


def two_positions(days: int = 100) -> tuple[Floats, Floats]:
    """Returns of X: -1 %, -2 %, ... in turn; of Y: +0.5 % on the same days."""
    fall = -np.arange(1.0, days + 1) / 10_000
    return fall, np.full(days, 0.005)


def test_a_hand_worked_book() -> None:
    """Long 600,000 of X, short 200,000 of Y, 1,000,000 in all. On the fifth worst of 100 days X fell 0.96 % and Y rose 0.5 %:
    0.6 x 0.0096 + 0.2 x 0.005 = 0.00676."""
    x, y = two_positions()
    histories = [history_of_returns("X", x, 100.0), history_of_returns("Y", y, 100.0)]
    state = desk_of({"X": 6_000, "Y": -2_000}, histories, cash=600_000)
    samples, gaps = results(tail_risk.compute, state)
    key = ("carry", "historical", "0.95", "1d")
    assert "carry" not in [subject for _, subject in gaps]
    assert by_name(samples, VAR)[key] == pytest.approx(0.00676, rel=1e-12)
    assert by_name(samples, VAR_VALUE)[*key, "EUR"] == pytest.approx(6_760.0, rel=1e-12)
    assert by_name(samples, EXPECTED_SHORTFALL)[key] == pytest.approx(0.6 * 0.0098 + 0.2 * 0.005, rel=1e-12)
    assert by_name(samples, EXPECTED_SHORTFALL_VALUE)[*key, "EUR"] == pytest.approx(6_880.0, rel=1e-12)
    assert by_name(samples, COMPONENT_VAR)["carry", "X", *key[1:]] == pytest.approx(0.00576, rel=1e-12)
    assert by_name(samples, COMPONENT_VAR)["carry", "Y", *key[1:]] == pytest.approx(0.001, rel=1e-11)
    assert by_name(samples, COMPONENT_EXPECTED_SHORTFALL)["carry", "X", *key[1:]] == pytest.approx(0.00588, rel=1e-12)
    assert by_name(samples, COVERAGE) == {("carry",): 100 / 250}


def test_a_hedge_has_a_negative_component() -> None:
    """What gains on the day of the loss takes VaR down, and says so."""
    x, y = two_positions()
    state = desk_of({"X": 6_000, "Y": 2_000}, [history_of_returns("X", x, 100.0), history_of_returns("Y", y, 100.0)])
    samples, _ = results(tail_risk.compute, state)
    assert by_name(samples, COMPONENT_VAR)["carry", "Y", "historical", "0.99", "1d"] < 0.0


def test_weights_that_net_to_zero_are_a_book_like_any_other() -> None:
    """ibaris/VaR#11: weights summing to 0 crashed."""
    x, y = two_positions()
    state = desk_of({"X": 100, "Y": -100}, [history_of_returns("X", x, 100.0), history_of_returns("Y", y, 100.0)])
    samples, gaps = results(tail_risk.compute, state)
    assert "carry" not in [subject for _, subject in gaps]
    assert by_name(samples, VAR)["carry", "historical", "0.99", "1d"] > 0.0


def test_the_same_instrument_under_two_names_is_twice_the_risk() -> None:
    """Duplicate columns are no special case: the components are equal and add up."""
    x, _ = two_positions()
    twins = [history_of_returns("X", x, 100.0), history_of_returns("X2", x, 100.0)]
    samples, _ = results(tail_risk.compute, desk_of({"X": 100, "X2": 100}, twins))
    shares = [value for key, value in by_name(samples, COMPONENT_VAR).items() if key[3] == "0.99"]
    assert shares[0] == shares[1]
    assert sum(shares) == pytest.approx(by_name(samples, VAR)["carry", "historical", "0.99", "1d"], rel=1e-12)


def test_a_flat_book_has_no_var() -> None:
    """Nothing held is undefined, never 0."""
    assert results(tail_risk.compute, desk_of({}, [history("X", [1.0, 1.1])])) == ({}, [(Gap.FLAT_BOOK, "carry")])


def test_fewer_days_than_the_minimum_are_undefined() -> None:
    """19 returns, 20 wanted; with 20 there is a number."""
    x, _ = two_positions(19)
    config = make_config(minimum_days=20)
    samples, gaps = results(tail_risk.compute, desk_of({"X": 1}, [history_of_returns("X", x)], config=config))
    assert (list(samples), gaps) == ([("desk_history_coverage_ratio", "carry")], [(Gap.SHORT_HISTORY, "carry")])
    x, _ = two_positions(20)
    samples, gaps = results(tail_risk.compute, desk_of({"X": 1}, [history_of_returns("X", x)], config=config))
    assert "carry" not in [subject for _, subject in gaps]


def test_a_book_with_an_option_has_no_risk_number() -> None:
    """Its risk is not linear; the rest of the book alone would be a smaller book."""
    x, y = two_positions()
    histories = [history_of_returns("X", x), history_of_returns("CALL", y)]
    state = desk_of({"X": 1, "CALL": 1}, histories, instruments=[terms("CALL", "option")])
    samples, gaps = results(tail_risk.compute, state)
    assert gaps == [(Gap.UNSUPPORTED_INSTRUMENT, "carry")]
    assert list(samples) == [("desk_history_coverage_ratio", "carry")]


def test_a_day_missing_for_one_symbol_is_missing_for_all() -> None:
    """A missing price is not a return of -100 % (quantstats#545) and does not widen the tail (empyrical-reloaded#54)."""
    x = history("X", [100.0, 101.0, 99.0, 102.0, 103.0])
    gapped = history("Y", [10.0, math.nan, 10.5, 10.2, 10.4])
    state = desk_of({"X": 1, "Y": 1}, [x, gapped])
    returns = book(state).returns
    assert returns.matrix[:, 0].tolist() == pytest.approx([-0.01, 3 / 99, 1 / 102])
    assert returns.coverage_ratio == 3 / 250


def test_a_composite_is_the_risk_of_the_netted_book() -> None:
    """VaR does not add up: two members that offset each other have one, their composite has less than either."""
    x, _ = two_positions()
    config = make_config({"one": "EUR", "two": "EUR"}, {"desk": ["one", "two"]})
    records = {
        "positions": [position("X", 100, "one"), position("X", -90, "two")],
        "accounts": [account(1_000_000, portfolio="one"), account(1_000_000, portfolio="two")],
        "histories": [history_of_returns("X", x, 100.0)],
    }
    samples, _ = results(tail_risk.compute, make_state(config, feed(**records)))
    var = {key[0]: value for key, value in by_name(samples, VAR_VALUE).items() if key[2] == "0.99"}
    assert var["desk"] == pytest.approx(var["one"] / 10)
    assert var["desk"] < var["one"] + var["two"]


def test_a_book_at_the_end_of_the_numbers_is_undefined() -> None:
    """A short of a thousand times net asset value in something that rose 1e308-fold: not finite, no warning, no infinity."""
    wild = history("X", [1e-308, 1.0, 1e-308, 1.0])
    samples, gaps = results(tail_risk.compute, desk_of({"X": -1e307}, [wild], cash=1.001e307))
    assert all(math.isfinite(value) for value in samples.values())
    assert {gap for gap, _ in gaps} == {Gap.NOT_FINITE}


def test_marginal_var_times_weight_is_component_var() -> None:
    """One is the derivative, the other the share."""
    x, y = two_positions()
    histories = [history_of_returns("X", x, 100.0), history_of_returns("Y", y, 100.0)]
    samples, _ = results(tail_risk.compute, desk_of({"X": 6_000, "Y": -2_000}, histories, cash=600_000))
    marginal, component = by_name(samples, MARGINAL_VAR), by_name(samples, COMPONENT_VAR)
    assert marginal.keys() == component.keys()
    weights = {"X": 0.6, "Y": -0.2}
    assert all(marginal[key] * weights[key[1]] == pytest.approx(component[key], rel=1e-12) for key in component)


def year(seed: int = 1, days: int = 251) -> Floats:
    """Returns of a calm market, 1 % a day."""
    return np.random.default_rng(seed).normal(0.0002, 0.01, days)


def test_every_method_gives_a_number_of_the_same_size_for_a_calm_market() -> None:
    """Normal returns: five ways to one answer, at both horizons, ES above VaR, both rising with confidence."""
    samples, gaps = results(tail_risk.compute, desk_of({"X": 1_000_000}, [history_of_returns("X", year())], cash=0.01))
    assert gaps == []
    var, shortfall = by_name(samples, VAR), by_name(samples, EXPECTED_SHORTFALL)
    for method in tail_risk.METHODS:
        one = [var["carry", method, confidence, "1d"] for confidence in tail_risk.CONFIDENCES]
        beyond = [shortfall["carry", method, confidence, "1d"] for confidence in tail_risk.CONFIDENCES]
        assert one == sorted(one)
        assert all(more > less for more, less in zip(beyond, one, strict=True))
        assert one[0] == pytest.approx(0.0164, rel=0.25)
        assert var["carry", method, "0.95", "10d_sqrt"] == pytest.approx(one[0] * math.sqrt(10), rel=1e-15)


def test_a_method_whose_assumptions_fail_is_undefined_and_the_others_stand() -> None:
    """One day in a year on which the market fell by 14 %: no monotone Cornish-Fisher law has such moments."""
    returns = year()
    returns[100] = -0.14
    samples, gaps = results(tail_risk.compute, desk_of({"X": 1_000_000}, [history_of_returns("X", returns)], cash=0.01))
    assert gaps == [(Gap.OUTSIDE_DOMAIN, "carry cornish_fisher")]
    assert {key[1] for key in by_name(samples, VAR)} == set(tail_risk.METHODS) - {"cornish_fisher"}


def test_a_price_that_never_moves_has_no_parametric_var() -> None:
    """Zero variance is a sample that says nothing, not a book without risk; history says it lost nothing."""
    samples, gaps = results(tail_risk.compute, desk_of({"X": 1_000_000}, [history_of_returns("X", [0.0] * 251)], cash=0.01))
    assert {subject for gap, subject in gaps if gap is Gap.ZERO_VARIANCE} == {
        f"carry {method}" for method in tail_risk.METHODS if method != "historical"
    }
    assert by_name(samples, VAR)["carry", "historical", "0.99", "1d"] == 0.0


def test_a_history_shorter_than_the_memory_has_no_volatility_that_forgets() -> None:
    """74 days of burn-in at 0.94, and the filtered method needs `minimum_days` scenarios beyond them."""
    config = make_config(minimum_days=60)
    state = desk_of({"X": 1_000_000}, [history_of_returns("X", year(days=101))], cash=0.01, config=config)
    _, gaps = results(tail_risk.compute, state)
    assert gaps == [(Gap.SHORT_HISTORY, "carry filtered_historical")]
