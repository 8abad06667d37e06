"""The exporter as a process: it starts without its inputs, survives losing them, says what is wrong, and ends when told to."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families

from exporter.pipeline import catalogue
from tests.flows.exporter.peers import Peer
from tests.flows.exporter.running import (
    Series,
    configuration,
    launch,
    parsed,
    running,
    trading_database,
    value,
    write_configuration,
)

ENDLESS = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT max(x) AS portfolio FROM n"


def has_value(series: Series) -> bool:
    """Whether the desk has a value."""
    return value(series, "desk_portfolio_value", portfolio="desk", currency="EUR") is not None


async def test_a_row_in_the_database_becomes_a_gauge(tmp_path: Path) -> None:
    """A changed row is a changed number. On 2015-01-14 a euro was 1.2010 francs and 1.1775 dollars."""
    trades = trading_database(tmp_path / "trading.db")
    async with running(tmp_path) as exporter:
        series = await exporter.until(has_value)
        worth = 2_000_000 - 1_000_000 / 1.2010 + 500_000 / 1.1775
        found = value(series, "desk_portfolio_value", portfolio="carry", currency="EUR")
        assert found == pytest.approx(worth, rel=1e-12)
        components = [
            v
            for (name, labels), v in series.items()
            if name == "desk_component_var_ratio" and ("portfolio", "desk") in labels and ("confidence", "0.99") in labels
        ]
        total = value(series, "desk_var_ratio", portfolio="desk", method="historical", confidence="0.99", horizon="1d")
        assert np.sum(components) == pytest.approx(total, rel=1e-12)
        trades.execute("UPDATE positions SET quantity = '-2000000' WHERE symbol = 'CHF'")
        await exporter.until(
            lambda page: (value(page, "desk_portfolio_value", portfolio="carry", currency="EUR") or worth) < worth - 1
        )
    trades.close()


async def test_a_database_missing_at_start_is_read_when_it_appears(tmp_path: Path) -> None:
    """The process starts, is ready, says what it waits for, and needs no restart."""
    async with running(tmp_path) as exporter:
        series = await exporter.until(lambda page: value(page, "desk_source_up", source="rates", kind="reference") == 1)
        assert (await exporter.get("/-/ready")).text == "Ready.\n"
        assert value(series, "desk_source_up", source="trades", kind="database") == 0
        assert value(series, "desk_analytic_undefined", analytic="value", reason="input_missing") == 3
        assert not has_value(series)
        assert value(series, "desk_source_last_success_timestamp_seconds", source="trades") is None
        assert "the file does not exist; it is read as soon as it does" in (await exporter.get("/")).text
        trading_database(tmp_path / "trading.db").close()
        series = await exporter.until(has_value)
        assert value(series, "desk_source_up", source="trades", kind="database") == 1
        assert (value(series, "desk_source_fetch_failures_total", source="trades", reason="not_found") or 0) > 0
    events = [each["event"] for each in exporter.said if each.get("source") == "trades"]
    # On a slow machine it may be left alone in between: said once.
    assert [event for event in events if event != "source keeps failing and is left alone"] == [
        "source failed",
        "source is back",
    ]


async def test_bad_rows_are_counted_and_the_rest_lives(tmp_path: Path) -> None:
    """NaN, NULL and unknown columns in the operator's own table: the portfolio they tear a hole into has no numbers."""
    sqlite3.connect(tmp_path / "trading.db", isolation_level=None).executescript(
        """CREATE TABLE positions (portfolio, symbol, quantity, currency, trader, memo);
        INSERT INTO positions VALUES ('carry', 'CHF', '-1000000', 'CHF', 'kim', NULL),
          ('momentum', 'USD', NULL, 'USD', 'kim', ''), ('momentum', 'GBP', 'NaN', 'GBP', 'kim', ''),
          ('momentum', 'SEK', 9e999, 'SEK', NULL, ''), ('momentum', 'NOK', 'many', 'NOK', NULL, '');
        CREATE TABLE accounts (portfolio, currency, cash);
        INSERT INTO accounts VALUES ('carry', 'EUR', '2000000'), ('momentum', 'EUR', '1');"""
    ).connection.close()
    async with running(tmp_path) as exporter:
        series = await exporter.until(
            lambda page: value(page, "desk_portfolio_value", portfolio="carry", currency="EUR") is not None
        )
        rejected = {dict(labels)["reason"]: v for (name, labels), v in series.items() if name == "desk_records_rejected_total"}
        assert set(rejected) == {"missing", "not_finite", "not_a_number"}
        assert value(series, "desk_position_value", portfolio="carry", symbol="CHF", currency="EUR") == pytest.approx(
            -1e6 / 1.2010
        )
        assert value(series, "desk_analytic_undefined", analytic="value", reason="input_rejected") == 2  # and the composite
        asked = (await exporter.get("/debug/source?name=trades")).json()
        assert asked["notes"]["positions"] == "1 records; columns not used: memo, trader"
        assert asked["rejected_count"] == 4
        left_out = {(each["record"], each["reason"], each["portfolio"]) for each in asked["rejected"]}
        assert ("positions[2].quantity='NaN'", "not_finite", "momentum") in left_out
    logged = [
        each["reason"] for each in exporter.said if each["event"] == "records of the source cannot be read and are left out"
    ]
    assert sorted(logged) == ["missing", "not_a_number", "not_finite"]


