"""Exchanges as ccxt describes them: every one can be made, led elsewhere and asked what it needs, without a call."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from deskwatch.clock import SystemClock
from deskwatch.http import HttpConfig
from deskwatch.venues import ccxt_exchange as venue
from deskwatch.venues.ccxt_exchange import Access, Exchange, MarketKind
from deskwatch.venues.ccxt_wire import redirected

HERE = "http://127.0.0.1:1"


def addresses(found: Any) -> list[str]:
    """Every one, however deep."""
    if isinstance(found, dict):
        return [address for each in found.values() for address in addresses(each)]
    return [found]


def test_paths_and_templates_of_addresses_stay() -> None:
    """As OKX, Bybit, Kraken Futures and Binance have them."""
    given = {
        "rest": "https://{hostname}",
        "v2": {"public": "https://api.{hostname}/v2/", "ws": "wss://stream.{hostname}/x"},
        "futures": "https://futures.kraken.com/derivatives/api/",
    }
    assert redirected(given, "http://127.0.0.1:80/region/") == {
        "rest": "http://127.0.0.1:80/region",
        "v2": {"public": "http://127.0.0.1:80/region/v2/", "ws": "wss://stream.{hostname}/x"},
        "futures": "http://127.0.0.1:80/region/derivatives/api/",
    }


async def test_every_exchange_can_be_made_and_led_elsewhere() -> None:
    """None has an address left that leads to itself; what it needs is known; no call is made."""
    assert len(venue.exchanges()) > 90
    for name in venue.exchanges():
        traits = venue.traits(name)
        assert set(traits.credentials) <= set(venue.CREDENTIALS)
        given = dict.fromkeys(traits.credentials, "x")
        exchange = Exchange(Access(name, HttpConfig(), given, base_url=HERE, headroom_ratio=0.5), SystemClock())
        made = exchange._ready()
        for address in addresses(made.urls["api"]):
            assert address.startswith((HERE, "ws")), (name, address)
        assert made.tokenBucket["refillRate"] == pytest.approx(0.5 / venue._class(name)({}).rateLimit), name
        assert exchange.wants_a_symbol(("spot", None), "fetchMyTrades") in (True, False)
        assert exchange.limit("BTC/USDT", "fetchOHLCV") is None or exchange.limit("BTC/USDT", "fetchOHLCV") > 0
        await exchange.close()


@pytest.mark.parametrize("name", [name for name in venue.exchanges() if venue.traits(name).sandbox][::6])
async def test_a_sandbox_can_be_led_elsewhere_too(name: str) -> None:
    """Its addresses are the ones replaced."""
    exchange = Exchange(Access(name, HttpConfig(), base_url=HERE, sandbox=True), SystemClock())
    made = exchange._ready()
    assert made.isSandboxModeEnabled
    assert all(address.startswith((HERE, "ws")) for address in addresses(made.urls["api"]))
    await exchange.close()


async def test_calls_that_would_change_something_are_refused() -> None:
    """A key that could trade must not."""
    exchange = Exchange(Access("kraken", HttpConfig(), base_url=HERE), SystemClock())
    for method in ("create_order", "cancel_order", "withdraw", "transfer", "set_leverage", "sign"):
        with pytest.raises(ValueError, match="does not only read"):
            await exchange.call(method)
    await exchange.close()


class Told:
    """Stands for a ccxt exchange whose call looks at some of its options."""

    def __init__(self, *looks: str) -> None:
        self.looks = looks
        self.options: dict[str, Any] = {"defaultType": "margin", "other": 1}
        self.seen: list[tuple[Any, Any]] = []

    def handle_market_type_and_params(self) -> None:
        """ccxt's."""

    def handle_sub_type_and_params(self) -> None:
        """ccxt's."""

    async def fetch_my_trades(self) -> list[str]:
        """Asks for types as ccxt's own code does."""
        self.seen.append((self.options["defaultType"], self.options["defaultSubType"]))
        for name in self.looks:
            getattr(self, name)()
        return []


TYPE, SUBTYPE = "handle_market_type_and_params", "handle_sub_type_and_params"
KINDS: list[MarketKind] = [("spot", None), ("swap", "inverse"), ("swap", "linear"), ("future", "linear")]


@pytest.mark.parametrize(
    ("looks", "asked"),
    [((), KINDS[:1]), ((TYPE,), [KINDS[0], KINDS[1], KINDS[3]]), ((TYPE, SUBTYPE), KINDS), ((SUBTYPE,), KINDS[:3])],
)
async def test_types_of_markets_are_asked_for_as_often_as_ccxt_tells_them_apart(looks: Any, asked: list[MarketKind]) -> None:
    """One call where one answers for all; its options are as they were afterwards."""
    exchange = Exchange(Access("kraken", HttpConfig()), SystemClock())
    told = Told(*looks)
    exchange._ccxt = told
    for name, what in ((TYPE, "type"), (SUBTYPE, "subtype")):
        original = getattr(told, name)
        setattr(told, name, lambda original=original, what=what: exchange._notice(original, what))
    for _ in range(2):
        told.seen.clear()
        for kind in exchange.apart("fetch_my_trades", KINDS):
            await exchange.call_as(kind, "fetch_my_trades")
        assert told.seen == asked
    assert told.options == {"defaultType": "margin", "other": 1, "defaultSubType": None}


def test_ccxt_logs_no_requests_whatever_the_level() -> None:
    """Its debug lines hold keys and signatures."""
    venue.exchanges()
    assert not logging.getLogger("ccxt.base.exchange").isEnabledFor(logging.DEBUG)


async def test_nothing_is_left_running_by_making_and_closing_one() -> None:
    """Closing one that was never used is nothing; a closed one can be used again."""
    exchange = Exchange(Access("kraken", HttpConfig(), base_url=HERE), SystemClock())
    await exchange.close()
    exchange._ready()
    await exchange.close()
    assert exchange.markets == {}
    assert len(asyncio.all_tasks()) == 1
