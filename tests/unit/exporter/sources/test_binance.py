"""Binance as a source: what is held, priced, traded and quoted there in the desk's words, at little weight, without a guess."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import httpx
import numpy as np
import pytest
import respx

from deskwatch.clock import ManualClock
from deskwatch.config import validate
from deskwatch.errors import Permanent, Reason, Retryable
from exporter.book import Book
from exporter.desk import DeskState, Feed
from exporter.reading import Gap
from exporter.snapshot import Account, History, InstrumentTerms, Position, Quote, Snapshot
from exporter.source import Kept
from exporter.sources.binance import BinanceSource, Config
from tests.stand_ins.binance import DAY_MS, KEY, SECRET, Binance, error
from tests.stand_ins.server import Received
from tests.stand_ins.venue import answer
from tests.unit.exporter.desks import make_config, make_state

NOON = datetime(2026, 3, 10, 12, tzinfo=UTC)
DAYS = 40
"""Of bars wanted; many years would take their time."""
SPOT, FUTURES = "http://spot.test", "http://futures.test"


class Desk:
    """A source, the venue it asks, and the clock of both."""

    def __init__(self, venue: Binance, clock: ManualClock) -> None:
        self.venue, self.clock = venue, clock
        self.source: BinanceSource | None = None
        self.kept: dict[str, History] = {}

    def make(self, **settings: Any) -> BinanceSource:
        """Another source, with these settings."""
        self.source = source(self.clock, **settings)
        return self.source

    async def fetch(self, **settings: Any) -> Snapshot:
        """One more fetch; the first one makes the source."""
        if self.source is None:
            self.make(**settings)
        assert self.source is not None
        return await self.source.fetch(Kept(histories=self.kept))

    def calls(self) -> list[Received]:
        """What was asked since this was last looked at."""
        asked = list(self.venue.requests)
        self.venue.requests.clear()
        return asked

    def asked(self, path: str) -> list[Mapping[str, str]]:
        """The queries of one path since `calls` was last looked at."""
        return [each.query for each in self.venue.asked(path)]


def source(clock: ManualClock, **settings: Any) -> BinanceSource:
    """A source."""
    given: dict[str, Any] = {"type": "binance", "name": "bn", "api_key": KEY, "api_secret": SECRET}
    config = validate(Config, given | {"spot_url": SPOT, "futures_url": FUTURES, "history_days": DAYS} | settings)
    assert isinstance(config, Config), config
    return BinanceSource(config, clock)


@pytest.fixture
async def desk() -> Any:
    """A desk whose venue is in this process: no socket, and time stands still."""
    clock = ManualClock(NOON)
    venue = Binance()
    venue.seconds = lambda: clock.now().timestamp()

    def handle(request: httpx.Request) -> httpx.Response:
        query = request.url.query.decode()
        received = Received(request.url.path, dict(request.headers), b"", 0.0, request.method, dict(request.url.params), query)
        given = venue.refuse(received) or venue.respond(received)
        venue.requests.append(received)
        if given.drop:
            raise httpx.ConnectError("gone", request=request)
        return httpx.Response(given.status, text=given.body, headers={**given.headers, "content-type": given.content_type})

    with respx.mock(assert_all_called=False) as mock:
        mock.route().mock(side_effect=handle)
        made = Desk(venue, clock)
        yield made
        if made.source is not None:
            await made.source.close()


def one(records: Any, **fields: Any) -> Any:
    """The only record with these fields."""
    found = [each for each in records if all(getattr(each, name) == value for name, value in fields.items())]
    assert len(found) == 1, found
    return found[0]


def holdings(snapshot: Snapshot) -> dict[str, Decimal]:
    """Quantity by symbol; two of one symbol are added."""
    found: dict[str, Decimal] = {}
    for each in snapshot.positions:
        found[each.symbol] = found.get(each.symbol, Decimal(0)) + each.quantity
    return found


def state(snapshot: Snapshot, base: str = "USDT") -> DeskState:
    """The desk with nothing but this."""
    kinds: Any = frozenset({"instruments", "positions", "accounts", "prices", "histories", "fills"})
    return make_state(make_config({"bn": base}, base=base), Feed("bn", "exchange", kinds, snapshot, stale=False))


def nav(snapshot: Snapshot, base: str = "USDT") -> float:
    """Net asset value of the portfolio."""
    book = state(snapshot, base).books["bn"]
    assert isinstance(book, Book), book
    return book.nav


# What is held.


async def test_balances_are_positions_and_cash(desk: Desk) -> None:
    """Free and locked both count; the quote asset and stablecoins are cash; everything else is a position in USDT."""
    desk.venue.balances |= {"BTC": ("1.0", "0.5"), "USDT": ("1000", "50"), "USDC": ("500", "0"), "ETH": ("0", "0")}
    snapshot = await desk.fetch(markets=["spot"])
    assert snapshot.positions == (Position("bn", "BTC", Decimal("1.5"), "USDT"),)
    assert snapshot.accounts == (
        Account("bn", "USDC", Decimal(500), buying_power=Decimal(500), trading_blocked=False),
        Account("bn", "USDT", Decimal(1050), buying_power=Decimal(1000), trading_blocked=False),
    )
    assert {each.symbol: (each.price, each.currency) for each in snapshot.prices} == {
        "BTC": (Decimal("60000.00"), "USDT"),
        "USDC": (Decimal("0.9990"), "USDT"),
    }
    assert set(snapshot.instruments) == {InstrumentTerms("BTC", "USDT"), InstrumentTerms("USDC", "USDT")}
    assert snapshot.rejected == ()
    assert desk.asked("/api/v3/account")[0]["omitZeroBalances"] == "true"


async def test_an_empty_account_has_no_cash_and_says_so(desk: Desk) -> None:
    """Without an account the desk would not know that there is none."""
    snapshot = await desk.fetch(markets=["spot"])
    assert [(each.currency, each.cash) for each in snapshot.accounts] == [("USDT", Decimal(0))]


async def test_an_account_that_may_not_trade_is_blocked(desk: Desk) -> None:
    """`canTrade` false."""
    desk.venue.can_trade = False
    assert (await desk.fetch(markets=["spot"])).accounts[0].trading_blocked is True


async def test_futures_positions_have_entry_gain_and_mark(desk: Desk) -> None:
    """A perpetual and a quarterly are what their contract type says; a symbol with an order only is no position."""
    desk.venue.wallet("USDT", "5000", "100", initialMargin="600", maintMargin="30", availableBalance="4400")
    desk.venue.position("BTCUSDT", "0.5", "59900")
    desk.venue.position("BTCUSDT_260626", "-1", "61500")
    desk.venue.position("ETHUSDT", "0.000", "0.0")
    snapshot = await desk.fetch(markets=["usd_m"])
    assert snapshot.positions == (
        Position("bn", "BTCUSDT", Decimal("0.5"), "USDT", Decimal(59900), Decimal(100)),
        Position("bn", "BTCUSDT_260626", Decimal(-1), "USDT", Decimal(61500), Decimal(500)),
    )
    assert one(snapshot.prices, symbol="BTCUSDT").price == Decimal("60100.00")
    assert set(snapshot.instruments) == {
        InstrumentTerms("BTCUSDT", "USDT", instrument="perpetual"),
        InstrumentTerms("BTCUSDT_260626", "USDT", instrument="future"),
    }
    (account,) = snapshot.accounts
    assert (account.cash, account.unrealized_pnl, account.equity) == (Decimal(5000), Decimal(100), None)
    assert (account.initial_margin, account.maintenance_margin, account.buying_power) == (600, 30, 4400)
    assert not desk.asked("/api/v3")


async def test_both_sides_of_a_hedge_are_kept(desk: Desk) -> None:
    """The desk nets them by symbol. A short side's amount is negative, however it is written."""
    desk.venue.wallet("USDT", "5000")
    desk.venue.position("ETHUSDT", "2", "2900", "LONG")
    desk.venue.position("ETHUSDT", "-0.5", "3100", "SHORT")
    desk.venue.position("BTCUSDT", "0.1", "61000", "SHORT")
    snapshot = await desk.fetch(markets=["usd_m"])
    assert [(each.symbol, each.quantity) for each in snapshot.positions] == [
        ("ETHUSDT", Decimal(2)),
        ("ETHUSDT", Decimal("-0.5")),
        ("BTCUSDT", Decimal("-0.1")),
    ]
    assert nav(snapshot) == pytest.approx(5000 + 2 * 110 + 0.5 * 90 + 0.1 * 900)


