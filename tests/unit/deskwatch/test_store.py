"""What every store promises (`Store`), and what the SQLite one adds: one process, a checked file, survival of a kill."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from deskwatch.errors import ConfigError, StoreUnavailable
from deskwatch.store import Migration, Row, Statement, Work, query
from deskwatch.store import sqlite as implementation
from deskwatch.store.sqlite import SqliteStore

MIGRATIONS = (
    Migration(1, ("CREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT UNIQUE NOT NULL)",)),
    Migration(2, ("ALTER TABLE notes ADD COLUMN more TEXT NOT NULL DEFAULT ''", "CREATE INDEX notes_more ON notes (more)")),
)


def add(text: str) -> Work[int]:
    """Insert a note; its id."""
    rows = yield Statement("INSERT INTO notes (text) VALUES (?) RETURNING id", (text,))
    return int(rows[0]["id"])


def texts() -> Work[list[str]]:
    """Every note in order."""
    rows = yield Statement("SELECT text FROM notes ORDER BY id")
    return [row["text"] for row in rows]


def hold(entered: threading.Event, released: threading.Event) -> Work[None]:
    """Keep the writer busy, so that what is written meanwhile waits for one commit."""
    yield Statement("SELECT 1")
    entered.set()
    assert released.wait(10)


@asynccontextmanager
async def busy_writer(store: SqliteStore) -> AsyncIterator[Callable[[], None]]:
    """The writer is held until the yielded function is called, at the latest until the end."""
    entered, released = threading.Event(), threading.Event()
    holding = asyncio.ensure_future(store.write(hold(entered, released)))
    assert await asyncio.to_thread(entered.wait, 10)
    try:
        yield released.set
    finally:
        released.set()
        await holding


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "store.sqlite"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[SqliteStore]:
    opened = await SqliteStore.open(path, MIGRATIONS)
    yield opened
    await opened.close()


async def test_what_a_work_returns_comes_back_and_its_changes_are_read(store: SqliteStore) -> None:
    """A write is visible to every read that begins after it returned."""
    assert await store.write(add("one")) == 1
    assert await store.read(texts()) == ["one"]


async def test_rows_are_mappings_and_blobs_stay_bytes(store: SqliteStore) -> None:
    """A work sees columns by name."""
    rows: list[Row] = await store.read(query("SELECT ? AS body, ? AS number, ? AS missing", b"\x00\xff", 7, None))
    assert rows == [{"body": b"\x00\xff", "number": 7, "missing": None}]


async def test_values_never_become_sql(store: SqliteStore) -> None:
    """A hostile text is a text."""
    hostile = "'; DROP TABLE notes; --"
    await store.write(add(hostile))
    assert await store.read(texts()) == [hostile]


async def test_works_that_wait_share_one_commit(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty writes that queue behind a busy writer are one transaction."""
    commits: list[str] = []
    connect = implementation.connect

    def traced(file: Path) -> sqlite3.Connection:
        connection = connect(file)
        connection.set_trace_callback(lambda sql: commits.append(sql) if sql == "COMMIT" else None)
        return connection

    monkeypatch.setattr(implementation, "connect", traced)
    store = await SqliteStore.open(path, MIGRATIONS)
    await store.write(add("first"))
    commits.clear()
    async with busy_writer(store) as release:
        writes = [asyncio.ensure_future(store.write(add(str(number)))) for number in range(20)]
        await asyncio.sleep(0)
        release()
        await asyncio.gather(*writes)
    assert len(commits) == 2  # the one that held the writer, and the twenty
    await store.close()


class Refused(Exception):
    """What a work raises by itself."""


def change_then(raised: Exception | None, text: str) -> Work[None]:
    """Insert, read own insert, then fail or not."""
    yield from add(text)
    assert text in (yield from texts())
    if raised is not None:
        raise raised
    yield from add(f"{text}, more")


async def test_a_failing_work_takes_back_its_own_changes_and_nobody_elses(store: SqliteStore) -> None:
    """Works before and after it in the same commit stand, with the ids they were told."""
    async with busy_writer(store) as release:
        writes = [
            asyncio.ensure_future(store.write(work))
            for work in (
                add("before"),
                change_then(None, "also before"),
                change_then(Refused("no"), "failing"),
                add("after"),
                add("before"),  # breaks the unique constraint, at its first statement
                change_then(sqlite3.ProgrammingError("no such thing"), "failing again"),
                query("SELECT nonsense FROM nowhere"),
                add("last"),
            )
        ]
        await asyncio.sleep(0)
        release()
        results = await asyncio.gather(*writes, return_exceptions=True)
    assert [type(result) for result in results] == [
        int, type(None), Refused, int, sqlite3.IntegrityError, sqlite3.ProgrammingError, sqlite3.OperationalError, int,
    ]  # fmt: skip
    assert await store.read(texts()) == ["before", "also before", "also before, more", "after", "last"]
    ids: list[Any] = await store.read(query("SELECT id FROM notes WHERE text IN ('before', 'after', 'last') ORDER BY id"))
    assert [row["id"] for row in ids] == [results[0], results[3], results[7]]


