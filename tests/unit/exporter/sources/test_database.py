"""The database source: what it reads, what it refuses, and that it never writes."""

from __future__ import annotations

import asyncio
import importlib.resources
import shutil
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deskwatch.clock import Clock, ManualClock, SystemClock
from deskwatch.config import validate
from deskwatch.errors import Permanent, Reason, Retryable
from exporter.snapshot import (
    Account,
    Alias,
    Fill,
    History,
    InstrumentTerms,
    Order,
    Position,
    Price,
    Quote,
    Signal,
    Snapshot,
)
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

    def source(clock: Clock | None = None, **settings: Any) -> DatabaseSource:
        content = {"type": "database", "name": "trades", "url": "sqlite:///trading.db", **settings}
        config = validate(Config, content, folder=tmp_path)
        assert isinstance(config, Config), config
        made.append(DatabaseSource(config, clock or SystemClock()))
        return made[-1]

    yield source
    for each in made:
        await each.close()


async def test_every_canonical_table_is_read(make: Make, tmp_path: Path) -> None:
    """One row in each comes back as the record it is."""
    database(
        tmp_path / "trading.db",
        "INSERT INTO instruments VALUES ('CHF', 'CHF', 'europe', 'spot', '1')",
        "INSERT INTO positions VALUES ('carry', 'CHF', '-1000000.10', 'CHF', '0.83', '170000')",
        "INSERT INTO prices VALUES ('CHF', '0.9728', 'EUR', '2015-01-15T14:15:00Z')",
        "INSERT INTO latest_quotes VALUES ('CHF', 'EUR', 'ebs', '2015-01-15T14:14:00Z', '0.97', NULL, '1e6', NULL, 5, '3e6', "
        "NULL)",
        "INSERT INTO daily_closes VALUES ('CHF', '2015-01-14', '0.8326', 'EUR')",
        "INSERT INTO fills VALUES ('e1', 'carry', 'CHF', 'SELL', '5', '0.83', 'EUR', '2015-01-14T09:00:00Z', 'x', 'o1', 's1', "
        "'t', '0.1', '-3')",
        "INSERT INTO orders VALUES ('o1', 'carry', 'CHF', 'SELL', '5', '5', 'done', '2015-01-14T08:59:00Z', 'x', 's1', NULL, "
        "'0.83', '2015-01-14T09:00:00Z', 'bot-1', 'LIMIT')",
        "INSERT INTO signals VALUES ('s1', 'trend', 'carry', 'CHF', '-5', '2015-01-14T08:00:00Z', '0.7')",
        "INSERT INTO accounts VALUES ('carry', 'EUR', '2000000', NULL, '1', '2', '3', '-4', '5', '-6', 'true')",
        "INSERT INTO strategy_returns VALUES ('trend', 'live', '2015-01-14', '0.01')",
        "INSERT INTO market_hours VALUES ('ebs', '2015-01-14T08:00:00Z', '2099-01-14T16:00:00Z')",
        "INSERT INTO symbol_aliases VALUES ('alpaca', 'CHF=X', 'CHF')",
    ).close()
    snapshot = await make().fetch(Kept())
    at = datetime(2015, 1, 14, 9, tzinfo=UTC)
    minute = timedelta(minutes=1)
    assert snapshot.instruments == (InstrumentTerms("CHF", "CHF", "europe"),)
    assert snapshot.positions == (Position("carry", "CHF", Decimal("-1000000.10"), "CHF", Decimal("0.83"), Decimal(170000)),)
    marked = datetime(2015, 1, 15, 14, 15, tzinfo=UTC)
    assert snapshot.prices == (Price("CHF", Decimal("0.9728"), "EUR", marked),)
    assert snapshot.quotes == (
        Quote("CHF", "EUR", "ebs", marked - minute, Decimal("0.97"), None, Decimal(10**6), None, 5, Decimal(3 * 10**6), None),
    )
    assert snapshot.fills == (
        Fill(
            "e1",
            "carry",
            "CHF",
            "SELL",
            Decimal(5),
            Decimal("0.83"),
            "EUR",
            at,
            "x",
            "o1",
            "s1",
            "t",
            Decimal("0.1"),
            Decimal(-3),
        ),
    )
    assert snapshot.orders == (
        Order(
            "o1", "carry", "CHF", "SELL", Decimal(5), Decimal(5), "FILLED", at - minute, "x", "s1", None, Decimal("0.83"), at,
            "bot-1", "limit",
        ),
    )  # fmt: skip
    assert snapshot.signals == (Signal("s1", "trend", "carry", "CHF", Decimal(-5), at - 60 * minute, 0.7),)
    money = [Decimal(amount) for amount in (1, 2, 3, -4, 5, -6)]
    assert snapshot.accounts == (Account("carry", "EUR", Decimal(2000000), None, *money, trading_blocked=True),)
    assert snapshot.returns[0].values.tolist() == [0.01]
    assert [(each.symbol, each.currency, each.closes.tolist()) for each in snapshot.histories] == [("CHF", "EUR", [0.8326])]
    assert [(each.calendar, each.open, each.next_open) for each in snapshot.sessions] == [("ebs", True, None)]
    assert snapshot.aliases == (Alias("alpaca", "CHF=X", "CHF"),)
    assert snapshot.data_at == marked
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
        "INSERT INTO accounts (portfolio, currency, cash) VALUES ('carry', 'EUR', '1')",
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
    database(tmp_path / "trading.db", "INSERT INTO accounts (portfolio, currency, cash) VALUES ('carry', 'EUR', '1')").close()
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
    database(tmp_path / "new.db", "INSERT INTO accounts (portfolio, currency, cash) VALUES ('carry', 'EUR', '1')").close()
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
    async with source._database.access.begin() as connection:
        with pytest.raises(Exception, match="readonly"):
            await connection.exec_driver_sql("INSERT INTO accounts (portfolio, currency, cash) VALUES ('carry', 'EUR', '1')")


