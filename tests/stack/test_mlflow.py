"""MLflow's source on a real tracking server: what was logged is what is measured; and the stand-in answers as it does."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from deskwatch.clock import SystemClock
from deskwatch.config import validate
from deskwatch.errors import Reason, Retryable
from exporter.normal.mlflow import (
    CHECKPOINT_AT,
    CHECKPOINT_EPOCH,
    CHECKPOINT_STEP,
    DURATION,
    RUN_END,
    RUN_METRIC,
    RUN_METRIC_AT,
    RUN_START,
    RUN_STATUS,
    RUN_STEP,
)
from exporter.normal.mlflow_models import VERSION, VERSION_CREATED, VERSION_INFO, VERSION_UPDATED
from exporter.reading import Family
from exporter.snapshot import Snapshot
from exporter.source import Kept
from exporter.sources.mlflow import Config, MlflowSource
from tests.components import find
from tests.stand_ins.mlflow import API, Mlflow

pytestmark = pytest.mark.stack

START_SECONDS = 120.0
"""The server is two processes that import half a gigabyte."""
BEGAN, ENDED = 1_700_000_000_000, 1_700_003_600_000


class TrackingServer:
    """The real one, on loopback, with a database of its own."""

    def __init__(self, python: Path, folder: Path) -> None:
        self._python = python
        self._folder = folder
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.url = f"http://127.0.0.1:{free.getsockname()[1]}"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def environment(self) -> dict[str, str]:
        """Tells nobody what it does, and runs no jobs."""
        quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        return {**os.environ, **quiet, "PYTHONPATH": "", "MLFLOW_TRACKING_URI": self.url, "GIT_PYTHON_REFRESH": "quiet"}

    def start(self) -> None:
        """Start it and wait until it answers."""
        port = self.url.rpartition(":")[2]
        command = [self._python, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", port, "--workers", "1"]
        command += [
            "--backend-store-uri",
            f"sqlite:///{self._folder}/mlflow.db",
            "--artifacts-destination",
            self._folder / "artifacts",
        ]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command, cwd=self._folder, env=self.environment, stdout=log, stderr=log, start_new_session=True
            )
        until = time.monotonic() + START_SECONDS
        while not self._answers():
            assert self._process.poll() is None, (self._folder / "log").read_text()[-2000:]
            assert time.monotonic() < until, "the tracking server does not start"
            time.sleep(0.2)

    def _answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/health", trust_env=False, timeout=5).status_code == 200
        except httpx.HTTPError:
            return False

    def kill(self) -> None:
        """End it and its worker at once."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def post(self, path: str, **content: Any) -> Any:
        """Write something through its REST API."""
        return self._call("POST", path, json=content)

    def get(self, path: str, **parameters: Any) -> Any:
        """Read something."""
        return self._call("GET", path, params=parameters)

    def patch(self, path: str, **content: Any) -> Any:
        """Change something."""
        return self._call("PATCH", path, json=content)

    def _call(self, method: str, path: str, **content: Any) -> Any:
        answer = httpx.request(method, f"{self.url}{API}{path}", trust_env=False, timeout=60, **content)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def run_client(self, script: str) -> Any:
        """What a script prints as JSON that uses MLflow's own client."""
        done = subprocess.run([self._python, "-c", script], env=self.environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TrackingServer]:
    """One for all tests of this module: it takes long to start."""
    found = TrackingServer(find("mlflow").with_name("python"), tmp_path_factory.mktemp("mlflow"))
    try:
        found.start()
        yield found
    finally:
        found.kill()


@asynccontextmanager
async def watching(server: TrackingServer, **settings: Any) -> Any:
    """A source of it."""
    config = validate(Config, {"type": "mlflow", "name": "desk", "base_url": server.url, **settings})
    assert isinstance(config, Config), config
    source = MlflowSource(config, SystemClock())
    try:
        yield source
    finally:
        await source.close()


def values(snapshot: Snapshot, family: Family) -> dict[tuple[str, ...], float]:
    """The family's series, `source` left out of the labels."""
    return {sample.labels[1:]: sample.value for sample in snapshot.measures if sample.family is family}


def make_run(server: TrackingServer, experiment: str, name: str, start: int, **metrics: list[tuple[Any, int, int]]) -> str:
    """A run with these metrics: value, time in epoch milliseconds, step."""
    made = server.post("runs/create", experiment_id=experiment, run_name=name, start_time=start)
    run_id = str(made["run"]["info"]["run_id"])
    for key, points in metrics.items():
        for value, at, step in points:
            server.post("runs/log-metric", run_id=run_id, key=key, value=value, timestamp=at, step=step)
    return run_id


