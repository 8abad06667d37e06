"""The guard: whether a hook runs for a change of an episode. Policy only; it starts nothing.

In order: enabled, the occasion, the matchers; then, each refusal recorded with its reason: an interrupted run nobody has
settled, the cooldown of this identity, the hook's runs per hour. A live run waits for approval where the hook asks for it, and
always where only the exporter's own detector has seen the breach.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from deskwatch.clock import to_microseconds
from deskwatch.hook import HookSpec, Mode, Occasion
from deskwatch.store import Work
from receiver import runs
from receiver.episode import Change
from receiver.matchers import Matcher, all_match

_OCCASION: dict[str, Occasion] = {"opened": "firing", "closed": "resolved"}
_HOUR = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Policy:
    """One enabled hook: what it declares and what the operator configured."""

    name: str
    spec: HookSpec
    matchers: tuple[Matcher, ...]
    mode: Mode
    cooldown: timedelta
    max_runs_per_hour: int


@dataclass(frozen=True, slots=True)
class Guard:
    """The enabled hooks."""

    policies: tuple[Policy, ...]

    def consider(self, changes: Iterable[Change], correlation_id: str, at: datetime) -> Work[list[runs.Proposed]]:
        """Decide for every change and hook, and store each decision; those stored now."""
        stored = []
        for change in changes:
            occasion = _OCCASION.get(change.what)
            for policy in self.policies:
                if occasion == policy.spec.on and all_match(policy.matchers, change.episode.labels):
                    proposed = yield from _judge(policy, change, occasion, at)
                    if (yield from runs.propose(proposed, correlation_id, at)):
                        stored.append(proposed)
        return stored

    def still_allows(self, run: runs.StoredRun) -> str:
        """Why a run that was decided earlier must not start now; empty where it may."""
        policy = next((policy for policy in self.policies if policy.name == run.hook), None)
        if policy is None:
            return "the hook is no longer enabled"
        if run.mode == "live" and policy.mode != "live":
            return "the hook is no longer live"
        if run.over:
            return "the alert ended before the run began"
        return ""

    def timeout_seconds(self, hook: str) -> float:
        """How long a run of the hook may take."""
        return next(policy.spec.timeout_seconds for policy in self.policies if policy.name == hook)


def _judge(policy: Policy, change: Change, occasion: Occasion, at: datetime) -> Work[runs.Proposed]:
    episode = change.episode
    past = yield from runs.history(policy.name, episode.identity, at - _HOUR)
    refusal = _refusal(policy, past, at)
    if refusal:
        return runs.Proposed(episode, policy.name, occasion, policy.mode, "refused", refusal)
    if policy.mode == "live" and (policy.spec.approval == "required" or episode.direct_only):
        why = "only the exporter's own detector has seen this" if episode.direct_only else "the hook asks for approval"
        return runs.Proposed(episode, policy.name, occasion, policy.mode, "awaiting_approval", why)
    return runs.Proposed(episode, policy.name, occasion, policy.mode, "queued")


def _refusal(policy: Policy, past: runs.History, at: datetime) -> str:
    if past.unresolved:
        return "an earlier run for this alert was interrupted: settle it first"
    if past.last_run_at_us is not None and past.last_run_at_us > to_microseconds(at - policy.cooldown):
        return f"cooldown: it ran for this alert less than {policy.cooldown.total_seconds():g} s ago"
    if past.runs >= policy.max_runs_per_hour:
        return f"rate: it already ran {past.runs} times within the hour, the most is {policy.max_runs_per_hour}"
    return ""