async def test_a_deadline_that_passes_is_unavailable_and_an_unbegun_work_is_left(store: SqliteStore) -> None:
    """The caller answers 503 in time; its peer sends again, and the first attempt does not appear later."""
    async with busy_writer(store) as release:
        with pytest.raises(StoreUnavailable, match="did not commit within"):
            await store.write(add("late"), deadline_seconds=0.05)
        release()
    await store.write(add("next"))
    assert await store.read(texts()) == ["next"]


async def test_a_cancelled_caller_does_not_disturb_the_others(store: SqliteStore) -> None:
    """A client that hangs up takes nobody with it."""
    async with busy_writer(store) as release:
        gone = asyncio.ensure_future(store.write(add("gone")))
        stays = asyncio.ensure_future(store.write(add("stays")))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.sleep(0)
        release()
        await stays
    assert await store.read(texts()) == ["stays"]


async def test_a_closed_store_is_unavailable_and_has_committed_what_it_accepted(path: Path) -> None:
    """Closing finishes what waits; afterwards neither writes nor reads hang."""
    store = await SqliteStore.open(path, MIGRATIONS)
    async with busy_writer(store) as release:
        accepted = asyncio.ensure_future(store.write(add("accepted")))
        await asyncio.sleep(0)
        release()
        await store.close()
    await accepted
    with pytest.raises(StoreUnavailable):
        await store.write(add("too late"))
    with pytest.raises(StoreUnavailable):
        await store.read(texts())
    await store.close()  # twice is no error
    again = await SqliteStore.open(path, MIGRATIONS)
    assert await again.read(texts()) == ["accepted"]
    await again.close()


async def test_a_read_sees_one_moment(store: SqliteStore) -> None:
    """What is committed between two statements of a read is not seen by the second."""
    await store.write(add("old"))
    loop = asyncio.get_running_loop()

    def twice() -> Work[tuple[int, int]]:
        first = yield Statement("SELECT count(*) AS n FROM notes")
        asyncio.run_coroutine_threadsafe(store.write(add("new")), loop).result(10)
        second = yield Statement("SELECT count(*) AS n FROM notes")
        return first[0]["n"], second[0]["n"]

    assert await store.read(twice()) == (1, 1)


async def test_a_read_cannot_write(store: SqliteStore) -> None:
    """Only the writing connection changes the file."""
    with pytest.raises(StoreUnavailable, match="readonly"):
        await store.read(add("sneaked in"))


async def fill(store: SqliteStore, acknowledged: list[str]) -> None:
    """Write until the disk is full."""
    for number in range(100):
        text = f"{number} {'x' * 20_000}"
        await store.write(add(text))
        acknowledged.append(text)


async def test_a_full_disk_is_unavailable_loses_nothing_and_heals(store: SqliteStore) -> None:
    """No space: the write fails, what was acknowledged stands, and once there is space writes work again."""
    await store.write(add("kept"))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (256 * 1024, hard))
    acknowledged = ["kept"]
    try:
        with pytest.raises(StoreUnavailable):
            await fill(store, acknowledged)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert await store.read(texts()) == acknowledged
    assert store.failure is None
    await store.write(add("afterwards"))
    assert (await store.read(texts()))[-1] == "afterwards"


async def test_a_second_process_is_refused(store: SqliteStore, path: Path) -> None:
    """Two writers of one file are refused by name, whether in this process or another."""
    with pytest.raises(ConfigError, match="in use by another deskwatch process"):
        await SqliteStore.open(path, MIGRATIONS)
    opening = f"t.SqliteStore.open(t.Path({str(path)!r}), t.MIGRATIONS)"
    program = f"import asyncio, tests.unit.deskwatch.test_store as t; asyncio.run({opening})"
    other = await asyncio.to_thread(run_python, program)
    assert other.returncode != 0
    assert "in use by another deskwatch process" in other.stderr


async def test_the_lock_is_free_after_close_and_after_a_refused_open(path: Path) -> None:
    """An open that fails leaves nothing behind."""
    write_nonsense(path)
    with pytest.raises(StoreUnavailable, match="damaged"):
        await SqliteStore.open(path, MIGRATIONS)
    take_nonsense_away(path)
    for _ in range(2):
        store = await SqliteStore.open(path, MIGRATIONS)
        await store.close()


