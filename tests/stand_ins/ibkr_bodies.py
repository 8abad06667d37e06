"""Bodies of IBKR's Client Portal as documented (accounts, positions, ledger, orders, executions), and some contracts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from tests.stand_ins.server import Answer


@dataclass(frozen=True)
class Listed:
    """A contract as IBKR lists it."""

    conid: int
    ticker: str
    asset_class: str = "STK"
    currency: str = "USD"
    multiplier: float | None = 0.0
    sector: str | None = None
    expiry: str | None = None
    right: str | None = None
    strike: str = "0"
    is_us: bool | None = True
    description: str | None = None
    exchange: str = "NASDAQ"
    magnifier: int | None = None
    """By what market prices are divided: 100 where the quotes are in pence."""

    def definition(self) -> dict[str, Any]:
        """Its row in `/trsrv/secdef`, and the part of a position's row that is about the contract."""
        told: dict[str, Any] = {
            "conid": self.conid, "currency": self.currency, "time": 43, "allExchanges": "AMEX,NYSE,NASDAQ",
            "listingExchange": self.exchange, "countryCode": "US" if self.is_us else "GB", "name": self.ticker,
            "assetClass": self.asset_class, "expiry": self.expiry, "lastTradingDay": self.expiry, "group": None,
            "putOrCall": self.right, "sector": self.sector, "sectorGroup": None, "strike": self.strike, "ticker": self.ticker,
            "undConid": 0, "multiplier": self.multiplier, "type": "COMMON", "hasOptions": True, "fullName": self.ticker,
            "incrementRules": [{"lowerEdge": 0.0, "increment": 0.01}], "isEventContract": False, "pageSize": 100,
        }  # fmt: skip
        return told if self.is_us is None else told | {"isUS": self.is_us}


AAPL = Listed(265598, "AAPL", sector="Technology")
SPY = Listed(756733, "SPY", exchange="ARCA")
AAPL_IN_MEXICO = Listed(38708077, "AAPL", currency="MXN", is_us=False, exchange="MEXI")
VODAFONE = Listed(35359, "VOD", currency="GBP", is_us=False, exchange="LSE", magnifier=100)
ES = Listed(
    495512552, "ES", "FUT", multiplier=50.0, expiry="20261218", is_us=None, description="ES DEC2026", exchange="CME"
)  # fmt: skip
ES_MARCH = Listed(620730920, "ES", "FUT", multiplier=50.0, expiry="20270319", is_us=None, description="ES MAR2027")
CALL = Listed(
    667629330, "AAPL", "OPT", multiplier=100.0, expiry="20260116", right="C", strike="195", is_us=None,
    description="AAPL JAN2026 195 C [AAPL 260116C00195000 100]",
)  # fmt: skip
EUR_USD = Listed(12087792, "EUR", "CASH", is_us=None, description="EUR.USD", exchange="IDEALPRO")
USD_SGD = Listed(37928772, "USD", "CASH", currency="SGD", is_us=None, description="USD.SGD", exchange="IDEALPRO")
BITCOIN = Listed(479624278, "BTC", "CRYPTO", is_us=None, exchange="PAXOS")
BOND = Listed(1, "T 4 1/8", "BOND", is_us=None)


def account(number: str, currency: str = "USD", status: str = "O") -> dict[str, Any]:
    """One account of `/portfolio/accounts`."""
    parent = {"mmc": [], "accountId": "", "isMParent": False, "isMChild": False, "isMultiplex": False}
    return {
        "id": number, "PrepaidCrypto-Z": False, "PrepaidCrypto-P": False, "brokerageAccess": True, "accountId": number,
        "accountVan": number, "accountTitle": "", "displayName": number, "accountAlias": None, "accountStatus": 1644814800000,
        "currency": currency, "type": "DEMO", "tradingType": "PMRGN", "businessType": "IB_PROSERVE", "ibEntity": "IBLLC-US",
        "faclient": False, "clearingStatus": status, "covestor": False, "noClientTrading": False,
        "trackVirtualFXPortfolio": True, "parent": parent, "desc": number,
    }  # fmt: skip


def position(what: Listed, quantity: float, price: float, *, account: str) -> dict[str, Any]:
    """One row of a page of positions."""
    value = round(quantity * price * (what.multiplier or 1.0), 2)
    return what.definition() | {
        "acctId": account, "contractDesc": what.description or what.ticker, "position": quantity, "mktPrice": price,
        "mktValue": value, "avgCost": price * (what.multiplier or 1.0), "avgPrice": price, "realizedPnl": 0.0,
        "unrealizedPnl": 0.0, "exchs": None, "exerciseStyle": None, "conExchMap": [], "model": "",
    }  # fmt: skip


def without_cache(row: Mapping[str, Any]) -> dict[str, Any]:
    """The same position as `/portfolio2` tells it."""
    return {
        "position": row["position"], "conid": str(row["conid"]), "avgCost": row["avgCost"], "avgPrice": row["avgPrice"],
        "currency": row["currency"], "description": row["contractDesc"], "isLastToLoq": False, "marketPrice": row["mktPrice"],
        "marketValue": row["mktValue"], "realizedPnl": row["realizedPnl"], "secType": row["assetClass"],
        "timestamp": 1717444668, "unrealizedPnl": row["unrealizedPnl"], "assetClass": row["assetClass"],
        "sector": row["sector"], "group": row["group"], "model": row["model"],
    }  # fmt: skip


