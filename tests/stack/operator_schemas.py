"""One operator's trading database, as two servers hold it, and the SELECTs that map it: names, types and times of its own.

Both hold the same, so both must give the same snapshot: the one in `EXPECTED`. Times carry no zone and are New York's.
"""

# ruff: noqa: S608 - the SQL of tests is made of the tests' own text

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from exporter.snapshot import Account, Alias, Fill, InstrumentTerms, Order, Position, Price, Quote, Signal

ZONE = "America/New_York"
UUID = "7f2c1d0a-3b4e-4c5d-8e9f-0a1b2c3d4e5f"

_QUOTES = """('AAPL', '2026-03-09 10:00:00.123456', '{"last": 229.37, "b": 229.36, "a": null, "tiefe": [1000.5, 2000]}'),
    ('ES', '2026-03-06 16:00:00', '{"last": 6000.25, "b": 6000, "a": 6000.5, "tiefe": null}')"""
_TRADES = f"""('{UUID}', 9007199254740993, 7, 'AAPL', 'B', 10, 0.1, '2026-03-09 09:31:00', NULL, NULL),
    ('00000000-0000-0000-0000-000000000001', NULL, 7, 'ES', 'S', 1.5, 6000.25, '2026-03-06 15:59:59.5', 2.25, -7.125)"""
