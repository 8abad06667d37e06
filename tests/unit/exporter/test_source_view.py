"""What people are shown of a source: every state, nothing secret, and everything in JSON's words."""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Literal

import numpy as np
import pytest

from deskwatch.clock import ManualClock
from deskwatch.config import Secret
from deskwatch.errors import Reason
from exporter.failure import Failure
from exporter.reading import Family
from exporter.snapshot import History, Kind, Position, Price, Rejected, Snapshot, StrategyReturns
from exporter.source import Kept, Source, SourceConfig
from exporter.source_view import details, presentable, summary
from exporter.tracked import Tracked

AT = datetime(2026, 1, 1, 12, tzinfo=UTC)
SIZE = Family("desk_size", "", ("part",))


class Config(SourceConfig):
    """A source made for a test."""

    type: Literal["made_up"] = "made_up"
    key: Secret | None = None


class MadeUp(Source[Config]):
    """Provides a bit of everything."""

    kind = "exchange"

    @property
    def provides(self) -> frozenset[Kind]:
        """Some kinds."""
        return frozenset({"positions", "prices", "histories", "returns", "measures"})

    @property
    def quota_used_ratio(self) -> float | None:
        """A quarter."""
        return 0.251

    async def fetch(self, kept: Kept) -> Snapshot:
        """Never asked."""
        raise NotImplementedError


def tracked(**settings: Any) -> Tracked:
    """A source nobody has fetched."""
    config = Config(**{"name": "venue", "stale_after_seconds": 60, "jitter_ratio": 0, "breaker": {"failures": 2}, **settings})
    return Tracked(MadeUp(config, ManualClock()), 0.0, random.Random(1))  # noqa: S311


def deliver(source: Tracked, now: float, **records: Any) -> None:
    """A good fetch that took two seconds."""
    source.begin(now - 2, in_turn=True)
    source.succeeded(Snapshot(AT, AT, **records), AT, now - 2, now, in_turn=True)


def fail(source: Tracked, now: float, message: str = "venue refused the connection") -> None:
    """A failed one."""
    source.begin(now - 1, in_turn=True)
    source.failed(Failure(Reason.REFUSED, message), now - 1, now)


def test_a_source_nobody_has_asked_yet() -> None:
    """Not broken, just new."""
    row = summary(tracked(), 0.0)
    assert (row["state"], row["age"], row["fetches"], row["failed_ago"], row["next"]) == ("not read yet", None, 0, None, "0 s")


def test_a_source_that_delivers() -> None:
    """Its age, when it is asked next, what it left out."""
    source = tracked(interval_seconds=30)
    deliver(source, 10.0, rejected=(Rejected("positions[0]", "missing", "positions"),))
    row = summary(source, 15.0)
    assert (row["state"], row["age"], row["stale_after"], row["next"]) == ("up", "5 s", "1 min", "15 s")
    assert (row["data_at"], row["quota"], row["rejected"], row["breaker"], row["failed_ago"]) == (AT, 25, 1, "closed", None)


def test_a_source_that_fails_turns_stale_and_its_breaker_opens() -> None:
    """Each is shown by itself: the numbers of a failing one still count until it is stale."""
    source = tracked()
    fail(source, 1.0)
    assert summary(source, 2.0)["state"] == "never read"
    deliver(source, 10.0)
    fail(source, 20.0)
    row = summary(source, 25.0)
    assert (row["state"], row["breaker"], row["error"], row["failed_ago"]) == (
        "failing", "closed", "venue refused the connection", "5 s",
    )  # fmt: skip
    fail(source, 30.0)
    row = summary(source, 80.0)
    assert (row["state"], row["breaker"], row["age"], row["failures"], row["fetches"]) == ("stale", "open", "1 min 10 s", 3, 4)
    source.begin(81.0, in_turn=True)
    assert summary(source, 81.0)["breaker"] == "half-open"
    deliver(source, 83.0)
    row = summary(source, 83.0)
    assert (row["state"], row["breaker"], row["failed_ago"]) == ("up", "closed", "53 s")


