"""The database source: what it reads, what it refuses, and that it never writes."""

from __future__ import annotations

import asyncio
import importlib.resources
import shutil
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from deskwatch.clock import ManualClock, SystemClock
from deskwatch.config import validate
from deskwatch.errors import Permanent, Reason, Retryable
from exporter.source import Kept
from exporter.sources.database import Config, DatabaseSource

SCHEMA = importlib.resources.files("exporter.sources").joinpath("schema.sql").read_text()
ENDLESS = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT max(x) AS portfolio FROM n"
Make = Callable[..., DatabaseSource]


OPENED: list[sqlite3.Connection] = []


@pytest.fixture(autouse=True)
def _close() -> Iterator[None]:
    """Close what a test opened: from Python 3.13 on a forgotten connection is a warning."""
    yield
    while OPENED:
        OPENED.pop().close()


def database(path: Path, *statements: str, schema: str = SCHEMA) -> sqlite3.Connection:
    """A trading database with the canonical tables."""
    connection = sqlite3.connect(path, isolation_level=None)
    OPENED.append(connection)
    connection.executescript(schema)
    for statement in statements:
        connection.execute(statement)
    return connection


@pytest.fixture
async def make(tmp_path: Path) -> AsyncIterator[Make]:
    """Makes sources on `trading.db` and closes them."""
    made = []

    def source(**settings: Any) -> DatabaseSource:
        content = {"type": "database", "name": "trades", "url": "sqlite:///trading.db", **settings}
        config = validate(Config, content, folder=tmp_path)
        assert isinstance(config, Config), config
        made.append(DatabaseSource(config, SystemClock()))
        return made[-1]

    yield source
    for each in made:
        await each.close()


async def test_every_canonical_table_is_read(make: Make, tmp_path: Path) -> None:
    """One row in each comes back as the record it is."""
    database(
        tmp_path / "trading.db",
        "INSERT INTO instruments VALUES ('CHF', 'CHF', 'europe', 'spot', '1')",
        "INSERT INTO positions VALUES ('carry', 'CHF', '-1000000.10', 'CHF', '0.83')",
        "INSERT INTO prices VALUES ('CHF', '0.9728', 'EUR', '2015-01-15T14:15:00Z')",
        "INSERT INTO fills VALUES "
        "('e1', 'carry', 'CHF', 'SELL', '5', '0.83', 'EUR', '2015-01-14T09:00:00Z', 'x', 'o', 's', 't', '0.1')",
        "INSERT INTO orders VALUES ('o1', 'carry', 'CHF', 'SELL', '5', '0', 'new', '2015-01-14T09:00:00Z', NULL, NULL, NULL)",
        "INSERT INTO signals VALUES ('s1', 'trend', 'carry', 'CHF', '-5', '2015-01-14T08:00:00Z', '0.7')",
        "INSERT INTO accounts VALUES ('carry', 'EUR', '2000000', NULL)",
        "INSERT INTO strategy_returns VALUES ('trend', 'live', '2015-01-14', '0.01')",
    ).close()
    snapshot = await make().fetch(Kept())
    assert snapshot.positions[0].quantity == Decimal("-1000000.10")
    assert (snapshot.prices[0].price, snapshot.accounts[0].cash, snapshot.accounts[0].equity) == (
        Decimal("0.9728"),
        2000000,
        None,
    )
    assert (snapshot.fills[0].fee, snapshot.orders[0].limit_price, snapshot.signals[0].confidence) == (
        Decimal("0.1"),
        None,
        0.7,
    )
    assert snapshot.returns[0].values.tolist() == [0.01]
    assert snapshot.instruments[0].sector == "europe"
    assert snapshot.data_at is not None
    assert snapshot.data_at.isoformat() == "2015-01-15T14:15:00+00:00"
    assert snapshot.notes["positions"] == "1 records"
    assert snapshot.rejected == ()


async def test_only_existing_tables_are_read_and_provided(make: Make, tmp_path: Path) -> None:
    """Before the first look every kind counts as provided, so that nothing unknown is taken for empty."""
    source = make()
    assert "accounts" in source.provides
    database(tmp_path / "trading.db", schema="CREATE TABLE positions (portfolio, symbol, quantity, currency)").close()
    await source.fetch(Kept())
    assert source.provides == {"positions"}