_SAME_ON_BOTH = (
    "INSERT INTO wunsch VALUES (1, 'trend', -3, '2026-03-06 15:58:00', 0.25), (2, 'trend', 10, '2026-03-09 09:29:00', NULL)",
    "INSERT INTO konto VALUES (7, 'USD', 1000000.10, 1234567.89, false), (7, 'EUR', -5, NULL, NULL)",
    "INSERT INTO stamm VALUES ('AAPL', NULL, 'Technik', 'AKTIE'), ('ES', 50, NULL, 'FUTURE')",
    "INSERT INTO rendite VALUES ('trend', 'live', '2026-03-06 17:00', 0.01), ('trend', 'live', '2026-03-05 17:00', -0.02)",
    """INSERT INTO schluss VALUES ('AAPL', '2026-03-05', 227.5), ('AAPL', '2026-03-06', 229.123456),
       ('AAPL', '2026-03-09', NULL)""",
)
POSTGRES = (
    'CREATE SCHEMA "Handel"',
    "CREATE TYPE \"Seite\" AS ENUM ('B', 'S')",
    """CREATE TABLE "Handel"."Bestand" ("Depot Nr" integer, "WKN" char(12), "Stück" numeric(38, 18), "Einstand" numeric(20, 8),
       "G/V €" numeric, zu boolean)""",
    """INSERT INTO "Handel"."Bestand" VALUES (7, 'AAPL', 123456789012345678.000000000000000001, NULL, NULL, false),
       (7, 'ES', -3, 6012.25, -1234.5, false), (8, 'AAPL', 5, 1, 1, true)""",
    'CREATE TABLE "Kurse" ("WKN" text, stand timestamp, daten jsonb)',
    f'INSERT INTO "Kurse" VALUES {_QUOTES}',
    """CREATE TABLE "Geschäfte" (id uuid, auftrag bigint, "Depot Nr" integer, "WKN" text, seite "Seite", stk numeric,
       preis double precision, zeit timestamp, kosten numeric, gv numeric)""",
    f'INSERT INTO "Geschäfte" VALUES {_TRADES}',
    """CREATE TABLE auftrag (nr bigint, kunde text, "Depot Nr" integer, "WKN" text, seite "Seite", stk numeric, ist numeric,
       stand text, art text, limit_ numeric, mittel numeric, von timestamp, bis timestamptz)""",
    """INSERT INTO auftrag VALUES (9007199254740993, 'bot-1', 7, 'AAPL', 'B', 10, 10, 'erledigt', 'LIMIT', 0.1, 0.1,
       '2026-03-09 09:30:00', '2026-03-09 13:31:00+00'), (2, NULL, 7, 'ES', 'S', 3, 1.5, 'teil', NULL, NULL, NULL,
       '2026-03-06 15:59:00', NULL)""",
    "CREATE TABLE wunsch (id bigint, modell text, ziel numeric, wann timestamp, p real)",
    "CREATE TABLE konto (depot integer, whg char(8), saldo numeric(20, 2), wert numeric, gesperrt boolean)",
    "CREATE TABLE stamm (wkn text, faktor numeric, branche text, art text)",
    "CREATE TABLE handelszeit (tag date, von time, bis time)",
    "INSERT INTO handelszeit VALUES (current_date - 1, '09:30', '16:00'), (current_date + 30, '09:30', '16:00')",
    "CREATE TABLE schluss (wkn text, tag date, kurs numeric(18, 6))",
    "CREATE TABLE rendite (modell text, lauf text, bis timestamp, r numeric)",
    *_SAME_ON_BOTH,
)
MARIADB = (
    """CREATE TABLE Bestand (`Depot Nr` int, WKN char(12), `Stück` decimal(38, 18), Einstand decimal(20, 8),
       `G/V €` decimal(20, 4), zu bit)""",
    """INSERT INTO Bestand VALUES (7, 'AAPL', 123456789012345678.000000000000000001, NULL, NULL, 0),
       (7, 'ES', -3, 6012.25, -1234.5, 0), (8, 'AAPL', 5, 1, 1, 1)""",
    "CREATE TABLE Kurse (WKN varchar(12) CHARACTER SET latin1, stand datetime(6), daten json)",
    f"INSERT INTO Kurse VALUES {_QUOTES}",
    """CREATE TABLE `Geschäfte` (id uuid, auftrag bigint, `Depot Nr` int, WKN text, seite enum('B', 'S'), stk decimal(20, 1),
       preis double, zeit datetime(6), kosten decimal(20, 2), gv decimal(20, 3))""",
    f"INSERT INTO `Geschäfte` VALUES {_TRADES}",
    """CREATE TABLE auftrag (nr bigint, kunde text, `Depot Nr` int, WKN text, seite enum('B', 'S'), stk decimal(20, 1),
       ist decimal(20, 1), stand text, art text, limit_ decimal(20, 2), mittel decimal(20, 2), von datetime,
       bis timestamp NULL)""",
    "SET time_zone = '+00:00'",
    """INSERT INTO auftrag VALUES (9007199254740993, 'bot-1', 7, 'AAPL', 'B', 10, 10, 'erledigt', 'LIMIT', 0.1, 0.1,
       '2026-03-09 09:30:00', '2026-03-09 13:31:00'), (2, NULL, 7, 'ES', 'S', 3, 1.5, 'teil', NULL, NULL, NULL,
       '2026-03-06 15:59:00', NULL)""",
    "CREATE TABLE wunsch (id bigint, modell text, ziel decimal(20), wann datetime, p float)",
    "CREATE TABLE konto (depot int, whg char(8), saldo decimal(20, 2), wert decimal(20, 2), gesperrt boolean)",
    "CREATE TABLE stamm (wkn text, faktor decimal(10), branche text, art text)",
    "CREATE TABLE handelszeit (tag date, von time, bis time)",
    """INSERT INTO handelszeit VALUES (current_date - INTERVAL 1 DAY, '09:30', '16:00'),
       (current_date + INTERVAL 30 DAY, '09:30', '16:00')""",
    "CREATE TABLE schluss (wkn text, tag date, kurs decimal(18, 6))",
    "CREATE TABLE rendite (modell text, lauf text, bis datetime, r decimal(10, 2))",
    *_SAME_ON_BOTH,
)

