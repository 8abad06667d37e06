"""How far behind in time a group is: what was seen, nothing that was not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deskwatch.events.cluster import Partition
from exporter.normal.kafka_lag import COARSENESS, FEW, Ends

P = Partition("orders", 0)


def seen(*ends: tuple[float, int]) -> Ends:
    """The partition ended there, at these times."""
    found = Ends()
    for at, offset in ends:
        found.saw(P, offset, at)
    return found


@pytest.mark.parametrize(
    ("committed", "behind"),
    [(120, 0.0), (130, 0.0), (110, 5.0), (100, 10.0), (105, 7.5), (99, None)],
    ids=["at the end", "read since", "at the look before", "two looks before", "between", "before our time"],
)
def test_the_time_since_the_commit_was_the_end(committed: int, behind: float | None) -> None:
    """Ended at 100 at 10 s, at 110 at 15 s, at 120 at 20 s, which is now."""
    assert seen((10, 100), (15, 110), (20, 120)).behind_seconds(P, committed, 20) == behind


def test_a_partition_never_seen_is_not_known() -> None:
    """Not 0."""
    assert Ends().behind_seconds(P, 5, 10) is None


def test_a_message_after_a_quiet_time_counts_from_the_last_look_before_it() -> None:
    """The end stood at 100 from 10 s to 500 s; the message came between 500 s and 515 s."""
    ends = seen(*((at, 100) for at in range(10, 501, 10)), (515, 101))
    assert ends.behind_seconds(P, 100, 515) == 15
    assert ends.behind_seconds(P, 100, 815) == 315


def test_a_partition_made_anew_starts_anew() -> None:
    """Its old offsets say nothing about its new ones."""
    ends = seen((10, 100), (15, 200), (20, 300), (30, 5), (40, 9))
    assert ends.behind_seconds(P, 7, 40) == 5
    assert ends.behind_seconds(P, 5, 40) == 10
    assert ends.behind_seconds(P, 4, 40) is None
    assert ends.behind_seconds(P, 150, 40) == 0.0


def test_a_group_that_stands_still_is_known_to_be_behind_for_ever() -> None:
    """The past is thinned out, never cut: its first moment stays exact, the rest to a few per cent of its age.

    Messages come in bursts: three a second for a hundred seconds, then none for a hundred.
    """
    ends, offset, at_second = Ends(), 100, []
    for second in range(20_000):
        offset += 3 if second % 200 < 100 else 0
        ends.saw(P, offset, float(second))
        at_second.append(offset)
        assert len(ends._past[P].ends) < 400
    assert ends.behind_seconds(P, at_second[0], 19_999) == 19_999
    for ago in range(50, 19_000, 50):
        before, end, after = at_second[19_998 - ago : 20_001 - ago]
        if before < end < after:
            assert ends.behind_seconds(P, end, 19_999) == pytest.approx(ago, rel=COARSENESS, abs=1), ago


def test_a_quiet_time_long_ago_is_not_smeared_over() -> None:
    """Who has read everything on Friday evening is behind since Monday morning, not since some time in between."""
    ends, friday, monday = Ends(), 1_000.0, 200_000.0
    for number in range(3):
        ends.saw(P, number, friday + number)
    ends.saw(P, 2, monday)
    for number in range(1, 2_000):
        ends.saw(P, 2 + number, monday + number)
    assert ends.behind_seconds(P, 2, monday + 1_999) == 1_999


def test_however_unevenly_messages_come_a_time_is_off_by_a_twentieth_at_most() -> None:
    """Single messages, and every so often five thousand at once."""
    ends, offset, at_second = Ends(), 0, []
    for second in range(10_000):
        offset += 5_000 if second % 37 == 0 else 1
        ends.saw(P, offset, float(second))
        at_second.append(offset)
    for ago in range(1, 9_999):
        assert ends.behind_seconds(P, at_second[9_999 - ago], 9_999) == pytest.approx(ago, rel=COARSENESS), ago


def test_partitions_that_are_gone_are_forgotten() -> None:
    """Topics come and go for years."""
    ends = seen((10, 100))
    other = Partition("fills", 0)
    ends.saw(other, 5, 10)
    ends.keep([other])
    assert ends.behind_seconds(P, 100, 20) is None
    assert ends.behind_seconds(other, 5, 20) == 0.0


@given(st.lists(st.integers(0, 50), min_size=1, max_size=300), st.data())
def test_the_estimate_lies_between_the_two_looks_the_offset_was_passed_in(steps: list[int], data: st.DataObject) -> None:
    """Whatever the ends were: never outside, never negative, and later commits are never longer ago."""
    ends, offset, looks = Ends(), 1000, []
    for at, step in enumerate(steps):
        offset += step
        ends.saw(P, offset, float(at))
        looks.append((float(at), offset))
    now = float(len(steps))
    committed = data.draw(st.integers(looks[0][1], offset))
    behind = ends.behind_seconds(P, committed, now)
    assert behind is not None
    if committed == offset:
        assert behind == 0.0
        return
    last_not_past = max(at for at, end in looks if end <= committed)
    first_past = min(at for at, end in looks if end > committed)
    off = 0.0 if len(steps) < FEW else COARSENESS * (now - last_not_past)
    assert now - first_past - off <= behind <= now - last_not_past + off
    later = ends.behind_seconds(P, committed + 1, now)
    assert later is not None
    assert 0.0 <= later <= behind
