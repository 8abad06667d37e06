"""The exporter's heartbeat: feeds -> desk state -> reading -> page and detector, every `cycle_seconds`. The order stands here.

What takes time runs in a thread. A cycle that fails is logged and counted; the next one goes on, and until one succeeds the
last page grows old (`exporter.exposition`).
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

from deskwatch.clock import Clock, until_set
from deskwatch.errors import Reason, Retryable
from deskwatch.logs import correlated, get_logger
from exporter.analytic import Analytic
from exporter.cardinality import Bound
from exporter.config import ExporterConfig
from exporter.desk import DeskState, Feed, assemble
from exporter.detection.breach import Verdict
from exporter.exposition import Exposition, Page
from exporter.health import Health
from exporter.normalise import Normaliser
from exporter.pipeline import run_cycle
from exporter.reading import Reading, Sample

FIRST_WAIT_SECONDS = 2.0
"""So long the first cycle waits for sources that have not answered yet."""
PATIENCE_SECONDS = 60.0
"""So long a reload waits for a cycle to end; a longer one hangs."""


class Judge(Protocol):
    """What looks at every reading besides the page: the detector."""

    def judge(self, reading: Reading) -> Verdict:
        """What the reading means. Called in a thread, once per reading, in order."""
        ...

    def samples(self) -> list[Sample]:
        """Its own metrics."""
        ...

    def act(self, verdict: Verdict) -> None:
        """See to it that the verdict is reported. Must return at once."""
        ...


class Fed(Protocol):
    """Where the feeds come from: the poller."""

    def feeds(self) -> tuple[Feed, ...]:
        """Every source as the desk sees it now."""
        ...

    def samples(self) -> list[Sample]:
        """The sources' own metrics."""
        ...


@dataclass(frozen=True, slots=True)
class Latest:
    """The last finished cycle."""

    state: DeskState
    reading: Reading


class Cycle:
    """The heartbeat.

    Args:
        config: section `exporter`.
        clock: wall and monotonic time, and waiting.
        poller: where the feeds come from.
        analytics: what is computed.
        exposition: where the page goes.
        detector: judges every reading, and acts once it is published.
        health: metrics of the process itself.
        others: who else has metrics of its own.
    """

    def __init__(
        self,
        config: ExporterConfig,
        clock: Clock,
        poller: Fed,
        analytics: Sequence[Analytic],
        exposition: Exposition,
        detector: Judge,
        health: Health,
        others: Sequence[Callable[[], Iterable[Sample]]] = (),
    ) -> None:
        self._config = config
        self._normaliser = Normaliser(config.sources)
        self._bound = Bound(config.cardinality)
        self._clock = clock
        self._poller = poller
        self._analytics = analytics
        self._exposition = exposition
        self._detector = detector
        self._about_us = (poller.samples, health.samples, detector.samples, *others)
        self._health = health
        self._computing = asyncio.Lock()
        self._hastened = asyncio.Event()
        self._count = 0
        self.latest: Latest | None = None

    async def run(self) -> None:
        """Beat until cancelled."""
        while True:
            begun = self._clock.monotonic()
            self._count += 1
            with correlated(f"cycle-{self._count}"):
                try:
                    await self.once()
                except Exception:
                    self._health.cycle_failures += 1
                    get_logger().exception("the cycle failed; the last reading stands until it is too old")
            await until_set(self._clock, self._hastened, begun + self._config.cycle_seconds - self._clock.monotonic())
            self._hastened.clear()

    @asynccontextmanager
    async def between(self) -> AsyncIterator[None]:
        """What is changed inside changes between two readings: nothing is computed meanwhile.

        Raises:
            Retryable: the cycle hangs; nothing was changed.
        """
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                await self._computing.acquire()
        except TimeoutError:
            raise Retryable("the cycle that is being computed does not end", reason=Reason.TIMEOUT) from None
        try:
            yield
        finally:
            self._computing.release()

    def replace(self, config: ExporterConfig) -> None:
        """Go on by another configuration. To be called inside `between`."""
        self._config, self._bound.config = config, config.cardinality
        self._normaliser = Normaliser(config.sources)

    def hasten(self) -> None:
        """Beat at once: there is something new to say."""
        self._hastened.set()

    async def once(self) -> None:
        """One beat."""
        first = self.latest is None
        async with self._computing:
            feeds = self._poller.feeds()
            about_us = [sample for samples in self._about_us for sample in samples()]
            self.latest, page, verdict = await asyncio.to_thread(self._compute, feeds, about_us)
            self._exposition.publish(page)
            self._detector.act(verdict)
        if first:
            # Everything loaded so far stays for good: the collector need not look at it again.
            gc.collect()
            gc.freeze()

    def _compute(self, feeds: tuple[Feed, ...], about_us: Sequence[Sample]) -> tuple[Latest, Page, Verdict]:
        previous = self.latest.state if self.latest else None
        state = assemble(self._clock.now(), self._config, self._normaliser.normalise(feeds), previous)
        reading = run_cycle(state, self._analytics)
        page = self._exposition.render(self._bound.apply([*reading.samples, *about_us]))
        return Latest(state, reading), page, self._detector.judge(reading)
