"""How ccxt reaches an exchange from here: one session, no redirects, bounded bodies, exact numbers, nothing that is not JSON.

ccxt takes a body it cannot parse for an empty answer: a login page would be an account that holds nothing. Here it is an error.
"""

from __future__ import annotations

import json
import logging
import ssl
from collections.abc import Mapping
from decimal import Decimal
from functools import partial
from importlib import import_module
from typing import Any, cast
from urllib.parse import urlsplit

import aiohttp

from deskwatch.http import HttpConfig
from deskwatch.venues.ccxt_errors import Redirected, Seen, TooLarge
from deskwatch.venues.wire import MAX_BYTES

NO_PAUSE_MILLISECONDS = 0
ONE_RECORD = ("parse_trade", "parse_order", "parse_position", "parse_ticker", "parse_ohlcv")
"""ccxt's parsers of one record."""
UNREADABLE = "unreadable"
"""Marks a record that ccxt's parser could not read: it has nothing else but a symbol, where that is known."""
LOOK_SECONDS = 0.02
"""How often ccxt's throttle looks whether it may go on; its own thousandth of a second is a busy loop."""


class Line:
    """The session of one exchange, and what came over it last.

    Args:
        config: certificate, proxy, deadline of one call.
    """

    def __init__(self, config: HttpConfig) -> None:
        self._config = config
        self.seen = Seen()

    def equip(self, exchange: Any) -> None:
        """Give a ccxt instance this line. Called in the loop the instance lives in."""
        exchange.ssl_context = ssl.create_default_context(cafile=str(self._config.ca_file or exchange.cafile))
        connector = aiohttp.TCPConnector(ssl=exchange.ssl_context)
        exchange.session = aiohttp.ClientSession(connector=connector, middlewares=(self._watch,), trust_env=False)
        exchange.own_session = True  # so that its own `close` closes it
        exchange.aiohttp_proxy = self._config.proxy
        exchange.timeout = int(self._config.timeout_seconds * 1000)
        exchange.timeout_on_exit = NO_PAUSE_MILLISECONDS
        exchange.parse_json = partial(self._parsed, exchange)
        exchange.number = Decimal
        for parser in ONE_RECORD:
            setattr(exchange, parser, partial(_sheltered, exchange, getattr(exchange, parser)))
        if type(exchange).parse_order_book_bid_ask is _base(exchange).parse_order_book_bid_ask:
            exchange.parse_order_book_bid_ask = partial(_exact_level, exchange)

    async def _watch(self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        self.seen = Seen()
        response = await handler(request)
        self.seen = Seen(response.status, {name.lower(): value for name, value in response.headers.items()})
        if 300 <= response.status < 400:
            response.close()
            raise Redirected(f"answered {response.status}, a redirect, which is not followed: check its address")
        response.content = cast("aiohttp.StreamReader", _Bounded(response.content))
        return response

    def _parsed(self, exchange: Any, text: str) -> Any:
        """The JSON value, numbers as written; None for an error that is no JSON, whose status says enough."""
        try:
            found = json.loads(text, parse_float=str, parse_int=str, object_hook=_breathe)
        except (ValueError, RecursionError):
            found = None
        if isinstance(found, dict | list):
            return found
        if self.seen.status is not None and self.seen.status >= 400:
            return None
        raise _bad_response()(f"{exchange.id} answered {len(text)} characters that are no JSON")


class _Bounded:
    """A body that is read up to a bound."""

    def __init__(self, stream: aiohttp.StreamReader) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    async def read(self, _: int = -1) -> bytes:
        """All of it.

        Raises:
            TooLarge: it has more than `MAX_BYTES`.
        """
        body = bytearray()
        async for part in self._stream.iter_any():
            body += part
            if len(body) > MAX_BYTES:
                raise TooLarge(f"the answer is over {MAX_BYTES} bytes")
        return bytes(body)


def _breathe(found: dict[str, Any]) -> dict[str, Any]:
    """The object as it is. A call into Python for each is where the interpreter lets other threads run: parsing an exchange's
    whole list of markets would otherwise stop the event loop for as long as it takes."""
    return found


def _sheltered(exchange: Any, parse: Any, record: Any, market: Any = None, *args: Any, **options: Any) -> Any:
    """What the parser makes of one record; one it trips over must not cost the page it stands on."""
    try:
        return parse(record, market, *args, **options)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
        if isinstance(record, list):
            return [None] * 6  # a candle
        # ccxt sorts and cuts by time: without one the record would be dropped unseen.
        symbol = market["symbol"] if market else None
        return {"id": "", "symbol": symbol, "timestamp": exchange.milliseconds(), UNREADABLE: True, "info": record}


def _base(exchange: Any) -> Any:
    return next(each for each in type(exchange).__mro__ if each.__name__ == "Exchange" and "base.exchange" in each.__module__)


def _bad_response() -> Any:
    return import_module("ccxt.base.errors").BadResponse


def _exact_level(exchange: Any, level: Any, price: Any = 0, amount: Any = 1, _: Any = 2) -> list[Any]:
    """Price and amount as written; ccxt's own makes floats of them."""
    return [exchange.safe_number(level, price), exchange.safe_number(level, amount)]


def redirected(addresses: Any, base_url: str) -> Any:
    """Every address of `urls['api']`, with another scheme and host before its own path. Templates in paths stay."""
    if isinstance(addresses, Mapping):
        return {name: redirected(address, base_url) for name, address in addresses.items()}
    if not isinstance(addresses, str) or not addresses.startswith(("http://", "https://")):
        return addresses
    return base_url.rstrip("/") + urlsplit(addresses).path


def quieten() -> None:
    """ccxt logs whole requests at level debug, keys and signatures included."""
    logging.getLogger("ccxt").setLevel(logging.INFO)
