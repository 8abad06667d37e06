"""The database source on real servers: what an operator's own schema becomes, and every way a server can fail.

TimescaleDB has no package here; it is PostgreSQL with an extension and speaks its protocol.
"""

# ruff: noqa: S608 - the SQL of tests is made of the tests' own text

from __future__ import annotations

import asyncio
import time
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from deskwatch.clock import SystemClock
from deskwatch.config import validate
from deskwatch.errors import Permanent, Reason, Retryable
from exporter.source import Kept
from exporter.sources.database import Config, DatabaseSource
from tests.stack.databases import CERTIFIED, READER_ENCODED, MariaDb, Postgres, Server, WithoutTls, free_port
from tests.stack.operator_schemas import EXPECTED, MARIADB, MARIADB_QUERIES, POSTGRES, POSTGRES_QUERIES, UUID, ZONE

pytestmark = pytest.mark.stack
Make = Callable[..., DatabaseSource]
HERE_AND_NOW = {"look_back_days": 4000, "history_days": 4000}
"""The records of these tests have fixed dates."""


@pytest.fixture
async def make() -> AsyncIterator[Make]:
    """Makes sources, closes them, and sees to it that no connection of theirs is left."""
    made: list[DatabaseSource] = []
    open_before = 0

    def source(url: str, **settings: Any) -> DatabaseSource:
        nonlocal open_before
        open_before = open_before or _open_files()
        config = validate(Config, {"type": "database", "name": "trades", "url": url, **settings})
        assert isinstance(config, Config), config
        made.append(DatabaseSource(config, SystemClock()))
        return made[-1]

    yield source
    for each in made:
        await each.close()

    async def all_closed() -> bool:
        return _open_files() <= open_before

    await until(all_closed)


def _open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def until(holds: Callable[[], Awaitable[object]], seconds: float = 10.0) -> None:
    """Wait until the server says so."""
    async with asyncio.timeout(seconds):
        while not await holds():  # noqa: ASYNC110 - another process holds what is waited for
            await asyncio.sleep(0.02)


def series(server: Server, count: int) -> str:
    """A SELECT the server makes so many rows of, one after the other."""
    if isinstance(server, Postgres):
        return f"SELECT generate_series(1, {count}) AS n"
    return f"SELECT seq AS n FROM seq_1_to_{count}"


def endless(server: Server) -> str:
    """A SELECT the server works on for a long time."""
    return f"SELECT count(*) AS portfolio FROM ({series(server, 10**9)}) AS a"


def positions(query: str) -> dict[str, Any]:
    """Configuration with one query."""
    return {"queries": {"positions": query}}


async def test_an_operators_own_schema_maps_by_configuration_alone(server: Server, make: Make) -> None:
    """Odd names, NULLs, times without zone over a change of clocks, exact decimals, UUIDs, enumerations, JSON: same desk."""
    of_postgres = isinstance(server, Postgres)
    name = await server.new_database(*(POSTGRES if of_postgres else MARIADB))
    queries = POSTGRES_QUERIES if of_postgres else MARIADB_QUERIES
    snapshot = await make(server.url(name), queries=queries, time_zone=ZONE, **HERE_AND_NOW).fetch(Kept())
    assert {kind: set(getattr(snapshot, kind)) for kind in EXPECTED} == EXPECTED
    assert [rejected.record for rejected in snapshot.rejected] == ["histories: 'AAPL' on 2026-03-09 close=''"]
    (history,) = snapshot.histories
    assert (history.symbol, history.currency, history.days.astype(str).tolist(), history.closes.tolist()) == (
        "AAPL", "USD", ["2026-03-05", "2026-03-06"], [227.5, 229.123456],
    )  # fmt: skip
    (returns,) = snapshot.returns
    assert (returns.strategy, returns.sample, returns.values.tolist()) == ("trend", "live", [-0.02, 0.01])
    (session,) = snapshot.sessions
    assert session.calendar == "nyse"
    assert session.next_open is not None
    assert session.next_open > datetime.now(UTC) + timedelta(days=28)
    assert snapshot.data_at == datetime(2026, 3, 9, 14, 0, 0, 123456, UTC)
    exact = next(each for each in snapshot.positions if each.symbol == "AAPL")
    assert str(exact.quantity) == "123456789012345678.000000000000000001"


