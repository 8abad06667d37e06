"""Exposure: gross, net and sector exposure over net asset value. A book that holds nothing has a gross and net exposure of 0,
which is known, and no sectors."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from exporter.analytic import Result, per_book
from exporter.book import Book
from exporter.desk import DeskState
from exporter.reading import Family

SECTOR_WEIGHT = Family(
    "desk_sector_weight_ratio",
    "Signed sum of the exposures in a sector over net asset value; negative is short",
    ("portfolio", "sector"),
)
GROSS = Family("desk_exposure_gross_ratio", "Sum of the amounts of all exposures over net asset value", ("portfolio",))
NET = Family("desk_exposure_net_ratio", "Signed sum of all exposures over net asset value; negative is short", ("portfolio",))
LEVERAGE = Family(
    "desk_leverage_ratio",
    "Gross exposure over net asset value, notional of futures and perpetuals included: the number of "
    "desk_exposure_gross_ratio under the name leverage limits are set on",
    ("portfolio",),
)
METRICS = (SECTOR_WEIGHT, GROSS, NET, LEVERAGE)
NAME = "exposure"


def compute(state: DeskState) -> Iterator[Result]:
    """Gross, net, leverage and sector weights of every portfolio that can be valued."""
    return per_book(state, NAME, _of)


def sector_weights(book: Book) -> dict[str, float]:
    """Signed ratio of net asset value by sector, sorted by name."""
    sums: dict[str, float] = {}
    for sector, weight in zip(book.sectors, book.weights.tolist(), strict=True):
        sums[sector] = sums.get(sector, 0.0) + weight
    return dict(sorted(sums.items()))


def _of(book: Book) -> Iterator[Result]:
    weights = book.weights
    gross = float(np.abs(weights).sum())
    yield GROSS.sample(book.portfolio, value=gross)
    yield NET.sample(book.portfolio, value=float(weights.sum()))
    yield LEVERAGE.sample(book.portfolio, value=gross)
    for sector, weight in sector_weights(book).items():
        yield SECTOR_WEIGHT.sample(book.portfolio, sector, value=weight)