async def test_the_net_asset_value_of_spot_and_futures_together(desk: Desk) -> None:
    """1.5 BTC at 60,000, 500 USDC at 0.999, 1,050 USDT; on futures 5,000 USDT, gains of 100 - 45, 2 BNB."""
    desk.venue.balances |= {"BTC": ("1.0", "0.5"), "USDT": ("1000", "50"), "USDC": ("500", "0")}
    desk.venue.wallet("USDT", "5000", "55")
    desk.venue.wallet("BNB", "2")
    desk.venue.position("BTCUSDT", "0.5", "59900")
    desk.venue.position("ETHUSDT", "0.5", "3100")
    snapshot = await desk.fetch()
    assert snapshot.rejected == ()
    assert nav(snapshot) == pytest.approx(1.5 * 60_000 + 500 * 0.999 + 1050 + 5000 + 0.5 * 200 - 0.5 * 90 + 2 * 600)
    book = state(snapshot).books["bn"]
    assert isinstance(book, Book)
    values = dict(zip(book.symbols, book.values.tolist(), strict=True))
    assert values == pytest.approx({"BTC": 90_000, "BNB": 1200, "USDC": 499.5, "BTCUSDT": 0.5 * 60_100, "ETHUSDT": 0.5 * 3010})


async def test_the_net_asset_value_of_futures_is_the_venues_margin_balance(desk: Desk) -> None:
    """Several assets as margin: what the venue adds up, each at its price."""
    desk.venue.position("BTCUSDT", "-0.3", "60500")
    desk.venue.position("BTCUSDC", "0.2", "60000", marginAsset="USDC")
    desk.venue.wallet("USDT", "-200", "120")
    desk.venue.wallet("USDC", "1000", "30")
    desk.venue.wallet("BTC", "0.5")
    desk.venue.wallet("ETH", "0.00000000")
    snapshot = await desk.fetch(markets=["usd_m"])
    margin = {asset: float(wallet["marginBalance"]) for asset, wallet in desk.venue.wallets.items()}
    assert nav(snapshot) == pytest.approx(margin["USDT"] + margin["USDC"] * 0.999 + margin["BTC"] * 60_000)
    assert holdings(snapshot)["BTC"] == Decimal("0.5")
    assert {each.symbol for each in snapshot.prices} == {"BTCUSDT", "BTCUSDC", "USDC", "BTC"}


async def test_two_sources_may_fill_one_portfolio(desk: Desk) -> None:
    """Spot and futures by two keys: no equity hides the positions of the other."""
    desk.venue.balances |= {"BTC": ("1", "0")}
    desk.venue.wallet("USDT", "5000", "100")
    desk.venue.position("BTCUSDT", "0.5", "59900")
    spot, futures = source(desk.clock, markets=["spot"]), source(desk.clock, markets=["usd_m"])
    kinds: Any = frozenset({"instruments", "positions", "accounts", "prices"})
    feeds = [
        Feed(name, "exchange", kinds, await each.fetch(Kept()), stale=False) for name, each in (("s", spot), ("f", futures))
    ]
    book = make_state(make_config({"bn": "USDT"}, base="USDT"), *feeds).books["bn"]
    assert isinstance(book, Book)
    assert book.nav == pytest.approx(60_000 + 5_100)
    await asyncio.gather(spot.close(), futures.close())


async def test_what_is_lent_to_the_venues_savings_counts_as_itself(desk: Desk) -> None:
    """LDBTC is BTC, LDUSDT is cash; LDO is an asset of its own, and so is what nobody lists."""
    desk.venue.prices |= {"LDOUSDT": "2.00", "OUSDT": "1.00"}
    desk.venue.balances |= {
        "BTC": ("1", "0"), "LDBTC": ("0.5", "0"), "LDUSDT": ("100", "0"), "LDO": ("3", "0"), "LDXYZ": ("1", "0"),
    }  # fmt: skip
    snapshot = await desk.fetch(markets=["spot"])
    assert holdings(snapshot) == {"BTC": Decimal("1.5"), "LDO": Decimal(3), "LDXYZ": Decimal(1)}
    assert one(snapshot.accounts, currency="USDT").cash == 100


async def test_a_second_market_prices_what_has_none_against_the_quote_asset(desk: Desk) -> None:
    """ABC is priced in BTC; BTC, though not held, is priced too, and the desk finds the way."""
    desk.venue.balances |= {"ABC": ("1000000", "0"), "USDT": ("10", "0")}
    snapshot = await desk.fetch(markets=["spot"])
    assert one(snapshot.positions, symbol="ABC").currency == "BTC"
    assert one(snapshot.prices, symbol="ABC").currency == "BTC"
    assert nav(snapshot) == pytest.approx(10 + 1_000_000 * 0.00001 * 60_000)
    assert {each.symbol for each in snapshot.histories} == {"ABC", "BTC"}
    assert snapshot.quotes == ()


async def test_a_market_the_other_way_round_prices_too(desk: Desk) -> None:
    """USDTTRY at 40: a lira is 0.025."""
    desk.venue.balances |= {"TRY": ("4000", "0")}
    snapshot = await desk.fetch(markets=["spot"])
    assert one(snapshot.prices, symbol="TRY").price == Decimal("0.025")
    assert nav(snapshot) == pytest.approx(100)
    lira = one(snapshot.histories, symbol="TRY")
    assert lira.closes[-1] == 1 / float(desk.venue.close("USDTTRY", desk.venue.today - 1))


async def test_what_has_no_market_stays_and_the_portfolio_has_no_value(desk: Desk) -> None:
    """Until it is ignored by name, which the notes say. A market that stands still prices nothing."""
    desk.venue.balances |= {"GIFT": ("7", "0"), "ETH": ("1", "0"), "USDT": ("10", "0")}
    desk.venue.halted = {"ETHUSDT", "ETHBTC"}
    snapshot = await desk.fetch(markets=["spot"])
    assert holdings(snapshot) == {"GIFT": 7, "ETH": 1}
    assert snapshot.notes["no market"] == "ETH, GIFT"
    assert state(snapshot).books["bn"] is Gap.PRICE_MISSING
    desk.make(markets=["spot"], ignored_assets=["GIFT", "ETH"])
    snapshot = await desk.fetch()
    assert nav(snapshot) == 10
    assert snapshot.notes["ignored_assets"] == "ETH, GIFT"


