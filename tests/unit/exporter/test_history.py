"""Kept daily bars: merged day by day, rescaled when the venue adjusts the past, still there in the next process."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deskwatch.clock import ManualClock
from deskwatch.errors import StoreUnavailable
from exporter.history import FILE, NEWEST, SYMBOLS, PriceHistory, merge
from exporter.snapshot import History, Price, Snapshot
from exporter.source import SourceConfig
from tests.unit.exporter.desks import history

START = datetime(2026, 1, 5, 12, tzinfo=UTC)
MONDAY = date(2026, 1, 5)


def bars(closes: Sequence[float], first: date = MONDAY, symbol: str = "AAPL", currency: str = "USD") -> History:
    """Closes of consecutive days."""
    return history(symbol, closes, currency, first)


def snapshot(*histories: History, prices: Sequence[str] = ()) -> Snapshot:
    """A fetch that brought these bars and marks of these symbols."""
    marks = tuple(Price(symbol, Decimal(1), "USD", START) for symbol in prices)
    return Snapshot(START, histories=tuple(histories), prices=marks)


async def keeper(folder: Path, clock: ManualClock | None = None, kind: str = "broker") -> PriceHistory:
    """A keeper that knows one source called main."""
    kept = await PriceHistory.open(folder, clock or ManualClock(START))
    kept.know([SourceConfig(type=kind, name="main")])
    return kept


def closes(known: History) -> dict[str, float]:
    """Day to close."""
    return dict(zip(known.days.astype(str).tolist(), known.closes.tolist(), strict=True))


def test_a_new_day_is_added_and_the_rest_stays() -> None:
    """The overlap shows the same closes: nothing is rescaled."""
    merged, adjusted = merge(bars([1, 2, 3]), bars([2, 3, 4], date(2026, 1, 6)))
    assert closes(merged) == {"2026-01-05": 1, "2026-01-06": 2, "2026-01-07": 3, "2026-01-08": 4}
    assert not adjusted


def test_a_fetch_without_news_leaves_the_same_object() -> None:
    """What is aligned from it is not aligned again."""
    known = bars([1, 2, 3])
    assert merge(known, bars([2, 3], date(2026, 1, 6))) == (known, False)
    assert merge(known, bars([2, 3], date(2026, 1, 6)))[0] is known
    assert merge(known, bars([]))[0] is known


def test_a_split_rescales_what_is_kept_before_the_overlap() -> None:
    """Two for one on the 8th: the venue halves everything before; so do we, at once, for the days it did not send."""
    merged, adjusted = merge(bars([100, 102, 104]), bars([51, 52, 53], date(2026, 1, 6)))
    assert closes(merged) == {"2026-01-05": 50, "2026-01-06": 51, "2026-01-07": 52, "2026-01-08": 53}
    assert adjusted


def test_an_event_inside_the_overlap_rescales_by_its_first_day() -> None:
    """The ex-day lies between two overlapping days: older days carry the whole factor, newer ones none."""
    merged, adjusted = merge(bars([100, 102, 52]), bars([51, 52], date(2026, 1, 6)))
    assert closes(merged) == {"2026-01-05": 50, "2026-01-06": 51, "2026-01-07": 52}
    assert adjusted


def test_a_bar_the_venue_took_back_goes() -> None:
    """Between its first and last day what was fetched counts."""
    fetched = History("AAPL", "USD", np.array(["2026-01-05", "2026-01-07"], "datetime64[D]"), np.array([1.0, 3.0]))
    assert closes(merge(bars([1, 2, 3]), fetched)[0]) == {"2026-01-05": 1, "2026-01-07": 3}


def test_another_currency_is_another_history() -> None:
    """Closes in two currencies are never put together."""
    merged, adjusted = merge(bars([1, 2]), bars([7], date(2026, 1, 6), currency="EUR"))
    assert (closes(merged), merged.currency, adjusted) == ({"2026-01-06": 7}, "EUR", False)


@given(
    st.lists(st.floats(0.01, 1e6), min_size=2, max_size=30),
    st.integers(1, 29),
    st.floats(0.01, 100),
)
def test_returns_are_the_same_however_often_the_past_was_adjusted(values: list[float], overlap: int, factor: float) -> None:
    """Kept piece by piece or fetched whole: what risk is computed from does not differ."""
    cut = min(overlap, len(values) - 1)
    whole = bars([value * factor for value in values])
    merged, _ = merge(bars(values[: cut + 1]), bars(whole.closes[max(0, cut - 2) :].tolist(), _day(max(0, cut - 2))))
    np.testing.assert_allclose(merged.closes, whole.closes, rtol=1e-12)
    assert (merged.days == whole.days).all()


def _day(offset: int) -> date:
    return MONDAY + timedelta(days=offset)


async def test_what_was_kept_is_there_in_the_next_process(tmp_path: Path) -> None:
    """Bars, when the source was heard, and what it prices."""
    first = await keeper(tmp_path)
    assert first.before("main") is None
    await first.keep("main", snapshot(bars([1, 2, 3]), prices=["AAPL", "MSFT"]))
    await first.close()
    second = await keeper(tmp_path)
    assert [closes(each) for each in second.bars("main")] == [{"2026-01-05": 1, "2026-01-06": 2, "2026-01-07": 3}]
    assert second.before("main") == {"AAPL", "MSFT"}
    assert second.kept("main").succeeded_at == START
    assert set(second.kept("main").histories) == {"AAPL"}
    await second.close()


async def test_a_readjusted_symbol_is_offered_again_only_when_fetched_whole(tmp_path: Path) -> None:
    """Rescaled numbers are right to rounding; the venue's own are exact."""
    kept = await keeper(tmp_path)
    await kept.keep("main", snapshot(bars([100, 102, 104]), bars([7, 8], symbol="MSFT")))
    await kept.keep("main", snapshot(bars([51, 52, 53], date(2026, 1, 6))))
    assert set(kept.kept("main").histories) == {"MSFT"}
    assert [each.symbol for each in kept.bars("main")] == ["AAPL", "MSFT"]
    await kept.keep("main", snapshot(bars([50, 51, 52, 53])))
    assert set(kept.kept("main").histories) == {"AAPL", "MSFT"}
    await kept.close()


