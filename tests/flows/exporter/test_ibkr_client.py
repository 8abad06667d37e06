"""The stand-in of IBKR's gateway speaks the wire format: ibind, a client of the real one, reads what the source reads."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from tests.flows.exporter.ibkr_desk import ACCOUNT, NOW, YESTERDAY, desk
from tests.stand_ins.ibkr_bodies import AAPL, ES, SPY

if TYPE_CHECKING:
    from ibind import IbkrClient

D = Decimal


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], IbkrClient]]:
    """Makes the client for an address, without its log files and signal handlers."""
    monkeypatch.setenv("IBIND_LOG_TO_FILE", "false")
    monkeypatch.setenv("IBIND_LOG_TO_CONSOLE", "false")
    from ibind import IbkrClient

    made: list[IbkrClient] = []

    def make(url: str) -> IbkrClient:
        made.append(IbkrClient(account_id=ACCOUNT, url=url, cacert=False, max_retries=0, auto_register_shutdown=False))
        return made[-1]

    yield make
    for each in made:
        each.close()


async def read(call: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    """One call of the client, which blocks, in a thread."""
    answer = await asyncio.to_thread(call, *arguments, **named)
    return getattr(answer, "data", answer)


async def test_ibind_reads_the_login_as_the_source_does(client: Callable[[str], IbkrClient]) -> None:
    """Accounts, positions both ways, ledger and summary."""
    async with desk(paced=False, filled=True) as given:
        found = await given.settled()
        given.gateway.begin()
        ibind = client(given.gateway.base_url)
        assert await read(ibind.check_health) is True
        assert await read(ibind.check_auth_status) is True
        (account,) = await read(ibind.portfolio_accounts)
        assert (account["accountId"], account["currency"]) == (ACCOUNT, "USD")
        rows = [row for row in await read(ibind.positions) if row["position"] and row["assetClass"] != "CASH"]
        assert [(D(str(row["position"])), D(str(row["avgPrice"]))) for row in rows] == [
            (each.quantity, each.entry_price) for each in found.positions
        ]
        uncached = {row["conid"]: row for row in await read(ibind.positions2)}
        assert {str(row["conid"]): row["mktPrice"] for row in rows} == {
            str(row["conid"]): uncached[str(row["conid"])]["marketPrice"] for row in rows
        }
        ledger, summary = await read(ibind.get_ledger), await read(ibind.portfolio_summary)
        assert {each.currency: each.cash for each in found.accounts} == {
            currency: D(str(entry["cashbalance"])) for currency, entry in ledger.items() if currency != "BASE"
        }
        (own, *_) = found.accounts
        assert own.equity == D(str(ledger["BASE"]["netliquidationvalue"]))
        assert own.buying_power == D(str(summary["buyingpower"]["amount"]))
        conids = await read(ibind.stock_conid_by_symbol, ["AAPL", "SPY"])
        assert conids == {"AAPL": AAPL.conid, "SPY": SPY.conid}
        (definition,) = (await read(ibind.security_definition_by_conid, [str(ES.conid)]))["secdef"]
        assert definition["multiplier"] == 50.0


async def test_ibind_reads_the_brokerage_session_as_the_source_does(client: Callable[[str], IbkrClient]) -> None:
    """Accounts first, priming calls, orders, executions, the day's P&L, quotes and bars."""
    from ibind.support.errors import ExternalBrokerError

    async with desk(paced=False, symbols=["SPY"]) as given:
        found = await given.settled()
        given.gateway.begin()
        ibind = client(given.gateway.base_url)
        with pytest.raises(ExternalBrokerError, match="Please query /accounts first"):
            await read(ibind.live_orders)
        await read(ibind.receive_brokerage_accounts)
        assert (await read(ibind.live_orders, force=True))["orders"] == []
        orders = (await read(ibind.live_orders))["orders"]
        assert [(str(row["orderId"]), D(str(row["totalSize"]))) for row in orders] == [
            (each.order_id, each.quantity) for each in found.orders
        ]
        status = await read(ibind.order_status, "2")
        assert status["order_time"] == found.orders[1].submitted_at.strftime("%y%m%d%H%M%S")
        await read(ibind.trades, days="7")
        since = NOW - timedelta(days=7)
        trades = [row for row in await read(ibind.trades, days="7") if row["trade_time_r"] >= since.timestamp() * 1000]
        assert [(row["execution_id"], D(row["price"]), D(row["commission"])) for row in trades] == [
            (each.execution_id, each.price, each.fee) for each in found.fills
        ]
        await read(ibind.account_profit_and_loss)
        profit = (await read(ibind.account_profit_and_loss))["upnl"]
        assert D(str(profit[f"{ACCOUNT}.Core"]["dpl"])) == found.accounts[0].daily_pnl
        fields = ["31", "84", "86"]
        (primed,) = await read(ibind.live_marketdata_snapshot, str(AAPL.conid), fields)
        assert "84" not in primed
        (row,) = await read(ibind.live_marketdata_snapshot, str(AAPL.conid), fields)
        (quote,) = [each for each in found.quotes if each.symbol == "AAPL"]
        assert (D(row["84"]), D(row["86"])) == (quote.bid, quote.ask)
        bars = await read(ibind.marketdata_history_by_conid, str(AAPL.conid), "1d", period="550d", outside_rth="false")
        (history,) = [each for each in found.histories if each.symbol == "AAPL"]
        told = {_day(row["t"]): row["c"] for row in bars["data"] if _day(row["t"]) <= YESTERDAY}
        assert dict(zip([day.astype(date) for day in history.days], history.closes.tolist(), strict=True)) == told


async def test_ibind_is_refused_as_the_source_is(client: Callable[[str], IbkrClient]) -> None:
    """An expired login, a brokerage session that is gone, a broken limit."""
    from ibind.support.errors import ExternalBrokerError

    async with desk(paced=False) as given:
        ibind = client(given.gateway.base_url)
        given.gateway.status["authenticated"] = False
        assert await read(ibind.check_health) is False
        with pytest.raises(ExternalBrokerError, match="no bridge"):
            await read(ibind.live_orders)
        given.gateway.expire()
        with pytest.raises(ExternalBrokerError) as caught:
            await read(ibind.portfolio_accounts)
        assert caught.value.status_code == 401
        given.gateway.log_in()
        given.gateway.clock = given.clock
        await read(ibind.portfolio_accounts)
        with pytest.raises(ExternalBrokerError) as caught:
            await read(ibind.portfolio_accounts)
        assert caught.value.status_code == 429
        with pytest.raises(ExternalBrokerError):
            await read(ibind.get_ledger)
        await given.clock.advance(600.0)
        assert "USD" in await read(ibind.get_ledger)


def _day(milliseconds: int) -> date:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).date()