async def test_a_table_that_appears_later_is_read(make: Make, tmp_path: Path) -> None:
    """No restart."""
    connection = database(tmp_path / "trading.db", schema="CREATE TABLE positions (portfolio, symbol, quantity, currency)")
    source = make()
    await source.fetch(Kept())
    connection.execute("CREATE TABLE accounts (portfolio, currency, cash)")
    await source.fetch(Kept())
    assert source.provides == {"positions", "accounts"}


async def test_a_table_that_vanished_is_an_error_not_an_empty_book(make: Make, tmp_path: Path) -> None:
    """Dropping `positions` must not look like a flat desk."""
    connection = database(tmp_path / "trading.db")
    source = make()
    await source.fetch(Kept())
    connection.execute("DROP TABLE positions")
    with pytest.raises(Retryable, match="the table positions was there and is gone"):
        await source.fetch(Kept())
    assert "positions" in source.provides


async def test_own_selects_replace_the_canonical_tables(make: Make, tmp_path: Path) -> None:
    """Then only they are read, with the look-back's start as `:since`."""
    database(
        tmp_path / "trading.db",
        "INSERT INTO accounts VALUES ('carry', 'EUR', '1', NULL)",
        "CREATE TABLE holdings (book, ticker, lots)",
        "INSERT INTO holdings VALUES ('carry', 'CHF', 2), ('carry', 'USD', NULL)",
    ).close()
    columns = "book AS portfolio, ticker AS symbol, lots * 1000 AS quantity, ticker AS currency"
    query = f"SELECT {columns} FROM holdings WHERE '2099' > :since"  # noqa: S608
    source = make(queries={"positions": query})
    snapshot = await source.fetch(Kept())
    assert [(each.symbol, each.quantity) for each in snapshot.positions] == [("CHF", 2000)]
    assert [each.reason for each in snapshot.rejected] == ["missing"]
    assert source.provides == {"positions"}
    assert snapshot.accounts == ()


async def test_tables_and_queries_together(make: Make, tmp_path: Path) -> None:
    """Named tables are read beside the own SELECTs."""
    database(tmp_path / "trading.db", "INSERT INTO accounts VALUES ('carry', 'EUR', '1', NULL)").close()
    source = make(tables=["accounts"], queries={"positions": "SELECT * FROM positions"})
    assert source.provides == {"accounts", "positions"}
    assert len((await source.fetch(Kept())).accounts) == 1


async def test_a_missing_file_is_read_as_soon_as_it_appears(make: Make, tmp_path: Path) -> None:
    """The trading system may start after the exporter; nothing is created in its place."""
    source = make()
    with pytest.raises(Retryable, match="the file does not exist; it is read as soon as it does") as caught:
        await source.fetch(Kept())
    assert caught.value.reason is Reason.NOT_FOUND
    assert not (tmp_path / "trading.db").exists()
    database(tmp_path / "trading.db").close()
    assert (await source.fetch(Kept())).positions == ()


async def test_an_empty_database_says_which_tables_it_wants(make: Make, tmp_path: Path) -> None:
    """A file without tables is not a desk without positions."""
    sqlite3.connect(tmp_path / "trading.db").execute("CREATE TABLE other (x)").connection.close()
    with pytest.raises(Retryable, match=r"none of the canonical tables is there: create those of exporter/sources/schema\.sql"):
        await make().fetch(Kept())


async def test_a_replaced_file_is_noticed(make: Make, tmp_path: Path) -> None:
    """A new file under the same name, as a nightly copy makes it."""
    database(tmp_path / "trading.db").close()
    source = make()
    assert (await source.fetch(Kept())).accounts == ()
    database(tmp_path / "new.db", "INSERT INTO accounts VALUES ('carry', 'EUR', '1', NULL)").close()
    shutil.move(tmp_path / "new.db", tmp_path / "trading.db")
    assert len((await source.fetch(Kept())).accounts) == 1


async def test_a_locked_database_is_retryable(make: Make, tmp_path: Path) -> None:
    """Another process holds an exclusive lock; the next fetch after it succeeds."""
    connection = database(tmp_path / "trading.db")
    source = make(timeout_seconds=0.2)
    connection.execute("BEGIN EXCLUSIVE")
    with pytest.raises(Retryable, match="database is locked") as caught:
        await source.fetch(Kept())
    assert caught.value.reason is Reason.TIMEOUT
    connection.execute("ROLLBACK")
    await source.fetch(Kept())