async def test_bars_are_the_same_objects_while_nothing_changes(tmp_path: Path) -> None:
    """A cycle compares them by identity."""
    kept = await keeper(tmp_path)
    fetched = snapshot(bars([1, 2]))
    await kept.keep("main", fetched)
    before = kept.bars("main")
    await kept.keep("main", fetched)
    assert kept.bars("main") is before
    await kept.keep("main", snapshot(bars([1, 2])))
    assert all(one is other for one, other in zip(kept.bars("main"), before, strict=True))
    await kept.close()


async def test_a_name_given_to_a_source_of_another_type_starts_anew(tmp_path: Path) -> None:
    """Another venue's symbols may mean other things."""
    first = await keeper(tmp_path)
    await first.keep("main", snapshot(bars([1, 2])))
    await first.close()
    second = await keeper(tmp_path, kind="exchange")
    assert second.bars("main") == ()
    assert second.before("main") is None
    await second.close()


async def test_bars_grow_stale_a_week_after_their_newest_day(tmp_path: Path) -> None:
    """A long weekend does not make them stale; a venue lost for more than a week does."""
    clock = ManualClock(START)
    kept = await keeper(tmp_path, clock)
    assert kept.is_stale("main")
    await kept.keep("main", snapshot(bars([1.0])))
    clock.jump(6 * 86400)
    assert not kept.is_stale("main")
    clock.jump(2 * 86400)
    assert kept.is_stale("main")
    await kept.close()


async def test_a_damaged_file_is_set_aside_and_everything_is_fetched_again(tmp_path: Path) -> None:
    """A cache that cannot be read must not keep the exporter from starting; the operator keeps the evidence."""
    first = await keeper(tmp_path)
    await first.keep("main", snapshot(bars([1, 2])))
    await first.close()
    (tmp_path / FILE).write_bytes(b"not a database" * 1000)
    second = await keeper(tmp_path)
    assert second.bars("main") == ()
    await second.keep("main", snapshot(bars([1, 2])))
    await second.close()
    assert await asyncio.to_thread((tmp_path / f"{FILE}.damaged-20260105T120000Z").is_file)


async def test_what_cannot_be_written_is_kept_in_memory_and_written_later(tmp_path: Path) -> None:
    """A full disk costs the next process its memory, not this one its numbers."""
    kept = await keeper(tmp_path)
    real, broken = kept._store, _Broken()
    kept._store = broken
    await kept.keep("main", snapshot(bars([1, 2])))
    assert len(kept.bars("main")) == 1
    kept._store = real
    await kept.keep("main", snapshot())
    await kept.close()
    second = await keeper(tmp_path)
    assert closes(second.bars("main")[0]) == {"2026-01-05": 1, "2026-01-06": 2}
    await second.close()


class _Broken:
    async def write(self, work: Any, **_: Any) -> None:
        raise StoreUnavailable("disk full")


async def test_the_time_of_the_last_success_is_written_once_a_minute(tmp_path: Path) -> None:
    """A source read ten times a second does not cost ten syncs a second."""
    clock = ManualClock(START)
    kept = await keeper(tmp_path, clock)
    counted = _Counting(kept._store)
    kept._store = counted
    for _ in range(3):
        await kept.keep("main", snapshot())
    assert counted.writes == 1
    clock.jump(61)
    await kept.keep("main", snapshot())
    assert counted.writes == 2
    await kept.close()


class _Counting:
    def __init__(self, store: Any) -> None:
        self.writes, self._store = 0, store

    async def write(self, work: Any, **_: Any) -> Any:
        self.writes += 1
        return await self._store.write(work)

    async def close(self) -> None:
        await self._store.close()


async def test_bars_of_a_source_that_does_not_want_them_kept_are_not(tmp_path: Path) -> None:
    """A file that is read whole each time needs no copy; what it prices is remembered."""
    kept = await keeper(tmp_path)
    await kept.keep("main", snapshot(bars([1, 2])), bars=False)
    assert kept.bars("main") == ()
    assert kept.before("main") == {"AAPL"}
    await kept.close()


async def test_the_page_shows_how_much_is_kept_and_until_when(tmp_path: Path) -> None:
    """Symbols, and the newest day."""
    kept = await keeper(tmp_path)
    await kept.keep("main", snapshot(bars([1, 2]), bars([5], symbol="MSFT")))
    values = {sample.family: sample.value for sample in kept.samples()}
    assert values == {SYMBOLS: 2.0, NEWEST: datetime(2026, 1, 6, tzinfo=UTC).timestamp()}
    await kept.close()


@pytest.mark.parametrize("closes_of", [[0.0, 1.0], [float("inf"), 1.0]])
def test_a_close_that_is_no_price_rescales_nothing(closes_of: list[float]) -> None:
    """A factor of zero or infinity would wipe out the past."""
    merged, _ = merge(bars([1, 2, 3]), replace(bars([1, 2], date(2026, 1, 6)), closes=np.array(closes_of)))
    assert merged.closes[0] == 1.0
