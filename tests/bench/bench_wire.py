"""A venue's HTTP: what a large answer costs the event loop beside parsers that take it whole, and calls a second beside httpx
and aiohttp bare.

`python -m tests.bench.bench_wire`
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any

import aiohttp
import httpx
import msgspec

from deskwatch.clock import SystemClock
from deskwatch.http import HttpConfig
from deskwatch.venues.exact_json import parse
from deskwatch.venues.wire import Wire
from exporter.service import SWITCH_SECONDS
from tests.stand_ins.raw import http, saying

SYMBOL = {
    "symbol": "ETHBTC", "status": "TRADING", "baseAsset": "ETH", "quotePrecision": 8, "orderTypes": ["LIMIT", "MARKET"],
    "filters": [
        {"filterType": "PRICE_FILTER", "minPrice": "0.00001000", "maxPrice": "922327.00000000", "tickSize": "0.00001000"},
        {"filterType": "LOT_SIZE", "minQty": "0.00010000", "maxQty": "100000.00000000", "stepSize": "0.00010000"},
    ],
    "last": 0.03591,
}  # fmt: skip
"""One market of an exchange's list, shortened."""
PARSERS: dict[str, Callable[[bytes], Any]] = {
    "deskwatch, in pieces": parse,
    "msgspec, whole": msgspec.json.Decoder(float_hook=Decimal).decode,
    "json, whole": lambda body: json.loads(body, parse_float=Decimal),
}
CALLS, AT_ONCE = 1000, 10


async def parsing(megabytes: float) -> None:
    """Each parser in a thread: how long it takes and for how long at a time nothing else happens."""
    count = int(megabytes * 1e6 / len(json.dumps(SYMBOL)))
    body = json.dumps({"timezone": "UTC", "symbols": [SYMBOL] * count}).encode()
    for name, parser in PARSERS.items():
        runs = [await _stall(lambda parser=parser: parser(body)) for _ in range(5)]  # type: ignore[misc]
        took, stall = (min(each) * 1e3 for each in zip(*runs, strict=True))
        print(f"{len(body) / 1e6:6.1f} MB  {name:22} {took:8.0f} ms {stall:12.1f} ms")
    idle = [await _stall(lambda: time.sleep(0.2)) for _ in range(3)]
    print(f"{'':9}  {'idle control':22} {'':11} {min(stall for _, stall in idle) * 1e3:12.1f} ms")


async def _stall(work: Callable[[], Any]) -> tuple[float, float]:
    gaps: list[float] = []

    async def watch() -> None:
        while True:
            began = time.perf_counter()
            await asyncio.sleep(0.001)
            gaps.append(time.perf_counter() - began - 0.001)

    watching = asyncio.ensure_future(watch())
    await asyncio.sleep(0.05)
    gaps.clear()
    began = time.perf_counter()
    await asyncio.to_thread(work)
    took = time.perf_counter() - began
    await asyncio.sleep(0.002)
    watching.cancel()
    return took, max(gaps)


async def calling() -> None:
    """The same small answer, some calls at a time."""
    body = http(json.dumps([SYMBOL] * 5).encode())
    async with saying(lambda _: body) as server:
        wire = Wire("venue", HttpConfig(), SystemClock(), base_url=server.url)
        bare = httpx.AsyncClient(base_url=server.url, trust_env=False)
        other = aiohttp.ClientSession(server.url)

        async def with_httpx() -> Any:
            return (await bare.get("/x")).json()

        async def with_aiohttp() -> Any:
            async with other.get("/x") as response:
                return await response.json()

        peers: dict[str, Callable[[], Awaitable[Any]]] = {
            "deskwatch": lambda: wire.get("/x"), "httpx": with_httpx, "aiohttp": with_aiohttp,
        }  # fmt: skip
        for name, call in peers.items():
            rates = [await _rate(call) for _ in range(3)]
            print(f"  {name:22} {statistics.median(rates):8.0f} calls/s")
        await asyncio.gather(wire.close(), bare.aclose(), other.close())


async def _rate(call: Callable[[], Awaitable[Any]]) -> float:
    async def caller() -> None:
        for _ in range(CALLS // AT_ONCE):
            await call()

    began = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(AT_ONCE)))
    return CALLS / (time.perf_counter() - began)


async def main() -> None:
    """Print both tables."""
    sys.setswitchinterval(SWITCH_SECONDS)
    print(f"{'a list of markets, parsed in a thread':33} {'time':>11} {'longest stall':>15}")
    for megabytes in (0.5, 2.0, 15.0):
        await parsing(megabytes)
    print(f"\n{AT_ONCE} calls at a time, server in the same process")
    await calling()


if __name__ == "__main__":
    asyncio.run(main())
