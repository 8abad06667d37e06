"""An operator's SELECT, checked before it is sent anywhere: one statement, that only reads, with parameters we know. Pure.

The database refuses to write as well; this names the mistake where it stands, and refuses what a read-only transaction lets
through (a second statement, `INTO OUTFILE`).
"""

from __future__ import annotations

import re
from collections.abc import Collection

from sqlalchemy import text

SINCE, LAST_RUN = "since", "last_run"
_ASIDE = re.compile(
    r"""'(?:[^']|'')*' | "(?:[^"]|"")*" | `[^`]*` | \$(\w*)\$.*?\$\1\$ | --[^\n]* | /\*(?!!).*?\*/""", re.DOTALL | re.VERBOSE
)
"""Quoted text, quoted names and comments. What MySQL runs although it looks like a comment is none."""
_FIRST = ("SELECT", "WITH", "VALUES", "TABLE")
_WRITES = re.compile(r"\b(INSERT(?!\s*\()|UPDATE|DELETE|MERGE|INTO)\b", re.IGNORECASE)
_CAST = re.compile(rf":({SINCE}|{LAST_RUN})::")


def checked_select(query: str, known: Collection[str]) -> str:
    """The query without its final semicolon.

    Args:
        query: as the operator wrote it.
        known: the parameters it may use, without their colon.

    Raises:
        ValueError: what is wrong with it.
    """
    bare = _ASIDE.sub(" ", query).strip()
    while bare.endswith(";"):
        # A comment may stand behind the semicolon; a query of one statement does not need it.
        query = _without_last_semicolon(query)
        bare = bare[:-1].rstrip()
    if not bare:
        raise ValueError("must be a SELECT, was empty")
    first = re.split(r"\W", bare.lstrip("( \n\t\r"), maxsplit=1)[0].upper()
    if first not in _FIRST:
        raise ValueError("must be a SELECT (or WITH ... SELECT)")
    if ";" in bare:
        raise ValueError("must be one statement, found a semicolon within")
    if writes := _WRITES.search(bare):
        raise ValueError(f"must only read, found {writes[1].upper()}")
    if cast := _CAST.search(bare):
        raise ValueError(f"write CAST(:{cast[1]} AS ...) instead of :{cast[1]}::...")
    unknown = set(parameters_of(query)) - set(known)
    if unknown:
        allowed = " and ".join(f":{name}" for name in known) or "no parameter"
        raise ValueError(f"knows {allowed} only, found :{', :'.join(sorted(unknown))} (write \\: for a colon)")
    return query.strip()


def parameters_of(query: str) -> list[str]:
    """Names of the parameters a query uses."""
    return list(text(query)._bindparams)


def _without_last_semicolon(query: str) -> str:
    """The query without the last semicolon that is neither quoted nor in a comment."""
    blanked = _ASIDE.sub(lambda found: " " * len(found[0]), query)
    at = blanked.rindex(";")
    return query[:at] + query[at + 1 :]
