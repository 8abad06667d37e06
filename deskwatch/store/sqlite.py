"""SQLite as the store: WAL, `synchronous=FULL`, one writing connection that alone checkpoints, group commit.

Every work waiting when the writer comes round shares one commit, and one that fails takes no other with it: the transaction is
rolled back and the statements of the works before it are run again, which is exact and costs nothing where none fails (a
savepoint for each work would triple the calls of the most frequent one, journaling a notification). Group commit turns one
sync per webhook into one per batch (tests/bench/bench_webhook.py). A second writing connection is refused on purpose: SQLite
before 3.51.3 can corrupt a WAL that two connections write and checkpoint.
"""

from __future__ import annotations

import asyncio
import os
import queue
import sqlite3
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from deskwatch.errors import StoreUnavailable
from deskwatch.failpoint import failpoint
from deskwatch.logs import get_logger
from deskwatch.store.sqlite_file import check, connect, damaged, migrate, take_lock
from deskwatch.store.store import Migration, Row, Statement, Work

T = TypeVar("T")
BATCH_LIMIT = 512
"""Works in one commit: bounds the time the first of them waits for the last."""
BUSY_BATCH = 4
GATHER_SECONDS = 0.001
"""After a commit of that many works the next waits so long for more to come: fewer syncs, fewer hand-overs between threads."""
_OF_THE_DATABASE = {
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_NOTADB,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PROTOCOL,
}
"""Result codes after which SQLite may have rolled the whole transaction back (sqlite.org/lang_transaction.html)."""


@dataclass(slots=True, eq=False)
class _Task:
    """A work on its way to the writer, and where its caller waits."""

    work: Work[Any]
    loop: asyncio.AbstractEventLoop
    answer: asyncio.Future[Any]
    abandoned: bool = False
    """Set when the caller waits no longer: a work not yet begun is then left."""

    def expire(self, message: str) -> None:
        """The deadline passed."""
        if not self.answer.done():
            self.abandoned = True
            self.answer.set_exception(StoreUnavailable(message))


@dataclass(frozen=True, slots=True)
class _Finished:
    """A work that has run: what to tell its caller once the batch is committed, and how to run it again."""

    task: _Task
    value: Any = None
    error: BaseException | None = None
    statements: tuple[Statement, ...] = ()


class SqliteStore:
    """A store in one file. Open it with `SqliteStore.open`."""

    def __init__(self, path: Path, lock: int) -> None:
        self._path = path
        self._lock = lock
        self._tasks: queue.SimpleQueue[_Task | None] = queue.SimpleQueue()
        self._readers = ThreadPoolExecutor(max_workers=2, thread_name_prefix="store-read")
        self._local = threading.local()
        self._reading: list[sqlite3.Connection] = []
        self._failure: BaseException | None = None
        self._closing = False
        self._writer = threading.Thread(target=self._write_loop, name="store-write", daemon=True)

    @classmethod
    async def open(cls, path: Path, migrations: Sequence[Migration]) -> SqliteStore:
        """Open or create the file and bring its schema up to date.

        Args:
            path: the database file; its folder is created with mode 0700.
            migrations: numbered from 1 without gaps.

        Raises:
            ConfigError: the folder cannot be written, or another process holds the store.
            StoreUnavailable: the file is damaged, or newer than this program.
        """
        return await asyncio.to_thread(cls._open, path, migrations)

    @classmethod
    def _open(cls, path: Path, migrations: Sequence[Migration]) -> SqliteStore:
        store = cls(path, take_lock(path))
        try:
            with closing(connect(path)) as connection:
                check(connection, path)
                migrate(connection, path, migrations)
        except sqlite3.OperationalError as error:
            os.close(store._lock)
            raise StoreUnavailable(f"the store {path} cannot be opened: {error}") from error
        except sqlite3.DatabaseError as error:
            os.close(store._lock)
            raise StoreUnavailable(damaged(path, str(error))) from error
        except BaseException:
            os.close(store._lock)
            raise
        store._writer.start()
        return store

    @property
    def failure(self) -> BaseException | None:
        """Why the writer stopped, or None while it works."""
        return self._failure

    async def write(self, work: Work[T], *, deadline_seconds: float = 10.0) -> T:
        """Run the work in a transaction; returns once it is synced to disk."""
        if self._closing or self._failure is not None or not self._writer.is_alive():
            raise StoreUnavailable(f"the store {self._path} accepts no writes: {self._failure or 'it is closed'}")
        loop = asyncio.get_running_loop()
        task = _Task(work, loop, loop.create_future())
        late = f"the store {self._path} did not commit within {deadline_seconds} s"
        timer = loop.call_later(deadline_seconds, task.expire, late)
        self._tasks.put(task)
        try:
            committed: T = await task.answer
        except asyncio.CancelledError:
            task.abandoned = True
            raise
        finally:
            timer.cancel()
        return committed

    async def read(self, work: Work[T]) -> T:
        """Run a work that only selects."""
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._readers, self._read, work)
        except (sqlite3.Error, RuntimeError) as error:
            raise StoreUnavailable(f"the store {self._path} cannot be read: {error}") from error

    async def close(self) -> None:
        """Commit what was accepted, checkpoint, close."""
        if self._closing:
            return
        self._closing = True
        self._readers.shutdown(wait=True)
        for connection in self._reading:
            connection.close()
        # The writing connection closes last: SQLite checkpoints when the last one goes.
        self._tasks.put(None)
        await asyncio.to_thread(self._writer.join, 5.0)
        os.close(self._lock)

    def _read(self, work: Work[T]) -> T:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = sqlite3.connect(f"file:{self._path}?mode=ro", uri=True, isolation_level=None, check_same_thread=False)
            self._local.connection = connection
            self._reading.append(connection)
        connection.execute("BEGIN")
        try:
            return _drive(connection, work, [])
        finally:
            connection.execute("ROLLBACK")

    def _write_loop(self) -> None:
        batch: list[_Task] = []
        try:
            connection = connect(self._path)
            ended = False
            while not ended:
                if len(batch) >= BUSY_BATCH:
                    time.sleep(GATHER_SECONDS)
                batch, ended = self._next_batch()
                self._commit(connection, batch)
            connection.close()
        except BaseException as error:
            self._failure = error
            get_logger().exception("the store's writer stopped; every write fails until the process restarts")
            _fail(batch, error)
        self._failure = self._failure or StoreUnavailable("it is closed")
        self._fail_queued(self._failure)

    def _next_batch(self) -> tuple[list[_Task], bool]:
        """Wait for one task and take what else is there; whether the end was reached."""
        batch: list[_Task] = []
        task = self._tasks.get()
        while task is not None:
            batch.append(task)
            if len(batch) == BATCH_LIMIT:
                return batch, False
            try:
                task = self._tasks.get_nowait()
            except queue.Empty:
                return batch, False
        return batch, True

    def _commit(self, connection: sqlite3.Connection, batch: list[_Task]) -> None:
        if not batch:
            return
        finished: list[_Finished] = []
        try:
            connection.execute("BEGIN IMMEDIATE")
            for task in batch:
                if not task.abandoned:
                    finished.append(_attempt(connection, task, finished))
            failpoint("store.before_commit")
            connection.execute("COMMIT")
            failpoint("store.after_commit")
        except sqlite3.Error as error:
            # Disk full, I/O error: nothing of the batch is on disk. The next batch may succeed.
            with suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
            get_logger().error("the store could not commit", error=str(error), works=len(batch))
            _fail(batch, error)
            return
        _tell(finished)

    def _fail_queued(self, error: BaseException) -> None:
        while True:
            try:
                task = self._tasks.get_nowait()
            except queue.Empty:
                return
            if task is not None:
                _fail([task], error)