async def test_the_database_cannot_be_written(make: Make, tmp_path: Path) -> None:
    """Not even by a SELECT's tricks: the connection itself is read-only."""
    database(tmp_path / "trading.db").close()
    source = make()
    async with source._database.transaction() as connection:
        with pytest.raises(Exception, match="readonly"):
            await connection.exec_driver_sql("INSERT INTO accounts VALUES ('carry', 'EUR', '1', NULL)")


async def test_all_kinds_are_read_at_one_moment(make: Make, tmp_path: Path) -> None:
    """Positions and cash belong together: a trade committed between two queries is in neither."""
    connection = database(tmp_path / "trading.db")
    connection.execute("PRAGMA journal_mode=WAL")
    source = make()
    async with source._database.transaction() as reading:
        await reading.exec_driver_sql("SELECT * FROM positions")
        connection.execute("INSERT INTO accounts VALUES ('carry', 'EUR', '1', NULL)")
        assert (await reading.exec_driver_sql("SELECT count(*) FROM accounts")).scalar() == 0


async def test_a_wrong_query_is_permanent_and_named(make: Make, tmp_path: Path) -> None:
    """The key path and the database's own words."""
    database(tmp_path / "trading.db").close()
    with pytest.raises(Permanent, match=r"queries\.positions: .*trading\.db: no such column: qty") as caught:
        await make(queries={"positions": "SELECT qty FROM positions"}).fetch(Kept())
    assert caught.value.reason is Reason.REJECTED


async def test_a_file_that_is_no_database_is_permanent(make: Make, tmp_path: Path) -> None:
    """Somebody's spreadsheet."""
    (tmp_path / "trading.db").write_bytes(b"symbol;quantity\n" * 100)
    with pytest.raises(Permanent, match="file is not a database"):
        await make().fetch(Kept())


async def test_too_many_rows_are_an_error(make: Make, tmp_path: Path) -> None:
    """Not a slow exporter, and not a part of the book."""
    database(
        tmp_path / "trading.db",
        "INSERT INTO accounts VALUES ('a', 'EUR', 1, NULL), ('b', 'EUR', 1, NULL), ('c', 'EUR', 1, NULL)",
    ).close()
    assert len((await make(maximum_rows=3).fetch(Kept())).accounts) == 3
    with pytest.raises(Permanent, match="table accounts: more than 2 rows: narrow the query or raise maximum_rows"):
        await make(maximum_rows=2).fetch(Kept())


async def test_text_that_is_not_utf8_costs_its_row_only(make: Make, tmp_path: Path) -> None:
    """A Latin-1 name of 1998."""
    database(
        tmp_path / "trading.db",
        "INSERT INTO positions VALUES (CAST(x'6d6ffb' AS TEXT), 'CHF', '1', 'CHF', NULL), ('carry', 'CHF', '1', 'CHF', NULL)",
    ).close()
    snapshot = await make().fetch(Kept())
    assert len(snapshot.positions) == 1
    assert snapshot.rejected[0].reason == "not_text"


async def test_an_endless_query_ends_by_its_own_deadline(make: Make, tmp_path: Path) -> None:
    """SQLite is interrupted in its thread: no cancellation reaches it there."""
    database(tmp_path / "trading.db").close()
    with pytest.raises(Retryable, match="interrupted") as caught:
        await make(queries={"positions": ENDLESS}, timeout_seconds=0.2).fetch(Kept())
    assert caught.value.reason is Reason.TIMEOUT


async def test_a_cancelled_fetch_leaves_no_thread_working(make: Make, tmp_path: Path) -> None:
    """At shutdown the process does not wait for a query that runs for a minute."""
    database(tmp_path / "trading.db").close()
    fetching = asyncio.ensure_future(make(queries={"positions": ENDLESS}, timeout_seconds=60).fetch(Kept()))
    await asyncio.wait({fetching}, timeout=0.3)
    begun = time.monotonic()
    fetching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await fetching
    assert time.monotonic() - begun < 5