async def test_all_kinds_are_read_at_one_moment(make: Make, tmp_path: Path) -> None:
    """Positions and cash belong together: a trade committed between two queries is in neither."""
    connection = database(tmp_path / "trading.db")
    connection.execute("PRAGMA journal_mode=WAL")
    source = make()
    async with source._database.access.begin() as reading:
        await reading.exec_driver_sql("SELECT * FROM positions")
        connection.execute("INSERT INTO accounts (portfolio, currency, cash) VALUES ('carry', 'EUR', '1')")
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
        "INSERT INTO accounts (portfolio, currency, cash) VALUES ('a', 'EUR', 1), ('b', 'EUR', 1), ('c', 'EUR', 1)",
    ).close()
    assert len((await make(maximum_rows=3).fetch(Kept())).accounts) == 3
    with pytest.raises(Permanent, match="table accounts: more than 2 rows: narrow the query or raise maximum_rows"):
        await make(maximum_rows=2).fetch(Kept())


async def test_text_that_is_not_utf8_costs_its_row_only(make: Make, tmp_path: Path) -> None:
    """A Latin-1 name of 1998."""
    database(
        tmp_path / "trading.db",
        "INSERT INTO positions VALUES (CAST(x'6d6ffb' AS TEXT), 'CHF', '1', 'CHF', NULL, NULL), "
        "('carry', 'CHF', '1', 'CHF', NULL, NULL)",
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
        ({"url": "mysql+asyncmy://u:s3cr3t@h/d"}, "url: the driver asyncmy is not installed: pip install asyncmy"),
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
            "queries.positions: knows :since only, found :book (write \\: for a colon), was 'SELECT :book'",
        ),
        (
            {"tables": ["positions"], "queries": {"positions": "SELECT 1"}},
            "queries.positions: positions stands under tables too: keep one of the two",
        ),
        ({"tables": []}, "tables: nothing is read: name a table or give a query"),
        (
            {"queries": {"positions": "SELECT * FROM x WHERE at > :last_run"}},
            "queries.positions: knows :since only, found :last_run (write \\: for a colon), was "
            "'SELECT * FROM x WHERE at > :last_run'",
        ),
        (
            {"time_zone": "Berlin"},
            "time_zone: must be a time zone of the IANA database such as Europe/Zurich or UTC, was 'Berlin'",
        ),
        ({"ca_file": "ca.pem"}, "ca_file: ca_file does not work with the driver aiosqlite: use its own option in url"),
        (
            {"url": "postgresql://u:s3cr3t@h/d", "ca_file": "/no/ca.pem"},
            "ca_file: the CA file /no/ca.pem cannot be read as PEM: No such file or directory",
        ),
        (
            {"url": "postgresql://u:s3cr3t@h/d?sslmode=full"},
            "url: sslmode in url must be one of disable, prefer, require, verify-ca, verify-full, was 'full'",
        ),
    ],
)
def test_a_wrong_configuration_is_named_without_the_password(settings: dict[str, Any], fault: str) -> None:
    """At `deskwatch check`, before anything runs."""
    faults = validate(Config, {"type": "database", "name": "trades", "url": "sqlite:///t.db", **settings})
    assert isinstance(faults, list)
    assert [str(each) for each in faults] == [fault]


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


