"""Another Prometheus as a source: what its answers become, and everything that is refused."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import httpx
import pytest
import respx
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families

from deskwatch.clock import ManualClock
from deskwatch.config import validate
from deskwatch.errors import Permanent, Reason, Retryable
from exporter.exposition import Form, Renderer
from exporter.snapshot import Account, InstrumentTerms, Position, Price, Signal, Snapshot
from exporter.source import Kept
from exporter.sources.prometheus import Config, PrometheusSource

URL = "http://prometheus.example/prom"
AT = 1768467600.5
TIME = datetime(2026, 1, 15, 9, 0, 0, 500_000, UTC)
QUERY = {"name": "desk_external_pnl_usd", "expr": "pnl", "help": "Profit, USD", "labels": ["strategy"]}
Server = Callable[[str], httpx.Response]


def settings(**changes: Any) -> dict[str, Any]:
    """A configuration with one query."""
    return {"type": "prometheus", "name": "other", "base_url": URL, "queries": [QUERY]} | changes


def series(value: str, at: float = AT, **labels: str) -> dict[str, Any]:
    """One series of a vector."""
    return {"metric": labels, "value": [at, value]}


def vector(*found: Mapping[str, Any], **extra: Any) -> httpx.Response:
    """A successful answer."""
    return success("vector", list(found), **extra)


def success(kind: str, result: Any, **extra: Any) -> httpx.Response:
    """As the query API writes it."""
    return httpx.Response(200, json={"status": "success", "data": {"resultType": kind, "result": result}, **extra})


def refused(status: int, kind: str, said: str) -> httpx.Response:
    """An error as the query API writes it."""
    return httpx.Response(status, json={"status": "error", "errorType": kind, "error": said})


class Fetch:
    """A source and the server it asks: expression to answer."""

    def __init__(self) -> None:
        self.router = respx.MockRouter(assert_all_called=False)
        self.made: list[PrometheusSource] = []

    async def __call__(self, answers: Mapping[str, httpx.Response], **changes: Any) -> Snapshot:
        """One fetch."""
        return await self.source(answers, **changes).fetch(Kept())

    def source(self, answers: Mapping[str, httpx.Response], **changes: Any) -> PrometheusSource:
        """The source."""
        self.router.get(f"{URL}/api/v1/query").mock(side_effect=lambda request: answers[request.url.params["query"]])
        config = validate(Config, settings(**changes))
        assert isinstance(config, Config), config
        self.made.append(PrometheusSource(config, ManualClock(TIME)))
        return self.made[-1]


@pytest.fixture
async def fetch() -> AsyncIterator[Fetch]:
    """Asks a server made up for the test."""
    found = Fetch()
    with found.router:
        yield found
        for source in found.made:
            await source.close()


async def test_each_series_becomes_one_of_the_family_with_the_labels_named(fetch: Fetch) -> None:
    """Others are dropped, one that is absent is empty, `source` comes first; names are the configuration's."""
    answer = vector(
        series("1.5", __name__="pnl", strategy="trend", instance="a:1"),
        series("-2e3", __name__="pnl"),
        series("0.1", strategy="x"),
    )
    snapshot = await fetch({"pnl": answer})
    assert {each.labels: each.value for each in snapshot.measures} == {
        ("other", "trend"): 1.5, ("other", ""): -2000.0, ("other", "x"): 0.1,
    }  # fmt: skip
    (family,) = {each.family for each in snapshot.measures}
    assert (family.name, family.help, family.labels) == ("desk_external_pnl_usd", "Profit, USD", ("source", "strategy"))
    assert snapshot.data_at == TIME
    assert snapshot.rejected == ()


@pytest.mark.parametrize("value", ["NaN", "+Inf", "-Inf"])
async def test_what_is_no_finite_number_is_left_out_and_counted(fetch: Fetch, value: str) -> None:
    """A number that is undefined is absent."""
    snapshot = await fetch({"pnl": vector(series(value, strategy="a"), series("1", strategy="b"))})
    assert [each.labels for each in snapshot.measures] == [("other", "b")]
    (left_out,) = snapshot.rejected
    assert (left_out.reason, left_out.kind) == ("not_finite", "measures")
    assert left_out.record == f"desk_external_pnl_usd{{'strategy': 'a'}}={value}"


async def test_a_scalar_is_one_series(fetch: Fetch) -> None:
    """`scalar(...)`, a literal, `time()`."""
    snapshot = await fetch({"pnl": success("scalar", [AT, "7"])})
    assert [(each.labels, each.value) for each in snapshot.measures] == [(("other", ""), 7.0)]


