"""Rules that bring a book inside a limit: each hand-worked, minimal by its own rule, and never more than closing."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from deskwatch.errors import Permanent
from exporter import reduction
from exporter.analytics.concentration import hhi
from exporter.analytics.exposure import sector_weights
from exporter.book import Book, Returns, Trade
from exporter.config import LIMITS
from exporter.market import Floats, Market, align
from exporter.reduction import RULES, merged
from exporter.risk.historical import expected_shortfall, historical_var, losses_of

EXPOSURES = ["concentration", "sector", "gross_exposure", "net_exposure", "leverage"]
WEIGHTS = arrays.arrays(np.float64, st.integers(1, 7), elements=st.floats(-2.0, 2.0).filter(lambda w: abs(w) > 1e-6))


def made(weights: Floats | list[float], sectors: str = "", returns: Floats | None = None) -> Book:
    """A book with these weights on a net asset value of 1; one letter per sector."""
    values = np.asarray(weights, dtype=np.float64)
    matrix = np.zeros((1, values.size)) if returns is None else returns
    return Book(
        "carry",
        "EUR",
        tuple("ABCDEFGHIJ"[: values.size]),
        tuple(sectors or "s" * values.size),
        values,
        values,
        1.0,
        Returns(np.arange(matrix.shape[0]).astype("datetime64[D]"), matrix, 1.0, matrix[:0]),
        (),
        Market(align(()), {}, {}),
    )


def after(book: Book, limit: str, value: float) -> Floats:
    """Weights once the rule has been applied."""
    kept = RULES[limit](book, value)
    assert ((kept >= 0.0) & (kept <= 1.0)).all()
    return book.weights * kept


def test_concentration_cuts_only_what_is_too_large() -> None:
    """To the limit, keeping its sign."""
    assert after(made([0.5, -0.4, 0.1]), "concentration", 0.3).tolist() == pytest.approx([0.3, -0.3, 0.1])


def test_hhi_cuts_the_largest_to_a_common_size() -> None:
    """The largest size at which the index holds: cutting 0.8 alone is enough here."""
    cut = after(made([0.8, -0.2, 0.2]), "concentration_hhi", 0.4)
    assert cut.tolist()[1:] == [-0.2, 0.2]
    assert hhi(cut) == pytest.approx(0.4, abs=1e-9)


def test_hhi_below_that_of_equal_positions_is_refused() -> None:
    """Three positions cannot have less than 1/3; the message says so and what to do."""
    with pytest.raises(Permanent, match=r"carry: no reduction brings the index to 0.3: 3 equal positions .* 0.333; spread"):
        RULES["concentration_hhi"](made([0.8, -0.2, 0.2]), 0.3)


def test_a_sector_over_its_limit_has_its_heavy_side_scaled() -> None:
    """Sector a is 0.6 - 0.1 = 0.5; its longs shrink to 0.4 so that it is 0.3. Sector b stays."""
    assert after(made([0.4, 0.2, -0.1, -0.2], "aaab"), "sector", 0.3).tolist() == pytest.approx([0.8 / 3, 0.4 / 3, -0.1, -0.2])


def test_a_short_sector_has_its_shorts_scaled() -> None:
    """-0.5 to -0.3."""
    assert after(made([-0.6, 0.1], "aa"), "sector", 0.3).tolist() == pytest.approx([-0.4, 0.1])


@pytest.mark.parametrize("limit", ["gross_exposure", "leverage"])
def test_gross_scales_everything(limit: str) -> None:
    """Pro rata, so the mix stays."""
    assert after(made([1.0, -0.5]), limit, 0.9).tolist() == pytest.approx([0.6, -0.3])


def test_net_scales_the_side_that_is_too_large() -> None:
    """1.0 - 0.3 = 0.7 to 0.5 by the longs; -0.7 by the shorts."""
    assert after(made([0.6, 0.4, -0.3]), "net_exposure", 0.5).tolist() == pytest.approx([0.48, 0.32, -0.3])
    assert after(made([-0.6, -0.4, 0.3]), "net_exposure", 0.5).tolist() == pytest.approx([-0.48, -0.32, 0.3])


def test_shortfall_is_cut_where_most_of_it_comes_from() -> None:
    """B loses 10 % on the worst day, A 1 %: B is cut until 97.5 % shortfall holds, A stays."""
    returns = np.zeros((40, 2))
    returns[7] = [-0.01, -0.1]
    book = made([0.5, 0.5], returns=returns)
    cut = after(book, "expected_shortfall_0.975", 0.02)
    assert cut.tolist() == pytest.approx([0.5, 0.15])
    assert expected_shortfall(losses_of(cut, returns), 0.975) <= 0.02 + 1e-15


def test_where_closing_the_largest_contributor_is_not_enough_the_next_follows() -> None:
    """Without B the book still loses 0.5 %: then A is cut to a fifth."""
    returns = np.zeros((40, 2))
    returns[7] = [-0.01, -0.1]
    assert after(made([0.5, 0.5], returns=returns), "expected_shortfall_0.975", 0.001).tolist() == pytest.approx([0.1, 0.0])


def test_a_var_that_falls_only_in_between_is_found() -> None:
    """Half of B hedges A best: the rule stops at the first share that satisfies, not at closing."""
    returns = np.array([[-0.02, 0.02], [0.02, -0.04]] * 30)
    book = made([1.0, 1.0], returns=returns)
    assert float(historical_var(losses_of(book.weights, returns), 0.95)) == pytest.approx(0.02)
    cut = after(book, "var_0.95", 0.01)
    assert cut.tolist() == pytest.approx([1.0, 0.75])
    assert float(historical_var(losses_of(np.array([1.0, 0.0]), returns), 0.95)) == pytest.approx(0.02)


@given(WEIGHTS, st.floats(1e-3, 1.0), st.sampled_from(EXPOSURES))
def test_an_exposure_limit_holds_and_is_used_up(weights: Floats, limit: float, name: str) -> None:
    """To rounding; where it held before, nothing is cut."""
    book = made(weights, "abcabca"[: weights.size])

    def measured(held: Floats) -> float:
        by_sector = sector_weights(made(held, "abcabca"[: weights.size])).values()
        return {
            "concentration": float(np.abs(held).max()),
            "sector": max(abs(each) for each in by_sector),
            "net_exposure": abs(float(held.sum())),
        }.get(name, float(np.abs(held).sum()))

    cut = after(book, name, limit)
    assert measured(cut) <= limit * (1 + 1e-9)
    assert measured(cut) == pytest.approx(min(limit, measured(weights)), rel=1e-9)
    assert (np.sign(cut) * np.sign(weights) >= 0.0).all()


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_a_tail_limit_holds_whatever_the_book(data: st.DataObject) -> None:
    """Every name of VaR and shortfall, to rounding; the book is never made larger."""
    rng = np.random.default_rng(data.draw(st.integers(0, 10_000)))
    size = data.draw(st.integers(1, 6))
    returns = rng.standard_t(3, size=(data.draw(st.integers(5, 120)), size)) / 100
    book = made(rng.normal(size=size), returns=returns)
    name = data.draw(st.sampled_from([each for each in LIMITS if each.startswith(("var", "expected"))]))
    measure = historical_var if name.startswith("var") else expected_shortfall
    confidence = float(name.rpartition("_")[2])
    before = float(measure(losses_of(book.weights, returns), confidence))
    limit = max(before, 0.01) * data.draw(st.floats(0.01, 1.5))
    cut = after(book, name, limit)
    assert float(measure(losses_of(cut, returns), confidence)) <= limit * (1 + 1e-9)
    if before <= limit:
        assert (cut == book.weights).all()


def test_every_limit_but_a_loss_already_made_has_a_rule() -> None:
    """And no rule is without its limit."""
    assert set(RULES) == set(LIMITS) - {"daily_loss"}


@pytest.mark.parametrize(
    ("cut", "held", "whole", "traded"),
    [
        (123_456.2, 900_000.0, False, 123_457.0),  # currencies: whole units
        (12_000.0, 20_000.0, False, 12_000.0),
        (0.70001, 2.5, False, 0.7001),  # 2.5 bitcoin: steps of 0.0001
        (3.2, 40.0, True, 4.0),  # shares and futures: whole units
        (39.9, 40.0, True, 40.0),
        (9.99, 10.5, True, 10.0),
        (10.2, 10.5, True, 10.5),  # never past zero
        (0.0, 5.0, True, 0.0),
        (5.000000000001, 10.0, True, 5.0),  # rounding of the computation is not a unit more
        (1e-310, 3e-310, False, 3e-310),
        (1e308, 1.5e308, False, 1e308),
    ],
)
def test_quantities_are_rounded_up_to_a_step(cut: float, held: float, whole: bool, traded: float) -> None:
    """Towards the inside of the limit."""
    assert reduction._rounded_up(cut, held, whole) == traded


def test_trades_of_one_position_are_one_trade() -> None:
    """Those that cancel are none; the order of the first appearance stays."""
    trades = [Trade("a", "X", 1.0), Trade("b", "X", 2.0), Trade("a", "X", 3.0), Trade("a", "Y", 0.3), Trade("a", "Y", -0.3)]
    assert merged(trades) == (Trade("a", "X", 4.0), Trade("b", "X", 2.0))
    for order in itertools.permutations(trades):
        assert {(each.portfolio, each.symbol, each.quantity) for each in merged(order)} == {("a", "X", 4.0), ("b", "X", 2.0)}
