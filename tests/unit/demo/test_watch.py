"""What the demo reads from `/metrics`, and how it lives with processes that do not answer."""

from __future__ import annotations

import datetime as dt
import io
import json
from pathlib import Path

import httpx
import respx

from deskwatch.clock import SystemClock
from deskwatch.demo.alerts import Alerts, Place
from deskwatch.demo.commentary import Commentary
from deskwatch.demo.faults import MOST_OF_A_KIND, Faults
from deskwatch.demo.watch import (
    Alert,
    Breach,
    Run,
    Service,
    Trade,
    alertmanager_alerts,
    finished_runs,
    parse_reading,
    prometheus_alerts,
    receiver_alerts,
    trades_within,
)

PAGE = """
# TYPE desk_data_timestamp_seconds gauge
desk_data_timestamp_seconds{source="trades"} 1.4213e9
desk_data_timestamp_seconds{source="rates"} 1421331300
# TYPE desk_portfolio_value gauge
desk_portfolio_value{portfolio="carry",currency="EUR"} 8653272.68
desk_expected_shortfall_ratio{portfolio="carry",method="historical",confidence="0.975",horizon="1d"} 0.0298
desk_expected_shortfall_ratio{portfolio="carry",method="historical",confidence="0.99",horizon="1d"} 0.0693
desk_expected_shortfall_ratio{portfolio="carry",method="normal",confidence="0.975",horizon="1d"} 0.5
desk_var_ratio{portfolio="carry",method="historical",confidence="0.99",horizon="1d"} 0.0044
desk_component_var_ratio{portfolio="carry",symbol="CHF",method="historical",confidence="0.99",horizon="1d"} 0.004
desk_limit{portfolio="carry",limit="expected_shortfall_0.975"} 0.01
desk_limit_utilization_ratio{portfolio="carry",limit="expected_shortfall_0.975"} 2.98
desk_limit{portfolio="momentum",limit="gross_exposure"} 1.5
"""
ADDRESS = "127.0.0.1:29999"
URL = f"http://{ADDRESS}"


def test_a_reading_is_the_historical_numbers_at_the_confidences_shown() -> None:
    """The day is that of the rates; a portfolio without a value is left out."""
    reading = parse_reading(PAGE, "rates")
    assert reading is not None
    assert reading.day == dt.date(2015, 1, 15)
    assert set(reading.portfolios) == {"carry"}
    carry = reading.portfolios["carry"]
    assert (carry.value, carry.expected_shortfall, carry.value_at_risk) == (8653272.68, 0.0298, 0.0044)
    assert reading.breaches == (Breach("carry", "expected_shortfall_0.975", 0.01, 2.98),)


def test_a_page_before_the_rates_came_is_no_reading() -> None:
    """Nothing is said about a day nobody knows."""
    assert parse_reading("# nothing yet\n", "rates") is None


@respx.mock
async def test_a_process_that_does_not_answer_is_asked_again_later() -> None:
    """Refused, failing or talking nonsense: None, never an exception."""
    service = Service(ADDRESS)
    route = respx.get(f"{URL}/api/v1/runs").mock(side_effect=httpx.ConnectError("refused"))
    assert await finished_runs(service) == []
    route.mock(return_value=httpx.Response(503))
    assert await finished_runs(service) == []
    route.mock(return_value=httpx.Response(200, text="<html>"))
    assert await finished_runs(service) == []
    respx.post(f"{URL}/api/v1/what-if").mock(side_effect=httpx.ReadTimeout("slow"))
    assert await trades_within(service, "carry", "concentration") is None
    await service.close()


@respx.mock
async def test_runs_and_what_if_are_read() -> None:
    """Only runs about a limit count; quantities keep their sign."""
    rows = [
        {"run_id": 2, "hook": "reduce_position", "detail": "It would", "labels": {"portfolio": "carry", "limit": "x"}},
        {"run_id": 1, "hook": "restart", "detail": "done", "labels": {"component": "exporter"}},
    ]
    respx.get(f"{URL}/api/v1/runs").mock(return_value=httpx.Response(200, json=rows))
    trades = {"trades": [{"portfolio": "carry", "symbol": "CHF", "quantity": -5.5}]}
    respx.post(f"{URL}/api/v1/what-if").mock(return_value=httpx.Response(200, json=trades))
    service = Service(ADDRESS)
    assert await finished_runs(service) == [Run(2, "reduce_position", "carry", "x", "It would")]
    found = await trades_within(service, "carry", "x")
    assert found is not None
    assert [(trade.symbol, str(trade.quantity)) for trade in found] == [("CHF", "-5.5")]
    assert isinstance(found[0], Trade)
    await service.close()