def log_checkpoint(server: TrackingServer, experiment: str, run: str, step: int, *, ready: bool = True) -> float:
    """A model the run has logged; when it was made, Unix time."""
    made = server.post("logged-models", experiment_id=experiment, name="checkpoint", source_run_id=run)["model"]["info"]
    if ready:
        server.patch(f"logged-models/{made['model_id']}", model_id=made["model_id"], status="LOGGED_MODEL_READY")
    server.post("runs/outputs", run_id=run, models=[{"model_id": made["model_id"], "step": step}])
    return float(made["creation_timestamp_ms"]) / 1000


async def test_what_was_logged_is_what_is_measured(server: TrackingServer) -> None:
    """The newest value of each metric, times, status, the last whole checkpoint, the last finished run's duration."""
    experiment = server.post("experiments/create", name="carry")["experiment_id"]
    first = make_run(
        server, experiment, "ppo", BEGAN, ret=[(0.5, BEGAN + 1000, 1), (0.0, BEGAN + 2000, 2)], loss=[("NaN", BEGAN, 0)]
    )
    server.post("runs/update", run_id=first, status="FINISHED", end_time=ENDED)
    second = make_run(
        server,
        experiment,
        "ppo",
        BEGAN + 5000,
        ret=[(-0.25, BEGAN + 9000, 40)],
        up=[("Infinity", BEGAN, 0)],
        down=[("-Infinity", BEGAN, 0)],
    )
    log_checkpoint(server, experiment, second, 10)
    last = log_checkpoint(server, experiment, second, 20)
    log_checkpoint(server, experiment, second, 30, ready=False)
    async with watching(server, experiments=["carry"], models=[]) as source:
        snapshot = await source.fetch(Kept())
    one, other = ("carry", "ppo", first), ("carry", "ppo", second)
    assert values(snapshot, RUN_METRIC) == {(*one, "ret"): 0.0, (*other, "ret"): -0.25}
    assert values(snapshot, RUN_METRIC_AT) == {one: (BEGAN + 2000) / 1000, other: (BEGAN + 9000) / 1000}
    assert values(snapshot, RUN_STEP) == {one: 2, other: 40}
    assert values(snapshot, RUN_STATUS) == {(*one, "finished"): 1, (*other, "running"): 1}
    assert values(snapshot, RUN_START) == {one: BEGAN / 1000, other: (BEGAN + 5000) / 1000}
    assert values(snapshot, RUN_END) == {one: ENDED / 1000}
    assert values(snapshot, DURATION) == {("carry",): 3600}
    assert values(snapshot, CHECKPOINT_STEP) == {other: 20}
    assert values(snapshot, CHECKPOINT_AT) == {other: pytest.approx(last)}
    assert sorted((each.record.split()[1], each.reason) for each in snapshot.rejected) == [
        ("down", "not_finite"),
        ("loss", "not_finite"),
        ("up", "not_finite"),
    ]


async def test_what_mlflows_own_client_logs_is_measured(server: TrackingServer) -> None:
    """Metrics, an end, and a checkpoint as the callbacks of its autologging write them: a file, whose path names the epoch."""
    run = server.run_client(
        """
import json, mlflow
from mlflow.utils.checkpoint_utils import MlflowModelCheckpointCallbackBase

class Callback(MlflowModelCheckpointCallbackBase):
    def save_checkpoint(self, filepath):
        open(filepath, "w").close()

mlflow.set_experiment("by its client")
with mlflow.start_run(run_name="lstm") as run:
    mlflow.log_metric("sharpe", 1.25, step=3)
    callback = Callback(".pth", monitor=None, save_best_only=False, mode="min", save_weights_only=False, save_freq="epoch")
    callback.check_and_save_checkpoint_if_needed(current_epoch=4, global_step=900, metric_dict={"loss": 0.5})
run = mlflow.get_run(run.info.run_id)
print(json.dumps({"id": run.info.run_id, "start": run.info.start_time, "end": run.info.end_time}))
"""
    )
    async with watching(server, experiments=["by its client"], models=[]) as source:
        snapshot = await source.fetch(Kept())
    labels = ("by its client", "lstm", run["id"])
    assert values(snapshot, RUN_METRIC) == {(*labels, "sharpe"): 1.25}
    assert values(snapshot, RUN_STATUS) == {(*labels, "finished"): 1}
    assert values(snapshot, DURATION) == {labels[:1]: pytest.approx((run["end"] - run["start"]) / 1000)}
    assert values(snapshot, CHECKPOINT_EPOCH) == {labels: 4}
    assert values(snapshot, CHECKPOINT_AT) == values(snapshot, CHECKPOINT_STEP) == {}
    assert snapshot.rejected == ()


