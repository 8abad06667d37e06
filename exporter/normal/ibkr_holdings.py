"""What an IBKR login tells without a brokerage session: what its accounts hold and are worth, as the desk's records.

Refuses an account that has no positions while its ledger tells their value: IBKR has not loaded them yet.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from decimal import Decimal
from functools import partial
from typing import Any

from deskwatch.errors import Reason, Retryable
from deskwatch.venues.ibkr import ClientPortal
from exporter import cells
from exporter.normal import ibkr_money as money
from exporter.normal import ibkr_records as normal
from exporter.normal.ibkr_contracts import Contract, conid, contract
from exporter.normal.ibkr_money import BASE, Owner
from exporter.records import Fields, Sheet
from exporter.snapshot import Account, Kind, Position, Price

KINDS: tuple[Kind, ...] = ("accounts", "positions", "prices", "instruments")
"""Kinds the login alone tells."""
HOLDINGS: frozenset[Kind] = frozenset({"positions", "prices", "instruments", "quotes", "histories"})
"""Kinds for which the positions are asked for: they are, or are about, what is held."""


@dataclass(slots=True)
class Holdings:
    """One account's rows, not yet read."""

    owner: Owner
    positions: list[Any] = field(default_factory=list)
    ledger: Mapping[str, Any] | None = None
    summary: Mapping[str, Any] | None = None


@dataclass(slots=True)
class Valued:
    """The rows of all accounts as records."""

    positions: tuple[Position, ...] = ()
    prices: tuple[Price, ...] = ()
    accounts: tuple[Account, ...] = ()


async def ask(portal: ClientPortal, owner: Owner, provides: AbstractSet[Kind], *, uncached: bool) -> Holdings:
    """Everything wanted of one account.

    Raises:
        Retryable: an answer is not the documented one, or there are no positions where there must be.
    """
    told = Holdings(owner)
    if HOLDINGS & provides:
        rows = await (portal.uncached_positions if uncached else portal.positions)(owner.account)
        told.positions = list({_identity(row, place): row for place, row in enumerate(rows)}.values())
    if {"accounts", "prices"} & provides:
        told.ledger = await portal.ledger(owner.account)
    if "accounts" in provides:
        told.summary = await portal.summary(owner.account)
    if HOLDINGS & provides and not told.positions and told.ledger and money.holds_something(told.ledger):
        message = f"account {owner.account} has no positions, yet its ledger tells their value: they are not loaded yet"
        raise Retryable(message, reason=Reason.BAD_RESPONSE)
    return told


def read(
    holdings: Sequence[Holdings],
    scene: normal.Scene,
    provides: AbstractSet[Kind],
    sheet: Sheet,
    daily_pnl: Callable[[Owner], Decimal | None],
) -> Valued:
    """Positions, marks and exchange rates, and accounts, of the kinds wanted. Fills in the scene's marks."""
    found, rates, accounts = Valued(), dict[str, Price](), list[Account]()
    for each in holdings:
        of, rows = each.owner, each.positions
        if "positions" in provides:
            make = partial(normal.position, scene=scene, portfolio=of.portfolio, currencies="accounts" not in provides)
            found.positions += sheet.read("positions", rows, make, portfolio=of.portfolio)
        if HOLDINGS & provides:
            # Beside prices, what quotes and bars are compared with.
            marks = sheet if "prices" in provides else Sheet()
            for price in marks.read("prices", rows, partial(normal.mark, scene=scene), portfolio=of.portfolio):
                scene.marks.setdefault(price.symbol, price)
        if "prices" in provides:
            entries = [entry for key, entry in (each.ledger or {}).items() if key not in (BASE, of.currency)]
            for price in sheet.read("prices", entries, partial(money.rate, base=of.currency)):
                rates.setdefault(price.symbol, price)
        if "accounts" in provides and each.ledger is not None:
            for entry, make_account in money.balances(each.ledger, each.summary, of, daily_pnl(of)):
                accounts += sheet.read("accounts", [entry], make_account, portfolio=of.portfolio)
    found.prices = (*scene.marks.values(), *rates.values()) if "prices" in provides else ()
    found.accounts = money.together(accounts)
    return found


def _identity(row: Any, place: int) -> Any:
    """What makes a row of positions one: a position that moves from page to page while they are read is told twice."""
    if isinstance(row, Mapping) and row.get("conid") is not None:
        return str(row["conid"]), row.get("model") or ""
    return place


def is_held(row: Any) -> bool:
    """Whether a row of positions is of something: what was sold today is still listed, with nothing."""
    return not (isinstance(row, Mapping) and row.get("position") in (0, None))


def conids(rows: Iterable[Any]) -> list[int]:
    """The contracts the rows are about."""
    found = []
    for row in rows:
        try:
            found.append(Fields(row).get("conid", conid))
        except cells.Unreadable:
            continue  # rejected where the row is read
    return list(dict.fromkeys(found))


def contracts(rows: Iterable[Any]) -> list[Contract]:
    """What the rows tell of their contracts."""
    found = []
    for row in rows:
        try:
            found.append(contract(Fields(row)))
        except cells.Unreadable:
            continue  # it tells less; what it lacks is looked up
    return found
