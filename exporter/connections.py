"""Asks everything section `exporter` names once: each source for one fetch, each Alertmanager and the receiver for its state.

As the running exporter would - with the same deadlines, and a source that fails touches no other - but nothing is kept and
nothing is posted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import httpx

from deskwatch.clock import SystemClock
from deskwatch.config import Secret
from deskwatch.connections import Finding
from deskwatch.errors import ConfigError, Permanent, Reason, Retryable
from deskwatch.http import HttpConfig, as_retryable, client, raise_for_failure
from deskwatch.redaction import Redaction
from exporter.config import ExporterConfig
from exporter.poller import Poller, Tracked
from exporter.runtime import make_sources
from exporter.snapshot import Snapshot

EXAMPLES = 3
"""Rejected records shown of each reason."""


async def check(config: ExporterConfig) -> Sequence[Finding]:
    """Ask them all at the same time."""
    detector = config.detector
    alertmanagers = [
        _reached("Alertmanager", each, each.base_url, "/api/v2/status", _bearer(each.authorization))
        for each in detector.alertmanagers
    ]
    receivers = [_reached("receiver", each, each.base_url, "/-/ready", {}) for each in (detector.receiver,) if each]
    found, others = await asyncio.gather(_sources(config), asyncio.gather(*alertmanagers, *receivers))
    return (*found, *others)


async def _sources(config: ExporterConfig) -> list[Finding]:
    clock = SystemClock()
    try:
        sources = await asyncio.to_thread(make_sources, config, clock)
    except ConfigError as error:
        return [Finding("sources", ok=False, said=str(fault)) for fault in error.faults]
    poller = Poller(sources, clock)
    try:
        tracked = await asyncio.gather(*(poller.inspect(name) for name in list(poller.sources)))
        return [_about(each) for each in tracked]
    finally:
        await poller.replace(())


def _about(tracked: Tracked) -> Finding:
    subject, redacted = f"source {tracked.name} ({tracked.config.type})", Redaction(tracked.config)
    snapshot = tracked.snapshot
    if not tracked.up or snapshot is None:
        reason = next((reason.value for reason in tracked.failures), Reason.INTERNAL.value)
        return Finding(subject, ok=False, said=redacted(f"{reason}: {tracked.last_error}"))
    said = [f"{tracked.duration_seconds or 0.0:.2f} s", _counts(tracked, snapshot)]
    if snapshot.data_at:
        said.append(f"market time {snapshot.data_at:%Y-%m-%d %H:%M:%S} UTC")
    if (quota := tracked.quota_used_ratio) is not None:
        said.append(f"{quota:.0%} of the rate limit used")
    return Finding(subject, ok=True, said="; ".join(said), more=tuple(redacted(line) for line in _left_out(snapshot)))


def _counts(tracked: Tracked, snapshot: Snapshot) -> str:
    counts = {kind: len(getattr(snapshot, kind)) for kind in sorted(tracked.source.provides)}
    return ", ".join(f"{count} {kind}" for kind, count in counts.items()) or "no records"


def _left_out(snapshot: Snapshot) -> list[str]:
    """One line for each reason, with examples."""
    examples: dict[str, list[str]] = {}
    for each in snapshot.rejected:
        examples.setdefault(each.reason, []).append(each.record)
    return [
        f"{len(records)} left out, {reason}: {'; '.join(records[:EXAMPLES])}{'; ...' if len(records) > EXAMPLES else ''}"
        for reason, records in sorted(examples.items())
    ]


def _bearer(secret: Secret | None) -> Mapping[str, str]:
    return {"Authorization": f"Bearer {secret.get_secret_value()}"} if secret else {}


async def _reached(what: str, config: HttpConfig, url: str, path: str, headers: Mapping[str, str]) -> Finding:
    """Whether the address answers a GET as it should."""
    subject, redacted = f"{what} {url}", Redaction(config)
    try:
        made = await asyncio.to_thread(client, config, base_url=url, headers=headers)
        async with made, asyncio.timeout(config.timeout_seconds):
            response = await made.get(path)
        raise_for_failure(response, what=what)
    except TimeoutError:
        return Finding(subject, ok=False, said=f"{Reason.TIMEOUT.value}: no answer within {config.timeout_seconds:g} s")
    except httpx.HTTPError as error:
        failure: Retryable | Permanent = as_retryable(error, what=what)
    except (Retryable, Permanent) as error:
        failure = error
    else:
        return Finding(subject, ok=True, said=f"answered {response.status_code}")
    return Finding(subject, ok=False, said=redacted(f"{failure.reason.value}: {failure}"))
