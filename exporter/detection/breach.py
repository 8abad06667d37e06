"""Which desk limits are breached for long enough: the life of each alert, reading by reading. Pure; sends nothing.

A breach is pending for the rule's `for`, then fires. While its number is missing it stands as it was, for `hold_seconds`:
lost data is not recovery. Only a reading inside the limit ends it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from exporter.detection.rulefile import LimitRule, render
from exporter.limits import LIMIT, UTILIZATION
from exporter.reading import Reading


class Key(NamedTuple):
    """What identifies an alert of the second detector."""

    alert: str
    portfolio: str
    limit: str


@dataclass(frozen=True, slots=True)
class Breach:
    """A firing alert: the rule, the limit it is about, the utilization and since when it fires."""

    key: Key
    rule: LimitRule
    value: float
    since: datetime

    def labels(self, external: Mapping[str, str]) -> dict[str, str]:
        """The labels Prometheus would give it: the series', the rule's, then external ones that are still free."""
        series = {"portfolio": self.key.portfolio, "limit": self.key.limit}
        own = {name: render(text, series, self.value, external) for name, text in self.rule.labels.items()}
        found = {**external, **series, **own, "alertname": self.key.alert}
        return {name: text for name, text in found.items() if text}

    def annotations(self, external: Mapping[str, str]) -> dict[str, str]:
        """The rule's annotations, rendered with the series' labels."""
        series = {"portfolio": self.key.portfolio, "limit": self.key.limit}
        return {name: render(text, series, self.value, external) for name, text in self.rule.annotations.items()}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one reading says.

    Args:
        firing: alerts that stand.
        inside: alerts whose number is known and inside its limit.
        watched: every alert that could be; one that is not among them is about a rule or limit no longer configured.
    """

    firing: tuple[Breach, ...] = ()
    inside: frozenset[Key] = frozenset()
    watched: frozenset[Key] = frozenset()


@dataclass(slots=True)
class _Life:
    """One alert while its number is above the threshold, or was when last known. Times are monotonic seconds."""

    began: float
    seen: float
    value: float
    fired_at: datetime | None = None


class Breaches:
    """The lives of all alerts.

    Args:
        rules: from the rule files.
        hold_seconds: how long a breach whose number went missing stands.
    """

    def __init__(self, rules: Sequence[LimitRule], hold_seconds: float) -> None:
        self._rules = rules
        self._hold_seconds = hold_seconds
        self._lives: dict[Key, _Life] = {}

    def replace(self, rules: Sequence[LimitRule], hold_seconds: float) -> None:
        """Go on by other rules. What is pending or fires goes on where a rule and a limit of that name are still there."""
        self._rules, self._hold_seconds = rules, hold_seconds

    def step(self, reading: Reading, monotonic: float) -> Verdict:
        """Go on by one reading.

        Args:
            reading: of this cycle.
            monotonic: seconds, never less than at the step before.
        """
        values = {sample.labels: sample.value for sample in reading.of(UTILIZATION)}
        limits = [sample.labels for sample in reading.of(LIMIT)]
        watched = {Key(rule.alert, *limit): rule for rule in self._rules for limit in limits if rule.covers(*limit)}
        inside = frozenset(
            key for key, rule in watched.items() if (value := values.get(key[1:])) is not None and value <= rule.threshold
        )
        for key in [key for key in self._lives if key not in watched or key in inside]:
            del self._lives[key]
        for key in watched.keys() - inside:
            self._live(key, values.get(key[1:]), monotonic)
        firing = tuple(self._firing(watched, reading.at, monotonic))
        return Verdict(firing, inside, frozenset(watched))

    def _live(self, key: Key, value: float | None, now: float) -> None:
        life = self._lives.get(key)
        if value is None:
            if life is not None and now - life.seen > self._hold_seconds:
                del self._lives[key]
        elif life is None:
            self._lives[key] = _Life(now, now, value)
        else:
            life.seen, life.value = now, value

    def _firing(self, watched: Mapping[Key, LimitRule], at: datetime, now: float) -> list[Breach]:
        firing = []
        for key, rule in watched.items():
            life = self._lives.get(key)
            # As in Prometheus, a longer `for` does not make what fires pending again.
            if life is None or (life.fired_at is None and now - life.began < rule.for_seconds):
                continue
            life.fired_at = life.fired_at or at
            firing.append(Breach(key, rule, life.value, life.fired_at))
        return firing
