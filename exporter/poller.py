"""Fetches every source in the background: the only caller of `Source.fetch`.

One task per source, so that one that hangs or fails holds up no other: interval with jitter, deadline, back-off and breaker
(`exporter.schedule`, `exporter.breaker`), never two fetches of one source at a time. Keeps each source's last good snapshot;
how old that is, is measured by the monotonic clock, which no operator and no NTP sets back.
"""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import Iterable, Sequence
from typing import Any

from deskwatch.clock import Clock, until_set
from deskwatch.errors import Reason, Retryable
from deskwatch.logs import correlated, get_logger
from exporter.desk import Feed
from exporter.failure import failure_of
from exporter.history import Keeper
from exporter.reading import Sample
from exporter.snapshot import Snapshot
from exporter.source import Kept, Source
from exporter.succession import same_data
from exporter.tracked import METRICS, Tracked

__all__ = ["METRICS", "Poller", "Tracked"]

CANCEL_SECONDS = 1.0
"""How long a fetch past its deadline may take to end; a longer one still blocks the next fetch of its source."""
EARLY_SECONDS = 1e-9
"""A fetch may begin so much before it is due: what adding floats costs."""


class Poller:
    """The background fetching of all sources.

    Args:
        sources: in the order of the configuration.
        clock: wall and monotonic time, and waiting.
        chance: jitter.
        keeper: keeps daily bars and times of success from process to process, knows every source; None: nothing is kept.
    """

    def __init__(
        self,
        sources: Sequence[Source[Any]],
        clock: Clock,
        chance: random.Random | None = None,
        *,
        keeper: Keeper | None = None,
    ) -> None:
        self._clock = clock
        self._chance = chance or random.Random()  # noqa: S311 - spreads fetches, guards nothing
        self._keeper = keeper
        self._tried = asyncio.Event()
        self._group: asyncio.TaskGroup | None = None
        self._endings: set[asyncio.Task[None]] = set()
        self.sources = {source.config.name: self._track(source) for source in sources}

    async def run(self) -> None:
        """Fetch until cancelled, then close every source."""
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                for tracked in self.sources.values():
                    self._start(tracked)
                await asyncio.get_running_loop().create_future()  # whatever comes and goes, the group stays
        finally:
            self._group = None
            await asyncio.gather(*self._endings, *(self._retire(tracked) for tracked in self.sources.values()))

    async def all_tried(self) -> None:
        """Return once every source has been fetched, successfully or not, for the first time."""
        await self._tried.wait()

    async def replace(self, sources: Sequence[Source[Any]]) -> None:
        """Go on with another set of sources, before `run` or during it.

        Everything `feeds`, `samples` and `sources` show changes in one step, before this coroutine first waits: what the
        caller changes right before `await poller.replace(...)` - the configuration of the cycle - changes in the same instant.
        It returns when the sources that went have ended and are closed, each within `CANCEL_SECONDS` twice.

        A source whose configuration is equal goes on undisturbed, task, snapshot and connections, and the new object is
        closed unopened; if its breaker is open it is tried at once, unless the venue asked for a longer wait. Of the others,
        the old fetch is cancelled and the old object closed, then the new one is fetched at once. Counts go on under the same
        name. Where only credentials or the manner of fetching changed (`exporter.succession`), the last good snapshot stays
        until it is stale, so that a rotation leaves no gap.

        Args:
            sources: the whole new set, not yet opened, in the order of the configuration; names are unique.
        """
        before, now = self.sources, self._clock.monotonic()
        unused: list[Source[Any]] = []
        replaced: dict[str, Tracked] = {}
        for source in sources:
            old = before.get(source.config.name)
            if old is not None and old.config == source.config:
                replaced[old.name] = old
                unused.append(source)
                if old.breaker.tripped:
                    old.schedule.hasten(now)
                    old.moved.set()
            else:
                replaced[source.config.name] = self._track(source, old)
        self.sources = replaced
        gone = {name: self._end_later(old) for name, old in before.items() if replaced.get(name) is not old}
        for name, tracked in replaced.items():
            if before.get(name) is not tracked:
                self._start(tracked, after=gone.get(name))
        self._note_tried()
        await asyncio.gather(*gone.values(), *(self._close(source) for source in unused))

    async def inspect(self, name: str) -> Tracked:
        """Fetch one source now, outside its turn and whether or not its breaker is open; what is known of it afterwards.

        Raises:
            KeyError: no such source.
        """
        while True:
            tracked = self.sources[name]
            async with tracked.busy:
                if self.sources.get(name) is tracked:  # it may have been replaced while another fetch of it ran
                    await self._fetch(tracked, in_turn=False)
                    return tracked

    def feeds(self) -> tuple[Feed, ...]:
        """Every source as the desk sees it now."""
        now = self._clock.monotonic()
        return tuple(self._feed(tracked, now) for tracked in self.sources.values())

    def samples(self) -> list[Sample]:
        """The families `METRICS` as of now."""
        return [sample for tracked in self.sources.values() for sample in tracked.samples()]

    def _feed(self, tracked: Tracked, now: float) -> Feed:
        keeper, keeps = self._keeper, tracked.source.keeps_histories
        return Feed(
            source=tracked.name,
            kind=tracked.source.kind,
            provides=frozenset(tracked.source.provides),
            snapshot=tracked.snapshot,
            stale=tracked.is_stale(now),
            kept=keeper.bars(tracked.name) if keeper and keeps else None,
            kept_stale=keeper.is_stale(tracked.name) if keeper and keeps else False,
            before=keeper.before(tracked.name) if keeper else None,
        )

    def _track(self, source: Source[Any], before: Tracked | None = None) -> Tracked:
        tracked = Tracked(source, self._clock.monotonic(), self._chance)
        if self._keeper is not None:
            tracked.succeeded_at = self._keeper.kept(tracked.name).succeeded_at
        if before is not None:
            tracked.inherit(before, snapshot=same_data(before.config, source.config))
        return tracked

    def _start(self, tracked: Tracked, after: asyncio.Task[None] | None = None) -> None:
        if self._group is not None:
            tracked.task = self._group.create_task(self._keep_fetching(tracked, after), name=f"source {tracked.name}")

    async def _keep_fetching(self, tracked: Tracked, after: asyncio.Task[None] | None) -> None:
        if after is not None:
            await asyncio.wait({after})
        while True:
            await self._until_due(tracked)
            async with tracked.busy:
                if tracked.schedule.due - self._clock.monotonic() > EARLY_SECONDS:
                    continue  # while it waited for an operator's fetch, that one found a reason to wait longer
                await self._fetch(tracked, in_turn=True)
            tracked.tried = True
            self._note_tried()

    def _note_tried(self) -> None:
        if all(each.tried for each in self.sources.values()):
            self._tried.set()

    async def _until_due(self, tracked: Tracked) -> None:
        """Wait for the source's turn, which may be moved meanwhile."""
        await asyncio.sleep(0)
        while (left := tracked.schedule.due - self._clock.monotonic()) > EARLY_SECONDS:
            tracked.moved.clear()
            await until_set(self._clock, tracked.moved, left)

    async def _fetch(self, tracked: Tracked, *, in_turn: bool) -> None:
        """One fetch within its deadline; its outcome is kept."""
        with correlated(f"fetch-{tracked.name}-{secrets.token_hex(4)}"):
            begun = self._clock.monotonic()
            tracked.begin(begun, in_turn=in_turn)
            try:
                snapshot = await self._within_deadline(tracked)
            except Exception as error:
                self._failed(tracked, error, begun)
            else:
                tracked.succeeded(snapshot, self._clock.now(), begun, self._clock.monotonic(), in_turn=in_turn)
                await self._keep(tracked, snapshot)
            finally:
                tracked.moved.set()

    def _failed(self, tracked: Tracked, error: Exception, begun: float) -> None:
        failure = failure_of(error)
        if tracked.is_news(failure):
            if failure.unforeseen:
                get_logger().error("a source failed in an unforeseen way", source=tracked.name, exc_info=error)
            get_logger().warning("source failed", source=tracked.name, reason=failure.reason.value, error=failure.message)
        tripped = tracked.breaker.tripped
        tracked.failed(failure, begun, self._clock.monotonic())
        if tracked.breaker.tripped and not tripped:
            wait = round(tracked.schedule.due - self._clock.monotonic(), 3)
            get_logger().warning(
                "source keeps failing and is left alone", source=tracked.name, failures=tracked.breaker.failures, seconds=wait
            )

    async def _within_deadline(self, tracked: Tracked) -> Snapshot:
        """The snapshot, or Retryable with reason `timeout`."""
        seconds = tracked.config.timeout_seconds
        fetching = tracked.fetching = asyncio.create_task(self._ask(tracked))
        deadline = asyncio.ensure_future(self._clock.sleep(seconds))
        try:
            await asyncio.wait({fetching, deadline}, return_when=asyncio.FIRST_COMPLETED)
            if not fetching.done():
                await self._end(tracked, fetching)
                raise Retryable(f"no answer within timeout_seconds ({seconds:g})", reason=Reason.TIMEOUT)
        except asyncio.CancelledError:
            await _cancel(fetching)
            raise
        finally:
            tracked.fetching = None
            deadline.cancel()
        if fetching.cancelled():
            raise Retryable("the fetch cancelled itself", reason=Reason.INTERNAL)
        return fetching.result()

    async def _ask(self, tracked: Tracked) -> Snapshot:
        kept = self._keeper.kept(tracked.name) if self._keeper else Kept(tracked.succeeded_at)
        snapshot = await tracked.source.fetch(kept)
        if not isinstance(snapshot, Snapshot):
            raise TypeError(f"{type(tracked.source).__name__}.fetch must return a Snapshot, was {type(snapshot).__name__}")
        return snapshot

    async def _end(self, tracked: Tracked, fetching: asyncio.Task[Snapshot]) -> None:
        """Cancel a fetch and wait until it has ended: there are never two of one source."""
        await _cancel(fetching)
        if not fetching.done():
            get_logger().error("a fetch past its deadline does not end; its source waits for it", source=tracked.name)
            tracked.down("a fetch past its deadline does not end")
            begun = self._clock.monotonic()
            await asyncio.wait({fetching})
            late = round(self._clock.monotonic() - begun + CANCEL_SECONDS, 3)
            get_logger().warning("a fetch past its deadline has ended", source=tracked.name, late_seconds=late)

    async def _keep(self, tracked: Tracked, snapshot: Snapshot) -> None:
        """Have the bars and the time of success kept; the snapshot counts whether or not that works."""
        if self._keeper is None:
            return
        try:
            await self._keeper.keep(tracked.name, snapshot, bars=tracked.source.keeps_histories)
        except Exception:
            get_logger().exception("what a source delivered cannot be kept", source=tracked.name)

    def _end_later(self, tracked: Tracked) -> asyncio.Task[None]:
        ending = asyncio.ensure_future(self._retire(tracked))
        self._endings.add(ending)
        ending.add_done_callback(self._endings.discard)
        return ending

    async def _retire(self, tracked: Tracked) -> None:
        """End what a source is doing, then close it. Fetches that do not end do not hold this up for ever."""
        running: Iterable[asyncio.Task[Any] | None] = (tracked.task, tracked.fetching)
        ending = {each for each in running if each is not None and not each.done()}
        for each in ending:
            if not each.cancelling():
                each.cancel()
        if ending:
            # Twice: the task itself waits so long for its fetch.
            _, left = await asyncio.wait(ending, timeout=2 * CANCEL_SECONDS)
            if left:
                get_logger().error("a fetch does not end; its source is closed all the same", source=tracked.name)
        await self._close(tracked.source)

    async def _close(self, source: Source[Any]) -> None:
        try:
            async with asyncio.timeout(CANCEL_SECONDS):
                await source.close()
        except Exception:
            get_logger().exception("a source could not be closed", source=source.config.name)


async def _cancel(fetching: asyncio.Task[Snapshot]) -> None:
    """Once: a second one would cut off what the fetch still has to close."""
    if not fetching.cancelling():
        fetching.cancel()
    await asyncio.wait({fetching}, timeout=CANCEL_SECONDS)
    if fetching.done() and not fetching.cancelled():
        fetching.exception()  # seen: what a cancelled fetch raises interests nobody