async def test_what_a_dead_source_fed_disappears_and_the_rest_lives(tmp_path: Path) -> None:
    """After `stale_after_seconds`: no last number for ever, no smaller book; and back when the source is."""
    trading_database(tmp_path / "trading.db").close()
    async with running(tmp_path) as exporter:
        await exporter.until(has_value)
        (tmp_path / "trading.db").rename(tmp_path / "gone.db")
        series = await exporter.until(lambda page: not has_value(page))
        assert not [
            name for name, _ in series if name in ("desk_position_value", "desk_var_ratio", "desk_limit_utilization_ratio")
        ]
        assert value(series, "desk_analytic_undefined", analytic="value", reason="input_stale") == 3
        assert value(series, "desk_source_up", source="trades", kind="database") == 0
        assert value(series, "desk_source_up", source="rates", kind="reference") == 1
        assert value(series, "desk_limit", portfolio="carry", limit="concentration") == 1.0
        assert value(series, "desk_source_last_success_timestamp_seconds", source="trades")
        (tmp_path / "gone.db").rename(tmp_path / "trading.db")
        await exporter.until(has_value)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_it_at_once(tmp_path: Path, number: signal.Signals) -> None:
    """Exit code 0, nothing but information in the log."""
    trading_database(tmp_path / "trading.db").close()
    async with running(tmp_path) as exporter:
        await exporter.until(has_value)
        code, seconds = await exporter.stop(number)
    assert (code, seconds < 3) == (0, True)
    assert {each["level"] for each in exporter.said if "second detector" not in each["event"]} == {"info"}


async def test_a_signal_ends_it_within_five_seconds_although_a_query_never_ends(tmp_path: Path) -> None:
    """The query runs in a thread; SQLite is told to stop."""
    trading_database(tmp_path / "trading.db").close()
    content = configuration()
    content["exporter"]["sources"][0] |= {"queries": {"positions": ENDLESS}, "timeout_seconds": 300}
    async with running(tmp_path, content) as exporter:
        await exporter.until(lambda page: value(page, "desk_source_up", source="rates", kind="reference") == 1)
        code, seconds = await exporter.stop()
    assert code == 0
    assert seconds < 3


async def test_a_signal_ends_it_within_five_seconds_although_a_thread_hangs(tmp_path: Path) -> None:
    """A pipe nobody writes to: no cancellation and no signal reaches a read of it. The other sources live on meanwhile."""
    trading_database(tmp_path / "trading.db").close()
    os.mkfifo(tmp_path / "pipe")
    content = configuration()
    content["exporter"]["sources"][1] |= {"as_of_file": "pipe", "timeout_seconds": 0.5}
    async with running(tmp_path, content) as exporter:
        await exporter.until(lambda page: (value(page, "desk_source_fetches_total", source="trades") or 0) > 5)
        _, seconds = await exporter.stop()
    assert seconds < 5