async def test_a_fetch_under_way_is_now() -> None:
    """Not `in 0 s`."""
    source = tracked()
    async with source.busy:
        assert summary(source, 5.0)["next"] == "now"


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0, "0 s"), (59.4, "59 s"), (59.6, "1 min"), (61, "1 min 1 s"), (3600, "1 h"), (4800, "1 h 20 min"), (97200, "1 d 3 h")],
)
def test_a_span_of_time_is_readable(seconds: float, shown: str) -> None:
    """From seconds to days."""
    source = tracked()
    deliver(source, 0.0)
    assert summary(source, seconds)["age"] == shown


def test_everything_is_said_in_json() -> None:
    """Decimals exactly as text, times in ISO, arrays by their ends, samples by name; only so many records of a kind."""
    source = tracked(key="s3cr3t")
    positions = tuple(Position("carry", f"S{n}", Decimal("0.100"), "EUR") for n in range(5))
    days = np.array(["2026-01-01", "2026-01-02"], "datetime64[D]")
    deliver(
        source, 10.0, positions=positions, prices=(Price("S0", Decimal("1E+3"), "EUR", AT),),
        histories=(History("S0", "EUR", days, np.array([1.0, 2.5])),), returns=(StrategyReturns("m", "live", np.array([])),),
        measures=(SIZE.sample("a", value=float("nan")),), notes={"version": "3", "token": "it was s3cr3t!"},
        rejected=(Rejected("positions[9].key='s3cr3t'", "missing", "positions", "carry"),),
    )  # fmt: skip
    found = presentable(details(source, 15.0, 2, (History("S0", "EUR", days, np.array([1.0, 2.5])),)), source.config)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["records"] == {"positions": 5, "prices": 1, "histories": 1, "returns": 1, "measures": 1}
    assert [each["quantity"] for each in found["sample"]["positions"]] == ["0.100", "0.100"]
    assert found["sample"]["prices"][0]["price"] == "1000"
    assert found["sample"]["prices"][0]["at"] == "2026-01-01T12:00:00+00:00"
    (history,) = found["sample"]["histories"]
    assert history["days"] == {"count": 2, "first": "2026-01-01", "last": "2026-01-02"}
    assert history["closes"] == {"count": 2, "first": 1.0, "last": 2.5}
    assert found["sample"]["returns"][0]["values"] == {"count": 0}
    assert found["sample"]["measures"] == [{"family": "desk_size", "labels": {"part": "a"}, "value": "nan"}]
    assert found["kept_histories"] == {"symbols": 1, "bars": 2, "oldest": "2026-01-01", "newest": "2026-01-02"}
    assert found["quota_used_ratio"] == 0.251
    assert (found["age_seconds"], found["succeeded"], found["error"], found["duration_seconds"]) == (5.0, True, None, 2.0)
    assert found["rejected"] == [{
        "record": "positions[9].key='***'", "reason": "missing", "kind": "positions", "portfolio": "carry",
    }]  # fmt: skip
    assert found["rejected_so_far"] == {"missing": 1}
    assert found["notes"] == {"version": "3", "token": "it was ***!"}
    assert "log" not in found


def test_a_failure_is_shown_beside_the_last_good_fetch() -> None:
    """What was delivered before, and why nothing was now; no secret a library repeats."""
    source = tracked(key="s3cr3t")
    deliver(source, 10.0, positions=(Position("carry", "S", Decimal(1), "EUR"),))
    fail(source, 20.0, "no answer to https://venue/?key=s3cr3t")
    found = presentable(details(source, 26.0, 10, (), [{"event": "asked with s3cr3t"}]), source.config)
    assert (found["succeeded"], found["error"]) == (False, "no answer to https://venue/?key=***")
    assert found["last_failure"] == {"seconds_ago": 6.0, "error": "no answer to https://venue/?key=***"}
    assert found["failures"] == {"refused": 1}
    assert found["breaker"] == {"state": "closed", "failures_in_a_row": 1}
    assert found["records"]["positions"] == 1
    assert found["log"] == [{"event": "asked with ***"}]
    assert found["kept_histories"] == {"symbols": 0, "bars": 0}
