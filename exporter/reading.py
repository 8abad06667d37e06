"""Metric families, their samples, and the reading: the immutable result of one cycle, which exposition, detector and
publisher all receive, so they cannot disagree."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Literal, NamedTuple

FamilyType = Literal["gauge", "counter"]


class Sample(NamedTuple):
    """One series and its value. `labels` are the label values in the order of the family's label names."""

    family: Family
    labels: tuple[str, ...]
    value: float


@dataclass(frozen=True, slots=True)
class Family:
    """A metric family: declared once beside the code that computes it.

    Args:
        name: Prometheus name, unit included; a counter ends in `_total`.
        help: one sentence: unit, sign, horizon.
        labels: label names in order.
        type: gauge or counter.
    """

    name: str
    help: str
    labels: tuple[str, ...] = ()
    type: FamilyType = "gauge"

    def sample(self, *labels: str, value: float) -> Sample:
        """One series of this family.

        Raises:
            ValueError: the number of label values is not that of the names: a programming error.
        """
        if len(labels) != len(self.labels):
            raise ValueError(f"{self.name} has the labels {self.labels}, was given {labels}")
        return Sample(self, labels, value)


class Gap(StrEnum):
    """Why a number is undefined: the values of the label `reason` of `desk_analytic_undefined`."""

    INPUT_MISSING = "input_missing"
    """A required source has not delivered yet."""
    INPUT_STALE = "input_stale"
    """A required source's last snapshot is too old."""
    INPUT_REJECTED = "input_rejected"
    """A record it needs could not be read; the log and `/debug/source` name it."""
    PRICE_MISSING = "price_missing"
    RATE_MISSING = "rate_missing"
    """No exchange rate into the base currency."""
    EQUITY_MISSING = "equity_missing"
    """Margined instruments are held and neither equity nor entry prices are known."""
    NAV_NOT_POSITIVE = "nav_not_positive"
    FLAT_BOOK = "flat_book"
    SINGLE_POSITION = "single_position"
    SHORT_HISTORY = "short_history"
    SHORT_SAMPLE = "short_sample"
    ZERO_VARIANCE = "zero_variance"
    BASELINE_ZERO = "baseline_zero"
    OUTSIDE_DOMAIN = "outside_domain"
    """The sample's moments are not those of any law the method knows."""
    UNSUPPORTED_INSTRUMENT = "unsupported_instrument"
    NOT_FINITE = "not_finite"
    FAILED = "failed"
    """The analytic raised; the log has the traceback."""


class Undefined(NamedTuple):
    """A number that has no value now, and why. `subject` names the portfolio or strategy, for a person."""

    analytic: str
    reason: Gap
    subject: str


@dataclass(frozen=True, slots=True)
class Reading:
    """The result of one cycle.

    Args:
        at: wall time of the cycle, UTC.
        samples: finite values only, family by family.
        undefined: what has no value, and why.
        durations_seconds: per analytic.
    """

    at: datetime
    samples: tuple[Sample, ...]
    undefined: tuple[Undefined, ...]
    durations_seconds: Mapping[str, float] = field(default_factory=dict)

    def of(self, family: Family) -> Iterator[Sample]:
        """The samples of one family."""
        return (sample for sample in self.samples if sample.family is family)

    def value(self, family: Family, *labels: str) -> float | None:
        """One series' value, None where it is absent."""
        for sample in self.of(family):
            if sample.labels == labels:
                return sample.value
        return None
