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

from deskwatch.logs import get_logger
from exporter.book import Book, Holdings, Trade, Valuation, build_book
from exporter.config import ExporterConfig, PortfolioConfig
from exporter.market import Market, align, newest
from exporter.reading import Gap
from exporter.snapshot import Account, Fill, History, Kind, Position, Rejected, Snapshot

PRICING: frozenset[Kind] = frozenset({"histories", "prices", "instruments"})
"""The kinds of records a market is made of."""


@dataclass(frozen=True, slots=True)
class Feed:
    """One source as the desk sees it.

    Args:
        source: its name.
        kind: `database`, `broker`, `exchange`, `reference`.
        provides: the kinds of records it delivers.
        snapshot: the last good one, None before the first.
        stale: whether that is older than the source's `stale_after_seconds`.
        kept: daily bars the exporter has kept of it, from earlier fetches and earlier processes; None where it keeps none
            and the snapshot's own count.
        kept_stale: whether the newest of those is too old.
        before: the symbols it told of when an earlier process last heard of it; None where none ever has.
    """

    source: str
    kind: str
    provides: frozenset[Kind]
    snapshot: Snapshot | None
    stale: bool
    kept: tuple[History, ...] | None = None
    kept_stale: bool = False
    before: frozenset[str] | None = None

    @property
    def histories(self) -> tuple[History, ...]:
        """Its daily bars: what is kept where the exporter keeps them, else what it last delivered."""
        if self.kept is not None:
            return self.kept
        return self.snapshot.histories if self.snapshot else ()

    @property
    def histories_stale(self) -> bool:
        """Whether those are too old to be used."""
        return self.stale if self.kept is None else self.kept_stale

    @property
    def gap(self) -> Gap | None:
        """Why its records cannot be used, None where they can. One heard before this process started is not new, but late."""
        if self.snapshot is None:
            return Gap.INPUT_MISSING if self.before is None else Gap.INPUT_STALE
        return Gap.INPUT_STALE if self.stale else None


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
        gaps = {feed.gap for feed in feeds}
        for gap in (Gap.INPUT_MISSING, Gap.INPUT_STALE):
            if gap in gaps:
                return gap
        return _records(feeds, kind)

    @cached_property
    def market(self) -> Market | Gap:
        """Prices and rates from every source that provides them, what is stale marked; a Gap before the first has delivered."""
        feeds = [feed for feed in self.feeds if PRICING & feed.provides]
        if feeds and not any(feed.snapshot or feed.histories for feed in feeds):
            return Gap.INPUT_STALE if all(feed.before is not None for feed in feeds) else Gap.INPUT_MISSING
        if self.previous is not None and self.previous.feeds is self.feeds:
            return self.previous.market
        histories = tuple(history for feed in feeds for history in feed.histories)
        known = self._previous_market(histories)
        return Market(
            closes=known.closes if known else align(histories),
            marks=newest(_records(feeds, "prices")),
            terms={each.symbol: each for each in _records(feeds, "instruments")},
            stale=_stale_marks(feeds) | _stale_histories(feeds),
            pegs=self.config.pegs,
            awaited=any(feed.snapshot is None and feed.before is None for feed in feeds),
        )

    def _previous_market(self, histories: Sequence[History]) -> Market | None:
        """The market before, where not one history has been fetched anew."""
        if self.previous is None or isinstance(self.previous.market, Gap):
            return None
        before = [history for feed in self.previous.feeds if PRICING & feed.provides for history in feed.histories]
        same = len(before) == len(histories) and all(one is other for one, other in zip(before, histories, strict=True))
        return self.previous.market if same else None

    @cached_property
    def books(self) -> Mapping[str, Book | Gap]:
        """Every portfolio valued, by name in the order of the configuration, or why it is not."""
        return {portfolio.name: self._shielded_book(portfolio) for portfolio in self.config.portfolios}

    def members(self, portfolio: PortfolioConfig) -> tuple[PortfolioConfig, ...]:
        """The portfolios whose positions it is made of: a composite's members, else itself."""
        return tuple(each for each in self.config.portfolios if each.name in (portfolio.members or (portfolio.name,)))

    def _shielded_book(self, portfolio: PortfolioConfig) -> Book | Gap:
        """One portfolio that cannot be computed leaves the others and the cycle alone."""
        try:
            return self._book(portfolio)
        except Exception:
            get_logger().exception("a portfolio could not be valued; its numbers are absent", portfolio=portfolio.name)
            return Gap.FAILED

    def _book(self, portfolio: PortfolioConfig) -> Book | Gap:
        if isinstance(self.market, Gap):
            return self.market
        holdings = self.holdings(portfolio)
        if isinstance(holdings, Gap):
            return holdings
        before = self.previous.books[portfolio.name] if self.previous else None
        if before is not None and self._untouched(portfolio):
            return before
        return build_book(
            Valuation(
                portfolio.name,
                portfolio.base_currency,
                self.config.risk.window_days,
                self.config.sectors,
                self.config.risk.backtest_days,
            ),
            holdings,
            self.market,
            before if isinstance(before, Book) else None,
        )

    def _untouched(self, portfolio: PortfolioConfig) -> bool:
        """Whether nothing but trades of other portfolios came since the state before."""
        if self.previous is None or self.previous.feeds is not self.feeds:
            return False
        names = {member.name for member in self.members(portfolio)}
        mine = [trade for trade in self.trades if trade.portfolio in names]
        return mine == [trade for trade in self.previous.trades if trade.portfolio in names]

    def holdings(self, portfolio: PortfolioConfig) -> Holdings | Gap:
        """Positions, cash and proposed trades of a portfolio, a composite's put together, or why they are not known."""
        parts = [self._own_holdings(member) for member in self.members(portfolio)]
        for part in parts:
            if isinstance(part, Gap):
                return part
        known = [part for part in parts if isinstance(part, Holdings)]
        return Holdings(
            positions=tuple(position for part in known for position in part.positions),
            accounts=tuple(account for part in known for account in part.accounts),
            trades=tuple(trade for part in known for trade in part.trades),
            cash_known=all(part.cash_known for part in known),
        )

    def _own_holdings(self, portfolio: PortfolioConfig) -> Holdings | Gap:
        positions = self.gather("positions", portfolio.sources)
        accounts = self.gather("accounts", portfolio.sources)
        if isinstance(positions, Gap):
            return positions
        if isinstance(accounts, Gap):
            return accounts
        if self._rejected(portfolio, "positions", "accounts"):
            return Gap.INPUT_REJECTED
        own: tuple[Account, ...] = tuple(each for each in accounts if each.portfolio == portfolio.name)
        held: tuple[Position, ...] = tuple(each for each in positions if each.portfolio == portfolio.name)
        reports_cash = any("accounts" in feed.provides for feed in self.feeds)
        trades = tuple(trade for trade in self.trades if trade.portfolio == portfolio.name)
        return Holdings(held, own, trades, cash_known=bool(own) or not reports_cash)

    def fills(self, portfolio: PortfolioConfig) -> tuple[Fill, ...] | Gap:
        """Executions of a portfolio, a composite's put together; a Gap where one of them has no source that reports fills."""
        found: list[Fill] = []
        for member in self.members(portfolio):
            fills = self.gather("fills", member.sources)
            if isinstance(fills, Gap):
                return fills
            if not self._provided("fills", member.sources):
                return Gap.INPUT_MISSING
            if self._rejected(member, "fills"):
                return Gap.INPUT_REJECTED
            found += (fill for fill in fills if fill.portfolio == member.name)
        return tuple(found)

    def _rejected(self, portfolio: PortfolioConfig, *kinds: Kind) -> bool:
        """Whether a record of these kinds that is, or may be, this portfolio's could not be read."""
        feeds = [feed for feed in self.feeds if not portfolio.sources or feed.source in portfolio.sources]
        left_out = [each for feed in feeds if feed.snapshot for each in feed.snapshot.rejected if each.kind in kinds]
        return any(each.portfolio in (portfolio.name, None) for each in left_out)

    def _provided(self, kind: Kind, sources: Iterable[str]) -> bool:
        names = set(sources)
        return any(kind in feed.provides and (not names or feed.source in names) for feed in self.feeds)

    def with_trades(self, trades: Sequence[Trade]) -> DeskState:
        """The state as it would be had these trades been done at the mark. The net asset value stays.

        What the trades do not touch - the market, the other portfolios - is this state's own, not computed again.
        """
        return replace(self, trades=(*self.trades, *trades), previous=self)

    @property
    def rejected(self) -> Mapping[str, tuple[Rejected, ...]]:
        """Records left out, by source."""
        return {feed.source: feed.snapshot.rejected for feed in self.feeds if feed.snapshot}

    def market_day(self) -> np.datetime64 | None:
        """The newest market day of any book."""
        days = [book.day for book in self.books.values() if isinstance(book, Book) and book.day is not None]
        return max(days, default=None)


