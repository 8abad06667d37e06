"""Reloads: validated first, one at a time, the old one kept, watched files tried again; in the process's own words."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from deskwatch.clock import ManualClock
from deskwatch.config import LoadedFile, Secret, Settings, load_all
from deskwatch.errors import ConfigError, Reason, Retryable
from deskwatch.reload import Applied, Reloader, differing


class Part(Settings):
    """A section."""

    size: int = 0
    name: str = ""
    key: Secret | None = None
    rules: LoadedFile | None = None


class Process:
    """Applies what it is told to, and remembers."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.clock = ManualClock()
        self.watch: float | None = None
        self.applied: list[Part] = []
        self.outcomes = 0
        self.refuses: Exception | None = None
        self.running = self.most_at_once = 0
        self.hold = asyncio.Event()
        self.hold.set()
        self.entered, self.told = asyncio.Event(), asyncio.Event()
        loaded = load_all(file, {"logs": Part})
        self.reloader = Reloader(
            file, {"logs": Part}, loaded, self.apply, self.clock, lambda: self.watch, self._count_outcome
        )  # fmt: skip

    def _count_outcome(self) -> None:
        self.outcomes += 1
        self.told.set()

    async def apply(self, sections: Mapping[str, Any]) -> Applied:
        """Go on with it."""
        self.running += 1
        self.entered.set()
        self.most_at_once = max(self.most_at_once, self.running)
        await self.hold.wait()
        self.running -= 1
        if self.refuses:
            raise self.refuses
        self.applied.append(sections["logs"])
        return Applied(("logs.size",))

    @asynccontextmanager
    async def reloading(self) -> AsyncIterator[None]:
        """Watch and listen."""
        task = asyncio.ensure_future(self.reloader.run())
        await asyncio.sleep(0)
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait({task})

    async def looked(self, times: int = 1) -> None:
        """Let the watch look so often."""
        for _ in range(times):
            await self.clock.advance(self.watch or 0)
            await asyncio.sleep(0.05)


@pytest.fixture
def process(tmp_path: Path) -> Process:
    """Its file says size 1."""
    file = tmp_path / "desk.yml"
    file.write_text("logs: {size: 1}\n")
    return Process(file)


async def test_it_goes_on_with_what_was_read(process: Process) -> None:
    """And says when."""
    process.file.write_text("logs: {size: 2}\n")
    process.clock.jump(60)
    assert await process.reloader.reload("test") == Applied(("logs.size",))
    assert [part.size for part in process.applied] == [2]
    assert (process.reloader.successful, process.reloader.succeeded_at) == (True, process.clock.now())
    assert process.outcomes == 1


async def test_what_is_faulty_is_not_applied(process: Process) -> None:
    """All faults at once; then the next good one is."""
    started = process.reloader.succeeded_at
    process.clock.jump(60)
    process.file.write_text("logs: {size: big, nam: x}\n")
    with pytest.raises(ConfigError) as caught:
        await process.reloader.reload("test")
    assert [fault.path for fault in caught.value.faults] == ["logs.size", "logs.nam"]
    assert (process.reloader.successful, process.reloader.succeeded_at) == (False, started)
    assert (process.applied, process.outcomes) == ([], 1)
    process.file.write_text("logs: {}\n")
    await process.reloader.reload("test")
    assert process.reloader.successful


@pytest.mark.parametrize("error", [Retryable("not now", reason=Reason.TIMEOUT), ConfigError([]), ZeroDivisionError("s3cr3t")])
async def test_what_cannot_be_applied_is_a_failed_reload(process: Process, error: Exception) -> None:
    """Also an error nobody foresaw: the process goes on, and the words of it stay in the log."""
    process.refuses = error
    with capture_logs() as logs, pytest.raises(type(error)):
        await process.reloader.reload("test")
    assert not process.reloader.successful
    assert "the configuration was not reloaded; the old one stays" in [each["event"] for each in logs]
    assert "s3cr3t" not in str([each.get("faults") for each in logs])


async def test_reloads_are_one_at_a_time(process: Process) -> None:
    """Each applies what stands in the file when its turn comes."""
    process.hold.clear()
    asked = [asyncio.ensure_future(process.reloader.reload("test")) for _ in range(3)]
    await process.entered.wait()
    process.file.write_text("logs: {size: 7}\n")
    process.hold.set()
    await asyncio.gather(*asked)
    assert process.most_at_once == 1
    assert [part.size for part in process.applied] == [1, 7, 7]


