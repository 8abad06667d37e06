"""What a channel is asked to say: frozen, serialisable (it lies in the store between planning and sending), untrusted text.

A channel escapes for its own medium; nothing here is escaped, truncated or formatted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Literal, cast

import msgspec

MessageKind = Literal["trigger", "resolve", "repeat", "remediation", "notice", "test"]
"""`trigger`: something newly fires. `resolve`: something ended and nothing newly fires. `repeat`: still firing, said again.
`remediation`: what a hook did or would do. `notice`: the receiver itself needs a person; every channel takes it.
`test`: somebody pressed a Test button."""
Priority = Literal["P0", "P1", "P2", "INFO"]


class Link(msgspec.Struct, frozen=True):
    """A named http(s) address."""

    title: str
    url: str


class Enrichment(msgspec.Struct, frozen=True, kw_only=True):
    """What was added to an alert: `steps` are the first steps of its runbook, plain text."""

    runbook_url: str = ""
    steps: tuple[str, ...] = ()
    links: tuple[Link, ...] = ()


class EpisodeView(msgspec.Struct, frozen=True, kw_only=True):
    """One episode as it stood when the message was planned."""

    episode_id: str
    """Unique per episode: a new firing after a resolve has a new one."""
    identity: str
    """The same for every episode of this alert identity: PagerDuty's dedup key."""
    status: Literal["firing", "resolved"]
    labels: dict[str, str]
    annotations: dict[str, str] = {}
    starts_at: datetime
    resolved_at: datetime | None = None
    generator_url: str = ""
    enrichment: Enrichment = Enrichment()

    @property
    def name(self) -> str:
        """Label `alertname`."""
        return self.labels.get("alertname", "alert")

    @property
    def summary(self) -> str:
        """Annotation `summary`, else the alert's name."""
        return self.annotations.get("summary") or self.name


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """One delivery's content.

    Args:
        kind: what happened.
        dedup_key: messages with the same key are sent in order; the identity for a channel per episode, the group's
            for one per group.
        priority: the most urgent of the episodes.
        severity: `critical`, `warning`, `info` or what the alert says.
        episodes: those concerned: for a group every alert of it, firing first; for a channel per episode exactly one.
        changed: episode ids that changed with this message.
        group_labels: what Alertmanager grouped by.
        truncated: alerts the sender cut off.
        external_url: Alertmanager's own address.
        text: for `remediation` what the hook said, for `notice` what happened; its first line is a sentence.
        hook: for `remediation` the hook's name.
        run_mode: for `remediation` dry_run or live.
        run_outcome: for `remediation` how the run ended.
        delivery_id: the same for every attempt at this delivery: what a receiver of messages recognises a duplicate by.
        attempt: 1, 2, ...; above 1 an earlier attempt may have arrived already.
    """

    kind: MessageKind
    dedup_key: str
    priority: Priority
    severity: str
    episodes: tuple[EpisodeView, ...]
    changed: tuple[str, ...] = ()
    group_labels: dict[str, str] = {}
    truncated: int = 0
    external_url: str = ""
    text: str = ""
    hook: str = ""
    run_mode: str = ""
    run_outcome: str = ""
    delivery_id: str = ""
    attempt: int = 1

    @property
    def possible_duplicate(self) -> bool:
        """Whether an earlier attempt may have arrived."""
        return self.attempt > 1

    @property
    def title(self) -> str:
        """One line: what happened to what, e.g. `[FIRING:2] ExpectedShortfallExceeded carry`."""
        firing = sum(episode.status == "firing" for episode in self.episodes)
        names = sorted({episode.name for episode in self.episodes})
        portfolios = {episode.labels.get("portfolio", "") for episode in self.episodes}
        whose = f" {portfolios.pop()}" if len(portfolios) == 1 and portfolios != {""} else ""
        subject = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "") + whose
        if self.kind == "notice":
            return f"[NOTICE] {self.text.partition(chr(10))[0]}"
        if self.kind == "remediation":
            return f"[HOOK {self.hook}] {subject}"
        if self.kind == "test":
            return f"[TEST] {subject}"
        return f"[FIRING:{firing}] {subject}" if firing else f"[RESOLVED] {subject}"


encode = msgspec.json.Encoder().encode
decode = msgspec.json.Decoder(Message).decode


def priority_of(labels: Mapping[str, str]) -> Priority:
    """Label `priority`, else what its severity implies: critical P0, warning P2, anything else INFO."""
    given = labels.get("priority", "")
    if given in ("P0", "P1", "P2", "INFO"):
        return cast("Priority", given)
    severity = labels.get("severity", "")
    return "P0" if severity == "critical" else "P2" if severity == "warning" else "INFO"


_RANK: dict[str, int] = {"P0": 0, "P1": 1, "P2": 2, "INFO": 3}
_SEVERITY_RANK = {"critical": 0, "warning": 1, "info": 2}


def most_urgent(priorities: Iterable[Priority]) -> Priority:
    """The most urgent of several; INFO for none."""
    return min(priorities, key=_RANK.__getitem__, default="INFO")


def most_severe(severities: Iterable[str]) -> str:
    """The most severe of several; one Prometheus does not know ranks last, none is `info`."""
    return min(severities, key=lambda severity: _SEVERITY_RANK.get(severity, 3), default="info")


def urgency(message: Message) -> int:
    """Order of sending within a channel, 0 first: what is critical, then by priority."""
    return 0 if message.severity == "critical" else _RANK[message.priority]
