"""MLflow's source over real sockets: every way to fail has its reason, and a running exporter shows what it reads."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from deskwatch.clock import ManualClock
from deskwatch.config import validate
from deskwatch.errors import Permanent, Reason, Retryable
from exporter.source import Kept
from exporter.sources.mlflow import Config, MlflowSource
from tests.flows.exporter.running import Series, running, value
from tests.stand_ins.mlflow import BEGAN, EXPERIMENTS, LOGGED, MODELS, RUNS, VERSION, Mlflow
from tests.stand_ins.server import DROP, HANG, HTML, SERVER_ERROR, Answer
from tests.stand_ins.venue import (
    CUT_SHORT,
    EMPTY,
    FORBIDDEN,
    TOO_MANY,
    TOO_MANY_FOR_2_SECONDS,
    TRUNCATED,
    UNAUTHORIZED,
    UNAVAILABLE,
)

PATHS = (EXPERIMENTS, RUNS, MODELS, VERSION, LOGGED)
SERIES = 15
"""Of the run five and two of its checkpoint, of the model two, of each of its versions three."""


@pytest.fixture
async def mlflow() -> AsyncIterator[Mlflow]:
    """One experiment with one run that has logged a metric and a checkpoint, and a model of two versions."""
    async with Mlflow() as found:
        run = found.run(found.experiment("carry"), "ppo", metrics={"return": (0.5, BEGAN, 1)})
        found.checkpoint(run, step=7, at=BEGAN + 1000)
        found.version("fx", run, aliases=["champion"])
        found.version("fx", run)
        yield found


def made(url: str, **settings: Any) -> MlflowSource:
    """A source of the server there."""
    config = validate(Config, {"type": "mlflow", "name": "desk", "base_url": url, "http": {"timeout_seconds": 0.5}} | settings)
    assert isinstance(config, Config), config
    return MlflowSource(config, ManualClock())


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    ("fault", "kind", "reason"),
    [
        (TOO_MANY, Retryable, Reason.RATE_LIMITED),
        (TOO_MANY_FOR_2_SECONDS, Retryable, Reason.RATE_LIMITED),
        (HANG, Retryable, Reason.TIMEOUT),
        (DROP, Retryable, Reason.NETWORK),
        (CUT_SHORT, Retryable, Reason.NETWORK),
        (HTML, Retryable, Reason.BAD_RESPONSE),
        (TRUNCATED, Retryable, Reason.BAD_RESPONSE),
        (EMPTY, Retryable, Reason.BAD_RESPONSE),
        (SERVER_ERROR, Retryable, Reason.SERVER_ERROR),
        (UNAVAILABLE, Retryable, Reason.SERVER_ERROR),
        (UNAUTHORIZED, Permanent, Reason.AUTH),
        (FORBIDDEN, Permanent, Reason.AUTH),
        (Answer(302, headers={"Location": "/login"}), Permanent, Reason.REJECTED),
    ],
)
async def test_each_failure_on_the_wire_has_its_reason_and_the_next_fetch_is_good(
    mlflow: Mlflow, path: str, fault: Answer, kind: type[Retryable | Permanent], reason: Reason
) -> None:
    """Whichever of its questions fails: half a server is not taken for a whole one, and nothing of the failure stays."""
    source = made(mlflow.url)
    mlflow.fault(path, fault)
    with pytest.raises(kind) as caught:
        await source.fetch(Kept())
    assert caught.value.reason is reason
    assert getattr(caught.value, "retry_after_seconds", None) == (2 if fault is TOO_MANY_FOR_2_SECONDS else None)
    snapshot = await source.fetch(Kept())
    assert snapshot.rejected == ()
    assert len(snapshot.measures) == SERIES
    await source.close()


@pytest.mark.parametrize(("url", "reason"), [("http://127.0.0.1:1", Reason.REFUSED), ("http://nowhere.invalid", Reason.DNS)])
async def test_a_server_that_is_not_there(url: str, reason: Reason) -> None:
    """Refused is not a name that does not resolve."""
    source = made(url)
    with pytest.raises(Retryable) as caught:
        await source.fetch(Kept())
    assert caught.value.reason is reason
    await source.close()


async def test_something_else_at_the_address_is_not_found(mlflow: Mlflow) -> None:
    """A path too much."""
    source = made(f"{mlflow.url}/api")
    with pytest.raises(Permanent, match="check its address") as caught:
        await source.fetch(Kept())
    assert caught.value.reason is Reason.NOT_FOUND
    await source.close()


async def test_a_certificate_nobody_signed_is_tls(tmp_path: Path) -> None:
    """`http.ca_file` names who signs."""
    trustme.CA().cert_pem.write_to_path(tmp_path / "ca.pem")

    async def close(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    async with await asyncio.start_server(close, "127.0.0.1", 0, ssl=context) as server:
        source = made(
            f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}",
            http={"timeout_seconds": 2, "ca_file": tmp_path / "ca.pem"},
        )
        with pytest.raises(Retryable) as caught:
            await source.fetch(Kept())
        assert caught.value.reason is Reason.TLS
        await source.close()


async def test_a_fetch_can_be_cancelled_and_the_next_one_works(mlflow: Mlflow) -> None:
    """As the poller does at the deadline, with several calls under way."""
    source = made(mlflow.url, http={"timeout_seconds": 30})
    mlflow.fault(RUNS, HANG, HANG)
    fetching = asyncio.ensure_future(source.fetch(Kept()))
    await mlflow.until(lambda: len(mlflow.asked(RUNS)) == 2)
    fetching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await fetching
    assert len((await source.fetch(Kept())).measures) == SERIES
    await source.close()


async def test_no_more_than_a_few_calls_are_under_way_at_once() -> None:
    """A tracking server is shared with those who train."""
    async with Mlflow() as mlflow:
        for number in range(20):
            mlflow.run(mlflow.experiment(f"e{number}"), "r")
        mlflow.fault(RUNS, *[HANG] * 40)
        source = made(mlflow.url, http={"timeout_seconds": 30})
        fetching = asyncio.ensure_future(source.fetch(Kept()))
        await mlflow.until(lambda: len(mlflow.asked(RUNS)) == 8)
        for _ in range(100):
            await asyncio.sleep(0)
        assert len(mlflow.asked(RUNS)) == 8
        fetching.cancel()
        await asyncio.gather(fetching, return_exceptions=True)
        await source.close()


def desk_of(mlflow: Mlflow) -> dict[str, Any]:
    """A desk that reads it many times a second."""
    source = {
        "type": "mlflow",
        "name": "training",
        "base_url": mlflow.url,
        "token": "s3cret",
        "interval_seconds": 0.2,
        "stale_after_seconds": 1,
        "breaker": {"failures": 100},
    }
    return {
        "logs": {"format": "json"},
        "exporter": {
            "web": {"listen": "127.0.0.1:0"},
            "cycle_seconds": 0.1,
            "sources": [source],
            "portfolios": [{"name": "carry", "base_currency": "EUR"}],
        },
    }


def shown(series: Series) -> float | None:
    """The run's metric."""
    labels = {"source": "training", "experiment": "carry", "run": "ppo", "run_id": f"{0:032x}", "metric": "return"}
    return value(series, "desk_mlflow_run_metric", **labels)