def _records(feeds: Iterable[Feed], kind: Kind) -> tuple[Any, ...]:
    return tuple(record for feed in feeds if feed.snapshot for record in getattr(feed.snapshot, kind))


def _stale_marks(feeds: Sequence[Feed]) -> frozenset[str]:
    """Symbols that only stale sources mark, those included that a source silent since the start has told of before."""
    late = [feed for feed in feeds if feed.gap]
    stale = {price.symbol for price in _records(late, "prices")}
    stale |= {symbol for feed in late if feed.snapshot is None for symbol in feed.before or ()}
    fresh = [feed for feed in feeds if not feed.gap]
    return frozenset(stale - {price.symbol for price in _records(fresh, "prices")})


def _stale_histories(feeds: Sequence[Feed]) -> frozenset[str]:
    """Symbols of which only stale sources have daily bars."""
    stale = {history.symbol for feed in feeds if feed.histories_stale for history in feed.histories}
    return frozenset(stale - {history.symbol for feed in feeds if not feed.histories_stale for history in feed.histories})


def assemble(at: datetime, config: ExporterConfig, feeds: Sequence[Feed], previous: DeskState | None = None) -> DeskState:
    """The state of this cycle.

    Args:
        at: wall time, UTC.
        config: section `exporter`.
        feeds: one per source.
        previous: the state of the last cycle; it is kept for one cycle only, its own past is cut off.
    """
    if previous is not None:
        previous = forget(previous) if previous.config is config else None
    return DeskState(at, config, tuple(feeds), previous=previous)


def forget(state: DeskState) -> DeskState:
    """Cut the chain to earlier states, so that memory does not grow: what was derived with their help stays."""
    object.__setattr__(state, "previous", None)
    return state
