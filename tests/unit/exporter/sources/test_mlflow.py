"""A tracking server's answers as measures, in memory: configuration, labels, limits, and records that cannot be read."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest

from deskwatch.clock import ManualClock
from deskwatch.config import validate
from deskwatch.errors import Permanent, Reason, Retryable
from exporter.normal.mlflow import (
    CHECKPOINT_AT,
    CHECKPOINT_EPOCH,
    CHECKPOINT_STEP,
    DURATION,
    HISTORY_TAG,
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
from exporter.sources.mlflow import LOOKED_AT, Config, MlflowSource
from tests.stand_ins.mlflow import BEGAN, DENIED, EXPERIMENTS, LOGGED, MODELS, NOT_THERE, RUNS, Mlflow
from tests.stand_ins.mlflow import VERSION as VERSION_PATH
from tests.stand_ins.server import HTML, Answer
from tests.stand_ins.venue import answer


@pytest.fixture
async def mlflow() -> AsyncIterator[Mlflow]:
    """With nothing in it."""
    async with Mlflow() as found:
        yield found


@asynccontextmanager
async def watching(mlflow: Mlflow, **settings: Any) -> AsyncIterator[MlflowSource]:
    """A source of it."""
    content = {"type": "mlflow", "name": "desk", "base_url": mlflow.url + mlflow.prefix, **settings}
    config = validate(Config, content)
    assert isinstance(config, Config), config
    source = MlflowSource(config, ManualClock())
    try:
        yield source
    finally:
        await source.close()


async def fetched(mlflow: Mlflow, **settings: Any) -> Snapshot:
    """One fetch of a new source."""
    async with watching(mlflow, **settings) as source:
        return await source.fetch(Kept())


def values(snapshot: Snapshot, family: Family) -> dict[tuple[str, ...], float]:
    """The family's series; `source` is checked and left out of the labels."""
    found = [sample for sample in snapshot.measures if sample.family is family]
    assert {sample.labels[0] for sample in found} <= {"desk"}
    assert len({sample.labels for sample in found}) == len(found)
    return {sample.labels[1:]: sample.value for sample in found}


def reasons(snapshot: Snapshot) -> list[str]:
    """Why records were left out."""
    assert {each.kind for each in snapshot.rejected} <= {"measures"}
    return sorted(each.reason for each in snapshot.rejected)


async def test_a_run_and_everything_known_of_it(mlflow: Mlflow) -> None:
    """Values as written, times as Unix seconds; two runs of one name are told apart by their id."""
    experiment = mlflow.experiment("carry")
    metrics = {"return": (0.015, BEGAN + 5000, 12), "win rate": (0.0, BEGAN + 6000, 11)}
    done = mlflow.run(experiment, "ppo", status="FINISHED", start=BEGAN, end=BEGAN + 90_500, metrics=metrics)
    live = mlflow.run(experiment, "ppo", start=BEGAN + 1000)
    snapshot = await fetched(mlflow)
    one, other = ("carry", "ppo", done), ("carry", "ppo", live)
    assert values(snapshot, RUN_METRIC) == {(*one, "return"): 0.015, (*one, "win rate"): 0.0}
    assert values(snapshot, RUN_METRIC_AT) == {one: BEGAN / 1000 + 6}
    assert values(snapshot, RUN_STEP) == {one: 12}
    assert values(snapshot, RUN_STATUS) == {(*one, "finished"): 1, (*other, "running"): 1}
    assert values(snapshot, RUN_START) == {one: BEGAN / 1000, other: BEGAN / 1000 + 1}
    assert values(snapshot, RUN_END) == {one: BEGAN / 1000 + 90.5}
    assert values(snapshot, DURATION) == {("carry",): 90.5}
    assert snapshot.rejected == ()
    assert snapshot.notes == {"server": mlflow.url, "experiments": "1 of 1", "runs": "2", "models": "0 of 0"}


async def test_the_newest_runs_are_read_and_the_last_finished_one_wherever_it_is(mlflow: Mlflow) -> None:
    """By begin; what finished last may have begun long before."""
    experiment = mlflow.experiment("carry")
    mlflow.run(experiment, "long", status="FINISHED", start=BEGAN, end=BEGAN + 1_000_000)
    mlflow.run(experiment, "short", status="FINISHED", start=BEGAN + 1000, end=BEGAN + 2000)
    newest = [mlflow.run(experiment, f"r{number}", start=BEGAN + 10_000 + number) for number in range(3)]
    snapshot = await fetched(mlflow, maximum_runs=2)
    assert {labels[2] for labels in values(snapshot, RUN_START)} == set(newest[1:])
    assert values(snapshot, DURATION) == {("carry",): 1000}