async def test_the_canonical_tables_are_read_from_every_server(server: Server, make: Make) -> None:
    """`schema.sql` as it is, on PostgreSQL and MariaDB; both servers' own types as well."""
    import importlib.resources

    schema = importlib.resources.files("exporter.sources").joinpath("schema.sql").read_text()
    name = await server.new_database(
        *(statement for statement in _statements(schema)),
        "INSERT INTO positions (portfolio, symbol, quantity, currency) VALUES ('p', 'AAPL', '5', 'USD')",
        "INSERT INTO fills (execution_id, portfolio, symbol, side, quantity, price, currency, at)"
        " VALUES ('1', 'p', 'AAPL', 'BUY', '5', '229.37', 'USD', '2026-03-09T14:00:00Z'),"
        " ('0', 'p', 'AAPL', 'BUY', '5', '229.37', 'USD', '2026-03-01T14:00:00Z')",
        "INSERT INTO daily_closes VALUES ('AAPL', '2026-03-06', '229.5', 'USD'), ('AAPL', '2026-03-09', '230', 'USD')",
    )
    snapshot = await make(server.url(name)).fetch(Kept())
    assert [each.symbol for each in snapshot.positions] == ["AAPL"]
    assert [each.execution_id for each in snapshot.fills] == ["1"]
    assert [history.closes.tolist() for history in snapshot.histories] == [[229.5, 230.0]]
    assert snapshot.rejected == ()


def _statements(schema: str) -> list[str]:
    """As an operator's own client splits them; PostgreSQL and MariaDB take them as they are."""
    return [part for part in (each.strip() for each in schema.split(";\n")) if part]


async def test_canonical_tables_with_the_servers_own_types(postgres: Server, make: Make) -> None:
    """`timestamptz`, `timestamp` in the configured zone, numbers: the look-back is in the column's own form, to the hour."""
    for type_, old, edge, new in (
        ("timestamptz", "2026-03-01 14:00+00", "2026-03-02 15:00+00", "2026-03-09 14:00+00"),
        ("timestamp", "2026-03-01 09:00", "2026-03-02 10:00", "2026-03-09 10:00"),
        ("bigint", "1772373600", "1772463600", "1773064800"),
    ):
        name = await postgres.new_database(
            f"CREATE TABLE fills (execution_id uuid, portfolio text, symbol text, side text, quantity numeric, price numeric,"
            f" currency text, at {type_}, fee numeric)",
            f"INSERT INTO fills VALUES ('{UUID}', 'p', 'ES', 'buy', 1, 6000.25, 'USD', '{new}', NULL),"
            f" ('{UUID}', 'p', 'ES', 'buy', 1, 6000.25, 'USD', '{edge}', NULL),"
            f" ('{UUID}', 'p', 'ES', 'buy', 1, 6000.25, 'USD', '{old}', NULL)",
        )
        snapshot = await make(postgres.url(name), time_zone=ZONE).fetch(Kept())
        found = [(each.execution_id, each.at) for each in snapshot.fills]
        assert found == [(UUID, datetime(2026, 3, 9, 14, tzinfo=UTC)), (UUID, datetime(2026, 3, 2, 15, tzinfo=UTC))], type_


async def test_all_kinds_are_read_at_one_moment(server: Server, make: Make) -> None:
    """A trade committed between two queries is in neither: a book is never half of one state and half of another."""
    name = await server.new_database(
        "CREATE TABLE positions (portfolio varchar(8), symbol varchar(8), quantity numeric, currency varchar(8))",
        "CREATE TABLE accounts (portfolio varchar(8), currency varchar(8), cash numeric)",
        "INSERT INTO positions VALUES ('p', 'AAPL', 1, 'USD')",
        "INSERT INTO accounts VALUES ('p', 'USD', 100)",
    )
    source = make(server.url(name))
    async with source._database.transaction() as reading, server.session(name) as run:
        await run("UPDATE positions SET quantity = 2")
        held = await reading.scalar("SELECT quantity FROM positions")
        await run("UPDATE accounts SET cash = 0")
        cash = await reading.scalar("SELECT cash FROM accounts")
    assert (int(held), int(cash)) == (1, 100)
    snapshot = await source.fetch(Kept())
    assert (snapshot.positions[0].quantity, snapshot.accounts[0].cash) == (2, 0)