@pytest.mark.parametrize(("first", "second"), [("1", "2"), ("1", "NaN"), ("NaN", "1")])
async def test_two_series_that_would_be_one_are_an_error(fetch: Fetch, first: str, second: str) -> None:
    """One of them would win by accident, also where the other is no number now."""
    answer = vector(series(first, strategy="a", instance="1"), series(second, strategy="a", instance="2"))
    with pytest.raises(Permanent, match=r"queries\.desk_external_pnl_usd: two series have the labels strategy='a'") as caught:
        await fetch({"pnl": answer})
    assert caught.value.reason is Reason.REJECTED


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (success("matrix", [{"metric": {}, "values": [[AT, "1"]]}]), "evaluates to a range of values"),
        (success("string", [AT, "hello"]), "evaluates to text"),
        (vector({"metric": {}, "histogram": [AT, {"count": "1", "sum": "2", "buckets": []}]}), "native histograms"),
        (refused(400, "bad_data", '1:4: parse error: unexpected "}"'), r"cannot evaluate it: bad_data: 1:4: parse error"),
        (refused(422, "execution", "many-to-many matching not allowed"), "execution: many-to-many"),
    ],
)
async def test_an_expression_that_is_no_number_is_refused_by_name(fetch: Fetch, answer: httpx.Response, said: str) -> None:
    """The operator corrects it; the server alone knows its syntax."""
    with pytest.raises(Permanent, match=rf"^queries\.desk_external_pnl_usd: .*{said}") as caught:
        await fetch({"pnl": answer})
    assert caught.value.reason is Reason.REJECTED


@pytest.mark.parametrize(
    ("answer", "kind", "reason"),
    [
        (refused(503, "timeout", "query timed out in expression evaluation"), Retryable, Reason.TIMEOUT),
        (refused(503, "canceled", "query was canceled"), Retryable, Reason.TIMEOUT),
        (refused(500, "internal", "out of disk"), Retryable, Reason.SERVER_ERROR),
        (refused(503, "unavailable", "TSDB not ready"), Retryable, Reason.SERVER_ERROR),
        (refused(406, "not_acceptable", "?"), Permanent, Reason.REJECTED),
        (httpx.Response(429, headers={"Retry-After": "7"}, text="slow down"), Retryable, Reason.RATE_LIMITED),
        (httpx.Response(401, text="Unauthorized"), Permanent, Reason.AUTH),
        (refused(403, "bad_data", "no tenant"), Permanent, Reason.AUTH),
        (httpx.Response(404, text="404 page not found"), Permanent, Reason.NOT_FOUND),
        (httpx.Response(200, html="<html>log in</html>"), Retryable, Reason.BAD_RESPONSE),
        (httpx.Response(200, text='{"status": "succ'), Retryable, Reason.BAD_RESPONSE),
        (httpx.Response(200, json={"status": "success"}), Retryable, Reason.BAD_RESPONSE),
        (httpx.Response(200, json=[]), Retryable, Reason.BAD_RESPONSE),
        (httpx.Response(200, json={"data": {"resultType": "vector", "result": []}}), Retryable, Reason.BAD_RESPONSE),
        (success("streams", []), Retryable, Reason.BAD_RESPONSE),
        (success("vector", {}), Retryable, Reason.BAD_RESPONSE),
        (success("vector", [{"metric": {}}]), Retryable, Reason.BAD_RESPONSE),
        (success("vector", [{"value": [AT, "1"]}]), Retryable, Reason.BAD_RESPONSE),
        (success("vector", [{"metric": {"a": 1}, "value": [AT, "1"]}]), Retryable, Reason.BAD_RESPONSE),
        (success("vector", [{"metric": {}, "value": [AT, 1]}]), Retryable, Reason.BAD_RESPONSE),
        (success("vector", [{"metric": {}, "value": [None, "1"]}]), Retryable, Reason.BAD_RESPONSE),
        (success("vector", [{"metric": {}, "value": [1e300, "1"]}]), Retryable, Reason.BAD_RESPONSE),
    ],
)  # fmt: skip
async def test_every_failure_has_its_reason(
    fetch: Fetch, answer: httpx.Response, kind: type[Retryable | Permanent], reason: Reason
) -> None:
    """The status counts, then the body."""
    with pytest.raises(kind) as caught:
        await fetch({"pnl": answer})
    assert caught.value.reason is reason  # type: ignore[attr-defined]
    if reason is Reason.RATE_LIMITED:
        assert caught.value.retry_after_seconds == 7  # type: ignore[attr-defined]