async def test_paging_stops_when_there_is_enough(mlflow: Mlflow) -> None:
    """Two to a page: three runs need two pages, whatever else there is."""
    mlflow.most = 2
    experiment = mlflow.experiment("carry")
    for number in range(9):
        mlflow.run(experiment, f"r{number}")
    assert len(values(await fetched(mlflow, maximum_runs=3, models=[]), RUN_START)) == 3
    assert len([each for each in mlflow.asked(RUNS) if "start_time" in each.json["order_by"][0]]) == 2


async def test_experiments_and_models_are_paged_to_the_end(mlflow: Mlflow) -> None:
    """One may be wanted that stands last."""
    mlflow.most = 2
    for number in range(5):
        mlflow.run(mlflow.experiment(f"e{number}"), "r")
        mlflow.version(f"m{number}")
    snapshot = await fetched(mlflow)
    assert {labels[0] for labels in values(snapshot, RUN_START)} == {f"e{number}" for number in range(5)}
    assert {labels[0] for labels in values(snapshot, VERSION)} == {f"m{number}" for number in range(5)}


async def test_names_and_expressions_choose(mlflow: Mlflow) -> None:
    """Of experiments, metrics and models; system metrics are not wanted by default."""
    carry, other = mlflow.experiment("carry v1.2"), mlflow.experiment("carry v1x2")
    for experiment in (carry, other):
        mlflow.run(experiment, "r", metrics={"return": 1, "loss": 2, "system/cpu": 3})
    mlflow.version("fx")
    mlflow.version("rates")
    snapshot = await fetched(mlflow, experiments=["carry v1.2"], models=["f.*"])
    assert {(labels[0], labels[3]) for labels in values(snapshot, RUN_METRIC)} == {
        ("carry v1.2", "return"),
        ("carry v1.2", "loss"),
    }
    assert {labels[0] for labels in values(snapshot, VERSION)} == {"fx"}
    assert snapshot.notes["experiments"] == "1 of 2"
    chosen = await fetched(mlflow, metrics=["system/.*"])
    assert {labels[3] for labels in values(chosen, RUN_METRIC)} == {"system/cpu"}


async def test_limits_leave_out_and_say_so(mlflow: Mlflow) -> None:
    """The experiments changed last; metrics and models by name."""
    for number in range(3):
        mlflow.run(mlflow.experiment(f"e{number}"), "r", metrics={"a": 1, "b": 2, "c": 3})
        mlflow.version(f"m{number}")
    mlflow.experiments[0]["last_update_time"] = BEGAN * 2
    snapshot = await fetched(mlflow, maximum_experiments=2, maximum_metrics=2, maximum_models=1)
    assert {(labels[0], labels[3]) for labels in values(snapshot, RUN_METRIC)} == {
        (experiment, metric) for experiment in ("e0", "e2") for metric in ("a", "b")
    }
    assert {labels[0] for labels in values(snapshot, VERSION)} == {"m0"}
    assert snapshot.notes["experiments"] == "3 of 3, the first 2 of them are read"
    assert snapshot.notes["models"] == "3 of 3, the first 1 of them are read"
    assert snapshot.notes["runs"] == "2; 2 metrics over maximum_metrics are left out"


async def test_no_models_wanted_leaves_the_registry_alone(mlflow: Mlflow) -> None:
    """Not every tracking server has one."""
    await fetched(mlflow, models=[])
    assert mlflow.asked(MODELS) == []


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf"), "NaN", "Infinity", None, "many", True])
async def test_a_value_that_is_no_number_is_counted_and_the_others_stand(mlflow: Mlflow, value: Any) -> None:
    """As the server writes it: NaN as text, an infinity as the largest float."""
    mlflow.run(mlflow.experiment("carry"), "r", metrics={"bad": value, "good": 1.5})
    snapshot = await fetched(mlflow)
    assert [labels[3] for labels in values(snapshot, RUN_METRIC)] == ["good"]
    assert len(reasons(snapshot)) == 1
    assert set(reasons(snapshot)) <= {"not_finite", "missing", "not_a_number"}


