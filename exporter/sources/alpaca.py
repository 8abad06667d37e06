"""Reads an Alpaca account: positions, balances, orders, fills, the market's clock, latest quotes and daily bars.

Paper or live, shares, options and crypto pairs. Never places, changes or cancels anything; leaves a share of both of the
account's rate limits to the trader.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, model_validator

from deskwatch.clock import Clock
from deskwatch.config import CrossFault, Secret
from deskwatch.http import HttpUrl
from deskwatch.venues.alpaca import DATA_URL, Alpaca
from deskwatch.venues.alpaca_data import PAIRS, SHARES, Market, MarketData
from deskwatch.venues.alpaca_paging import FillLog, OrderLog
from exporter.normal import alpaca as normal
from exporter.normal.alpaca_bars import DailyBars
from exporter.normal.unchanged import Unchanged
from exporter.records import Sheet
from exporter.snapshot import Fill, History, Instrument, InstrumentTerms, Kind, Order, Price, Snapshot
from exporter.source import Kept, Source, VenueConfig

VENUE = "alpaca"
"""Label `venue` of what is traded and quoted there."""
HOLDINGS: frozenset[Kind] = frozenset({"positions", "instruments", "prices", "quotes", "histories"})
"""Kinds for which the positions are asked for: they are, or are about, what is held."""


def _is_a_header(value: Secret) -> Secret:
    text = value.get_secret_value()
    if not text or not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError("must be letters and digits without blanks, as Alpaca shows it")
    return value


Credential = Annotated[Secret, AfterValidator(_is_a_header)]


class Config(VenueConfig):
    """An Alpaca account."""

    offers: ClassVar[tuple[Kind, ...]] = (
        "accounts", "positions", "prices", "instruments", "orders", "fills", "sessions", "quotes", "histories",
    )  # fmt: skip

    type: Literal["alpaca"]
    key_id: Credential
    """API key id of the account; a paper account has one of its own."""
    secret_key: Credential
    """The key's secret."""
    paper: bool = True
    """Whether it is the paper account, not the live one."""
    trading_url: HttpUrl | None = None
    """Address of the trading API; by default Alpaca's, of the paper or the live account."""
    data_url: HttpUrl = DATA_URL
    """Address of the market data API."""
    feed: Literal["iex", "sip", "delayed_sip", "otc", "boats", "overnight"] | None = None
    """Feed of shares' latest quotes and trades; by default the best the account's market data plan includes."""
    history_feed: Literal["sip", "iex", "otc", "boats"] = "sip"
    """Feed of shares' daily bars. `sip`, all US exchanges, is open to every plan for days that have ended."""

    @model_validator(mode="after")
    def _can_be_read(self) -> Self:
        faults: list[tuple[Sequence[str | int], str]] = [
            (["read", place], f"must be one of {', '.join(self.offers)}, was {kind!r}")
            for place, kind in enumerate(self.read)
            if kind not in self.offers
        ]
        faults += [
            (["symbols", place], f"{fault}, was {symbol!r}")
            for place, symbol in enumerate(self.symbols)
            if (fault := _symbol_fault(symbol)) is not None
        ]
        if faults:
            raise CrossFault(faults)
        return self


def _symbol_fault(symbol: str) -> str | None:
    if not symbol or any(character in symbol for character in ", "):
        return "must be one symbol"
    if normal.instrument_of(symbol) == "option":
        return "must be a share or a crypto pair: options have quotes and bars of their own kind, and no linear risk"
    pair = normal.pair_of(symbol)
    if "/" not in symbol and pair is not None and len(symbol) > normal.LONGEST_TICKER:
        return f"must be written with its slash, {pair}"
    return None


@dataclass(slots=True)
class _Told:
    """What the venue has told in one fetch: its rows, not yet read."""

    currency: str = normal.DEFAULT_CURRENCY
    account: Mapping[str, Any] | None = None
    positions: Sequence[Any] = ()
    orders: Sequence[Any] = ()
    fills: Sequence[Any] = ()
    clock: Mapping[str, Any] | None = None
    quotes: dict[str, Any] = field(default_factory=dict)
    trades: dict[str, Any] = field(default_factory=dict)


