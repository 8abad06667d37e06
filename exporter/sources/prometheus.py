"""Reads another Prometheus-compatible server by instant queries: series of its own, and records of the desk made from series.

Each query becomes a family `desk_external_...` of this exporter, with the labels the configuration names and no others. Each of
`records` becomes positions, prices, accounts, ...: labels are columns, the value is one. The server returns nothing older than
its lookback, five minutes by default. Refuses results that are no numbers, and two series that would be one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, Self, TypeVar

from pydantic import Field, field_validator, model_validator

from deskwatch.clock import Clock
from deskwatch.config import CrossFault, Secret, Settings
from deskwatch.errors import Permanent, Reason, Retryable
from deskwatch.http import HttpConfig, HttpUrl
from deskwatch.venues.prometheus import Answer, Login, PrometheusServer
from exporter.cells import Unreadable, moment, number
from exporter.normal.series import Expression, KeyPath, Label, RecordQueries, records_of
from exporter.reading import Family, Sample
from exporter.snapshot import Kind, Rejected, Snapshot
from exporter.source import Kept, Source, SourceConfig

RESERVED_SUFFIXES = ("_total", "_count", "_sum", "_bucket", "_info", "_created")
"""What is exported is a gauge; these endings promise another type."""
AT_A_TIME = 4
"""Queries asked at once."""
T = TypeVar("T")


class MeasureQuery(Settings):
    """An expression whose series this exporter passes on."""

    name: str = Field(pattern=r"^desk_external_[a-z0-9_]*[a-z0-9]$", max_length=100)
    """The family: `desk_external_...`, its unit last."""
    expr: Expression
    help: str = Field(min_length=1, max_length=300)
    """Unit, sign, horizon."""
    labels: tuple[Label, ...] = ()
    """Labels of the result that are passed on, beside `source`. One that a series lacks is empty."""

    @field_validator("name")
    @classmethod
    def _is_a_gauges(cls, value: str) -> str:
        if value.endswith(RESERVED_SUFFIXES):
            raise ValueError(f"must not end in {', '.join(RESERVED_SUFFIXES)}: it is exported as a gauge")
        return value

    @field_validator("labels")
    @classmethod
    def _can_be_passed_on(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for label in value:
            if label == "source" or label.startswith("__"):
                raise ValueError(f"must not hold {label!r}: label_replace() in the expression gives it another name")
        if len(set(value)) < len(value):
            raise ValueError("must name each label once")
        return value

    @property
    def family(self) -> Family:
        """What its series belong to."""
        return Family(self.name, self.help, ("source", *self.labels))


class Config(SourceConfig):
    """Another Prometheus-compatible server."""

    type: Literal["prometheus"]
    base_url: HttpUrl
    """Address up to, without, `/api/v1`."""
    token: Secret | None = None
    """Bearer token."""
    username: str | None = Field(default=None, min_length=1)
    """User of basic authentication."""
    password: Secret | None = None
    tenant: str | None = Field(default=None, min_length=1)
    """Header `X-Scope-OrgID`, where the server has tenants."""
    http: HttpConfig = HttpConfig()
    queries: tuple[MeasureQuery, ...] = ()
    """Series passed on."""
    records: RecordQueries = RecordQueries()
    """Records of the desk."""
    requires: Expression | None = None
    """An expression that must have a result, e.g. `min(up{job="oms"}) == 1`; while it has none, nothing is read: when one of
    several exporters is down, what is left of a book is not a smaller book."""
    data_timestamp: Expression | None = None
    """An expression whose value is the Unix time of the data, e.g. `max(timestamp(strategy_pnl))`. By default the time of the
    evaluation, which may be as much newer than the data as the server looks back."""
    maximum_series: int = Field(default=5_000, ge=1)
    """An expression with more is an error, not a slow exporter."""

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        faults = [*self._login_faults(), *self._query_faults()]
        faults += ((["records", *path], message) for path, message in self.records.faults())
        if faults:
            raise CrossFault(faults)
        return self

    def _login_faults(self) -> Iterator[tuple[KeyPath, str]]:
        if self.token and self.username:
            yield ["token"], "give either token or username and password, not both"
        if bool(self.username) != bool(self.password):
            missing = "password" if self.username else "username"
            yield [missing], "username and password belong together"

    def _query_faults(self) -> Iterator[tuple[KeyPath, str]]:
        if not self.queries and not self.records.given:
            yield ["queries"], "nothing is read: give queries or records"
        names = [query.name for query in self.queries]
        for index, name in enumerate(names):
            if name in names[:index]:
                yield ["queries", index, "name"], f"must be unique, {name} stands at queries[{names.index(name)}] too"


@dataclass(frozen=True, slots=True)
class _Measured:
    """One query's series, and those left out."""

    samples: tuple[Sample, ...]
    rejected: tuple[Rejected, ...]


