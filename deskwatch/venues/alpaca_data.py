"""Alpaca's market data: latest quotes and trades, and daily bars, of many symbols at a time.

Shares and crypto pairs have endpoints of their own. A symbol the venue does not take is left out and remembered, so that one of
them does not cost the others their prices. Returns the venue's JSON by symbol.
Source: Alpaca, Market Data API 1.1.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from deskwatch.errors import Permanent, Reason, Retryable
from deskwatch.venues.alpaca import a_list, an_object
from deskwatch.venues.wire import Wire

LATEST_SYMBOLS = 200
"""Symbols of one call: with more the address gets too long for some proxies."""
BARS_LIMIT = 10_000
"""Most bars on one page, all symbols together."""
_INVALID = re.compile(r"invalid symbols?\W+([A-Za-z0-9./_-]+)")
"""How a refusal names the symbol it does not take."""


@dataclass(frozen=True, slots=True)
class Market:
    """Where the data of one kind of instrument is, and what its endpoints are told beside symbols and times."""

    latest: str
    bars: str
    adjustment: bool


SHARES = Market("/v2/stocks/{}/latest", "/v2/stocks/bars", adjustment=True)
PAIRS = Market("/v1beta3/crypto/us/latest/{}", "/v1beta3/crypto/us/bars", adjustment=False)


class MarketData:
    """Market data as one account may see it.

    Args:
        wire: the market data API.
    """

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._unknown: set[str] = set()

    @property
    def unknown(self) -> frozenset[str]:
        """Symbols the venue has refused."""
        return frozenset(self._unknown)

    async def latest(
        self, market: Market, what: Literal["quotes", "trades"], symbols: Sequence[str], options: Mapping[str, str]
    ) -> dict[str, Any]:
        """The latest quote or trade by symbol; a symbol without one is absent. `options`: `feed` and `currency` of shares.

        Raises:
            Retryable: no answer, or not the documented one.
            Permanent: refused.
        """
        found: dict[str, Any] = {}
        for chunk in _chunks(symbols, LATEST_SYMBOLS):
            answer = await self._ask(market.latest.format(what), chunk, options)
            found |= _by_symbol(answer, what)
        return found

    async def daily_bars(
        self, market: Market, symbols: Sequence[str], span: tuple[datetime, datetime], options: Mapping[str, str]
    ) -> dict[str, list[Any]]:
        """Daily bars that begin within `span`, both ends included, by symbol, oldest first; a symbol without any is absent.

        Prices of shares are adjusted for splits, dividends and spin-offs, and a renamed company has its whole past.

        Raises:
            Retryable: no answer, not the documented one, or pages without end.
            Permanent: refused: the plan does not include the feed.
        """
        asked = {"timeframe": "1Day", "start": _stamp(span[0]), "end": _stamp(span[1]), "limit": str(BARS_LIMIT), "sort": "asc"}
        asked |= dict(options) | ({"adjustment": "all"} if market.adjustment else {})
        found: dict[str, list[Any]] = {}
        tokens: set[str] = set()
        while True:
            answer = await self._ask(market.bars, symbols, asked)
            for symbol, bars in _by_symbol(answer, "bars").items():
                found.setdefault(symbol, []).extend(a_list(bars, f"bars of {symbol}"))
            token = answer.get("next_page_token")
            if not token:
                return found
            if not isinstance(token, str) or token in tokens:
                raise Retryable(f"Alpaca, bars: the page token {token!r} leads nowhere new", reason=Reason.BAD_RESPONSE)
            tokens.add(token)
            asked["page_token"] = token

    async def _ask(self, path: str, symbols: Sequence[str], options: Mapping[str, str]) -> Mapping[str, Any]:
        """One page of what symbols there are among these. What a refusal names is left out, and the rest asked again."""
        wanted = [symbol for symbol in symbols if symbol not in self._unknown]
        while wanted:
            try:
                return an_object(await self._wire.get(path, {"symbols": ",".join(wanted), **options}), path)
            except Permanent as refused:
                named = _INVALID.search(str(refused))
                if named is None or named[1] not in wanted:
                    raise
                self._unknown.add(named[1])
                wanted.remove(named[1])
        return {"quotes": {}, "trades": {}, "bars": {}, "next_page_token": None}


def _by_symbol(answer: Mapping[str, Any], what: str) -> Mapping[str, Any]:
    """The part of an answer that holds the data; null where there is none."""
    return {} if what in answer and answer[what] is None else an_object(answer.get(what), what)


def _chunks(symbols: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    for start in range(0, len(symbols), size):
        yield symbols[start : start + size]


def _stamp(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
