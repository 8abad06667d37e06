"""Reads an Interactive Brokers login through the Client Portal Web API: positions, balances, orders, fills, quotes, daily bars.

Through IBKR's gateway, where somebody has logged in: keeps that login alive. Never sends an order, never takes the brokerage
session from anybody; where that is missing, positions and balances still come, and what only it tells is said to be missing.
Several accounts of one login are several portfolios.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime, timedelta
from functools import partial
from math import ceil
from typing import Annotated, Any, ClassVar, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from deskwatch.clock import Clock
from deskwatch.config import CrossFault
from deskwatch.errors import Permanent, Reason, Retryable
from deskwatch.http import HttpUrl
from deskwatch.venues.ibkr import GATEWAY_URL, ClientPortal
from exporter import cells
from exporter.normal import ibkr_brokerage as brokerage
from exporter.normal import ibkr_holdings as holdings
from exporter.normal import ibkr_money as money
from exporter.normal import ibkr_records as normal
from exporter.normal.ibkr_bars import DailyBars, Wanted
from exporter.normal.ibkr_brokerage import Brokerage, Told
from exporter.normal.ibkr_contracts import Contract, Contracts
from exporter.normal.ibkr_holdings import Holdings, Valued
from exporter.normal.ibkr_money import Owner
from exporter.normal.ibkr_symbols import Symbols
from exporter.records import Fields, Sheet
from exporter.snapshot import Kind, Snapshot
from exporter.source import Kept, Source, VenueConfig

PortfolioName = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_.-]+$")]
VENUE = "ibkr"
"""Label `venue` of what is traded and quoted there."""
BARS_SHARE = 0.5
"""Share of a fetch's deadline after which no further history is asked for."""


