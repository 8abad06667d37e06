"""`deskwatch check --connect`: every source, Alertmanager and receiver asked once, and told what came of it."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

from tests.flows.exporter.peers import Peer
from tests.flows.exporter.running import configuration, trading_database, write_configuration


async def check(folder: Path, content: dict[str, Any], *options: str) -> tuple[int | None, list[str], list[str]]:
    """Exit code, what it says, and what it complains of."""
    file = write_configuration(folder, content)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "deskwatch", "check", str(file), *options,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[3]), os.environ.get("PYTHONPATH", "")])},
    )  # fmt: skip
    said, complained = await asyncio.wait_for(process.communicate(), 60)
    plain = [text.decode().replace(f"{file}: ", "").splitlines() for text in (said, complained)]
    return process.returncode, *plain


async def test_everything_that_answers_is_told_with_what_it_delivers(tmp_path: Path) -> None:
    """Counts by kind, market time, what was left out and why; exit 0, and nothing is posted or kept."""
    odd = "INSERT INTO positions (portfolio, symbol, quantity, currency) VALUES ('carry', 'GBP', 'many', 'GBP')"
    trading_database(tmp_path / "trading.db", odd).close()
    async with Peer() as alertmanager, Peer() as receiver:
        detector = {"alertmanagers": [{"base_url": alertmanager.url}], "receiver": {"base_url": receiver.url}}
        code, said, complained = await check(tmp_path, configuration(detector=detector), "--connect")
    assert (code, complained) == (0, [])
    assert said[0] == "ok (exporter, logs)"
    trades, left_out, rates, asked, told = said[1:]
    assert trades.startswith("source trades (database): ok: 0.")
    assert "3 positions" in trades
    assert "2 accounts" in trades
    assert left_out == "  1 left out, not_a_number: positions[3].quantity='many'"
    assert rates.startswith("source rates (ecb): ok: ")
    assert rates.endswith("; market time 2015-01-14 14:15:00 UTC")
    assert asked == f"Alertmanager {alertmanager.url}: ok: answered 200"
    assert told == f"receiver {receiver.url}: ok: answered 200"
    assert alertmanager.received.empty()
    assert not (tmp_path / "state").exists()


async def test_what_fails_is_told_with_its_reason_and_the_rest_is_asked_all_the_same(tmp_path: Path) -> None:
    """At the same time, each within its deadline, however it hangs; exit 1; no secret."""
    trading_database(tmp_path / "trading.db").close()
    os.mkfifo(tmp_path / "pipe")
    content = configuration()
    sources = content["exporter"]["sources"]
    gone = "sqlite+aiosqlite:///gone.db"
    sources += [
        {"type": "database", "name": "gone", "url": gone},
        {"type": "ecb", "name": "hangs", "as_of_file": "pipe", "timeout_seconds": 0.5},
        {"type": "database", "name": "far", "url": "postgresql+asyncpg://desk:s3cr3t@127.0.0.1:9/desk"},
    ]
    async with Peer() as alertmanager:
        alertmanager.status = 401
        token = {"base_url": alertmanager.url, "authorization": "s3cr3t"}
        content["exporter"]["detector"] = {"alertmanagers": [token], "receiver": {"base_url": "http://127.0.0.1:9"}}
        begun = asyncio.get_running_loop().time()
        code, said, complained = await check(tmp_path, content, "--connect")
        took = asyncio.get_running_loop().time() - begun
    assert code == 1
    assert [line.partition(": ok:")[0] for line in said] == [
        "ok (exporter, logs)", "source trades (database)", "source rates (ecb)",
    ]  # fmt: skip
    told = dict(line.split(": FAILED: ") for line in complained)
    assert told["source gone (database)"].startswith("not_found: ")
    assert told["source hangs (ecb)"] == "timeout: no answer within timeout_seconds (0.5)"
    assert told["source far (database)"].startswith("refused: ")
    assert told[f"Alertmanager {alertmanager.url}"] == "auth: Alertmanager answered 401 Unauthorized: check its credentials"
    assert told["receiver http://127.0.0.1:9"] == "refused: receiver refused the connection: is it running?"
    assert "s3cr3t" not in "".join([*said, *complained])
    assert took < 20


async def test_a_faulty_file_is_not_connected(tmp_path: Path) -> None:
    """Its faults come first."""
    code, said, complained = await check(tmp_path, configuration(cycle_seconds=0), "--connect")
    assert (code, said) == (1, [])
    assert complained[0] == "1 fault"


async def test_without_the_option_nobody_is_asked(tmp_path: Path) -> None:
    """A check of a configuration uses nobody's rate limit."""
    async with Peer() as alertmanager:
        content = configuration(detector={"alertmanagers": [{"base_url": alertmanager.url}]})
        assert await check(tmp_path, content) == (0, ["ok (exporter, logs)"], [])
        assert alertmanager.asked == 0
