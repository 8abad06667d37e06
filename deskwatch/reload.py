"""Reads the configuration again while the process runs: on SIGHUP, on `POST /-/reload`, where asked for when a file changed.

Everything is read and validated before anything changes; on any fault the old configuration stays. What a new one means is the
process's business (`apply`). One reload at a time.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TypeAlias

import msgspec
from aiohttp import web
from pydantic import BaseModel

from deskwatch.clock import Clock, until_set
from deskwatch.config import Loaded, load_all
from deskwatch.errors import ConfigError, DeskwatchError
from deskwatch.files import changed
from deskwatch.logs import get_logger
from deskwatch.web import Route, problem

WATCH = "a file changed"
"""Why a watched configuration is read again."""


@dataclass(frozen=True, slots=True)
class Applied:
    """What a reload brought.

    Args:
        changed: key paths whose value is another now.
        at_next_start: key paths whose new value counts only when the process is started again.
    """

    changed: tuple[str, ...] = ()
    at_next_start: tuple[str, ...] = ()


Apply: TypeAlias = Callable[[Mapping[str, Any]], Awaitable[Applied]]
"""Goes on with other sections; raises a DeskwatchError where it cannot, and has then changed nothing."""


class Reloader:
    """The reloads of one process.

    Args:
        file: the configuration file.
        wanted: section name to model.
        loaded: what the process was started with.
        apply: goes on with what was read.
        clock: wall time, and waiting.
        watch_seconds: time between two looks at the files as configured now; None: they are not watched.
        on_outcome: told once `successful` and `succeeded_at` are those of another reload.
    """

    def __init__(
        self,
        file: Path,
        wanted: Mapping[str, type[BaseModel]],
        loaded: Loaded,
        apply: Apply,
        clock: Clock,
        watch_seconds: Callable[[], float | None],
        on_outcome: Callable[[], None],
    ) -> None:
        self._file = file
        self._wanted = wanted
        self._files = loaded.files
        self._apply = apply
        self._clock = clock
        self._watch_seconds = watch_seconds
        self._on_outcome = on_outcome
        self._one_at_a_time = asyncio.Lock()
        self._woken = asyncio.Event()
        self._asked = False
        self._said = ""
        self.successful = True
        """Whether the last attempt succeeded."""
        self.succeeded_at: datetime = clock.now()
        """When the configuration was last read without a fault."""

    def ask(self) -> None:
        """Reload soon. For a signal handler."""
        self._asked = True
        self._woken.set()

    async def run(self) -> None:
        """Reload when asked to, or when a watched file changed, until cancelled. SIGHUP asks."""
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self.ask)
        while True:
            await until_set(self._clock, self._woken, self._watch_seconds())
            self._woken.clear()
            if self._asked:
                self._asked = False
                await self._try("SIGHUP")
            elif self._watch_seconds() is not None and await asyncio.to_thread(changed, self._files):
                await self._try(WATCH)

    async def _try(self, why: str) -> None:
        try:
            await self.reload(why)
        except Exception:
            return  # logged; a watched file is tried again at the next look

    async def reload(self, why: str) -> Applied:
        """Read the file and go on with it.

        Args:
            why: for the log.

        Raises:
            ConfigError: with every fault; the old configuration stays.
            DeskwatchError: it cannot be applied now; the old configuration stays.
        """
        async with self._one_at_a_time:
            try:
                loaded = await asyncio.to_thread(load_all, self._file, self._wanted)
                applied = await self._apply(loaded.sections)
            except DeskwatchError as error:
                self._failed(why, str(error))
                raise
            except Exception as error:
                self._failed(why, f"{type(error).__name__}")
                get_logger().exception("a reload failed in an unforeseen way")
                raise
            self._files, self.successful, self._said = loaded.files, True, ""
            self.succeeded_at = self._clock.now()
            get_logger().info("configuration reloaded", why=why, changed=applied.changed, at_next_start=applied.at_next_start)
            self._woken.set()  # how the files are watched may have changed
            self._on_outcome()
            return applied

    def _failed(self, why: str, said: str) -> None:
        self.successful = False
        # A watched file that stays as it is is tried again and again: it is said once.
        if why != WATCH or said != self._said:
            get_logger().error("the configuration was not reloaded; the old one stays", why=why, faults=said.splitlines())
            self._on_outcome()
        self._said = said

    def route(self) -> Route:
        """`POST /-/reload`."""
        return Route("POST", "/-/reload", self._post, "change")

    async def _post(self, _: web.Request) -> web.Response:
        """200 and what changed, or 500, as Prometheus answers, and every fault."""
        try:
            applied = await self.reload("POST /-/reload")
        except ConfigError as error:
            faults = [str(fault) for fault in error.faults]
            return problem(500, "the configuration was not reloaded; the old one stays", reloaded=False, faults=faults)
        except DeskwatchError as error:
            return problem(503, f"the configuration was not reloaded; the old one stays: {error}", reloaded=False)
        answer = {"reloaded": True, "changed": applied.changed, "at_next_start": applied.at_next_start}
        return web.Response(body=msgspec.json.encode(answer), content_type="application/json")


def differing(section: str, before: BaseModel, after: BaseModel) -> tuple[str, ...]:
    """Key paths of the fields of a section whose values differ."""
    names = type(after).model_fields
    return tuple(f"{section}.{name}" for name in names if getattr(before, name) != getattr(after, name))
