"""How far behind in time a consumer group is: since when its committed offset is not the newest any more.

Known from the ends of the partitions as this process has seen them, and from nothing else: what was written before it first
looked has no time. Keeps a bounded past of each partition; the older it is, the coarser.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection
from dataclasses import dataclass, field
from itertools import pairwise

from deskwatch.events.cluster import Partition

COARSENESS = 0.05
"""Share of its age to which a time may be off: so coarse the past becomes, and so the number of ends kept grows with the
logarithm of its length only, to some 350 for ten years."""
FEW = 64
"""Ends that are not worth thinning out."""


@dataclass(slots=True)
class _End:
    """An end of a partition: the offset of the next message, and the first and the last time it was seen there."""

    offset: int
    first: float
    last: float


@dataclass(slots=True)
class _Past:
    """Where a partition has ended, oldest first, offsets ascending; `due` is the number of them at which it is thinned out."""

    ends: list[_End] = field(default_factory=list)
    due: int = FEW


class Ends:
    """The ends of partitions over time; times are monotonic seconds."""

    def __init__(self) -> None:
        self._past: dict[Partition, _Past] = {}

    def saw(self, partition: Partition, offset: int, at: float) -> None:
        """Note where the partition ends. One that ends earlier than before has been cut or made anew: its past is void."""
        past = self._past.setdefault(partition, _Past())
        ends = past.ends
        if ends and offset < ends[-1].offset:
            ends.clear()
        if ends and offset == ends[-1].offset:
            ends[-1].last = at
            return
        ends.append(_End(offset, at, at))
        if len(ends) >= past.due:
            past.ends = _thinned(ends, at)
            past.due = max(FEW, 2 * len(past.ends))

    def keep(self, partitions: Collection[Partition]) -> None:
        """Forget all others."""
        for partition in self._past.keys() - set(partitions):
            del self._past[partition]

    def behind_seconds(self, partition: Partition, committed: int, now: float) -> float | None:
        """How long ago the committed offset was where the partition ended: 0 where it still is.

        Between two looks messages are taken to have come evenly. None where the partition was past it at the first look.
        """
        ends = self._past.get(partition, _Past()).ends
        after = bisect_right(ends, committed, key=lambda end: end.offset)
        if ends and after == len(ends):
            return 0.0
        if not after:
            return None
        before, beyond = ends[after - 1], ends[after]
        share = (committed - before.offset) / (beyond.offset - before.offset)
        return now - (before.last + share * (beyond.first - before.last))


def _thinned(ends: list[_End], now: float) -> list[_End]:
    """The ends without those between whose neighbours no more time lies than the age of the younger one lets be off."""
    kept = ends[:1]
    for end, following in pairwise(ends[1:]):
        if following.first - kept[-1].last > COARSENESS * (now - following.first):
            kept.append(end)
    return [*kept, ends[-1]]