async def test_a_taken_port_is_a_clear_error(tmp_path: Path) -> None:
    """The address, the reason, what to do; exit code 1, no traceback."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        process = await launch(tmp_path, configuration(web={"listen": address}))
        _, said = await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode == 1
    assert (
        said.decode().splitlines()[-1] == f"web.listen: {address} is taken by another process: stop it or choose another port"
    )
    assert b"Traceback" not in said


async def test_a_second_exporter_on_the_same_state_is_refused(tmp_path: Path) -> None:
    """Both would write the kept daily bars."""
    async with running(tmp_path):
        process = await launch(tmp_path, configuration())
        _, said = await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode == 1
    assert "history.db is in use by another deskwatch process" in said.decode()


async def test_the_page_in_every_form(tmp_path: Path) -> None:
    """Text and OpenMetrics, compressed or not, say the same; promtool finds no fault; the catalogue names every family."""
    from tests.components import find

    odd = "INSERT INTO positions (portfolio, symbol, quantity, currency) VALUES ('carry', 'B\"R\\K <b>', '1', 'EUR')"
    price = "INSERT INTO prices VALUES ('B\"R\\K <b>', '100', 'EUR', '2015-01-14T10:00:00Z')"
    trading_database(tmp_path / "trading.db", odd, price).close()
    content = configuration(cycle_seconds=30)
    async with running(tmp_path, content) as exporter:
        await exporter.until(has_value)
        plain = await exporter.get()
        opened = await exporter.get(Accept="application/openmetrics-text;version=1.0.0,text/plain;q=0.5")
        async with (
            httpx.AsyncClient(trust_env=False) as client,
            client.stream("GET", f"{exporter.url}/metrics", headers={"Accept-Encoding": "gzip"}) as answer,
        ):
            compressed = b"".join([part async for part in answer.aiter_raw()])
            assert answer.headers["Content-Encoding"] == "gzip"
    assert plain.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert opened.headers["Content-Type"] == "application/openmetrics-text; version=1.0.0; charset=utf-8"
    assert plain.headers["Vary"] == "Accept, Accept-Encoding"
    assert gzip.decompress(compressed) == plain.content
    assert parsed(plain.text) == {
        (each.name, frozenset(each.labels.items())): each.value
        for family in parse_openmetrics(opened.text)
        for each in family.samples
    }
    assert value(parsed(plain.text), "desk_position_value", portfolio="carry", symbol='B"R\\K <b>', currency="EUR") == 100
    check_catalogue(plain.text)
    checking = [find("promtool"), "check", "metrics"]
    done = await asyncio.to_thread(subprocess.run, checking, input=plain.content, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")


def check_catalogue(page: str) -> None:
    """Every family on the page is in the catalogue with its type and labels."""
    known = {family["name"]: family for family in catalogue()}
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            assert known[sample.name]["type"] == family.type
            assert set(known[sample.name]["labels"]) == set(sample.labels)


async def test_the_pages_for_people(tmp_path: Path) -> None:
    """The landing page shows sources, portfolios, limits and gaps; a name of the database is text there, not markup."""
    row = (
        "INSERT INTO positions (portfolio, symbol, quantity, currency) "
        "VALUES ('carry', '<script>alert(1)</script>', '1', '<i>')"
    )
    trading_database(tmp_path / "trading.db", row).close()
    async with running(tmp_path) as exporter:
        await exporter.until(lambda page: value(page, "desk_source_up", source="trades", kind="database") == 1)
        await exporter.until(lambda page: value(page, "desk_analytic_undefined", analytic="value", reason="price_missing"))
        landing = await exporter.get("/")
        undefined = (await exporter.get("/debug/undefined")).json()
        missing = await exporter.get("/debug/source?name=%3Cscript%3E")
    assert landing.headers["Content-Type"] == "text/html; charset=utf-8"
    for text in (
        "trades",
        "rates",
        "carry + momentum",
        "limit concentration",
        "price_missing",
        "2015-01-14 14:15",
        "debug/undefined",
    ):
        assert text in landing.text
    assert "<script" not in landing.text
    assert {"analytic": "value", "reason": "price_missing", "subject": "carry"} in undefined["undefined"]
    assert (missing.status_code, missing.headers["Content-Type"]) == (404, "application/json")
    assert missing.json()["error"] == "name: no source is called '<script>'; there are: trades, rates"


async def test_what_if(tmp_path: Path) -> None:
    """Trades in, numbers after them out; a limit in, the trades that respect it out, and they do."""
    trading_database(tmp_path / "trading.db").close()
    limits = [{"portfolio": "carry", "limit": "concentration", "value": 0.4}]
    async with running(tmp_path, configuration(limits=limits)) as exporter:
        early = await exporter.post("/api/v1/what-if", json.dumps({"portfolio": "carry", "limit": "concentration"}))
        assert early.status_code in (200, 503)
        await exporter.until(has_value)

        async def ask(**question: Any) -> httpx.Response:
            return await exporter.post("/api/v1/what-if", json.dumps(question))

        answer = (await ask(portfolio="carry", limit="concentration")).json()
        (change, *_) = answer["portfolios"]
        assert (
            change["before"]["limits"]["concentration"]["utilization"]
            > 1
            >= change["after"]["limits"]["concentration"]["utilization"]
        )
        again = (await ask(portfolio="carry", trades=answer["trades"])).json()
        assert again["portfolios"] == answer["portfolios"]
        faults = [
            await ask(portfolio="carry"),
            await ask(portfolio="carry", limit="concentration", trades=[]),
            await ask(portfolio="nobody", trades=[{"symbol": "CHF", "quantity": 1}]),
            await ask(portfolio="carry", trades=[{"symbol": "XYZ", "quantity": 1}]),
            await ask(portfolio="carry", trades=[{"symbol": "CHF", "quantity": "many"}]),
            await ask(portfolio="carry", limits="concentration"),
            await exporter.post("/api/v1/what-if", b"\xff{"),
            await exporter.post("/api/v1/what-if", b"[" * 100_000),
        ]
        assert [each.status_code for each in faults] == [422] * len(faults)
        assert all(each.json()["error"] for each in faults)
        assert faults[0].json()["error"] == "give either trades or limit"
        (tmp_path / "trading.db").rename(tmp_path / "gone.db")
        await exporter.until(lambda page: not has_value(page))
        assert (await ask(portfolio="carry", trades=[{"symbol": "CHF", "quantity": 1}])).status_code == 503


async def test_a_read_token_guards_every_page_but_health(tmp_path: Path) -> None:
    """The page shows the book."""
    trading_database(tmp_path / "trading.db").close()
    async with running(tmp_path, configuration(web={"listen": "127.0.0.1:0", "read_token": "s3cr3t"})) as exporter:
        for path in ("/", "/metrics", "/debug/undefined", "/debug/source?name=trades"):
            assert (await exporter.get(path)).status_code == 401
        assert (await exporter.post("/api/v1/what-if", b"{}")).status_code == 401
        assert (await exporter.get("/-/healthy")).status_code == 200
        assert (await exporter.get("/metrics", Authorization="Bearer s3cr3t")).status_code == 200
    assert "s3cr3t" not in json.dumps(exporter.said)


async def test_a_breach_reaches_alertmanager_without_prometheus(tmp_path: Path) -> None:
    """From a changed row to the alert; with Alertmanager gone the receiver is told, and of the end after a restart too."""
    trades = trading_database(tmp_path / "trading.db")
    rule = {
        "alert": "TooConcentrated",
        "expr": "max by (portfolio, limit) (desk_limit_utilization_ratio) > 1",
        "for": "200ms",
        "labels": {"severity": "critical"},
        "annotations": {"summary": "{{ $labels.portfolio }} at {{ $value | humanizePercentage }}"},
    }
    (tmp_path / "own.rules.yml").write_text(json.dumps({"groups": [{"name": "g", "rules": [rule]}]}))
    async with Peer() as alertmanager, Peer() as receiver:
        addresses = {"alertmanagers": [{"base_url": alertmanager.url}], "receiver": {"base_url": receiver.url}}
        content = configuration(detector={"rules": ["own.rules.yml"], "repost_seconds": 0.2, **addresses})
        async with running(tmp_path, content) as exporter:
            await exporter.until(has_value)
            assert alertmanager.received.empty()
            trades.execute("UPDATE positions SET quantity = '-1500000' WHERE symbol = 'CHF'")
            (alert,) = await alertmanager.next()
            assert alert["labels"] == {
                "alertname": "TooConcentrated", "portfolio": "carry", "limit": "concentration", "severity": "critical",
            }  # fmt: skip
            assert alert["annotations"]["summary"].startswith("carry at 1")
            assert receiver.received.empty()
            await alertmanager.stop()
            told = await receiver.next()
            assert (told["status"], told["alerts"][0]["labels"]["detector"]) == ("firing", "direct")
            to = receiver.url.partition("://")[2]
            await exporter.until(lambda page: value(page, "deskwatch_detector_posts_total", target=to, outcome="ok") == 1)
            await exporter.stop(signal.SIGKILL)
        trades.execute("UPDATE positions SET quantity = '-100' WHERE symbol = 'CHF'")
        async with running(tmp_path, content):
            assert (await receiver.next())["status"] == "resolved"
    trades.close()


async def test_a_broken_rule_file_stops_the_start(tmp_path: Path) -> None:
    """A limit alert the second detector does not understand would be missed on the day it is needed."""
    (tmp_path / "own.rules.yml").write_text(
        "groups: [{name: g, rules: [{alert: Odd, labels: {severity: critical}, "
        "expr: 'sum(desk_limit_utilization_ratio) > 1'}]}]"
    )
    process = await launch(tmp_path, configuration(detector={"rules": ["own.rules.yml"]}))
    _, said = await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode == 1
    assert re.match(
        r"exporter\.detector\.rules: .*own\.rules\.yml: Odd: the second detector does not understand", said.decode()
    )


async def test_the_configuration_names_every_fault_at_once(tmp_path: Path) -> None:
    """Before anything starts."""
    content = configuration(cycle_seconds=0, portfolios=[])
    content["exporter"]["sources"][0]["url"] = "mysql+asyncmy://u:s3cr3t@h/d"
    process = await launch(tmp_path, content)
    _, said = await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode == 1
    text = said.decode()
    assert "exporter.sources[0].url: the driver asyncmy is not installed: pip install asyncmy" in text
    assert "exporter.cycle_seconds: must be >= 0.05, was 0" in text
    assert "exporter.portfolios: must hold at least one" in text
    assert "s3cr3t" not in text


def test_the_sample_configuration_is_valid(tmp_path: Path) -> None:
    """The one these tests run on."""
    from click.testing import CliRunner

    from deskwatch.cli import main

    result = CliRunner().invoke(main, ["check", str(write_configuration(tmp_path, configuration()))])
    assert result.output.endswith(": ok (exporter, logs)\n")
