"""The flow of a notification, its order written once.

::

    webhook   authenticate, parse -> journal (group commit) -> 200                                  receiver.webhook
    worker    claim -> parse -> enrich -> one transaction:                                          this module
                episodes -> route, plan -> deliveries; guard -> runs; journal done
    deliver   ledger intent -> send -> ledger outcome, or retry later, or dead letter               receiver.deliver
    remediate guard again -> ledger intent -> isolated run -> ledger outcome -> deliveries          receiver.remediate

Enrichment comes before the transaction because it may wait, and a transaction must not. Everything a notification causes is
committed at once with the mark that it is done: after a crash it is either all there or done again from the journal.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from deskwatch.store import Work
from receiver import deliveries, episodes, journal, runs
from receiver.alerts import Notification, notification_key, parse
from receiver.enrich import Enrichers
from receiver.episode import Sighting, group_key, sightings
from receiver.guard import Guard
from receiver.journal import Entry
from receiver.message import Enrichment
from receiver.plan import Planner, mark_repeats


@dataclass(frozen=True, slots=True)
class Windows:
    """Spans of time that tell copies of a notification from news."""

    duplicate: timedelta
    late_firing_hold: timedelta


@dataclass(frozen=True, slots=True)
class Prepared:
    """A notification read and enriched, ready for its transaction."""

    entry: Entry
    notification: Notification
    sightings: Sequence[Sighting]
    enrichments: Mapping[str, Enrichment]
    releasing: bool
    key: str
    """Equal for a retry or a peer's copy."""


@dataclass(frozen=True, slots=True)
class Settled:
    """What a notification came to. `outcome`: changed, repeat, duplicate, unchanged, test or already_done."""

    outcome: str
    refused_hooks: tuple[str, ...] = ()
    planned: int = 0
    proposed: int = 0


@dataclass(frozen=True, slots=True)
class Pipeline:
    """Everything the worker needs to turn a journal entry into deliveries and runs."""

    enrichers: Enrichers
    planner: Planner
    guard: Guard
    windows: Windows
    identity_ignore: Collection[str]

    async def prepare(self, entry: Entry, released: Collection[str] = ()) -> Prepared:
        """Read and enrich.

        Args:
            entry: a journaled group.
            released: identities whose held firing in this entry is due; then only these are looked at.

        Raises:
            NotJson, NoAlertGroup: the body is not what the webhook took it for.
        """
        notification = parse(entry.body, entry.received_at)
        real = [alert for alert in notification.alerts if not alert.is_test]
        seen = sightings(real, self.identity_ignore)
        if released:
            seen = [sighting for sighting in seen if sighting.identity in released]
        enrichments = await self.enrichers.enrich(notification, seen)
        return Prepared(entry, notification, seen, enrichments, bool(released), notification_key(notification))

    def settle(self, prepared: Prepared, now: datetime) -> Work[Settled]:
        """The transaction: episode changes, deliveries, runs and the mark that the entry is done."""
        entry, notification = prepared.entry, prepared.notification
        if not prepared.releasing and not (yield from journal.is_open(entry.entry_id)):
            return Settled("already_done")
        occasion = episodes.Occasion(
            entry=entry,
            group_key=group_key(notification),
            external_url=notification.external_url,
            truncated=notification.truncated > 0,
            hold=self.windows.late_firing_hold,
            releasing=prepared.releasing,
        )
        applied = yield from episodes.apply(occasion, prepared.sightings)
        changes = mark_repeats(applied.changes, entry.received_at, self.windows.duplicate)
        planned = self.planner.messages(changes, notification, prepared.enrichments)
        tests = [alert for alert in notification.alerts if alert.is_test and not prepared.releasing]
        planned += self.planner.test(tests) if tests else []
        yield from deliveries.plan(planned, entry.correlation_id, now)
        if any(change.what != "seen" for change in changes):
            firing = [change.episode.episode_id for change in changes if change.episode.resolved_at is None]
            yield from episodes.said(firing, entry.received_at)
        proposed = yield from self.guard.consider(changes, entry.correlation_id, now)
        outcome = yield from self._outcome(prepared, {change.what for change in changes})
        detail = "; ".join(f"{count} {why}" for why, count in applied.set_aside.items())
        yield from journal.finish(entry.entry_id, outcome, detail, notification_key=prepared.key)
        return _settled(outcome, planned, proposed)

    def _outcome(self, prepared: Prepared, did: Collection[str]) -> Work[str]:
        if "opened" in did or "closed" in did:
            return "changed"
        if "repeated" in did:
            return "repeat"
        if not prepared.sightings:
            return "test"
        window_us = self.windows.duplicate // timedelta(microseconds=1)
        copy = yield from journal.seen_within(prepared.entry, prepared.key, window_us)
        return "duplicate" if copy else "unchanged"


def _settled(outcome: str, planned: Sequence[deliveries.Planned], proposed: Sequence[runs.Proposed]) -> Settled:
    refused = tuple(each.hook for each in proposed if each.state == "refused")
    queued = sum(each.state == "queued" for each in proposed)
    return Settled(outcome, refused, len(planned), queued)
