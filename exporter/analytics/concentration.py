"""Concentration: the largest position over net asset value, the Herfindahl-Hirschman index of the exposures over gross, and the
number of equal positions that comes to."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from exporter.analytic import Result, per_book
from exporter.book import Book
from exporter.desk import DeskState
from exporter.market import Floats
from exporter.reading import Family, Gap, Undefined

LARGEST = Family(
    "desk_concentration_max_ratio",
    "Largest exposure of one symbol, long or short, over net asset value",
    ("portfolio",),
)
HHI = Family(
    "desk_concentration_hhi_ratio",
    "Herfindahl-Hirschman index: sum of squared shares of gross exposure, 1/N for N equal positions, 1 for a single one",
    ("portfolio",),
)
EFFECTIVE = Family(
    "desk_concentration_effective_positions",
    "Number of equal positions that would be as concentrated: one over the Herfindahl-Hirschman index",
    ("portfolio",),
)
METRICS = (LARGEST, HHI, EFFECTIVE)
NAME = "concentration"


def compute(state: DeskState) -> Iterator[Result]:
    """Largest weight and HHI of every portfolio that holds something."""
    return per_book(state, NAME, _of)


def hhi(values: Floats) -> float | None:
    """Herfindahl-Hirschman index on shares of gross.

    Args:
        values: (N,) signed exposures, in any one unit.

    Returns:
        Ratio in [1/N, 1]; None where gross is zero.

    Source: A. O. Hirschman, The Paternity of an Index, American Economic Review 54 (1964), 761.
    """
    amounts = np.abs(values)
    gross = amounts.sum()
    return float(np.square(amounts / gross).sum()) if gross > 0.0 else None


def _of(book: Book) -> Iterator[Result]:
    if book.flat:
        yield Undefined(NAME, Gap.FLAT_BOOK, book.portfolio)
        return
    yield LARGEST.sample(book.portfolio, value=float(np.abs(book.weights).max()))
    index = hhi(book.values)
    if index is None:
        yield Undefined(NAME, Gap.FLAT_BOOK, book.portfolio)
        return
    yield HHI.sample(book.portfolio, value=index)
    yield EFFECTIVE.sample(book.portfolio, value=1.0 / index)
