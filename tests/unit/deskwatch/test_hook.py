"""Declaring a hook, and what a run can ask."""

from __future__ import annotations

import httpx
import pytest
import respx

from deskwatch import Run, hook
from deskwatch.errors import Permanent, Retryable
from deskwatch.hook import ExporterAccess, duration_seconds

ACCESS = ExporterAccess("http://127.0.0.1:9877", read_token="readme")
RUN = Run("reduce", "dry_run", "key", 1, "e1", {"portfolio": "carry"}, exporter=ACCESS)


@pytest.mark.parametrize(
    ("text", "seconds"), [("20s", 20.0), ("15m", 900.0), ("1h30m", 5400.0), ("250ms", 0.25), ("1d", 86400.0), ("1.5s", 1.5)]
)
def test_durations_are_prometheus_durations(text: str, seconds: float) -> None:
    """The same notation as in rules."""
    assert duration_seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "20", "s", "1x", "20s ", "-1s", "1h-30m"])
def test_what_is_not_a_duration_is_refused(text: str) -> None:
    """A bare number has no unit."""
    with pytest.raises(ValueError, match="must be a duration such as 20s"):
        duration_seconds(text)


def test_a_hook_declares_its_policy() -> None:
    """The decorator leaves the function callable and attaches what guard and runner read."""

    @hook(matchers=['alertname="A"'], timeout="5s", cooldown="1m", max_runs_per_hour=2, approval="none", on="resolved")
    async def restore(run: Run) -> str:
        """Put the position back."""
        return run.mode

    spec = restore.__hook_spec__  # type: ignore[attr-defined]
    assert (spec.matchers, spec.timeout_seconds, spec.cooldown_seconds) == (('alertname="A"',), 5.0, 60.0)
    assert (spec.max_runs_per_hour, spec.approval, spec.on, spec.summary) == (2, "none", "resolved", "Put the position back.")


def test_a_hook_without_docstring_or_matchers_is_refused() -> None:
    """Whoever approves it must be able to read what it does; one that matches everything is a trap."""

    async def silent(run: Run) -> str:
        return ""

    with pytest.raises(ValueError, match="silent needs a docstring"):
        hook(matchers=['a="b"'])(silent)
    with pytest.raises(ValueError, match="at least one matcher"):
        hook(matchers=[])


@respx.mock
async def test_what_if_asks_the_exporter() -> None:
    """The question goes out as JSON, the answer comes back as is."""
    route = respx.post("http://127.0.0.1:9877/api/v1/what-if").respond(json={"trades": []})
    assert await RUN.what_if(portfolio="carry", limit="leverage") == {"trades": []}
    assert route.calls.last.request.content == b'{"portfolio":"carry","limit":"leverage"}'
    assert route.calls.last.request.headers["Authorization"] == "Bearer readme"
    assert "readme" not in repr(RUN)


@respx.mock
async def test_what_if_tells_a_refusal_from_an_outage() -> None:
    """422 will not get better; a refused connection may."""
    route = respx.post("http://127.0.0.1:9877/api/v1/what-if")
    route.respond(422, json={"error": "no portfolio is called carry"})
    with pytest.raises(Permanent, match="the exporter refused: no portfolio is called carry"):
        await RUN.what_if(portfolio="carry")
    route.side_effect = httpx.ConnectError("All connection attempts failed")
    with pytest.raises(Retryable, match="the exporter: ConnectError"):
        await RUN.what_if(portfolio="carry")


async def test_without_an_exporter_the_run_says_what_to_configure() -> None:
    """Not an attribute error deep inside."""
    with pytest.raises(Permanent, match=r"set receiver\.exporter\.base_url"):
        await Run("h", "live", "k", 1, "e", {}).what_if(portfolio="carry")
