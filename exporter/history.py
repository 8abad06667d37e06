"""Daily bars kept from fetch to fetch and from process to process, so that a venue is asked for each day once.

Also remembers when each source was last heard and which symbols it prices: after a restart without the venue its numbers are
late (`input_stale`), not unknown. Bars are adjusted prices: where the venue has adjusted the past since, what is kept is
rescaled at once and fetched whole the next time. Asks no venue; loses nothing but work when its file is lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np

from deskwatch.clock import Clock, from_microseconds, to_microseconds
from deskwatch.errors import StoreUnavailable
from deskwatch.logs import get_logger
from deskwatch.store import Migration, Statement, Store, Work
from deskwatch.store.sqlite import SqliteStore
from exporter.reading import Family, Sample
from exporter.snapshot import History, Snapshot
from exporter.source import Kept, SourceConfig

FILE = "history.db"
SAME_RATIO = 1e-9
"""Two closes of one day closer than this are one close."""
STALE_AFTER = timedelta(days=7)
"""Age of the newest bar from which the bars are no basis for a number: longer than any exchange's holidays but one or two."""
HEARD_EVERY = timedelta(minutes=1)
"""How often the time of the last success is written: a restart knows it to the minute."""

SYMBOLS = Family("desk_price_history_symbols", "Symbols whose daily bars are kept, by source", ("source",))
NEWEST = Family(
    "desk_price_history_newest_timestamp_seconds",
    "Start of the newest day, UTC, of the kept daily bars of a source, Unix time",
    ("source",),
)
METRICS = (SYMBOLS, NEWEST)
_DAYS, _CLOSES = np.dtype("<i4"), np.dtype("<f8")
"""How a history stands in the file: days since 1970, and closes."""

_MIGRATIONS = (
    Migration(
        1,
        (
            """CREATE TABLE sources (source TEXT PRIMARY KEY, type TEXT NOT NULL, heard_at INTEGER NOT NULL,
               priced TEXT NOT NULL)""",
            """CREATE TABLE histories (source TEXT NOT NULL, symbol TEXT NOT NULL, currency TEXT NOT NULL, days BLOB NOT NULL,
               closes BLOB NOT NULL, PRIMARY KEY (source, symbol)) WITHOUT ROWID""",
        ),
    ),
)


class Keeper(Protocol):
    """Keeps the daily bars of the sources that want it, and when each source last delivered."""

    def kept(self, source: str) -> Kept:
        """What to tell the source at its next fetch."""
        ...

    async def keep(self, source: str, snapshot: Snapshot, *, bars: bool = True) -> None:
        """Merge a good fetch, its daily bars too unless they are not kept, durably. Never raises: what fails is logged."""
        ...

    def bars(self, source: str) -> tuple[History, ...]:
        """Everything kept of the source; the same objects while nothing changed."""
        ...

    def is_stale(self, source: str) -> bool:
        """Whether the newest bar kept of the source is too old to be used."""
        ...

    def before(self, source: str) -> frozenset[str] | None:
        """The symbols the source priced when last heard, in this process or an earlier one; None where it never was."""
        ...


@dataclass(slots=True)
class _Of:
    """What is kept of one source. Written by the keeper only."""

    type: str
    histories: dict[str, History] = field(default_factory=dict)
    bars: tuple[History, ...] = ()
    """The histories' values: the same tuple while nothing changed."""
    heard_at: datetime | None = None
    written_at: datetime | None = None
    priced: frozenset[str] = frozenset()
    delivered: tuple[History, ...] | None = None
    """The last fetch's own histories: the same tuple brings nothing new."""
    readjusted: set[str] = field(default_factory=set)
    """Symbols whose past the venue has adjusted: they are fetched whole."""
    unsaved: set[str] = field(default_factory=set)
    """Symbols that are not on disk as they are here."""


