"""`/metrics` at 1,000, 10,000 and 100,000 series: time to render, to compress and to answer, beside prometheus-client in the
same run, and what the event loop feels of it, beside an idle control.

`python -m tests.bench.bench_exposition`
"""

from __future__ import annotations

import asyncio
import gc
import gzip
import statistics
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime

from prometheus_client import CollectorRegistry, Gauge, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from deskwatch.clock import SystemClock
from deskwatch.server import Server
from deskwatch.web import Readiness, application
from deskwatch.web_access import Door
from deskwatch.web_config import WebConfig
from exporter.analytic import Analytic, Result
from exporter.api import Api
from exporter.config import ExporterConfig
from exporter.cycle import Cycle
from exporter.desk import DeskState, Feed
from exporter.detection.breach import Verdict
from exporter.exposition import Exposition, Form, Renderer
from exporter.health import Health
from exporter.poller import Poller
from exporter.reading import Family, Reading, Sample

SIZES = (1_000, 10_000, 100_000)
FAMILIES = tuple(Family(f"desk_bench_{i}_ratio", "A ratio", ("method", "portfolio", "symbol")) for i in range(10))
COMPRESSED = Form(openmetrics=True, gzip=True)
CYCLES, CYCLE_SECONDS = 8, 1.0


def samples(count: int, seed: int = 0) -> list[Sample]:
    """So many series in ten families, other values for each seed."""
    each = count // len(FAMILIES)
    return [
        family.sample("historical", f"portfolio-{i % 7}", f"SYMBOL{i}", value=(i * 7919 + seed) % 100_003 / 99_991 - 0.5)
        for family in FAMILIES
        for i in range(each)
    ]


class Peer(Collector):
    """The same series through prometheus-client, families built fresh at each scrape as its guide asks."""

    def __init__(self, found: list[Sample]) -> None:
        self.found = found

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Called at each scrape."""
        families = {family.name: GaugeMetricFamily(family.name, family.help, labels=family.labels) for family in FAMILIES}
        for family, labels, value in self.found:
            families[family.name].add_metric(labels, value)
        yield from families.values()


def best(work: Callable[[], object], times: int = 5) -> float:
    """Milliseconds of the fastest of several runs."""
    took = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        took.append((time.perf_counter() - began) * 1e3)
    return min(took)


def kept_megabytes(make: Callable[[], object]) -> tuple[float, float]:
    """What stays in memory of what `make` returns, and the most it took on the way; megabytes."""
    gc.collect()
    tracemalloc.start()
    kept = make()
    stays, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    del kept
    return stays / 1e6, most / 1e6


def memory(count: int) -> None:
    """One line of the table: the renderer with its page in two forms, and the peer's gauges with one page."""
    found = samples(count)

    def ours() -> object:
        renderer = Renderer()
        page = renderer.render(found)
        return renderer, page, page.body(COMPRESSED)

    def peer() -> object:
        registry = CollectorRegistry()
        gauges = {each.name: Gauge(each.name, each.help, each.labels, registry=registry) for each in FAMILIES}
        for family, labels, value in found:
            gauges[family.name].labels(*labels).set(value)
        return gauges, gzip.compress(generate_latest(registry), 1)

    (stays, most), (peer_stays, peer_most) = kept_megabytes(ours), kept_megabytes(peer)
    print(f"{count:>8,} {stays:>10.1f} {most:>10.1f} {peer_stays:>14.1f} {peer_most:>12.1f} {peer_stays / stays:>8.1f}")


def rendering(count: int) -> None:
    """One line of the table: both render the same lines, which is checked."""
    found = samples(count)
    registry = CollectorRegistry()
    registry.register(Peer(found))
    renderer = Renderer()
    page = renderer.render(found)
    theirs = generate_latest(registry)
    assert sorted(b"".join(part for block in page.blocks for part in block.lines).splitlines()) == sorted(
        line for line in theirs.splitlines() if not line.startswith(b"#")
    )
    ours_ms = best(lambda: renderer.render(found))
    gzip_ms = best(lambda: renderer.render(found).body(COMPRESSED)) - ours_ms
    peer_ms, peer_gzip_ms = best(lambda: generate_latest(registry), 3), best(lambda: gzip.compress(theirs), 1)
    print(f"{count:>8,} {ours_ms:>10.1f} {gzip_ms:>10.1f} {peer_ms:>14.1f} {peer_gzip_ms:>12.1f} {peer_ms / ours_ms:>8.1f}")


class NoDetector:
    """A detector that finds nothing."""

    def judge(self, reading: Reading) -> Verdict:
        """Finds nothing."""
        return Verdict()

    def act(self, verdict: Verdict) -> None:
        """Does nothing else."""
        return

    def samples(self) -> list[Sample]:
        """None."""
        return []


class NoFeeds:
    """A poller without sources."""

    def feeds(self) -> tuple[Feed, ...]:
        """None."""
        return ()

    def samples(self) -> list[Sample]:
        """None."""
        return []


def load(count: int) -> Analytic:
    """An analytic that yields so many series."""
    prepared = samples(count)

    def compute(_: DeskState) -> Iterable[Result]:
        return prepared

    return Analytic("load", FAMILIES, compute)


