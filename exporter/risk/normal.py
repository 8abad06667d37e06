"""Value at risk and expected shortfall of a loss taken to be normal: mean and standard deviation of the sample (ddof 1).

A loss is positive. Refuses nothing; a sample without variance gives minus its mean.
"""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np

from exporter.market import Floats

STANDARD = NormalDist()


def normal_var(mean: float, deviation: float, confidence: float) -> float:
    """Value at risk: mean loss plus z standard deviations.

    Args:
        mean: of the loss, positive is a loss.
        deviation: of the loss, >= 0, same unit.
        confidence: e.g. 0.99.

    Source: A. McNeil, R. Frey, P. Embrechts, Quantitative Risk Management (2005), example 2.14.
    """
    return mean + deviation * STANDARD.inv_cdf(confidence)


def normal_expected_shortfall(mean: float, deviation: float, confidence: float) -> float:
    """Mean loss beyond `normal_var`. Arguments and source as there."""
    return mean + deviation * STANDARD.pdf(STANDARD.inv_cdf(confidence)) / (1.0 - confidence)


def moments(losses: Floats) -> tuple[float, float]:
    """Mean and standard deviation (ddof 1) of (T,) losses, T >= 2; computed on the scale of the largest, so 1e300 is safe."""
    scale = float(np.abs(losses).max())
    if scale == 0.0 or not math.isfinite(scale):
        return 0.0, 0.0 if scale == 0.0 else math.nan
    scaled = losses / scale
    return float(scaled.mean()) * scale, float(scaled.std(ddof=1)) * scale
