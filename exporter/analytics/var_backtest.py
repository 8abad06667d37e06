"""Backtest of VaR: would the method have been right about the book as it is now, on each of the last `risk.backtest_days` days?

For each day the historical VaR and expected shortfall of the `risk.window_days` before it are held against that day's
hypothetical loss, the positions unchanged, as supervisors' hypothetical backtesting does. An exception is a loss above VaR.
Refuses books without a risk number, and fewer than `risk.minimum_days` forecasts.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import get_args

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from exporter.analytic import Result, per_book
from exporter.analytics.tail_risk import CONFIDENCES, risk_gap
from exporter.book import Book
from exporter.config import RiskConfig
from exporter.desk import DeskState
from exporter.market import Floats
from exporter.reading import Family, Gap, Undefined
from exporter.risk.backtest import (
    Zone,
    acerbi_szekely_z2,
    binomial_pvalue,
    christoffersen,
    conditional_coverage,
    kupiec,
    traffic_light,
    transitions,
)
from exporter.risk.historical import expected_shortfall, historical_var, losses_of

EXCEPTIONS = Family(
    "desk_var_exceptions",
    "Days of the window on which the hypothetical loss was above the historical VaR forecast for them",
    ("portfolio", "confidence", "window"),
)
SAMPLE_SIZE = Family(
    "desk_var_backtest_sample_size", "Days of the window for which there is a forecast", ("portfolio", "window")
)
PVALUE = Family(
    "desk_var_backtest_pvalue",
    "Probability of exceptions like these were the forecasts right, 0 to 1: kupiec (number), christoffersen (independence), "
    "conditional_coverage (both), binomial (so many or more, exact)",
    ("portfolio", "confidence", "test"),
)
TRAFFIC_LIGHT = Family(
    "desk_var_traffic_light",
    "Whether the exceptions at 99 % put the forecasts in the supervisors' zone, 0 or 1",
    ("portfolio", "zone"),
)
Z2 = Family(
    "desk_expected_shortfall_backtest_z2",
    "Acerbi and Szekely's second statistic: about 0 where expected shortfall was right, below -0.7 where it was too small",
    ("portfolio", "confidence"),
)
METRICS = (EXCEPTIONS, SAMPLE_SIZE, PVALUE, TRAFFIC_LIGHT, Z2)
NAME = "var_backtest"
LIGHT_CONFIDENCE = "0.99"
SHORTFALL_CONFIDENCE = "0.975"
ZONES: tuple[Zone, ...] = get_args(Zone)


def compute(state: DeskState) -> Iterator[Result]:
    """Number, order and size of the exceptions of every portfolio with a risk number and history enough."""
    return per_book(state, NAME, lambda book: _of(book, state.config.risk))


def _of(book: Book, risk: RiskConfig) -> Iterator[Result]:
    gap = risk_gap(book, risk.minimum_days)
    if gap is None and (book.returns.matrix.shape[0] < risk.window_days or book.returns.earlier.shape[0] < risk.minimum_days):
        gap = Gap.SHORT_HISTORY
    if gap is not None:
        yield Undefined(NAME, gap, book.portfolio)
        return
    losses = np.concatenate([losses_of(book.weights, book.returns.earlier), losses_of(book.weights, book.returns.matrix)])
    if not np.isfinite(losses).all():
        yield Undefined(NAME, Gap.NOT_FINITE, book.portfolio)
        return
    # Each column is the window before one day.
    windows = sliding_window_view(losses, risk.window_days)[:-1].T
    realised = losses[risk.window_days :]
    window = str(risk.backtest_days)
    yield SAMPLE_SIZE.sample(book.portfolio, window, value=float(realised.size))
    for label in CONFIDENCES:
        yield from _at(book.portfolio, window, label, windows, realised)


def _at(portfolio: str, window: str, label: str, windows: Floats, realised: Floats) -> Iterator[Result]:
    var = historical_var(windows, float(label))
    beyond = realised > var
    count, days, ratio = int(beyond.sum()), realised.size, round(1.0 - float(label), 9)
    yield EXCEPTIONS.sample(portfolio, label, window, value=float(count))
    coverage, independence = kupiec(count, days, ratio), christoffersen(*transitions(beyond))
    both = conditional_coverage(coverage, independence)
    yield PVALUE.sample(portfolio, label, "kupiec", value=coverage.pvalue)
    yield PVALUE.sample(portfolio, label, "christoffersen", value=independence.pvalue)
    yield PVALUE.sample(portfolio, label, "conditional_coverage", value=both.pvalue)
    yield PVALUE.sample(portfolio, label, "binomial", value=binomial_pvalue(count, days, ratio))
    if label == LIGHT_CONFIDENCE:
        zone = traffic_light(count, days, ratio)
        yield from (TRAFFIC_LIGHT.sample(portfolio, each, value=float(each == zone)) for each in ZONES)
    if label == SHORTFALL_CONFIDENCE:
        yield _z2(portfolio, label, realised, var, expected_shortfall(windows, float(label)))


def _z2(portfolio: str, label: str, realised: Floats, var: Floats, shortfall: Floats) -> Result:
    if not (shortfall > 0.0).all():
        return Undefined(NAME, Gap.BASELINE_ZERO, f"{portfolio} z2")
    value = acerbi_szekely_z2(realised, var, shortfall, round(1.0 - float(label), 9))
    return Z2.sample(portfolio, label, value=value) if math.isfinite(value) else Undefined(NAME, Gap.NOT_FINITE, portfolio)