class Config(VenueConfig):
    """An Interactive Brokers login."""

    offers: ClassVar[tuple[Kind, ...]] = (*holdings.KINDS, *brokerage.KINDS)

    type: Literal["ibkr"]
    timeout_seconds: float = Field(default=30.0, gt=0)
    base_url: HttpUrl = GATEWAY_URL
    """Address of the Client Portal Gateway."""
    verify_certificate: bool = True
    """Whether the gateway's certificate is checked. It comes with one nobody has signed: give it a certificate of its own and
    name the authority under `http.ca_file`, or set this to false, which is possible for a gateway on this machine only."""
    accounts: dict[str, PortfolioName] = Field(default_factory=dict)
    """IBKR account id to portfolio, e.g. `U1234567: carry`; accounts not named are not read. By default every account the login
    sees: all of them are `portfolio` where that is set, else a single one has the source's name and several have their ids."""
    brokerage_session: Literal["use", "restore", "none"] = "use"
    """`use`: what only a brokerage session tells is read while the login has one. `restore`: it is also started again after
    IBKR has ended it, unless another program of the same user has it. `none`: nothing is asked that needs one."""
    uncached_positions: bool = False
    """Ask for positions past IBKR's cache, by an endpoint that tells less of each."""
    market_data_lines: int = Field(default=100, ge=1)
    """Contracts IBKR lets the login watch at a time; `quota_headroom_ratio` of them is left to the trader."""

    @property
    def delivers(self) -> tuple[Kind, ...]:
        """What can be read."""
        return holdings.KINDS if self.brokerage_session == "none" else self.offers

    @model_validator(mode="after")
    def _can_be_read(self) -> Self:
        faults: list[tuple[Sequence[str | int], str]] = [
            (["read", place], f"must be one of {', '.join(self.delivers)}, was {kind!r}")
            for place, kind in enumerate(self.read)
            if kind not in self.delivers
        ]
        faults += [
            (["symbols", place], f"must be a ticker, a pair such as EUR.USD or a contract id, was {symbol!r}")
            for place, symbol in enumerate(self.symbols)
            if not symbol or "," in symbol
        ]
        if self.symbols and self.brokerage_session == "none":
            faults.append((["symbols"], "need a brokerage session: without one no price of them can be read"))
        if not self.verify_certificate and not _is_loopback(self.base_url):
            faults.append((["verify_certificate"], "may be false only for a gateway on this machine: set http.ca_file"))
        if not self.verify_certificate and self.http.ca_file is not None:
            faults.append((["http", "ca_file"], "has no use while verify_certificate is false: keep one of the two"))
        if self.accounts and self.portfolio is not None:
            faults.append((["portfolio"], "stands under accounts for each account: keep one of the two"))
        if faults:
            raise CrossFault(faults)
        return self


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class IbkrSource(Source[Config]):
    """One login."""

    kind = "broker"
    keeps_histories = True

    def __init__(self, config: Config, clock: Clock) -> None:
        super().__init__(config, clock)
        self._portal = ClientPortal(
            config.name,
            config.http,
            clock,
            base_url=config.base_url,
            verify_certificate=config.verify_certificate,
            headroom_ratio=config.quota_headroom_ratio,
            restore=config.brokerage_session == "restore",
            trade_days=ceil(config.look_back_days),
        )
        self._contracts = Contracts()
        self._symbols = Symbols(self._portal, self._contracts, config.symbols)
        self._brokerage = Brokerage(
            self._portal,
            self._contracts,
            DailyBars(clock, history_days=config.history_days, ask=self._bars),
            provides=self.provides,
            use=config.brokerage_session != "none",
            look_back=timedelta(days=config.look_back_days),
            lines=max(1, int(config.market_data_lines * (1.0 - config.quota_headroom_ratio) + 1e-9)),
        )

    @property
    def provides(self) -> AbstractSet[Kind]:
        """The kinds asked for in `read`, by default all there are."""
        return frozenset(self.config.read or self.config.delivers)

    @property
    def quota_used_ratio(self) -> float:
        """Share used of IBKR's limits; 1 while it refuses us for having broken one."""
        return self._portal.quota_used_ratio

    async def fetch(self, kept: Kept) -> Snapshot:
        """Read once. The first fetches lack orders, quotes and bars: IBKR wants to be asked twice, and slowly.

        Raises:
            Retryable: nobody is logged in, no answer, or an answer that is not the documented one.
            Permanent: an account is not the login's.
        """
        at, begun, sheet, told = self.clock.now(), self.clock.monotonic(), Sheet(), Told()
        await self._portal.session.open()
        owners = self._owners(await self._portal.accounts())
        ask = partial(holdings.ask, self._portal, provides=self.provides, uncached=self.config.uncached_positions)
        own = [await ask(owner) for owner in owners]
        await self._brokerage.ask(told, owners)
        good_for = self._good_for(owners)
        rows = self._brokerage.answered(owners, good_for)
        held, listed, mentioned = await self._learn(own, rows, told, sheet)
        scene = normal.Scene(at, self._contracts, {each.account: each.portfolio for each in owners}, VENUE)
        profit = partial(self._brokerage.daily_pnl, within_seconds=good_for)
        valued = await asyncio.to_thread(holdings.read, own, scene, self.provides, sheet, profit)
        market = _each_once([*listed, *held])
        await self._brokerage.look_up(told, rows, _each_once([*market, *mentioned]), at)
        await asyncio.to_thread(self._brokerage.read, told, scene, owners, good_for, sheet)
        await self._brokerage.quote(told, scene, market, sheet)
        wanted = [found for each in market if (found := self._brokerage.wanted(each, scene)) is not None]
        wanted += await self._rates(told, valued, held, owners)
        until = begun + BARS_SHARE * self.config.timeout_seconds
        await self._brokerage.history(told, wanted, kept.histories, sheet, until)
        self._say_what_is_missing(told, sheet)
        return self._snapshot(at, told, sheet, valued, _each_once([*market, *mentioned]))

    async def close(self) -> None:
        """End the keep-alive and close the connections. The login stays: it is the operator's."""
        await self._portal.close()

    async def _bars(self, conid: int, days: int, source: str, until: str | None) -> list[Any] | None:
        return await self._portal.bars(conid, days, source=source, until=until)

    def _good_for(self, owners: Sequence[Owner]) -> float:
        """Age up to which an answer to a slow endpoint is good: as for the whole snapshot, and the accounts take turns."""
        return self.config.stale_after_seconds + (len(owners) - 1) * self.config.interval_seconds

    def _owners(self, rows: Iterable[Any]) -> list[Owner]:
        """The accounts to be read.

        Raises:
            Permanent: one that is configured is not the login's.
            Retryable: IBKR's list cannot be read: an account left out would be a smaller book.
        """
        try:
            fields = {money.account_id(each): each for each in (Fields(row) for row in rows)}
            wanted = self.config.accounts or {account: self._portfolio(account, len(fields)) for account in fields}
            if missing := sorted(set(wanted) - set(fields)):
                message = f"accounts.{missing[0]}: is not an account of the login, which sees {', '.join(sorted(fields))}"
                raise Permanent(message, reason=Reason.NOT_FOUND)
            return [money.owner(fields[account], portfolio) for account, portfolio in wanted.items()]
        except cells.Unreadable as unreadable:
            message = f"{self.config.name}: the list of accounts cannot be read: {getattr(unreadable, 'said', unreadable)}"
            raise Retryable(message, reason=Reason.BAD_RESPONSE) from None

    def _portfolio(self, account: str, count: int) -> str:
        return self.config.portfolio or (self.config.book if count == 1 else account)

    async def _learn(
        self, own: Sequence[Holdings], rows: Sequence[Any], told: Told, sheet: Sheet
    ) -> tuple[list[Contract], list[Contract], list[Contract]]:
        """The contracts that are held, that are configured, and that orders and executions are about."""
        at = self.clock.now()
        positions = [row for each in own for row in each.positions]
        held, mentioned = holdings.conids(filter(holdings.is_held, positions)), holdings.conids(rows)
        # Many rows take longer to read than the event loop may wait.
        await asyncio.to_thread(lambda: self._contracts.learn(holdings.contracts(positions)))
        listed = await self._symbols.resolve(at, partial(self._brokerage.attempt, told, "quotes"), sheet)
        lacking = self._contracts.lacking([*holdings.conids(positions), *mentioned, *listed], at)
        if lacking:
            try:
                told_of = await self._portal.definitions(lacking)
                await asyncio.to_thread(lambda: self._contracts.learn(holdings.contracts(told_of)))
                self._contracts.looked_up(lacking, at)
            except (Retryable, Permanent) as error:
                if error.reason in (Reason.AUTH, Reason.RATE_LIMITED):
                    raise
                # What is known without them is read all the same; the rest is an unknown contract.
                sheet.reject("instruments", f"definitions of {len(lacking)} contracts", error.reason.value)
        return self._known(held), self._known(listed), self._known(mentioned)

    def _known(self, conids: Iterable[int]) -> list[Contract]:
        return [found for each in conids if (found := self._contracts.get(each)) is not None]

    async def _rates(self, told: Told, valued: Valued, held: Iterable[Contract], owners: Sequence[Owner]) -> list[Wanted]:
        """Histories of the currencies there is money in, or something held in, against the first account's own."""
        if "histories" not in self.provides:
            return []
        used = [account.currency for account in valued.accounts]
        used += [owner.currency for owner in owners] + [contract.currency for contract in held]
        attempt = partial(self._brokerage.attempt, told, "histories")
        return await self._symbols.rates(owners[0].currency, used, attempt)

    def _say_what_is_missing(self, told: Told, sheet: Sheet) -> None:
        """Quotes and bars that are not there are said to be missing; orders and fills already are, by account.

        Raises:
            Retryable: nothing is left that could be delivered.
        """
        wanted = [kind for kind in brokerage.KINDS if kind in self.provides]
        alone = not {"accounts", "positions", "prices"} & self.provides
        if alone and wanted and all(kind in told.failed for kind in wanted):
            if told.error is not None:
                raise told.error
            message = f"{self.config.name}: {told.failed[wanted[0]]}: log in at the gateway, or end the other program's session"
            raise Retryable(message, reason=Reason.AUTH)
        for kind in ("quotes", "histories"):
            if kind in wanted and kind in told.failed:
                sheet.reject(kind, kind, told.failed[kind])

    def _snapshot(self, at: datetime, told: Told, sheet: Sheet, valued: Valued, contracts: Iterable[Contract]) -> Snapshot:
        times = [quote.at for quote in told.quotes] + [fill.at for fill in told.fills]
        instruments = tuple(each.terms(self._contracts.name(each.conid)) for each in contracts)
        return Snapshot(
            fetched_at=at,
            data_at=max(times, default=None),
            instruments=instruments if "instruments" in self.provides else (),
            positions=valued.positions,
            prices=(*valued.prices, *told.prices),
            histories=told.histories,
            fills=told.fills,
            orders=told.orders,
            accounts=valued.accounts,
            quotes=told.quotes,
            rejected=sheet.rejected,
            notes={"brokerage session": self._portal.session.lacks or "there"} | told.notes,
        )


def _each_once(contracts: Iterable[Contract]) -> list[Contract]:
    return list({each.conid: each for each in contracts}.values())