async def test_positions_by_labels_constants_and_value(fetch: Fetch) -> None:
    """The number is exact as written; labels that are no column are noted."""
    answer = vector(
        series("1.10", __name__="pos", account="carry", asset="BTC", job="oms"), series("-3e-8", account="carry", asset="ETH")
    )
    records = {"positions": {
        "expr": "pos", "constants": {"currency": "USD"}, "rename": {"account": "portfolio", "asset": "symbol"},
    }}  # fmt: skip
    snapshot = await fetch({"pos": answer}, queries=[], records=records)
    assert snapshot.positions == (
        Position("carry", "BTC", Decimal("1.10"), "USD"),
        Position("carry", "ETH", Decimal("-3e-8"), "USD"),
    )
    assert snapshot.notes["positions"] == "2 records; columns not used: job"


async def test_a_label_is_renamed_over_one_that_has_the_name_already_and_a_constant_wins_over_both(fetch: Fetch) -> None:
    """What the configuration says is meant."""
    answer = vector(series("1", portfolio="wrong", account="carry", symbol="BTC", currency="EUR"))
    records = {"positions": {"expr": "pos", "constants": {"currency": "USD"}, "rename": {"account": "portfolio"}}}
    snapshot = await fetch({"pos": answer}, queries=[], records=records)
    assert snapshot.positions == (Position("carry", "BTC", Decimal(1), "USD"),)


async def test_the_other_kinds_of_records(fetch: Fetch) -> None:
    """The value's column has a default; a time that no label gives is the sample's."""
    records = {
        "prices": {"expr": "mark", "constants": {"currency": "USD"}},
        "accounts": {"expr": "cash"},
        "instruments": {"expr": "size", "constants": {"instrument": "future"}},
        "signals": {"expr": "target", "constants": {"portfolio": "carry"}},
        "returns": {"expr": "return[2d:1d]", "constants": {"sample": "live"}},
    }
    day = 86400.0
    answers = {
        "mark": vector(series("97000.5", symbol="BTC")),
        "cash": vector(series("12.34", portfolio="carry", currency="USD", equity="20")),
        "size": vector(series("0.01", symbol="BTC-FUT", currency="USD")),
        "target": vector(series("2", signal_id="s1", strategy="trend", symbol="BTC")),
        "return[2d:1d]": success("matrix", [
            {"metric": {"strategy": "trend"}, "values": [[AT - 2 * day, "0.01"], [AT - day, "NaN"], [AT, "-0.02"]]},
        ]),
    }  # fmt: skip
    snapshot = await fetch(answers, queries=[], records=records)
    assert snapshot.prices == (Price("BTC", Decimal("97000.5"), "USD", TIME),)
    assert snapshot.accounts == (Account("carry", "USD", Decimal("12.34"), Decimal(20)),)
    assert snapshot.instruments == (InstrumentTerms("BTC-FUT", "USD", None, "future", Decimal("0.01")),)
    assert snapshot.signals == (Signal("s1", "trend", "carry", "BTC", Decimal(2), TIME),)
    (returns,) = snapshot.returns
    assert (returns.strategy, returns.sample, returns.values.tolist()) == ("trend", "live", [0.01, -0.02])
    assert [each.kind for each in snapshot.rejected] == ["returns"]


async def test_a_position_that_is_no_number_leaves_its_portfolio_undefined(fetch: Fetch) -> None:
    """And only that one."""
    answer = vector(series("NaN", portfolio="carry", symbol="A"), series("1", portfolio="momentum", symbol="B"))
    records = {"positions": {"expr": "pos", "constants": {"currency": "USD"}}}
    snapshot = await fetch({"pos": answer}, queries=[], records=records)
    assert [each.portfolio for each in snapshot.positions] == ["momentum"]
    assert [(each.kind, each.reason, each.portfolio) for each in snapshot.rejected] == [("positions", "not_finite", "carry")]


async def test_a_column_nothing_fills_is_named_with_where_to_give_it(fetch: Fetch) -> None:
    """Labels are data: only a fetch shows what is missing."""
    with pytest.raises(
        Permanent, match=r"^positions: the required column currency is missing; .* records\.positions\.constants"
    ) as caught:
        await fetch({"pos": vector(series("1", portfolio="a", symbol="B"))}, queries=[], records={"positions": {"expr": "pos"}})
    assert caught.value.reason is Reason.MISSING_FIELD


