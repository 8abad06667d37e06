"""Regime: is the book's own market calm, normal or stormy, and how settled is that?

The volatility that forgets (EWMA, `risk.ewma_decay`) of the book as it is now, today's beside every day of the risk window:
`storm` above the 90th percentile, `calm` below the 33rd, else `normal`. Entropy is that of the regimes of the last twenty
days. Refuses books without a risk number and windows that leave fewer than 20 days after the burn-in.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from exporter.analytic import Result, per_book
from exporter.analytics.tail_risk import risk_gap
from exporter.book import Book
from exporter.config import RiskConfig
from exporter.desk import DeskState
from exporter.market import Floats
from exporter.reading import Family, Gap, Undefined
from exporter.risk.ewma import burn_in_days, ewma_deviations
from exporter.risk.historical import losses_of

REGIME = Family(
    "desk_market_regime",
    "Whether the book's volatility today lies in the regime, 0 or 1: calm, normal or storm",
    ("portfolio", "regime"),
)
ENTROPY = Family(
    "desk_regime_entropy",
    "Entropy of the regimes of the last 20 days over that of three equally frequent ones: 0 is settled, 1 is mixed",
    ("portfolio",),
)
METRICS = (REGIME, ENTROPY)
NAME = "regime"
REGIMES = ("calm", "normal", "storm")
BOUNDS = (1 / 3, 0.9)
"""Share of the window's days below which a day is calm, and above which it is a storm."""
RECENT_DAYS = 20


def compute(state: DeskState) -> Iterator[Result]:
    """Regime and entropy of every portfolio with a risk number."""
    return per_book(state, NAME, lambda book: _of(book, state.config.risk))


def regimes(deviations: Floats) -> np.ndarray[tuple[int, ...], np.dtype[np.intp]]:
    """(T,) regime of each day, 0 to 2, by the rank of its volatility among all of them; of equal ones the same."""
    ordered = np.sort(deviations)
    below = (np.searchsorted(ordered, deviations, "left") + np.searchsorted(ordered, deviations, "right")) / 2
    return np.searchsorted(np.array(BOUNDS), below / deviations.size, "right")


def entropy_ratio(found: np.ndarray[tuple[int, ...], np.dtype[np.intp]]) -> float:
    """Shannon entropy of the regimes' shares over ln 3, 0 to 1.

    Source: C. Shannon, A mathematical theory of communication, Bell System Technical Journal 27 (1948), 379.
    """
    shares = np.bincount(found, minlength=len(REGIMES)) / found.size
    present = shares[shares > 0.0]
    return abs(float(-(present * np.log(present)).sum() / np.log(len(REGIMES))))


def _of(book: Book, risk: RiskConfig) -> Iterator[Result]:
    gap = risk_gap(book, risk.minimum_days)
    losses = losses_of(book.weights, book.returns.matrix)
    if gap is None and losses.size < burn_in_days(risk.ewma_decay) + RECENT_DAYS:
        gap = Gap.SHORT_HISTORY
    if gap is None and not np.isfinite(losses).all():
        gap = Gap.NOT_FINITE
    deviations = np.empty(0) if gap is not None else ewma_deviations(losses, risk.ewma_decay)
    if gap is None and np.ptp(deviations) <= 1e-12 * deviations.max():
        gap = Gap.ZERO_VARIANCE
    if gap is not None:
        yield Undefined(NAME, gap, book.portfolio)
        return
    found = regimes(deviations)
    for at, regime in enumerate(REGIMES):
        yield REGIME.sample(book.portfolio, regime, value=float(found[-1] == at))
    yield ENTROPY.sample(book.portfolio, value=entropy_ratio(found[-RECENT_DAYS:]))