async def test_a_run_that_cannot_be_read_is_counted_and_the_others_stand(mlflow: Mlflow) -> None:
    """No id, no begin, a status nobody knows."""
    experiment = mlflow.experiment("carry")
    for spoil in ({"run_id": None}, {"start_time": 10**18}, {"status": "DREAMING"}):
        mlflow.runs[int(mlflow.run(experiment, "bad"), 16)]["info"] |= spoil
    good = mlflow.run(experiment, "good")
    snapshot = await fetched(mlflow)
    assert list(values(snapshot, RUN_START)) == [("carry", "good", good)]
    assert reasons(snapshot) == ["missing", "not_a_choice", "not_a_time"]


async def test_a_run_without_a_name_has_its_id(mlflow: Mlflow) -> None:
    """Clients older than MLflow 1.30 gave none."""
    run = mlflow.run(mlflow.experiment("carry"), "")
    assert list(values(await fetched(mlflow), RUN_START)) == [("carry", run, run)]


async def test_an_end_of_a_run_that_goes_on_is_none(mlflow: Mlflow) -> None:
    """A run that was resumed keeps the end it had."""
    mlflow.run(mlflow.experiment("carry"), "r", status="RUNNING", end=BEGAN)
    assert values(await fetched(mlflow), RUN_END) == {}


async def test_a_finish_before_the_begin_is_no_duration(mlflow: Mlflow) -> None:
    """A client's clock."""
    mlflow.run(mlflow.experiment("carry"), "r", status="FINISHED", start=BEGAN, end=BEGAN - 1000)
    snapshot = await fetched(mlflow)
    assert values(snapshot, DURATION) == {}
    assert reasons(snapshot) == ["negative"]


async def test_the_last_checkpoint_is_the_newest_whole_model_of_the_highest_step(mlflow: Mlflow) -> None:
    """One being written and one that failed are none; of two of one step the newer counts."""
    run = mlflow.run(mlflow.experiment("carry"), "r")
    mlflow.checkpoint(run, step=10, at=BEGAN + 900_000)
    mlflow.checkpoint(run, step=20, at=BEGAN + 60_000)
    mlflow.checkpoint(run, step=20, at=BEGAN + 50_000)
    mlflow.checkpoint(run, step=30, status="LOGGED_MODEL_UPLOAD_FAILED")
    mlflow.checkpoint(run, step=40, status="LOGGED_MODEL_PENDING")
    snapshot = await fetched(mlflow)
    assert values(snapshot, CHECKPOINT_STEP) == {("carry", "r", run): 20}
    assert values(snapshot, CHECKPOINT_AT) == {("carry", "r", run): BEGAN / 1000 + 60}
    assert snapshot.rejected == ()


async def test_a_checkpoint_is_asked_for_once_unless_it_is_being_written(mlflow: Mlflow) -> None:
    """What is whole stays so."""
    run = mlflow.run(mlflow.experiment("carry"), "r")
    mlflow.checkpoint(run, step=1)
    mlflow.checkpoint(run, step=2, status="LOGGED_MODEL_UPLOAD_FAILED")
    late = mlflow.checkpoint(run, step=3, status="LOGGED_MODEL_PENDING")
    async with watching(mlflow) as source:
        for _ in range(2):
            assert values(await source.fetch(Kept()), CHECKPOINT_STEP) == {("carry", "r", run): 1}
        assert len(mlflow.asked(LOGGED)) == 4
        mlflow.logged[late]["info"]["status"] = "LOGGED_MODEL_READY"
        for _ in range(2):
            assert values(await source.fetch(Kept()), CHECKPOINT_STEP) == {("carry", "r", run): 3}
        assert len(mlflow.asked(LOGGED)) == 5
        mlflow.runs.clear()
        await source.fetch(Kept())
        assert source._settled == {}


async def test_only_the_last_few_models_of_a_run_are_looked_at(mlflow: Mlflow) -> None:
    """A run with thousands of broken uploads must not cost thousands of calls."""
    run = mlflow.run(mlflow.experiment("carry"), "r")
    mlflow.checkpoint(run, step=0)
    for step in range(1, 30):
        mlflow.checkpoint(run, step=step, status="LOGGED_MODEL_UPLOAD_FAILED")
    assert values(await fetched(mlflow), CHECKPOINT_STEP) == {}
    assert len(mlflow.asked(LOGGED)) == LOOKED_AT