NOON = datetime(2026, 1, 15, 12, tzinfo=UTC)
CLOSES = "SELECT symbol, day, close, 'USD' AS currency FROM closes"


def the_clock() -> ManualClock:
    """Noon of 15 January 2026."""
    return ManualClock(NOON)


def closes_of(path: Path, days: dict[str, float], symbol: str = "A") -> sqlite3.Connection:
    """A table of closes of the operator's own."""
    connection = database(path, "CREATE TABLE closes (symbol, day, close, PRIMARY KEY (symbol, day))", schema="")
    put(connection, days, symbol)
    return connection


def put(connection: sqlite3.Connection, days: dict[str, float], symbol: str = "A") -> None:
    """Write closes, in the place of old ones."""
    connection.executemany(
        "INSERT OR REPLACE INTO closes VALUES (?, ?, ?)", [(symbol, day, close) for day, close in days.items()]
    )


def told(snapshot: Snapshot) -> dict[str, dict[str, float]]:
    """Symbol to day to close."""
    return {
        each.symbol: dict(zip(each.days.astype(str).tolist(), each.closes.tolist(), strict=True)) for each in snapshot.histories
    }


def kept(*snapshots: Snapshot, at: datetime = NOON) -> Kept:
    """What the exporter keeps after these fetches, where no past was adjusted."""
    merged: dict[str, dict[date, float]] = {}
    for snapshot in snapshots:
        for history in snapshot.histories:
            days = [day.astype(date) for day in history.days]
            merged.setdefault(history.symbol, {}).update(zip(days, history.closes.tolist(), strict=True))
    return Kept(at, {symbol: _history(symbol, days) for symbol, days in merged.items()})


def _history(symbol: str, closes: dict[date, float]) -> History:
    days = sorted(closes)
    return History(symbol, "USD", np.array(days, "datetime64[D]"), np.array([closes[day] for day in days]))


async def test_closes_are_read_again_when_they_are_due(make: Make, tmp_path: Path) -> None:
    """In between the very same records are delivered, so that nothing is computed anew."""
    connection = closes_of(tmp_path / "trading.db", {"2026-01-13": 1.0})
    clock = the_clock()
    source = make(clock, queries={"histories": CLOSES}, history_interval_seconds=600)
    first = await source.fetch(Kept())
    put(connection, {"2026-01-14": 2.0})
    await clock.advance(599)
    assert (await source.fetch(kept(first))).histories is first.histories
    await clock.advance(1)
    assert told(await source.fetch(kept(first))) == {"A": {"2026-01-13": 1.0, "2026-01-14": 2.0}}


async def test_closes_the_exporter_does_not_keep_are_read_at_once(make: Make, tmp_path: Path) -> None:
    """It asks for a symbol anew by not keeping it: its past was adjusted."""
    connection = closes_of(tmp_path / "trading.db", {"2026-01-13": 1.0})
    put(connection, {"2026-01-13": 5.0}, "B")
    source = make(the_clock(), queries={"histories": CLOSES})
    first = await source.fetch(Kept())
    put(connection, {"2026-01-13": 4.0})
    only_b = Kept(NOON, {"B": kept(first).histories["B"]})
    assert told(await source.fetch(only_b))["A"] == {"2026-01-13": 4.0}


