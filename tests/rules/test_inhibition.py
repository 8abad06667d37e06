"""The inhibition rules and groups of alertmanager.yml, on a real Alertmanager with a webhook that listens."""

from __future__ import annotations

import json
import queue
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.components import find
from tests.rules.test_deploy import ALERTMANAGER

pytestmark = pytest.mark.stack
DEADLINE_SECONDS = 20.0
Group = dict[str, Any]


class Mailbox:
    """Notifications as they arrive; `wait_for` returns the first about an alert."""

    def __init__(self) -> None:
        self.arrived: queue.Queue[Group] = queue.Queue()

    def wait_for(self, alertname: str) -> list[dict[str, str]]:
        """Labels of every alert in the next group about `alertname`."""
        while True:
            group = self.arrived.get(timeout=DEADLINE_SECONDS)
            if group["groupLabels"].get("alertname") == alertname:
                return [alert["labels"] for alert in group["alerts"]]


@contextmanager
def webhook(mailbox: Mailbox) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            mailbox.arrived.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def alertmanager(config: Path, folder: Path) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    options = [
        f"--config.file={config}",
        f"--storage.path={folder}",
        f"--web.listen-address={address}",
        "--cluster.listen-address=",
    ]
    with subprocess.Popen([find("alertmanager"), *options], stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "Listening" in line:
                break
        drain = threading.Thread(target=process.stderr.read)
        drain.start()
        try:
            yield f"http://{address}"
        finally:
            process.terminate()
            drain.join()


@pytest.fixture
def mailbox() -> Mailbox:
    return Mailbox()


@pytest.fixture
def server(mailbox: Mailbox, tmp_path: Path) -> Iterator[str]:
    """Alertmanager with the shipped file; changed are the webhook's address, and that nothing is sent at a second turn."""
    config = yaml.safe_load(ALERTMANAGER.read_text())
    config["route"]["group_wait"] = "300ms"
    for route in config["route"]["routes"]:
        route["group_interval"] = route["repeat_interval"] = "1h"
    with webhook(mailbox) as url:
        for receiver in config["receivers"]:
            receiver["webhook_configs"][0]["url"] = url
        path = tmp_path / "alertmanager.yml"
        path.write_text(yaml.safe_dump(config))
        with alertmanager(path, tmp_path / "data") as address:
            yield address


def post(server: str, *alerts: dict[str, str]) -> None:
    answer = httpx.post(f"{server}/api/v2/alerts", json=[{"labels": labels} for labels in alerts], timeout=DEADLINE_SECONDS)
    assert answer.status_code == 200


def alert(name: str, severity: str, category: str, **labels: str) -> dict[str, str]:
    return {"alertname": name, "severity": severity, "category": category, **labels}


def test_a_critical_drift_mutes_the_warning_of_its_own_strategy_only(server: str, mailbox: Mailbox) -> None:
    """Two strategies without a portfolio label are not equal: the warning of the other one arrives."""
    post(server, alert("BacktestDriftCritical", "critical", "consistency", strategy="a"))
    assert mailbox.wait_for("BacktestDriftCritical")
    warnings = [alert("BacktestDriftWarning", "warning", "consistency", strategy=strategy) for strategy in ("a", "b")]
    post(server, *warnings)
    assert [labels["strategy"] for labels in mailbox.wait_for("BacktestDriftWarning")] == ["b"]


def test_a_critical_of_a_portfolio_mutes_warnings_of_its_family_and_portfolio(server: str, mailbox: Mailbox) -> None:
    """The same portfolio and category: muted. Another portfolio, or another category: delivered."""
    post(server, alert("RiskLimitViolation", "critical", "risk", portfolio="carry", limit="concentration", priority="P0"))
    assert mailbox.wait_for("RiskLimitViolation")
    post(
        server,
        alert("NearLimit", "warning", "risk", portfolio="carry", symbol="EURCHF"),
        alert("NearLimit", "warning", "risk", portfolio="macro", symbol="EURCHF"),
        alert("NearLimit", "warning", "data", portfolio="carry", symbol="EURUSD"),
    )
    delivered = [*mailbox.wait_for("NearLimit"), *mailbox.wait_for("NearLimit")]
    assert sorted((labels["portfolio"], labels["category"]) for labels in delivered) == [("carry", "data"), ("macro", "risk")]


@pytest.mark.parametrize(("priority", "count"), [("P0", 5), ("P1", 5)])
def test_every_critical_goes_at_once(server: str, mailbox: Mailbox, priority: str, count: int) -> None:
    """Limits of one portfolio that break together: none waits for the next turn of a group that went without it."""
    limits = [f"limit_{number}" for number in range(count)]
    post(server, *(alert("Breach", "critical", "risk", portfolio="carry", limit=limit, priority=priority) for limit in limits))
    arrived = [labels["limit"] for _ in limits for labels in mailbox.wait_for("Breach")]
    assert sorted(arrived) == limits
