"""What an MLflow server's registry answers as measures: the versions of registered models, by stage and by alias. Pure.

A version has measures of its own if it is the newest of its stage or has an alias; of the others there may be thousands.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from exporter.normal.mlflow import as_is, tags, whole
from exporter.reading import Family, Sample
from exporter.records import Fields

VERSION = Family(
    "desk_mlflow_model_version",
    "Version of the registered model that has the alias, or that is the newest of the stage (None: of no stage)",
    ("source", "model", "stage", "alias"),
)
VERSION_INFO = Family(
    "desk_mlflow_model_version_info",
    "1 for each version that has an alias or is the newest of its stage: its stage, its state and the run it is from",
    ("source", "model", "version", "stage", "status", "run_id"),
)
VERSION_CREATED = Family(
    "desk_mlflow_model_version_created_timestamp_seconds",
    "When the version was made, Unix time",
    ("source", "model", "version"),
)
VERSION_UPDATED = Family(
    "desk_mlflow_model_version_updated_timestamp_seconds",
    "When the version, its stage or its description was last changed, Unix time",
    ("source", "model", "version"),
)
METRICS = (VERSION, VERSION_INFO, VERSION_CREATED, VERSION_UPDATED)
PROMPT_TAG = "mlflow.prompt.is_prompt"
"""MLflow keeps prompts among the registered models."""


@dataclass(frozen=True, slots=True)
class Version:
    """One version of a registered model."""

    model: str
    number: int
    stage: str
    status: str
    run_id: str
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class Model:
    """A registered model: the newest version of each stage, and the version number each alias stands for."""

    name: str
    newest: tuple[Version, ...]
    aliases: Mapping[str, int]


def model(fields: Fields) -> Model | None:
    """One of `registered-models/search`; None where it is a prompt."""
    if tags(fields.optional("tags", as_is)).get(PROMPT_TAG) == "true":
        return None
    newest = [version(Fields(each)) for each in fields.optional("latest_versions", as_is) or []]
    aliases = [Fields(each) for each in fields.optional("aliases", as_is) or []]
    return Model(fields.text("name"), tuple(newest), {each.text("alias"): each.get("version", whole) for each in aliases})


def version(fields: Fields) -> Version:
    """A model version."""
    return Version(
        model=fields.text("name"),
        number=fields.get("version", whole),
        stage=fields.optional_text("current_stage") or "None",
        status=fields.text("status").lower(),
        run_id=fields.optional_text("run_id") or "",
        created_at=fields.milliseconds("creation_timestamp"),
        updated_at=fields.milliseconds("last_updated_timestamp"),
    )


def model_samples(source: str, found: Model, aliased: Mapping[int, Version]) -> Iterator[Sample]:
    """A model's versions: by stage, by alias, and what is known of each of them."""
    for each in found.newest:
        yield VERSION.sample(source, found.name, each.stage, "", value=float(each.number))
    for alias, number in sorted(found.aliases.items()):
        yield VERSION.sample(source, found.name, "", alias, value=float(number))
    for each in ({version.number: version for version in found.newest} | dict(aliased)).values():
        labels = (source, found.name, str(each.number))
        yield VERSION_INFO.sample(*labels, each.stage, each.status, each.run_id, value=1.0)
        yield VERSION_CREATED.sample(*labels, value=each.created_at.timestamp())
        yield VERSION_UPDATED.sample(*labels, value=each.updated_at.timestamp())
