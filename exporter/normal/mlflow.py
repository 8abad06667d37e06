"""What an MLflow tracking server answers as measures: runs, their metrics and their checkpoints. Pure.

A number that is none - NaN, an infinity, which the server writes as the largest float there is - is rejected, not exported.
A checkpoint is a model the run has logged: MLflow keeps when it was logged and at which step. Of checkpoints logged as mere
files, as the callbacks of its autologging do, it keeps the path, which names epoch or step, and no time: none is guessed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

import msgspec

from exporter.cells import Unreadable, epoch_milliseconds, moment, number, one_of, text
from exporter.normal.choice import choose
from exporter.reading import Family, Sample
from exporter.records import Fields, Sheet

RUN = ("source", "experiment", "run", "run_id")
RUN_METRIC = Family("desk_mlflow_run_metric", "Newest value of the run's metric, in the metric's own unit", (*RUN, "metric"))
RUN_METRIC_AT = Family(
    "desk_mlflow_run_last_metric_timestamp_seconds", "When the run last logged any metric, Unix time, as its client says", RUN
)
RUN_STEP = Family("desk_mlflow_run_step", "Highest step at which the run has logged a metric", RUN)
RUN_STATUS = Family(
    "desk_mlflow_run_status",
    "1 for the status the run has: running, scheduled, finished, failed, killed",
    (*RUN, "status"),
)
RUN_START = Family("desk_mlflow_run_start_timestamp_seconds", "When the run began, Unix time", RUN)
RUN_END = Family("desk_mlflow_run_end_timestamp_seconds", "When the run ended, Unix time; absent while it goes on", RUN)
DURATION = Family(
    "desk_mlflow_training_duration_seconds",
    "How long the experiment's last finished run took, from begin to end",
    ("source", "experiment"),
)
CHECKPOINT_AT = Family(
    "desk_mlflow_checkpoint_timestamp_seconds",
    "When the model the run logged last was made, Unix time; absent where MLflow keeps no time, as of files",
    RUN,
)
CHECKPOINT_STEP = Family("desk_mlflow_checkpoint_step", "Step of the model the run logged last", RUN)
CHECKPOINT_EPOCH = Family(
    "desk_mlflow_checkpoint_epoch", "Epoch of the run's last checkpoint, where its name is all MLflow keeps of it", RUN
)
METRICS = (
    RUN_METRIC, RUN_METRIC_AT, RUN_STEP, RUN_STATUS, RUN_START, RUN_END, DURATION, CHECKPOINT_AT, CHECKPOINT_STEP,
    CHECKPOINT_EPOCH,
)  # fmt: skip

STATUS = one_of("RUNNING", "SCHEDULED", "FINISHED", "FAILED", "KILLED")
READY = "LOGGED_MODEL_READY"
PENDING = "LOGGED_MODEL_PENDING"
CHECKPOINT_TAG = "mlflow.latest_checkpoint_artifact"
HISTORY_TAG = "mlflow.log-model.history"
"""What clients before MLflow 3 keep of the models they log: a list, each with `utc_time_created`."""
_CHECKPOINT = re.compile(r"(?:^|/)(?P<unit>epoch|global_step)_(?P<number>\d{1,15})(?:/|$)")


@dataclass(frozen=True, slots=True)
class Experiment:
    """An experiment's id and name."""

    id: str
    name: str


@dataclass(frozen=True, slots=True)
class Output:
    """A model a run has logged, and at which step."""

    model_id: str
    step: int


@dataclass(frozen=True, slots=True)
class Logged:
    """A logged model: whether it is whole, whether that can still change, and when it was begun."""

    ready: bool
    settled: bool
    at: datetime


@dataclass(frozen=True, slots=True)
class Run:
    """A run: its labels, samples that need nothing else, the models it has logged, and what its tags say of checkpoints."""

    labels: tuple[str, str, str, str]
    samples: tuple[Sample, ...]
    outputs: tuple[Output, ...]
    tagged: tuple[Sample, ...]


def experiment(fields: Fields) -> Experiment:
    """One of `experiments/search`."""
    return Experiment(fields.text("experiment_id"), fields.text("name"))


