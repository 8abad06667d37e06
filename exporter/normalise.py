"""The desk's own names: what each source calls a symbol becomes what the desk calls it, in every kind of record.

By configuration (`rename` of the source) and by the desk's own table (records of kind `aliases`); configuration wins. A source
whose names come from a table that has not been read yet is taken as not yet heard: a symbol under two names would be two.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

from exporter.desk import Feed
from exporter.snapshot import Alias, History, Kind, Snapshot
from exporter.source import SourceConfig

NAMED: tuple[Kind, ...] = ("instruments", "positions", "prices", "quotes", "histories", "fills", "orders", "signals")
"""Kinds of records that carry a symbol."""
RecordT = TypeVar("RecordT")


@dataclass(slots=True)
class _Done:
    """One feed's renaming: what it was made of, and what came of it."""

    names: Mapping[str, str]
    snapshot: Snapshot | None
    renamed: Snapshot | None
    histories: dict[int, tuple[History, History]]


class Normaliser:
    """Renames feeds, and gives back the same objects while what they were made of is the same.

    Args:
        sources: their configuration.
    """

    def __init__(self, sources: Iterable[SourceConfig]) -> None:
        self._renames = {source.name: dict(source.rename) for source in sources}
        self._done: dict[str, _Done] = {}

    def normalise(self, feeds: Iterable[Feed]) -> tuple[Feed, ...]:
        """Every feed in the desk's names."""
        given = tuple(feeds)
        aliases = [alias for feed in given if feed.snapshot for alias in feed.snapshot.aliases]
        if any("aliases" in feed.provides and feed.snapshot is None for feed in given):
            given = tuple(feed if "aliases" in feed.provides else replace(feed, snapshot=None, kept=None) for feed in given)
        return tuple(self._one(feed, aliases) for feed in given)

    def _one(self, feed: Feed, aliases: Iterable[Alias]) -> Feed:
        names = {alias.venue_symbol: alias.symbol for alias in aliases if alias.source == feed.source}
        names |= self._renames.get(feed.source, {})
        if not names:
            return feed
        done = self._done.get(feed.source)
        if done is None or done.names != names:
            done = self._done[feed.source] = _Done(names, None, None, {})
        if feed.snapshot is not done.snapshot:
            done.snapshot, done.renamed = feed.snapshot, feed.snapshot and _renamed(feed.snapshot, done)
        kept = None if feed.kept is None else tuple(_history(history, done) for history in feed.kept)
        alive = {id(history) for history in (*(feed.kept or ()), *(feed.snapshot.histories if feed.snapshot else ()))}
        done.histories = {key: pair for key, pair in done.histories.items() if key in alive}
        before = None if feed.before is None else frozenset(names.get(symbol, symbol) for symbol in feed.before)
        return replace(feed, snapshot=done.renamed, kept=kept, before=before)


def _renamed(snapshot: Snapshot, done: _Done) -> Snapshot:
    changed: dict[str, Any] = {
        kind: tuple(_record(record, done.names) for record in getattr(snapshot, kind)) for kind in NAMED if kind != "histories"
    }
    return replace(snapshot, histories=tuple(_history(history, done) for history in snapshot.histories), **changed)


def _record(record: RecordT, names: Mapping[str, str]) -> RecordT:
    symbol = record.symbol  # type: ignore[attr-defined]
    return replace(record, symbol=names[symbol]) if symbol in names else record  # type: ignore[type-var]


def _history(history: History, done: _Done) -> History:
    """The same new object for the same old one: what is aligned is not aligned again."""
    if history.symbol not in done.names:
        return history
    known = done.histories.get(id(history))
    if known is None or known[0] is not history:
        known = done.histories[id(history)] = (history, replace(history, symbol=done.names[history.symbol]))
    return known[1]


assert {field.name for field in fields(Snapshot)} >= set(NAMED)  # noqa: S101 - a kind renamed in one place only
