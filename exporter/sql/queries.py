"""The operator's own SELECTs, as configuration: one for each kind of record, checked before anything runs."""

from __future__ import annotations

from pydantic import ValidationInfo, field_validator

from deskwatch.config import Settings
from exporter.snapshot import Kind
from exporter.sql.statement import LAST_RUN, SINCE, checked_select, parameters_of
from exporter.sql.tables import TABLES


class Queries(Settings):
    """One SELECT per kind of record; its columns are found by name (`schema.sql` lists them).

    Parameters: `:since` is the start of the look-back (of daily closes: the first day wanted). `:last_run`, for fills, orders,
    signals, returns and daily closes, is the last good run less the overlap, and before the first the same as `:since`: what
    such a query gives is put together with what it gave before.
    """

    instruments: str | None = None
    positions: str | None = None
    prices: str | None = None
    quotes: str | None = None
    histories: str | None = None
    fills: str | None = None
    orders: str | None = None
    signals: str | None = None
    accounts: str | None = None
    returns: str | None = None
    sessions: str | None = None
    aliases: str | None = None

    @field_validator("*")
    @classmethod
    def _only_reads(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is None:
            return value
        bit_by_bit = bool(TABLES[info.field_name].key)  # type: ignore[index]
        return checked_select(value, (SINCE, LAST_RUN) if bit_by_bit else (SINCE,))

    @property
    def given(self) -> dict[Kind, str]:
        """The kinds with a query of their own."""
        return {kind: query for kind in TABLES if (query := getattr(self, kind)) is not None}

    def incremental(self, kind: Kind) -> bool:
        """Whether the kind is asked only for what is new."""
        used = set(parameters_of(self.given.get(kind, "")))
        return LAST_RUN in used or (kind == "histories" and SINCE in used)
