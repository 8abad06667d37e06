"""What the demo sees of the processes it started, asked over HTTP as anybody could: readings, alerts, deliveries, runs.

A question that is not answered is None: the process may be starting, busy, or ending, and the next question follows soon.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

from deskwatch.http import HttpConfig, client

SHORTFALL, VALUE_AT_RISK = "0.975", "0.99"
"""Confidences shown."""
TIMEOUT_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Figures:
    """One portfolio in one reading. Ratios of net asset value; None where undefined.

    Args:
        value: net asset value, euro.
        expected_shortfall: historical, 0.975, one day; a positive loss.
        value_at_risk: historical, 0.99, one day; a positive loss.
        limits: by name, ratio.
        used: measured value over limit, by limit.
    """

    value: float
    expected_shortfall: float | None
    value_at_risk: float | None
    limits: Mapping[str, float]
    used: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Breach:
    """A limit that is used more than wholly."""

    portfolio: str
    limit: str
    value: float
    used: float


@dataclass(frozen=True, slots=True)
class Reading:
    """What `/metrics` said: the market day its prices are of, and every portfolio that has a value."""

    day: dt.date
    portfolios: Mapping[str, Figures]

    @property
    def breaches(self) -> tuple[Breach, ...]:
        """Limits exceeded, in the exporter's order."""
        return tuple(
            Breach(name, limit, figures.limits[limit], used)
            for name, figures in self.portfolios.items()
            for limit, used in figures.used.items()
            if used > 1.0
        )


@dataclass(frozen=True, slots=True)
class Trade:
    """A proposed trade: signed quantity."""

    portfolio: str
    symbol: str
    quantity: Decimal


class Service:
    """A process behind an address."""

    def __init__(self, address: str) -> None:
        self.url = f"http://{address}"
        self._client = client(HttpConfig(timeout_seconds=TIMEOUT_SECONDS), base_url=self.url)

    async def get(self, path: str) -> httpx.Response | None:
        """The answer with status 200, None where there is none."""
        try:
            response = await self._client.get(path)
        except httpx.HTTPError:
            return None
        return response if response.status_code == 200 else None

    async def post(self, path: str, body: Mapping[str, Any]) -> httpx.Response | None:
        """The answer, whatever its status; None where there is none."""
        try:
            return await self._client.post(path, json=dict(body))
        except httpx.HTTPError:
            return None

    async def json(self, path: str) -> Any:
        """The decoded body of an answer with status 200, else None."""
        response = await self.get(path)
        try:
            return None if response is None else response.json()
        except json.JSONDecodeError:
            return None

    async def ready(self) -> bool:
        """Whether it says it is ready."""
        return await self.get("/-/ready") is not None

    async def close(self) -> None:
        """Release connections."""
        await self._client.aclose()


async def read_exporter(exporter: Service, source: str) -> Reading | None:
    """The exporter's latest reading.

    Args:
        exporter: the process.
        source: the source whose market time counts as the day of the reading.
    """
    response = await exporter.get("/metrics")
    return None if response is None else parse_reading(response.text, source)


def parse_reading(page: str, source: str) -> Reading | None:
    """A reading from exposition text; None where the source has not delivered."""
    day: dt.date | None = None
    values: dict[str, dict[str, Any]] = {}
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            labels = sample.labels
            if sample.name == "desk_data_timestamp_seconds" and labels["source"] == source:
                day = dt.datetime.fromtimestamp(sample.value, dt.UTC).date()
            elif "portfolio" in labels:
                _take(values.setdefault(labels["portfolio"], {"limits": {}, "used": {}}), sample.name, labels, sample.value)
    if day is None:
        return None
    portfolios = {name: _figures(found) for name, found in values.items() if "value" in found}
    return Reading(day, portfolios)


def _take(found: dict[str, Any], name: str, labels: Mapping[str, str], value: float) -> None:
    if name == "desk_portfolio_value":
        found["value"] = value
    elif name == "desk_limit":
        found["limits"][labels["limit"]] = value
    elif name == "desk_limit_utilization_ratio":
        found["used"][labels["limit"]] = value
    elif labels.get("method") == "historical" and labels.get("horizon") == "1d" and "symbol" not in labels:
        if name == "desk_expected_shortfall_ratio" and labels["confidence"] == SHORTFALL:
            found["expected_shortfall"] = value
        elif name == "desk_var_ratio" and labels["confidence"] == VALUE_AT_RISK:
            found["value_at_risk"] = value


def _figures(found: Mapping[str, Any]) -> Figures:
    return Figures(found["value"], found.get("expected_shortfall"), found.get("value_at_risk"), found["limits"], found["used"])


@dataclass(frozen=True, slots=True)
class Alert:
    """A firing alert, wherever it was seen."""

    name: str
    labels: tuple[tuple[str, str], ...]

    @property
    def severity(self) -> str:
        """Label `severity`."""
        return dict(self.labels).get("severity", "")

    @property
    def limit(self) -> tuple[str, str]:
        """Labels `portfolio` and `limit`, empty where it has none."""
        known = dict(self.labels)
        return known.get("portfolio", ""), known.get("limit", "")

    @property
    def subject(self) -> str:
        """What it is about, for a person: `carry, expected_shortfall_0.975`."""
        known = dict(self.labels)
        named = [known[name] for name in ("portfolio", "limit", "strategy", "source", "component") if name in known]
        return ", ".join(named)


async def prometheus_alerts(prometheus: Service) -> frozenset[Alert] | None:
    """What Prometheus's rules say fires, pending alerts left out."""
    found = await prometheus.json("/api/v1/alerts")
    if not isinstance(found, dict):
        return None
    return _alerts(each["labels"] for each in found["data"]["alerts"] if each["state"] == "firing")


async def alertmanager_alerts(alertmanager: Service) -> frozenset[Alert] | None:
    """What Alertmanager takes to fire and notifies of, whoever told it."""
    found = await alertmanager.json("/api/v2/alerts?active=true&silenced=false&inhibited=false")
    return _alerts(each["labels"] for each in found) if isinstance(found, list) else None


async def receiver_alerts(receiver: Service) -> frozenset[Alert] | None:
    """The receiver's open episodes."""
    found = await receiver.json("/api/v1/episodes?status=firing&limit=500")
    return _alerts(each["labels"] for each in found) if isinstance(found, list) else None


def _alerts(labelled: Iterable[Mapping[str, str]]) -> frozenset[Alert]:
    return frozenset(Alert(labels.get("alertname", ""), tuple(sorted(labels.items()))) for labels in labelled)


@dataclass(frozen=True, slots=True)
class Run:
    """A run of a hook that has said what it would do."""

    run_id: int
    hook: str
    portfolio: str
    limit: str
    said: str


async def finished_runs(receiver: Service) -> list[Run]:
    """Successful runs about limits, newest first."""
    found = await receiver.json("/api/v1/runs?state=succeeded&limit=100")
    return [
        Run(each["run_id"], each["hook"], each["labels"]["portfolio"], each["labels"]["limit"], each["detail"])
        for each in found or ()
        if {"portfolio", "limit"} <= set(each["labels"])
    ]


async def trades_within(exporter: Service, portfolio: str, limit: str) -> list[Trade] | None:
    """What the exporter's what-if says would bring a portfolio inside a limit; None where it does not answer."""
    response = await exporter.post("/api/v1/what-if", {"portfolio": portfolio, "limit": limit})
    if response is None or response.status_code != 200:
        return None
    return [Trade(each["portfolio"], each["symbol"], Decimal(str(each["quantity"]))) for each in response.json()["trades"]]
