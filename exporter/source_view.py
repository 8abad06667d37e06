"""What people are shown of a source: its state on the landing page, everything about it under `/debug/source`.

Answers from what the poller knows already. Never a secret: what the source's configuration keeps secret is blotted out
wherever a venue, a library or a log line repeats it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deskwatch.redaction import Redaction
from exporter.poller import Tracked
from exporter.reading import Sample
from exporter.snapshot import History
from exporter.source import SourceConfig

MOST_REJECTED = 100


def summary(tracked: Tracked, now: float) -> dict[str, Any]:
    """One row of the landing page. `now`: monotonic seconds."""
    age, quota = tracked.age_seconds(now), tracked.quota_used_ratio
    failed = tracked.failed_monotonic
    return {
        "name": tracked.name,
        "type": tracked.config.type,
        "kind": tracked.source.kind,
        "state": _state(tracked, now),
        "breaker": tracked.breaker.state.replace("_", "-"),
        "age": _span(age),
        "stale_after": _span(tracked.config.stale_after_seconds),
        "data_at": tracked.snapshot.data_at if tracked.snapshot else None,
        "next": "now" if tracked.busy.locked() else _span(max(0.0, tracked.schedule.due - now)),
        "quota": None if quota is None else round(quota * 100),
        "fetches": tracked.attempts,
        "failures": sum(tracked.failures.values()),
        "rejected": len(tracked.snapshot.rejected) if tracked.snapshot else 0,
        "error": Redaction(tracked.config)(tracked.last_error),
        "failed_ago": None if failed is None else _span(now - failed),
    }


def _state(tracked: Tracked, now: float) -> str:
    if tracked.snapshot is None:
        return "never read" if tracked.tried or tracked.attempts else "not read yet"
    if tracked.is_stale(now):
        return "stale"
    return "up" if tracked.up else "failing"


def _span(seconds: float | None) -> str | None:
    """`3 s`, `4 min`, `1 h 20 min`, `2 d 3 h`."""
    if seconds is None:
        return None
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, hours, days = whole // 60, whole // 3600, whole // 86400
    if minutes < 60:
        return f"{minutes} min {whole % 60} s" if whole % 60 else f"{minutes} min"
    if hours < 24:
        return f"{hours} h {minutes % 60} min" if minutes % 60 else f"{hours} h"
    return f"{days} d {hours % 24} h" if hours % 24 else f"{days} d"


def details(
    tracked: Tracked, now: float, records: int, bars: Sequence[History], log: Sequence[Mapping[str, Any]] | None = None
) -> dict[str, Any]:
    """Everything about a source; `presentable` makes JSON of it.

    Args:
        tracked: the source.
        now: monotonic seconds.
        records: how many records of each kind are shown.
        bars: the daily bars kept of it.
        log: the lines its last fetch logged; None where they were not captured.
    """
    snapshot, failed = tracked.snapshot, tracked.failed_monotonic
    kinds = sorted(tracked.source.provides)
    return {
        "source": tracked.name,
        "type": tracked.config.type,
        "kind": tracked.source.kind,
        "state": _state(tracked, now),
        "succeeded": tracked.up,
        "error": None if tracked.up else tracked.last_error,
        "last_failure": None if failed is None else {"seconds_ago": now - failed, "error": tracked.last_error},
        "duration_seconds": tracked.duration_seconds,
        "fetched_at": snapshot.fetched_at if snapshot else None,
        "data_at": snapshot.data_at if snapshot else None,
        "age_seconds": tracked.age_seconds(now),
        "stale_after_seconds": tracked.config.stale_after_seconds,
        "next_fetch_in_seconds": max(0.0, tracked.schedule.due - now),
        "fetches": tracked.attempts,
        "failures": {reason.value: count for reason, count in sorted(tracked.failures.items()) if count},
        "breaker": {"state": tracked.breaker.state, "failures_in_a_row": tracked.failures_in_a_row},
        "quota_used_ratio": tracked.quota_used_ratio,
        "records": {kind: len(getattr(snapshot, kind)) for kind in kinds} if snapshot else {},
        "sample": {kind: getattr(snapshot, kind)[:records] for kind in kinds} if snapshot else {},
        "rejected": snapshot.rejected[:MOST_REJECTED] if snapshot else (),
        "rejected_count": len(snapshot.rejected) if snapshot else 0,
        "rejected_so_far": dict(sorted(tracked.rejected.items())),
        "notes": dict(snapshot.notes) if snapshot else {},
        "kept_histories": _about_bars(bars),
        **({} if log is None else {"log": list(log)}),
    }


def presentable(found: Mapping[str, Any], config: SourceConfig) -> dict[str, Any]:
    """The same in JSON's words, without what the configuration keeps secret. Slow for many records."""
    redacted = Redaction(config)
    return {name: redacted(_plain(value)) for name, value in found.items()}


def _about_bars(bars: Sequence[History]) -> dict[str, Any]:
    some = [each for each in bars if each.days.size]
    days = [day for each in some for day in (each.days[0], each.days[-1])]
    ends = {"oldest": str(min(days)), "newest": str(max(days))} if days else {}
    return {"symbols": len(bars), "bars": sum(each.days.size for each in bars), **ends}


def _plain(value: Any) -> Any:
    """The value in JSON's words: Decimals and times as text, arrays by their length and ends."""
    if value is None or isinstance(value, bool | int | str):
        return value.value if isinstance(value, Enum) else value
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else str(float(value))
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, Sample):
        labels = dict(zip(value.family.labels, value.labels, strict=False))
        return {"family": value.family.name, "labels": labels, "value": _plain(value.value)}
    if isinstance(value, Mapping):
        return {str(name): _plain(each) for name, each in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, np.ndarray):
        return _ends(value)
    if isinstance(value, Iterable):
        return [_plain(each) for each in value]
    return format(value, "f") if isinstance(value, Decimal) else str(value)


def _ends(values: NDArray[Any]) -> dict[str, Any]:
    ends = {} if not values.size else {"first": _plain(values[0].item()), "last": _plain(values[-1].item())}
    return {"count": int(values.size), **ends}