BREACH = {"alertname": "RiskLimitViolation", "severity": "critical", "portfolio": "carry", "limit": "concentration"}
WATCHDOG = {"alertname": "Watchdog", "severity": "none"}


@respx.mock
async def test_firing_alerts_are_read_from_every_place() -> None:
    """Prometheus's own form, Alertmanager's and the receiver's; pending is not firing; silence is not \"nothing fires\"."""
    service = Service(ADDRESS)
    rules = [{"labels": BREACH, "state": "firing"}, {"labels": WATCHDOG, "state": "pending"}]
    answers = {"v1/alerts": {"data": {"alerts": rules}}, "v2/alerts": [{"labels": BREACH}], "v1/episodes": [{"labels": BREACH}]}
    asks = {"v1/alerts": prometheus_alerts, "v2/alerts": alertmanager_alerts, "v1/episodes": receiver_alerts}
    for path, ask in asks.items():
        route = respx.get(url__startswith=f"{URL}/api/{path}").mock(return_value=httpx.Response(200, json=answers[path]))
        assert await ask(service) == frozenset({Alert("RiskLimitViolation", tuple(sorted(BREACH.items())))})
        route.mock(return_value=httpx.Response(500))
        assert await ask(service) is None
    await service.close()


async def test_an_alert_is_told_where_it_begins_and_where_it_finally_ends() -> None:
    """Once at each place; its end at the last only; the watchdog is nobody's business; a place that is silent ends nothing."""
    said = io.StringIO()
    alerts = Alerts(Commentary(said, lambda: 0.0, []), SystemClock())
    await alerts.look()
    breach, watchdog = (Alert(each["alertname"], tuple(sorted(each.items()))) for each in (BREACH, WATCHDOG))
    both: frozenset[Alert] | None = frozenset({breach, watchdog})
    seen: dict[str, frozenset[Alert] | None] = {}

    def place(name: str) -> Place:
        async def ask() -> frozenset[Alert] | None:
            return seen[name]

        return Place(name, ask)

    alerts.follow(place("Prometheus"), place("Alertmanager"))
    for first, second in ((both, frozenset()), (both, both), (None, None), (frozenset(), both), (frozenset(), frozenset())):
        seen |= {"Prometheus": first, "Alertmanager": second}
        await alerts.look()
        assert alerts.fires({("carry", "concentration")}) == (second is None or breach in second)
        alerts.follow(place("Prometheus"), place("Alertmanager"))
    lines = [line.split() for line in said.getvalue().splitlines()]
    told = [(line[1], line[-1]) for line in lines]
    assert told == [("ALERT", "Prometheus"), ("ALERT", "Alertmanager"), ("RESOLVED", "Alertmanager")]


def test_errors_of_our_processes_are_shown_a_few_times(tmp_path: Path) -> None:
    """Errors only, whole lines only, the same sentence not for ever; a file that is not there yet is no error."""
    said = io.StringIO()
    log = tmp_path / "exporter.log"
    faults = Faults({"exporter": log}, Commentary(said, lambda: 0.0, []), SystemClock())
    faults.look()
    error = json.dumps({"level": "error", "event": "a source failed", "source": "trades", "error": "no such table"})
    quiet = [json.dumps({"level": "info", "event": "exporter listens"}), "not json", "[1]"]
    log.write_text("\n".join([*quiet, error, error[:20]]))
    faults.look()
    assert " ".join(said.getvalue().split()) == "0:00 ERROR exporter: a source failed (error: no such table, source: trades)"
    log.write_text("\n".join([*quiet, *[error] * 9]) + "\n")
    faults.look()
    faults.look()
    assert said.getvalue().count("a source failed") == MOST_OF_A_KIND
