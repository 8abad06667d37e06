"""Binance, spot market and USD-margined futures: balances, positions, orders, executions, quotes, order books and daily bars.

Reads only; its key needs no permission but to read. What is held on the spot market is a position under the asset's name
(`BTC`), a futures position stands under its contract's (`BTCUSDT`); `rename` gives them names of the desk's own. The quote
asset and the other `cash_assets` are cash. Guesses no price: an asset without a market stays, and its portfolio has no value
until `ignored_assets` names it. What lies in the margin, funding and coin-margined wallets is not read, nor are conditional
futures orders before they are triggered. Several accounts are several sources.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from deskwatch.clock import Clock
from deskwatch.config import AtLeastOne, CrossFault, Secret
from deskwatch.http import HttpUrl
from deskwatch.venues.binance import SPOT_URL, USD_M_REACH_MS, USD_M_URL, Spot, UsdM
from deskwatch.venues.binance_api import together
from deskwatch.venues.binance_paging import DAY_MS
from deskwatch.venues.binance_signing import Access
from exporter.normal import binance_holdings as holdings
from exporter.normal.binance_activity import Activity
from exporter.normal.binance_bars import DailyBars
from exporter.normal.binance_fees import MinutePrices
from exporter.normal.binance_listing import Catalogue, Leg, futures_listing, spot_listing
from exporter.normal.binance_markets import Market
from exporter.normal.binance_reading import Reading, Terms
from exporter.normal.binance_records import Place, Worth, asset_of, book_of, closes, contract_of, time_of
from exporter.records import Sheet
from exporter.snapshot import Kind, Snapshot
from exporter.source import Kept, Source, VenueConfig

KINDS: tuple[Kind, ...] = ("instruments", "positions", "accounts", "prices", "quotes", "histories", "fills", "orders")
CASH = (
    "USDT", "USDC", "FDUSD", "TUSD", "USDP", "DAI", "BUSD", "USD1", "RLUSD", "BFUSD", "AEUR", "EURI",
    "USD", "EUR", "GBP", "JPY", "TRY", "BRL", "AUD", "PLN", "RON", "CZK", "UAH", "ZAR", "ARS", "MXN", "COP",
)  # fmt: skip
"""Stablecoins and state currencies."""
CLOSING_SECONDS = 300.0
"""How often it is asked which futures positions have been closed: by then they may be held no more."""
Asset = Annotated[str, Field(pattern=r"^\S{1,40}$")]
Levels = Literal[0, 5, 10, 20, 50, 100]


class Config(VenueConfig):
    """One Binance account."""

    type: Literal["binance"]
    timeout_seconds: float = Field(default=30.0, gt=0)
    api_key: Secret
    """An HMAC key; reading is all it needs to be allowed, futures included where they are read."""
    api_secret: Secret
    markets: Annotated[tuple[Literal["spot", "usd_m"], ...], AtLeastOne] = ("spot", "usd_m")
    """The markets read. Where only futures are, the spot market is still asked for the prices of other assets in the wallet."""
    spot_url: HttpUrl = SPOT_URL
    """Address of the spot API, e.g. of the testnet."""
    futures_url: HttpUrl = USD_M_URL
    quote_asset: Asset = "USDT"
    """What assets are priced in."""
    cash_assets: tuple[Asset, ...] = CASH
    """Assets that are cash, not positions; the quote asset always is."""
    ignored_assets: tuple[Asset, ...] = ()
    """Assets that are worth nothing here, e.g. gifts without a market: left out, and named in the source's notes."""
    minimum_notional: Decimal = Field(default=Decimal(0), ge=0)
    """Assets worth less, in the quote asset, are left out; how many and how much stands in the source's notes."""
    depth_levels: Levels = 5
    """Levels of each order book that is read; 0 reads best bid and ask only, which costs less."""
    recv_window_ms: int = Field(default=5_000, ge=1, le=60_000)
    """A request that reaches the venue later than that is refused by it."""

    @model_validator(mode="after")
    def _reads_what_there_is(self) -> Self:
        known = ", ".join(KINDS)
        unknown: list[tuple[list[str | int], str]] = [
            (["read", place], f"must be one of {known}, was {kind!r}")
            for place, kind in enumerate(self.read)
            if kind not in KINDS
        ]
        if unknown:
            raise CrossFault(unknown)
        return self

    @property
    def kinds(self) -> frozenset[Kind]:
        """The kinds read. Positions come with what they are: a contract taken for an asset would be worth its notional."""
        wanted = frozenset(self.read or KINDS)
        return wanted | {"instruments"} if "positions" in wanted else wanted