def ledger(**currencies: Mapping[str, Any]) -> dict[str, Any]:
    """`/portfolio/{account}/ledger`; `BASE` is as the first currency unless given."""
    first = next(iter(currencies.values()))
    whole = {"netliquidationvalue": first["cashbalance"], "cashbalance": first["cashbalance"], **currencies.get("BASE", {})}
    entries = {name: entry for name, entry in currencies.items() if name != "BASE"} | {"BASE": whole}
    plain = {
        "commoditymarketvalue": 0.0, "futuremarketvalue": 0.0, "settledcash": 0.0, "exchangerate": 1, "sessionid": 1,
        "stockmarketvalue": 0.0, "interest": 0.0, "unrealizedpnl": 0.0, "realizedpnl": 0.0, "netliquidationvalue": 0.0,
        "key": "LedgerList", "timestamp": 1702582321, "severity": 0, "acctcode": "U1234567", "dividends": 0.0,
        "stockoptionmarketvalue": 0.0, "futureoptionmarketvalue": 0.0, "cryptocurrencyvalue": 0.0,
    }  # fmt: skip
    return {name: plain | {"currency": name, "secondkey": name} | dict(entry) for name, entry in entries.items()}


def summary(account: str, **amounts: float | None) -> dict[str, Any]:
    """`/portfolio/{account}/summary`."""
    amounts = {"buyingpower": 400002.25, "initmarginreq": 12000.5, "maintmarginreq": 11000.25} | amounts
    told: dict[str, Any] = {
        name: {
            "amount": amount or 0.0, "currency": "USD", "isNull": amount is None, "timestamp": 1702582422000, "value": None,
            "severity": 0,
        }
        for name, amount in amounts.items()
    }  # fmt: skip
    code = {"amount": 0.0, "currency": None, "isNull": False, "timestamp": 1702582422000, "value": account, "severity": 0}
    return told | {"accountcode": code}


def order(what: Listed, number: int, *, at: datetime, account: str = "U1234567", **more: Any) -> dict[str, Any]:
    """One row of `/iserver/account/orders`."""
    return {
        "acct": account, "conidex": str(what.conid), "conid": what.conid, "account": account, "orderId": number,
        "cashCcy": what.currency, "sizeAndFills": "0/5", "orderDesc": "Buy 5 Limit 190.00, GTC", "description1": what.ticker,
        "ticker": what.ticker, "secType": what.asset_class, "listingExchange": what.exchange, "remainingQuantity": 5.0,
        "filledQuantity": 0.0, "totalSize": 5.0, "companyName": what.ticker, "status": "Submitted",
        "order_ccp_status": "Submitted", "origOrderType": "LIMIT", "price": "190.00", "supportsTaxOpt": "1",
        "lastExecutionTime": at.strftime("%y%m%d%H%M%S"), "orderType": "Limit", "bgColor": "#FFFFFF", "fgColor": "#000000",
        "order_ref": f"ref-{number}", "timeInForce": "GTC", "lastExecutionTime_r": milliseconds(at), "side": "BUY", **more,
    }  # fmt: skip


def trade(what: Listed, number: str, *, at: datetime, account: str = "U1234567", **more: Any) -> dict[str, Any]:
    """One row of `/iserver/account/trades`."""
    return {
        "execution_id": number, "symbol": what.ticker, "supports_tax_opt": "1", "side": "S",
        "order_description": "Sold 5 @ 192.26 on ISLAND", "trade_time": at.strftime("%Y%m%d-%H:%M:%S"),
        "trade_time_r": milliseconds(at), "size": 5.0, "price": "192.26", "order_ref": "Order123", "submitter": "user1234",
        "exchange": "ISLAND", "commission": "1.01", "net_amount": 961.3, "account": account, "accountCode": account,
        "account_allocation_name": account, "company_name": what.ticker, "contract_description_1": what.ticker,
        "sec_type": what.asset_class, "listing_exchange": what.exchange, "conid": what.conid, "conidEx": str(what.conid),
        "clearing_id": "IB", "clearing_name": "IB", "liquidation_trade": "0", "is_event_trading": "0", **more,
    }  # fmt: skip


def weekdays(
    last: date, count: int, *, hour: int = 14, minute: int = 30, first_close: float = 100.0
) -> list[tuple[datetime, float]]:
    """Bars of so many weekdays up to a day, stamped with the beginning of their sessions, each a little higher."""
    days: list[date] = []
    day = last
    while len(days) < count:
        if day.weekday() < 5:
            days.append(day)
        day -= timedelta(days=1)
    return [
        (datetime(each.year, each.month, each.day, hour, minute, tzinfo=UTC), first_close + place / 4)
        for place, each in enumerate(reversed(days))
    ]


def milliseconds(at: datetime) -> int:
    return round(at.timestamp() * 1000)


def truncated(content: Any) -> Answer:
    """A whole answer whose JSON is cut off."""
    text = json.dumps(content)
    return Answer(200, text[: len(text) // 2], content_type="application/json")
