"""Historical simulation: value at risk and expected shortfall of scenarios as they happened, and each position's share.

A loss is positive, and a book that cannot lose has a negative value at risk. VaR is one named scenario, so the share of a
position in it is what that position lost on that day, and the shares add up.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from exporter.market import Floats


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


def marginal_var(returns: Floats, tail: Tail) -> Floats:
    """(N,) by how much VaR, ratio of net asset value, grows for each unit of weight added to a position, negative where it
    shrinks: minus the position's return in the VaR scenario.

    Source: as of `component_var`, of which it is the derivative before it is multiplied by the weight.
    """
    slopes: Floats = 0.0 - returns[tail.scenario]
    return slopes
