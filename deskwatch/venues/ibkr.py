"""Calls to IBKR's Client Portal Web API: pages, priming calls and paced endpoints. Reads only.

No order can be sent from here, the account in use is never switched, and no other program's brokerage session is ever ended.
Returns the venue's JSON.
Source: IBKR Campus, Web API v1.0 and its OpenAPI document; github.com/Voyz/ibind.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from deskwatch.clock import Clock
from deskwatch.errors import Reason, Retryable
from deskwatch.http import HttpConfig
from deskwatch.venues.ibkr_gateway import Gateway, a_list, an_object
from deskwatch.venues.ibkr_pacing import BARS_A_MINUTE, SLOW_SECONDS, Rota
from deskwatch.venues.ibkr_session import Session
from deskwatch.venues.quota import Quota

GATEWAY_URL = "https://localhost:5000/v1/api"
"""Where the Client Portal Gateway listens unless told otherwise."""
PAGE_ROWS = 100
"""Positions on a full page; a shorter one is the last."""
MOST_PAGES = 100
DEFINITIONS_A_CALL = 200
QUOTES_A_CALL = 100
QUOTE_FIELDS = "31,84,85,86,88,6509"
"""Last price, bid, size of ask, ask, size of bid, and whether they are real-time or delayed."""
MOST_TRADE_DAYS = 7
MOST_BARS = 1000


class ClientPortal:
    """One login.

    Args:
        what: the venue, for messages.
        config: certificate, proxy, deadline of one call.
        clock: wall and monotonic time.
        base_url: the gateway's address.
        verify_certificate: false for a gateway on this machine with the certificate it was delivered with.
        headroom_ratio: share of the limits left to the trader's programs on the same login.
        restore: start the brokerage session again where it has ended and nobody else has it.
        trade_days: how many days back trades are asked for; IBKR keeps 7.
    """

    def __init__(
        self,
        what: str,
        config: HttpConfig,
        clock: Clock,
        *,
        base_url: str = GATEWAY_URL,
        verify_certificate: bool = True,
        headroom_ratio: float = 0.0,
        restore: bool = False,
        trade_days: int = MOST_TRADE_DAYS,
    ) -> None:
        self._what = what
        self._gateway = Gateway(
            what,
            config,
            clock,
            base_url=base_url,
            verify_certificate=verify_certificate,
            headroom_ratio=headroom_ratio,
            restore=restore,
            forget=self._forget,
        )
        self._bars = Quota(f"{what} bars", clock, limit=BARS_A_MINUTE, window_seconds=60.0, headroom_ratio=headroom_ratio)
        self._trade_days = max(1, min(trade_days, MOST_TRADE_DAYS))
        self._primed: set[str] = set()
        self._searched: set[str] = set()
        self.orders = Rota(clock, SLOW_SECONDS, self._orders)
        """Orders of the brokerage session, by account; no answer before the second call."""
        self.trades = Rota(clock, SLOW_SECONDS, self._trades)
        """Executions, by account; a first answer that is empty is none: it may have come too early."""
        self.profit = Rota(clock, SLOW_SECONDS, self._profit)
        """`upnl` of every account, under any one name."""

    @property
    def session(self) -> Session:
        """The login."""
        return self._gateway.session

    @property
    def quota_used_ratio(self) -> float:
        """Share of the login's limits used by us; 1 in the penalty box."""
        return max(self._gateway.quota.used_ratio, self._bars.used_ratio)

    async def close(self) -> None:
        """End the keep-alive and close the connections."""
        await self._gateway.close()

    # The login's tier.

    async def accounts(self) -> list[Any]:
        """`GET /portfolio/accounts`; as asked for in the last ten minutes, while IBKR has not forgotten it."""
        return await self._gateway.accounts()

    async def positions(self, account: str) -> list[Any]:
        """`GET /portfolio/{account}/positions/{page}`, every page. IBKR answers from a cache of its own."""
        rows: list[Any] = []
        for page in range(MOST_PAGES):
            path = f"/portfolio/{_in_path(account)}/positions/{page}"
            part = a_list(await self._gateway.portfolio(path), self._what, "positions")
            rows += part
            if len(part) < PAGE_ROWS:
                return rows
        raise Retryable(f"{self._what}: more than {MOST_PAGES} pages of positions", reason=Reason.TOO_LARGE)

    async def uncached_positions(self, account: str) -> list[Any]:
        """`GET /portfolio2/{account}/positions`: all on one page, not from a cache, with fewer fields."""
        path = f"/portfolio2/{_in_path(account)}/positions"
        return a_list(await self._gateway.portfolio(path), self._what, "positions")

    async def ledger(self, account: str) -> Mapping[str, Any]:
        """`GET /portfolio/{account}/ledger`: balances by currency, and `BASE` for all together."""
        return an_object(await self._gateway.portfolio(f"/portfolio/{_in_path(account)}/ledger"), self._what, "the ledger")

    async def summary(self, account: str) -> Mapping[str, Any]:
        """`GET /portfolio/{account}/summary`: margin, buying power and much else, in lower case."""
        return an_object(await self._gateway.portfolio(f"/portfolio/{_in_path(account)}/summary"), self._what, "the summary")

    async def definitions(self, conids: Sequence[int]) -> list[Any]:
        """`GET /trsrv/secdef`: what the contracts are; those it does not know are missing."""
        found: list[Any] = []
        for part in _parts(conids, DEFINITIONS_A_CALL):
            answer = await self._gateway.portfolio("/trsrv/secdef", {"conids": _joined(part)})
            found += a_list(an_object(answer, self._what, "contracts").get("secdef"), self._what, "contracts")
        return found

    async def stocks(self, symbols: Sequence[str]) -> Mapping[str, Any]:
        """`GET /trsrv/stocks`: every listing of each ticker."""
        answer = await self._gateway.portfolio("/trsrv/stocks", {"symbols": ",".join(symbols)})
        return an_object(answer, self._what, "stocks")

    # The brokerage session's tier.

    async def currency_pairs(self, currency: str) -> list[Any]:
        """`GET /iserver/currency/pairs`: every pair the currency is part of."""
        answer = await self._gateway.iserver("/iserver/currency/pairs", {"currency": currency})
        return a_list(an_object(answer, self._what, "currency pairs").get(currency, []), self._what, "currency pairs")

    async def order_time(self, order: str) -> Any:
        """`GET /iserver/account/order/status/{order}`: its `order_time`, UTC as `YYMMDDhhmmss`; None where it has none."""
        answer = await self._gateway.iserver(f"/iserver/account/order/status/{_in_path(order)}")
        return an_object(answer, self._what, "an order").get("order_time")

    async def price_magnifier(self, conid: int) -> Any:
        """`GET /iserver/contract/{conid}/info-and-rules`: by what market prices are divided, 100 where they are in pence."""
        answer = await self._gateway.iserver(f"/iserver/contract/{conid}/info-and-rules")
        rules = an_object(answer, self._what, "a contract").get("rules")
        return an_object(rules, self._what, "a contract's rules").get("priceMagnifier") or 1

    async def quotes(self, conids: Sequence[int], underlyings: Iterable[str] = ()) -> list[Any]:
        """`GET /iserver/marketdata/snapshot`. The first call for a contract only subscribes to it: its fields are missing.

        Args:
            conids: the contracts; each takes one of the login's market data lines.
            underlyings: tickers of the derivatives among them, which must be searched for first.
        """
        self._gateway.look_for_a_new_session()
        for ticker in sorted(set(underlyings) - self._searched):
            await self._gateway.iserver("/iserver/secdef/search", {"symbol": ticker})
            self._searched.add(ticker)
        found: list[Any] = []
        for part in _parts(conids, QUOTES_A_CALL):
            parameters = {"conids": _joined(part), "fields": QUOTE_FIELDS}
            found += a_list(await self._gateway.iserver("/iserver/marketdata/snapshot", parameters), self._what, "quotes")
        return found

    async def bars(self, conid: int, days: int, *, source: str, until: str | None = None) -> list[Any] | None:
        """`GET /iserver/marketdata/history`: bars of one day, regular hours, at most 1000.

        Args:
            conid: the contract.
            days: how far back from `until`, 1 to 1000.
            source: `Trades`, or `Midpoint` for currencies, which have no trades.
            until: UTC as `YYYYMMDD-hh:mm:ss`; now by default.

        Returns:
            The bars, or None where our share of the limit of bars is used up for now.
        """
        try:
            self._bars.take()
        except Retryable:
            return None
        parameters: dict[str, str | int] = {"conid": conid, "period": f"{days}d", "bar": "1d", "outsideRth": "false"}
        parameters |= {"source": source} | ({} if until is None else {"startTime": until})
        answer = await self._gateway.iserver("/iserver/marketdata/history", parameters)
        return a_list(an_object(answer, self._what, "bars").get("data"), self._what, "bars")

    async def _orders(self, account: str) -> Any:
        """The first call for an account makes IBKR collect them, and says nothing: `force` empties its answer."""
        prime = self._needs_priming(f"orders {account}")
        parameters = {"accountId": account} | ({"force": "true"} if prime else {})
        answer = an_object(await self._gateway.iserver("/iserver/account/orders", parameters), self._what, "orders")
        found = a_list(answer.get("orders"), self._what, "orders")
        self._primed.add(f"orders {account}")
        return None if prime else found

    async def _trades(self, account: str) -> Any:
        prime = self._needs_priming(f"trades {account}")
        parameters: dict[str, str | int] = {"days": self._trade_days, "accountId": account}
        found = a_list(await self._gateway.iserver("/iserver/account/trades", parameters), self._what, "trades")
        self._primed.add(f"trades {account}")
        return None if prime and not found else found

    async def _profit(self, _: str) -> Any:
        answer = await self._gateway.iserver("/iserver/account/pnl/partitioned")
        return an_object(answer, self._what, "profit and loss").get("upnl") or None

    def _needs_priming(self, name: str) -> bool:
        self._gateway.look_for_a_new_session()
        return name not in self._primed

    def _forget(self) -> None:
        """Everything that holds within one brokerage session only."""
        self._primed.clear()
        self._searched.clear()
        for rota in (self.orders, self.trades, self.profit):
            rota.clear()


def _in_path(name: str) -> str:
    return quote(name, safe="")


def _joined(conids: Iterable[int]) -> str:
    return ",".join(str(conid) for conid in conids)


def _parts(conids: Sequence[int], size: int) -> Iterable[Sequence[int]]:
    return (conids[start : start + size] for start in range(0, len(conids), size))