_SIDE = "CASE seite WHEN 'B' THEN 'BUY' ELSE 'SELL' END AS side"
_SHARED = {
    "signals": "SELECT id AS signal_id, modell AS strategy, 'depot-7' AS portfolio, 'ES' AS symbol, ziel AS target_quantity,"
    " wann AS at, p AS confidence FROM wunsch -- what the models want\n;",
    "accounts": "SELECT concat('depot-', depot) AS portfolio, whg AS currency, saldo AS cash, wert AS equity,"
    " gesperrt AS trading_blocked FROM konto",
    "instruments": "SELECT wkn AS symbol, 'USD' AS currency, branche AS sector, faktor AS multiplier,"
    " CASE art WHEN 'AKTIE' THEN 'share' WHEN 'FUTURE' THEN 'future' END AS instrument FROM stamm",
    "histories": "SELECT wkn AS symbol, tag AS day, kurs AS close, 'USD' AS currency FROM schluss",
    "returns": "SELECT modell AS strategy, lauf AS sample, bis AS at, r AS return_ratio FROM rendite",
    "aliases": "SELECT 'alpaca' AS source, concat(wkn, '.US') AS venue_symbol, wkn AS symbol FROM stamm WHERE art = 'AKTIE'",
}
POSTGRES_QUERIES: dict[str, str] = {
    **_SHARED,
    "positions": """SELECT 'depot-' || "Depot Nr" AS portfolio, "WKN" AS symbol, "Stück" AS quantity, 'USD' AS currency,
        "Einstand" AS entry_price, "G/V €" AS unrealized_pnl FROM "Handel"."Bestand" WHERE NOT zu""",
    "prices": """SELECT "WKN" AS symbol, daten->'last' AS price, 'USD' AS currency, stand AS at FROM "Kurse" """,
    "quotes": """SELECT "WKN" AS symbol, 'USD' AS currency, 'xnas' AS venue, stand AS at, daten->>'b' AS bid,
        daten->>'a' AS ask,
        CASE WHEN jsonb_typeof(daten->'tiefe') = 'array' THEN 5 ELSE 0 END AS depth_levels,
        daten->'tiefe'->>0 AS bid_depth_value, daten->'tiefe'->>1 AS ask_depth_value FROM "Kurse" """,
    "fills": f"""SELECT id AS execution_id, 'depot-' || "Depot Nr" AS portfolio, "WKN" AS symbol, {_SIDE}, stk AS quantity,
        preis AS price, 'USD' AS currency, zeit AS at, auftrag AS order_id, kosten AS fee, gv AS realized_pnl
        FROM "Geschäfte" WHERE zeit >= :since""",
    "orders": f"""SELECT nr AS order_id, 'depot-' || "Depot Nr" AS portfolio, "WKN" AS symbol, {_SIDE}, stk AS quantity,
        ist AS filled_quantity, CASE stand WHEN 'erledigt' THEN 'filled' WHEN 'teil' THEN 'partially_filled' END AS status,
        von AS submitted_at, limit_ AS limit_price, mittel AS average_price, bis AS updated_at, kunde AS client_order_id,
        art AS order_type FROM auftrag WHERE von >= :since""",
    "sessions": """SELECT 'nyse' AS calendar, tag + von AS opens_at, tag + bis AS closes_at FROM handelszeit""",
}
MARIADB_QUERIES: dict[str, str] = {
    **_SHARED,
    "positions": """SELECT concat('depot-', `Depot Nr`) AS portfolio, WKN AS symbol, `Stück` AS quantity, 'USD' AS currency,
        Einstand AS entry_price, `G/V €` AS unrealized_pnl FROM Bestand WHERE NOT zu""",
    "prices": "SELECT WKN AS symbol, JSON_VALUE(daten, '$.last') AS price, 'USD' AS currency, stand AS at FROM Kurse",
    "quotes": """SELECT WKN AS symbol, 'USD' AS currency, 'xnas' AS venue, stand AS at, JSON_VALUE(daten, '$.b') AS bid,
        NULLIF(JSON_VALUE(daten, '$.a'), 'null') AS ask,
        CASE WHEN JSON_TYPE(JSON_EXTRACT(daten, '$.tiefe')) = 'ARRAY' THEN 5 ELSE 0 END AS depth_levels,
        JSON_VALUE(daten, '$.tiefe[0]') AS bid_depth_value, JSON_VALUE(daten, '$.tiefe[1]') AS ask_depth_value FROM Kurse""",
    "fills": f"""SELECT id AS execution_id, concat('depot-', `Depot Nr`) AS portfolio, WKN AS symbol, {_SIDE}, stk AS quantity,
        preis AS price, 'USD' AS currency, zeit AS at, auftrag AS order_id, kosten AS fee, gv AS realized_pnl
        FROM `Geschäfte` WHERE zeit >= :since""",
    "orders": f"""SELECT nr AS order_id, concat('depot-', `Depot Nr`) AS portfolio, WKN AS symbol, {_SIDE}, stk AS quantity,
        ist AS filled_quantity, CASE stand WHEN 'erledigt' THEN 'filled' WHEN 'teil' THEN 'partially_filled' END AS status,
        von AS submitted_at, limit_ AS limit_price, mittel AS average_price, bis AS updated_at, kunde AS client_order_id,
        art AS order_type FROM auftrag WHERE von >= :since""",
    "sessions": """SELECT 'nyse' AS calendar, timestamp(tag, von) AS opens_at, timestamp(tag, bis) AS closes_at
        FROM handelszeit""",
}