async def test_no_series_is_no_empty_book(fetch: Fetch) -> None:
    """The exporter of the positions may be gone; a book that may be empty says so."""
    records = {"positions": {"expr": "pos", "constants": {"currency": "USD"}}}
    with pytest.raises(Retryable, match=r"records\.positions: the expression has no result") as caught:
        await fetch({"pos": vector()}, queries=[], records=records)
    assert caught.value.reason is Reason.NOT_FOUND
    records["positions"]["may_be_empty"] = True  # type: ignore[assignment]
    assert (await fetch({"pos": vector()}, queries=[], records=records)).positions == ()


async def test_nothing_is_read_while_what_is_required_has_no_result(fetch: Fetch) -> None:
    """Half of a book is not a smaller book."""
    answers = {"pnl": vector(series("1")), "min(up) == 1": vector()}
    with pytest.raises(Retryable, match=r"requires: the expression has no result") as caught:
        await fetch(answers, requires="min(up) == 1")
    assert caught.value.reason is Reason.NOT_FOUND
    answers["min(up) == 1"] = vector(series("1"))
    assert len((await fetch(answers, requires="min(up) == 1")).measures) == 1


async def test_the_data_is_as_old_as_the_configured_expression_says(fetch: Fetch) -> None:
    """The API answers with the time of the evaluation, not of the samples."""
    answers = {"pnl": vector(series("1")), "max(timestamp(pnl))": vector(series(str(AT - 100)))}
    snapshot = await fetch(answers, data_timestamp="max(timestamp(pnl))")
    assert snapshot.data_at is not None
    assert (TIME - snapshot.data_at).total_seconds() == 100
    answers["max(timestamp(pnl))"] = vector()
    assert (await fetch(answers, data_timestamp="max(timestamp(pnl))")).data_at is None
    answers["max(timestamp(pnl))"] = vector(series("1", a="b"), series("2"))
    with pytest.raises(Permanent, match="data_timestamp: has 2 series"):
        await fetch(answers, data_timestamp="max(timestamp(pnl))")


async def test_too_many_series_are_an_error_and_not_a_slow_exporter(fetch: Fetch) -> None:
    """Counted by series, not by values."""
    found = [series("1", strategy=str(number)) for number in range(3)]
    assert len((await fetch({"pnl": vector(*found)}, maximum_series=3)).measures) == 3
    with pytest.raises(Permanent, match="3 series, maximum_series is 2") as caught:
        await fetch({"pnl": vector(*found)}, maximum_series=2)
    assert caught.value.reason is Reason.TOO_LARGE
    values = [[AT, "1"], [AT + 1, "2"], [AT + 2, "3"]]
    answer = success("matrix", [{"metric": {"strategy": "a", "sample": "live"}, "values": values}])
    snapshot = await fetch({"r": answer}, queries=[], records={"returns": {"expr": "r"}}, maximum_series=1)
    assert len(snapshot.returns[0].values) == 3


async def test_a_large_answer_is_whole(fetch: Fetch) -> None:
    """It is checked in a thread."""
    found = [series(str(number), strategy=str(number)) for number in range(4000)]
    assert [each.value for each in (await fetch({"pnl": vector(*found)})).measures] == list(range(4000))


async def test_what_the_server_remarks_is_noted(fetch: Fetch) -> None:
    """A partial answer of Thanos, a hint of Prometheus."""
    snapshot = await fetch({"pnl": vector(series("1"), warnings=["store b: timeout"], infos=["not a counter"])})
    assert snapshot.notes["remarks on queries.desk_external_pnl_usd"] == "store b: timeout; not a counter"


@pytest.mark.parametrize(
    ("login", "header", "expected"),
    [
        ({"token": "s3cret"}, "Authorization", "Bearer s3cret"),
        ({"username": "desk", "password": "s3cret"}, "Authorization", "Basic ZGVzazpzM2NyZXQ="),
        ({"tenant": "desk-a"}, "X-Scope-OrgID", "desk-a"),
    ],
)
async def test_it_says_who_it_is(fetch: Fetch, login: dict[str, str], header: str, expected: str) -> None:
    """And shows no secret of it."""
    snapshot = await fetch({"pnl": vector(series("1"))}, **login)
    assert fetch.router.calls[0].request.headers[header] == expected
    assert "s3cret" not in f"{snapshot}{fetch.made[0].config!r}{vars(fetch.made[0]._server)}"


async def test_the_first_failure_ends_the_other_questions(fetch: Fetch) -> None:
    """One reason is reported, and it is the venue's, not a group of exceptions."""
    queries = [QUERY | {"name": f"desk_external_{name}", "expr": name} for name in ("a", "b", "c")]
    answers = {"a": vector(series("1")), "b": refused(400, "bad_data", "?"), "c": refused(503, "timeout", "?")}
    with pytest.raises((Permanent, Retryable), match=r"^queries\.desk_external_[bc]: "):
        await fetch(answers, queries=queries)