async def test_a_damaged_page_is_found_at_start(path: Path) -> None:
    """Never a silent empty start: a file whose pages are damaged is refused."""
    store = await SqliteStore.open(path, MIGRATIONS)
    for number in range(200):
        await store.write(add(f"{number} {'y' * 500}"))
    await store.close()
    damage(path)
    with pytest.raises(StoreUnavailable, match=r"(?s)damaged .* move it aside"):
        await SqliteStore.open(path, MIGRATIONS)


async def test_a_newer_schema_is_refused(path: Path) -> None:
    """An older program does not write into what it does not know."""
    await (await SqliteStore.open(path, MIGRATIONS)).close()
    with pytest.raises(StoreUnavailable, match=r"schema 2, this program knows 1: install a newer deskwatch"):
        await SqliteStore.open(path, MIGRATIONS[:1])


async def test_migrations_run_once_and_keep_the_data(path: Path) -> None:
    """An older file is brought up to date; what it held stays."""
    old = await SqliteStore.open(path, MIGRATIONS[:1])
    await old.write(add("old"))
    await old.close()
    for _ in range(2):
        store = await SqliteStore.open(path, MIGRATIONS)
        assert await store.read(query("SELECT text, more FROM notes")) == [{"text": "old", "more": ""}]
        await store.close()


async def test_a_migration_that_fails_changes_nothing(path: Path) -> None:
    """Half a schema would be worse than the old one."""
    await (await SqliteStore.open(path, MIGRATIONS[:1])).close()
    broken = (MIGRATIONS[0], Migration(2, ("CREATE TABLE half (id INTEGER)", "CREATE NONSENSE")))
    with pytest.raises(StoreUnavailable, match="cannot be opened"):
        await SqliteStore.open(path, broken)
    store = await SqliteStore.open(path, MIGRATIONS[:1])
    assert await store.read(query("SELECT name FROM sqlite_master WHERE name = 'half'")) == []
    await store.close()


async def test_only_the_owner_can_read_the_file(store: SqliteStore, path: Path) -> None:
    """Positions and alerts are nobody else's business."""
    await store.write(add("secret"))
    for file in path.parent.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) & 0o077 == 0, file
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


async def test_a_folder_that_cannot_be_made_is_a_fault_of_the_configuration(tmp_path: Path) -> None:
    """The message names the key and the folder."""
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="state_folder: cannot write to"):
        await SqliteStore.open(tmp_path / "file" / "store.sqlite", MIGRATIONS)


@pytest.mark.parametrize(
    ("failpoint", "kept"), [("store.before_commit", ["acknowledged"]), ("store.after_commit", ["acknowledged", "killed"])]
)
async def test_a_kill_around_the_commit(path: Path, failpoint: str, kept: list[str]) -> None:
    """Killed before the commit nothing of the transaction is there, killed after it everything is."""
    program = (
        "import asyncio, os, tests.unit.deskwatch.test_store as t\n"
        "async def main():\n"
        f"    store = await t.SqliteStore.open(t.Path({str(path)!r}), t.MIGRATIONS)\n"
        "    await store.write(t.add('acknowledged'))\n"
        f"    os.environ['DESKWATCH_FAILPOINT'] = {failpoint!r}\n"
        "    await store.write(t.add('killed'))\n"
        "asyncio.run(main())\n"
    )
    killed = await asyncio.to_thread(run_python, program)
    assert killed.returncode == -signal.SIGKILL
    store = await SqliteStore.open(path, MIGRATIONS)
    assert await store.read(texts()) == kept
    await store.close()


def write_nonsense(path: Path) -> None:
    """Something that is no database, where one is expected."""
    path.parent.mkdir()
    path.write_bytes(b"this is not a database, it is 40 bytes..")


def take_nonsense_away(path: Path) -> None:
    """It is still there, untouched, as evidence; then it is not."""
    assert path.read_bytes() == b"this is not a database, it is 40 bytes.."
    path.unlink()


def damage(path: Path) -> None:
    """Overwrite half a page in the middle of the file."""
    content = bytearray(path.read_bytes())
    content[3 * 4096 : 3 * 4096 + 2000] = os.urandom(2000)
    path.write_bytes(bytes(content))


def run_python(program: str) -> subprocess.CompletedProcess[str]:
    """Run a program in a process of its own, in the checkout."""
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=Path(__file__).parents[3], check=False, timeout=60
    )