class PrometheusSource(Source[Config]):
    """One server."""

    kind = "infrastructure"

    def __init__(self, config: Config, clock: Clock) -> None:
        super().__init__(config, clock)
        login = Login(_plain(config.token), config.username, _plain(config.password), config.tenant)
        self._server = PrometheusServer(config.base_url, config.http, clock, login)
        self._families = {query.name: query.family for query in config.queries}
        self._turns = asyncio.Semaphore(AT_A_TIME)

    @property
    def provides(self) -> AbstractSet[Kind]:
        """Measures where there are queries, and the kinds under `records`."""
        measures: frozenset[Kind] = frozenset({"measures"} if self.config.queries else ())
        return measures | self.config.records.given.keys()

    async def fetch(self, kept: Kept) -> Snapshot:
        """Ask everything once.

        Raises:
            Retryable: the server cannot be asked or gives up on an expression, or something required has no result.
            Permanent: an expression is wrong, has too many series, or is no number; carries its name.
        """
        at = self.clock.now()
        expressions = self._expressions()
        answers = await _together([self._ask(what, expr) for what, expr in expressions.items()])
        # Converting many series takes longer than the event loop may wait.
        return await asyncio.to_thread(self._snapshot, at, dict(zip(expressions, answers, strict=True)))

    async def close(self) -> None:
        """Close the connections."""
        await self._server.close()

    def _expressions(self) -> dict[str, str]:
        """Everything that is asked, by its key path."""
        config = self.config
        found = {f"queries.{query.name}": query.expr for query in config.queries}
        found |= {f"records.{kind}": query.expr for kind, query in config.records.given.items()}
        found |= {"requires": config.requires} if config.requires else {}
        found |= {"data_timestamp": config.data_timestamp} if config.data_timestamp else {}
        return found

    async def _ask(self, what: str, expression: str) -> Answer:
        try:
            async with self._turns:
                answer = await self._server.query(expression)
        except Permanent as error:
            raise Permanent(f"{what}: {error}", reason=error.reason) from None
        except Retryable as error:
            raise Retryable(f"{what}: {error}", reason=error.reason, retry_after_seconds=error.retry_after_seconds) from None
        if answer.type == "matrix" and what != "records.returns":
            raise _wrong(what, "evaluates to a range of values: an instant has one, drop the [...] or aggregate over it")
        if answer.series > self.config.maximum_series:
            found = f"{answer.series} series, maximum_series is {self.config.maximum_series}"
            raise Permanent(f"{what}: {found}: aggregate in the expression", reason=Reason.TOO_LARGE)
        return answer

    def _snapshot(self, at: datetime, answers: Mapping[str, Answer]) -> Snapshot:
        self._require(answers)
        measured = [self._measured(query, answers[f"queries.{query.name}"]) for query in self.config.queries]
        given = self.config.records.given.items()
        found = [records_of(kind, query, answers[f"records.{kind}"].points, at) for kind, query in given]
        notes = {"server": self.config.base_url}
        notes |= {each.kind: "; ".join((f"{len(each.records)} records", *each.notes)) for each in found}
        notes |= {f"remarks on {what}": "; ".join(answer.remarks) for what, answer in answers.items() if answer.remarks}
        return Snapshot(
            fetched_at=at,
            data_at=self._data_at(answers),
            measures=tuple(sample for each in measured for sample in each.samples),
            rejected=(
                *(left_out for each in measured for left_out in each.rejected),
                *(left_out for each in found for left_out in each.rejected),
            ),
            notes=notes,
            **{each.kind: each.records for each in found},
        )

    def _require(self, answers: Mapping[str, Answer]) -> None:
        """Refuse an answer that is not whole."""
        if self.config.requires and not answers["requires"].points:
            raise Retryable("requires: the expression has no result, so nothing is read", reason=Reason.NOT_FOUND)
        for kind, query in self.config.records.given.items():
            if not query.may_be_empty and not answers[f"records.{kind}"].points:
                hint = f"is what exports it gone? If there may be none, set records.{kind}.may_be_empty"
                raise Retryable(f"records.{kind}: the expression has no result: {hint}", reason=Reason.NOT_FOUND)

    def _measured(self, query: MeasureQuery, answer: Answer) -> _Measured:
        family = self._families[query.name]
        found: dict[tuple[str, ...], Sample] = {}
        rejected: list[Rejected] = []
        seen: set[tuple[str, ...]] = set()
        for point in answer.points:
            labels = tuple(point.labels.get(label, "") for label in query.labels)
            if labels in seen:
                shown = ", ".join(f"{name}={value!r}" for name, value in zip(query.labels, labels, strict=True)) or "none"
                said = (
                    f"two series have the labels {shown}: aggregate in the expression, e.g. sum by (...), or name more labels"
                )
                raise _wrong(f"queries.{query.name}", said)
            seen.add(labels)
            try:
                found[labels] = family.sample(self.config.name, *labels, value=float(number(point.value)))
            except Unreadable as unreadable:
                rejected.append(Rejected(f"{query.name}{dict(point.labels)}={point.value[:40]}", str(unreadable), "measures"))
        return _Measured(tuple(found.values()), tuple(rejected))

    def _data_at(self, answers: Mapping[str, Answer]) -> datetime | None:
        """Market time of the newest data: what `data_timestamp` evaluates to, or when the server evaluated."""
        clock = answers.get("data_timestamp")
        if clock is None:
            return max((_moment(point.at) for answer in answers.values() for point in answer.points), default=None)
        if len(clock.points) > 1:
            raise _wrong("data_timestamp", f"has {len(clock.points)} series, must have one: take max(...) of it")
        return _moment(clock.points[0].value) if clock.points else None


def _plain(secret: Secret | None) -> str | None:
    return None if secret is None else secret.get_secret_value()


def _moment(value: Any) -> datetime:
    try:
        return moment(number(value))
    except Unreadable:
        raise Retryable(f"Prometheus answered a time that is none: {str(value)[:40]}", reason=Reason.BAD_RESPONSE) from None


def _wrong(what: str, said: str) -> Permanent:
    return Permanent(f"{what}: {said}", reason=Reason.REJECTED)


async def _together(calls: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """All results in order; the first failure ends the others."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(call) for call in calls]
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from None
    return [task.result() for task in tasks]
