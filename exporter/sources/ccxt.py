"""Any exchange that ccxt knows: balances, positions, orders, executions, quotes, order books and daily bars.

Reads only; its key needs no permission but to read. What is held on a spot market is a position under the asset's name (`BTC`),
a contract's stands under its unified symbol (`BTC/USDT:USDT`); `rename` gives them names of the desk's own. The quote asset and
the other `cash_assets` are cash. What the exchange does not offer is not provided and is named in the notes. Guesses nothing: a
contract whose risk is not linear has no price, an asset without a market stays, and their portfolio has no value.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from deskwatch.clock import Clock
from deskwatch.config import CrossFault
from deskwatch.errors import Permanent, Reason
from deskwatch.http import HttpUrl
from deskwatch.venues import ccxt_exchange as venue
from deskwatch.venues.ccxt_errors import BadSymbol, SymbolNeeded, TypeUnsupported
from deskwatch.venues.ccxt_exchange import Access, Exchange, MarketKind
from deskwatch.venues.ccxt_paging import Turn
from deskwatch.venues.side_loop import SideLoop
from exporter.normal import ccxt_offer as offer
from exporter.normal.binance_bars import DailyBars
from exporter.normal.binance_listing import Listing
from exporter.normal.ccxt_offer import Credentials
from exporter.normal.ccxt_prices import Tickers, Wanted, marks, read_histories, read_quotes
from exporter.normal.ccxt_reading import Reading, Terms, listing_of
from exporter.normal.ccxt_records import Place
from exporter.normal.ccxt_trading import Asked, Trading
from exporter.snapshot import Fill, History, Kind, Order, Quote, Snapshot
from exporter.source import Kept, Source, VenueConfig

CASH = (
    "USDT", "USDC", "FDUSD", "TUSD", "USDP", "DAI", "BUSD", "USD1", "RLUSD", "PYUSD", "USDG", "EURC", "EURT", "AEUR", "EURI",
    "USD", "EUR", "GBP", "JPY", "CHF", "AUD", "CAD", "TRY", "BRL", "PLN", "CZK", "MXN", "KRW", "SGD", "HKD",
)  # fmt: skip
"""Stablecoins and state currencies."""
TYPES = ("spot", "swap", "future", "option")
SPENT_RATIO = 0.6
"""Share of the deadline after which no more pages are begun: what is missing is read by the next fetch."""
Asset = Annotated[str, Field(pattern=r"^\S{1,40}$")]


class Config(VenueConfig):
    """One account at an exchange, or its public data alone."""

    type: Literal["ccxt"]
    interval_seconds: float = Field(default=60.0, ge=0.05)
    timeout_seconds: float = Field(default=60.0, gt=0)
    stale_after_seconds: float = Field(default=300.0, gt=0)
    exchange: str = Field(min_length=1, max_length=64)
    """ccxt's id of the exchange: `kraken`, `okx`, `bitstamp`, ..."""
    credentials: Credentials = Credentials()
    """Left out: only what is public is read."""
    url: HttpUrl | None = None
    """Scheme and host that take the place of the exchange's own, as for a regional address; paths stay."""
    sandbox: bool = False
    """Use the exchange's test environment."""
    options: dict[str, Any] = Field(default_factory=dict)
    """ccxt's `options` for this exchange, e.g. `adjustForTimeDifference: true`."""
    quote_asset: Asset = "USDT"
    """What assets are priced in."""
    cash_assets: tuple[Asset, ...] = CASH
    """Assets that are cash, not positions; the quote asset always is."""
    ignored_assets: tuple[Asset, ...] = ()
    """Assets that are worth nothing here, e.g. gifts without a market: left out, and named in the source's notes."""
    minimum_notional: Decimal = Field(default=Decimal(0), ge=0)
    """Assets worth less, in the quote asset, are left out; how many and how much stands in the source's notes."""
    account_types: tuple[Asset, ...] = ()
    """Accounts whose balances are added up, where an exchange keeps several: `spot`, `swap`, `funding`, ... By default its own
    choice, which where it has one account is that."""
    market_types: tuple[Literal["spot", "swap", "future", "option"], ...] = ()
    """Types of markets whose positions, orders and executions are read; by default all the exchange has."""
    totals_include_gains: bool | None = None
    """Whether the exchange's totals hold the gain of open contracts already. Known of some; where it is not, and a contract is
    held, its account is left undefined until it is said here."""
    depth_levels: int = Field(default=10, ge=0, le=500)
    """Levels of each order book that is read; 0 takes best bid and ask from the ticker, which costs no call of its own."""
    call_milliseconds: float | None = Field(default=None, gt=0)
    """Least time between two calls; by default what ccxt knows of the exchange. `quota_headroom_ratio` makes it longer."""
    markets_refresh_seconds: float = Field(default=21600.0, ge=60)
    """Age at which the exchange's list of markets is read again."""

    @model_validator(mode="after")
    def _can_be_asked(self) -> Self:
        if not venue.installed():
            raise CrossFault([(["type"], "needs the package ccxt: pip install 'deskwatch[ccxt]'")])
        unknown = offer.missing(self.exchange)
        if unknown is not None:
            raise CrossFault([(["exchange"], unknown)])
        given = self.credentials.given
        faults = [
            *offer.credential_faults(self.exchange, given, self.traits.credentials),
            *offer.read_faults(self.exchange, self.read, self.offered, private=bool(given)),
        ]
        if self.sandbox and not self.traits.sandbox:
            faults.append((["sandbox"], f"{self.exchange} has no test environment"))
        if faults:
            raise CrossFault(faults)
        return self

    @property
    def traits(self) -> venue.Traits:
        """What ccxt knows of the exchange."""
        return venue.traits(self.exchange)

    @property
    def offered(self) -> frozenset[Kind]:
        """The kinds the exchange has a call for, credentials or not."""
        return offer.offered(self.traits)

    @property
    def kinds(self) -> frozenset[Kind]:
        """The kinds read. Positions come with what they are: a contract taken for an asset would be worth its notional."""
        readable = self.offered if self.credentials.given else self.offered - offer.PRIVATE
        wanted = frozenset(self.read) & readable if self.read else readable
        return wanted | {"instruments"} if "positions" in wanted else wanted

    def access(self) -> Access:
        """How the exchange is reached."""
        return Access(
            exchange=self.exchange,
            http=self.http,
            credentials=self.credentials.given,
            base_url=self.url,
            sandbox=self.sandbox,
            options=self.options,
            call_milliseconds=self.call_milliseconds,
            headroom_ratio=self.quota_headroom_ratio,
            refresh_seconds=self.markets_refresh_seconds,
        )