def _at(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[misc,arg-type]


EXPECTED: dict[str, Any] = {
    "positions": {
        Position("depot-7", "AAPL", Decimal("123456789012345678.000000000000000001"), "USD"),
        Position("depot-7", "ES", Decimal(-3), "USD", Decimal("6012.25"), Decimal("-1234.5")),
    },
    # The clocks went forward on 8 March: the same wall time is five hours behind UTC before it and four after.
    "prices": {
        Price("AAPL", Decimal("229.37"), "USD", _at(2026, 3, 9, 14, 0, 0, 123456)),
        Price("ES", Decimal("6000.25"), "USD", _at(2026, 3, 6, 21)),
    },
    "quotes": {
        Quote(
            "AAPL", "USD", "xnas", _at(2026, 3, 9, 14, 0, 0, 123456), Decimal("229.36"), None,
            depth_levels=5, bid_depth_value=Decimal("1000.5"), ask_depth_value=Decimal(2000),
        ),
        Quote("ES", "USD", "xnas", _at(2026, 3, 6, 21), Decimal(6000), Decimal("6000.5")),
    },
    "fills": {
        Fill(
            UUID, "depot-7", "AAPL", "BUY", Decimal(10), Decimal("0.1"), "USD", _at(2026, 3, 9, 13, 31),
            order_id="9007199254740993",
        ),
        Fill(
            "00000000-0000-0000-0000-000000000001", "depot-7", "ES", "SELL", Decimal("1.5"), Decimal("6000.25"), "USD",
            _at(2026, 3, 6, 20, 59, 59, 500000), fee=Decimal("2.25"), realized_pnl=Decimal("-7.125"),
        ),
    },
    "orders": {
        Order(
            "9007199254740993", "depot-7", "AAPL", "BUY", Decimal(10), Decimal(10), "FILLED", _at(2026, 3, 9, 13, 30),
            limit_price=Decimal("0.1"), average_price=Decimal("0.1"), updated_at=_at(2026, 3, 9, 13, 31),
            client_order_id="bot-1", order_type="limit",
        ),
        Order("2", "depot-7", "ES", "SELL", Decimal(3), Decimal("1.5"), "PARTIALLY_FILLED", _at(2026, 3, 6, 20, 59)),
    },
    "signals": {
        Signal("1", "trend", "depot-7", "ES", Decimal(-3), _at(2026, 3, 6, 20, 58), 0.25),
        Signal("2", "trend", "depot-7", "ES", Decimal(10), _at(2026, 3, 9, 13, 29)),
    },
    "accounts": {
        Account("depot-7", "USD", Decimal("1000000.10"), Decimal("1234567.89"), trading_blocked=False),
        Account("depot-7", "EUR", Decimal(-5)),
    },
    "instruments": {
        InstrumentTerms("AAPL", "USD", "Technik", "share"),
        InstrumentTerms("ES", "USD", None, "future", Decimal(50)),
    },
    "aliases": {Alias("alpaca", "AAPL.US", "AAPL")},
}  # fmt: skip
"""By kind, whatever the order; daily closes, returns and sessions are looked at by the test."""
