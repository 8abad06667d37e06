"""Value: net asset value, position values and weights, and the books that have none."""

from __future__ import annotations

import pytest

from exporter.analytics import value
from exporter.reading import Gap
from tests.unit.exporter.desks import desk_of, feed, history, make_config, make_state, position, results

CLOSES = [history("CHF", [0.83, 0.90]), history("USD", [0.80, 0.85])]


def test_values_and_weights_are_signed() -> None:
    """Short 100,000 francs at 0.90 and long 200,000 dollars at 0.85 with 920,000 euro: net asset value 1,000,000."""
    samples, gaps = results(value.compute, desk_of({"CHF": -100_000, "USD": 200_000}, CLOSES, cash=920_000))
    assert gaps == []
    assert samples == {
        ("desk_portfolio_value", "carry", "EUR"): pytest.approx(1_000_000),
        ("desk_position_value", "carry", "CHF", "EUR"): pytest.approx(-90_000),
        ("desk_position_weight_ratio", "carry", "CHF"): pytest.approx(-0.09),
        ("desk_position_value", "carry", "USD", "EUR"): pytest.approx(170_000),
        ("desk_position_weight_ratio", "carry", "USD"): pytest.approx(0.17),
    }


def test_a_flat_book_has_a_value_and_no_weights() -> None:
    """Cash is worth what it is."""
    samples, gaps = results(value.compute, desk_of({}, CLOSES, cash=5))
    assert (samples, gaps) == ({("desk_portfolio_value", "carry", "EUR"): 5.0}, [])


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        (make_state(make_config(), feed(positions=(), histories=(), missing=True)), Gap.INPUT_MISSING),
        (make_state(make_config(), feed(positions=(), histories=(), stale=True)), Gap.INPUT_STALE),
        (desk_of({"XYZ": 1}, CLOSES), Gap.PRICE_MISSING),
        (desk_of({"XYZ": 1}, [history("XYZ", [1.0], "PLN")]), Gap.RATE_MISSING),
        (desk_of({"CHF": -100_000}, CLOSES, cash=0), Gap.NAV_NOT_POSITIVE),
        (make_state(make_config(), feed(positions=[position("CHF", 1)], accounts=(), histories=CLOSES)), Gap.EQUITY_MISSING),
    ],
)
def test_a_book_without_a_value_is_undefined_for_its_reason(state: object, reason: Gap) -> None:
    """Never 0, never a smaller book."""
    assert results(value.compute, state) == ({}, [(reason, "carry")])
