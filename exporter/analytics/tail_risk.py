"""Tail risk: historical value at risk and expected shortfall, one day, with the share of every position in them.

The book as it is now is put through the joint returns of the last days (`Book.returns`); a loss is positive, and a book that
cannot lose has a negative value at risk. VaR is one named scenario, so the share of a position in it is what that position
lost on that day, and the shares add up. Refuses books that hold nothing, have fewer scenarios than `risk.minimum_days`, or
hold an instrument whose risk is not linear: `Undefined`, never a number.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from exporter.analytic import Result, per_book
from exporter.book import Book
from exporter.desk import DeskState
from exporter.market import Floats
from exporter.reading import Family, Gap, Sample, Undefined

_KEY = ("method", "confidence", "horizon")
VAR = Family(
    "desk_var_ratio",
    "Value at risk over net asset value: a positive loss, negative where the book cannot lose",
    ("portfolio", *_KEY),
)
VAR_VALUE = Family("desk_var_value", "Value at risk in base currency: a positive loss", ("portfolio", *_KEY, "currency"))
EXPECTED_SHORTFALL = Family(
    "desk_expected_shortfall_ratio",
    "Expected shortfall (mean loss beyond value at risk) over net asset value: a positive loss",
    ("portfolio", *_KEY),
)
EXPECTED_SHORTFALL_VALUE = Family(
    "desk_expected_shortfall_value",
    "Expected shortfall in base currency: a positive loss",
    ("portfolio", *_KEY, "currency"),
)
COMPONENT_VAR = Family(
    "desk_component_var_ratio",
    "Share of a position in value at risk over net asset value: adds up to desk_var_ratio, negative where it hedges",
    ("portfolio", "symbol", *_KEY),
)
COMPONENT_EXPECTED_SHORTFALL = Family(
    "desk_component_expected_shortfall_ratio",
    "Share of a position in expected shortfall over net asset value: adds up to desk_expected_shortfall_ratio, "
    "negative where it hedges",
    ("portfolio", "symbol", *_KEY),
)
COVERAGE = Family(
    "desk_history_coverage_ratio",
    "Days for which every held instrument has a price over the days asked for, 0 to 1",
    ("portfolio",),
)
METRICS = (
    VAR, VAR_VALUE, EXPECTED_SHORTFALL, EXPECTED_SHORTFALL_VALUE, COMPONENT_VAR, COMPONENT_EXPECTED_SHORTFALL, COVERAGE,
)  # fmt: skip
NAME = "tail_risk"
METHOD = "historical"
HORIZON = "1d"
CONFIDENCES = ("0.95", "0.975", "0.99")
"""Values of the label `confidence`."""


def compute(state: DeskState) -> Iterator[Result]:
    """VaR, expected shortfall and their components at every confidence, and the history they rest on."""
    minimum_days = state.config.risk.minimum_days
    return per_book(state, NAME, lambda book: _of(book, minimum_days))


@dataclass(frozen=True, slots=True)
class Tail:
    """The scenarios beyond VaR.

    Args:
        rows: (k,) rows of the scenarios, worst first; the last one is the VaR scenario.
        shares: (k,) weight of each in expected shortfall; positive, adds up to 1.
    """

    rows: NDArray[np.intp]
    shares: Floats

    @property
    def scenario(self) -> int:
        """Row of the VaR scenario."""
        return int(self.rows[-1])


def losses_of(weights: Floats, returns: Floats) -> Floats:
    """(T,) loss of the book in every scenario, ratio of net asset value, positive is a loss; not finite on overflow.

    Args:
        weights: (N,) signed ratio of net asset value.
        returns: (T, N) simple returns, ratio.
    """
    with np.errstate(all="ignore"):
        losses: Floats = 0.0 - returns @ weights
    return losses


def tail_size(scenarios: int, confidence: float) -> float:
    """Expected number aT of scenarios beyond the quantile; rounded, because 1 - 0.95 is 0.050000000000000044."""
    return round((1.0 - confidence) * scenarios, 9)


def historical_var(losses: Floats, confidence: float) -> Floats:
    """Value at risk: the k-th largest loss, k = ceil(aT).

    Args:
        losses: (T,) or (T, M), T >= 1, positive is a loss; every column is a book of its own.
        confidence: e.g. 0.99, so a = 0.01.

    Returns:
        () or (M,), same unit as the losses; not below any of T - k of them.

    Source: J. Hull, Options, Futures, and Other Derivatives, ch. "Value at risk and expected shortfall": of 500 scenarios the
    99 % VaR is the fifth worst.
    """
    count = losses.shape[0]
    rank = count - math.ceil(tail_size(count, confidence))
    quantile: Floats = np.partition(losses, rank, axis=0)[rank]
    return quantile


def expected_shortfall(losses: Floats, confidence: float) -> Floats:
    """Expected shortfall: mean of the worst aT scenarios, the last one counted in part where aT is not whole.

    Arguments and result as of `historical_var`, below which it never is. Written as VaR plus the mean excess over it, which
    is the same number and cannot fall below VaR by rounding.

    Source: C. Acerbi, D. Tasche, On the coherence of expected shortfall, Journal of Banking & Finance 26 (2002), def. 2.6;
    R. T. Rockafellar, S. Uryasev, Conditional value-at-risk for general loss distributions, ibid., prop. 8.
    """
    count = losses.shape[0]
    size = tail_size(count, confidence)
    rank = count - math.ceil(size)
    worst = np.partition(losses, rank, axis=0)[rank:]
    with np.errstate(all="ignore"):
        shortfall: Floats = worst[0] + (worst[1:] - worst[0]).sum(axis=0) / size
    return shortfall


def worst_first(losses: Floats) -> NDArray[np.intp]:
    """(T,) rows of the scenarios by falling loss; of equal losses the earlier day first."""
    return np.argsort(-losses, kind="stable")


def tail(order: NDArray[np.intp], confidence: float) -> Tail:
    """The scenarios that make up expected shortfall and the weight each has in it.

    Args:
        order: (T,) rows, worst first (`worst_first`).
        confidence: e.g. 0.99.
    """
    size = tail_size(order.size, confidence)
    count = math.ceil(size)
    shares = np.full(count, 1.0 / size)
    shares[-1] = 1.0 - (count - 1) / size
    return Tail(order[:count], shares)


def component_var(weights: Floats, returns: Floats, tail: Tail) -> Floats:
    """(N,) what each position lost in the VaR scenario, ratio of net asset value; adds up to VaR.

    Source: C. Gourieroux, J.-P. Laurent, O. Scaillet, Sensitivity analysis of values at risk, Journal of Empirical Finance 7
    (2000): the derivative of VaR times the weight is the conditional expectation of the position's loss.
    """
    with np.errstate(all="ignore"):
        shares: Floats = 0.0 - weights * returns[tail.scenario]
    return shares


def component_expected_shortfall(weights: Floats, returns: Floats, tail: Tail) -> Floats:
    """(N,) mean loss of each position over the tail, ratio of net asset value; adds up to expected shortfall.

    Source: D. Tasche, Risk contributions and performance measurement (1999), section 4.
    """
    with np.errstate(all="ignore"):
        shares: Floats = 0.0 - weights * (tail.shares @ returns[tail.rows])
    return shares


def _of(book: Book, minimum_days: int) -> Iterator[Result]:
    if book.flat:
        yield Undefined(NAME, Gap.FLAT_BOOK, book.portfolio)
        return
    yield COVERAGE.sample(book.portfolio, value=book.returns.coverage_ratio)
    gap = risk_gap(book, minimum_days)
    if gap is not None:
        yield Undefined(NAME, gap, book.portfolio)
        return
    losses = losses_of(book.weights, book.returns.matrix)
    order = worst_first(losses)
    for label in CONFIDENCES:
        samples = _at(book, losses, order, label)
        finite = all(math.isfinite(sample.value) for sample in samples)
        yield from samples if finite else [Undefined(NAME, Gap.NOT_FINITE, book.portfolio)]


def risk_gap(book: Book, minimum_days: int) -> Gap | None:
    """Why no risk number is given for this book; None where one is."""
    if book.flat:
        return Gap.FLAT_BOOK
    if book.unsupported:
        return Gap.UNSUPPORTED_INSTRUMENT
    return Gap.SHORT_HISTORY if book.returns.matrix.shape[0] < minimum_days else None


def _at(book: Book, losses: Floats, order: NDArray[np.intp], label: str) -> list[Sample]:
    key = (METHOD, label, HORIZON)
    confidence = float(label)
    var, shortfall = float(historical_var(losses, confidence)), float(expected_shortfall(losses, confidence))
    worst = tail(order, confidence)
    of_var = component_var(book.weights, book.returns.matrix, worst).tolist()
    of_shortfall = component_expected_shortfall(book.weights, book.returns.matrix, worst).tolist()
    name = book.portfolio
    return [
        VAR.sample(name, *key, value=var),
        VAR_VALUE.sample(name, *key, book.currency, value=var * book.nav),
        EXPECTED_SHORTFALL.sample(name, *key, value=shortfall),
        EXPECTED_SHORTFALL_VALUE.sample(name, *key, book.currency, value=shortfall * book.nav),
        *(COMPONENT_VAR.sample(name, symbol, *key, value=share) for symbol, share in zip(book.symbols, of_var, strict=True)),
        *(
            COMPONENT_EXPECTED_SHORTFALL.sample(name, symbol, *key, value=share)
            for symbol, share in zip(book.symbols, of_shortfall, strict=True)
        ),
    ]