async def test_a_checkpoint_that_was_deleted_is_counted_and_the_one_before_it_stands(mlflow: Mlflow) -> None:
    """The run still names it."""
    run = mlflow.run(mlflow.experiment("carry"), "r")
    mlflow.checkpoint(run, step=1)
    del mlflow.logged[mlflow.checkpoint(run, step=2)]
    snapshot = await fetched(mlflow)
    assert values(snapshot, CHECKPOINT_STEP) == {("carry", "r", run): 1}
    assert reasons(snapshot) == ["not_found"]


@pytest.mark.parametrize(
    ("path", "epoch", "step"),
    [
        ("checkpoints/epoch_3/checkpoint.pth", 3, None),
        ("checkpoints/global_step_900/checkpoint.weights.pth", None, 900),
        ("checkpoints/latest_checkpoint.pth", None, None),
        ("checkpoints/epoch_soon/checkpoint.pth", None, None),
        ("", None, None),
    ],
)
async def test_a_checkpoint_logged_as_a_file_has_what_its_path_says(
    mlflow: Mlflow, path: str, epoch: float | None, step: float | None
) -> None:
    """Epoch or step, and no time: MLflow keeps none."""
    run = mlflow.run(mlflow.experiment("carry"), "r", tags={"mlflow.latest_checkpoint_artifact": path})
    snapshot = await fetched(mlflow)
    labels = ("carry", "r", run)
    assert values(snapshot, CHECKPOINT_EPOCH) == ({} if epoch is None else {labels: epoch})
    assert values(snapshot, CHECKPOINT_STEP) == ({} if step is None else {labels: step})
    assert values(snapshot, CHECKPOINT_AT) == {}


async def test_a_logged_model_says_more_than_a_files_path(mlflow: Mlflow) -> None:
    """Never two answers for one run."""
    run = mlflow.run(mlflow.experiment("carry"), "r", tags={"mlflow.latest_checkpoint_artifact": "checkpoints/global_step_5/c"})
    mlflow.checkpoint(run, step=7)
    assert values(await fetched(mlflow), CHECKPOINT_STEP) == {("carry", "r", run): 7}


@pytest.mark.parametrize(
    ("history", "at"),
    [
        (
            '[{"utc_time_created": "2023-11-14 22:13:20.5"}, {"utc_time_created": "2023-11-14 22:13:21.5"}, {"x": 1}, 3]',
            1_700_000_001.5,
        ),
        ("[]", None),
        ("{}", None),
        ("[{", None),
        ('[{"utc_time_created": "yesterday"}]', None),
    ],
)
async def test_models_logged_by_clients_before_mlflow_3_have_a_time(mlflow: Mlflow, history: str, at: float | None) -> None:
    """In a tag, which anybody may overwrite."""
    run = mlflow.run(mlflow.experiment("carry"), "r", tags={HISTORY_TAG: history})
    snapshot = await fetched(mlflow)
    assert values(snapshot, CHECKPOINT_AT) == ({} if at is None else {("carry", "r", run): at})
    assert snapshot.rejected == ()


async def test_versions_by_stage_and_by_alias(mlflow: Mlflow) -> None:
    """Each version that counts has its facts once; others have none."""
    for stage, aliases in (("None", ["champion", "audited"]), ("Production", []), ("None", []), ("None", ["next"])):
        mlflow.version("fx", "run1", stage=stage, aliases=aliases)
    mlflow.version("greeting", tags={"mlflow.prompt.is_prompt": "true"})
    mlflow.models["empty"] = {"name": "empty", "creation_timestamp": BEGAN, "last_updated_timestamp": BEGAN}
    snapshot = await fetched(mlflow)
    assert values(snapshot, VERSION) == {
        ("fx", "None", ""): 4,
        ("fx", "Production", ""): 2,
        ("fx", "", "champion"): 1,
        ("fx", "", "audited"): 1,
        ("fx", "", "next"): 4,
    }
    assert values(snapshot, VERSION_INFO) == {
        ("fx", "1", "None", "ready", "run1"): 1,
        ("fx", "2", "Production", "ready", "run1"): 1,
        ("fx", "4", "None", "ready", "run1"): 1,
    }
    assert values(snapshot, VERSION_CREATED) == {("fx", str(number)): BEGAN / 1000 + number for number in (1, 2, 4)}
    assert values(snapshot, VERSION_UPDATED).keys() == {("fx", "1"), ("fx", "2"), ("fx", "4")}
    assert len(mlflow.asked(VERSION_PATH)) == 1
    assert snapshot.notes["models"] == "2 of 2"