@pytest.mark.parametrize("kind", ["text", "epoch"])
async def test_old_fills_are_not_even_fetched(make: Make, tmp_path: Path, kind: str) -> None:
    """The look-back stands in the SQL, whichever way the times are kept; NULL times come along to be counted."""
    times = ["'2015-01-15T09:00:00Z'", "'2015-01-01T09:00:00Z'"] if kind == "text" else ["1421312400", "1420102800"]
    rows = [f"INSERT INTO fills VALUES ('e{i}', 'c', 'CHF', 'BUY', 1, 1, 'EUR', {at})" for i, at in enumerate([*times, "NULL"])]  # noqa: S608
    schema = "CREATE TABLE fills (execution_id, portfolio, symbol, side, quantity, price, currency, at)"
    database(tmp_path / "trading.db", *rows, schema=schema).close()
    snapshot = await make().fetch(Kept())
    assert [each.execution_id for each in snapshot.fills] == ["e0"]
    assert [each.record for each in snapshot.rejected] == ["fills[1].at=None"]


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        (
            {"url": "no address"},
            "url: must be a database address such as sqlite:///trading.db or postgresql://user@host/database",
        ),
        (
            {"url": "sqlite://"},
            "url: must name a file and nothing more, e.g. sqlite:///trading.db (four slashes for an absolute path)",
        ),
        ({"url": "oracles://x"}, "url: no database dialect is called 'oracles'"),
        ({"url": "mysql+aiomysql://u:s3cr3t@h/d"}, "url: the driver aiomysql is not installed: pip install aiomysql"),
        (
            {"url": "sqlite+pysqlite:///x"},
            "url: the driver pysqlite is not asynchronous; e.g. postgresql+asyncpg, sqlite+aiosqlite",
        ),
        (
            {"queries": {"positions": "DELETE FROM x"}},
            "queries.positions: must be a SELECT (or WITH ... SELECT), was 'DELETE FROM x'",
        ),
        ({"queries": {"positions": " "}}, "queries.positions: must be a SELECT, was empty, was ' '"),
        (
            {"queries": {"positions": "SELECT :book"}},
            "queries.positions: knows the parameter :since only, found :book (write \\: for a colon), was 'SELECT :book'",
        ),
        (
            {"tables": ["positions"], "queries": {"positions": "SELECT 1"}},
            "queries.positions: positions stands under tables too: keep one of the two",
        ),
        ({"tables": []}, "tables: nothing is read: name a table or give a query"),
    ],
)
def test_a_wrong_configuration_is_named_without_the_password(settings: dict[str, Any], fault: str) -> None:
    """At `deskwatch check`, before anything runs."""
    faults = validate(Config, {"type": "database", "name": "trades", "url": "sqlite:///t.db", **settings})
    assert isinstance(faults, list)
    assert [str(each) for each in faults] == [fault]


def test_a_missing_postgresql_driver_is_named() -> None:
    """asyncpg comes with whoever needs it."""
    pytest.importorskip("sqlalchemy")
    try:
        import asyncpg  # type: ignore[import-not-found,import-untyped,unused-ignore]  # noqa: F401
    except ImportError:
        faults = validate(Config, {"type": "database", "name": "trades", "url": "postgresql://u:s3cr3t@h/d"})
        assert isinstance(faults, list)
        assert str(faults[0]) == "url: the driver asyncpg is not installed: pip install asyncpg"


def test_a_relative_file_counts_from_the_configuration(tmp_path: Path) -> None:
    """As every other path in it."""
    config = validate(Config, {"type": "database", "name": "trades", "url": "sqlite:///trading.db"}, folder=tmp_path)
    assert isinstance(config, Config)
    assert config.url.get_secret_value() == f"sqlite+aiosqlite:///{tmp_path}/trading.db"


async def test_odd_file_names_are_opened(tmp_path: Path) -> None:
    """A question mark or a hash in a path is not part of an address."""
    odd = tmp_path / "50% of? #1"
    odd.mkdir()
    database(odd / "trading.db").close()
    config = validate(Config, {"type": "database", "name": "trades", "url": "sqlite:///trading.db"}, folder=odd)
    assert isinstance(config, Config)
    source = DatabaseSource(config, ManualClock())
    assert (await source.fetch(Kept())).positions == ()
    await source.close()
