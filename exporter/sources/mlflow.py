"""Reads an MLflow tracking server: newest metrics and status of runs by experiment, how long training took, checkpoints, and
versions of registered models.

Of each experiment the newest active runs by begin; which experiments, metrics and models is a list of names and regular
expressions. What one experiment or model withholds is left out and counted; the others stand.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, Self, TypeVar

from pydantic import Field, model_validator

from deskwatch.clock import Clock
from deskwatch.config import CrossFault, Secret
from deskwatch.errors import Permanent, Reason
from deskwatch.http import HttpConfig, HttpUrl
from deskwatch.venues.mlflow import Login, TrackingServer, Withheld
from exporter.normal import mlflow_models
from exporter.normal.choice import Wanted, choose
from exporter.normal.mlflow import (
    METRICS,
    Experiment,
    Logged,
    Output,
    Run,
    Runs,
    checkpoint,
    duration,
    experiment,
    logged_model,
)
from exporter.normal.mlflow_models import Model, Version, model, model_samples, version
from exporter.reading import Sample
from exporter.records import Sheet
from exporter.snapshot import Kind, Snapshot
from exporter.source import Kept, Source, SourceConfig

AT_A_TIME = 8
"""Calls under way at once."""
LOOKED_AT = 5
"""Models of a run that are looked at to find the last whole one."""

T = TypeVar("T")


class Config(SourceConfig):
    """An MLflow tracking server."""

    type: Literal["mlflow"]
    interval_seconds: float = Field(default=60.0, ge=0.05)
    timeout_seconds: float = Field(default=30.0, gt=0)
    stale_after_seconds: float = Field(default=300.0, gt=0)
    base_url: HttpUrl
    """Address up to, without, `/api`; a path before that is kept."""
    token: Secret | None = None
    """Bearer token."""
    username: str | None = Field(default=None, min_length=1)
    """User of basic authentication."""
    password: Secret | None = None
    http: HttpConfig = HttpConfig()
    experiments: tuple[Wanted, ...] = (".*",)
    """Experiments wanted, names or regular expressions."""
    metrics: tuple[Wanted, ...] = ("(?!system/).*",)
    """Metrics wanted, names or regular expressions; by default all but those of the machine a run is on."""
    models: tuple[Wanted, ...] = (".*",)
    """Registered models wanted, names or regular expressions; an empty list leaves the registry alone."""
    maximum_experiments: int = Field(default=50, ge=1, le=1000)
    """Of more, those last changed are read."""
    maximum_runs: int = Field(default=10, ge=1, le=1000)
    """Runs of an experiment, the newest by begin."""
    maximum_metrics: int = Field(default=100, ge=1)
    """Metrics of a run, the first by name."""
    maximum_models: int = Field(default=200, ge=1)
    """Registered models, the first by name."""

    @model_validator(mode="after")
    def _has_one_login(self) -> Self:
        faults: list[tuple[list[str | int], str]] = []
        if self.token and self.username:
            faults.append((["token"], "give either token or username and password, not both"))
        if bool(self.username) != bool(self.password):
            faults.append((["password" if self.username else "username"], "username and password belong together"))
        if faults:
            raise CrossFault(faults)
        return self


@dataclass(frozen=True, slots=True)
class _Read:
    """What one experiment was told to hold."""

    runs: tuple[Run, ...]
    last_finished: tuple[Sample, ...]
    metrics_left_out: int


class MlflowSource(Source[Config]):
    """One server."""

    kind = "models"
    metrics = (*METRICS, *mlflow_models.METRICS)

    def __init__(self, config: Config, clock: Clock) -> None:
        super().__init__(config, clock)
        login = Login(_plain(config.token), config.username, _plain(config.password))
        self._server = TrackingServer(config.base_url, config.http, clock, login)
        self._turns = asyncio.Semaphore(AT_A_TIME)
        self._settled: dict[str, Logged] = {}
        """Logged models that do not change any more, by id."""

    @property
    def provides(self) -> AbstractSet[Kind]:
        """Measures."""
        return frozenset({"measures"})

    async def fetch(self, kept: Kept) -> Snapshot:
        """Ask everything once.

        Raises:
            Retryable: the server cannot be asked, is too busy, or answers something else than MLflow's.
            Permanent: it does not let us in, or is not at this address.
        """
        at = self.clock.now()
        sheet = Sheet()
        notes = {"server": self.config.base_url}
        experiments = await self._experiments(sheet, notes)
        read = await _together([self._experiment(each, sheet) for each in experiments])
        runs = [run for each in read for run in each.runs]
        logged = await self._checkpoints(runs, sheet)
        measures = [sample for each in read for sample in each.last_finished]
        for run in runs:
            measures += (*run.samples, *checkpoint(run, logged))
        measures += await self._models(sheet, notes)
        left_out = sum(each.metrics_left_out for each in read)
        notes["runs"] = str(len(runs)) + (f"; {left_out} metrics over maximum_metrics are left out" if left_out else "")
        return Snapshot(at, measures=tuple(measures), rejected=sheet.rejected, notes=notes)

    async def close(self) -> None:
        """Close the connections."""
        await self._server.close()

    async def _experiments(self, sheet: Sheet, notes: dict[str, str]) -> tuple[Experiment, ...]:
        """Those wanted, the last changed first."""
        found = sheet.read("measures", await self._server.experiments(), experiment)
        chosen = choose((each.name for each in found), self.config.experiments)
        for missing in chosen.missing:
            sheet.reject("measures", f"there is no experiment {missing!r}", Reason.NOT_FOUND.value)
        wanted = set(chosen.names)
        notes["experiments"] = _share(len(wanted), len(found), self.config.maximum_experiments)
        return tuple(each for each in found if each.name in wanted)[: self.config.maximum_experiments]

    async def _experiment(self, found: Experiment, sheet: Sheet) -> _Read:
        newest, finished = await _together(
            [
                self._unless_withheld(partial(self._server.newest_runs, found.id, self.config.maximum_runs), sheet),
                self._unless_withheld(partial(self._server.last_finished, found.id), sheet),
            ]
        )
        # Reading many metrics takes longer than the event loop may wait.
        return await asyncio.to_thread(self._read, found, newest or [], finished or [], sheet)

    def _read(self, found: Experiment, newest: Sequence[Any], finished: Sequence[Any], sheet: Sheet) -> _Read:
        name = self.config.name
        reader = Runs(name, found.name, self.config.metrics, self.config.maximum_metrics, sheet)
        runs = sheet.read("measures", newest, reader.read)
        took = sheet.read("measures", finished, lambda fields: duration(name, found.name, fields))
        return _Read(runs, took, reader.left_out)

    async def _checkpoints(self, runs: Sequence[Run], sheet: Sheet) -> Mapping[str, Logged]:
        """What is to be known of the models the runs have logged, to tell the last whole one of each."""
        known: dict[str, Logged] = {}
        await _together([self._look_at(run, known, sheet) for run in runs])
        self._settled = {each: logged for each, logged in known.items() if logged.settled}
        return known

    async def _look_at(self, run: Run, known: dict[str, Logged], sheet: Sheet) -> None:
        """Those of the highest step, then those of the step before, until one is whole."""
        by_step: dict[int, list[Output]] = {}
        for output in run.outputs:
            by_step.setdefault(output.step, []).append(output)
        for step in sorted(by_step, reverse=True)[:LOOKED_AT]:
            for output in by_step[step]:
                found = self._settled.get(output.model_id) or await self._ask_logged(output.model_id, sheet)
                if found is not None:
                    known[output.model_id] = found
            if any(output.model_id in known and known[output.model_id].ready for output in by_step[step]):
                return

    async def _ask_logged(self, model_id: str, sheet: Sheet) -> Logged | None:
        answer = await self._unless_withheld(partial(self._server.logged_model, model_id), sheet)
        if answer is None:
            return None
        found = sheet.read("measures", [answer], logged_model)
        return found[0] if found else None

    async def _models(self, sheet: Sheet, notes: dict[str, str]) -> list[Sample]:
        if not self.config.models:
            return []
        try:
            answered = await self._server.registered_models()
        except Permanent as error:
            if error.reason is not Reason.NOT_FOUND:
                raise
            sheet.reject("measures", f"the server has no model registry: {error}", error.reason.value)
            return []
        found = {each.name: each for each in await asyncio.to_thread(sheet.read, "measures", answered, model)}
        chosen = choose(found, self.config.models)
        for missing in chosen.missing:
            sheet.reject("measures", f"there is no registered model {missing!r}", Reason.NOT_FOUND.value)
        notes["models"] = _share(len(chosen.names), len(found), self.config.maximum_models)
        wanted = [found[name] for name in chosen.names[: self.config.maximum_models]]
        aliased = await _together([self._aliased(each, sheet) for each in wanted])
        pairs = zip(wanted, aliased, strict=True)
        return [sample for each, versions in pairs for sample in model_samples(self.config.name, each, versions)]

    async def _aliased(self, found: Model, sheet: Sheet) -> dict[int, Version]:
        """The versions that have an alias and are the newest of no stage."""
        known = {each.number for each in found.newest}
        versions: dict[int, Version] = {}
        for number in sorted(set(found.aliases.values()) - known):
            answer = await self._unless_withheld(partial(self._server.model_version, found.name, str(number)), sheet)
            for each in sheet.read("measures", [] if answer is None else [answer], version):
                versions[number] = each
        return versions

    async def _unless_withheld(self, ask: Callable[[], Awaitable[T]], sheet: Sheet) -> T | None:
        """The answer; None, counted, where the server withholds this one thing."""
        try:
            async with self._turns:
                return await ask()
        except Withheld as error:
            sheet.reject("measures", str(error), error.reason.value)
            return None


def _share(wanted: int, there: int, maximum: int) -> str:
    left_out = f", the first {maximum} of them are read" if wanted > maximum else ""
    return f"{wanted} of {there}{left_out}"


def _plain(secret: Secret | None) -> str | None:
    return None if secret is None else secret.get_secret_value()


async def _together(calls: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """All results in order; the first failure ends the others."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(call) for call in calls]
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from None
    return [task.result() for task in tasks]
