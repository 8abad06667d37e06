"""A running receiver: in this process, or as the process an operator starts, which can be killed."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import yaml

from deskwatch.clock import SystemClock
from deskwatch.config import validate
from receiver.config import ReceiverConfig
from receiver.service import Service

TOP = Path(__file__).parents[3]
TOKEN = "change-token"
START_SECONDS = 20.0


def section(folder: Path, **more: Any) -> dict[str, Any]:
    """A section `receiver` that takes a free port and keeps its state in the folder."""
    basis: dict[str, Any] = {
        "web": {"listen": "127.0.0.1:0", "token": TOKEN},
        "state_folder": str(folder / "state"),
        "channels": [{"type": "console"}],
    }
    return basis | more


@asynccontextmanager
async def receiver(folder: Path, **more: Any) -> AsyncIterator[httpx.AsyncClient]:
    """A receiver in this process; a client for it."""
    config = validate(ReceiverConfig, section(folder, **more))
    assert isinstance(config, ReceiverConfig), config
    stop = asyncio.Event()
    started: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    running = asyncio.ensure_future(Service(config, SystemClock()).run(stop, started))
    await asyncio.wait({running, started}, return_when=asyncio.FIRST_COMPLETED, timeout=START_SECONDS)
    if running.done():
        await running
    try:
        async with httpx.AsyncClient(base_url=await started, timeout=20.0) as client:
            yield client
    finally:
        stop.set()
        await running


def change(client: httpx.AsyncClient, token: str = TOKEN) -> dict[str, str]:
    """Headers of a request that changes something."""
    return {"Authorization": f"Bearer {token}"}


class Process:
    """`deskwatch receiver` as a process of its own."""

    def __init__(self, folder: Path, configuration: Mapping[str, Any], environment: Mapping[str, str] | None = None) -> None:
        self._file = folder / "desk.yml"
        self._file.write_text(yaml.safe_dump({"logs": {"format": "json", "level": "info"}, "receiver": dict(configuration)}))
        self._environment = {**os.environ, **(environment or {})}
        self._process: subprocess.Popen[str] | None = None
        self._lines: list[str] = []
        self._listens = threading.Event()
        self.printed: list[str] = []
        self.url = ""

    def start(self, **environment: str) -> None:
        """Start it and wait until it listens."""
        self._listens.clear()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "receiver.service", "--config", str(self._file)],
            cwd=TOP,
            env={**self._environment, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for stream, lines in ((self._process.stderr, self._lines), (self._process.stdout, self.printed)):
            threading.Thread(target=self._follow, args=(stream, lines), daemon=True).start()
        if not self._listens.wait(START_SECONDS) or not self.url:
            raise AssertionError("the receiver did not start:\n" + "\n".join(self._lines[-20:]))

    def _follow(self, stream: Any, lines: list[str]) -> None:
        with stream:
            for line in stream:
                lines.append(line.rstrip("\n"))
                if found := re.search(r'"url": "(http://[^"]+)".*"event": "receiver listens"', line):
                    self.url = found[1]
                    self._listens.set()
        if lines is self._lines:
            self._listens.set()

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process is not None
        return self._process.pid

    @property
    def log(self) -> list[Any]:
        """Its log lines so far."""
        return [json.loads(line) for line in list(self._lines) if line.startswith("{")]

    def kill(self) -> None:
        """`kill -9`."""
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(20)

    def wait(self, seconds: float = 20.0) -> int:
        """Wait for its end; the exit code."""
        assert self._process is not None
        return self._process.wait(seconds)

    def terminate(self) -> int:
        """SIGTERM, and the exit code."""
        assert self._process is not None
        self._process.terminate()
        return self.wait()

    def end(self) -> None:
        """Whatever state it is in, it is gone afterwards."""
        if self._process is not None and self._process.poll() is None:
            self.kill()
