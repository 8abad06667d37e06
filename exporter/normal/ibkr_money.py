"""IBKR's accounts as the desk's: cash by currency, the whole account's equity and margin, and rates between currencies. Pure.

The ledger's entry of the account's own currency carries what is told of the whole account: the desk then adds nothing twice.
Source: IBKR Campus, Web API v1.0, "Portfolio Accounts", "Portfolio Ledger", "Portfolio Summary".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from exporter import cells
from exporter.normal.ibkr_records import epoch, figure
from exporter.records import Fields
from exporter.snapshot import Account, Price

BASE = "BASE"
"""What the ledger calls all currencies together, in the account's own."""
VALUES = ("stockmarketvalue", "futuremarketvalue", "stockoptionmarketvalue", "futureoptionmarketvalue", "cryptocurrencyvalue")
"""What the ledger tells of the value of positions."""


@dataclass(frozen=True, slots=True)
class Owner:
    """One account: its id at IBKR, the portfolio it is, its base currency, and whether it takes no orders."""

    account: str
    portfolio: str
    currency: str
    trading_blocked: bool | None = None


def holds_something(ledger: Mapping[str, Any]) -> bool:
    """Whether the ledger tells a value of positions."""
    try:
        whole = Fields(ledger.get(BASE))
        return any(abs(whole.optional(name, figure) or 0) >= 1 for name in VALUES)
    except cells.Unreadable:
        return False


def owner(fields: Fields, portfolio: str) -> Owner:
    """An account of `/portfolio/accounts`."""
    status = fields.optional_text("clearingStatus")
    blocked = None if status is None else status != "O"
    return Owner(account_id(fields), portfolio, fields.text("currency"), blocked)


def account_id(fields: Fields) -> str:
    """The account's own id."""
    return fields.optional_text("accountId") or fields.text("id")


def balances(
    ledger: Mapping[str, Any], summary: Mapping[str, Any] | None, of: Owner, daily_pnl: Decimal | None
) -> list[tuple[Any, Callable[[Fields], Account | None]]]:
    """Each entry of the ledger and how to read it. The base currency's carries what is known of the whole account only."""

    def whole(fields: Fields) -> Account:
        margin = Fields(summary or {})
        own = Fields(ledger.get(of.currency) or {"cashbalance": 0})
        return Account(
            portfolio=of.portfolio,
            currency=of.currency,
            cash=own.get("cashbalance", figure),
            equity=fields.get("netliquidationvalue", figure),
            buying_power=_amount(margin, "buyingpower"),
            initial_margin=_amount(margin, "initmarginreq"),
            maintenance_margin=_amount(margin, "maintmarginreq"),
            daily_pnl=daily_pnl,
            realized_pnl=own.optional("realizedpnl", figure),
            unrealized_pnl=own.optional("unrealizedpnl", figure),
            trading_blocked=of.trading_blocked,
        )

    def part(fields: Fields) -> Account | None:
        cash, currency = fields.get("cashbalance", figure), fields.text("currency")
        realized, unrealized = fields.optional("realizedpnl", figure), fields.optional("unrealizedpnl", figure)
        if not (cash or realized or unrealized):
            return None
        return Account(of.portfolio, currency, cash, realized_pnl=realized, unrealized_pnl=unrealized)

    others = [entry for currency, entry in ledger.items() if currency not in (BASE, of.currency)]
    return [(ledger.get(BASE), whole), *((entry, part) for entry in others)]


def _amount(summary: Fields, name: str) -> Decimal | None:
    """A value of the summary, None where it is marked as having none."""
    if summary.optional(f"{name}.isNull", bool):
        return None
    found: Decimal | None = summary.optional(f"{name}.amount", figure)
    return found


def rate(fields: Fields, base: str) -> Price | None:
    """A ledger entry's exchange rate: units of the account's currency for one of the entry's."""
    currency = fields.text("currency")
    if currency in (BASE, base):
        return None
    return Price(currency, fields.get("exchangerate", cells.positive), base, fields.get("timestamp", epoch))


def together(accounts: Iterable[Account]) -> tuple[Account, ...]:
    """One record for each portfolio and currency: several accounts may be one portfolio. An unknown part is an unknown sum."""
    found: dict[tuple[str, str], Account] = {}
    for each in accounts:
        key = each.portfolio, each.currency
        found[key] = _sum(found[key], each) if key in found else each
    return tuple(found.values())


def _sum(one: Account, other: Account) -> Account:
    # An entry that is not in its account's base currency says nothing of the whole account: the other's value is the sum.
    whole = _plus if one.equity is not None and other.equity is not None else _either
    blocked = [each.trading_blocked for each in (one, other) if each.trading_blocked is not None]
    return Account(
        portfolio=one.portfolio,
        currency=one.currency,
        cash=one.cash + other.cash,
        equity=whole(one.equity, other.equity),
        buying_power=whole(one.buying_power, other.buying_power),
        initial_margin=whole(one.initial_margin, other.initial_margin),
        maintenance_margin=whole(one.maintenance_margin, other.maintenance_margin),
        daily_pnl=whole(one.daily_pnl, other.daily_pnl),
        realized_pnl=_plus(one.realized_pnl, other.realized_pnl),
        unrealized_pnl=_plus(one.unrealized_pnl, other.unrealized_pnl),
        trading_blocked=any(blocked) if blocked else None,
    )


def _plus(one: Decimal | None, other: Decimal | None) -> Decimal | None:
    return None if one is None or other is None else one + other


def _either(one: Decimal | None, other: Decimal | None) -> Decimal | None:
    return one if other is None else other