def _attempt(connection: sqlite3.Connection, task: _Task, before: Sequence[_Finished]) -> _Finished:
    """Run one work; where it fails after it changed something, take that back without touching those before it."""
    statements: list[Statement] = []
    try:
        value = _drive(connection, task.work, statements)
    except Exception as error:
        if isinstance(error, sqlite3.Error) and (getattr(error, "sqlite_errorcode", 0) & 0xFF) in _OF_THE_DATABASE:
            raise  # full, locked, I/O: the batch's failure, not this work's
        if statements:
            connection.execute("ROLLBACK")
            connection.execute("BEGIN IMMEDIATE")
            for again in before:
                for statement in again.statements:
                    connection.execute(statement.sql, tuple(statement.parameters)).fetchall()
        return _Finished(task, error=error)
    return _Finished(task, value, statements=tuple(statements))


def _drive(connection: sqlite3.Connection, work: Work[T], executed: list[Statement]) -> T:
    try:
        statement = next(work)
        while True:
            rows = _rows(connection, statement)
            executed.append(statement)
            statement = work.send(rows)
    except StopIteration as finished:
        result: T = finished.value
        return result


def _rows(connection: sqlite3.Connection, statement: Statement) -> list[Row]:
    cursor = connection.execute(statement.sql, tuple(statement.parameters))
    if cursor.description is None:
        return []
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, values, strict=True)) for values in cursor.fetchall()]


def _tell(finished: Sequence[_Finished]) -> None:
    """Wake the callers: one call into each event loop for the whole batch."""
    loops: dict[asyncio.AbstractEventLoop, list[_Finished]] = {}
    for each in finished:
        loops.setdefault(each.task.loop, []).append(each)
    for loop, told in loops.items():
        with suppress(RuntimeError):  # the loop has ended, nobody waits
            loop.call_soon_threadsafe(_settle, told)


def _settle(finished: Sequence[_Finished]) -> None:
    for each in finished:
        answer = each.task.answer
        if answer.done():
            continue  # the caller's deadline passed; the work is committed all the same
        if each.error is not None:
            answer.set_exception(each.error)
        else:
            answer.set_result(each.value)


def _fail(batch: Sequence[_Task], error: BaseException) -> None:
    _tell([_Finished(task, error=StoreUnavailable(f"the store did not commit: {error}")) for task in batch])