async def test_a_signal_asks(process: Process) -> None:
    """SIGHUP; a failure does not end the listening."""
    async with process.reloading():
        for content in ("logs: [", "logs: {size: 3}\n"):
            process.file.write_text(content)
            process.told.clear()
            os.kill(os.getpid(), signal.SIGHUP)
            await process.told.wait()
    assert [part.size for part in process.applied] == [3]


async def test_files_are_not_watched_unless_asked_for(process: Process) -> None:
    """Time alone changes nothing."""
    async with process.reloading():
        process.file.write_text("logs: {size: 2}\n")
        process.watch = None
        await process.clock.advance(1000)
        await asyncio.sleep(0.05)
    assert process.applied == []


@pytest.mark.parametrize("name", ["desk.yml", "key", "own.rules.yml"])
async def test_a_change_of_any_file_it_was_read_from_is_seen(process: Process, name: str) -> None:
    """The configuration, a secret's file, and one whose content belongs to it; once for each change."""
    folder = process.file.parent
    for each in ("key", "own.rules.yml"):
        (folder / each).write_text("one")
    process.file.write_text("logs: {size: 1, key_file: key, rules: own.rules.yml}\n")
    watching = Process(process.file)
    watching.watch = 5.0
    async with watching.reloading():
        await watching.looked(3)
        assert watching.applied == []
        (folder / name).write_text(process.file.read_text() + " " if name == "desk.yml" else "three")
        await watching.looked(4)
    assert len(watching.applied) == 1


async def test_half_a_file_is_tried_again_until_it_is_whole_and_said_once(process: Process) -> None:
    """Whoever writes it may need longer than one look."""
    process.watch = 5.0
    async with process.reloading():
        with capture_logs() as logs:
            process.file.write_text("logs: {size: 2, na")
            await process.looked(4)
            process.file.write_text("logs: {size: 2, nam: x}\n")
            await process.looked(4)
            process.file.write_text("logs: {size: 2}\n")
            await process.looked(4)
    events = [each["event"] for each in logs]
    assert events == [*["the configuration was not reloaded; the old one stays"] * 2, "configuration reloaded"]
    assert [part.size for part in process.applied] == [2]
    assert process.outcomes == 3


async def test_what_could_not_be_applied_is_tried_again(process: Process) -> None:
    """A watched configuration is not forgotten because it came at a bad moment."""
    process.watch = 5.0
    process.refuses = Retryable("not now", reason=Reason.TIMEOUT)
    async with process.reloading():
        process.file.write_text("logs: {size: 2}\n")
        await process.looked(3)
        assert process.outcomes == 1
        process.refuses = None
        await process.looked(3)
    assert [part.size for part in process.applied] == [2]


async def test_a_secret_file_that_appears_later_is_tried_again(process: Process) -> None:
    """The configuration may name it before it is there."""
    process.watch = 5.0
    async with process.reloading():
        process.file.write_text("logs: {key_file: later}\n")
        await process.looked(2)
        assert process.applied == []
        (process.file.parent / "later").write_text("k")
        await process.looked(2)
    assert [part.key.get_secret_value() for part in process.applied if part.key] == ["k"]


async def test_a_change_while_it_is_read_is_seen_the_next_time(process: Process) -> None:
    """A file is looked at before it is read, not after."""
    process.watch = 5.0
    process.hold.clear()
    async with process.reloading():
        process.file.write_text("logs: {size: 2}\n")
        while not process.running:
            await process.looked()
        process.file.write_text("logs: {size: 33}\n")
        process.hold.set()
        await process.looked(3)
    assert [part.size for part in process.applied] == [2, 33]


async def test_a_reload_can_turn_the_watch_on(process: Process) -> None:
    """Without a signal or a restart."""
    async with process.reloading():
        process.watch = 5.0
        await process.reloader.reload("test")
        await asyncio.sleep(0.01)
        process.file.write_text("logs: {size: 2}\n")
        await process.looked(3)
    assert [part.size for part in process.applied] == [1, 2]


def test_what_differs_is_named_by_key_path() -> None:
    """Fields of a section."""
    assert differing("logs", Part(size=1, name="a"), Part(size=2, name="a")) == ("logs.size",)
    assert differing("logs", Part(), Part()) == ()
