"""An operator's SELECT: what passes, and what is named as wrong before it is sent anywhere."""

from __future__ import annotations

import pytest

from exporter.sql.statement import checked_select, parameters_of

KNOWN = ("since", "last_run")


@pytest.mark.parametrize(
    "query",
    [
        "SELECT 1",
        "  select 1 ;  ",
        "(SELECT 1) UNION (SELECT 2)",
        "WITH a AS (SELECT 1) SELECT * FROM a",
        "VALUES (1)",
        "TABLE positions",
        "-- what we hold\nSELECT 1",
        "/* what; we insert into */ SELECT 1 -- and; delete",
        "SELECT 'INSERT INTO; DELETE' AS note, \"update\" FROM `delete`",
        "SELECT updated_at, insert_time FROM deletes",
        "SELECT $$; DELETE$$",
        "SELECT INSERT('abc', 1, 1, 'x')",
        "SELECT '12\\:30' WHERE at >= :since OR at >= CAST(:last_run AS date)",
    ],
)
def test_one_select_passes(query: str) -> None:
    """Comments, quotes and names that look like commands are none."""
    assert checked_select(query, KNOWN)


@pytest.mark.parametrize(
    ("query", "fault"),
    [
        ("", "was empty"),
        (" ; ", "was empty"),
        ("-- nothing", "was empty"),
        ("DELETE FROM x", "must be a SELECT"),
        ("EXPLAIN SELECT 1", "must be a SELECT"),
        ("SELECTED", "must be a SELECT"),
        ("SELECT 1; DELETE FROM x", "must be one statement, found a semicolon within"),
        ("SELECT 1; SELECT 2;", "must be one statement"),
        ("WITH gone AS (DELETE FROM x RETURNING *) SELECT * FROM gone", "must only read, found DELETE"),
        ("WITH new AS (INSERT INTO x VALUES (1) RETURNING *) SELECT * FROM new", "must only read, found INSERT"),
        ("SELECT * INTO copy FROM x", "must only read, found INTO"),
        ("SELECT * FROM x INTO OUTFILE '/tmp/x'", "must only read, found INTO"),
        ("SELECT /*!50000 * INTO OUTFILE '/tmp/x' */ FROM x", "must only read, found INTO"),
        ("SELECT * FROM x FOR UPDATE", "must only read, found UPDATE"),
        ("SELECT :book, :since", r"knows :since and :last_run only, found :book \(write \\: for a colon\)"),
        ("SELECT * FROM x WHERE at > :since::timestamptz", r"write CAST\(:since AS \.\.\.\) instead of :since::"),
    ],
)
def test_anything_else_is_named(query: str, fault: str) -> None:
    """A second statement, a change, a parameter we do not know."""
    with pytest.raises(ValueError, match=fault):
        checked_select(query, KNOWN)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("SELECT ';' ; -- end;", "SELECT ';'  -- end;"),
        ("SELECT 1;;", "SELECT 1"),
        ("SELECT 1 -- no semicolon;", "SELECT 1 -- no semicolon;"),
    ],
)
def test_only_the_final_semicolon_goes(query: str, expected: str) -> None:
    """So the query can be put into a larger one."""
    assert checked_select(query, KNOWN) == expected


def test_parameters_are_found() -> None:
    """By name, once each; a cast is none."""
    assert sorted(parameters_of("SELECT a::text WHERE b > :since AND c > :since AND d > :last_run")) == ["last_run", "since"]