async def test_dust_stays_unless_a_least_notional_is_set(desk: Desk) -> None:
    """0.0001 BTC are 6 USDT: below 10 they go, with a note, and nothing more is asked about them."""
    desk.venue.balances |= {"BTC": ("0.0001", "0"), "ETH": ("1", "0"), "ABC": ("1", "0"), "GIFT": ("1", "0")}
    assert holdings(await desk.fetch(markets=["spot"])).keys() == {"BTC", "ETH", "ABC", "GIFT"}
    desk.make(markets=["spot"], minimum_notional="10")
    desk.calls()
    snapshot = await desk.fetch()
    assert holdings(snapshot).keys() == {"ETH", "GIFT"}
    assert snapshot.notes["below minimum_notional"] == "2 assets worth 6.60 USDT"
    assert {each.symbol for each in snapshot.prices} == {"ETH"}
    assert {query["symbol"] for query in desk.asked("/api/v3/klines")} == {"ETHUSDT"}
    desk.make(markets=["spot"], minimum_notional="6")
    assert (await desk.fetch()).notes["below minimum_notional"] == "1 assets worth 0.60 USDT"


async def test_another_quote_asset_prices_everything(desk: Desk) -> None:
    """In BTC: USDT is cash in another currency."""
    desk.venue.balances |= {"ETH": ("2", "0"), "USDT": ("6000", "0")}
    snapshot = await desk.fetch(markets=["spot"], quote_asset="BTC")
    assert one(snapshot.positions, symbol="ETH").currency == "BTC"
    assert nav(snapshot, "BTC") == pytest.approx(0.1 + 0.1)


async def test_a_balance_that_cannot_be_read_leaves_the_portfolio_undefined(desk: Desk) -> None:
    """The others are read and the fetch stands."""
    desk.venue.balances |= {"BTC": ("1", "0"), "ETH": ("two", "0")}
    snapshot = await desk.fetch(markets=["spot"])
    assert holdings(snapshot) == {"BTC": 1}
    (rejected,) = snapshot.rejected
    assert (rejected.kind, rejected.reason, rejected.portfolio) == ("positions", "not_a_number", "bn")
    assert state(snapshot).books["bn"] is Gap.INPUT_REJECTED


async def test_a_contract_nobody_has_listed_yet_is_rejected_until_it_is(desk: Desk) -> None:
    """Taken for an asset it would count with its notional. The listing is read again, not before ten minutes are over."""
    desk.venue.wallet("USDT", "100")
    await desk.fetch(markets=["usd_m"])
    desk.venue.marks["NEWUSDT"] = "5"
    desk.venue.position("NEWUSDT", "10", "4")
    snapshot = await desk.fetch()
    assert [(each.reason, each.kind) for each in snapshot.rejected] == [("unlisted_symbol", "positions")]
    assert state(snapshot).books["bn"] is Gap.INPUT_REJECTED
    await desk.clock.advance(599)
    desk.calls()
    await desk.fetch()
    assert not desk.asked("/fapi/v1/exchangeInfo")
    await desk.clock.advance(1)
    await desk.fetch()
    await listing_read(desk)
    assert nav(await desk.fetch()) == pytest.approx(110)


async def test_a_contract_of_a_kind_nobody_knows_is_rejected(desk: Desk) -> None:
    """Whether it is margined decides what it is worth."""
    desk.venue.wallet("USDT", "100")
    desk.venue.position("BTCUSDT", "1", "60000")
    row = {"symbol": "BTCUSDT", "baseAsset": "BTC", "quoteAsset": "USDT", "contractType": "SOMETHING_NEW"}
    desk.venue.fault("/fapi/v1/exchangeInfo", answer({"symbols": [row]}))
    snapshot = await desk.fetch(markets=["usd_m"])
    assert snapshot.positions == ()
    assert [(each.kind, each.reason) for each in snapshot.rejected] == [("positions", "unknown_contract")]


async def listing_read(desk: Desk) -> None:
    """Wait until a listing read in the background is there."""
    assert desk.source is not None
    for market in (desk.source._spot, desk.source._usd_m):
        if market.catalogue._reading is not None:
            await asyncio.wait({market.catalogue._reading})


@pytest.mark.parametrize("path", ["/api/v3/account", "/fapi/v3/account", "/fapi/v3/positionRisk"])
async def test_an_account_that_is_something_else_is_a_bad_response(desk: Desk, path: str) -> None:
    """No balances are not an empty account."""
    desk.venue.fault(path, answer({"rows": []}), always=True)
    with pytest.raises(Retryable) as failure:
        await desk.fetch()
    assert failure.value.reason is Reason.BAD_RESPONSE


# Prices, quotes and bars.


async def test_a_book_has_best_prices_and_the_value_of_its_levels(desk: Desk) -> None:
    """Of what is held and of the symbols wanted; the futures market says when."""
    desk.venue.balances |= {"BTC": ("1", "0"), "USDC": ("5", "0")}
    snapshot = await desk.fetch(symbols=["ETHBTC", "ETHUSDT"], depth_levels=10)
    assert {(each.venue, each.symbol, each.currency) for each in snapshot.quotes} == {
        ("binance", "BTC", "USDT"),
        ("binance", "ETH", "USDT"),
        ("binance", "ETHBTC", "BTC"),
        ("binance_usd_m", "ETHUSDT", "USDT"),
    }
    quote = one(snapshot.quotes, symbol="BTC")
    bids, asks = desk.venue.book("BTCUSDT", "60000.00", 10)
    assert (quote.bid, quote.bid_quantity) == (Decimal(bids[0][0]), Decimal(bids[0][1]))
    assert (quote.ask, quote.ask_quantity, quote.depth_levels) == (Decimal(asks[0][0]), Decimal(asks[0][1]), 10)
    assert quote.bid_depth_value == sum(Decimal(price) * Decimal(quantity) for price, quantity in bids)
    assert quote.ask_depth_value == sum(Decimal(price) * Decimal(quantity) for price, quantity in asks)
    assert quote.at == NOON
    assert one(snapshot.quotes, symbol="ETHUSDT").at == NOON - timedelta(milliseconds=5)


@pytest.mark.parametrize("symbols", [["BTCUSDT"], ["BTCUSDT", "ETHUSDT", "BTCUSDC"]])
async def test_without_levels_best_bid_and_ask_are_enough(desk: Desk, symbols: list[str]) -> None:
    """One call of each market, however many symbols; no depth is claimed."""
    snapshot = await desk.fetch(symbols=symbols, depth_levels=0, read=["quotes"])
    assert {each.depth_levels for each in snapshot.quotes} == {0}
    assert {each.bid_depth_value for each in snapshot.quotes} == {None}
    quote = one(snapshot.quotes, venue="binance_usd_m", symbol="BTCUSDT")
    assert (quote.bid, quote.ask) == (Decimal("60093.99"), Decimal("60106.01"))
    assert len(snapshot.quotes) == 2 * len(symbols)
    assert not desk.venue.asked("/api/v3/depth")
    (query,) = desk.asked("/fapi/v1/ticker/bookTicker")
    assert query.get("symbol") == (symbols[0] if len(symbols) == 1 else None)