async def test_in_a_running_exporter_a_metric_becomes_a_gauge_and_goes_with_the_server(tmp_path: Path, mlflow: Mlflow) -> None:
    """A new value is a new value; a server that fails leaves no last number behind; the token stands in no line of the log."""
    mlflow.authorization = "Bearer s3cret"
    async with running(tmp_path, desk_of(mlflow)) as exporter:
        series = await exporter.until(lambda page: shown(page) == 0.5)
        assert value(series, "desk_source_up", source="training", kind="models") == 1
        assert value(series, "desk_mlflow_model_version", source="training", model="fx", stage="", alias="champion") == 1
        mlflow.runs[0]["data"]["metrics"][0]["value"] = "NaN"
        series = await exporter.until(lambda page: shown(page) is None)
        assert (value(series, "desk_records_rejected_total", source="training", reason="not_finite") or 0) >= 1
        mlflow.runs[0]["data"]["metrics"][0]["value"] = -3
        await exporter.until(lambda page: shown(page) == -3)
        mlflow.fault(EXPERIMENTS, UNAVAILABLE, always=True)
        series = await exporter.until(lambda page: shown(page) is None)
        assert value(series, "desk_source_up", source="training", kind="models") == 0
        assert (value(series, "desk_source_fetch_failures_total", source="training", reason="server_error") or 0) >= 1
        assert not [name for name, _ in series if name.startswith("desk_mlflow_")]
        mlflow.heal()
        await exporter.until(lambda page: shown(page) == -3)
    assert "s3cret" not in str(exporter.said)
