"""Reads a bookkeeper (`tests.stand_ins.bookkeeper`): a plug-in of another package, found by entry point."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from decimal import Decimal
from typing import Literal

from deskwatch.clock import Clock
from deskwatch.config import Secret
from deskwatch.http import HttpUrl
from deskwatch.venues.quota import Quota
from deskwatch.venues.wire import Wire
from exporter.records import Fields, Sheet
from exporter.snapshot import Account, Kind, Position, Price, Snapshot
from exporter.source import Kept, Source, VenueConfig

NAME = "bookkeeper"


class Config(VenueConfig):
    """A bookkeeper."""

    type: Literal["bookkeeper"]
    base_url: HttpUrl
    key: Secret = Secret("k")
    limit: float = 1e9
    window_seconds: float = 1.0


class BookkeeperSource(Source[Config]):
    """One account."""

    kind = "broker"

    def __init__(self, config: Config, clock: Clock) -> None:
        super().__init__(config, clock)
        self._quota = Quota(
            NAME,
            clock,
            limit=config.limit,
            window_seconds=config.window_seconds,
            headroom_ratio=config.quota_headroom_ratio,
        )
        self._wire = Wire(
            NAME,
            config.http,
            clock,
            base_url=config.base_url,
            quota=self._quota,
            headers={"X-Key": config.key.get_secret_value()},
            learn=self._learn,
        )

    @property
    def provides(self) -> AbstractSet[Kind]:
        """One book."""
        return frozenset({"positions", "prices", "accounts"})

    @property
    def quota_used_ratio(self) -> float | None:
        """Of the limit."""
        return self._quota.used_ratio

    async def fetch(self, kept: Kept) -> Snapshot:
        """One call."""
        book = Fields(await self._wire.get("/book"))
        at, sheet, records = self.clock.now(), Sheet(), book.get("positions", list)

        def position(fields: Fields) -> Position:
            return Position(self.config.book, fields.text("symbol"), fields.number("qty"), "USD")

        def price(fields: Fields) -> Price:
            return Price(fields.text("symbol"), fields.positive("price"), "USD", at)

        return Snapshot(
            at,
            positions=sheet.read("positions", records, position, portfolio=self.config.book),
            prices=sheet.read("prices", records, price, portfolio=self.config.book),
            accounts=(Account(self.config.book, "USD", Decimal(book.number("cash"))),),
            rejected=sheet.rejected,
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._wire.close()

    def _learn(self, headers: Mapping[str, str]) -> None:
        used = float(headers.get("x-used", "0"))
        if used:
            self._quota.learn(used=used)
