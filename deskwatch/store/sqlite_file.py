"""A SQLite file of ours: one process at a time, checked before it is used, its schema brought up to date."""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Sequence
from pathlib import Path

from deskwatch.errors import ConfigError, Fault, StoreUnavailable
from deskwatch.store.store import Migration


def take_lock(path: Path) -> int:
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


def connect(path: Path) -> sqlite3.Connection:
    """A writing connection: WAL, every commit synced, only the owner may read the file."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        path.chmod(0o600)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA foreign_keys=ON")
        # A checkpoint every 16 MB instead of every 4: large notifications fill the log fast.
        connection.execute("PRAGMA wal_autocheckpoint=4000")
    except BaseException:
        connection.close()
        raise
    return connection


def check(connection: sqlite3.Connection, path: Path) -> None:
    """Refuse a damaged file.

    Raises:
        StoreUnavailable: naming what SQLite found.
    """
    try:
        verdict = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    except sqlite3.DatabaseError as error:
        verdict = str(error)
    if verdict != "ok":
        raise StoreUnavailable(damaged(path, verdict))


def damaged(path: Path, verdict: str) -> str:
    """What to tell the operator about a damaged file."""
    return f"the store {path} is damaged ({verdict}): move it aside, keep it for recovery, and start again"


def migrate(connection: sqlite3.Connection, path: Path, migrations: Sequence[Migration]) -> None:
    """Run the migrations the file has not seen.

    Raises:
        StoreUnavailable: the file is newer than this program.
    """
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