async def test_an_empty_side_of_a_book_has_no_price(desk: Desk) -> None:
    """Neither by depth nor by ticker."""
    desk.venue.fault("/api/v3/depth", answer({"lastUpdateId": 1, "bids": [], "asks": [["5.0", "2"]]}))
    snapshot = await desk.fetch(markets=["spot"], symbols=["BTCUSDT"], read=["quotes"])
    assert snapshot.quotes == (
        Quote("BTC", "USDT", "binance", NOON, None, Decimal("5.0"), None, Decimal(2), 5, Decimal(0), Decimal("10.0")),
    )
    row = {"symbol": "BTCUSDT", "bidPrice": "0.00", "bidQty": "0.00", "askPrice": "5.0", "askQty": "2"}
    desk.venue.fault("/api/v3/ticker/bookTicker", answer([row]))
    desk.make(markets=["spot"], symbols=["BTCUSDT"], read=["quotes"], depth_levels=0)
    assert (await desk.fetch()).quotes == (Quote("BTC", "USDT", "binance", NOON, None, Decimal("5.0"), None, Decimal(2)),)


async def test_symbols_wanted_are_priced_though_nothing_of_them_is_held(desk: Desk) -> None:
    """On every market that lists them; one nobody lists is rejected and stops nothing."""
    snapshot = await desk.fetch(symbols=["ETHUSDT", "BTCUSDT_260626", "NOPE"])
    assert {each.symbol: each.price for each in snapshot.prices} == {
        "ETH": Decimal("3000.00"),
        "ETHUSDT": Decimal("3010.00"),
        "BTCUSDT_260626": Decimal("61000.00"),
    }
    assert {each.symbol for each in snapshot.histories} == {"ETH", "ETHUSDT", "BTCUSDT_260626"}
    assert [(each.record, each.reason) for each in snapshot.rejected] == [("symbols: NOPE", "unknown_symbol")]


async def test_only_the_markets_asked_for_know_a_symbol(desk: Desk) -> None:
    """A futures-only source that has to price BNB by the spot market does not read spot books for that."""
    desk.venue.wallet("BNB", "1")
    snapshot = await desk.fetch(markets=["usd_m"], symbols=["ETHUSDT", "ETHBTC"])
    assert {each.symbol for each in snapshot.prices} == {"BNB", "ETHUSDT"}
    assert {each.symbol for each in snapshot.quotes} == {"ETHUSDT"}
    assert [each.record for each in snapshot.rejected] == ["symbols: ETHBTC"]
    assert not desk.venue.asked("/api/v3/account")


async def test_a_market_that_went_spoils_no_other(desk: Desk) -> None:
    """Delisted since the listing was read: -1121. The others are priced, it is noted, and the listing is read again."""
    desk.venue.balances |= {"BTC": ("1", "0"), "ETH": ("1", "0")}
    await desk.fetch(markets=["spot"])
    del desk.venue.prices["ETHUSDT"]
    await desk.clock.advance(3600)
    snapshot = await desk.fetch()
    assert {each.symbol for each in snapshot.prices} == {"BTC"}
    assert {each.kind for each in snapshot.rejected} == {"prices", "quotes", "fills", "orders"}
    assert {each.reason for each in snapshot.rejected} == {"unknown_symbol"}
    await desk.fetch()
    await listing_read(desk)
    snapshot = await desk.fetch()
    assert one(snapshot.positions, symbol="ETH").currency == "BTC"
    assert one(snapshot.prices, symbol="ETH").price == Decimal("0.05000")
    assert snapshot.rejected == ()


async def test_a_market_that_went_is_looked_up_by_whoever_notices(desk: Desk) -> None:
    """Here nothing but executions are read."""
    desk.venue.balances |= {"BTC": ("1", "0"), "ETH": ("1", "0")}
    await desk.fetch(markets=["spot"], read=["fills"])
    del desk.venue.prices["ETHUSDT"]
    await desk.clock.advance(3600)
    assert {each.reason for each in (await desk.fetch()).rejected} == {"unknown_symbol"}
    await desk.fetch()
    await listing_read(desk)
    desk.calls()
    assert (await desk.fetch()).rejected == ()
    assert {query["symbol"] for query in desk.asked("/api/v3/myTrades")} == {"ETHBTC"}


async def test_bars_are_closes_of_days_that_have_ended(desk: Desk) -> None:
    """Today's is still being made."""
    desk.venue.balances |= {"BTC": ("1", "0")}
    snapshot = await desk.fetch(symbols=["BTCUSDT"], history_days=400)
    today = desk.venue.today
    for symbol, name in (("BTC", "BTCUSDT"), ("BTCUSDT", "fapi:BTCUSDT")):
        history = one(snapshot.histories, symbol=symbol)
        assert history.currency == "USDT"
        assert history.days.astype(int).tolist() == list(range(today - 400, today))
        assert history.closes.tolist() == [float(desk.venue.close(name, day)) for day in range(today - 400, today)]


async def test_many_years_of_bars_are_read_page_by_page(desk: Desk) -> None:
    """2,500 days, a thousand at a time."""
    desk.venue.balances |= {"BTC": ("1", "0")}
    snapshot = await desk.fetch(markets=["spot"], history_days=2500)
    assert one(snapshot.histories, symbol="BTC").days.size == 2500
    assert len(desk.venue.asked("/api/v3/klines")) == 3


async def test_bars_are_asked_for_again_when_a_day_has_ended(desk: Desk) -> None:
    """Not before; and of what is kept only an overlap of five days is read."""
    desk.venue.balances |= {"BTC": ("1", "0")}
    first = await desk.fetch(markets=["spot"])
    desk.kept = {each.symbol: each for each in first.histories}
    await desk.clock.advance(11 * 3600)
    desk.calls()
    assert (await desk.fetch()).histories is first.histories
    assert not desk.asked("/api/v3/klines")
    await desk.clock.advance(2 * 3600)
    second = one((await desk.fetch()).histories, symbol="BTC")
    today = desk.venue.today
    assert second.days.astype(int).tolist() == list(range(today - 6, today))
    (query,) = desk.asked("/api/v3/klines")
    assert (int(query["startTime"]), int(query["endTime"])) == ((today - 6) * DAY_MS, today * DAY_MS - 1)


async def test_a_day_that_does_not_appear_is_asked_for_once_an_hour(desk: Desk) -> None:
    """Its market may have stopped."""
    desk.venue.balances |= {"BTC": ("1", "0")}
    desk.venue.fault("/api/v3/klines", answer([]), always=True)
    await desk.fetch(markets=["spot"])
    desk.calls()
    await desk.clock.advance(3599)
    await desk.fetch()
    assert not desk.asked("/api/v3/klines")
    await desk.clock.advance(1)
    desk.venue.heal()
    assert one((await desk.fetch()).histories, symbol="BTC").days.size == DAYS


async def test_what_is_not_offered_any_more_is_read_whole(desk: Desk) -> None:
    """The exporter has seen that the past was changed."""
    desk.venue.balances |= {"BTC": ("1", "0")}
    whole = await desk.fetch(markets=["spot"])
    desk.make(markets=["spot"])
    desk.kept = {each.symbol: each for each in whole.histories}
    assert one((await desk.fetch()).histories, symbol="BTC").days.size == 5
    desk.kept = {}
    assert one((await desk.fetch()).histories, symbol="BTC").days.size == DAYS
    desk.calls()
    await desk.fetch()
    assert not desk.asked("/api/v3/klines")


async def test_more_days_wanted_than_kept_are_read(desk: Desk) -> None:
    """`history_days` was raised."""
    desk.venue.balances |= {"BTC": ("1", "0")}
    desk.kept = {each.symbol: each for each in (await desk.fetch(markets=["spot"], history_days=100)).histories}
    desk.make(markets=["spot"], history_days=300)
    assert one((await desk.fetch()).histories, symbol="BTC").days.size == 300