async def test_two_sources_may_call_different_things_by_one_name(fetch: Fetch) -> None:
    """Families are per query: the page stays one that Prometheus accepts, each series with its own labels."""
    first = await fetch({"pnl": vector(series("1", strategy="a"))})
    other = QUERY | {"help": "Something else", "labels": ["venue", "desk"]}
    second = await fetch({"pnl": vector(series("2", venue="x", desk="y"))}, name="third", queries=[other])
    renderer = Renderer()
    for samples in ((*first.measures, *second.measures), (*second.measures, *first.measures)):
        page = renderer.render(samples)
        (family,) = text_string_to_metric_families(page.body(Form(openmetrics=False, gzip=False)).decode())
        assert {tuple(sorted(each.labels.items())): each.value for each in family.samples} == {
            (("source", "other"), ("strategy", "a")): 1.0,
            (("desk", "y"), ("source", "third"), ("venue", "x")): 2.0,
        }
        assert list(parse_openmetrics(page.body(Form(openmetrics=True, gzip=False)).decode()))


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"queries": []}, "queries: nothing is read: give queries or records"),
        ({"queries": [QUERY, QUERY]}, "queries[1].name: must be unique, desk_external_pnl_usd stands at queries[0] too"),
        ({"queries": [QUERY | {"name": "pnl"}]}, "queries[0].name: string should match pattern"),
        ({"queries": [QUERY | {"name": "desk_external_PnL"}]}, "queries[0].name: string should match pattern"),
        ({"queries": [QUERY | {"name": "desk_external_a_total"}]}, "queries[0].name: must not end in _total"),
        ({"queries": [QUERY | {"labels": ["source"]}]}, "queries[0].labels: must not hold 'source'"),
        ({"queries": [QUERY | {"labels": ["__name__"]}]}, "queries[0].labels: must not hold '__name__'"),
        ({"queries": [QUERY | {"labels": ["a", "a"]}]}, "queries[0].labels: must name each label once"),
        ({"queries": [QUERY | {"labels": ["a-b"]}]}, "queries[0].labels[0]: string should match pattern"),
        ({"queries": [QUERY | {"help": ""}]}, "queries[0].help: string should have at least 1 character"),
        ({"queries": [QUERY | {"expr": ""}]}, "queries[0].expr: string should have at least 1 character"),
        ({"token": "a", "username": "b", "password": "c"}, "token: give either token or username and password, not both"),
        ({"username": "b"}, "password: username and password belong together"),
        ({"password": "b"}, "username: username and password belong together"),
        ({"base_url": "http://me:pw@x"}, "base_url: must not carry a user or password"),
        ({"records": {"fills": {"expr": "x"}}}, "records.fills: unknown key, known are"),
        ({"records": {"positions": {"expr": "x", "value": "size"}}}, "records.positions.value: must be a column of positions"),
        (
            {"records": {"positions": {"expr": "x", "constants": {"curency": "USD"}}}},
            "records.positions.constants.curency: must be a column of positions",
        ),
        (
            {"records": {"prices": {"expr": "x", "rename": {"asset": "sybol"}}}},
            "records.prices.rename.asset: must be a column of prices (symbol, price, currency, at), was 'sybol'",
        ),
        (
            {"records": {"prices": {"expr": "x", "rename": {"a": "symbol", "b": "symbol"}}}},
            "records.prices.rename.b: the column symbol stands under rename already",
        ),
        (
            {"records": {"prices": {"expr": "x", "constants": {"price": "1"}}}},
            "records.prices.constants.price: the column price stands under value already",
        ),
    ],
)  # fmt: skip
def test_a_configuration_that_cannot_work_is_refused(changes: dict[str, Any], fault: str) -> None:
    """With the key path, before anything is asked."""
    faults = validate(Config, settings(**changes))
    assert isinstance(faults, list)
    assert any(str(each).startswith(fault) for each in faults), faults


def test_only_what_is_asked_for_is_provided() -> None:
    """What a source does not provide is nobody's gap."""
    for changes, expected in (
        ({}, {"measures"}),
        ({"queries": [], "records": {"positions": {"expr": "x"}}}, {"positions"}),
        ({"records": {"prices": {"expr": "x"}, "accounts": {"expr": "y"}}}, {"measures", "prices", "accounts"}),
    ):
        config = validate(Config, settings(**changes))
        assert isinstance(config, Config)
        assert PrometheusSource(config, ManualClock()).provides == expected