class PriceHistory:
    """The keeper with a file. Open it with `PriceHistory.open`, then tell it the sources: `know`."""

    def __init__(self, store: Store, clock: Clock, kept: Mapping[str, _Of]) -> None:
        self._store = store
        self._clock = clock
        self._kept = dict(kept)
        self._failing = False

    @classmethod
    async def open(cls, folder: Path, clock: Clock) -> Self:
        """Open or create it. A damaged file is set aside: everything in it can be fetched again.

        Raises:
            ConfigError: another exporter uses the folder, or it cannot be written.
            StoreUnavailable: neither the file nor a new one can be opened.
        """
        store, kept = None, {}
        try:
            store = await SqliteStore.open(folder / FILE, _MIGRATIONS)
            kept = await store.read(_everything())
        except (StoreUnavailable, _Damaged) as error:
            if store is not None:
                await store.close()
            aside = f"{FILE}.damaged-{clock.now():%Y%m%dT%H%M%SZ}"
            get_logger().error("the kept price history cannot be read; it is set aside", error=str(error), aside=aside)
            _set_aside(folder / FILE, folder / aside)
            store = await SqliteStore.open(folder / FILE, _MIGRATIONS)
        return cls(store, clock, kept)

    def know(self, sources: Iterable[SourceConfig]) -> None:
        """The sources there are now. What was kept under a name of a source of another type is not its."""
        for source in sources:
            kept = self._kept.get(source.name)
            if kept is None or kept.type != source.type:
                self._kept[source.name] = _Of(source.type)

    def kept(self, source: str) -> Kept:
        """What to tell the source at its next fetch; a readjusted symbol is left out, so that it is fetched whole."""
        kept = self._kept[source]
        offered = {symbol: history for symbol, history in kept.histories.items() if symbol not in kept.readjusted}
        return Kept(kept.heard_at, offered)

    def bars(self, source: str) -> tuple[History, ...]:
        """Everything kept of the source; the same objects while nothing changed."""
        return self._kept[source].bars

    def is_stale(self, source: str) -> bool:
        """Whether the newest bar kept of the source is older than `STALE_AFTER`."""
        newest = _newest(self._kept[source].bars)
        return newest is None or self._clock.now() - newest > STALE_AFTER

    def before(self, source: str) -> frozenset[str] | None:
        """The symbols the source priced when last heard, in this process or an earlier one; None where it never was."""
        kept = self._kept[source]
        return None if kept.heard_at is None else kept.priced

    def samples(self) -> list[Sample]:
        """The families `METRICS` as of now."""
        found = []
        for name, kept in self._kept.items():
            if (newest := _newest(kept.bars)) is not None:
                found += [
                    SYMBOLS.sample(name, value=float(len(kept.bars))),
                    NEWEST.sample(name, value=newest.timestamp()),
                ]
        return found

    async def keep(self, source: str, snapshot: Snapshot, *, bars: bool = True) -> None:
        """Merge a good fetch into what is kept, durably. Never raises: what cannot be written is logged and tried again.

        Args:
            source: its name.
            snapshot: what it delivered.
            bars: whether its daily bars are kept too, not just when it was heard and what it prices.
        """
        kept = self._kept[source]
        kept.heard_at = self._clock.now()
        kept.priced = frozenset(
            [price.symbol for price in snapshot.prices] + ([] if bars else [each.symbol for each in snapshot.histories])
        )
        if bars and snapshot.histories and snapshot.histories is not kept.delivered:
            await asyncio.to_thread(_merge_all, kept, snapshot.histories)
        kept.delivered = snapshot.histories
        if kept.unsaved or kept.written_at is None or kept.heard_at - kept.written_at >= HEARD_EVERY:
            await self._write(source, kept)

    async def close(self) -> None:
        """Close the file."""
        await self._store.close()

    async def _write(self, source: str, kept: _Of) -> None:
        symbols = tuple(kept.unsaved)
        rows = [_row(source, kept.histories[symbol]) for symbol in symbols]
        assert kept.heard_at is not None  # noqa: S101 - set by the caller
        heard = (source, kept.type, to_microseconds(kept.heard_at), json.dumps(sorted(kept.priced)))
        try:
            await self._store.write(_save(heard, rows))
        except StoreUnavailable as error:
            if not self._failing:
                get_logger().error("price history cannot be written; it is kept in memory", error=str(error))
            self._failing = True
            return
        self._failing = False
        kept.written_at = kept.heard_at
        kept.unsaved.difference_update(symbols)


class _Damaged(Exception):
    """A row is not what was written."""