async def test_versions_of_registered_models(server: TrackingServer) -> None:
    """Three versions: the newest of no stage, one in production, one that only has an alias. A prompt is no model."""
    experiment = server.post("experiments/create", name="registry")["experiment_id"]
    run = make_run(server, experiment, "r", BEGAN)
    for name in ("fx", "other"):
        server.post("registered-models/create", name=name)
    server.post("registered-models/create", name="greeting", tags=[{"key": "mlflow.prompt.is_prompt", "value": "true"}])
    source_of = f"mlflow-artifacts:/{experiment}/{run}/artifacts/model"
    for _ in range(3):
        server.post("model-versions/create", name="fx", source=source_of, run_id=run)
    server.post("model-versions/transition-stage", name="fx", version="2", stage="Production", archive_existing_versions=False)
    server.post("registered-models/alias", name="fx", alias="champion", version="1")
    server.post("registered-models/alias", name="fx", alias="challenger", version="3")
    known = {number: server.get("model-versions/get", name="fx", version=number)["model_version"] for number in ("1", "2", "3")}
    async with watching(server, experiments=["registry"]) as source:
        snapshot = await source.fetch(Kept())
    assert values(snapshot, VERSION) == {
        ("fx", "None", ""): 3,
        ("fx", "Production", ""): 2,
        ("fx", "", "champion"): 1,
        ("fx", "", "challenger"): 3,
    }
    assert values(snapshot, VERSION_INFO) == {
        ("fx", "1", "None", "ready", run): 1,
        ("fx", "2", "Production", "ready", run): 1,
        ("fx", "3", "None", "ready", run): 1,
    }
    for family, field in ((VERSION_CREATED, "creation_timestamp"), (VERSION_UPDATED, "last_updated_timestamp")):
        expected = {("fx", number): pytest.approx(each[field] / 1000) for number, each in known.items()}
        assert values(snapshot, family) == expected
    assert snapshot.notes["models"] == "2 of 2"


