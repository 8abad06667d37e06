"""What a remediation hook is made of: the `hook` decorator and the `Run` it is handed.

A hook runs in a process of its own, without the receiver's secrets, at most once per episode, in dry run unless the
operator's configuration says `mode: live`. This module declares and asks; it decides nothing (receiver.guard) and starts
nothing (receiver.runner).
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

import httpx

from deskwatch.config import Secret
from deskwatch.errors import Permanent, Reason
from deskwatch.http import HttpConfig, as_retryable, client, raise_for_failure

Approval = Literal["required", "none"]
Occasion = Literal["firing", "resolved"]
Mode = Literal["dry_run", "live"]
_DURATION = re.compile(r"(?P<number>\d+(?:\.\d+)?)(?P<unit>ms|s|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
FunctionT = TypeVar("FunctionT", bound=Callable[..., Awaitable[str]])


def duration_seconds(text: str) -> float:
    """Prometheus's way to write a duration (`20s`, `15m`, `1h30m`) in seconds.

    Raises:
        ValueError: the text is not a duration.
    """
    parts = list(_DURATION.finditer(text))
    if not parts or "".join(part[0] for part in parts) != text:
        raise ValueError(f"must be a duration such as 20s, 15m or 1h30m, was {text!r}")
    return sum(float(part["number"]) * _SECONDS[part["unit"]] for part in parts)


@dataclass(frozen=True, slots=True)
class HookSpec:
    """What a hook declares about itself.

    Args:
        matchers: Alertmanager matchers, all of which the alert's labels must satisfy.
        timeout_seconds: the run is killed after this long.
        cooldown_seconds: least time between two runs for one alert identity.
        max_runs_per_hour: over all identities.
        approval: whether a live run waits for an operator.
        can_act: whether the hook does anything in a live run; one that only proposes is refused `mode: live`.
        on: `firing` or `resolved`.
        summary: first line of the hook's docstring: what it does, for the person who approves it.
    """

    matchers: tuple[str, ...]
    timeout_seconds: float
    cooldown_seconds: float
    max_runs_per_hour: int
    approval: Approval
    on: Occasion
    summary: str
    can_act: bool = False


def hook(
    *,
    matchers: Sequence[str],
    timeout: str = "20s",
    cooldown: str = "15m",
    max_runs_per_hour: int = 4,
    approval: Approval = "required",
    on: Occasion = "firing",
    can_act: bool = False,
) -> Callable[[FunctionT], FunctionT]:
    """Declare an asynchronous function as a remediation hook; its docstring's first line says what it does.

    Raises:
        ValueError: a duration cannot be read, no matcher is given, or the function has no docstring.
    """
    if not matchers:
        raise ValueError("a hook needs at least one matcher: one that ran for every alert would be a trap")

    def declare(function: FunctionT) -> FunctionT:
        summary = (function.__doc__ or "").strip().partition("\n")[0]
        if not summary:
            raise ValueError(f"{function.__name__} needs a docstring: its first line is shown to whoever approves it")
        spec = HookSpec(
            tuple(matchers),
            duration_seconds(timeout),
            duration_seconds(cooldown),
            max_runs_per_hour,
            approval,
            on,
            summary,
            can_act,
        )
        function.__hook_spec__ = spec  # type: ignore[attr-defined]  # functions carry attributes, their type does not say so
        return function

    return declare


@dataclass(frozen=True, slots=True)
class ExporterAccess:
    """How a run reaches the exporter.

    Args:
        base_url: its address.
        read_token: its `web.read_token`; empty where it has none.
        ca_file: PEM file of the authority that signed its certificate.
        proxy: `http://host:port` of a forward proxy.
        proxy_user: its user, None where it wants none.
        proxy_password: its password.
        timeout_seconds: deadline of one question.
    """

    base_url: str
    read_token: str = field(default="", repr=False)
    ca_file: str | None = None
    proxy: str | None = None
    proxy_user: str | None = None
    proxy_password: str = field(default="", repr=False)
    timeout_seconds: float = 10.0


@dataclass(frozen=True, slots=True)
class Run:
    """One execution of a hook for one episode.

    Args:
        hook: the hook's name.
        mode: `dry_run` says what it would do; only `live` may change anything outside.
        idempotency_key: the same for every attempt at this remediation; hand it to the broker as client order id.
        fencing_token: grows with every run; a receiver of orders may refuse a lower one.
        episode_id: the episode.
        labels: the alert's labels. Untrusted text.
        annotations: the alert's annotations. Untrusted text.
        exporter: where `what_if` asks; None when none is configured.
    """

    hook: str
    mode: Mode
    idempotency_key: str
    fencing_token: int
    episode_id: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str] = field(default_factory=dict)
    exporter: ExporterAccess | None = None

    @property
    def live(self) -> bool:
        """Whether this run may change anything outside."""
        return self.mode == "live"

    async def what_if(self, **question: Any) -> dict[str, Any]:
        """Ask the exporter's `POST /api/v1/what-if`: `portfolio` with `trades`, or with a `limit` to respect.

        Raises:
            Retryable: the exporter cannot be reached or is not ready.
            Permanent: it refused the question, or no exporter is configured.
        """
        if self.exporter is None:
            raise Permanent("no exporter is configured: set receiver.exporter.base_url", reason=Reason.REJECTED)
        access = self.exporter
        reached = HttpConfig(
            timeout_seconds=access.timeout_seconds,
            ca_file=Path(access.ca_file) if access.ca_file else None,
            proxy=access.proxy,
            proxy_user=access.proxy_user,
            proxy_password=Secret(access.proxy_password) if access.proxy_password else None,
        )
        headers = {"Authorization": f"Bearer {access.read_token}"} if access.read_token else {}
        async with client(reached, base_url=access.base_url, headers=headers) as exporter:
            try:
                response = await exporter.post("/api/v1/what-if", json=question)
            except httpx.HTTPError as error:
                raise as_retryable(error, what="the exporter") from error
        if response.status_code == 422:
            raise Permanent(f"the exporter refused: {response.json().get('error', '')}", reason=Reason.REJECTED)
        raise_for_failure(response, what="the exporter")
        answer: dict[str, Any] = response.json()
        return answer
