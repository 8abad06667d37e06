"""How many notifications a second the receiver acknowledges durably, and how long one takes.

Run it with `python tests/bench/bench_webhook.py`.

Server and load generator are processes of their own on the same machine. Three servers take the same load: the whole receiver
(journal, worker, deliveries), the receiver's handler on the store without a worker, and as a control the same handler
without a store. The rate at which this disk syncs stands beside, because it bounds every durable figure.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
IDENTITIES = 1000


def body(number: int, size: int) -> bytes:
    """One notification of about `size` bytes about one of a thousand alerts."""
    alert = {
        "status": "firing",
        "labels": {"alertname": "Bench", "severity": "warning", "n": str(number % IDENTITIES)},
        "annotations": {"summary": "a benchmark alert", "description": "x" * 400},
        "startsAt": "2026-01-01T00:00:00Z",
        "endsAt": "0001-01-01T00:00:00Z",
        "generatorURL": "http://prometheus:9090/graph?g0.expr=up",
        "fingerprint": f"{number % IDENTITIES:016x}",
    }
    group = {"version": "4", "groupKey": f"{{}}:{{n={number % IDENTITIES}}}", "status": "firing", "receiver": "deskwatch"}
    group |= {"externalURL": "http://alertmanager:9093", "truncatedAlerts": 0, "commonLabels": alert["labels"]}
    group["alerts"] = [alert]
    one = len(json.dumps(group))
    group["alerts"] = [{**alert, "labels": {**alert["labels"], "m": str(m)}} for m in range(max(1, round(size / (one * 0.62))))]
    group["commonAnnotations"] = {"padding": "p" * max(0, size - len(json.dumps(group)) - 40)}
    return json.dumps(group).encode()


class Tally:
    """Latencies in seconds and answers by status."""

    def __init__(self) -> None:
        self.latencies: list[float] = []
        self.statuses: dict[str, int] = {}


async def post(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes, tally: Tally, due: float) -> None:
    """One request on a kept-alive connection; its latency counts from when it was due."""
    writer.write(request)
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length"))
    await reader.readexactly(length)
    tally.latencies.append(time.perf_counter() - due)
    status = head[9:12].decode()
    tally.statuses[status] = tally.statuses.get(status, 0) + 1


async def load(host: str, port: int, connections: int, seconds: float, size: int, rate: float) -> Tally:
    """Post for `seconds`: as fast as the answers come, or at a constant rate where one is given."""
    bodies = [body(number, size) for number in range(200)]
    head = f"POST /api/v1/webhook HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: application/json\r\nContent-Length: "
    requests = [f"{head}{len(each)}\r\n\r\n".encode() + each for each in bodies]
    tally, numbers, started = Tally(), iter(range(10**9)), time.perf_counter()

    async def connection() -> None:
        reader, writer = await asyncio.open_connection(host, port)
        while True:
            number = next(numbers)
            due = started + number / rate if rate else time.perf_counter()
            if (due if rate else time.perf_counter()) - started > seconds:
                break
            await asyncio.sleep(max(0.0, due - time.perf_counter())) if rate else None
            await post(reader, writer, requests[number % len(requests)], tally, due)
        writer.close()

    await asyncio.gather(*(connection() for _ in range(connections)))
    return tally


def fsync_rate(folder: Path, seconds: float = 1.0) -> tuple[float, float]:
    """fdatasync calls a second of 4 kB appends here, and the median time of one in milliseconds."""
    took = []
    with (folder / "sync").open("wb", buffering=0) as file:
        ends = time.perf_counter() + seconds
        while time.perf_counter() < ends:
            began = time.perf_counter()
            file.write(b"x" * 4096)
            os.fdatasync(file.fileno())
            took.append(time.perf_counter() - began)
    return len(took) / seconds, sorted(took)[len(took) // 2] * 1000


@contextmanager
def serving(kind: str, folder: Path) -> Iterator[tuple[str, int]]:
    """A server process of the kind, at the address it printed."""
    process = subprocess.Popen(
        [sys.executable, __file__, "--serve", kind, "--folder", str(folder)], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert process.stdout is not None
    try:
        host, port = process.stdout.readline().split()
        yield host, int(port)
    finally:
        process.terminate()
        process.wait(10)


async def serve(kind: str, folder: Path) -> None:
    """Run one of the servers in this process until it is terminated."""
    import prometheus_client

    from deskwatch.clock import SystemClock
    from deskwatch.logs import LogConfig, configure
    from deskwatch.server import Server
    from deskwatch.store import Work
    from deskwatch.store.sqlite import SqliteStore
    from deskwatch.web import Readiness, Route, application, until_stopped
    from deskwatch.web_access import Door
    from deskwatch.web_config import WebConfig
    from receiver.config import ReceiverConfig
    from receiver.metrics import Metrics
    from receiver.schema import MIGRATIONS
    from receiver.service import SWITCH_SECONDS, Service
    from receiver.webhook import Intake, Webhook

    configure(LogConfig(level="error"), component="bench")
    sys.setswitchinterval(SWITCH_SECONDS)
    config = ReceiverConfig.model_validate(
        {"web": {"listen": "127.0.0.1:0"}, "state_folder": str(folder), "channels": [{"type": "console"}]}
    )
    service = Service(config, SystemClock())

    class NoStore:
        async def write(self, work: Work[object], *, deadline_seconds: float = 0.0) -> object:
            work.close()
            return 1, False

    def announce(url: str) -> None:
        # The address goes to the parent; what the console channel prints afterwards goes nowhere.
        print(*url.removeprefix("http://").split(":"), flush=True)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)

    async def whole(stop: asyncio.Event) -> None:
        started: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        started.add_done_callback(lambda future: announce(future.result()))
        await service.run(stop, started)

    async def handler_only(stop: asyncio.Event) -> None:
        store = NoStore() if kind == "without store" else await SqliteStore.open(folder / "bench.sqlite", MIGRATIONS)
        metrics = Metrics(prometheus_client.CollectorRegistry())
        webhook = Webhook(store, service.planner, metrics, SystemClock(), None, 5.0, lambda: None, lambda: None, Intake())  # type: ignore[arg-type]
        route = Route("POST", "/api/v1/webhook", webhook.receive, "own")
        door = Door(WebConfig(listen="127.0.0.1:0"), "t")
        async with Server(application(door, [route], Readiness), "127.0.0.1:0") as server:
            announce(server.url)
            await stop.wait()

    await until_stopped(whole if kind == "receiver" else handler_only)


def measure(kind: str, connections: int, seconds: float, size: int, rate: float) -> None:
    """One line of the table."""
    with tempfile.TemporaryDirectory(dir=ROOT if os.environ.get("BENCH_HERE") else None) as temporary:
        folder = Path(temporary)
        syncs, sync_ms = fsync_rate(folder)
        with serving(kind, folder / "state") as (host, port):
            arguments = [host, str(port), str(connections), str(seconds), str(size), str(rate)]
            result = subprocess.run(
                [sys.executable, __file__, "--load", *arguments], capture_output=True, text=True, check=True, cwd=ROOT
            )
    tally = json.loads(result.stdout)
    wanted = f"{rate:.0f}/s" if rate else "all"
    print(
        f"{kind:<14} {size / 1000:6.1f} kB c={connections:<4} asked {wanted:>7}  acknowledged {tally['rate']:8.0f}/s  "
        f"p50 {tally['p50']:7.1f}  p99 {tally['p99']:7.1f} ms  {tally['statuses']}  fsync {syncs:.0f}/s, {sync_ms:.2f} ms"
    )


def main() -> None:
    """Measure, or be one of the processes that are measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--serve")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--load", nargs=6)
    options = parser.parse_args()
    if options.serve:
        asyncio.run(serve(options.serve, options.folder))
        return
    if options.load:
        host, port, connections, seconds, size, rate = options.load
        tally = asyncio.run(load(host, int(port), int(connections), float(seconds), int(size), float(rate)))
        ordered = sorted(tally.latencies)
        shown = {"rate": len(ordered) / float(seconds), "statuses": tally.statuses}
        shown |= {name: ordered[int(len(ordered) * share)] * 1000 for name, share in (("p50", 0.5), ("p99", 0.99))}
        print(json.dumps(shown))
        return
    for kind in ("receiver", "handler only", "without store"):
        measure(kind, 64, options.seconds, 1600, 0)
        measure(kind, 64, options.seconds, 1600, 2000)
        measure(kind, 8, options.seconds, 200_000, 0)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
