"""Have the correlations of these series changed lately? A permutation test that fat tails and volatility clusters do not fool.

Likelihood tests of equal correlation matrices take normal, independent days for granted: on returns with common shocks they
reject more than half the time where nothing changed (`tests/unit/exporter/risk/test_correlation_break.py` shows it). Here the
days decide themselves: blocks of days are shuffled between the two periods, and the observed change is ranked among those.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy.special import ndtri

from exporter.market import Floats

BLOCK_DAYS = 5
"""Days kept together, so that volatility that clusters stays clustered."""
PERMUTATIONS = 499
"""The p-value is a multiple of 1 in 500."""
SEED = 20240607
"""The same data give the same p-value."""


def correlations(returns: Floats) -> Floats:
    """(N(N-1)/2,) Pearson correlation of each pair of columns (a < b, row by row), -1 to 1; NaN for a constant column."""
    centred = returns - returns.mean(axis=0)
    with np.errstate(all="ignore"):
        scaled = centred / np.sqrt(np.square(centred).sum(axis=0))
    matrix = np.clip(scaled.T @ scaled, -1.0, 1.0)
    pairs: Floats = matrix[np.triu_indices(returns.shape[1], 1)]
    return pairs


def stability_ratio(earlier: Floats, recent: Floats) -> float:
    """1 where no correlation has changed, 0 where each has gone from one extreme to the other: 1 - mean |difference| / 2.

    Args:
        earlier: (T1, N) returns.
        recent: (T2, N) returns of the same assets.
    """
    return 1.0 - float(np.abs(correlations(recent) - correlations(earlier)).mean()) / 2.0


def break_pvalue(returns: Floats, recent_days: int) -> float:
    """Probability of a change of the correlations as large as the one between the last `recent_days` and the days before, had
    there been none.

    Args:
        returns: (T, N), N >= 2, T > recent_days >= `BLOCK_DAYS`; no column constant.
        recent_days: rounded down to whole blocks.

    Statistic: mean absolute difference of the correlations of normal scores. Remembered for the same data.

    Source: P. Good, Permutation, Parametric and Bootstrap Tests of Hypotheses (3rd ed., 2005), chapter 3, for the test;
    H. Kuensch, The jackknife and the bootstrap for general stationary observations, Annals of Statistics 17 (1989), for blocks.
    """
    data = np.ascontiguousarray(returns)
    return _pvalue(data.tobytes(), data.shape[1], recent_days // BLOCK_DAYS)


@lru_cache(maxsize=64)
def _pvalue(data: bytes, assets: int, recent_blocks: int) -> float:
    returns = np.frombuffer(data).reshape(-1, assets)
    days, blocks = returns.shape[0], returns.shape[0] // BLOCK_DAYS
    # The oldest days that fill no block belong to the earlier period always.
    chosen = np.zeros((PERMUTATIONS + 1, blocks))
    chosen[0, blocks - recent_blocks :] = 1.0
    shuffled = np.random.default_rng(SEED).random((PERMUTATIONS, blocks)).argsort(axis=1)[:, :recent_blocks]
    chosen[np.arange(1, PERMUTATIONS + 1)[:, np.newaxis], shuffled] = 1.0
    recent = np.zeros((PERMUTATIONS + 1, days))
    recent[:, days - blocks * BLOCK_DAYS :] = np.repeat(chosen, BLOCK_DAYS, axis=1)
    products = _Products(_normal_scores(returns))
    change = np.abs(products.correlations(recent) - products.correlations(1.0 - recent)).mean(axis=1)
    return (1 + int((change[1:] >= change[0] - 1e-12).sum())) / (PERMUTATIONS + 1)


class _Products:
    """What every subset's correlations are made of: sums of values, squares and products over its days."""

    def __init__(self, values: Floats) -> None:
        self._assets = values.shape[1]
        self._a, self._b = np.triu_indices(self._assets, 1)
        self._each_day = np.concatenate([values, values**2, values[:, self._a] * values[:, self._b]], axis=1)

    def correlations(self, subsets: Floats) -> Floats:
        """(S, pairs) for (S, T) zeros and ones."""
        means = subsets @ self._each_day / subsets.sum(axis=1, keepdims=True)
        first, second = means[:, : self._assets], means[:, self._assets : 2 * self._assets]
        deviations = np.sqrt(np.maximum(second - first**2, 1e-12))
        covariances = means[:, 2 * self._assets :] - first[:, self._a] * first[:, self._b]
        found: Floats = covariances / (deviations[:, self._a] * deviations[:, self._b])
        return found


def _normal_scores(returns: Floats) -> Floats:
    """Each column's ranks as quantiles of the normal law: one wild day weighs no more than any largest day."""
    ranks = returns.argsort(axis=0).argsort(axis=0)
    scores: Floats = ndtri((ranks + 0.5) / returns.shape[0])
    return scores
