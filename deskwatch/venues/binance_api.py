"""What Binance's REST APIs have in common: public and signed reads, the minute's weight, the venue's clock, and lists.

Knows no call that changes an account. At most `AT_ONCE` calls of one API run at a time, each counted against the minute's
weight before it is made.
Sources: github.com/binance/binance-spot-api-docs, rest-api.md; developers.binance.com, USDS-margined futures.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Coroutine, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

from deskwatch.clock import Clock
from deskwatch.errors import DeskwatchError, Permanent, Reason, Retryable, Throttled
from deskwatch.http import HttpConfig
from deskwatch.venues.binance_paging import DAY_MS, LIMIT, Ask, bars, whole
from deskwatch.venues.binance_refusals import ClockApart, meaning
from deskwatch.venues.binance_signing import WINDOW_SECONDS, Access, Signature, VenueClock
from deskwatch.venues.quota import Quota
from deskwatch.venues.wire import Parameters, Wire

AT_ONCE = 8
"""Calls of one API under way at a time."""
INTERVALS_MS = {"1d": DAY_MS, "1m": 60_000}
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far a list of one symbol has been read. `last_id`: the newest seen; `looked_ms`: venue's time of the last look."""

    last_id: int | None = None
    looked_ms: int | None = None


async def together(calls: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Their results in their order. The first failure ends the others; of several, what keeps us away longest is raised."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(call) for call in calls]
    except BaseExceptionGroup as failed:
        raise max(_leaves(failed), key=_weight) from None
    return [task.result() for task in tasks]


def _leaves(failed: BaseException) -> Iterator[BaseException]:
    if isinstance(failed, BaseExceptionGroup):
        for each in failed.exceptions:
            yield from _leaves(each)
    else:
        yield failed


def _weight(failed: BaseException) -> tuple[bool, bool, float]:
    """A mistake of ours first, it must be seen; what the venue said before what was not even asked; then the longest wait."""
    wait = failed.retry_after_seconds if isinstance(failed, Retryable) else None
    return not isinstance(failed, DeskwatchError), not isinstance(failed, Throttled), wait or 0.0


class Api(ABC):
    """What both APIs have in common. A subclass says what they are called and weigh.

    Args:
        config: certificate, proxy and deadline of one call.
        clock: wall and monotonic time.
        base_url: address without a path.
        access: the key; None for public data only.
        headroom_ratio: share of the weight left to the trader.
    """

    name: ClassVar[str]
    """For messages."""
    market: ClassVar[str]
    """The market's own word."""
    root: ClassVar[str]
    """Where most of its calls are."""
    minute_weight: ClassVar[int]
    """Weight allowed in a minute, before the API itself has told."""
    listing_weight: ClassVar[int]
    listing_parameters: ClassVar[Parameters]
    open_orders_weight: ClassVar[int]
    """Of one symbol."""
    all_open_orders_weight: ClassVar[int]

    def __init__(
        self, config: HttpConfig, clock: Clock, *, base_url: str, access: Access | None, headroom_ratio: float
    ) -> None:
        self._clock = clock
        self._time = VenueClock(clock)
        self._quota = Quota(
            self.name, clock, limit=self.minute_weight, window_seconds=WINDOW_SECONDS, headroom_ratio=headroom_ratio
        )
        self._open = self._wire(config, base_url, None)
        self._signed = self._wire(config, base_url, access)
        self._recv_window_ms = access.recv_window_ms if access else 0
        self._measuring = asyncio.Lock()
        self._places = asyncio.Semaphore(AT_ONCE)

    def _wire(self, config: HttpConfig, base_url: str, access: Access | None) -> Wire:
        return Wire(
            self.name,
            config,
            self._clock,
            base_url=base_url,
            quota=self._quota,
            auth=None if access is None else Signature(access, self._time.now_ms),
            learn=self._learn,
            refuse=self._refuse,
        )

    @property
    def quota_used_ratio(self) -> float:
        """Share of the minute's weight used by everybody behind this address."""
        return self._quota.used_ratio

    def now_ms(self) -> int:
        """The venue's time."""
        return self._time.now_ms()

    async def close(self) -> None:
        """Close the connections."""
        await self._open.close()
        await self._signed.close()

    async def listing(self) -> list[Any]:
        """Every market listed; the limits told with them are taken over."""
        answer = await self._public(f"{self.root}/exchangeInfo", self.listing_parameters, weight=self.listing_weight)
        found = rows_of(answer, "symbols", f"{self.name} exchangeInfo")
        limits = answer.get("rateLimits")
        for each in limits if isinstance(limits, list) else ():
            if isinstance(each, Mapping) and each.get("rateLimitType") == "REQUEST_WEIGHT" and each.get("interval") == "MINUTE":
                number, limit = whole(each, "intervalNum"), whole(each, "limit")
                if number == 1 and limit:
                    self._quota.learn(limit=float(limit))
        return found

    async def bars(self, symbol: str, interval: str, start_ms: int, end_ms: int) -> list[Any]:
        """Bars that open from `start_ms` to `end_ms`, of `1d` or `1m`."""
        # One more than there can be: a page that is not full is the last.
        limit = min(LIMIT, (end_ms - start_ms) // INTERVALS_MS[interval] + 2)

        async def ask(window: Parameters) -> list[Any]:
            parameters = {"symbol": symbol, "interval": interval, **window}
            return await self._list(f"{self.root}/klines", parameters, weight=self.bars_weight(limit))

        return await bars(ask, start_ms, end_ms, limit)

    async def depth(self, symbol: str, levels: int) -> Any:
        """The best levels of both sides of one market's book."""
        return await self._public(f"{self.root}/depth", {"symbol": symbol, "limit": levels}, weight=self.depth_weight(levels))

    @abstractmethod
    def bars_weight(self, limit: int) -> int:
        """Weight of a page of so many bars."""

    @abstractmethod
    def depth_weight(self, levels: int) -> int:
        """Weight of one book."""

    async def open_orders(self, symbol: str | None) -> list[Any]:
        """Open orders of one symbol, or of all."""
        weight = self.open_orders_weight if symbol else self.all_open_orders_weight
        return await self._own_list("openOrders", {"symbol": symbol} if symbol else {}, weight)

    @abstractmethod
    async def trades(self, symbol: str, cursor: Cursor, start_ms: int) -> list[Any]:
        """Own trades of one symbol: those after the cursor, or all from `start_ms` on where nothing has been read yet."""

    @abstractmethod
    async def orders(self, symbol: str, cursor: Cursor, start_ms: int) -> list[Any]:
        """Own orders of one symbol, of whatever status: as `trades`."""

    def _asking(self, path: str, symbol: str, weight: float) -> Ask:
        async def ask(window: Parameters) -> list[Any]:
            return await self._own_list(path, {"symbol": symbol, **window}, weight)

        return ask

    async def _own_list(self, path: str, parameters: Parameters, weight: float) -> list[Any]:
        return listed(await self._own(f"{self.root}/{path}", parameters, weight=weight), f"{self.name} {path}")

    async def _list(self, path: str, parameters: Parameters, *, weight: float) -> list[Any]:
        return listed(await self._public(path, parameters, weight=weight), f"{self.name} {path}")

    async def _public(self, path: str, parameters: Parameters | None = None, *, weight: float) -> Any:
        async with self._places:
            return await self._open.get(path, parameters, weight=weight)

    async def _own(self, path: str, parameters: Parameters | None = None, *, weight: float) -> Any:
        """A signed read; one refused for its time is made once more by the venue's clock, measured anew.

        Raises:
            Retryable: refused for its time again, among others.
            UnknownSymbol: the venue knows no such symbol.
        """
        async with self._places:
            measured = self._time.measured or await self._measure(0)
            try:
                return await self._signed.get(path, parameters, weight=weight)
            except ClockApart:
                await self._measure(measured)
            try:
                return await self._signed.get(path, parameters, weight=weight)
            except ClockApart as apart:
                hint = f"the way there is slow, or recv_window_ms ({self._recv_window_ms}) too short"
                raise Retryable(f"{apart}, though its clock was just measured: {hint}", reason=apart.reason) from None

    async def _measure(self, known: int) -> int:
        """Measure the venue's clock, unless somebody else has since the measurement `known`; how often it has been."""
        async with self._measuring:
            if self._time.measured == known:
                asked = self._clock.monotonic()
                answer = await self._open.get(f"{self.root}/time", weight=1)
                server_ms = whole(answer, "serverTime")
                if server_ms is None:
                    raise Retryable(f"{self.name} time: no serverTime in the answer", reason=Reason.BAD_RESPONSE)
                self._time.set(server_ms, asked, self._clock.monotonic())
            return self._time.measured

    def _learn(self, headers: Mapping[str, str]) -> None:
        used = headers.get("x-mbx-used-weight-1m", "")
        if used.isdecimal():
            self._quota.learn(used=float(used), resets_in_seconds=self._time.window_left_seconds())

    def _refuse(self, status: int, headers: Mapping[str, str], parsed: Any) -> Retryable | Permanent | None:
        return meaning(self.name, status, headers, parsed, self.now_ms())


def rows_of(answer: Any, name: str, what: str) -> list[Any]:
    """A field that is a list. Raises as `listed`."""
    return listed(answer.get(name) if isinstance(answer, Mapping) else None, f"{what}.{name}")


def listed(answer: Any, what: str) -> list[Any]:
    """An answer that is a list.

    Raises:
        Retryable: it is none: reason `bad_response`.
    """
    if not isinstance(answer, list):
        raise Retryable(f"{what}: a list was expected, found {type(answer).__name__}", reason=Reason.BAD_RESPONSE)
    return answer
