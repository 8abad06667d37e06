"""The desk state: the last good snapshots of all sources and what follows from them - market, books, staleness.

Immutable; `assemble` makes the next one from the sources' feeds, `with_trades` one that never happened (what-if). A required
source that is missing or stale makes what depends on it undefined: a book with one venue missing is not a smaller book.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from typing import Any

import numpy as np

from exporter.book import Book, Holdings, Trade, Valuation, build_book
from exporter.config import ExporterConfig, PortfolioConfig
from exporter.market import Market, align, newest
from exporter.reading import Gap
from exporter.snapshot import Account, Kind, Position, Rejected, Snapshot


@dataclass(frozen=True, slots=True)
class Feed:
    """One source as the desk sees it.

    Args:
        source: its name.
        kind: `database`, `broker`, `exchange`, `reference`.
        provides: the kinds of records it delivers.
        snapshot: the last good one, None before the first.
        stale: whether that is older than the source's `stale_after_seconds`.
    """

    source: str
    kind: str
    provides: frozenset[Kind]
    snapshot: Snapshot | None
    stale: bool


@dataclass(frozen=True)
class DeskState:
    """Everything analytics may know.

    Args:
        at: wall time of the cycle, UTC.
        config: portfolios, limits, statistics.
        feeds: one per source, in the order of the configuration.
        trades: proposed trades, for a state that never happened.
        previous: the state before, whose unchanged parts are kept. None on the first.
    """

    at: datetime
    config: ExporterConfig
    feeds: tuple[Feed, ...]
    trades: tuple[Trade, ...] = ()
    previous: DeskState | None = None

    def gather(self, kind: Kind, sources: Iterable[str] = ()) -> tuple[Any, ...] | Gap:
        """All records of one kind, or why they are not all there.

        Args:
            kind: which records.
            sources: only these sources; all that provide the kind by default.
        """
        names = set(sources)
        feeds = [feed for feed in self.feeds if kind in feed.provides and (not names or feed.source in names)]
        if any(feed.snapshot is None for feed in feeds):
            return Gap.INPUT_MISSING
        if any(feed.stale for feed in feeds):
            return Gap.INPUT_STALE
        return tuple(record for feed in feeds if feed.snapshot for record in getattr(feed.snapshot, kind))

    @cached_property
    def market(self) -> Market | Gap:
        """Prices and rates from every source that provides them."""
        histories, prices, terms = self.gather("histories"), self.gather("prices"), self.gather("instruments")
        for part in (histories, prices, terms):
            if isinstance(part, Gap):
                return part
        assert not isinstance(histories, Gap) and not isinstance(prices, Gap) and not isinstance(terms, Gap)  # noqa: S101, PT018
        known = self._previous_market(histories)
        closes = known.closes if known else align(histories)
        return Market(closes, newest(prices), {each.symbol: each for each in terms})

    def _previous_market(self, histories: Sequence[Any]) -> Market | None:
        """The market before, where not one history has been fetched anew."""
        if self.previous is None or isinstance(self.previous.market, Gap):
            return None
        before = self.previous.gather("histories")
        same = not isinstance(before, Gap) and len(before) == len(histories)
        if same and all(one is other for one, other in zip(before, histories, strict=True)):
            return self.previous.market
        return None

    @cached_property
    def books(self) -> Mapping[str, Book | Gap]:
        """Every portfolio valued, by name in the order of the configuration, or why it is not."""
        return {portfolio.name: self._book(portfolio) for portfolio in self.config.portfolios}

    def _book(self, portfolio: PortfolioConfig) -> Book | Gap:
        if isinstance(self.market, Gap):
            return self.market
        members = [each for each in self.config.portfolios if each.name in (portfolio.members or (portfolio.name,))]
        parts = [self._holdings(member) for member in members]
        for part in parts:
            if isinstance(part, Gap):
                return part
        known = [part for part in parts if isinstance(part, Holdings)]
        before = self.previous.books.get(portfolio.name) if self.previous else None
        return build_book(
            Valuation(portfolio.name, portfolio.base_currency, self.config.risk.window_days, self.config.sectors),
            Holdings(
                positions=tuple(position for part in known for position in part.positions),
                accounts=tuple(account for part in known for account in part.accounts),
                trades=tuple(trade for part in known for trade in part.trades),
                cash_known=all(part.cash_known for part in known),
            ),
            self.market,
            before if isinstance(before, Book) else None,
        )

    def _holdings(self, portfolio: PortfolioConfig) -> Holdings | Gap:
        positions = self.gather("positions", portfolio.sources)
        accounts = self.gather("accounts", portfolio.sources)
        if isinstance(positions, Gap):
            return positions
        if isinstance(accounts, Gap):
            return accounts
        own: tuple[Account, ...] = tuple(each for each in accounts if each.portfolio == portfolio.name)
        held: tuple[Position, ...] = tuple(each for each in positions if each.portfolio == portfolio.name)
        reports_cash = any("accounts" in feed.provides for feed in self.feeds)
        trades = tuple(trade for trade in self.trades if trade.portfolio == portfolio.name)
        return Holdings(held, own, trades, cash_known=bool(own) or not reports_cash)

    def with_trades(self, trades: Sequence[Trade]) -> DeskState:
        """The state as it would be had these trades been done at the mark. The net asset value stays."""
        return replace(self, trades=(*self.trades, *trades), previous=self)

    @property
    def rejected(self) -> Mapping[str, tuple[Rejected, ...]]:
        """Records left out, by source."""
        return {feed.source: feed.snapshot.rejected for feed in self.feeds if feed.snapshot}

    def market_day(self) -> np.datetime64 | None:
        """The newest market day of any book."""
        days = [book.day for book in self.books.values() if isinstance(book, Book) and book.day is not None]
        return max(days, default=None)


def assemble(at: datetime, config: ExporterConfig, feeds: Sequence[Feed], previous: DeskState | None = None) -> DeskState:
    """The state of this cycle.

    Args:
        at: wall time, UTC.
        config: section `exporter`.
        feeds: one per source.
        previous: the state of the last cycle; it is kept for one cycle only, its own past is cut off.
    """
    if previous is not None and previous.config is not config:
        previous = None
    return DeskState(at, config, tuple(feeds), previous=previous)


def forget(state: DeskState) -> DeskState:
    """Cut the chain to earlier states once everything derived has been computed, so that memory does not grow."""
    state.books  # noqa: B018 - the cached value must exist before the past is gone
    object.__setattr__(state, "previous", None)
    return state
