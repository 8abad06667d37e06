"""Which IBKR contracts an operator's symbols are, and which pairs convert the currencies of a book.

A symbol is a ticker (the listing in the United States where there is just one, else the only one there is), a currency pair
such as `EUR.USD`, or a contract id, which says exactly what is meant. Refuses a ticker of several listings: which is a guess.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, TypeAlias

from deskwatch.errors import Permanent, Reason, Retryable
from deskwatch.venues.ibkr import ClientPortal
from exporter.cells import MAX_TEXT, Unreadable
from exporter.normal.ibkr_bars import Wanted
from exporter.normal.ibkr_contracts import Contract, Contracts, conid
from exporter.records import Fields, Sheet

ASK_AGAIN = timedelta(hours=1)
"""Time between two questions for what could not be found."""
_PAIR = re.compile(r"([A-Z]{3})\.([A-Z]{3})")

Attempt: TypeAlias = Callable[[Callable[[], Awaitable[Any]]], Awaitable[Any]]
"""Makes a call that needs the brokerage session; None where that fails or is not there."""


class Symbols:
    """The configured symbols of one source.

    Args:
        portal: makes the calls.
        contracts: is told what a pair is.
        symbols: as configured.
    """

    def __init__(self, portal: ClientPortal, contracts: Contracts, symbols: Iterable[str]) -> None:
        self._portal = portal
        self._contracts = contracts
        self._found: dict[str, int] = {symbol: int(symbol) for symbol in symbols if symbol.isdecimal()}
        self._symbols = tuple(dict.fromkeys(symbols))
        self._faults: dict[str, str] = {}
        self._not_before: datetime | None = None
        self._pairs: dict[str, list[Contract]] = {}

    async def resolve(self, at: datetime, attempt: Attempt, sheet: Sheet) -> list[int]:
        """The contracts of the configured symbols, as far as they are known; the others are rejected.

        Raises:
            Retryable: nobody is logged in, or IBKR refuses us for a while.
        """
        for symbol in self._symbols:
            pair = _PAIR.fullmatch(symbol)
            if pair is not None and symbol not in self._found:
                await self._resolve_pair(symbol, pair[2], attempt)
        tickers = [each for each in self._symbols if each not in self._found and not _PAIR.fullmatch(each)]
        if tickers and (self._not_before is None or at >= self._not_before):
            try:
                answer = await self._portal.stocks(tickers)
            except (Retryable, Permanent) as error:
                if error.reason in (Reason.AUTH, Reason.RATE_LIMITED):
                    raise
                sheet.reject("instruments", f"symbols: {', '.join(tickers)}"[:MAX_TEXT], error.reason.value)
            else:
                self._not_before = at + ASK_AGAIN
                for ticker in tickers:
                    self._resolve_ticker(ticker, answer.get(ticker))
        for symbol, fault in self._faults.items():
            sheet.reject("instruments", f"symbols: {symbol}", fault)
        return [self._found[symbol] for symbol in self._symbols if symbol in self._found]

    async def rates(self, base: str, currencies: Iterable[str], attempt: Attempt) -> list[Wanted]:
        """Histories of the currencies in `base`, of those IBKR has a pair for."""
        others = [each for each in dict.fromkeys(currencies) if each != base]
        pairs = await self._pairs_with(base, attempt) if others else []
        found = []
        for currency in others:
            for each in pairs:
                if {each.ticker, each.currency} == {base, currency}:
                    found.append(Wanted(currency, base, each.conid, source="Midpoint", inverse=each.ticker == base))
                    break
        return found

    async def _resolve_pair(self, symbol: str, quoted_in: str, attempt: Attempt) -> None:
        pairs = await self._pairs_with(quoted_in, attempt)
        match = next((each for each in pairs if each.plain_name == symbol), None)
        if match is not None:
            self._contracts.learn([match])
            self._found[symbol] = match.conid
            self._faults.pop(symbol, None)
        elif quoted_in in self._pairs:
            self._faults[symbol] = "unknown_symbol"

    def _resolve_ticker(self, ticker: str, listed: Any) -> None:
        """Take the one listing in the United States, or the only one there is."""
        self._faults.pop(ticker, None)
        listings = [each for company in _rows(listed) for each in _rows(company.get("contracts"))]
        chosen = [each for each in listings if each.get("isUS") is True] or listings
        try:
            if len(chosen) == 1:
                self._found[ticker] = Fields(chosen[0]).get("conid", conid)
                return
        except Unreadable:
            chosen = []
        self._faults[ticker] = "ambiguous_symbol" if chosen else "unknown_symbol"

    async def _pairs_with(self, currency: str, attempt: Attempt) -> Sequence[Contract]:
        """Every pair the currency is part of: they do not change."""
        if currency not in self._pairs:
            rows = await attempt(lambda: self._portal.currency_pairs(currency))
            if rows is not None:
                self._pairs[currency] = [each for each in map(_pair, _rows(rows)) if each is not None]
        return self._pairs.get(currency, ())


def _rows(rows: Any) -> list[Mapping[str, Any]]:
    return [each for each in rows if isinstance(each, Mapping)] if isinstance(rows, list) else []


def _pair(row: Mapping[str, Any]) -> Contract | None:
    """A pair; None where its name is none."""
    match = _PAIR.fullmatch(str(row.get("symbol")))
    try:
        return None if match is None else Contract(Fields(row).get("conid", conid), match[1], "CASH", match[2])
    except Unreadable:
        return None
