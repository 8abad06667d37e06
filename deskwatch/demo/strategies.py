"""The three strategies of the demo desk: target weights from closes of days gone by. Pure; trades nothing.

Every strategy sees the closes up to the day before and deals at the next fixing, so none of them looks ahead.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from deskwatch.demo.rates import Floats

FRIDAY = 4
TREND_DAYS = 60
REVERSION_DAYS = 10
REVERSION_SIZING_DAYS = 20
SIZING_DAYS = 250


class Strategy(Protocol):
    """What a book is run by."""

    @property
    def universe(self) -> tuple[str, ...]:
        """Symbols it may hold."""
        ...

    def deals_on(self, day: dt.date, since_last_days: int) -> bool:
        """Whether it rebalances on this market day, so many calendar days after the last time."""
        ...

    def targets(self, closes: Floats) -> Mapping[str, float]:
        """Signed target weights, ratio of net asset value.

        Args:
            closes: (days, universe) euro per unit, the last row the day before; at least `SIZING_DAYS` + 1 rows.
        """
        ...


def daily_returns(closes: Floats, days: int) -> Floats:
    """(days, symbols) the last simple returns."""
    window = closes[-days - 1 :]
    returns: Floats = window[1:] / window[:-1] - 1.0
    return returns


def _volatility(returns: Floats) -> Floats:
    """Daily standard deviation about zero, by symbol."""
    deviation: Floats = np.sqrt(np.mean(returns**2, axis=0))
    return deviation


@dataclass(frozen=True, slots=True)
class Carry:
    """Borrows the currency of the lowest interest rate and holds higher ones, smaller when the last year was wild.

    Args:
        weights: symbol to weight at full size, ratio of net asset value.
        volatility_ratio: daily standard deviation the book is sized for; full size below it.
    """

    weights: Mapping[str, float]
    volatility_ratio: float

    @property
    def universe(self) -> tuple[str, ...]:
        """Symbols it may hold."""
        return tuple(self.weights)

    def deals_on(self, day: dt.date, since_last_days: int) -> bool:
        """Fridays; the next market day where Friday is none."""
        return day.weekday() == FRIDAY or since_last_days > 7

    def targets(self, closes: Floats) -> Mapping[str, float]:
        """The fixed weights, scaled down by the book's own volatility over the last 250 days."""
        full = np.array(list(self.weights.values()))
        volatility = float(_volatility(daily_returns(closes, SIZING_DAYS) @ full))
        scale = min(1.0, self.volatility_ratio / volatility)
        return {symbol: weight * scale for symbol, weight in self.weights.items()}


@dataclass(frozen=True, slots=True)
class Trend:
    """Follows 60-day moves of each currency against the euro, every currency with the same risk at full conviction.

    Args:
        symbols: what it trades.
        risk_ratio: daily standard deviation of one position at full conviction, ratio of net asset value.
    """

    symbols: tuple[str, ...]
    risk_ratio: float

    @property
    def universe(self) -> tuple[str, ...]:
        """Symbols it may hold."""
        return self.symbols

    def deals_on(self, day: dt.date, since_last_days: int) -> bool:
        """Once a week."""
        return since_last_days >= 7

    def targets(self, closes: Floats) -> Mapping[str, float]:
        """The move over 60 days in standard deviations, at most one, over the currency's volatility."""
        volatility = _volatility(daily_returns(closes, TREND_DAYS))
        move = closes[-1] / closes[-1 - TREND_DAYS] - 1.0
        conviction = np.clip(move / (volatility * np.sqrt(TREND_DAYS)), -1.0, 1.0)
        return _by_symbol(self.symbols, conviction * self.risk_ratio / volatility)


@dataclass(frozen=True, slots=True)
class Reversion:
    """Leans against 10-day moves of each currency relative to the average of all of them.

    Args:
        symbols: what it trades.
        volatility_ratio: daily standard deviation the book is sized for, ratio of net asset value.
        gross_ratio: most it holds, long and short together, ratio of net asset value.
    """

    symbols: tuple[str, ...]
    volatility_ratio: float
    gross_ratio: float

    @property
    def universe(self) -> tuple[str, ...]:
        """Symbols it may hold."""
        return self.symbols

    def deals_on(self, day: dt.date, since_last_days: int) -> bool:
        """Every market day."""
        return True

    def targets(self, closes: Floats) -> Mapping[str, float]:
        """Minus the excess move in standard deviations, at most one, sized by the book's own volatility over 20 days."""
        returns = daily_returns(closes, REVERSION_SIZING_DAYS)
        volatility = _volatility(returns)
        move = closes[-1] / closes[-1 - REVERSION_DAYS] - 1.0
        excess = (move - move.mean()) / (volatility * np.sqrt(REVERSION_DAYS))
        leaning = -np.clip(excess, -1.0, 1.0) / volatility
        scale = self.volatility_ratio / float(_volatility(returns @ leaning))
        scale = min(scale, self.gross_ratio / float(np.abs(leaning).sum()))
        return _by_symbol(self.symbols, leaning * scale)


def _by_symbol(symbols: tuple[str, ...], weights: Floats) -> Mapping[str, float]:
    return {symbol: float(weight) for symbol, weight in zip(symbols, weights, strict=True)}