class Runs:
    """Reads the runs of one experiment.

    Args:
        source: label `source`.
        experiment: label `experiment`.
        metrics: names of metrics wanted, and expressions for them.
        maximum: metrics of one run that are kept, the first by name.
        sheet: told what cannot be read.
    """

    def __init__(self, source: str, experiment: str, metrics: Sequence[str], maximum: int, sheet: Sheet) -> None:
        self._of = (source, experiment)
        self._metrics = metrics
        self._maximum = maximum
        self._sheet = sheet
        self.left_out = 0
        """Metrics beyond the maximum."""

    def read(self, fields: Fields) -> Run:
        """One of `runs/search`."""
        run_id = fields.text("info.run_id")
        labels = (*self._of, fields.optional_text("info.run_name") or run_id, run_id)
        status = str(fields.get("info.status", STATUS))
        started = fields.milliseconds("info.start_time")
        ended = fields.optional("info.end_time", epoch_milliseconds)
        samples = [
            RUN_STATUS.sample(*labels, status.lower(), value=1.0),
            RUN_START.sample(*labels, value=started.timestamp()),
            *self._logged(labels, fields),
        ]
        if ended is not None and status not in ("RUNNING", "SCHEDULED"):
            samples.append(RUN_END.sample(*labels, value=ended.timestamp()))
        outputs = self._sheet.read("measures", fields.optional("outputs.model_outputs", as_is) or [], _output)
        return Run(labels, tuple(samples), outputs, tuple(_tagged(labels, tags(fields.optional("data.tags", as_is)))))

    def _logged(self, labels: tuple[str, ...], fields: Fields) -> Iterator[Sample]:
        """The metrics, and when and at which step the newest of them was logged."""
        found = self._sheet.read("measures", fields.optional("data.metrics", as_is) or [], _point)
        if not found:
            return
        yield RUN_METRIC_AT.sample(*labels, value=max(point.at for point in found).timestamp())
        yield RUN_STEP.sample(*labels, value=float(max(point.step for point in found)))
        values = {point.name: point for point in found}
        wanted = choose(values, self._metrics).names
        self.left_out += len(wanted[self._maximum :])
        for name in wanted[: self._maximum]:
            try:
                yield RUN_METRIC.sample(*labels, name, value=values[name].value())
            except Unreadable as unreadable:
                record = f"metric {name} of run {labels[2]} in {labels[1]}: {str(values[name].written)[:40]}"
                self._sheet.reject("measures", record, str(unreadable))


@dataclass(frozen=True, slots=True)
class _Point:
    """A metric's newest value as written."""

    name: str
    written: Any
    at: datetime
    step: int

    def value(self) -> float:
        """The number.

        Raises:
            Unreadable: it is none, or none that is finite.
        """
        return float(number(self.written))


def _point(fields: Fields) -> _Point:
    return _Point(fields.text("key"), fields.get("value", as_is), fields.milliseconds("timestamp"), fields.get("step", whole))


def _output(fields: Fields) -> Output:
    return Output(fields.text("model_id"), fields.get("step", whole))


def _tagged(labels: tuple[str, ...], tags: Mapping[str, str]) -> Iterator[Sample]:
    """What tags say of checkpoints: the time of models logged by old clients, epoch or step of files."""
    times = list(_history(tags.get(HISTORY_TAG, "")))
    if times:
        yield CHECKPOINT_AT.sample(*labels, value=max(times).timestamp())
    named = _CHECKPOINT.search(tags.get(CHECKPOINT_TAG, ""))
    if named:
        family = CHECKPOINT_EPOCH if named["unit"] == "epoch" else CHECKPOINT_STEP
        yield family.sample(*labels, value=float(named["number"]))


def _history(written: str) -> Iterator[datetime]:
    try:
        logged = msgspec.json.decode(written) if written else []
    except msgspec.DecodeError:
        return  # a tag is the user's to overwrite
    for each in logged if isinstance(logged, list) else []:
        try:
            yield moment(each.get("utc_time_created") if isinstance(each, Mapping) else None)
        except Unreadable:
            continue


def checkpoint(run: Run, logged: Mapping[str, Logged]) -> Iterator[Sample]:
    """The run's last checkpoint: of the models it has logged and that are whole, the newest of the highest step.

    Without any, what its tags say.
    """
    whole = [(output.step, logged[output.model_id].at) for output in run.outputs if _is_whole(output, logged)]
    if not whole:
        yield from run.tagged
        return
    step, at = max(whole)
    yield CHECKPOINT_AT.sample(*run.labels, value=at.timestamp())
    yield CHECKPOINT_STEP.sample(*run.labels, value=float(step))


def _is_whole(output: Output, logged: Mapping[str, Logged]) -> bool:
    return output.model_id in logged and logged[output.model_id].ready


def logged_model(fields: Fields) -> Logged:
    """The answer of `logged-models/{id}`."""
    status = fields.text("info.status")
    return Logged(status == READY, status != PENDING, fields.milliseconds("info.creation_timestamp_ms"))


def duration(source: str, name: str, fields: Fields) -> Sample:
    """How long a finished run took."""
    seconds = (fields.milliseconds("info.end_time") - fields.milliseconds("info.start_time")).total_seconds()
    if seconds < 0:
        raise Unreadable("negative")
    return DURATION.sample(source, name, value=seconds)


def tags(written: Any) -> dict[str, str]:
    """A record's tags by key. What is no tag is no matter of ours: they are everybody's to write."""
    pairs = [each for each in written if isinstance(each, Mapping)] if isinstance(written, list) else []
    return {str(each.get("key", "")): str(each.get("value", "")) for each in pairs}


def as_is(value: Any) -> Any:
    """The value, to be looked at later."""
    return value


def whole(value: Any) -> int:
    """A whole number, also as text: the server writes 64-bit integers as either."""
    found = Decimal(text(value)) if isinstance(value, str) and value.isdigit() else value
    if isinstance(found, bool) or not isinstance(found, int | Decimal) or found != int(found):
        raise Unreadable("not_a_number")
    return int(found)
