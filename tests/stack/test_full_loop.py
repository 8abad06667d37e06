"""The whole loop on real Prometheus and Alertmanager: a row of the trading database changes, a person is paged, it resolves.

The vendors are stand-ins that speak the real wire format; everything else is what a desk runs.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, closing
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from deskwatch.demo import stack
from deskwatch.demo.processes import Child, Children, free_ports
from exporter.sources import __path__ as sources
from tests.components import find
from tests.stand_ins.pagerduty import ROUTING_KEY, PagerDuty
from tests.stand_ins.slack import Slack

pytestmark = pytest.mark.stack

WAIT_SECONDS = 45.0
ALERT = "ExpectedShortfallExceeded"
QUIET, BREACHING = -200_000, -500_000
"""Francs held: an expected shortfall of about 0.8 % and 3.1 % of net asset value after the break; the limit is 1 %."""


class Desk:
    """A running desk: exporter, receiver, Prometheus, Alertmanager, and the two vendors."""

    def __init__(self, folder: Path, slack: Slack, pagerduty: PagerDuty) -> None:
        self.folder = folder
        self.slack = slack
        self.pagerduty = pagerduty
        self.children = Children(folder)
        self.addresses = {name: f"127.0.0.1:{port}" for name, port in free_ports(dict.fromkeys(stack.USUAL_PORTS, 0)).items()}
        self.prometheus: Child | None = None
        self.alertmanager: Child | None = None

    @property
    def incidents(self) -> list[dict[str, str]]:
        """What the person on call has seen, oldest first."""
        return [incident for incident in self.pagerduty.incidents if "expected" in incident["summary"].lower()]

    def hold(self, francs: int) -> None:
        """Change the row."""
        with closing(sqlite3.connect(self.folder / "trading.db")) as database:
            database.execute("UPDATE positions SET quantity = ? WHERE symbol = 'CHF'", (str(francs),))
            database.commit()

    async def start(self) -> None:
        """Everything, with one-second intervals and the demo profile of the rules."""
        self._write()
        config = str(self.folder / "desk.yml")
        command = [sys.executable, "-m", "deskwatch"]
        await self.children.start("exporter", [*command, "exporter", "--config", config])
        await self.children.start("receiver", [*command, "receiver", "--config", config])
        at = self.addresses
        self.alertmanager = await self.children.start(
            "alertmanager",
            stack.alertmanager_command(
                find("prometheus-alertmanager"), self.folder / "alertmanager.yml", self.folder / "am", at["Alertmanager"]
            ),
        )
        self.prometheus = await self.children.start(
            "prometheus",
            stack.prometheus_command(
                find("prometheus"), self.folder / "prometheus.yml", self.folder / "tsdb", at["Prometheus"]
            ),
        )
        died = asyncio.ensure_future(self.children.watch())
        ready = asyncio.ensure_future(self._all_ready())
        await asyncio.wait({died, ready}, return_when=asyncio.FIRST_COMPLETED)
        if died.done():
            ready.cancel()
            await died
        died.cancel()
        await ready

    async def _all_ready(self) -> None:
        for address in self.addresses.values():
            await self.ready(f"http://{address}/-/ready")

    async def ready(self, url: str) -> None:
        """Wait until a component says so."""

        async def asked() -> bool:
            async with httpx.AsyncClient() as client:
                try:
                    return (await client.get(url)).status_code == 200
                except httpx.HTTPError:
                    return False

        async with asyncio.timeout(WAIT_SECONDS):
            while not await asked():  # noqa: ASYNC110 - a process out there has no event to wait for
                await asyncio.sleep(0.1)

    async def runs(self) -> list[dict[str, Any]]:
        """What the receiver's hooks did."""
        async with httpx.AsyncClient(base_url=f"http://{self.addresses['receiver']}") as client:
            answer = (await client.get("/api/v1/runs")).json()
        found: list[dict[str, Any]] = answer if isinstance(answer, list) else answer["runs"]
        return found

    def _write(self) -> None:
        with closing(sqlite3.connect(self.folder / "trading.db")) as database:
            database.executescript((Path(next(iter(sources))) / "schema.sql").read_text())
            database.execute("INSERT INTO positions(portfolio, symbol, quantity, currency) VALUES ('carry', 'CHF', '0', 'EUR')")
            database.execute("INSERT INTO accounts(portfolio, currency, cash) VALUES ('carry', 'EUR', '1000000')")
            database.commit()
        self.hold(QUIET)
        (self.folder / "as_of").write_text("2015-01-20")
        stack.write_rules(self.folder / "rules.yml", self.addresses)
        stack.write_prometheus(self.folder / "prometheus.yml", self.folder / "rules.yml", self.addresses)
        stack.write_alertmanager(self.folder / "alertmanager.yml", self.addresses)
        at = self.addresses
        (self.folder / "slack_url").write_text(self.slack.webhook_url)
        config = {
            "exporter": {
                "web": {"listen": at["exporter"]},
                "cycle_seconds": 0.5,
                "sources": [
                    {
                        "type": "database",
                        "name": "trades",
                        "url": "sqlite:///trading.db",
                        "interval_seconds": 0.5,
                        "stale_after_seconds": 3,
                    },
                    {"type": "ecb", "name": "rates", "as_of_file": "as_of", "interval_seconds": 5},
                ],
                "portfolios": [{"name": "carry", "base_currency": "EUR"}],
                "limits": [{"portfolio": "carry", "limit": "expected_shortfall_0.975", "value": 0.01}],
                "detector": {
                    "rules": ["rules.yml"],
                    "alertmanagers": [{"base_url": f"http://{at['Alertmanager']}"}],
                    "receiver": {"base_url": f"http://{at['receiver']}"},
                    "repost_seconds": 1,
                },
            },
            "receiver": {
                "web": {"listen": at["receiver"]},
                "channels": [
                    {"type": "slack", "name": "desk", "url_file": "slack_url"},
                    {"type": "pagerduty", "name": "pager", "routing_key": ROUTING_KEY, "base_url": self.pagerduty.url},
                ],
                "exporter": {"base_url": f"http://{at['exporter']}"},
                "hooks": {"reduce_position": {"mode": "dry_run"}},
            },
        }
        (self.folder / "desk.yml").write_text(yaml.safe_dump(config))


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    """A desk that runs and is inside its limits."""
    async with AsyncExitStack() as exits:
        slack = await exits.enter_async_context(Slack())
        pagerduty = await exits.enter_async_context(PagerDuty())
        running = Desk(tmp_path, slack, pagerduty)
        exits.push_async_callback(running.children.stop)
        await running.start()
        yield running