@pytest.mark.parametrize("bound", ["day >= :since", "day >= date(:last_run)"])
async def test_a_query_with_a_bound_reads_the_newest_days_only(make: Make, tmp_path: Path, bound: str) -> None:
    """Everything at first, then a week's overlap; rows before it are not asked for."""
    old = {"2026-01-02": 0.5, "2026-01-12": 0.75, "2026-01-13": 1.0}
    connection = closes_of(tmp_path / "trading.db", old)
    clock = the_clock()
    overlap = {"overlap_seconds": 3 * 86400}
    source = make(clock, queries={"histories": f"{CLOSES} WHERE {bound}"}, history_interval_seconds=60, **overlap)
    first = await source.fetch(Kept())
    assert told(first) == {"A": old}
    connection.execute("DELETE FROM closes WHERE day = '2026-01-02'")  # would show if it were read
    put(connection, {"2026-01-14": 2.0})
    await clock.advance(60)
    second = await source.fetch(kept(first))
    assert told(second) == {"A": {"2026-01-12": 0.75, "2026-01-13": 1.0, "2026-01-14": 2.0}}
    assert "the newest read at" in second.notes["histories"]


@pytest.mark.parametrize("change", ["adjusted", "new symbol"])
async def test_a_bound_is_given_up_where_the_past_is_another(make: Make, tmp_path: Path, change: str) -> None:
    """A split halves every close; a new share brings a past: both are read whole in the same fetch."""
    old = {"2025-06-02": 10.0, "2026-01-13": 12.0}
    connection = closes_of(tmp_path / "trading.db", old)
    clock = the_clock()
    source = make(clock, queries={"histories": f"{CLOSES} WHERE day >= :since"}, history_interval_seconds=60)
    first = await source.fetch(Kept())
    symbol = "A" if change == "adjusted" else "B"
    put(connection, {day: close / 2 for day, close in old.items()}, symbol)
    await clock.advance(60)
    second = await source.fetch(kept(first))
    assert told(second)[symbol] == {"2025-06-02": 5.0, "2026-01-13": 6.0}
    assert "all read at" in second.notes["histories"]


async def test_a_new_process_reads_everything_once(make: Make, tmp_path: Path) -> None:
    """What was corrected long ago is put right by a restart, whatever is kept."""
    connection = closes_of(tmp_path / "trading.db", {"2025-06-02": 10.0, "2026-01-13": 12.0})
    settings = {"queries": {"histories": f"{CLOSES} WHERE day >= :since"}}
    first = await make(the_clock(), **settings).fetch(Kept())
    put(connection, {"2025-06-02": 11.0})
    assert told(await make(the_clock(), **settings).fetch(kept(first)))["A"]["2025-06-02"] == 11.0


async def test_only_so_many_days_are_asked_for(make: Make, tmp_path: Path) -> None:
    """`:since` of closes is a day: the first wanted. The zone says when a day has ended."""
    closes_of(tmp_path / "trading.db", {"2026-01-04": 1.0, "2026-01-05": 2.0, "2026-01-15": 3.0})
    settings = {"queries": {"histories": f"{CLOSES} WHERE day >= :since"}, "history_days": 10}
    assert told(await make(the_clock(), **settings).fetch(Kept())) == {"A": {"2026-01-05": 2.0}}
    beyond = await make(the_clock(), time_zone="Pacific/Kiritimati", **settings).fetch(Kept())
    assert told(beyond) == {"A": {"2026-01-15": 3.0}}


async def test_a_missing_column_of_closes_is_named(make: Make, tmp_path: Path) -> None:
    """And what there is."""
    closes_of(tmp_path / "trading.db", {})
    with pytest.raises(Permanent, match=r"the required column currency is missing; there are: symbol, day, close") as caught:
        await make(queries={"histories": "SELECT * FROM closes"}).fetch(Kept())
    assert caught.value.reason is Reason.MISSING_FIELD


async def test_closes_that_cannot_be_read_are_counted_when_they_are_read(make: Make, tmp_path: Path) -> None:
    """Not at every fetch in between."""
    closes_of(tmp_path / "trading.db", {"2026-01-13": 1.0, "2026-01-14": -2.0})
    source = make(the_clock(), queries={"histories": CLOSES})
    first = await source.fetch(Kept())
    assert [each.reason for each in first.rejected] == ["not_positive"]
    assert (await source.fetch(kept(first))).rejected == ()


