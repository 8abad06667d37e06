"""SQLite as the store: WAL, `synchronous=FULL`, one writing connection that alone checkpoints, group commit.

Every work waiting when the writer comes round shares one commit, each behind its own savepoint, so one that fails takes no
other with it. Measured: group commit turns one fsync per webhook into one per batch (facts in tests/bench). A second
writing connection is refused on purpose: SQLite before 3.51.3 can corrupt a WAL that two connections write and checkpoint.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import queue
import sqlite3
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from deskwatch.errors import ConfigError, Fault, StoreUnavailable
from deskwatch.failpoint import failpoint
from deskwatch.logs import get_logger
from deskwatch.store.store import Migration, Row, Statement, Work

T = TypeVar("T")
BATCH_LIMIT = 512
"""Works in one commit: bounds the time the first of them waits for the last."""


@dataclass(frozen=True, slots=True)
class _Task:
    work: Work[Any]
    result: Future[Any]


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
        store = cls(path, _take_lock(path))
        connection = _connect(path)
        try:
            _check(connection, path)
            _migrate(connection, path, migrations)
        except BaseException:
            connection.close()
            os.close(store._lock)
            raise
        connection.close()
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
        result: Future[T] = Future()
        self._tasks.put(_Task(work, result))
        try:
            return await asyncio.wait_for(asyncio.wrap_future(result), deadline_seconds)
        except TimeoutError:
            raise StoreUnavailable(f"the store {self._path} did not commit within {deadline_seconds} s") from None

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
        self._tasks.put(None)
        await asyncio.to_thread(self._writer.join, 5.0)
        self._readers.shutdown(wait=True)
        for connection in self._reading:
            connection.close()
        os.close(self._lock)

    def _read(self, work: Work[T]) -> T:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = sqlite3.connect(f"file:{self._path}?mode=ro", uri=True, isolation_level=None, check_same_thread=False)
            self._local.connection = connection
            self._reading.append(connection)
        connection.execute("BEGIN")
        try:
            return _drive(connection, work)
        finally:
            connection.execute("ROLLBACK")

    def _write_loop(self) -> None:
        batch: list[_Task] = []
        try:
            connection = _connect(self._path)
            ended = False
            while not ended:
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
        try:
            connection.execute("BEGIN IMMEDIATE")
            finished = [_attempt(connection, task) for task in batch]
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
        for settle in finished:
            settle()

    def _fail_queued(self, error: BaseException) -> None:
        while True:
            try:
                task = self._tasks.get_nowait()
            except queue.Empty:
                return
            if task is not None:
                _fail([task], error)


def _attempt(connection: sqlite3.Connection, task: _Task) -> Callable[[], None]:
    """Run one work behind a savepoint; what to tell its caller once the batch is committed."""
    connection.execute("SAVEPOINT work")
    try:
        value = _drive(connection, task.work)
    except sqlite3.OperationalError:
        raise  # the database's own failure (full, locked, I/O) is the batch's, not this work's
    except Exception as error:
        connection.execute("ROLLBACK TO work")
        connection.execute("RELEASE work")
        failed = error
        return lambda: _settle(task.result, error=failed)
    connection.execute("RELEASE work")
    return lambda: _settle(task.result, value=value)


def _drive(connection: sqlite3.Connection, work: Work[T]) -> T:
    try:
        statement = next(work)
        while True:
            statement = work.send(_rows(connection, statement))
    except StopIteration as finished:
        result: T = finished.value
        return result


def _rows(connection: sqlite3.Connection, statement: Statement) -> list[Row]:
    cursor = connection.execute(statement.sql, tuple(statement.parameters))
    if cursor.description is None:
        return []
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, values, strict=True)) for values in cursor.fetchall()]


def _settle(result: Future[Any], *, value: Any = None, error: BaseException | None = None) -> None:
    if not result.set_running_or_notify_cancel():
        return  # the caller's deadline passed; the work is committed all the same
    if error is not None:
        result.set_exception(error)
    else:
        result.set_result(value)


def _fail(batch: Sequence[_Task], error: BaseException) -> None:
    for task in batch:
        if not task.result.done():
            _settle(task.result, error=StoreUnavailable(f"the store did not commit: {error}"))


def _take_lock(path: Path) -> int:
    """One process per file: an advisory lock beside it, released by the kernel when the process ends."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle = os.open(path.with_name(f"{path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigError([Fault("state_folder", f"cannot write to {path.parent}: {error.strerror}")]) from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        message = f"{path} is in use by another deskwatch process: stop it, or give this one another state_folder"
        raise ConfigError([Fault("state_folder", message)]) from None
    return handle


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    path.chmod(0o600)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA foreign_keys=ON")
    return connection


def _check(connection: sqlite3.Connection, path: Path) -> None:
    try:
        verdict = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    except sqlite3.DatabaseError as error:
        verdict = str(error)
    if verdict != "ok":
        raise StoreUnavailable(f"the store {path} is damaged ({verdict}): move it aside, keep it for recovery, and start again")


def _migrate(connection: sqlite3.Connection, path: Path, migrations: Sequence[Migration]) -> None:
    at = connection.execute("PRAGMA user_version").fetchone()[0]
    if at > len(migrations):
        raise StoreUnavailable(
            f"the store {path} has schema {at}, this program knows {len(migrations)}: install a newer deskwatch"
        )
    for migration in migrations[at:]:
        connection.execute("BEGIN IMMEDIATE")
        for sql in migration.statements:
            connection.execute(sql)
        connection.execute(f"PRAGMA user_version = {int(migration.number)}")
        connection.execute("COMMIT")