async def test_long_lists_are_read_page_by_page(server: TrackingServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real server's tokens, two records at a time; of the runs only as many as are wanted."""
    monkeypatch.setattr("deskwatch.venues.mlflow.PAGE", 2)
    experiments = [server.post("experiments/create", name=f"paged-{number}")["experiment_id"] for number in range(5)]
    runs = [make_run(server, experiments[0], f"r{number}", BEGAN + number) for number in range(5)]
    for number in range(5):
        server.post("registered-models/create", name=f"paged-{number}")
    async with watching(server, experiments=["paged-.*"], models=["paged-.*"], maximum_runs=3) as source:
        snapshot = await source.fetch(Kept())
    assert {labels[2] for labels in values(snapshot, RUN_STATUS)} == set(runs[2:])
    assert snapshot.notes["experiments"].startswith("5 of ")
    assert snapshot.notes["models"].startswith("5 of ")


async def test_a_name_that_is_not_there_is_told_and_nothing_else_suffers(server: TrackingServer) -> None:
    """An experiment and a model."""
    async with watching(server, experiments=["nowhere", "Default"], models=["nobody"]) as source:
        snapshot = await source.fetch(Kept())
    assert {(each.record, each.reason) for each in snapshot.rejected} == {
        ("there is no experiment 'nowhere'", "not_found"),
        ("there is no registered model 'nobody'", "not_found"),
    }


async def test_the_stand_in_answers_as_the_server_does(server: TrackingServer) -> None:
    """The same fields with the same types, in every answer that is read: what flow tests find on it holds on the real one."""
    experiment = server.post("experiments/create", name="shapes")["experiment_id"]
    run = make_run(server, experiment, "a", BEGAN, ret=[(0.5, BEGAN, 1)], bad=[("NaN", BEGAN, 1)], big=[("Infinity", BEGAN, 1)])
    server.post("runs/update", run_id=run, status="FINISHED", end_time=ENDED)
    log_checkpoint(server, experiment, run, 7)
    empty = make_run(server, experiment, "b", BEGAN - 1)
    server.post("registered-models/create", name="shapes", tags=[{"key": "desk", "value": "fx"}])
    server.post("model-versions/create", name="shapes", source=f"mlflow-artifacts:/{experiment}/{run}/artifacts/m", run_id=run)
    server.post("registered-models/alias", name="shapes", alias="champion", version="1")
    async with Mlflow() as stand_in:
        made = stand_in.experiment("shapes")
        metrics = {"ret": (0.5, BEGAN, 1), "bad": (float("nan"), BEGAN, 1), "big": (float("inf"), BEGAN, 1)}
        copy = stand_in.run(made, "a", status="FINISHED", start=BEGAN, end=ENDED, metrics=metrics)
        stand_in.checkpoint(copy, step=7)
        stand_in.run(made, "b", start=BEGAN - 1)
        stand_in.version("shapes", copy, aliases=["champion"], tags={"desk": "fx"})
        both = (server.url, experiment, run), (stand_in.url, made, copy)
        real, ours = [await answers_of(*each) for each in both]
    assert real.keys() == ours.keys()
    for question, answer in real.items():
        assert shape(ours[question]) == shape(answer), question
    assert (real["runs"]["runs"][1]["info"]["run_id"], len(real["runs"]["runs"])) == (empty, 2)
    by_key = {each["key"]: each["value"] for each in real["runs"]["runs"][0]["data"]["metrics"]}
    copied = {each["key"]: each["value"] for each in ours["runs"]["runs"][0]["data"]["metrics"]}
    assert by_key == copied == {"ret": 0.5, "bad": "NaN", "big": 1.7976931348623157e308}


async def answers_of(url: str, experiment: str, run: str) -> dict[str, Any]:
    """What a server, real or not, answers to the questions the source asks."""
    async with httpx.AsyncClient(base_url=url + API, trust_env=False, timeout=60) as client:
        order = {"order_by": ["attributes.start_time DESC"], "experiment_ids": [experiment], "run_view_type": "ACTIVE_ONLY"}
        runs = (await client.post("runs/search", json={**order, "max_results": 10})).json()
        (output,) = runs["runs"][0]["outputs"]["model_outputs"]
        model = (await client.get("registered-models/search", params={"max_results": 1000})).json()
        experiments = (await client.post("experiments/search", json={"max_results": 1, "view_type": "ACTIVE_ONLY"})).json()
        missing = await client.get("model-versions/get", params={"name": "shapes", "version": "99"})
        return {
            "experiments": {"experiments": experiments["experiments"]},
            "runs": runs,
            "page of runs": (await client.post("runs/search", json={**order, "max_results": 1})).json(),
            "no runs": (
                await client.post("runs/search", json={**order, "experiment_ids": ["987654"], "max_results": 1})
            ).json(),
            "logged model": (await client.get(f"logged-models/{output['model_id']}")).json(),
            "registered model": [each for each in model["registered_models"] if each["name"] == "shapes"],
            "version": (await client.get("model-versions/get", params={"name": "shapes", "version": "1"})).json(),
            "missing": {"status": missing.status_code} | {key: missing.json()[key] for key in ("error_code", "message")},
            "no such endpoint": {"status": (await client.post("nonsense/search", json={})).status_code},
        }


def shape(value: Any) -> Any:
    """The keys and types of a JSON value; of a list the different shapes in it."""
    if isinstance(value, Mapping):
        return {key: shape(each) for key, each in value.items()}
    if isinstance(value, list):
        return sorted({json.dumps(shape(each), sort_keys=True) for each in value})
    return type(value).__name__


async def test_a_server_that_is_killed_is_refused_and_comes_back(server: TrackingServer) -> None:
    """With everything it had."""
    async with watching(server, experiments=["Default"], timeout_seconds=60, http={"timeout_seconds": 60}) as source:
        await source.fetch(Kept())
        server.kill()
        reasons: list[Reason] = []
        while Reason.REFUSED not in reasons:
            with pytest.raises(Retryable) as caught:
                await source.fetch(Kept())
            reasons.append(caught.value.reason)
        assert set(reasons[:-1]) <= {Reason.NETWORK}, "connections that were open are cut"
        assert len(reasons) < 10
        server.start()
        assert (await source.fetch(Kept())).notes["experiments"].startswith("1 of ")
