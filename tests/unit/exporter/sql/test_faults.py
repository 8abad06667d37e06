"""What drivers' errors mean: reason, whether it may pass, words for a person."""

from __future__ import annotations

import socket
import sqlite3
import ssl
from pathlib import Path
from typing import Any

import pytest

from deskwatch.errors import Permanent, Reason, Retryable
from exporter.sql.access import Manner
from exporter.sql.address import parse_url
from exporter.sql.faults import reason_of, words_of
from exporter.sql.readonly import ReadOnlyDatabase


class DriverError(Exception):
    """As a driver's: SQLSTATE, or a number as the first argument."""

    def __init__(self, *arguments: Any, sqlstate: str | None = None) -> None:
        super().__init__(*arguments)
        self.sqlstate = sqlstate


@pytest.mark.parametrize(
    ("state", "reason", "pointless"),
    [
        ("57014", Reason.TIMEOUT, False), ("55P03", Reason.TIMEOUT, False), ("08006", Reason.NETWORK, False),
        ("53300", Reason.SERVER_ERROR, False), ("57P01", Reason.SERVER_ERROR, False), ("57P03", Reason.SERVER_ERROR, False),
        ("40001", Reason.SERVER_ERROR, False), ("XX000", Reason.SERVER_ERROR, False), ("28P01", Reason.AUTH, True),
        ("28000", Reason.AUTH, True), ("42501", Reason.AUTH, True), ("3D000", Reason.NOT_FOUND, True),
        ("42P01", Reason.REJECTED, True), ("42601", Reason.REJECTED, True), ("25006", Reason.REJECTED, True),
    ],
)  # fmt: skip
def test_states_of_postgresql(state: str, reason: Reason, pointless: bool) -> None:
    """A restart passes, a password does not."""
    assert reason_of(DriverError("said", sqlstate=state)) == (reason, pointless)


@pytest.mark.parametrize(
    ("number", "reason", "pointless"),
    [
        (1045, Reason.AUTH, True), (1044, Reason.AUTH, True), (1142, Reason.AUTH, True), (1049, Reason.NOT_FOUND, True),
        (1969, Reason.TIMEOUT, False), (3024, Reason.TIMEOUT, False), (1205, Reason.TIMEOUT, False),
        (2013, Reason.NETWORK, False), (1040, Reason.SERVER_ERROR, False), (1053, Reason.SERVER_ERROR, False),
        (1064, Reason.REJECTED, True), (1146, Reason.REJECTED, True), (1792, Reason.REJECTED, True),
    ],
)  # fmt: skip
def test_numbers_of_mysql_and_mariadb(number: int, reason: Reason, pointless: bool) -> None:
    """Also where the driver adds a SQLSTATE, which says less."""
    assert reason_of(DriverError(number, "said", sqlstate="42000")) == (reason, pointless)


def caused(error: Exception, cause: Exception) -> Exception:
    """An error raised from another."""
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (TimeoutError(), Reason.TIMEOUT),
        (socket.gaierror(-2, "Name or service not known"), Reason.DNS),
        (ssl.SSLCertVerificationError("no"), Reason.TLS),
        (ConnectionRefusedError(111, "Connection refused"), Reason.REFUSED),
        (
            OSError("Multiple exceptions: [Errno 111] Connect call failed ('::1', 1), [Errno 111] Connect call ..."),
            Reason.REFUSED,
        ),
        (FileNotFoundError(2, "No such file or directory"), Reason.REFUSED),
        (ConnectionError('PostgreSQL server at "h:1" rejected SSL upgrade'), Reason.TLS),
        (ConnectionResetError(104, "reset"), Reason.NETWORK),
        (OSError(113, "No route to host"), Reason.NETWORK),
        (caused(DriverError(2003, "Can't connect"), ConnectionRefusedError(111, "refused")), Reason.REFUSED),
        (caused(DriverError(2003, "Can't connect"), socket.gaierror(-2, "unknown")), Reason.DNS),
        (caused(DriverError(2003, "Can't connect"), ssl.SSLError("the server offers no TLS")), Reason.TLS),
        (caused(DriverError(2003, "Can't connect"), TimeoutError()), Reason.TIMEOUT),
        (RuntimeError("something else"), Reason.SERVER_ERROR),
    ],
)
def test_connections_that_fail(error: Exception, reason: Reason) -> None:
    """Whatever wraps them; each may pass."""
    assert reason_of(error) == (reason, False)


def test_an_option_the_driver_does_not_know_is_named() -> None:
    """It stands in the address, so only the operator can take it out."""
    error = TypeError("connect() got an unexpected keyword argument 'frob'")
    assert reason_of(error) == (Reason.REJECTED, True)
    assert words_of(error) == "the driver knows no option 'frob': take it out of url"


def test_words_are_one_line_and_say_what_lies_beneath() -> None:
    """The number of MySQL, the cause of a failed connection."""
    assert words_of(DriverError("<class 'asyncpg.X'>: first\nsecond")) == "first"
    assert words_of(DriverError(1064, "near 'FROM'")) == "near 'FROM' (1064)"
    assert words_of(caused(DriverError(2003, "Can't connect"), OSError(113, "No route"))) == (
        "Can't connect (2003): [Errno 113] No route"
    )


@pytest.mark.parametrize("said", ["login with s%40cret/1 failed", "login with s@cret/1 failed", "s%40cret%2F1"])
def test_the_password_is_hidden_however_it_is_written(said: str) -> None:
    """As it is, and as it stands in an address."""
    url = parse_url("postgresql://u:s%40cret%2F1@h/d", Path())
    error = ReadOnlyDatabase(url, Manner(1)).explain(DriverError(said, sqlstate="28P01"))
    assert "cret" not in str(error)
    assert isinstance(error, Permanent)
    assert "check user, password and rights" in str(error)


def test_the_place_names_host_and_database_only() -> None:
    """A socket counts as a host."""
    for text, place in (
        ("postgresql://u:p@h:5/d", "h/d"),
        ("postgresql://u:p@/d?host=/run/postgresql", "/run/postgresql/d"),
        ("mysql://u:p@/d?unix_socket=/run/s.sock", "/run/s.sock/d"),
    ):
        assert ReadOnlyDatabase(parse_url(text, Path()), Manner(1)).place == place


def test_sqlite_codes() -> None:
    """Locked passes; a wrong query does not."""
    for code, expected in ((sqlite3.SQLITE_BUSY, (Reason.TIMEOUT, False)), (sqlite3.SQLITE_ERROR, (Reason.REJECTED, True))):
        error = sqlite3.OperationalError("said")
        error.sqlite_errorcode = code
        assert reason_of(error) == expected


def test_a_silent_server_is_described_by_the_time_it_had() -> None:
    """A TimeoutError has no words."""
    error = ReadOnlyDatabase(parse_url("postgresql://u@h/d", Path()), Manner(2.5)).explain(TimeoutError())
    assert isinstance(error, Retryable)
    assert str(error) == "h/d: no answer within 2.5 seconds"
