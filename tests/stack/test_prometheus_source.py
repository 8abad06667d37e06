"""The source `prometheus` against a real Prometheus: its query API is what we read, and promtool likes our page."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from deskwatch.clock import SystemClock
from deskwatch.config import validate
from deskwatch.demo.processes import Children, free_ports
from deskwatch.demo.stack import prometheus_command
from deskwatch.errors import Permanent, Reason, Retryable
from exporter.exposition import PLAIN, Renderer
from exporter.snapshot import Snapshot
from exporter.source import Kept
from exporter.sources.prometheus import Config, PrometheusSource
from tests.components import REPOSITORY, find
from tests.stand_ins.prometheus import Prometheus

pytestmark = pytest.mark.stack

WAIT_SECONDS = 45.0
NEWER = REPOSITORY / ".stack" / "trixie" / "usr" / "bin" / "prometheus"
"""The pair of the next Debian release, where `deploy/stack.sh --suite trixie .stack` has fetched it."""
RULES = [
    {"record": "pnl", "expr": "vector(12.5)", "labels": {"strategy": "trend", "desk": "a"}},
    {"record": "pos", "expr": "vector(2)", "labels": {"portfolio": "carry", "asset": "BTC"}},
    {"record": "small", "expr": "vector(0.00000012)", "labels": {"portfolio": "carry", "asset": "ETH"}},
    {"record": "undefined", "expr": "vector(NaN)", "labels": {"strategy": "new"}},
    {"record": "endless", "expr": "vector(1) / 0", "labels": {"strategy": "old"}},
    {"record": "gain", "expr": "vector(0.01)", "labels": {"strategy": "trend", "sample": "live"}},
]
NAME = "desk_external_seen"


@pytest.fixture(params=["packaged", "newer"])
async def server(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[str]:
    """The address of a Prometheus that makes its own series."""
    if request.param == "newer" and not NEWER.exists():
        pytest.skip("the newer Prometheus is missing: run `deploy/stack.sh --suite trixie .stack`")
    program = find("prometheus") if request.param == "packaged" else NEWER
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "made", "interval": "1s", "rules": RULES}]}))
    (tmp_path / "prometheus.yml").write_text(
        yaml.safe_dump({"global": {"evaluation_interval": "1s"}, "rule_files": [str(tmp_path / "rules.yml")]})
    )
    (port,) = free_ports({"prometheus": 0}).values()
    children = Children(tmp_path)
    address = f"127.0.0.1:{port}"
    command = prometheus_command(program, tmp_path / "prometheus.yml", tmp_path / "tsdb", address)
    try:
        await children.start("prometheus", command)
        await until_recorded(address)
        yield f"http://{address}"
    finally:
        await children.stop()


async def until_recorded(address: str) -> None:
    """Wait for the last of the rules."""
    async with asyncio.timeout(WAIT_SECONDS), httpx.AsyncClient(base_url=f"http://{address}", trust_env=False) as client:
        while True:
            try:
                found = (await client.get("/api/v1/query", params={"query": "count_over_time(gain[1m:1s]) > 1"})).json()
            except (httpx.HTTPError, ValueError):
                found = {}
            if found.get("data", {}).get("result"):
                return
            await asyncio.sleep(0.1)


async def read(url: str, expr: str = "pnl", **changes: Any) -> Snapshot:
    """One fetch of one query."""
    query = {"name": NAME, "expr": expr, "help": "Seen, USD", "labels": ["strategy"]}
    content = {"type": "prometheus", "name": "other", "base_url": url, "queries": [query]} | changes
    config = validate(Config, content)
    assert isinstance(config, Config), config
    source = PrometheusSource(config, SystemClock())
    try:
        return await source.fetch(Kept())
    finally:
        await source.close()


async def test_measures_and_records_are_what_it_recorded(server: str) -> None:
    """Vector, scalar, exact small numbers, subqueries as returns; no number is no series."""
    snapshot = await read(server)
    assert [(each.labels, each.value) for each in snapshot.measures] == [(("other", "trend"), 12.5)]
    assert [each.labels for each in (await read(server, "scalar(sum(pnl)) * 2")).measures] == [("other", "")]
    for expr, labels in (("undefined", "new"), ("endless", "old")):
        snapshot = await read(server, expr)
        assert snapshot.measures == ()
        assert [(each.reason, labels in each.record) for each in snapshot.rejected] == [("not_finite", True)]
    positions = {
        "expr": '{__name__=~"pos|small"}',
        "constants": {"currency": "USD"},
        "rename": {"asset": "symbol"},
    }
    returns = {"expr": "gain[1m:1s]"}
    snapshot = await read(server, queries=[], records={"positions": positions, "returns": returns})
    assert {each.symbol: str(each.quantity) for each in snapshot.positions} == {"BTC": "2", "ETH": "1.2E-7"}
    assert set(snapshot.returns[0].values.tolist()) == {0.01}
    assert (snapshot.returns[0].strategy, snapshot.returns[0].sample) == ("trend", "live")


async def test_its_time_is_the_evaluations_and_the_datas_own_can_be_asked_for(server: str) -> None:
    """Why `data_timestamp` exists: an instant query's time says nothing about the age of the sample."""
    evaluated = (await read(server)).data_at
    sampled = (await read(server, data_timestamp="max(timestamp(pnl))")).data_at
    async with httpx.AsyncClient(base_url=server, trust_env=False) as client:
        (raw,) = (await client.get("/api/v1/query", params={"query": "pnl[5m]"})).json()["data"]["result"]
    samples = [float(at) for at, _ in raw["values"]]
    assert sampled is not None
    assert sampled.timestamp() in samples
    assert evaluated is not None
    assert evaluated.timestamp() not in samples
    assert abs((SystemClock().now() - evaluated).total_seconds()) < WAIT_SECONDS