async def test_a_function_with_side_effects_is_refused(server: Server, make: Make) -> None:
    """A SELECT is not enough to be harmless: the transaction itself is read-only, whatever the login may do."""
    if isinstance(server, Postgres):
        function = (
            "CREATE FUNCTION touch() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'INSERT INTO touched VALUES (1) RETURNING 1'"
        )
    else:
        function = "CREATE FUNCTION touch() RETURNS int BEGIN INSERT INTO touched VALUES (1); RETURN 1; END"
    name = await server.new_database("CREATE TABLE touched (n int)", function)
    if isinstance(server, MariaDb):
        # The very login that may write: nothing but the transaction stands in the way.
        await server.execute(f"GRANT ALL ON {name}.* TO reader@'127.0.0.1'")
    with pytest.raises(Permanent, match=r"queries\.positions: .*(read-only|READ ONLY)") as caught:
        await make(server.url(name), **positions("SELECT touch() AS portfolio")).fetch(Kept())
    assert caught.value.reason is Reason.REJECTED
    async with server.session(name) as run:
        assert [tuple(row) for row in await run("SELECT count(*) FROM touched")] == [(0,)]


async def test_a_statement_that_takes_too_long_is_ended_by_the_server(server: Server, make: Make) -> None:
    """At `timeout_seconds`, whether or not anybody is left to cancel it."""
    name = await server.new_database()
    begun = time.monotonic()
    with pytest.raises(Retryable, match=r"queries\.positions: ") as caught:
        await make(server.url(name), timeout_seconds=0.3, **positions(endless(server))).fetch(Kept())
    assert caught.value.reason is Reason.TIMEOUT
    assert time.monotonic() - begun < 5
    await until(lambda: _idle(server))


async def _idle(server: Server) -> bool:
    return not await server.running_queries()


async def test_a_cancelled_fetch_leaves_nothing_running_on_the_server(server: Server, make: Make) -> None:
    """The poller's deadline and a shutdown end the work, not just the waiting for it; the next fetch is none the worse."""
    name = await server.new_database(
        "CREATE TABLE positions (portfolio varchar(8), symbol varchar(8), quantity numeric, currency varchar(8))"
    )
    source = make(server.url(name), timeout_seconds=300, **positions(endless(server)))
    for _ in range(2):
        fetching = asyncio.ensure_future(source.fetch(Kept()))
        await until(server.running_queries)
        begun = time.monotonic()
        fetching.cancel()
        with pytest.raises(asyncio.CancelledError):
            await fetching
        assert time.monotonic() - begun < 1.0, "the poller takes a longer end for a hanging source"
        await until(lambda: _idle(server))
    assert (await make(server.url(name)).fetch(Kept())).positions == ()


async def test_a_result_without_end_is_cut_off_quickly_and_costs_no_memory(server: Server, make: Make) -> None:
    """Ten million rows where a thousand are allowed: an error at the first page beyond them."""
    name = await server.new_database()
    source = make(server.url(name), maximum_rows=1000, **positions(series(server, 10_000_000)))
    with pytest.raises(Permanent, match="more than 1000 rows"):
        await source.fetch(Kept())  # imports and connects
    tracemalloc.start()
    begun = time.monotonic()
    with pytest.raises(Permanent, match=r"queries\.positions: more than 1000 rows: narrow the query") as caught:
        await source.fetch(Kept())
    seconds, (_, peak) = time.monotonic() - begun, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert caught.value.reason is Reason.TOO_LARGE
    assert seconds < 3
    assert peak < 10_000_000
    await until(lambda: _idle(server))


async def test_too_many_closes_are_an_error_too(server: Server, make: Make) -> None:
    """Those the server puts together are counted before they are sent."""
    name = await server.new_database()
    days = "cast('2020-01-01' as date)"
    query = f"SELECT 'AAPL' AS symbol, 'USD' AS currency, {days} AS day, n AS close FROM ({series(server, 10_000_000)}) AS s"
    source = make(server.url(name), maximum_closes=1000, queries={"histories": query})
    with pytest.raises(Permanent, match=r"queries\.histories: more than 1000 rows: .* raise maximum_closes") as caught:
        await source.fetch(Kept())
    assert caught.value.reason is Reason.TOO_LARGE


async def test_nothing_is_killed_where_nothing_runs(mariadb: Server, make: Make) -> None:
    """A fetch that got everything has no statement to end."""
    source = make(mariadb.url(await _with_positions(mariadb)))
    async with mariadb.session() as run:
        before = await run("SHOW GLOBAL STATUS LIKE 'Com_kill'")
        await source.fetch(Kept())
        assert await run("SHOW GLOBAL STATUS LIKE 'Com_kill'") == before


