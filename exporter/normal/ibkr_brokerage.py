"""What the brokerage session of an IBKR login adds to a book: orders, executions, the day's P&L, quotes and daily bars.

Each is read on its own: what fails, or may not be asked for now, is left out and said to be missing, never taken for empty. An
answer to a slow endpoint is good while it is young. Refuses to go on where the limits were broken.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any

from deskwatch.errors import Permanent, Reason, Retryable
from deskwatch.venues.ibkr import ClientPortal
from deskwatch.venues.ibkr_gateway import AccountsFirst
from exporter import cells
from exporter.cells import Unreadable
from exporter.normal import ibkr_records as normal
from exporter.normal.ibkr_bars import DailyBars, Wanted
from exporter.normal.ibkr_contracts import LINEAR, Contract, Contracts
from exporter.normal.ibkr_money import Owner
from exporter.normal.ibkr_records import Scene
from exporter.records import Fields, Sheet
from exporter.snapshot import Fill, History, Kind, Order, Price, Quote

KINDS: tuple[Kind, ...] = ("orders", "fills", "quotes", "histories")
NOT_YET = "not_read_yet"
"""The call that only primes has been made, or the endpoint is not due."""
LOOKED_UP = 10
"""Most orders, and contracts, that are looked up one by one in one fetch."""
ASK_AGAIN = timedelta(hours=1)
PROFIT = "all accounts"


@dataclass(slots=True)
class Told:
    """What one fetch has from the brokerage session."""

    fills: tuple[Fill, ...] = ()
    orders: tuple[Order, ...] = ()
    quotes: tuple[Quote, ...] = ()
    prices: tuple[Price, ...] = ()
    histories: tuple[History, ...] = ()
    failed: dict[Kind, str] = field(default_factory=dict)
    """Why a kind could not be read, as a bounded word."""
    error: Retryable | Permanent | None = None
    """The first failure."""
    notes: dict[str, str] = field(default_factory=dict)


class Brokerage:
    """One login's brokerage session.

    Args:
        portal: makes the calls.
        contracts: names and reference data.
        bars: daily bars.
        provides: the kinds wanted.
        use: whether anything may be asked that needs the session.
        look_back: how far back orders and executions are wanted.
        lines: most contracts that are quoted.
    """

    def __init__(
        self,
        portal: ClientPortal,
        contracts: Contracts,
        bars: DailyBars,
        *,
        provides: AbstractSet[Kind],
        use: bool,
        look_back: timedelta,
        lines: int,
    ) -> None:
        self._portal = portal
        self._contracts = contracts
        self._bars = bars
        self._provides = provides
        self._use = use
        self._look_back = look_back
        self._lines = lines
        self._submitted: dict[str, datetime] = {}
        self._asked: set[str] = set()
        """Orders whose time of submission has been asked for."""
        self._not_before: dict[int, datetime] = {}
        """When a contract's magnifier may be asked for again."""

    async def attempt(self, told: Told, kind: Kind, call: Callable[[], Awaitable[Any]]) -> Any:
        """Make a call for a kind of records, unless there is no session; None where it fails, and why in `told`.

        Raises:
            Retryable: the login is refused for a while: nothing more may be asked.
        """
        if not self._use:
            return None
        if self._portal.session.lacks is not None:
            told.failed[kind] = self._portal.session.lacks
            return None
        try:
            return await call()
        except (Retryable, Permanent) as error:
            if error.reason is Reason.RATE_LIMITED:
                raise
            told.error = told.error or error
            session = self._portal.session.lacks if error.reason is Reason.AUTH else None
            told.failed[kind] = NOT_YET if isinstance(error, AccountsFirst) else session or error.reason.value
            return None

    async def ask(self, told: Told, owners: Sequence[Owner]) -> None:
        """Ask the slow endpoints that are due."""
        accounts = [each.account for each in owners]
        if "orders" in self._provides:
            await self.attempt(told, "orders", lambda: self._portal.orders.turn(accounts))
        if "fills" in self._provides:
            await self.attempt(told, "fills", lambda: self._portal.trades.turn(accounts))
        if "accounts" in self._provides:
            await self.attempt(told, "accounts", lambda: self._portal.profit.turn([PROFIT]))

    def answered(self, owners: Sequence[Owner], within_seconds: float) -> list[Any]:
        """Every row of orders and executions answered lately."""
        answers = [rota.answer(each.account, within_seconds) for rota in self._rotas() for each in owners]
        return [row for answer in answers if answer is not None for row in answer]

    def daily_pnl(self, owner: Owner, within_seconds: float) -> Decimal | None:
        """The day's profit and loss of an account, in its base currency; None where IBKR does not tell it, or not yet."""
        partitions = self._portal.profit.answer(PROFIT, within_seconds)
        if not isinstance(partitions, Mapping) or not isinstance(core := partitions.get(f"{owner.account}.Core"), Mapping):
            return None
        try:
            return normal.figure(core.get("dpl"))
        except Unreadable:
            return None

    async def look_up(self, told: Told, rows: Iterable[Any], contracts: Iterable[Contract], at: datetime) -> None:
        """Ask what the rows need to be read: when orders were sent, and in which unit shares outside the US are quoted."""
        if "orders" in self._provides:
            await self.attempt(told, "orders", lambda: self._times([row for row in rows if _is_order(row)]))
        unknown = {each.conid for each in contracts if self._contracts.magnifier(each) is None}
        due = [number for number in sorted(unknown) if at >= self._not_before.get(number, at)]
        if due:
            await self.attempt(told, "quotes", lambda: self._magnifiers(due[:LOOKED_UP], at))

    def read(self, told: Told, scene: Scene, owners: Sequence[Owner], within_seconds: float, sheet: Sheet) -> None:
        """The answers as records; an account without one lacks the kind."""
        since = scene.at - self._look_back
        fills: list[Fill] = []
        for each in owners:
            rows = self._rows("fills", self._portal.trades.answer(each.account, within_seconds), told, each, sheet)
            fills += sheet.read("fills", rows, partial(normal.fill, scene=scene, since=since), portfolio=each.portfolio)
            rows = self._rows("orders", self._portal.orders.answer(each.account, within_seconds), told, each, sheet)
            make = partial(normal.order, scene=scene, since=since, submitted=self._submitted)
            orders = sheet.read("orders", rows, make, portfolio=each.portfolio)
            known = {order.order_id for order in told.orders}
            told.orders += tuple(order for order in orders if order.order_id not in known)
        told.fills = normal.current(fills)

    async def quote(self, told: Told, scene: Scene, wanted: Sequence[Contract], sheet: Sheet) -> None:
        """Quotes of what is linear, as many as the login's market data lines allow; and last prices of what is not held."""
        if not {"quotes", "prices"} & self._provides:
            return
        quoted = [each for each in wanted if each.asset_class in LINEAR][: self._lines]
        if len(quoted) < len(wanted):
            told.notes["contracts not quoted"] = str(len(wanted) - len(quoted))
        futures = {each.ticker for each in quoted if each.asset_class == "FUT"}
        if quoted:
            call = partial(self._portal.quotes, [each.conid for each in quoted], futures)
            rows = await self.attempt(told, "quotes", call) or []
            delayed = sum(isinstance(row, Mapping) and normal.is_delayed(Fields(row)) for row in rows)
            if delayed:
                told.notes["quotes delayed, left out"] = str(delayed)
            if "quotes" in self._provides:
                told.quotes = await asyncio.to_thread(sheet.read, "quotes", rows, partial(normal.quote, scene=scene))
            if "prices" in self._provides:
                told.prices = await asyncio.to_thread(sheet.read, "prices", rows, partial(normal.last, scene=scene))

    async def history(
        self, told: Told, wanted: Sequence[Wanted], kept: Mapping[str, History], sheet: Sheet, until: float
    ) -> None:
        """Daily bars of what is due."""
        if "histories" in self._provides:
            await self.attempt(told, "histories", lambda: self._bars.read(wanted, kept, sheet, until))
            told.histories = self._bars.give(wanted, kept)
            if self._bars.pending:
                told.notes["histories still to be read"] = str(self._bars.pending)

    def wanted(self, contract: Contract, scene: Scene) -> Wanted | None:
        """The history of a contract; None where it has none here, or its unit is not known."""
        magnifier = self._contracts.magnifier(contract)
        if contract.asset_class not in LINEAR or magnifier is None:
            return None
        symbol = self._contracts.name(contract.conid)
        mark = scene.marks.get(symbol)
        return Wanted(
            symbol,
            contract.currency,
            contract.conid,
            source="Midpoint" if contract.asset_class == "CASH" else "Trades",
            magnifier=magnifier,
            weekends=contract.asset_class == "CRYPTO",
            mark=None if mark is None else mark.price,
        )

    def _rotas(self) -> tuple[Any, ...]:
        return (self._portal.orders, self._portal.trades)

    def _rows(self, kind: Kind, answer: Any, told: Told, owner: Owner, sheet: Sheet) -> Sequence[Any]:
        if kind not in self._provides:
            return ()
        if answer is None:
            sheet.reject(kind, f"{kind} of {owner.account}", told.failed.get(kind, NOT_YET), owner.portfolio)
            return ()
        rows: Sequence[Any] = answer
        return rows

    async def _magnifiers(self, numbers: Iterable[int], at: datetime) -> None:
        for number in numbers:
            self._not_before[number] = at + ASK_AGAIN
            with contextlib.suppress(Unreadable):
                if (told := await _of_one(self._portal.price_magnifier(number))) is not None:
                    self._contracts.magnifiers[number] = cells.positive(told)

    async def _times(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """When each order was sent. One that works and has no fills was last changed then; any other is looked up."""
        numbers = {str(row["orderId"]) for row in rows}
        self._submitted = {number: at for number, at in self._submitted.items() if number in numbers}
        self._asked &= numbers
        unknown = []
        for row in rows:
            number, fields = str(row["orderId"]), Fields(row)
            if number in self._submitted or number in self._asked:
                continue
            try:
                new = fields.get("status", cells.order_status) == "NEW" and not fields.get("filledQuantity", normal.figure)
                if new:
                    self._submitted[number] = fields.get("lastExecutionTime_r", normal.epoch)
            except Unreadable:
                continue  # rejected where it is read
            if not new:
                unknown.append(number)
        for number in unknown[:LOOKED_UP]:
            await self._time(number)

    async def _time(self, number: str) -> None:
        with contextlib.suppress(Unreadable):
            if (told := await _of_one(self._portal.order_time(number))) is not None:
                self._submitted[number] = normal.order_time(told)
        self._asked.add(number)


async def _of_one(call: Awaitable[Any]) -> Any:
    """The answer about one order or contract; None where IBKR does not know it, as an order of a session before.

    Raises:
        Retryable: it is the session that is wrong.
    """
    try:
        return await call
    except (Retryable, Permanent) as error:
        if error.reason in (Reason.AUTH, Reason.RATE_LIMITED) or isinstance(error, AccountsFirst):
            raise
        return None


def _is_order(row: Any) -> bool:
    return isinstance(row, Mapping) and row.get("orderId") is not None
