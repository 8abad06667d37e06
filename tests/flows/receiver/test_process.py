"""The receiver as a process: it starts with a clear word or not at all, stops in time, and outlives a full disk."""

from __future__ import annotations

import asyncio
import resource
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import pytest

from tests.flows.receiver.running import Process, section
from tests.stand_ins.server import HANG
from tests.stand_ins.slack import Slack
from tests.unit.receiver.bodies import firing, group

PATH = "/api/v1/webhook"


@pytest.fixture
async def slack() -> AsyncIterator[Slack]:
    async with Slack() as stand_in:
        yield stand_in


@pytest.fixture
async def process(tmp_path: Path, slack: Slack) -> AsyncIterator[Process]:
    found = Process(tmp_path, section(tmp_path, channels=[{"type": "slack", "url": slack.webhook_url}, {"type": "console"}]))
    yield found
    found.end()


async def test_it_starts_serves_and_stops_on_sigterm(process: Process, slack: Slack) -> None:
    """Exit code 0 within five seconds; what it printed is the console channel's, its log is JSON on standard error."""
    await asyncio.to_thread(process.start)
    async with httpx.AsyncClient(base_url=process.url) as client:
        answer = await client.post(PATH, content=group(firing(portfolio="carry")))
        assert answer.status_code == 200
        await slack.got(1)
    began = time.monotonic()
    assert await asyncio.to_thread(process.terminate) == 0
    assert time.monotonic() - began < 5
    assert any("[FIRING:1] VaRLimitExceeded carry" in line for line in process.printed)
    assert {line["component"] for line in process.log} == {"receiver"}


async def test_it_stops_in_time_while_a_channel_hangs_and_delivers_after_the_restart(process: Process, slack: Slack) -> None:
    """The attempt under way is an intent without outcome: sent again, marked."""
    slack.next(HANG)
    await asyncio.to_thread(process.start)
    async with httpx.AsyncClient(base_url=process.url) as client:
        await client.post(PATH, content=group(firing()))
        await slack.got(1)
        began = time.monotonic()
        assert await asyncio.to_thread(process.terminate) == 0
        assert time.monotonic() - began < 5
    await asyncio.to_thread(process.start)
    await slack.got(2)
    assert "attempt 2, may be a duplicate" in slack.messages[1]["blocks"][-1]["elements"][0]["text"]


async def test_a_stop_under_load_loses_nothing_acknowledged(process: Process, slack: Slack) -> None:
    """Every 200 is in the journal of the next process."""
    await asyncio.to_thread(process.start)
    acknowledged: list[int] = []

    async def post(session: aiohttp.ClientSession, number: int) -> None:
        body = group(firing(portfolio=str(number)), key=str(number))
        async with session.post(f"{process.url}{PATH}", data=body) as answer:
            if answer.status == 200:
                acknowledged.append((await answer.json())["entry_id"])

    async with aiohttp.ClientSession() as session:
        posts = [asyncio.ensure_future(post(session, number)) for number in range(300)]
        await slack.got(1)
        stopping = asyncio.ensure_future(asyncio.to_thread(process.terminate))
        await asyncio.gather(*posts, return_exceptions=True)
        assert await stopping == 0
    await asyncio.to_thread(process.start)
    async with httpx.AsyncClient(base_url=process.url) as client:
        journal = (await client.get("/api/v1/journal?limit=500")).json()
    assert acknowledged
    assert set(acknowledged) <= {entry["entry_id"] for entry in journal}


async def said(process: Process) -> str:
    """Start what cannot start; what it says."""
    with pytest.raises(AssertionError) as raised:
        await asyncio.to_thread(process.start)
    assert await asyncio.to_thread(process.wait) == 1
    return str(raised.value)


async def test_a_second_process_on_the_same_state_is_refused(process: Process, tmp_path: Path) -> None:
    """Two would both deliver."""
    await asyncio.to_thread(process.start)
    (tmp_path / "second").mkdir()
    second = Process(tmp_path / "second", section(tmp_path))
    assert "is in use by another deskwatch process" in await said(second)
    second.end()


async def test_a_taken_port_is_named(tmp_path: Path) -> None:
    """With what to do."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        process = Process(tmp_path, section(tmp_path, web={"listen": address}))
        assert f"{address} is taken by another process" in await said(process)
        process.end()


async def test_a_damaged_store_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    """Never a silent empty start."""
    store = tmp_path / "state" / "receiver.sqlite"
    write(store, b"not a database at all, but four lines of text" * 100)
    process = Process(tmp_path, section(tmp_path))
    assert "is damaged" in await said(process)
    assert read(store) == b"not a database at all, but four lines of text" * 100
    process.end()


async def test_a_faulty_configuration_is_refused_with_every_fault(tmp_path: Path) -> None:
    """Each with its path, exit code 1, no traceback."""
    process = Process(tmp_path, section(tmp_path, fallback_channel="x", enrich_budget_seconds=-1))
    text = await said(process)
    assert "receiver.enrich_budget_seconds: must be > 0, was -1" in text
    assert "Traceback" not in text
    process.end()


async def test_a_full_disk_is_503_and_heals_by_itself(process: Process, slack: Slack) -> None:
    """The process lives on, health says so, what was acknowledged is delivered, and once there is space it goes on."""
    slack.always(HANG)
    await asyncio.to_thread(process.start)
    limit = (512 * 1024, resource.RLIM_INFINITY)
    unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    padding = {"commonAnnotations": {"padding": "x" * 20_000}}
    async with httpx.AsyncClient(base_url=process.url, timeout=20.0) as client:

        async def post(number: int) -> int:
            body = group(firing(portfolio=str(number)), key=str(number), **padding)
            return (await client.post(PATH, content=body)).status_code

        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, limit)
        statuses: list[int] = []
        while 503 not in statuses:
            statuses.append(await post(len(statuses)))
            assert len(statuses) < 200
        assert set(statuses) == {200, 503}
        assert (await client.get("/-/healthy")).status_code == 200
        assert len((await client.get("/api/v1/journal?limit=500")).json()) == statuses.count(200)
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, unlimited)
        async with asyncio.timeout(20):
            while await post(1000) != 200:  # noqa: ASYNC110 - the disk is another process's matter
                await asyncio.sleep(0.1)
        slack.always(None)
        async with asyncio.timeout(60):
            expected = {str(number) for number, status in enumerate(statuses) if status == 200} | {"1000"}
            while not expected <= await episodes(client):  # noqa: ASYNC110 - the state is behind the API
                await asyncio.sleep(0.1)


async def episodes(client: httpx.AsyncClient) -> set[str]:
    """Portfolios of the episodes there are."""
    found: list[Any] = (await client.get("/api/v1/episodes?limit=500")).json()
    return {episode["labels"]["portfolio"] for episode in found}


def write(path: Path, content: bytes) -> None:
    """A file and its folder."""
    path.parent.mkdir(parents=True)
    path.write_bytes(content)


def read(path: Path) -> bytes:
    """What is in it."""
    return path.read_bytes()
