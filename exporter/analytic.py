"""The contract of an analytic: a module in `exporter.analytics` with `METRICS` and a pure function `compute`.

`compute(state)` yields a `Sample` for every number that is defined and an `Undefined` for every one that is not; it does no
I/O, keeps nothing between calls, and never yields 0 or NaN for "unknown". `exporter.pipeline` times it and shields the cycle
from what it raises.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import ModuleType
from typing import TypeAlias, cast

from deskwatch.plugins import Room
from exporter.desk import DeskState
from exporter.reading import Family, Sample, Undefined

Result: TypeAlias = Sample | Undefined
Compute: TypeAlias = Callable[[DeskState], Iterable[Result]]


@dataclass(frozen=True, slots=True)
class Analytic:
    """One subject: its name, its families and its function."""

    name: str
    metrics: tuple[Family, ...]
    compute: Compute


ANALYTICS: Room[object] = Room("exporter.analytics", "deskwatch.analytics", object)


def load_analytics() -> tuple[Analytic, ...]:
    """Every analytic found, sorted by name."""
    return tuple(_from_module(name, ANALYTICS.module(name)) for name in ANALYTICS.modules)


def _from_module(name: str, module: ModuleType) -> Analytic:
    return Analytic(name, tuple(module.METRICS), cast("Compute", module.compute))
