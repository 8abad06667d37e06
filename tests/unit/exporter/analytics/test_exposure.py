"""Exposure: gross, net, leverage and sectors."""

from __future__ import annotations

import pytest

from exporter.analytics import exposure
from tests.unit.exporter.desks import desk_of, history, make_config, results, terms

CLOSES = [history("CHF", [0.9]), history("JPY", [0.007]), history("USD", [0.85])]
HELD = {"CHF": -100_000, "USD": 200_000, "JPY": 10_000_000}


def test_gross_counts_shorts_once_and_net_takes_them_off() -> None:
    """-90,000 + 170,000 + 70,000 on 1,000,000; shorts are not counted twice (pyfolio#197, #140)."""
    samples, gaps = results(exposure.compute, desk_of(HELD, CLOSES, cash=850_000))
    assert gaps == []
    assert samples["desk_exposure_gross_ratio", "carry"] == pytest.approx(0.33)
    assert samples["desk_exposure_net_ratio", "carry"] == pytest.approx(0.15)
    assert samples["desk_leverage_ratio", "carry"] == samples["desk_exposure_gross_ratio", "carry"]


def test_a_sector_is_a_signed_sum() -> None:
    """Configuration wins over the source, a symbol nobody classifies is `unclassified`."""
    config = make_config(sectors={"CHF": "europe"})
    instruments = [terms("CHF", sector="havens"), terms("JPY", sector="havens")]
    state = desk_of(HELD, CLOSES, cash=850_000, config=config, instruments=instruments)
    samples, _ = results(exposure.compute, state)
    sectors = {key[2]: weight for key, weight in samples.items() if key[0] == "desk_sector_weight_ratio"}
    assert sectors == pytest.approx({"europe": -0.09, "havens": 0.07, "unclassified": 0.17})


def test_a_flat_book_has_no_exposure_and_no_sectors() -> None:
    """Zero is what is known: nothing is held."""
    samples, gaps = results(exposure.compute, desk_of({}, CLOSES))
    assert (set(samples.values()), len(samples), gaps) == ({0.0}, 3, [])


def test_a_future_counts_with_its_notional() -> None:
    """Two contracts of 50 euro a point at 2,000 on equity of 100,000 are twice the net asset value."""
    state = desk_of(
        {"ES": 2}, [history("ES", [2_000.0])], accounts=(), instruments=[terms("ES", "future", multiplier=50)],
    )  # fmt: skip
    assert results(exposure.compute, state)[0] == {}, "without equity or entry price there is no net asset value"
    from tests.unit.exporter.desks import account

    state = desk_of(
        {"ES": 2}, [history("ES", [2_000.0])],
        accounts=[account(0, equity=100_000)], instruments=[terms("ES", "future", multiplier=50)],
    )  # fmt: skip
    assert results(exposure.compute, state)[0]["desk_leverage_ratio", "carry"] == pytest.approx(2.0)
