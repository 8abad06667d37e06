"""The contract of an analytic: a module in `exporter.analytics` with `METRICS` and a pure function `compute`.

`compute(state)` yields a `Sample` for every number that is defined and an `Undefined` for every one that is not; it does no
I/O, keeps nothing between calls, and never yields 0 or NaN for "unknown". `exporter.pipeline` times it and shields the cycle
from what it raises.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import TypeAlias, cast

from deskwatch.plugins import Room
from exporter.book import Book
from exporter.desk import DeskState
from exporter.reading import Family, Gap, Sample, Undefined

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


def per_book(state: DeskState, analytic: str, compute: Callable[[Book], Iterable[Result]]) -> Iterator[Result]:
    """`compute` of every portfolio; one that cannot be valued is undefined, for the reason it has no book."""
    for portfolio, book in state.books.items():
        if isinstance(book, Gap):
            yield Undefined(analytic, book, portfolio)
        else:
            yield from compute(book)
