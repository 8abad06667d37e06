"""What a database driver's error means: a bounded reason, and whether repeating the same is pointless. Pure.

Knows SQLite's result codes, SQLSTATE as PostgreSQL uses it, and the numbers of MySQL and MariaDB.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator

from deskwatch.errors import Reason
from deskwatch.http import transport_reason

_SQLITE = {
    sqlite3.SQLITE_BUSY: Reason.TIMEOUT,
    sqlite3.SQLITE_LOCKED: Reason.TIMEOUT,
    sqlite3.SQLITE_INTERRUPT: Reason.TIMEOUT,
    sqlite3.SQLITE_IOERR: Reason.SERVER_ERROR,
    sqlite3.SQLITE_NOMEM: Reason.SERVER_ERROR,
    sqlite3.SQLITE_PROTOCOL: Reason.SERVER_ERROR,
    sqlite3.SQLITE_SCHEMA: Reason.SERVER_ERROR,
    sqlite3.SQLITE_CANTOPEN: Reason.REFUSED,
}
_PASSING = frozenset({Reason.TIMEOUT, Reason.NETWORK, Reason.SERVER_ERROR, Reason.REFUSED, Reason.DNS, Reason.TLS})
"""Reasons that may go away by themselves."""
_SQLSTATE = (
    ("57014", Reason.TIMEOUT), ("55P03", Reason.TIMEOUT), ("08", Reason.NETWORK), ("53", Reason.SERVER_ERROR),
    ("57", Reason.SERVER_ERROR), ("40", Reason.SERVER_ERROR), ("55", Reason.SERVER_ERROR), ("58", Reason.SERVER_ERROR),
    ("XX", Reason.SERVER_ERROR), ("28", Reason.AUTH), ("42501", Reason.AUTH), ("3D000", Reason.NOT_FOUND),
)  # fmt: skip
"""Prefixes. Source: PostgreSQL documentation, appendix A."""
_MYSQL = {
    Reason.AUTH: (1044, 1045, 1130, 1142, 1143, 1227, 1251, 1370, 1698, 1820, 1862, 3118, 3159, 4151),
    Reason.NOT_FOUND: (1049,),
    Reason.TIMEOUT: (1205, 1317, 1969, 3024),
    Reason.NETWORK: (1152, 1153, 1158, 1159, 1160, 1161, 1184, 2006, 2013, 2055),
    Reason.SERVER_ERROR: (
        1021, 1030, 1037, 1038, 1040, 1041, 1053, 1077, 1078, 1105, 1114, 1129, 1135, 1203, 1213, 1226, 1412, 1637, 1927,
    ),
    Reason.TLS: (2026,),
}  # fmt: skip
"""Source: MariaDB documentation, "MariaDB Error Codes"; MySQL 8.0 error reference."""
_MYSQL_REASONS = {number: reason for reason, numbers in _MYSQL.items() for number in numbers}
_MYSQL_OWN = range(1000, 5000)
_REFUSED = re.compile(r"Errno 111\]|Connect call failed|No such file or directory")
_NO_TLS = re.compile(r"rejected SSL upgrade|offers no TLS")
_WRONG_OPTION = re.compile(r"unexpected keyword argument '(\w+)'")


def reason_of(cause: BaseException) -> tuple[Reason, bool]:
    """The bounded reason, and whether repeating it unchanged is pointless."""
    code = getattr(cause, "sqlite_errorcode", None)
    if code is not None:
        return _judged(_SQLITE.get(code & 0xFF, Reason.REJECTED))
    # Drivers of MySQL give a SQLSTATE too, which says less.
    number = _mysql_number(cause)
    if number is not None and number in _MYSQL_REASONS:
        return _judged(_MYSQL_REASONS[number])
    state = str(getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None) or "") if number is None else ""
    if state:
        return _judged(next((reason for prefix, reason in _SQLSTATE if state.startswith(prefix)), Reason.REJECTED))
    connecting = _of_connecting(cause)
    if connecting is not None:
        return _judged(connecting)
    if number is not None or isinstance(cause, TypeError):
        return Reason.REJECTED, True
    return Reason.SERVER_ERROR, False


def words_of(cause: BaseException) -> str:
    """The first line of what the driver says, in a form a person can use."""
    if isinstance(cause, TypeError) and (option := _WRONG_OPTION.search(str(cause))):
        return f"the driver knows no option {option[1]!r}: take it out of url"
    inner = next((each for each in _causes(cause) if isinstance(each, OSError) and each is not cause), None)
    text = str(cause).strip().partition("\n")[0]
    number = _mysql_number(cause)
    if number is not None and len(cause.args) > 1:
        text = f"{cause.args[1]} ({number})"
    if inner is not None and str(inner) and str(inner) not in text:
        text = f"{text}: {inner}"
    return re.sub(r"^<class '[^']*'>: ", "", text) or type(cause).__name__


def _judged(reason: Reason) -> tuple[Reason, bool]:
    return reason, reason not in _PASSING


def _of_connecting(cause: BaseException) -> Reason | None:
    """Why no connection came about, or it ended; None where the error is another one."""
    known = transport_reason(cause)
    if known not in (None, Reason.NETWORK):
        return known
    failed = [each for each in _causes(cause) if isinstance(each, OSError)]
    if any(_NO_TLS.search(str(each)) for each in failed):
        return Reason.TLS
    # Several addresses tried, or a socket file that is not there, is no ConnectionRefusedError.
    if any(_REFUSED.search(str(each)) for each in failed):
        return Reason.REFUSED
    return Reason.NETWORK if failed else known


def _mysql_number(cause: BaseException) -> int | None:
    number = cause.args[0] if cause.args else None
    return number if type(number) is int and number in _MYSQL_OWN and not isinstance(cause, OSError) else None


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__