async def test_a_server_that_was_restarted_costs_no_fetch(server: Server, make: Make) -> None:
    """The kept connection is found dead before it is used."""
    source = make(server.url(await _with_positions(server)))
    assert len((await source.fetch(Kept())).positions) == 1
    await asyncio.to_thread(server.kill)
    await asyncio.to_thread(server.start)
    assert len((await source.fetch(Kept())).positions) == 1


async def test_a_dead_server_is_refused_and_read_again_when_it_is_back(server: Server, make: Make) -> None:
    """Killed in the middle of a statement, then gone, then back."""
    name = await _with_positions(server)
    source, slow = make(server.url(name)), make(server.url(name), timeout_seconds=300, **positions(endless(server)))
    await source.fetch(Kept())
    fetching = asyncio.ensure_future(slow.fetch(Kept()))
    await until(server.running_queries)
    await asyncio.to_thread(server.kill)
    try:
        with pytest.raises(Retryable) as caught:
            await fetching
        assert caught.value.reason in (Reason.NETWORK, Reason.SERVER_ERROR)
        for _ in range(2):
            with pytest.raises(Retryable, match="is the server running") as caught:
                await source.fetch(Kept())
            assert caught.value.reason is Reason.REFUSED
    finally:
        await asyncio.to_thread(server.start)
    assert len((await source.fetch(Kept())).positions) == 1


async def _with_positions(server: Server) -> str:
    return await server.new_database(
        "CREATE TABLE positions (portfolio varchar(8), symbol varchar(8), quantity numeric, currency varchar(8))",
        "INSERT INTO positions VALUES ('p', 'AAPL', 1, 'USD')",
    )


async def _failure(source: DatabaseSource) -> Retryable | Permanent:
    with pytest.raises((Retryable, Permanent)) as caught:
        await source.fetch(Kept())
    return caught.value


async def test_what_is_wrong_with_an_address_is_said_without_the_password(server: Server, make: Make) -> None:
    """Password, user, database, rights, host, port: each its reason, none its secret."""
    name = await _with_positions(server)
    await server.execute("CREATE TABLE hidden (portfolio varchar(8))", database=name)
    revoked = "REVOKE SELECT ON hidden FROM reader" if isinstance(server, Postgres) else "SELECT 1"
    await server.execute(revoked, database=name)
    forbidden = "SELECT * FROM hidden" if isinstance(server, Postgres) else "SELECT * FROM mysql.user"
    secret = "wr0ng%2Fpa%40ss"
    cases = [
        (make(server.url(name, password=secret)), Reason.AUTH, Permanent),
        (make(server.url(name, user="nobody_of_ours", password=secret)), Reason.AUTH, Permanent),
        (make(server.url(name, password=""), tables=["positions"]), Reason.AUTH, Permanent),
        (make(server.url(name), **positions(forbidden)), Reason.AUTH, Permanent),
        (make(server.url(name).replace("127.0.0.1", "no-such-host.invalid")), Reason.DNS, Retryable),
        (make(server.url(name).replace(str(server.port), str(free_port()))), Reason.REFUSED, Retryable),
        (
            make(server.url(name).replace("127.0.0.1", "localhost").replace(str(server.port), str(free_port()))),
            Reason.REFUSED,
            Retryable,
        ),
        (make(server.url(name), **positions("SELECT nothing FROM positions")), Reason.REJECTED, Permanent),
        (make(server.url(name), **positions("SELECT 1 FROM nowhere")), Reason.REJECTED, Permanent),
        (make(server.url(name), **positions("SELECT FROM FROM")), Reason.REJECTED, Permanent),
        (make(server.url(name, options="?frobnicate=1")), Reason.REJECTED, Permanent),
    ]
    unknown = server.url("no_such_database") if isinstance(server, Postgres) else None
    if unknown:
        cases.append((make(unknown), Reason.NOT_FOUND, Permanent))
    for source, reason, kind in cases:
        error = await _failure(source)
        assert (type(error), error.reason) == (kind, reason), str(error)
        for word in ("wr0ng", "pa@ss", "pa%40", "re@d", "re%40d"):
            assert word not in str(error), str(error)
        assert "\n" not in str(error)


async def test_an_unknown_database_is_not_found(mariadb: Server, make: Make) -> None:
    """For a login that may know; MariaDB tells others that they may not."""
    await mariadb.execute("GRANT SELECT ON *.* TO reader@'127.0.0.1'")
    try:
        error = await _failure(make(mariadb.url("no_such_database")))
    finally:
        await mariadb.execute("REVOKE SELECT ON *.* FROM reader@'127.0.0.1'")
    assert (type(error), error.reason) == (Permanent, Reason.NOT_FOUND)