class CcxtSource(Source[Config]):
    """One account."""

    kind = "exchange"
    keeps_histories = True

    def __init__(self, config: Config, clock: Clock) -> None:
        super().__init__(config, clock)
        gains = config.totals_include_gains
        self._terms = Terms(
            quote_asset=config.quote_asset,
            cash=frozenset(config.cash_assets),
            ignored=frozenset(config.ignored_assets),
            minimum_notional=config.minimum_notional,
            symbols=config.symbols,
            gains_in_totals=venue.UNREALIZED_IN_TOTALS.get(config.exchange) if gains is None else gains,
            counts_cash="accounts" in config.kinds,
        )
        self._side = SideLoop(f"ccxt {config.name}", lasting=venue.LASTING)
        self._exchange = Exchange(config.access(), clock)
        self._listed: tuple[object, Listing] = (None, Listing(()))
        self._bars = DailyBars(clock, config.history_days)
        self._trading = Trading(self._exchange, config.look_back_days)

    @property
    def provides(self) -> AbstractSet[Kind]:
        """The kinds asked for that the exchange offers."""
        return self.config.kinds

    async def fetch(self, kept: Kept) -> Snapshot:
        """Read the account and what it trades.

        Raises:
            Retryable: the exchange cannot be read now.
            Permanent: it refuses the key, the address or the question.
        """
        return await self._side.run(lambda: self._read(kept))

    async def close(self) -> None:
        """Close the connections and end the thread, where there are any."""
        if not self._side.running:
            return
        await self._side.run(self._exchange.close)
        await self._side.close()

    async def _read(self, kept: Kept) -> Snapshot:
        """The fetch, in the loop of its own."""
        spent = self.clock.monotonic() + self.config.timeout_seconds * SPENT_RATIO
        try:
            refreshed = await self._exchange.refresh()
            reading = Reading(self._terms, self._place(), self._listing())
            reading.notes |= {"markets": refreshed} if refreshed else {}
            await self._read_account(reading)
            reading.settle()
            quotes = await self._read_prices(reading)
            turn = Turn(self._kinds(), reading.traded(), _ms(reading.place.at), lambda: self.clock.monotonic() < spent)
            orders, fills = await self._read_trading(reading, turn)
            histories = await self._read_bars(reading, turn, kept)
        except (BadSymbol, SymbolNeeded, TypeUnsupported) as error:
            raise Permanent(f"{error}: leave the kind out with `read`", reason=Reason.REJECTED) from None
        return self._snapshot(reading, quotes=quotes, orders=orders, fills=fills, histories=histories)

    def _place(self) -> Place:
        return Place(self.config.book, self.config.exchange, self._exchange.market, self.clock.now())

    def _listing(self) -> Listing:
        """The spot markets; made anew when they have been read anew."""
        markets = self._exchange.markets
        if self._listed[0] is not markets:
            self._listed = (markets, listing_of(markets.values()))
        return self._listed[1]

    def _kinds(self) -> list[MarketKind]:
        """Types of markets the exchange has and the configuration wants, spot first."""
        found = {(str(market["type"]), market.get("subType")) for market in self._exchange.markets.values()}
        wanted = [kind for kind in found if kind[0] in (self.config.market_types or TYPES)]
        return sorted(wanted, key=lambda kind: (TYPES.index(kind[0]), kind[1] or "~"))

    async def _read_account(self, reading: Reading) -> None:
        """Balances and contracts, where either is wanted."""
        kinds = self.config.kinds & {"positions", "accounts"}
        if not kinds:
            return
        kind: Kind = "positions" if "positions" in kinds else "accounts"
        if self._exchange.has("fetchBalance"):
            for account in self.config.account_types or (None,):
                reading.take_balances(await self._exchange.call("fetch_balance", {"type": account} if account else {}), kind)
        has_contracts = any(market.get("contract") for market in self._exchange.markets.values())
        # Where the exchange has spot markets alone, what it calls positions is borrowed money: is there any?
        asked = [each for each in self._kinds() if each[0] != "spot" or not has_contracts]
        if kind == "accounts" and (not has_contracts or self._terms.gains_in_totals is False):
            asked = []  # they change nothing about cash
        if self._exchange.has("fetchPositions"):
            for each in self._exchange.apart("fetch_positions", asked):
                await self._read_contracts(each, reading, kind)
        elif asked and has_contracts:
            reading.notes["positions"] = "only balances: ccxt cannot read contracts of this exchange"

    async def _read_contracts(self, of: MarketKind, reading: Reading, kind: Kind) -> None:
        try:
            rows = await self._exchange.call_as(of, "fetch_positions")
        except SymbolNeeded:
            markets = [self._exchange.market(name) for name in self.config.symbols]
            symbols = [str(market["symbol"]) for market in markets if market and (market["type"], market.get("subType")) == of]
            reading.notes["positions"] = "contracts only of `symbols`: the exchange wants to be told which"
            rows = await self._exchange.call_as(of, "fetch_positions", symbols) if symbols else ()
        except TypeUnsupported:
            return
        reading.take_contracts(self._exchange.of_kinds(rows, self._kinds()), kind)

    async def _read_prices(self, reading: Reading) -> tuple[Quote, ...]:
        """Prices into the reading; the quotes."""
        kinds, sheet, place = self.config.kinds, reading.sheet, reading.place
        tickers = Tickers(self._exchange)
        if "prices" in kinds or self.config.minimum_notional:
            wanted = reading.priced()
            await tickers.read(wanted, sheet, "prices")
            reading.price(marks(tickers, wanted, place, sheet))
        if "quotes" not in kinds:
            return ()
        return await read_quotes(self._exchange, tickers, reading.books(), self.config.depth_levels, place, sheet)

    async def _read_trading(self, reading: Reading, turn: Turn) -> tuple[tuple[Order, ...], tuple[Fill, ...]]:
        asked = Asked(reading.place, turn, reading.listing, reading.sheet, reading.notes)
        orders = await self._trading.orders(asked) if "orders" in self.config.kinds else ()
        fills = await self._trading.fills(asked) if "fills" in self.config.kinds else ()
        return orders, fills

    async def _read_bars(self, reading: Reading, turn: Turn, kept: Kept) -> tuple[History, ...]:
        if "histories" not in self.config.kinds:
            return ()
        wanted = Wanted(reading.bars(), kept.histories, turn.now_ms, turn.within)
        return await read_histories(self._exchange, self._bars, wanted, reading.sheet, reading.notes)

    def _snapshot(self, reading: Reading, **found: Any) -> Snapshot:
        kinds = self.config.kinds
        missing = sorted(offer.OFFERS.keys() - self.config.offered)
        times = [*(price.at for price in reading.prices.values()), *(fill.at for fill in found["fills"])]
        return Snapshot(
            fetched_at=self.clock.now(),
            data_at=max(times, default=reading.place.at),
            instruments=reading.instruments() if "instruments" in kinds else (),
            positions=reading.positions() if "positions" in kinds else (),
            accounts=reading.accounts() if "accounts" in kinds else (),
            prices=tuple(reading.prices.values()) if "prices" in kinds else (),
            rejected=reading.sheet.rejected,
            notes={
                "exchange": self.config.exchange,
                **({"not offered": ", ".join(missing)} if missing else {}),
                **reading.notes,
            },
            **found,
        )


def _ms(at: datetime) -> int:
    return int(at.timestamp() * 1000)
