"""A tracking server that stands in for MLflow's: the part of its REST API that is read, from memory.

async with Mlflow() as mlflow:
    experiment = mlflow.experiment("carry")
    run = mlflow.run(experiment, "ppo-1", metrics={"return": 0.5})
    mlflow.checkpoint(run, step=7)
    mlflow.version("fx", run, aliases=["champion"])

Written from mlflow.org's REST API reference; `tests/stack/test_mlflow.py` holds it against the real server, field by field. As
there: lists without entries are left out, a NaN is a text, an infinity the largest float.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tests.stand_ins.server import Answer, Received
from tests.stand_ins.venue import Venue, answer

API = "/api/2.0/mlflow/"
EXPERIMENTS, RUNS = f"{API}experiments/search", f"{API}runs/search"
MODELS, VERSION, LOGGED = f"{API}registered-models/search", f"{API}model-versions/get", f"{API}logged-models/"
BEGAN = 1_700_000_000_000
"""Epoch milliseconds of the first thing that happens; each thing after it is a second later."""
LARGEST = 1.7976931348623157e308


def refusal(code: str, message: str, status: int) -> Answer:
    """An error of MLflow's own."""
    return answer({"error_code": code, "message": message}, status)


NOT_THERE = refusal("RESOURCE_DOES_NOT_EXIST", "No such thing", 404)
DENIED = refusal("PERMISSION_DENIED", "Permission denied", 403)