async def test_a_bar_that_cannot_be_read_is_a_day_without_a_close(desk: Desk) -> None:
    """It is counted; the others stand."""
    desk.venue.balances |= {"BTC": ("1", "0")}
    day = desk.venue.today - 1
    good = [day * DAY_MS, "1", "1", "1", "60000.5", "1", day * DAY_MS + DAY_MS - 1]
    today = [good[0] + DAY_MS, *good[1:6], good[6] + DAY_MS]
    desk.venue.fault("/api/v3/klines", answer([[1, 2], [*good[:4], "0", *good[5:]], None, good, today]))
    snapshot = await desk.fetch(markets=["spot"])
    assert one(snapshot.histories, symbol="BTC").closes.tolist() == [60000.5]
    assert [each.reason for each in snapshot.rejected] == ["not_a_list", "not_positive", "not_a_list"]


# Orders and executions.


async def test_executions_of_both_markets(desk: Desk) -> None:
    """A spot trade is one in the asset, whatever it was paid with; a futures trade has the venue's own gain."""
    desk.venue.balances |= {"BTC": ("1", "0")}
    desk.venue.position("BTCUSDT", "0.5", "59900")
    desk.venue.trade("spot", "BTCUSDT", "BUY", "0.1", "60000.5", ago_seconds=60, order_id=7)
    desk.venue.trade("spot", "ETHBTC", "SELL", "2", "0.05", ago_seconds=50)
    desk.venue.trade("usd_m", "BTCUSDT", "SELL", "0.2", "60100", ago_seconds=40, realizedPnl="40.5", commission="4.8")
    snapshot = await desk.fetch(symbols=["ETHBTC"])
    bought = one(snapshot.fills, execution_id="spot-BTCUSDT-28000")
    assert (bought.symbol, bought.currency, bought.side, bought.venue) == ("BTC", "USDT", "BUY", "binance")
    assert (bought.quantity, bought.price, bought.order_id) == (Decimal("0.1"), Decimal("60000.5"), "spot-BTCUSDT-7")
    assert bought.at == NOON - timedelta(seconds=60)
    crossed = one(snapshot.fills, symbol="ETH")
    assert (crossed.currency, crossed.side) == ("BTC", "SELL")
    future = one(snapshot.fills, symbol="BTCUSDT")
    assert (future.venue, future.side, future.realized_pnl, future.fee) == (
        "binance_usd_m", "SELL", Decimal("40.5"), Decimal("4.8"),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("commission", "asset", "fee"),
    [
        ("1.5", "USDT", "1.5"),
        ("0.0001", "BTC", "6.00000"),
        ("-0.3", "USDT", "-0.3"),
        ("0", "BNB", "0"),
    ],
)
async def test_a_commission_is_told_in_the_trades_currency(desk: Desk, commission: str, asset: str, fee: str) -> None:
    """One in the asset bought is worth its price in the trade; a rebate is negative."""
    desk.venue.balances |= {"BTC": ("1", "0")}
    desk.venue.trade("spot", "BTCUSDT", "BUY", "0.1", "60000", ago_seconds=60, commission=commission, asset=asset)
    assert one((await desk.fetch(markets=["spot"])).fills).fee == Decimal(fee)