@pytest.mark.parametrize(
    ("options", "trusts", "encrypted"),
    [
        ("?sslmode=verify-full", "server", True),
        ("?sslmode=verify-ca", "server", True),
        ("", "server", True),
        ("?sslmode=require", None, True),
        ("?sslmode=disable", None, False),
    ],
)
async def test_tls_as_asked_for(server: Server, make: Make, options: str, trusts: str | None, encrypted: bool) -> None:
    """A CA alone means to check everything; what the server says of the session is what counts."""
    name = await server.new_database()
    settings = {"ca_file": str(server.ca_file)} if trusts else {}
    if isinstance(server, Postgres):
        query = "SELECT CASE WHEN ssl THEN 'yes' ELSE 'no' END AS portfolio FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
    else:
        query = (
            "SELECT CASE variable_value WHEN '' THEN 'no' ELSE 'yes' END AS portfolio FROM information_schema.session_status"
            " WHERE variable_name = 'Ssl_cipher'"
        )
    query = f"SELECT s.portfolio, 'AAPL' AS symbol, 1 AS quantity, 'USD' AS currency FROM ({query}) AS s"
    snapshot = await make(server.url(name, options=options), **settings, **positions(query)).fetch(Kept())
    assert [each.portfolio for each in snapshot.positions] == ["yes" if encrypted else "no"]


async def test_a_certificate_of_somebody_else_is_refused(server: Server, make: Make) -> None:
    """The wrong authority; the right one for another name; no authority at all: TLS, before a password is sent."""
    name = await _with_positions(server)
    wrong = make(server.url(name), ca_file=str(server.other_ca_file))
    unknown = make(server.url(name, options="?sslmode=verify-full"))
    by_option = make(server.url(name, options=f"?sslmode=verify-full&sslrootcert={server.other_ca_file}"))
    other_name = make(server.url(name).replace("127.0.0.1", "localhost"), ca_file=str(server.ca_file))
    for source in (wrong, unknown, by_option, other_name):
        error = await _failure(source)
        assert (type(error), error.reason) == (Retryable, Reason.TLS), str(error)
    same_name = make(
        server.url(name, options="?sslmode=verify-ca").replace("127.0.0.1", "localhost"), ca_file=str(server.ca_file)
    )
    if isinstance(server, Postgres):
        assert len((await same_name.fetch(Kept())).positions) == 1


async def test_a_login_by_certificate(postgres: Server, make: Make) -> None:
    """Nothing to keep secret in the address; without the certificate the server refuses."""
    name = await _with_positions(postgres)
    url = postgres.url(name, user=CERTIFIED, password="", options="?sslcert=CERT&sslkey=CERT").replace(":@", "@")
    by_certificate = make(url.replace("CERT", str(postgres.client_certificate)), ca_file=str(postgres.ca_file))
    assert len((await by_certificate.fetch(Kept())).positions) == 1
    error = await _failure(
        make(postgres.url(name, user=CERTIFIED, password="").replace(":@", "@"), ca_file=str(postgres.ca_file))
    )
    assert (type(error), error.reason) == (Permanent, Reason.AUTH)


async def test_a_socket_of_the_same_machine(postgres: Server, make: Make) -> None:
    """No port open to the network; the folder stands where the host would."""
    name = await _with_positions(postgres)
    url = f"postgresql://reader:{READER_ENCODED}@/{name}?host={postgres.folder}&port={postgres.port}"
    assert len((await make(url).fetch(Kept())).positions) == 1


async def test_a_server_without_tls_is_not_spoken_to_in_the_clear(server: Server, make: Make) -> None:
    """Whoever stands in between and takes the offer of TLS away gets no login."""
    name = await _with_positions(server)
    async with WithoutTls(server) as between:
        url = server.url(name, options="?sslmode=require").replace(str(server.port), str(between.port))
        error = await _failure(make(url))
        assert (type(error), error.reason) == (Retryable, Reason.TLS), str(error)
    assert between.heard == b""