class Mlflow(Venue):
    """The server. Ids are numbers in the order of making; `prefix` is the path a proxy puts before it."""

    def __init__(self, *, prefix: str = "", most: int = 1000) -> None:
        super().__init__()
        self.prefix = prefix
        self.most = most
        """Records of a page, whatever is asked for."""
        self.authorization: str | None = None
        """What the header must be; anything else is 401."""
        self.experiments: list[dict[str, Any]] = []
        self.runs: list[dict[str, Any]] = []
        self.logged: dict[str, dict[str, Any]] = {}
        self.models: dict[str, dict[str, Any]] = {}
        self.versions: dict[tuple[str, str], dict[str, Any]] = {}
        self._now = BEGAN

    def experiment(self, name: str) -> str:
        """Make an experiment; its id."""
        at = self._tick()
        made = {"experiment_id": str(len(self.experiments)), "name": name, "lifecycle_stage": "active", "workspace": "default"}
        made["artifact_location"] = f"mlflow-artifacts:/{made['experiment_id']}"
        self.experiments.append(made | {"creation_time": at, "last_update_time": at})
        return str(made["experiment_id"])

    def run(
        self,
        experiment: str,
        name: str,
        *,
        status: str = "RUNNING",
        start: int | None = None,
        end: int | None = None,
        metrics: Mapping[str, Any] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> str:
        """Make a run; its id. A metric is a value, or value, time in epoch milliseconds and step."""
        run_id = f"{len(self.runs):032x}"
        info = {
            "run_uuid": run_id,
            "run_id": run_id,
            "experiment_id": experiment,
            "run_name": name,
            "user_id": "",
            "status": status,
            "start_time": self._tick() if start is None else start,
            "artifact_uri": f"mlflow-artifacts:/{experiment}/{run_id}/artifacts",
            "lifecycle_stage": "active",
        } | ({} if end is None else {"end_time": end})
        logged = [_metric(key, value, self._now) for key, value in (metrics or {}).items()]
        noted = [{"key": key, "value": value} for key, value in {"mlflow.runName": name, **(tags or {})}.items()]
        data = {"tags": noted} | ({"metrics": logged} if logged else {})
        self.runs.append({"info": info, "data": data, "inputs": {}, "outputs": {}})
        return run_id

    def checkpoint(self, run: str, *, step: int, status: str = "LOGGED_MODEL_READY", at: int | None = None) -> str:
        """Let a run log a model; its id."""
        model_id = f"m-{len(self.logged):032x}"
        made = self._tick() if at is None else at
        held = self.runs[int(run, 16)]
        experiment = held["info"]["experiment_id"]
        info = {
            "model_id": model_id,
            "experiment_id": experiment,
            "name": "checkpoint",
            "creation_timestamp_ms": made,
            "last_updated_timestamp_ms": made,
            "artifact_uri": f"mlflow-artifacts:/{experiment}/models/{model_id}/artifacts",
            "status": status,
            "model_type": "",
            "source_run_id": run,
        }
        self.logged[model_id] = {"info": info, "data": {}}
        held["outputs"].setdefault("model_outputs", []).append({"model_id": model_id, "step": step})
        return model_id

    def version(
        self,
        model: str,
        run: str = "",
        *,
        stage: str = "None",
        aliases: Iterable[str] = (),
        tags: Mapping[str, str] | None = None,
    ) -> int:
        """Register a version of a model, and the model with the first; its number."""
        at = self._tick()
        held = self.models.setdefault(model, {"name": model, "creation_timestamp": at})
        held["last_updated_timestamp"] = at
        if tags:
            held["tags"] = [{"key": key, "value": value} for key, value in tags.items()]
        number = 1 + sum(name == model for name, _ in self.versions)
        self.versions[model, str(number)] = {
            "name": model,
            "version": str(number),
            "creation_timestamp": at,
            "last_updated_timestamp": at,
            "current_stage": stage,
            "description": "",
            "source": f"mlflow-artifacts:/0/{run}/artifacts/model",
            "run_id": run,
            "status": "READY",
            "run_link": "",
        }
        for alias in aliases:
            held.setdefault("aliases", []).append({"alias": alias, "version": str(number)})
        return number

    def respond(self, request: Received) -> Answer:
        """As the real server does."""
        if self.authorization is not None and request.headers.get("Authorization") != self.authorization:
            return Answer(401, "You are not authenticated.", headers={"WWW-Authenticate": 'Basic realm="mlflow"'})
        match request.method, request.path.removeprefix(self.prefix):
            case "POST", path if path == EXPERIMENTS:
                field = "last_update_time" if request.json.get("order_by") == ["last_update_time DESC"] else "creation_time"
                return self._page(sorted(self.experiments, key=lambda each: -each[field]), "experiments", request.json)
            case "POST", path if path == RUNS:
                return self._page(self._found(request.json), "runs", request.json)
            case "GET", path if path == MODELS:
                return self._page([self._model(name) for name in sorted(self.models)], "registered_models", request.query)
            case "GET", path if path == VERSION:
                return self._version(request.query["name"], request.query["version"])
            case "GET", path if path.startswith(LOGGED):
                found = self.logged.get(path.removeprefix(LOGGED))
                return answer({"model": found}) if found else NOT_THERE
        return Answer(404, "<!doctype html><title>404 Not Found</title>", content_type="text/html")

    def _found(self, asked: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The runs a search is for. Knows the two orders and the one filter that are used."""
        found = [each for each in self.runs if each["info"]["experiment_id"] in asked["experiment_ids"]]
        if asked.get("filter"):
            assert asked["filter"] == "attributes.status = 'FINISHED'"
            found = [each for each in found if each["info"]["status"] == "FINISHED"]
        (order,) = asked["order_by"]
        field = order.removeprefix("attributes.").removesuffix(" DESC")
        return sorted(found, key=lambda each: -each["info"].get(field, 0))

    def _page(self, records: Sequence[dict[str, Any]], key: str, asked: Mapping[str, Any]) -> Answer:
        first = json.loads(base64.b64decode(asked["page_token"]))["offset"] if asked.get("page_token") else 0
        last = first + min(int(asked["max_results"]), self.most)
        found: dict[str, Any] = {key: list(records[first:last])} if records[first:last] else {}
        if last < len(records):
            found["next_page_token"] = base64.b64encode(json.dumps({"offset": last}).encode()).decode()
        return answer(found)

    def _model(self, name: str) -> dict[str, Any]:
        newest = {each["current_stage"]: each for (model, _), each in self.versions.items() if model == name}
        return self.models[name] | ({"latest_versions": list(newest.values())} if newest else {})

    def _version(self, model: str, number: str) -> Answer:
        found = self.versions.get((model, number))
        if found is None:
            return NOT_THERE
        aliases = [each["alias"] for each in self.models[model].get("aliases", []) if each["version"] == number]
        return answer({"model_version": found | ({"aliases": aliases} if aliases else {})})

    def _tick(self) -> int:
        self._now += 1000
        return self._now


def _metric(key: str, given: Any, now: int) -> dict[str, Any]:
    value, at, step = given if isinstance(given, tuple) else (given, now, 0)
    if isinstance(value, float) and not math.isfinite(value):
        value = "NaN" if math.isnan(value) else math.copysign(LARGEST, value)
    return {"key": key, "value": value, "timestamp": at, "step": step}