def _merge_all(kept: _Of, fetched: Iterable[History]) -> None:
    for history in fetched:
        known = kept.histories.get(history.symbol)
        whole = known is None or known.currency != history.currency or history.symbol in kept.readjusted
        merged, readjusted = merge(known, history)
        if whole:
            kept.readjusted.discard(history.symbol)
        if merged is known:
            continue
        kept.histories[history.symbol] = merged
        kept.unsaved.add(history.symbol)
        if readjusted and not whole:
            get_logger().info("the venue has adjusted the past; daily bars are fetched whole", symbol=history.symbol)
            kept.readjusted.add(history.symbol)
    kept.bars = tuple(kept.histories.values())


def merge(known: History | None, fetched: History) -> tuple[History, bool]:
    """What is known of a symbol and what was fetched of it, together.

    Within its first and last day what was fetched counts. Days known before it are kept, and rescaled where the first day both
    have shows another close: the venue has adjusted the past, for a split or a dividend, by that factor.

    Returns:
        The history, the same object where nothing changed, and whether the past was adjusted.
    """
    if known is None or known.currency != fetched.currency or not fetched.days.size:
        return (known if known is not None and not fetched.days.size else fetched), False
    both, at_known, at_fetched = np.intersect1d(known.days, fetched.days, assume_unique=True, return_indices=True)
    with np.errstate(all="ignore"):
        ratios = fetched.closes[at_fetched] / known.closes[at_known]
        adjusted = bool((np.abs(ratios - 1.0) > SAME_RATIO).any())
    factor = float(ratios[0]) if both.size and 0.0 < ratios[0] < np.inf else 1.0
    older, newer = known.days < fetched.days[0], known.days > fetched.days[-1]
    if not adjusted and both.size == fetched.days.size == int((~older & ~newer).sum()):
        return known, False
    days = np.concatenate([known.days[older], fetched.days, known.days[newer]])
    closes = np.concatenate([known.closes[older] * factor, fetched.closes, known.closes[newer]])
    days.setflags(write=False)
    closes.setflags(write=False)
    return History(known.symbol, known.currency, days, closes), adjusted


def _newest(bars: Iterable[History]) -> datetime | None:
    days = [history.days[-1] for history in bars if history.days.size]
    return datetime.combine(max(days).astype(date), time(), UTC) if days else None


def _everything() -> Work[dict[str, _Of]]:
    sources = yield Statement("SELECT source, type, heard_at, priced FROM sources")
    rows = yield Statement("SELECT source, symbol, currency, days, closes FROM histories ORDER BY source, symbol")
    kept = {
        row["source"]: _Of(
            row["type"], heard_at=from_microseconds(row["heard_at"]), priced=frozenset(json.loads(row["priced"]))
        )
        for row in sources
    }
    for row in rows:
        days, closes = np.frombuffer(row["days"], _DAYS), np.frombuffer(row["closes"], _CLOSES)
        if days.size != closes.size or row["source"] not in kept:
            raise _Damaged(f"the bars of {row['symbol']} of {row['source']} do not fit together")
        history = History(row["symbol"], row["currency"], days.astype("datetime64[D]"), closes.astype(np.float64))
        kept[row["source"]].histories[row["symbol"]] = history
    for of in kept.values():
        of.bars = tuple(of.histories.values())
    return kept


def _row(source: str, history: History) -> tuple[str, str, str, bytes, bytes]:
    days = history.days.astype("datetime64[D]").astype(_DAYS)
    return source, history.symbol, history.currency, days.tobytes(), history.closes.astype(_CLOSES).tobytes()


def _save(heard: Sequence[Any], rows: Iterable[Sequence[Any]]) -> Work[None]:
    yield Statement("INSERT OR REPLACE INTO sources (source, type, heard_at, priced) VALUES (?, ?, ?, ?)", heard)
    for row in rows:
        yield Statement("INSERT OR REPLACE INTO histories (source, symbol, currency, days, closes) VALUES (?, ?, ?, ?, ?)", row)


def _set_aside(path: Path, aside: Path) -> None:
    """Move the file and what SQLite keeps beside it."""
    for suffix in ("", "-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            path.with_name(path.name + suffix).rename(aside.with_name(aside.name + suffix))
