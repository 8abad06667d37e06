"""Looks at the exporter it runs in: a source whose measures are the process's own memory, tasks, sockets and files.

A plug-in, so that the process that is looked at is the real one, unchanged but for a count of its cycles.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import os
import threading
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Literal

from deskwatch.clock import Clock
from exporter.reading import Family
from exporter.snapshot import Kind, Snapshot
from exporter.source import Kept, Source, SourceConfig

NAME = "probe"
CYCLES = Family("soak_cycles", "Cycles finished")
MEMORY = Family("soak_resident_bytes", "Resident memory after a garbage collection")
OBJECTS = Family("soak_objects", "Objects the garbage collector follows, after a collection")
TASKS = Family("soak_tasks", "Tasks of the event loop")
SOCKETS = Family("soak_sockets", "Open sockets")
FILES = Family("soak_files", "Open file descriptors, sockets included")
THREADS = Family("soak_threads", "Threads")
FAMILIES = (CYCLES, MEMORY, OBJECTS, TASKS, SOCKETS, FILES, THREADS)

_cycles = itertools.count(1)
_finished = 0


def _count_cycles() -> None:
    """From now on. The configuration needs this module, and the cycle needs the configuration: hence not at the top."""
    from exporter.cycle import Cycle

    if Cycle.once.__module__ == __name__:
        return
    once = Cycle.once

    async def counted(cycle: Cycle) -> None:
        global _finished
        await once(cycle)
        _finished = next(_cycles)

    Cycle.once = counted  # type: ignore[method-assign]


class Config(SourceConfig):
    """The process itself."""

    type: Literal["probe"]


class ProbeSource(Source[Config]):
    """The process itself."""

    kind = "infrastructure"
    metrics = FAMILIES

    def __init__(self, config: Config, clock: Clock) -> None:
        super().__init__(config, clock)
        _count_cycles()

    @property
    def provides(self) -> AbstractSet[Kind]:
        """Measures."""
        return frozenset({"measures"})

    async def fetch(self, kept: Kept) -> Snapshot:
        """Collect garbage, then look."""
        gc.collect()
        values = (
            _finished, _resident_bytes(), len(gc.get_objects()), len(asyncio.all_tasks()), *_descriptors(),
            threading.active_count(),
        )  # fmt: skip
        samples = (family.sample(value=float(value)) for family, value in zip(FAMILIES, values, strict=True))
        return Snapshot(self.clock.now(), measures=tuple(samples))


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _descriptors() -> tuple[int, int]:
    """Sockets, and all."""
    kinds = []
    for each in Path("/proc/self/fd").iterdir():
        try:
            kinds.append(each.readlink().name)
        except OSError:  # the folder's own, closed by now
            continue
    return sum(kind.startswith("socket:") for kind in kinds), len(kinds)