class AlpacaSource(Source[Config]):
    """One account."""

    kind = "broker"
    keeps_histories = True

    def __init__(self, config: Config, clock: Clock) -> None:
        super().__init__(config, clock)
        self._venue = Alpaca(
            config.key_id,
            config.secret_key,
            config.http,
            clock,
            paper=config.paper,
            trading_url=config.trading_url,
            data_url=config.data_url,
            headroom_ratio=config.quota_headroom_ratio,
        )
        self._data = MarketData(self._venue.data)
        self._orders = OrderLog(self._venue.orders)
        self._fills = FillLog(self._venue.fills)
        self._bars = DailyBars(clock, history_days=config.history_days)
        self._currency: str | None = None
        self._known_orders: Unchanged[Order] = Unchanged()
        self._known_fills: Unchanged[Fill] = Unchanged()
        self._names: Mapping[str, str] = {}

    @property
    def provides(self) -> AbstractSet[Kind]:
        """The kinds asked for in `read`, by default all there are."""
        return frozenset(self.config.read or self.config.offers)

    @property
    def quota_used_ratio(self) -> float:
        """The larger of the shares used of the trading and the market data limit."""
        return self._venue.quota_used_ratio

    async def fetch(self, kept: Kept) -> Snapshot:
        """Read once. What an account holds decides which symbols' quotes and bars are asked for.

        Raises:
            Retryable: no answer, an answer that is not the documented one, or a rate limit.
            Permanent: credentials, plan or parameters are refused.
        """
        at, sheet = self.clock.now(), Sheet()
        told = await self._ask_account(at)
        owner = normal.Owner(self.config.book, VENUE, told.currency, at)
        make = partial(normal.held, owner=owner)
        held = await asyncio.to_thread(sheet.read, "positions", told.positions, make, portfolio=owner.portfolio)
        terms = self._instruments(held, owner)
        await self._ask_market(told, terms, held)
        histories = await self._histories(terms, kept, sheet) if "histories" in self.provides else ()
        return await asyncio.to_thread(self._snapshot, told, owner, held, terms, histories, sheet)

    async def close(self) -> None:
        """Close the connections."""
        await self._venue.close()

    async def _ask_account(self, at: datetime) -> _Told:
        """Everything about the account; what it has and holds at once, so that they fit together."""
        told, since = _Told(), at - timedelta(days=self.config.look_back_days)
        if "accounts" in self.provides or self._currency is None:
            told.account = await self._venue.account()
            currency = told.account.get("currency")
            self._currency = currency if isinstance(currency, str) and currency else normal.DEFAULT_CURRENCY
        told.currency = self._currency or normal.DEFAULT_CURRENCY
        if HOLDINGS & self.provides:
            told.positions = await self._venue.positions()
        if "orders" in self.provides:
            told.orders = await self._orders.read(since, at)
        if "fills" in self.provides:
            told.fills = await self._fills.read(since, at)
        if "sessions" in self.provides:
            told.clock = await self._venue.market_clock()
        return told

    def _instruments(self, held: Sequence[normal.Held], owner: normal.Owner) -> dict[str, InstrumentTerms]:
        """What is held and what is configured to be read beside it, by symbol."""
        terms = {each.terms.symbol: each.terms for each in held}
        for symbol in self.config.symbols:
            currency, instrument = normal.currency_of(symbol, owner.currency), normal.instrument_of(symbol)
            terms.setdefault(symbol, InstrumentTerms(symbol, currency, None, instrument))
        return terms

    async def _ask_market(self, told: _Told, terms: Mapping[str, InstrumentTerms], held: Sequence[normal.Held]) -> None:
        """Latest quotes of everything, and latest trades of what is not held: a position tells its price itself."""
        options = _options(self.config.feed, told.currency)
        own = {each.terms.symbol for each in held}
        markets: tuple[tuple[Market, Instrument, dict[str, str]], ...] = ((SHARES, "share", options), (PAIRS, "spot", {}))
        for market, instrument, asked in markets:
            symbols = [symbol for symbol, each in terms.items() if each.instrument == instrument]
            if "quotes" in self.provides:
                told.quotes |= await self._data.latest(market, "quotes", symbols, asked)
            if "prices" in self.provides:
                others = [symbol for symbol in symbols if symbol not in own]
                told.trades |= await self._data.latest(market, "trades", others, asked)

    async def _histories(self, terms: Mapping[str, InstrumentTerms], kept: Kept, sheet: Sheet) -> tuple[History, ...]:
        """Daily bars of everything that has some. Each portion read stays, should the fetch end before the last."""
        wanted = {symbol: each.currency for symbol, each in terms.items() if each.instrument in ("share", "spot")}
        for question in await asyncio.to_thread(self._bars.due, wanted, kept.histories):
            options = _options(self.config.history_feed, question.currency) if question.market is SHARES else {}
            span = question.span(self.clock.now())
            answer = await self._data.daily_bars(question.market, question.symbols, span, options)
            await asyncio.to_thread(self._bars.take, question, answer, sheet)
        return await asyncio.to_thread(self._bars.give, wanted, kept.histories)

    def _snapshot(
        self,
        told: _Told,
        owner: normal.Owner,
        held: Sequence[normal.Held],
        terms: Mapping[str, InstrumentTerms],
        histories: tuple[History, ...],
        sheet: Sheet,
    ) -> Snapshot:
        """The rows as records, of the kinds asked for. Takes long where there are many: not for the event loop."""
        provides, portfolio = self.provides, owner.portfolio
        quotes = sheet.read("quotes", _by_symbol(told.quotes), partial(normal.quote, owner=owner))
        trades = sheet.read("prices", _by_symbol(told.trades), partial(normal.last_price, owner=owner))
        marks: tuple[Price, ...] = tuple(each.price for each in held if each.price is not None)
        accounts = [told.account] if told.account is not None and "accounts" in provides else []
        orders = self._known_orders.read(sheet, "orders", told.orders, partial(normal.order, owner=owner), portfolio=portfolio)
        fills = self._read_fills(told, owner, terms, sheet)
        times = [each.updated_at for each in orders if each.updated_at is not None]
        times += [quote.at for quote in quotes] + [trade.at for trade in trades] + [fill.at for fill in fills]
        return Snapshot(
            fetched_at=owner.at,
            data_at=max(times, default=None),
            instruments=tuple(terms.values()) if "instruments" in provides else (),
            positions=tuple(each.position for each in held) if "positions" in provides else (),
            prices=(*marks, *trades) if "prices" in provides else (),
            histories=histories,
            fills=fills,
            orders=orders,
            accounts=sheet.read("accounts", accounts, partial(normal.account, owner=owner), portfolio=portfolio),
            quotes=quotes,
            sessions=sheet.read("sessions", [told.clock] if told.clock is not None else [], normal.session),
            rejected=sheet.rejected,
            notes=self._notes(told, held, orders),
        )

    def _read_fills(
        self, told: _Told, owner: normal.Owner, terms: Mapping[str, InstrumentTerms], sheet: Sheet
    ) -> tuple[Fill, ...]:
        """Executions; once another pair is known, those before may have been its."""
        names = normal.symbol_names([*terms, *normal.symbols_in(told.orders), *normal.symbols_in(told.fills)])
        if names != self._names:
            self._names, self._known_fills = names, Unchanged()
        make = partial(normal.fill, owner=owner, names=names)
        return self._known_fills.read(sheet, "fills", told.fills, make, portfolio=owner.portfolio)

    def _notes(self, told: _Told, held: Sequence[Any], orders: Sequence[Any]) -> dict[str, str]:
        notes = {"account": "paper" if self.config.paper else "live", "currency": told.currency}
        notes |= {"positions": str(len(held)), "orders": str(len(orders)), "fills": str(len(told.fills))}
        if self._data.unknown:
            notes["symbols the venue does not take"] = ", ".join(sorted(self._data.unknown))
        return notes


def _options(feed: str | None, currency: str) -> dict[str, str]:
    """What to tell the endpoints of shares beside symbols and times."""
    options = {} if feed is None else {"feed": feed}
    return options if currency == normal.DEFAULT_CURRENCY else {**options, "currency": currency}


def _by_symbol(found: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [{"symbol": symbol, "data": data} for symbol, data in found.items() if data is not None]