async def lags(seconds: float) -> list[float]:
    """By how many milliseconds a sleep of one millisecond came late, again and again."""
    found = []
    until = time.perf_counter() + seconds
    while (began := time.perf_counter()) < until:
        await asyncio.sleep(0.001)
        found.append((time.perf_counter() - began) * 1e3 - 1.0)
    return found


def percentile(values: list[float], share: float) -> float:
    """The value below which this share lies."""
    return sorted(values)[int(share * (len(values) - 1))]


CLIENT = """
import socket, sys, time
port, times = int(sys.argv[1]), int(sys.argv[2])
took = []
for _ in range(times):
    request = (b"GET /metrics HTTP/1.1\\r\\nHost: 127.0.0.1:%d\\r\\nConnection: close\\r\\n"
               b"Accept: application/openmetrics-text;version=1.0.0\\r\\nAccept-Encoding: gzip\\r\\n\\r\\n" % port)
    connection = socket.create_connection(("127.0.0.1", port))
    began = time.perf_counter()
    connection.sendall(request)
    connection.recv(1)
    first = time.perf_counter()
    size = 1
    while part := connection.recv(1 << 20):
        size += len(part)
    took.append((first - began, time.perf_counter() - began, size))
    time.sleep(0.1)
took.sort()
print(*took[len(took) // 2])
"""


async def answering(count: int) -> None:
    """The whole exporter but its sources: cycles of so many series, scraped by another process."""
    clock = SystemClock()
    config = ExporterConfig.model_validate(
        {
            "cycle_seconds": CYCLE_SECONDS,
            "sources": [{"type": "ecb", "name": "rates"}],
            "portfolios": [{"name": "desk", "base_currency": "EUR"}],
        }
    )
    health = Health()
    exposition = Exposition(health.samples, clock.monotonic, 60.0)
    cycle = Cycle(config, clock, NoFeeds(), [load(count)], exposition, NoDetector(), health)
    api = Api(clock, Poller([], clock), cycle, exposition, [])
    app = application(Door(WebConfig(listen="127.0.0.1:0"), "token"), api.routes(), Readiness)
    async with Server(app, "127.0.0.1:0") as server:
        idle = await lags(CYCLES * CYCLE_SECONDS / 2)
        await cycle.once()
        exposition.current(COMPRESSED)
        beating = asyncio.ensure_future(cycle.run())
        await asyncio.sleep(CYCLE_SECONDS)
        busy = await lags(CYCLES * CYCLE_SECONDS)
        client = await asyncio.create_subprocess_exec(
            sys.executable, "-c", CLIENT, str(server.port), "20", stdout=asyncio.subprocess.PIPE
        )
        said, _ = await client.communicate()
        beating.cancel()
    first, whole, size = (float(each) for each in said.split())
    print(
        f"{count:>8,} {first * 1e3:>12.2f} {whole * 1e3:>10.2f} {size / 1e6:>8.2f} "
        f"{percentile(busy, 0.99):>13.2f} {max(busy):>9.1f} {percentile(idle, 0.99):>13.2f} {max(idle):>9.1f}"
    )


async def stall_of_the_peer(count: int) -> float:
    """What the event loop feels when prometheus-client renders on it, as its aiohttp handler does. Milliseconds."""
    registry = CollectorRegistry()
    registry.register(Peer(samples(count)))
    watching = asyncio.ensure_future(lags(3.0))
    await asyncio.sleep(0.5)
    gzip.compress(generate_latest(registry))
    return max(await watching)


def main() -> None:
    """Print both tables."""
    sys.setswitchinterval(0.001)
    print(f"{datetime.now(UTC):%Y-%m-%d}, Python {sys.version.split()[0]}; milliseconds, best of 5 (peer: of 3)")
    print(f"{'series':>8} {'render':>10} {'+ gzip 1':>10} {'peer render':>14} {'peer gzip 9':>12} {'ratio':>8}")
    for count in SIZES:
        rendering(count)
    print("\nmemory in MB that stays, and at most: ours (label blocks, lines, gzip body), the peer's gauges and gzip body")
    print(f"{'series':>8} {'stays':>10} {'at most':>10} {'peer stays':>14} {'peer at most':>12} {'ratio':>8}")
    for count in SIZES:
        memory(count)
    print(f"\nanswers to another process while a cycle runs every {CYCLE_SECONDS:g} s; loop lag in ms beside the idle loop")
    print(
        f"{'series':>8} {'first byte':>12} {'whole':>10} {'MB':>8} "
        f"{'lag p99':>13} {'lag max':>9} {'idle p99':>13} {'idle max':>9}"
    )
    for count in SIZES:
        gc.collect()
        asyncio.run(answering(count))
    worst = [asyncio.run(stall_of_the_peer(count)) for count in SIZES]
    print(f"loop stall when prometheus-client renders on the loop: {', '.join(f'{each:.0f} ms' for each in worst)}")
    print(f"median of the idle control: {statistics.median(asyncio.run(lags(1.0))):.2f} ms")


if __name__ == "__main__":
    main()