class BinanceSource(Source[Config]):
    """One Binance account."""

    kind = "exchange"
    keeps_histories = True

    def __init__(self, config: Config, clock: Clock) -> None:
        super().__init__(config, clock)
        self._bars = DailyBars(clock, config.history_days)
        self._minutes = MinutePrices()
        self._closed: dict[str, int] = {}
        """Contracts of which a position was closed, and when, in the venue's time."""
        self._closed_asked: float | None = None
        self._closed_all = True
        self._terms = Terms(
            portfolio=config.book,
            quote_asset=config.quote_asset,
            cash=frozenset(config.cash_assets),
            ignored=frozenset(config.ignored_assets),
            minimum_notional=config.minimum_notional,
            symbols=config.symbols,
            reads_spot="spot" in config.markets,
        )
        access = Access(config.api_key, config.api_secret, config.recv_window_ms)
        common: dict[str, Any] = {"access": access, "headroom_ratio": config.quota_headroom_ratio}
        spot = Spot(config.http, clock, base_url=config.spot_url, **common)
        usd_m = UsdM(config.http, clock, base_url=config.futures_url, **common)
        self._spot = self._market(spot, spot_listing, "binance", asset_of, lambda each: book_of(each, config.quote_asset))
        self._usd_m = self._market(usd_m, futures_listing, "binance_usd_m", contract_of, contract_of)

    def _market(self, api: Any, make: Any, venue: str, name: Any, book: Any) -> Market[Any]:
        place = Place(self.config.book, venue, api.market)
        activity = Activity(api, self.clock, place, self.config.kinds, name, self._worth)
        return Market(api, Catalogue(self.clock, api.listing, make), activity, venue, book)

    @property
    def provides(self) -> AbstractSet[Kind]:
        """The kinds asked for."""
        return self.config.kinds

    @property
    def quota_used_ratio(self) -> float:
        """The larger share of the two markets' weights."""
        used: tuple[float, ...] = (self._spot.api.quota_used_ratio, self._usd_m.api.quota_used_ratio)
        return max(used)

    async def fetch(self, kept: Kept) -> Snapshot:
        """Read the account and what it trades.

        Raises:
            Retryable: the venue cannot be read now, or its rate limit, less what is left to the trader, is used up.
            Permanent: it refuses the key or the address.
        """
        reading = Reading(self._terms, self.clock.now())
        await together(self._read_account(market, reading) for market in self.config.markets)
        reading.at = self._now()
        if reading.needs_spot and "spot" not in self.config.markets:
            reading.spot = await self._spot.catalogue.read()
        reading.settle()
        await self._read_prices(reading)
        quotes, histories, _ = await together([self._quotes(reading), self._histories(reading, kept), self._trade(reading)])
        return self._snapshot(reading, quotes, histories)

    async def close(self) -> None:
        """Close the connections and end a listing being read."""
        for market in (self._spot, self._usd_m):
            await market.catalogue.close()
            await market.api.close()

    def _now(self) -> datetime:
        """The venue's time, of the first market read."""
        first = self._spot if self.config.markets[0] == "spot" else self._usd_m
        return time_of(first.api.now_ms())

    def _since(self, reading: Reading) -> datetime:
        return reading.at - timedelta(days=self.config.look_back_days)

    async def _read_account(self, market: str, reading: Reading) -> None:
        """Balances and, on the futures market, positions, with what the market lists."""
        kind: Kind = "positions" if "positions" in self.config.kinds else "accounts"
        if market == "spot":
            reading.spot, account = await together([self._spot.catalogue.read(), self._spot.api.account()])
            reading.found += holdings.spot_wallets(account, kind, self.config.book, reading.sheet)
            reading.blocked = holdings.may_not_trade(account)
            return
        calls: list[Coroutine[Any, Any, Any]] = [self._usd_m.catalogue.read(), self._usd_m.api.account()]
        if self.config.kinds - {"accounts", "instruments"}:
            calls.append(self._usd_m.api.positions())
        reading.futures, account, *rows = await together(calls)
        reading.found += holdings.futures_wallets(account, kind, self.config.book, reading.sheet)
        for each in rows:
            reading.positions = holdings.contracts(each, reading.futures, kind, self.config.book, reading.sheet)
            if any(rejected.reason == "unlisted_symbol" for rejected in reading.sheet.rejected):
                self._usd_m.catalogue.expire()

    async def _read_prices(self, reading: Reading) -> None:
        """Last prices of assets, marks of contracts; what is worth too little goes."""
        wanted = "prices" in self.config.kinds
        if wanted or self.config.minimum_notional:
            last = await self._spot.last_prices((leg.symbol for leg in reading.legs.values()), reading.sheet)
            reading.prices = holdings.prices(reading.legs, last, reading.at)
            reading.leave_out_dust()
        if wanted:
            reading.mark(await self._usd_m.last_prices(reading.unmarked, reading.sheet))

    async def _quotes(self, reading: Reading) -> tuple[Any, ...]:
        if "quotes" not in self.config.kinds:
            return ()
        levels, at, sheet = self.config.depth_levels, reading.at, reading.sheet
        spot, usd_m = await together(
            [
                self._spot.quotes(reading.books(), levels, at, sheet),
                self._usd_m.quotes(reading.contracts, levels, at, sheet),
            ]
        )
        return (*spot, *usd_m)

    async def _histories(self, reading: Reading, kept: Kept) -> tuple[Any, ...]:
        """Daily bars of everything that has a price."""
        if "histories" not in self.config.kinds:
            return ()
        now_ms = int(reading.at.timestamp() * 1000)
        today = now_ms // DAY_MS
        legs = reading.legs | {listed.symbol: Leg(listed.symbol, listed.quote) for listed in reading.contracts}
        currencies = {symbol: leg.currency for symbol, leg in legs.items()}

        async def ask(symbol: str, first: int) -> None:
            leg = legs[symbol]
            market = self._spot if symbol in reading.legs else self._usd_m
            rows = await market.bars(leg.symbol, first * DAY_MS, today * DAY_MS - 1, reading.sheet)
            history = await asyncio.to_thread(closes, symbol, leg, rows, now_ms, reading.sheet)
            self._bars.take(symbol, leg.currency, history, first, today)

        due = self._bars.due(currencies, kept.histories, today)
        await together(ask(symbol, first) for symbol, first in due.items())
        return self._bars.give(currencies)

    async def _trade(self, reading: Reading) -> tuple[Any, ...]:
        """Bring orders and executions up to date."""
        if not self.config.kinds & {"fills", "orders"}:
            return ()
        since = self._since(reading)
        calls = []
        if "spot" in self.config.markets:
            calls.append(self._spot.activity.read(reading.traded(), reading.held_assets(), reading.spot, since))
        if "usd_m" in self.config.markets:
            calls.append(self._trade_futures(reading, since))
        await together(calls)
        self._minutes.forget_before(since)
        for market in (self._spot, self._usd_m):
            if market.activity.wrong:
                market.catalogue.expire()
        return ()

    async def _trade_futures(self, reading: Reading, since: datetime) -> None:
        """Those held and wanted, and those of which a position was closed in the look-back."""
        now, api = self.clock.monotonic(), self._usd_m.api
        if self._closed_asked is None or now - self._closed_asked >= CLOSING_SECONDS:
            begin = int(since.timestamp() * 1000) if self._closed_asked is None else max(self._closed.values(), default=0)
            rows, self._closed_all = await api.closing(max(begin, int(since.timestamp() * 1000)))
            for symbol, at_ms in Sheet().read("fills", rows, lambda row: (row.text("symbol"), int(row.number("time")))):
                self._closed[symbol] = max(at_ms, self._closed.get(symbol, 0))
            self._closed_asked = now
        recent = [symbol for symbol, at_ms in self._closed.items() if time_of(at_ms) >= since]
        symbols = dict.fromkeys([*(listed.symbol for listed in reading.contracts), *recent])
        known = [symbol for symbol in symbols if symbol in reading.futures.markets]
        await self._usd_m.activity.read(known, reading.held_contracts(), reading.futures, since)

    async def _worth(self, needed: Sequence[tuple[str, str, datetime]]) -> Worth:
        """Make prices of commission assets known, by the spot market's minute bars."""
        if needed:
            listing = await self._spot.catalogue.read()
            api = self._spot.api
            await self._minutes.load(needed, listing, lambda symbol, first, last: api.bars(symbol, "1m", first, last))
        return self._minutes.worth

    def _snapshot(self, reading: Reading, quotes: tuple[Any, ...], histories: tuple[Any, ...]) -> Snapshot:
        kinds, markets = self.config.kinds, (self._spot, self._usd_m)
        listed = (rejected for listing in (reading.spot, reading.futures) for rejected in listing.rejected)
        traded = (rejected for market in markets for rejected in market.activity.rejected)
        held = (*reading.assets(), *(each.position for each in reading.positions))
        return Snapshot(
            fetched_at=self.clock.now(),
            data_at=reading.at,
            instruments=reading.instruments() if "instruments" in kinds else (),
            positions=held if "positions" in kinds else (),
            accounts=reading.accounts() if "accounts" in kinds else (),
            prices=tuple(reading.prices.values()) if "prices" in kinds else (),
            quotes=quotes,
            histories=histories,
            fills=tuple(fill for market in markets for fill in market.activity.fills),
            orders=tuple(order for market in markets for order in market.activity.orders),
            rejected=(*reading.sheet.rejected, *listed, *traded),
            notes=reading.notes | self._notes(),
        )

    def _notes(self) -> dict[str, str]:
        notes = {}
        for market in (self._spot, self._usd_m):
            if market.catalogue.failure:
                notes[f"{market.venue} listing is old"] = market.catalogue.failure
            if market.activity.unpriced_fees:
                notes[f"{market.venue} commissions without a price"] = f"{market.activity.unpriced_fees}, counted as 0"
        if not self._closed_all:
            notes["closed contracts"] = "too many to find all: list those traded under symbols"
        if "usd_m" in self.config.markets and self.config.look_back_days * DAY_MS > USD_M_REACH_MS:
            notes["usd_m look-back"] = f"{USD_M_REACH_MS // DAY_MS} days: older trades are not given"
        return notes