async def until_paged(desk: Desk, status: str, incidents: int = 1) -> None:
    """Wait until the newest of so many incidents has the status."""

    def holds() -> bool:
        return len(desk.incidents) == incidents and desk.incidents[-1]["status"] == status

    await desk.pagerduty.until(holds, seconds=WAIT_SECONDS)


def said(desk: Desk, *words: str) -> Callable[[], bool]:
    """Whether one message to Slack holds all the words."""
    return lambda: any(all(word in json.dumps(message) for word in words) for message in desk.slack.messages)


async def test_a_changed_row_reaches_slack_and_pagerduty_and_its_resolve_follows(desk: Desk) -> None:
    """Row, gauge, rule, group, page with runbook, proposed trade; then the row goes back and everything resolves."""
    desk.hold(BREACHING)
    await until_paged(desk, "triggered")
    await desk.slack.until(said(desk, "FIRING", ALERT, f"/runbooks/{ALERT}", "carry"), seconds=WAIT_SECONDS)
    await desk.slack.until(said(desk, "reduce_position", "CHF"), seconds=WAIT_SECONDS)
    (run,) = await desk.runs()
    assert (run["hook"], run["mode"]) == ("reduce_position", "dry_run")
    desk.hold(QUIET)
    await until_paged(desk, "resolved")
    await desk.slack.until(said(desk, "RESOLVED", ALERT), seconds=WAIT_SECONDS)
    assert len(desk.incidents) == 1, "one breach seen by two detectors is one incident"
    assert len(await desk.runs()) == 1, "a hook runs once in an episode"


async def test_a_critical_survives_the_loss_of_prometheus_and_of_alertmanager(desk: Desk) -> None:
    """Without Prometheus the exporter tells Alertmanager; without both it tells the receiver; each time the same identity."""
    assert desk.prometheus is not None
    assert desk.alertmanager is not None
    await desk.children.stop(desk.prometheus)
    desk.hold(BREACHING)
    await until_paged(desk, "triggered")
    desk.hold(QUIET)
    await until_paged(desk, "resolved")
    await desk.children.stop(desk.alertmanager)
    desk.hold(BREACHING)
    await until_paged(desk, "triggered", incidents=2)
    desk.hold(QUIET)
    await until_paged(desk, "resolved", incidents=2)
    first, second = desk.incidents
    assert first["dedup_key"] == second["dedup_key"]


async def test_a_source_that_dies_in_the_breach_does_not_resolve_it(desk: Desk) -> None:
    """Lost data is not recovery: the episode stays open, StaleData joins it, and only a fresh reading closes it."""
    database, away = desk.folder / "trading.db", desk.folder / "away.db"
    desk.hold(BREACHING)
    await until_paged(desk, "triggered")
    database.rename(away)
    await desk.slack.until(said(desk, "FIRING", "StaleData", "trades"), seconds=WAIT_SECONDS + 60)
    assert desk.incidents[0]["status"] == "triggered"
    away.rename(database)
    desk.hold(QUIET)
    await until_paged(desk, "resolved")
