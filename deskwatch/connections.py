"""`deskwatch check --connect`: whether everything a configuration names can be reached. What to ask, the packages know."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any, NoReturn, TypeAlias

CONNECTION_GROUP = "deskwatch.connections"
"""Entry points: a section's name, and the `Check` of it."""
THREADS, MOST_THREADS = "connections", 64
PATIENCE_SECONDS = 1.0
"""What a thread under way may take at the end."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What came of asking one of them.

    Args:
        subject: who was asked.
        ok: whether it answered as it should.
        said: one line: what it answered, or the reason and why; no secret.
        more: further lines.
    """

    subject: str
    ok: bool
    said: str
    more: tuple[str, ...] = ()

    def lines(self) -> Iterable[str]:
        """For a terminal."""
        yield f"{self.subject}: {'ok' if self.ok else 'FAILED'}: {self.said}"
        yield from (f"  {line}" for line in self.more)


Check: TypeAlias = Callable[[Any], Awaitable[Sequence[Finding]]]
"""Asks everything a validated section names once, all at the same time. Raises nothing for what cannot be reached."""


def ask(configurations: Sequence[Mapping[str, Any]]) -> list[tuple[Finding, ...]]:
    """Everything the configurations name, asked once and all at the same time.

    Args:
        configurations: of each, section name to validated section.
    """
    return asyncio.run(_ask(configurations))


async def _ask(configurations: Sequence[Mapping[str, Any]]) -> list[tuple[Finding, ...]]:
    loop, threads = asyncio.get_running_loop(), ThreadPoolExecutor(MOST_THREADS, thread_name_prefix=THREADS)
    loop.set_default_executor(threads)
    try:
        return await asyncio.gather(*map(_findings, configurations))
    finally:
        # Python waits for a loop's threads; one that hangs in a read it would wait for for ever.
        loop.set_default_executor(ThreadPoolExecutor(1))
        threads.shutdown(wait=False, cancel_futures=True)


async def _findings(sections: Mapping[str, Any]) -> tuple[Finding, ...]:
    asked = []
    for point in sorted(entry_points(group=CONNECTION_GROUP), key=lambda point: point.name):
        if point.name in sections:
            check: Check = point.load()
            asked.append(check(sections[point.name]))
    return tuple(finding for each in await asyncio.gather(*asked) for finding in each)


def finish(code: int) -> NoReturn:
    """Exit the process, also where a thread of `ask` hangs: whoever it was asking has been reported by then."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    for thread in threading.enumerate():
        if thread.name.startswith(THREADS):
            thread.join(max(0.0, deadline - time.monotonic()))
            if thread.is_alive():
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
    sys.exit(code)