async def test_symbols_that_differ_in_case_only_are_two(make: Make, tmp_path: Path) -> None:
    """Also where the operator's column compares them as one."""
    database(tmp_path / "trading.db", "CREATE TABLE closes (symbol TEXT COLLATE NOCASE, day, close)", schema="").execute(
        "INSERT INTO closes VALUES ('brk', '2026-01-13', 1), ('BRK', '2026-01-13', 2), ('brk', '2026-01-14', 3)"
    )
    found = told(await make(the_clock(), queries={"histories": CLOSES}).fetch(Kept()))
    assert found == {"BRK": {"2026-01-13": 2.0}, "brk": {"2026-01-13": 1.0, "2026-01-14": 3.0}}


NEWS = """SELECT id AS execution_id, 'p' AS portfolio, 'A' AS symbol, 'BUY' AS side, 1 AS quantity, price, 'USD' AS currency, at
FROM trades WHERE at >= :last_run"""


def trades(path: Path, *rows: tuple[int, int, str]) -> sqlite3.Connection:
    """A table of executions of the operator's own."""
    connection = database(
        path, "CREATE TABLE trades (id, price, at)", "CREATE TABLE held (portfolio, symbol, quantity, currency)", schema=""
    )
    connection.executemany("INSERT INTO trades VALUES (?, ?, ?)", rows)
    return connection


def fills(snapshot: Snapshot) -> dict[str, int]:
    """Execution to price."""
    return {fill.execution_id: int(fill.price) for fill in snapshot.fills}


async def test_only_news_is_read_and_every_snapshot_is_complete(make: Make, tmp_path: Path) -> None:
    """The last run is when the last good fetch began, less the overlap, in the form SQLite compares by."""
    connection = trades(tmp_path / "trading.db", (1, 10, "2026-01-15 10:00:00"), (2, 20, "2026-01-15T11:58:30Z"))
    clock = the_clock()
    source = make(clock, queries={"fills": NEWS}, overlap_seconds=120)
    assert fills(await source.fetch(Kept())) == {"1": 10, "2": 20}
    connection.execute("UPDATE trades SET price = price + 1")
    connection.execute("INSERT INTO trades VALUES (3, 30, '2026-01-15 12:00:30')")
    await clock.advance(60)
    # The first is older than the last run and not read again; the second lies within the overlap.
    assert fills(await source.fetch(Kept(NOON))) == {"1": 10, "2": 21, "3": 30}


async def test_a_run_that_failed_is_made_up_for(make: Make, tmp_path: Path) -> None:
    """Whatever came in while the database, another query or the exporter failed is read by the next good run."""
    connection = trades(tmp_path / "trading.db", (1, 10, "2026-01-15 10:00:00"))
    clock = the_clock()
    held = "SELECT * FROM held"
    source = make(clock, queries={"fills": NEWS, "positions": held}, overlap_seconds=0)
    await source.fetch(Kept())
    connection.execute("ALTER TABLE held RENAME TO gone")
    connection.execute("INSERT INTO trades VALUES (2, 20, '2026-01-15 12:00:30')")
    for _ in range(3):
        await clock.advance(60)
        with pytest.raises(Permanent, match="no such table: held"):
            await source.fetch(Kept(NOON))
    connection.execute("ALTER TABLE gone RENAME TO held")
    assert fills(await source.fetch(Kept(NOON))) == {"1": 10, "2": 20}
    connection.execute("INSERT INTO trades VALUES (3, 30, '2026-01-15 12:01:00')")
    await clock.advance(600)
    # The exporter has not counted the last run as good: what came in since the one it knows is read again.
    assert fills(await source.fetch(Kept(NOON))) == {"1": 10, "2": 20, "3": 30}


async def test_without_a_good_run_everything_is_read(make: Make, tmp_path: Path) -> None:
    """As far as the look-back goes; what was remembered is forgotten."""
    connection = trades(tmp_path / "trading.db", (1, 10, "2026-01-15 10:00:00"), (2, 20, "2026-01-07 12:00:00"))
    source = make(the_clock(), queries={"fills": NEWS})
    assert fills(await source.fetch(Kept())) == {"1": 10}
    connection.execute("DELETE FROM trades WHERE id = 1")
    assert fills(await source.fetch(Kept())) == {}