async def test_a_commission_in_a_third_asset_is_worth_what_it_was_in_that_minute(desk: Desk) -> None:
    """The price at which the minute of the trade opened, on either market; asked for once."""
    desk.venue.balances |= {"BTC": ("1", "0")}
    desk.venue.position("BTCUSDT", "0.5", "59900")
    for market in ("spot", "usd_m"):
        for ago in (61, 3600):
            desk.venue.trade(market, "BTCUSDT", "BUY", "0.1", "60000", ago_seconds=ago, commission="0.002", asset="BNB")
    snapshot = await desk.fetch()
    minutes = {ago: int((NOON.timestamp() - ago) // 60) for ago in (61, 3600)}
    opens = {ago: Decimal(desk.venue.close("BNBUSDT", minute - 1)) for ago, minute in minutes.items()}
    fees = {(each.venue, each.at): each.fee for each in snapshot.fills}
    assert fees == {
        (venue, NOON - timedelta(seconds=ago)): Decimal("0.002") * opens[ago]
        for venue in ("binance", "binance_usd_m")
        for ago in (61, 3600)
    }
    assert len([query for query in desk.asked("/api/v3/klines") if query["interval"] == "1m"]) <= 2
    desk.calls()
    await desk.clock.advance(60)
    assert {(each.venue, each.at): each.fee for each in (await desk.fetch()).fills} == fees
    assert not [query for query in desk.asked("/api/v3/klines") if query["interval"] == "1m"]


async def test_a_commission_is_worth_what_a_market_the_other_way_round_says(desk: Desk) -> None:
    """Paid in lira: USDTTRY prices the dollar."""
    desk.venue.balances |= {"BTC": ("1", "0")}
    desk.venue.trade("spot", "BTCUSDT", "BUY", "0.1", "60000", ago_seconds=60, commission="40", asset="TRY")
    rate = Decimal(desk.venue.close("USDTTRY", int(NOON.timestamp()) // 60 - 2))
    assert one((await desk.fetch(markets=["spot"])).fills).fee == 40 * (1 / rate)


async def test_a_commission_without_a_price_is_nothing_and_noted(desk: Desk) -> None:
    """Not guessed; the execution counts."""
    desk.venue.balances |= {"BTC": ("1", "0")}
    desk.venue.trade("spot", "BTCUSDT", "BUY", "0.1", "60000", ago_seconds=60, commission="3", asset="POINT")
    snapshot = await desk.fetch(markets=["spot"])
    assert one(snapshot.fills).fee == 0
    assert snapshot.notes["binance commissions without a price"] == "1, counted as 0"


async def test_a_trade_is_found_when_what_is_held_changes(desk: Desk) -> None:
    """At the next fetch, by its id; what was read stays."""
    desk.venue.balances |= {"BTC": ("1", "0"), "ETH": ("1", "0")}
    desk.venue.trade("spot", "BTCUSDT", "BUY", "1", "60000", ago_seconds=600)
    await desk.fetch(markets=["spot"])
    await desk.fetch()
    desk.calls()
    assert len((await desk.fetch()).fills) == 1
    assert not desk.asked("/api/v3/myTrades")
    desk.venue.balances["BTC"] = ("1.5", "0")
    desk.venue.trade("spot", "BTCUSDT", "BUY", "0.5", "60010")
    assert len((await desk.fetch()).fills) == 2
    assert [(query["symbol"], query.get("fromId")) for query in desk.asked("/api/v3/myTrades")] == [("BTCUSDT", "28001")]


async def test_a_trade_filed_after_the_balance_is_found_at_the_next_fetch(desk: Desk) -> None:
    """The lists come from another database than the balances."""
    desk.venue.balances |= {"BTC": ("1", "0")}
    await desk.fetch(markets=["spot"])
    await desk.fetch()
    desk.venue.balances["BTC"] = ("1.5", "0")
    assert (await desk.fetch()).fills == ()
    desk.venue.trade("spot", "BTCUSDT", "BUY", "0.5", "60010")
    assert len((await desk.fetch()).fills) == 1


async def test_a_trade_that_leaves_no_trace_is_found_within_a_minute(desk: Desk) -> None:
    """Bought and sold again between two fetches."""
    desk.venue.balances |= {"BTC": ("1", "0")}
    desk.venue.position("ETHUSDT", "1", "3000")
    await desk.fetch()
    await desk.fetch()
    for market, symbol in (("spot", "BTCUSDT"), ("usd_m", "ETHUSDT")):
        desk.venue.trade(market, symbol, "BUY", "1", "3000")
        desk.venue.trade(market, symbol, "SELL", "1", "3000")
    await desk.clock.advance(59)
    assert (await desk.fetch()).fills == ()
    await desk.clock.advance(1)
    assert len((await desk.fetch()).fills) == 4


@pytest.mark.parametrize("market", ["spot", "usd_m"])
async def test_the_whole_look_back_is_read_and_nothing_before_it(desk: Desk, market: str) -> None:
    """2,600 trades over 13 days, of which 10 are wanted; then those that fall out of it go."""
    symbol = "BTCUSDT"
    desk.venue.balances |= {"BTC": ("1", "0")}
    desk.venue.position("BTCUSDT", "1", "60000")
    for number in range(2600):
        desk.venue.trade(market, symbol, "BUY", "0.1", "60000", ago_seconds=13 * 86_400 * (2600 - number) / 2600)
    snapshot = await desk.fetch(markets=[market], look_back_days=10, read=["fills"])
    assert len(snapshot.fills) == 2000
    assert len({each.execution_id for each in snapshot.fills}) == 2000
    assert min(each.at for each in snapshot.fills) >= NOON - timedelta(days=10)
    await desk.clock.advance(86_400)
    assert len((await desk.fetch()).fills) == 1800


async def test_open_and_recent_orders_of_both_markets(desk: Desk) -> None:
    """An open order is told however old it is; one that has ended, if it was placed in the look-back."""
    desk.venue.balances |= {"BTC": ("1", "0")}
    desk.venue.wallet("USDT", "5")
    desk.venue.order("spot", "BTCUSDT", "BUY", "0.1", "50000", ago_seconds=30 * 86_400)
    desk.venue.order("spot", "BTCUSDT", "SELL", "0.2", "61000", status="PARTIALLY_FILLED", filled="0.05", ago_seconds=60)
    desk.venue.order("spot", "BTCUSDT", "SELL", "0.2", "61000", status="CANCELED", ago_seconds=30 * 86_400)
    desk.venue.order("spot", "BTCUSDT", "SELL", "0.2", "62000", status="EXPIRED_IN_MATCH", ago_seconds=50)
    desk.venue.order("usd_m", "ETHUSDT", "BUY", "3", "0", ago_seconds=40, type="STOP_MARKET")
    snapshot = await desk.fetch()
    assert {each.order_id: each.status for each in snapshot.orders} == {
        "spot-BTCUSDT-1000000": "NEW",
        "spot-BTCUSDT-1000001": "PARTIALLY_FILLED",
        "spot-BTCUSDT-1000003": "EXPIRED",
        "usd_m-ETHUSDT-1000000": "NEW",
    }
    partial = one(snapshot.orders, order_id="spot-BTCUSDT-1000001")
    assert (partial.symbol, partial.side, partial.quantity, partial.filled_quantity) == (
        "BTC", "SELL", Decimal("0.2"), Decimal("0.05"),
    )  # fmt: skip
    assert (partial.limit_price, partial.average_price) == (Decimal(61000), Decimal(61000))
    assert (partial.client_order_id, partial.order_type, partial.venue) == ("mine-1", "limit", "binance")
    assert partial.submitted_at == partial.updated_at == NOON - timedelta(seconds=60)
    stop = one(snapshot.orders, symbol="ETHUSDT")
    assert (stop.limit_price, stop.average_price, stop.order_type) == (None, None, "stop_market")


@pytest.mark.parametrize("market", ["spot", "usd_m"])
@pytest.mark.parametrize("end", ["FILLED", "CANCELED"])
async def test_how_an_order_ended_is_known_at_the_next_fetch(desk: Desk, market: str, end: str) -> None:
    """It is open no more, so the list of all is read from it on; then it is left alone."""
    desk.venue.balances |= {"BTC": ("1", "0")}
    desk.venue.wallet("USDT", "5")
    row = desk.venue.order(market, "BTCUSDT", "BUY", "0.1", "50000", ago_seconds=7200)
    later = desk.venue.order(market, "BTCUSDT", "BUY", "0.3", "40000", ago_seconds=60)
    await desk.fetch(markets=[market])
    await desk.fetch()
    row |= {"status": end, "executedQty": "0.1" if end == "FILLED" else "0", "updateTime": desk.venue.now_ms()}
    statuses = {each.order_id[-1]: each.status for each in (await desk.fetch()).orders}
    assert statuses == {"0": end, "1": "NEW"}
    await desk.fetch()
    desk.calls()
    await desk.fetch()
    path = "/api/v3/allOrders" if market == "spot" else "/fapi/v1/allOrders"
    assert not desk.asked(path)
    assert later["status"] == "NEW"


async def test_an_order_of_a_symbol_nobody_holds_is_found(desk: Desk) -> None:
    """All symbols are asked at first and once a minute; between, the known ones."""
    desk.venue.balances |= {"BTC": ("1", "0")}
    await desk.fetch(markets=["spot"])
    desk.venue.order("spot", "BNBUSDT", "BUY", "3", "500")
    desk.calls()
    assert (await desk.fetch()).orders == ()
    assert [query.get("symbol") for query in desk.asked("/api/v3/openOrders")] == ["BTCUSDT"]
    await desk.clock.advance(60)
    assert one((await desk.fetch()).orders).symbol == "BNB"


async def test_many_known_symbols_are_asked_together(desk: Desk) -> None:
    """Fourteen at 6 each weigh more than all at 80."""
    for number in range(14):
        desk.venue.prices[f"C{number}USDT"] = "1.0"
        desk.venue.balances[f"C{number}"] = ("100", "0")
    await desk.fetch(markets=["spot"], read=["orders"])
    desk.calls()
    await desk.fetch()
    assert [query.get("symbol") for query in desk.asked("/api/v3/openOrders")] == [None]


async def test_symbols_without_a_change_are_asked_in_turn(desk: Desk) -> None:
    """Of thirty, ten a fetch once a minute is over, the longest unasked first."""
    for number in range(30):
        desk.venue.prices[f"C{number}USDT"] = "1.0"
        desk.venue.balances[f"C{number}"] = ("100", "0")
    desk.venue.limits["spot"] = 60_000
    await desk.fetch(markets=["spot"], read=["fills"])
    await desk.fetch()
    await desk.clock.advance(60)
    turns = []
    for _ in range(4):
        desk.calls()
        await desk.fetch()
        turns.append({query["symbol"] for query in desk.asked("/api/v3/myTrades")})
    assert [len(turn) for turn in turns] == [10, 10, 10, 0]
    assert len(turns[0] | turns[1] | turns[2]) == 30


async def test_positions_closed_before_we_looked_have_their_trades(desk: Desk) -> None:
    """The futures market tells which symbols earned something; it is asked every five minutes."""
    desk.venue.wallet("USDT", "5")
    desk.venue.trade("usd_m", "ETHUSDT", "SELL", "1", "3000", ago_seconds=3600, realizedPnl="12")
    at = desk.venue.now_ms() - 3_600_000
    desk.venue.income.append({"symbol": "ETHUSDT", "incomeType": "REALIZED_PNL", "income": "12", "asset": "USDT", "time": at})
    assert one((await desk.fetch(markets=["usd_m"])).fills).symbol == "ETHUSDT"
    desk.calls()
    await desk.clock.advance(299)
    await desk.fetch()
    assert not desk.asked("/fapi/v1/income")
    await desk.clock.advance(1)
    await desk.fetch()
    (query,) = desk.asked("/fapi/v1/income")
    assert int(query["startTime"]) == at


async def test_more_closed_positions_than_one_page_tells_are_found(desk: Desk) -> None:
    """Page by page, a thousand each; after ten the notes say that there may be more."""
    desk.venue.wallet("USDT", "5")
    at = desk.venue.now_ms() - 3_600_000
    row = {"incomeType": "REALIZED_PNL", "income": "12", "asset": "USDT", "time": at}
    desk.venue.income += [row | {"symbol": "ETHUSDT"}] * 1500 + [row | {"symbol": "BTCUSDT"}]
    desk.venue.trade("usd_m", "BTCUSDT", "SELL", "1", "3000", ago_seconds=3600)
    snapshot = await desk.fetch(markets=["usd_m"], read=["fills"])
    assert one(snapshot.fills).symbol == "BTCUSDT"
    assert "closed contracts" not in snapshot.notes
    desk.venue.income += [row | {"symbol": "ETHUSDT"}] * 9000
    await desk.clock.advance(300)
    assert "under symbols" in (await desk.fetch()).notes["closed contracts"]
    assert len(desk.asked("/fapi/v1/income")) == 2 + 10


async def test_a_trade_that_cannot_be_read_leaves_profit_and_loss_undefined(desk: Desk) -> None:
    """The others are told; counted again at each fetch until it falls out of the look-back."""
    desk.venue.balances |= {"BTC": ("1", "0")}
    desk.venue.trade("spot", "BTCUSDT", "BUY", "1", "60000", ago_seconds=60)
    desk.venue.trade("spot", "BTCUSDT", "BUY", "1", "-5", ago_seconds=50)
    await desk.fetch(markets=["spot"])
    snapshot = await desk.fetch()
    assert len(snapshot.fills) == 1
    assert [(each.kind, each.reason, each.portfolio) for each in snapshot.rejected] == [("fills", "not_positive", "bn")]
    portfolio = state(snapshot).config.portfolios[0]
    assert state(snapshot).fills(portfolio) is Gap.INPUT_REJECTED
    await desk.clock.advance(8 * 86_400)
    assert (await desk.fetch()).rejected == ()


async def test_an_open_order_that_cannot_be_read_is_rejected_while_it_is_open(desk: Desk) -> None:
    """Without a symbol, of a market that does not trade, or of a side nobody knows."""
    desk.venue.balances |= {"BTC": ("1", "0")}
    desk.venue.halted = {"ETHUSDT"}
    row = desk.venue.order("spot", "BTCUSDT", "HOLD", "1", "5")
    other = desk.venue.order("spot", "ETHUSDT", "BUY", "1", "5")
    snapshot = await desk.fetch(markets=["spot"], read=["orders"])
    assert {each.reason for each in snapshot.rejected} == {"not_a_choice", "unlisted_symbol"}
    assert snapshot.orders == ()
    other["symbol"] = None
    await desk.clock.advance(60)
    assert {each.reason for each in (await desk.fetch()).rejected} == {"not_a_choice", "missing"}
    row |= {"side": "BUY"}
    other["status"] = "CANCELED"
    await desk.clock.advance(60)
    assert one((await desk.fetch()).orders).side == "BUY"


# What it costs.


async def test_fewer_kinds_need_less_weight(desk: Desk) -> None:
    """Accounts alone: the listing, the account, the clock."""
    desk.venue.balances |= {"BTC": ("1", "0")}
    desk.venue.wallet("USDT", "5")
    desk.venue.position("BTCUSDT", "1", "60000")
    snapshot = await desk.fetch(read=["accounts"])
    assert {each.path for each in desk.calls()} == {
        "/api/v3/exchangeInfo", "/api/v3/time", "/api/v3/account",
        "/fapi/v1/exchangeInfo", "/fapi/v1/time", "/fapi/v3/account",
    }  # fmt: skip
    assert snapshot.positions == snapshot.prices == snapshot.fills == snapshot.orders == ()
    assert desk.source is not None
    assert desk.source.provides == {"accounts"}
    await desk.fetch()
    assert [each.path for each in desk.calls()] == ["/api/v3/account", "/fapi/v3/account"]


@pytest.mark.parametrize(
    ("kind", "paths"),
    [
        ("prices", {"/api/v3/ticker/price"}),
        ("quotes", {"/api/v3/depth", "/fapi/v1/depth"}),
        ("histories", {"/api/v3/klines", "/fapi/v1/klines"}),
        ("orders", {"/api/v3/openOrders", "/api/v3/allOrders", "/fapi/v1/openOrders", "/fapi/v1/allOrders", "/fapi/v1/income"}),
        ("fills", {"/api/v3/myTrades", "/fapi/v1/userTrades", "/fapi/v1/income"}),
        ("positions", set()),
    ],
)
async def test_a_kind_costs_its_own_calls_only(desk: Desk, kind: str, paths: set[str]) -> None:
    """Beside those that tell what is held."""
    desk.venue.balances |= {"BTC": ("1", "0")}
    desk.venue.position("BTCUSDT", "1", "60000")
    snapshot = await desk.fetch(read=[kind])
    common = {"exchangeInfo", "time", "account", "positionRisk"}
    assert {each.path for each in desk.calls() if each.path.rpartition("/")[2] not in common} == paths
    others = {"positions", "accounts", "prices", "quotes", "histories", "fills", "orders"} - {kind}
    assert not any(getattr(snapshot, other) for other in others)


async def test_positions_come_with_what_they_are(desk: Desk) -> None:
    """Whether or not instruments were asked for: a contract taken for an asset would be worth its notional."""
    desk.venue.position("BTCUSDT", "1", "60000")
    desk.venue.wallet("USDT", "500")
    snapshot = await desk.fetch(read=["positions", "accounts", "prices"])
    assert one(snapshot.instruments).instrument == "perpetual"
    assert nav(snapshot) == pytest.approx(600)


async def test_the_share_of_the_rate_limit_is_the_larger_markets(desk: Desk) -> None:
    """By the headers, which count the trader's calls too, and the limits the venue tells."""
    desk.venue.balances |= {"BTC": ("1", "0")}
    desk.venue.limits = {"spot": 10_000, "usd_m": 1_000}
    minute = desk.venue.now_ms() // 60_000
    desk.venue.used["usd_m", minute] = 300
    await desk.fetch()
    used = {market: desk.venue.used[market, minute] for market in ("spot", "usd_m")}
    assert desk.source is not None
    assert desk.source.quota_used_ratio == max(used["spot"] / 10_000, used["usd_m"] / 1_000)
    await desk.clock.advance(60)
    assert desk.source.quota_used_ratio == 0.0


async def test_what_would_eat_into_the_traders_share_waits(desk: Desk) -> None:
    """Half is the trader's: at 3,100 of 6,000 nothing more is asked, until the venue counts anew."""
    desk.venue.balances |= {"BTC": ("1", "0")}
    await desk.clock.advance(10)
    await desk.fetch(markets=["spot"], quota_headroom_ratio=0.5)
    desk.venue.used["spot", desk.venue.now_ms() // 60_000] = 3100
    with pytest.raises(Retryable):
        await desk.fetch()
    assert [each.path for each in desk.calls()][-1:] == ["/api/v3/account"]
    await desk.clock.advance(10)
    with pytest.raises(Retryable) as failure:
        await desk.fetch()
    assert failure.value.reason is Reason.RATE_LIMITED
    assert failure.value.retry_after_seconds == pytest.approx(40)
    assert desk.calls() == []
    await desk.clock.advance(40)
    await desk.fetch()


# What can go wrong.


async def test_a_clock_far_from_the_venues_does_not_matter(desk: Desk) -> None:
    """It is measured before the first signed request; bars and look-back go by it too."""
    desk.venue.skew_ms = -26 * 3_600_000
    desk.venue.balances |= {"BTC": ("1", "0")}
    desk.venue.trade("spot", "BTCUSDT", "BUY", "1", "60000", ago_seconds=6.9 * 86_400)
    snapshot = await desk.fetch(markets=["spot"])
    assert len(snapshot.fills) == 1
    assert one(snapshot.histories, symbol="BTC").days[-1].astype(int) == desk.venue.today - 1
    assert snapshot.data_at == NOON - timedelta(hours=26)
    assert len(desk.venue.asked("/api/v3/time")) == 1


async def test_a_clock_that_went_wrong_is_measured_again_once(desk: Desk) -> None:
    """Every signed request of the moment is refused with -1021; one measurement serves all."""
    desk.venue.balances |= {"BTC": ("1", "0"), "ETH": ("1", "0")}
    await desk.fetch(markets=["spot"])
    desk.calls()
    desk.venue.skew_ms = 90_000
    await desk.fetch()
    assert len(desk.venue.asked("/api/v3/time")) == 1


async def test_a_clock_that_stays_wrong_says_what_to_do(desk: Desk) -> None:
    """The venue goes on refusing although its clock was just measured."""
    desk.venue.fault(
        "/api/v3/account", error(400, -1021, "Timestamp for this request is outside of the recvWindow."), always=True
    )
    with pytest.raises(Retryable) as failure:
        await desk.fetch(markets=["spot"], recv_window_ms=1234)
    assert failure.value.reason is Reason.REJECTED
    assert "recv_window_ms (1234)" in str(failure.value)
    assert len(desk.venue.asked("/api/v3/account")) == 2


async def test_the_receive_window_is_the_configured_one(desk: Desk) -> None:
    """In every signed request."""
    await desk.fetch(recv_window_ms=60_000)
    assert {each.query.get("recvWindow") for each in desk.calls() if "signature" in each.query} == {"60000"}


async def test_neither_key_nor_signature_stands_in_an_error(desk: Desk) -> None:
    """Nor in the configuration's own text."""
    desk.venue.fault("/api/v3/account", error(400, -1022, "Signature for this request is not valid."), always=True)
    with pytest.raises(Permanent) as failure:
        await desk.fetch(markets=["spot"])
    said = f"{failure.value!r} {failure.value} {desk.source and desk.source.config!r}"
    assert not any(secret in said for secret in (KEY, SECRET, desk.calls()[-1].query["signature"]))


async def test_the_listing_is_read_again_each_day_while_the_old_one_serves(desk: Desk) -> None:
    """In the background; where that fails the old one stays, the notes say so, and it is tried again in ten minutes."""
    desk.venue.balances |= {"BTC": ("1", "0")}
    await desk.fetch(markets=["spot"])
    desk.calls()
    await desk.clock.advance(86_400)
    desk.venue.fault("/api/v3/exchangeInfo", error(503, -1008, "overloaded"))
    desk.venue.balances["NEW"] = ("1", "0")
    desk.venue.prices["NEWUSDT"] = "5"
    assert (await desk.fetch()).notes["no market"] == "NEW"
    await listing_read(desk)
    snapshot = await desk.fetch()
    assert "overloaded" in snapshot.notes["binance listing is old"]
    await desk.clock.advance(599)
    await desk.fetch()
    await listing_read(desk)
    assert len(desk.asked("/api/v3/exchangeInfo")) == 1
    await desk.clock.advance(1)
    await desk.fetch()
    await listing_read(desk)
    snapshot = await desk.fetch()
    assert "binance listing is old" not in snapshot.notes
    assert one(snapshot.prices, symbol="NEW").price == 5
    assert len(desk.asked("/api/v3/exchangeInfo")) == 2


async def test_the_first_listing_outlives_a_fetch_that_gave_up(desk: Desk) -> None:
    """A deadline during the large answer does not begin it anew."""
    released = asyncio.Event()
    made = desk.make(markets=["spot"])
    ask = made._spot.api.listing
    begun: list[None] = []

    async def slow() -> Any:
        begun.append(None)
        await released.wait()
        return await ask()

    made._spot.catalogue._ask = slow
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await desk.fetch()
    released.set()
    await desk.fetch()
    assert len(begun) == 1


async def test_no_markets_are_a_bad_response(desk: Desk) -> None:
    """A listing that is none; one that cannot read a market leaves that one out."""
    desk.venue.fault("/api/v3/exchangeInfo", answer({"symbols": None}))
    with pytest.raises(Retryable) as failure:
        await desk.fetch(markets=["spot"])
    assert failure.value.reason is Reason.BAD_RESPONSE
    rows = [{"symbol": "BTCUSDT", "status": "TRADING", "baseAsset": "BTC", "quoteAsset": "USDT"}, {"symbol": "X"}]
    desk.venue.fault("/api/v3/exchangeInfo", answer({"symbols": rows}))
    desk.venue.balances |= {"BTC": ("1", "0")}
    snapshot = await desk.fetch()
    assert nav(snapshot) == 60_000
    assert [(each.kind, each.reason) for each in snapshot.rejected] == [("instruments", "missing")]


async def test_it_only_reads(desk: Desk) -> None:
    """Every request is a GET, signed where it must be."""
    desk.venue.balances |= {"BTC": ("1", "0")}
    desk.venue.position("BTCUSDT", "1", "60000")
    await desk.fetch()
    calls = desk.calls()
    assert {each.method for each in calls} == {"GET"}
    assert all(("signature" in each.query) == ("x-mbx-apikey" in each.headers) for each in calls)


# Configuration.


@pytest.mark.parametrize(
    ("settings", "path"),
    [
        ({"read": ["positions", "signals"]}, "read[1]"),
        ({"markets": []}, "markets"),
        ({"markets": ["coin_m"]}, "markets[0]"),
        ({"recv_window_ms": 60_001}, "recv_window_ms"),
        ({"depth_levels": 7}, "depth_levels"),
        ({"minimum_notional": "-1"}, "minimum_notional"),
        ({"quote_asset": ""}, "quote_asset"),
        ({"spot_url": "ftp://x"}, "spot_url"),
    ],
)
def test_a_configuration_that_cannot_work_is_refused(settings: Mapping[str, Any], path: str) -> None:
    """With the key's path."""
    given = {"type": "binance", "name": "bn", "api_key": KEY, "api_secret": SECRET}
    faults = validate(Config, given | dict(settings))
    assert not isinstance(faults, Config)
    assert [fault.path for fault in faults] == [path]


def test_it_delivers_what_it_was_asked_for() -> None:
    """By default everything it can; positions bring what they are."""
    clock = ManualClock()
    everything = {"instruments", "positions", "accounts", "prices", "quotes", "histories", "fills", "orders"}
    assert source(clock).provides == everything
    assert source(clock, read=["positions"]).provides == {"positions", "instruments"}
    assert source(clock, portfolio="crypto").config.book == "crypto"
    assert source(clock).config.spot_url == SPOT
    assert np.isclose(source(clock).quota_used_ratio, 0.0)
