"""An event loop in a thread of its own, for a client that computes between its calls: the loop that serves never waits for it.

Work is done one piece at a time: what was cancelled has ended before the next begins, and what a piece leaves running is ended
with it.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Collection, Iterable
from typing import Any, TypeVar

T = TypeVar("T")


class SideLoop:
    """The loop and its thread; both begin with the first piece of work.

    Args:
        name: of the thread, for a debugger.
        lasting: qualified names of coroutines that may go on between pieces of work.
    """

    def __init__(self, name: str, *, lasting: Collection[str] = ()) -> None:
        self._name = name
        self._lasting = frozenset(lasting)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._turn = asyncio.Lock()

    @property
    def running(self) -> bool:
        """Whether there is a thread."""
        return self._loop is not None

    async def run(self, work: Callable[[], Awaitable[T]]) -> T:
        """Do it over there and return its result. Cancelling this cancels it over there.

        Raises:
            Exception: what the work raised.
        """
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(target=self._loop.run_forever, name=self._name, daemon=True)
            self._thread.start()
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._in_turn(work), self._loop))

    async def close(self) -> None:
        """End what still runs, then the thread. The next piece of work starts a new one."""
        loop, thread = self._loop, self._thread
        if loop is None or thread is None:
            return
        self._loop, self._thread, self._turn = None, None, asyncio.Lock()
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(_end(), loop))
        loop.call_soon_threadsafe(loop.stop)
        await asyncio.to_thread(thread.join)
        loop.close()

    async def _in_turn(self, work: Callable[[], Awaitable[T]]) -> T:
        async with self._turn:
            try:
                return await work()
            finally:
                await _cancel(task for task in asyncio.all_tasks() if _name(task) not in self._lasting | _OURS)


def _name(task: asyncio.Task[Any]) -> str:
    return str(getattr(task.get_coro(), "__qualname__", ""))


async def _cancel(tasks: Iterable[asyncio.Task[Any]]) -> None:
    ended = list(tasks)
    for task in ended:
        task.cancel()
    await asyncio.gather(*ended, return_exceptions=True)


async def _end() -> None:
    """Cancel every other task of the running loop and wait for them, with the threads and generators they have left."""
    await _cancel(asyncio.all_tasks() - {asyncio.current_task()})
    loop = asyncio.get_running_loop()
    await loop.shutdown_asyncgens()
    await loop.shutdown_default_executor()


_OURS = frozenset({SideLoop._in_turn.__qualname__, _end.__qualname__})