async def test_returns_are_asked_for_from_the_beginning(make: Make, tmp_path: Path) -> None:
    """A backtest lies years back: for returns both bounds are 1970 at first."""
    database(tmp_path / "trading.db", "INSERT INTO strategy_returns VALUES ('s', 'backtest', '1999-01-04', '0.01')")
    for bound in ("since", "last_run"):
        query = f"SELECT * FROM strategy_returns WHERE at >= :{bound}"  # noqa: S608
        assert len((await make(the_clock(), queries={"returns": query}).fetch(Kept())).returns) == 1


async def test_times_of_another_zone_are_never_missed(make: Make, tmp_path: Path) -> None:
    """In a table kept in New York's time the newest trade is five hours old to the eye."""
    connection = trades(tmp_path / "trading.db", (1, 10, "2026-01-15 06:59:00"))
    clock = the_clock()
    source = make(clock, queries={"fills": NEWS}, overlap_seconds=0, time_zone="America/New_York")
    first = await source.fetch(Kept())
    assert first.fills[0].at == datetime(2026, 1, 15, 11, 59, tzinfo=UTC)
    connection.execute("INSERT INTO trades VALUES (2, 20, '2026-01-15 07:00:30')")
    await clock.advance(60)
    assert fills(await source.fetch(Kept(NOON))) == {"1": 10, "2": 20}


async def test_a_market_is_open_between_its_hours(make: Make, tmp_path: Path) -> None:
    """What comes next is told; a calendar that has run out says nothing, because closed it is not."""
    database(
        tmp_path / "trading.db",
        "INSERT INTO market_hours VALUES ('nyse', '2026-01-14 14:30', '2026-01-14 21:00'), "
        "('nyse', '2026-01-15 14:30', '2026-01-15 21:00'), ('nyse', '2026-01-16 14:30', '2026-01-16 21:00'), "
        "('xetra', '2026-01-15 08:00', '2026-01-15 16:30'), ('gone', '2026-01-14 08:00', '2026-01-14 16:30')",
    )
    found = {each.calendar: each for each in (await make(the_clock(), tables=["sessions"]).fetch(Kept())).sessions}
    assert set(found) == {"nyse", "xetra"}
    opens = datetime(2026, 1, 15, 14, 30, tzinfo=UTC)
    assert (found["nyse"].open, found["nyse"].next_open, found["nyse"].next_close) == (False, opens, None)
    assert (found["xetra"].open, found["xetra"].next_close) == (True, datetime(2026, 1, 15, 16, 30, tzinfo=UTC))


async def test_of_several_quotes_the_latest_counts(make: Make, tmp_path: Path) -> None:
    """One for each symbol and venue; a price that cannot be read is no empty side."""
    database(tmp_path / "trading.db", "CREATE TABLE ticks (symbol, venue, at, bid, ask)", schema="").executemany(
        "INSERT INTO ticks VALUES (?, ?, ?, ?, ?)",
        [("A", "x", 3, 3, 4), ("A", "x", 2, 2, 3), ("A", "y", 1, None, 5), ("B", "x", 1, "?", 5), ("C", "x", 1, 0, 5)],
    )
    query = "SELECT symbol, venue, '2026-01-15 10:00:0' || at AS at, bid, ask, 'USD' AS currency FROM ticks"
    snapshot = await make(queries={"quotes": query}).fetch(Kept())
    assert {(each.symbol, each.venue): (each.bid, each.ask) for each in snapshot.quotes} == {
        ("A", "x"): (3, 4),
        ("A", "y"): (None, 5),
    }
    assert [each.reason for each in snapshot.rejected] == ["not_a_number", "not_positive"]


async def test_a_quote_without_its_columns_is_an_error(make: Make, tmp_path: Path) -> None:
    """Named otherwise, both sides would look empty."""
    database(tmp_path / "trading.db")
    query = "SELECT 'A' AS symbol, 'x' AS venue, 0 AS at, 'USD' AS currency, 1 AS bid_price, 2 AS ask"
    with pytest.raises(Permanent, match="the required column bid is missing"):
        await make(queries={"quotes": query}).fetch(Kept())