async def test_a_model_that_cannot_be_read_is_counted_and_the_others_stand(mlflow: Mlflow) -> None:
    """A version that is no number."""
    mlflow.version("bad")
    mlflow.version("good")
    mlflow.versions["bad", "1"]["version"] = "one"
    snapshot = await fetched(mlflow)
    assert {labels[0] for labels in values(snapshot, VERSION)} == {"good"}
    assert reasons(snapshot) == ["not_a_number"]


@pytest.mark.parametrize(("refused", "reason"), [(NOT_THERE, "not_found"), (DENIED, "auth")])
async def test_what_one_experiment_withholds_does_not_cost_the_others(mlflow: Mlflow, refused: Answer, reason: str) -> None:
    """Deleted while it was read, or not for us."""
    mlflow.run(mlflow.experiment("carry"), "r")
    mlflow.run(mlflow.experiment("secret"), "r")
    mlflow.refuse = lambda request: refused if request.path == RUNS and request.json["experiment_ids"] == ["1"] else None
    snapshot = await fetched(mlflow)
    assert {labels[0] for labels in values(snapshot, RUN_START)} == {"carry"}
    assert reasons(snapshot) == [reason, reason]


@pytest.mark.parametrize(("refused", "reason"), [(NOT_THERE, "not_found"), (DENIED, "auth")])
async def test_a_version_that_is_withheld_leaves_its_number(mlflow: Mlflow, refused: Answer, reason: str) -> None:
    """The alias is known, the rest is not."""
    mlflow.version("fx", aliases=["champion"])
    mlflow.version("fx")
    mlflow.fault(VERSION_PATH, refused)
    snapshot = await fetched(mlflow)
    assert values(snapshot, VERSION) == {("fx", "None", ""): 2, ("fx", "", "champion"): 1}
    assert values(snapshot, VERSION_CREATED).keys() == {("fx", "2")}
    assert reasons(snapshot) == [reason]


async def test_a_server_without_a_registry_still_has_its_runs(mlflow: Mlflow) -> None:
    """Counted, not fatal."""
    mlflow.run(mlflow.experiment("carry"), "r")
    mlflow.fault(MODELS, Answer(404, "<html></html>", content_type="text/html"))
    snapshot = await fetched(mlflow)
    assert len(values(snapshot, RUN_START)) == 1
    assert reasons(snapshot) == ["not_found"]


@pytest.mark.parametrize(
    ("refused", "kind", "reason"),
    [
        (DENIED, Permanent, Reason.AUTH),
        (answer({"error_code": "INVALID_PARAMETER_VALUE", "message": "max_results"}, 400), Permanent, Reason.REJECTED),
        (
            answer({"error_code": "RESOURCE_EXHAUSTED", "message": "slow down"}, 429, Retry_After="7"),
            Retryable,
            Reason.RATE_LIMITED,
        ),
        (answer({"error_code": "REQUEST_LIMIT_EXCEEDED", "message": "slow down"}, 400), Retryable, Reason.RATE_LIMITED),
        (answer({"error_code": "TEMPORARILY_UNAVAILABLE", "message": "later"}, 503), Retryable, Reason.SERVER_ERROR),
        (answer({"error_code": "INTERNAL_ERROR", "message": "oops"}, 500), Retryable, Reason.SERVER_ERROR),
        (answer({"error_code": "UNHEARD_OF", "message": "?"}, 400), Permanent, Reason.REJECTED),
        (answer({"error_code": "UNAUTHENTICATED", "message": "who?"}, 401), Permanent, Reason.AUTH),
        (HTML, Retryable, Reason.BAD_RESPONSE),
        (answer({"status": "ok"}), Retryable, Reason.BAD_RESPONSE),
        (answer([]), Retryable, Reason.BAD_RESPONSE),
        (answer({"experiments": {}}), Retryable, Reason.BAD_RESPONSE),
        (answer({"experiments": [], "next_page_token": 7}), Retryable, Reason.BAD_RESPONSE),
    ],
)
async def test_what_the_servers_answer_means(mlflow: Mlflow, refused: Answer, kind: type[Exception], reason: Reason) -> None:
    """Of a question about everything, for everything."""
    mlflow.fault(EXPERIMENTS, refused)
    with pytest.raises(kind) as caught:
        await fetched(mlflow)
    assert caught.value.reason is reason  # type: ignore[attr-defined]