@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Asia/Tokyo"])
@pytest.mark.parametrize("column", ["at", "local_at"])
async def test_only_news_is_asked_for_and_every_snapshot_is_complete(
    server: Server, make: Make, column: str, zone: str
) -> None:
    """`:last_run` in the server's own types, with a zone and without one: nothing new is missed, nothing old is forgotten."""
    types = ("timestamptz", "timestamp") if isinstance(server, Postgres) else ("timestamp(6)", "datetime(6)")
    name = await server.new_database(f"CREATE TABLE trades (id int, price int, at {types[0]} NULL, local_at {types[1]})")

    async def trade(number: int, price: int, when: datetime) -> None:
        local = when.astimezone(ZoneInfo(zone))
        await server.execute(
            f"DELETE FROM trades WHERE id = {number}",
            *([] if isinstance(server, Postgres) else ["SET time_zone = '+00:00'"]),
            f"INSERT INTO trades VALUES ({number}, {price}, '{when:{_instant(server)}}', '{local:%Y-%m-%d %H:%M:%S.%f}')",
            database=name,
        )

    columns = "id AS execution_id, 'p' AS portfolio, 'AAPL' AS symbol, 'BUY' AS side, 1 AS quantity, price, 'USD' AS currency"
    query = f"SELECT {columns}, {column} AS at FROM trades WHERE {column} >= :last_run"
    source = make(server.url(name), queries={"fills": query}, overlap_seconds=0, time_zone=zone)
    start = datetime.now(UTC)
    await trade(1, 10, start - timedelta(hours=30))
    await trade(2, 20, start)
    first = await source.fetch(Kept())
    assert {each.execution_id: (int(each.price), each.at) for each in first.fills} == {
        "1": (10, start - timedelta(hours=30)), "2": (20, start),
    }  # fmt: skip
    # What was deleted is not missed: the row is not read again, it is remembered.
    await server.execute("DELETE FROM trades WHERE id = 1", database=name)
    await trade(2, 21, datetime.now(UTC))
    await trade(3, 30, datetime.now(UTC))
    second = await source.fetch(Kept(succeeded_at=datetime.now(UTC)))
    assert {each.execution_id: int(each.price) for each in second.fills} == {"1": 10, "2": 21, "3": 30}


def _instant(server: Server) -> str:
    return "%Y-%m-%d %H:%M:%S.%f+00" if isinstance(server, Postgres) else "%Y-%m-%d %H:%M:%S.%f"


async def test_symbols_that_differ_in_case_only_are_two(server: Server, make: Make) -> None:
    """Also where the server, as MariaDB does, takes them for one."""
    name = await server.new_database(
        "CREATE TABLE daily_closes (symbol varchar(8), day date, close numeric(9, 2), currency varchar(8))",
        "INSERT INTO daily_closes VALUES ('brk', '2026-03-05', 1, 'USD'), ('BRK', '2026-03-05', 2, 'USD'),"
        " ('brk', '2026-03-06', 3, 'USD')",
    )
    found = {each.symbol: each.closes.tolist() for each in (await make(server.url(name)).fetch(Kept())).histories}
    assert found == {"BRK": [2.0], "brk": [1.0, 3.0]}


async def test_a_million_closes_hold_nobody_up(server: Server, make: Make) -> None:
    """A thousand symbols times a thousand days: the event loop goes on turning, and the arrays are right."""
    if isinstance(server, Postgres):
        days, symbols = "generate_series(0, 999) AS d(n)", "generate_series(1, 1000) AS s(n)"
        day, symbol = "DATE '2022-01-01' + d.n", "'S' || s.n"
    else:
        days, symbols = "(SELECT seq AS n FROM seq_0_to_999) AS d", "(SELECT seq AS n FROM seq_1_to_1000) AS s"
        day, symbol = "DATE_ADD('2022-01-01', INTERVAL d.n DAY)", "concat('S', s.n)"
    query = f"SELECT {symbol} AS symbol, {day} AS day, s.n + d.n / 4.0 AS close, 'USD' AS currency FROM {symbols}, {days}"
    name = await server.new_database()
    source = make(server.url(name), queries={"histories": query}, history_days=4000, timeout_seconds=60, interval_seconds=60)
    async with source._database.transaction():
        pass  # imports and connects
    slowest = 0.0

    async def turn() -> None:
        nonlocal slowest
        while True:
            before = time.monotonic()
            await asyncio.sleep(0)
            slowest = max(slowest, time.monotonic() - before)

    turning = asyncio.ensure_future(turn())
    begun = time.monotonic()
    snapshot = await source.fetch(Kept())
    seconds = time.monotonic() - begun
    turning.cancel()
    assert len(snapshot.histories) == 1000
    last = next(each for each in snapshot.histories if each.symbol == "S7")
    assert (last.days.size, str(last.days[-1]), last.closes[-1]) == (1000, "2024-09-26", 7 + 999 / 4)
    assert slowest < seconds / 4
