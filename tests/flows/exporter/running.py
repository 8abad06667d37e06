"""A real exporter process for tests: a configuration, a trading database, and what the process says."""

from __future__ import annotations

import asyncio
import importlib.resources
import json
import os
import signal
import sqlite3
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import yaml
from prometheus_client.parser import text_string_to_metric_families

SCHEMA = importlib.resources.files("exporter.sources").joinpath("schema.sql").read_text()
PATIENCE_SECONDS = 20
Series = Mapping[tuple[str, frozenset[tuple[str, str]]], float]


def trading_database(path: Path, *statements: str) -> sqlite3.Connection:
    """The canonical tables with two portfolios: carry, short a million francs, and momentum, long yen."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("BEGIN")
    for statement in (
        *SCHEMA.split(";\n"),
        "INSERT INTO positions (portfolio, symbol, quantity, currency) VALUES ('carry', 'CHF', '-1000000', 'CHF'), "
        "('carry', 'USD', '500000', 'USD'), ('momentum', 'JPY', '100000000', 'JPY')",
        "INSERT INTO accounts (portfolio, currency, cash) VALUES ('carry', 'EUR', '2000000'), ('momentum', 'EUR', '1000000')",
        *statements,
    ):
        connection.execute(statement)
    connection.execute("COMMIT")
    return connection


def configuration(**changes: Any) -> dict[str, Any]:
    """A desk on `trading.db` and the ECB's rates as of 2015-01-14, read many times a second."""
    exporter = {
        "web": {"listen": "127.0.0.1:0"},
        "cycle_seconds": 0.1,
        "sources": [
            {
                "type": "database",
                "name": "trades",
                "url": "sqlite:///trading.db",
                "interval_seconds": 0.1,
                "stale_after_seconds": 1,
            },
            {"type": "ecb", "name": "rates", "as_of_file": "as_of"},
        ],
        "portfolios": [
            {"name": "carry", "base_currency": "EUR"},
            {"name": "momentum", "base_currency": "EUR"},
            {"name": "desk", "base_currency": "EUR", "members": ["carry", "momentum"]},
        ],
        "limits": [{"portfolio": "carry", "limit": "concentration", "value": 1.0}],
    }
    return {"logs": {"format": "json"}, "exporter": exporter | changes}


class Running:
    """The process and its address."""

    def __init__(self, process: asyncio.subprocess.Process, url: str, said: list[dict[str, Any]]) -> None:
        self.process = process
        self.url = url
        self.said = said
        """Its log, line by line."""

    async def get(self, path: str = "/metrics", **headers: str) -> httpx.Response:
        """One GET."""
        async with httpx.AsyncClient(base_url=self.url, trust_env=False) as client:
            return await client.get(path, headers=headers)

    async def post(self, path: str, content: str | bytes = b"", **headers: str) -> httpx.Response:
        """One POST."""
        async with httpx.AsyncClient(base_url=self.url, trust_env=False, timeout=30) as client:
            return await client.post(path, content=content, headers=headers)

    async def series(self) -> Series:
        """Everything `/metrics` says."""
        return parsed((await self.get()).text)

    async def until(self, holds: Callable[[Series], object]) -> Series:
        """Wait for a page of which this holds."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not holds(found := await self.series()):  # noqa: ASYNC110 - another process holds what is waited for
                await asyncio.sleep(0.05)
        return found

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> tuple[int, float]:
        """Send the signal; exit code and how many seconds the end took."""
        begun = asyncio.get_running_loop().time()
        self.process.send_signal(number)
        async with asyncio.timeout(PATIENCE_SECONDS):
            code = await self.process.wait()
        return code, asyncio.get_running_loop().time() - begun


def parsed(text: str) -> Series:
    """The page as series."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(series: Series, name: str, **labels: str) -> float | None:
    """One series' value, None where it is absent."""
    return series.get((name, frozenset(labels.items())))


def token(folder: Path) -> dict[str, str]:
    """What a change needs, once the process has made it."""
    return {"Authorization": f"Bearer {(folder / 'state/exporter/token').read_text()}"}


def write_configuration(folder: Path, content: Mapping[str, Any]) -> Path:
    """The file, and the date of the replay beside it."""
    (folder / "as_of").write_text("2015-01-14")
    file = folder / "desk.yml"
    file.write_text(yaml.safe_dump(dict(content)))
    return file


async def launch(folder: Path, content: Mapping[str, Any]) -> asyncio.subprocess.Process:
    """Start the command; its standard error is piped."""
    file = write_configuration(folder, content)
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "deskwatch", "exporter", "--config", str(file),
        stderr=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[3]), os.environ.get("PYTHONPATH", "")])},
    )  # fmt: skip


@asynccontextmanager
async def running(folder: Path, content: Mapping[str, Any] | None = None) -> AsyncIterator[Running]:
    """An exporter that listens; killed at the end if it still runs."""
    process = await launch(folder, content or configuration())
    said: list[dict[str, Any]] = []
    listens = asyncio.get_running_loop().create_future()
    reading = asyncio.ensure_future(_read_log(process, said, listens))
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            url = await listens
        yield Running(process, url, said)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        await reading


async def _read_log(process: asyncio.subprocess.Process, said: list[dict[str, Any]], listens: asyncio.Future[str]) -> None:
    assert process.stderr is not None
    unreadable = []
    async for line in process.stderr:
        try:
            said.append(json.loads(line))
        except ValueError:
            unreadable.append(line.decode())
            continue
        if said[-1]["event"] == "exporter listens" and not listens.done():
            listens.set_result(said[-1]["address"])
    if not listens.done():
        listens.set_exception(RuntimeError(f"the exporter ended: {''.join(unreadable)} {said}"))