async def test_a_login_that_has_expired_is_no_matter_of_one_experiment(mlflow: Mlflow) -> None:
    """401, whatever the body says: an exporter that is not let in has read nothing."""
    mlflow.run(mlflow.experiment("carry"), "r")
    mlflow.fault(RUNS, answer({"error_code": "PERMISSION_DENIED", "message": "token expired"}, 401))
    with pytest.raises(Permanent) as caught:
        await fetched(mlflow)
    assert caught.value.reason is Reason.AUTH


async def test_the_wait_a_busy_server_asks_for_is_kept(mlflow: Mlflow) -> None:
    """Seconds, from the header."""
    mlflow.fault(EXPERIMENTS, answer({"error_code": "TEMPORARILY_UNAVAILABLE", "message": "later"}, 503, Retry_After="7"))
    with pytest.raises(Retryable) as caught:
        await fetched(mlflow)
    assert caught.value.retry_after_seconds == 7


async def test_an_error_of_one_call_is_the_fetchs_own(mlflow: Mlflow) -> None:
    """Not a group of errors, and not half a snapshot."""
    for number in range(4):
        mlflow.run(mlflow.experiment(f"e{number}"), "r")
    mlflow.fault(RUNS, Answer(500, "boom"))
    with pytest.raises(Retryable) as caught:
        await fetched(mlflow)
    assert caught.value.reason is Reason.SERVER_ERROR


async def test_paging_that_does_not_end_is_ended(mlflow: Mlflow, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that always has one more page."""
    monkeypatch.setattr("deskwatch.venues.mlflow.MOST_PAGES", 3)
    for path, key in ((EXPERIMENTS, "experiments"), (MODELS, "registered_models")):
        mlflow.fault(path, answer({key: [], "next_page_token": "more"}), always=True)
        with pytest.raises(Retryable, match="more than 3 pages"):
            await fetched(mlflow)
        assert len(mlflow.asked(path)) == 3
        mlflow.heal()


@pytest.mark.parametrize(
    ("login", "header"),
    [
        ({"token": "t0ken"}, "Bearer t0ken"),
        ({"username": "kim", "password": "hunter2"}, "Basic a2ltOmh1bnRlcjI="),
    ],
)
async def test_the_login_goes_with_every_call(mlflow: Mlflow, login: Mapping[str, str], header: str) -> None:
    """Without it, or with another, nothing is read; it stands in no message."""
    mlflow.authorization = header
    run = mlflow.run(mlflow.experiment("carry"), "r")
    mlflow.checkpoint(run, step=1)
    assert len(values(await fetched(mlflow, **login), RUN_START)) == 1
    mlflow.authorization = "Bearer other"
    with pytest.raises(Permanent) as caught:
        await fetched(mlflow, **login)
    assert caught.value.reason is Reason.AUTH
    assert not {"t0ken", "hunter2"} & set(str(caught.value).split())


async def test_a_path_before_the_api_is_kept() -> None:
    """Behind a proxy."""
    async with Mlflow(prefix="/tracking/mlflow") as mlflow:
        mlflow.run(mlflow.experiment("carry"), "r")
        assert len(values(await fetched(mlflow), RUN_START)) == 1


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ({"token": "t", "username": "u", "password": "p"}, "token: give either token or username and password, not both"),
        ({"username": "u"}, "password: username and password belong together"),
        ({"password": "p"}, "username: username and password belong together"),
        ({"experiments": ["["]}, "experiments[0]: must be a name or a regular expression"),
        ({"base_url": "http://kim:pw@mlflow"}, "base_url: must not carry a user or password"),
    ],
)
def test_a_configuration_that_cannot_work_is_refused(settings: dict[str, Any], fault: str) -> None:
    """With its key path."""
    found = validate(Config, {"type": "mlflow", "name": "desk", "base_url": "http://mlflow"} | settings)
    assert isinstance(found, list)
    assert str(found[0]).startswith(fault)
