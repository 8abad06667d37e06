"""Runs `deskwatch demo` as a person would and watches what it prints; used by tests of flows and of the stack."""

from __future__ import annotations

import asyncio
import os
import re
import select
import signal
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Self

import httpx

REPOSITORY = Path(__file__).resolve().parents[1]
PATIENCE_SECONDS = 120.0
"""For one thing to appear; a loaded machine is slow, and a test that waits for the event loses nothing by patience."""


class DemoRun:
    """One demo in a process of its own: `async with DemoRun("--direct") as demo: await demo.until("END")`."""

    def __init__(self, *options: str, environment: dict[str, str] | None = None, folder: Path | None = None) -> None:
        self.options = options
        self.printed: list[str] = []
        self.errors = b""
        self._environment = {**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONPATH": str(REPOSITORY), **(environment or {})}
        self._folder = folder

    async def __aenter__(self) -> Self:
        self.process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "deskwatch",
            "demo",
            *self.options,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=self._environment,
            cwd=self._folder,
            start_new_session=True,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                await asyncio.wait_for(self.end(), 30)
            except TimeoutError:
                self.process.kill()
                await self.process.wait()
                raise

    async def until(self, text: str) -> str:
        """The next line that contains the text."""
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                while True:
                    line = await self._line()
                    if text in line:
                        return line
        except (TimeoutError, EOFError) as error:
            raise AssertionError(f"never printed {text!r}:\n{self.text}\n{self.errors.decode()}") from error

    async def end(self) -> int:
        """Read to the end; the exit code."""
        try:
            while True:
                await self._line()
        except EOFError:
            return await self.process.wait()

    async def _line(self) -> str:
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        raw = await self.process.stdout.readline()
        if not raw:
            self.errors += await self.process.stderr.read()
            raise EOFError
        line = raw.decode().rstrip("\n")
        self.printed.append(line)
        return line

    @property
    def text(self) -> str:
        """Everything printed so far."""
        return "\n".join(self.printed)

    async def fetch(self, url: str) -> httpx.Response:
        """What one of its processes answers."""
        async with httpx.AsyncClient() as client:
            return await client.get(url)

    def address(self, name: str) -> str:
        """An address from the listing at the start: `http://127.0.0.1:9877`."""
        found = re.search(rf"^  {name} +(http://127\.0\.0\.1:\d+)", self.text, re.MULTILINE)
        assert found, self.text
        return found[1]

    @property
    def folder(self) -> Path:
        """Where its files lie."""
        found = re.search(r"^  files +(\S+) \(", self.text, re.MULTILINE)
        assert found, self.text
        return Path(found[1])

    def descendants(self) -> dict[int, str]:
        """Every process below the demo: id to command line."""
        parents = {int(entry.name): _parent(entry) for entry in Path("/proc").iterdir() if entry.name.isdigit()}
        found = {self.process.pid}
        while more := {pid for pid, parent in parents.items() if parent in found} - found:
            found |= more
        return {pid: _command(pid) for pid in found - {self.process.pid}}


def _parent(entry: Path) -> int:
    try:
        return int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return -1


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
    except OSError:
        return ""


class Ends:
    """Waits for processes that are not ours to end: `with Ends(pids) as ends: ...; assert ends.all(10) == []`."""

    def __init__(self, pids: Iterable[int]) -> None:
        self._handles = {os.pidfd_open(pid): pid for pid in pids}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            os.close(handle)

    def all(self, seconds: float) -> list[int]:
        """The ids of those that still live after so many seconds."""
        living = set(self._handles)
        while living:
            ended, _, _ = select.select(list(living), [], [], seconds)
            if not ended:
                break
            living -= set(ended)
        return [self._handles[handle] for handle in living]
