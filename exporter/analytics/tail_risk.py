"""Tail risk: value at risk and expected shortfall by five methods, with the share of every position in them.

The book as it is now is put through the joint returns of the last days (`Book.returns`); a loss is positive, and a book that
cannot lose has a negative value at risk. Methods: `historical` (the days as they happened, the method limits are set on),
`normal` (their mean and deviation), `cornish_fisher` (skewness and kurtosis too, where its polynomial is monotone), `ewma`
(zero mean, recent days weigh more), `filtered_historical` (the days at today's volatility). Horizon `1d`, and `10d_sqrt`: the
one-day number times the square root of ten. Refuses books that hold nothing, have fewer scenarios than `risk.minimum_days`,
or hold an instrument whose risk is not linear, and each method where its own assumptions fail: `Undefined`, never a number.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import TypeAlias

import numpy as np

from exporter.analytic import Result, per_book
from exporter.book import Book
from exporter.config import RiskConfig
from exporter.desk import DeskState
from exporter.market import Floats
from exporter.reading import Family, Gap, Sample, Undefined
from exporter.risk.cornish_fisher import cornish_fisher_expected_shortfall, cornish_fisher_var, sample_shape, shape_with
from exporter.risk.ewma import burn_in_days, ewma_deviations, filtered_losses
from exporter.risk.historical import (
    component_expected_shortfall,
    component_var,
    expected_shortfall,
    historical_var,
    losses_of,
    marginal_var,
    tail,
    worst_first,
)
from exporter.risk.normal import moments, normal_expected_shortfall, normal_var

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
MARGINAL_VAR = Family(
    "desk_marginal_var_ratio",
    "By how much value at risk over net asset value grows per unit of weight added to the position; negative where it shrinks",
    ("portfolio", "symbol", *_KEY),
)
COVERAGE = Family(
    "desk_history_coverage_ratio",
    "Days for which every held instrument has a price over the days asked for, 0 to 1",
    ("portfolio",),
)
METRICS = (
    VAR, VAR_VALUE, EXPECTED_SHORTFALL, EXPECTED_SHORTFALL_VALUE, COMPONENT_VAR, COMPONENT_EXPECTED_SHORTFALL, MARGINAL_VAR,
    COVERAGE,
)  # fmt: skip
NAME = "tail_risk"
METHOD = "historical"
"""The method whose number is split by position."""
HORIZON = "1d"
HORIZONS = {HORIZON: 1.0, "10d_sqrt": math.sqrt(10.0)}
"""Values of the label `horizon`, and what the one-day number is multiplied by: the square root of time holds for independent
days only, so the label names it. Source: Basel Committee, Amendment to the capital accord (1996), B.4(c)."""
CONFIDENCES = ("0.95", "0.975", "0.99")
"""Values of the label `confidence`."""


Estimate: TypeAlias = Callable[[float], tuple[float, float]]
"""Value at risk and expected shortfall at a confidence, ratio of net asset value, positive is a loss."""


def compute(state: DeskState) -> Iterator[Result]:
    """VaR and expected shortfall at every confidence by every method, the components, and the history they rest on."""
    return per_book(state, NAME, lambda book: _of(book, state.config.risk))


def _historical(losses: Floats, _: RiskConfig) -> Estimate | Gap:
    return lambda confidence: (float(historical_var(losses, confidence)), float(expected_shortfall(losses, confidence)))


def _normal(losses: Floats, _: RiskConfig) -> Estimate | Gap:
    mean, deviation = moments(losses)
    if not deviation > 0.0:
        return Gap.ZERO_VARIANCE
    return lambda confidence: (
        normal_var(mean, deviation, confidence),
        normal_expected_shortfall(mean, deviation, confidence),
    )


def _cornish_fisher(losses: Floats, _: RiskConfig) -> Estimate | Gap:
    mean, deviation = moments(losses)
    if not deviation > 0.0:
        return Gap.ZERO_VARIANCE
    shape = shape_with(*sample_shape(losses))
    if shape is None:
        return Gap.OUTSIDE_DOMAIN
    return lambda confidence: (
        cornish_fisher_var(mean, deviation, shape, confidence),
        cornish_fisher_expected_shortfall(mean, deviation, shape, confidence),
    )


def _ewma(losses: Floats, risk: RiskConfig) -> Estimate | Gap:
    if losses.size <= burn_in_days(risk.ewma_decay):
        return Gap.SHORT_HISTORY
    deviation = float(ewma_deviations(losses, risk.ewma_decay)[-1])
    if not deviation > 0.0:
        return Gap.ZERO_VARIANCE
    return lambda confidence: (
        normal_var(0.0, deviation, confidence),
        normal_expected_shortfall(0.0, deviation, confidence),
    )


def _filtered_historical(losses: Floats, risk: RiskConfig) -> Estimate | Gap:
    if losses.size - burn_in_days(risk.ewma_decay) < risk.minimum_days:
        return Gap.SHORT_HISTORY
    deviations = ewma_deviations(losses, risk.ewma_decay)
    if not deviations.all():
        return Gap.ZERO_VARIANCE
    return _historical(filtered_losses(losses, deviations), risk)


METHODS: Mapping[str, Callable[[Floats, RiskConfig], Estimate | Gap]] = {
    METHOD: _historical,
    "normal": _normal,
    "cornish_fisher": _cornish_fisher,
    "ewma": _ewma,
    "filtered_historical": _filtered_historical,
}
"""Values of the label `method`, and how the losses of the scenarios, oldest first, become numbers."""


def _of(book: Book, risk: RiskConfig) -> Iterator[Result]:
    if book.flat:
        yield Undefined(NAME, Gap.FLAT_BOOK, book.portfolio)
        return
    yield COVERAGE.sample(book.portfolio, value=book.returns.coverage_ratio)
    gap = risk_gap(book, risk.minimum_days)
    if gap is not None:
        yield Undefined(NAME, gap, book.portfolio)
        return
    losses = losses_of(book.weights, book.returns.matrix)
    finite = bool(np.isfinite(losses).all())
    for method, estimate in METHODS.items():
        yield from _by_method(book, method, estimate(losses, risk) if finite or method == METHOD else Gap.NOT_FINITE)
    yield from _by_position(book, losses)


def risk_gap(book: Book, minimum_days: int) -> Gap | None:
    """Why no risk number is given for this book; None where one is."""
    if book.flat:
        return Gap.FLAT_BOOK
    if book.unsupported:
        return Gap.UNSUPPORTED_INSTRUMENT
    return Gap.SHORT_HISTORY if book.returns.matrix.shape[0] < minimum_days else None


def _by_method(book: Book, method: str, estimate: Estimate | Gap) -> Iterator[Result]:
    subject = book.portfolio if method == METHOD else f"{book.portfolio} {method}"
    if isinstance(estimate, Gap):
        yield Undefined(NAME, estimate, subject)
        return
    for label in CONFIDENCES:
        var, shortfall = estimate(float(label))
        samples = [
            sample
            for horizon, factor in HORIZONS.items()
            for sample in _at(book, (method, label, horizon), var * factor, shortfall * factor)
        ]
        yield from _finite(samples, subject)


def _at(book: Book, key: tuple[str, str, str], var: float, shortfall: float) -> Iterator[Sample]:
    yield VAR.sample(book.portfolio, *key, value=var)
    yield VAR_VALUE.sample(book.portfolio, *key, book.currency, value=var * book.nav)
    yield EXPECTED_SHORTFALL.sample(book.portfolio, *key, value=shortfall)
    yield EXPECTED_SHORTFALL_VALUE.sample(book.portfolio, *key, book.currency, value=shortfall * book.nav)


def _by_position(book: Book, losses: Floats) -> Iterator[Result]:
    """Each position's share in the historical one-day numbers."""
    order = worst_first(losses)
    matrix, weights = book.returns.matrix, book.weights
    for label in CONFIDENCES:
        worst = tail(order, float(label))
        shares = (
            (COMPONENT_VAR, component_var(weights, matrix, worst)),
            (COMPONENT_EXPECTED_SHORTFALL, component_expected_shortfall(weights, matrix, worst)),
            (MARGINAL_VAR, marginal_var(matrix, worst)),
        )
        samples = [
            family.sample(book.portfolio, symbol, METHOD, label, HORIZON, value=share)
            for family, values in shares
            for symbol, share in zip(book.symbols, values.tolist(), strict=True)
        ]
        yield from _finite(samples, book.portfolio)


def _finite(samples: list[Sample], subject: str) -> list[Result]:
    """The samples, or what takes their place where one of them overflowed: parts without their sum mislead."""
    finite = all(math.isfinite(sample.value) for sample in samples)
    return [*samples] if finite else [Undefined(NAME, Gap.NOT_FINITE, subject)]