@pytest.mark.parametrize(
    ("expr", "said", "reason"),
    [
        ("sum by (", "bad_data: .*parse error", Reason.REJECTED),
        ("pnl + on(x) group_left foo[5m]", "bad_data", Reason.REJECTED),
        ('label_replace({__name__=~"pnl|pos"}, "strategy", "x", "", "")', "two series have the labels strategy='x'", None),
        ('{__name__=~"pnl|pos"} + on() {__name__=~"pnl|pos"}', "execution: ", Reason.REJECTED),
        ("pnl[5m]", "evaluates to a range of values", Reason.REJECTED),
        ('"text"', "evaluates to text", Reason.REJECTED),
    ],
)
async def test_what_it_cannot_evaluate_is_named(server: str, expr: str, said: str, reason: Reason | None) -> None:
    """As its own parser and engine say it."""
    with pytest.raises(Permanent, match=f"queries.{NAME}: .*{said}") as caught:
        await read(server, expr)
    assert caught.value.reason is (reason or Reason.REJECTED)


async def test_the_stand_in_answers_as_it_does(server: str) -> None:
    """The tests of the flows tier rest on it."""
    async with Prometheus() as stand_in, httpx.AsyncClient(trust_env=False) as client:
        stand_in.vectors["pnl"] = [({"__name__": "pnl", "desk": "a", "strategy": "trend"}, "12.5")]
        for query in ({"query": "pnl"}, {"query": "nothing"}, {"query": "sum("}, {}):
            real, ours = [await client.get(f"{url}/api/v1/query", params=query) for url in (server, stand_in.url)]
            assert real.status_code == ours.status_code
            assert real.json().keys() >= ours.json().keys()
            assert shape(real.json()) == shape(ours.json())
            posted = [await client.post(f"{url}/api/v1/query", data=query) for url in (server, stand_in.url)]
            assert [each.status_code for each in posted] == [real.status_code, ours.status_code]


def shape(body: dict[str, Any]) -> Any:
    """What must be alike: everything but times and words."""
    if body["status"] == "error":
        return body["errorType"]
    return body["data"]["resultType"], [(each["metric"], each["value"][1]) for each in body["data"]["result"]]


async def test_promtool_and_prometheus_like_the_page(server: str) -> None:
    """Also with two sources that call different things by one name."""
    first = await read(server)
    query = {"name": NAME, "expr": "pos", "help": "Other, units", "labels": ["portfolio", "asset"]}
    second = await read(server, name="third", queries=[query])
    page = Renderer().render((*first.measures, *second.measures)).body(PLAIN)
    checked = await asyncio.to_thread(subprocess.run, [find("promtool"), "check", "metrics"], input=page, capture_output=True)
    assert checked.returncode == 0, checked.stderr.decode()
    assert checked.stderr == b""


async def test_a_server_that_has_not_the_series_yet_is_not_an_empty_book(server: str) -> None:
    """`requires` and records without series."""
    with pytest.raises(Retryable, match="requires") as caught:
        await read(server, requires='up{job="oms"} == 1')
    assert caught.value.reason is Reason.NOT_FOUND
    with pytest.raises(Retryable, match=r"records\.positions: the expression has no result"):
        await read(server, queries=[], records={"positions": {"expr": "gone"}})
