"""The exposition formats: what Prometheus, its tools and prometheus-client's parsers read is what was measured."""

from __future__ import annotations

import gzip
import math
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from exporter.exposition import OPENMETRICS, PLAIN, TEXT, Exposition, Form, Renderer, choose
from exporter.reading import Family, Sample

GOLDEN = Path(__file__).parents[2] / "golden"
WEIGHT = Family(
    "desk_position_weight_ratio", "Signed exposure over net asset value\nnegative is \\short", ("portfolio", "symbol")
)
FETCHES = Family("desk_source_fetches_total", 'Fetches of the "source" begun', ("source",), "counter")
CYCLE = Family("desk_cycle_duration_seconds", "Time the last cycle took")
OPEN = Form(openmetrics=True, gzip=False)
SAMPLES = [
    FETCHES.sample("trades", value=3),
    WEIGHT.sample("carry", "CHF", value=-0.7998239642723532),
    CYCLE.sample(value=1.25e-05),
    WEIGHT.sample("carry", 'B"RK\\A\n', value=1e22),
    WEIGHT.sample("Zürich", "日本", value=0.0),
    FETCHES.sample("rates", value=12345678901.0),
]


def lines(families: list[Metric]) -> set[tuple[str, tuple[tuple[str, str], ...], float]]:
    """Every series and its value."""
    return {(each.name, tuple(sorted(each.labels.items())), each.value) for family in families for each in family.samples}


def expected(samples: list[Sample]) -> set[tuple[str, tuple[tuple[str, str], ...], float]]:
    """The same, of what was rendered."""
    return {
        (each.family.name, tuple(sorted(zip(each.family.labels, each.labels, strict=True))), float(each.value))
        for each in samples
    }


@pytest.mark.parametrize(("form", "name"), [(PLAIN, "metrics.txt"), (OPEN, "metrics.openmetrics.txt")])
def test_the_text_is_the_golden_one(form: Form, name: str) -> None:
    """Byte for byte; `DESKWATCH_WRITE_GOLDEN=1` renews the files after a change that is meant."""
    body = Renderer().render(SAMPLES).body(form)
    if os.environ.get("DESKWATCH_WRITE_GOLDEN") == "1":
        (GOLDEN / name).write_bytes(body)
    assert body == (GOLDEN / name).read_bytes()


def test_promtool_finds_no_fault_in_the_golden_text() -> None:
    """`promtool check metrics`: names, HELP, TYPE, order, escapes."""
    from tests.components import find

    done = subprocess.run(
        [find("promtool"), "check", "metrics"], input=(GOLDEN / "metrics.txt").read_bytes(), capture_output=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_prometheus_clients_parsers_read_back_what_was_measured() -> None:
    """In both formats."""
    page = Renderer().render(SAMPLES)
    assert lines(list(parse_text(page.body(PLAIN).decode()))) == expected(SAMPLES)
    assert lines(list(parse_openmetrics(page.body(OPEN).decode()))) == expected(SAMPLES)


def test_each_family_has_one_head_and_its_lines_stand_together() -> None:
    """A split family is tolerated by the server and refused by promtool."""
    body = Renderer().render(SAMPLES).body(PLAIN).decode()
    names = [line.split()[2] for line in body.splitlines() if line.startswith("# TYPE")]
    assert names == sorted(set(names))
    series = [line.split("{")[0].split(" ")[0] for line in body.splitlines() if not line.startswith("#")]
    assert series == sorted(series)


LABEL = st.text(st.characters(exclude_categories=["Cs"]), max_size=200)


@given(st.dictionaries(st.tuples(LABEL, LABEL), st.floats(allow_nan=False, allow_infinity=False), max_size=20))
def test_any_label_and_any_value_survive(series: dict[tuple[str, str], float]) -> None:
    """Labels are untrusted text: quotes, back slashes, line feeds, whole exposition lines in them."""
    samples = [WEIGHT.sample(*labels, value=value) for labels, value in series.items()]
    page = Renderer().render(samples)
    # Only \n ends a line in both formats; the text parser of prometheus-client splits on every line boundary of Unicode.
    text = page.body(PLAIN).decode()
    assert text.count("\n") == len(samples) + (2 if samples else 0)
    if not any(set(label) & set("\r\v\f\x1c\x1d\x1e\x85\u2028\u2029") for labels in series for label in labels):
        assert lines(list(parse_text(text))) == expected(samples)
    assert lines(list(parse_openmetrics(page.body(OPEN).decode()))) == expected(samples)


def test_a_label_value_is_bounded_and_still_its_own() -> None:
    """A run's name of a megabyte is not a label; two that begin alike stay two series."""
    samples = [WEIGHT.sample("carry", "x" * 500 + end, value=1) for end in ("a", "b", "\ud800")]
    found = lines(list(parse_text(Renderer().render(samples).body(PLAIN).decode())))
    values = {dict(labels)["symbol"] for _, labels, _ in found}
    assert len(values) == 3
    assert {len(value) for value in values} == {200 - 15 + 3 + 12}
    assert all(value.startswith("x" * 185 + "...") for value in values)


def test_a_lone_surrogate_does_not_cost_the_page() -> None:
    """It cannot be UTF-8, so it becomes a question mark."""
    assert b'symbol="?"' in Renderer().render([WEIGHT.sample("carry", "\ud800", value=1)]).body(PLAIN)


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (np.float64(0.1), "0.1"),
        (np.float32(0.5), "0.5"),
        (np.int64(3), "3.0"),
        (True, "1.0"),
        (5e-324, "5e-324"),
        (-0.0, "-0.0"),
    ],
)
def test_numbers_of_numpy_are_written_as_numbers(value: float, written: str) -> None:
    """Their repr is `np.float64(0.1)`, which is none to Prometheus."""
    assert f"desk_cycle_duration_seconds {written}\n" in Renderer().render([CYCLE.sample(value=value)]).body(PLAIN).decode()


def test_of_two_samples_for_one_series_the_last_counts() -> None:
    """Prometheus would drop one of them by chance."""
    body = Renderer().render([CYCLE.sample(value=1), CYCLE.sample(value=2)]).body(PLAIN)
    assert body.count(b"\ndesk_cycle") == 1
    assert b"seconds 2.0\n" in body


def test_series_that_are_gone_are_gone_from_the_page_and_from_memory() -> None:
    """Labels come and go with positions."""
    renderer = Renderer()
    renderer.render([WEIGHT.sample("carry", f"S{i}", value=i) for i in range(100)])
    body = renderer.render([WEIGHT.sample("carry", "S1", value=1)]).body(PLAIN)
    assert b"S2" not in body
    assert renderer._prefixes == {WEIGHT.name: {("carry", "S1"): 'desk_position_weight_ratio{portfolio="carry",symbol="S1"} '}}
    renderer.render([])
    assert renderer._prefixes == {}


def test_the_compressed_body_is_one_gzip_member() -> None:
    """httpx and browsers silently stop after the first."""
    page = Renderer().render([WEIGHT.sample("carry", f"S{i}", value=i / 7) for i in range(20_000)])
    import zlib

    inflate = zlib.decompressobj(31)
    assert inflate.decompress(page.body(Form(openmetrics=False, gzip=True))) == page.body(PLAIN)
    assert inflate.unused_data == b""


PROMETHEUS_2_42 = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=0.0.1;q=0.5,"
    "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        (PROMETHEUS_2_42, OPENMETRICS), (PROMETHEUS_3, OPENMETRICS), ("", TEXT), ("*/*", TEXT), ("text/html", TEXT),
        ("application/openmetrics-text", OPENMETRICS), ("application/openmetrics-text; version=0.0.1", TEXT),
        ("application/openmetrics-text; version=2.0.0", TEXT), ("text/plain, application/openmetrics-text", TEXT),
        ("text/plain;q=0.5, application/openmetrics-text;q=0.7", OPENMETRICS), ("application/openmetrics-text;q=0, */*", TEXT),
        ("application/openmetrics-text;q=never", TEXT), (";;,=,q=1", TEXT),
    ],
)  # fmt: skip
def test_the_format_is_the_one_asked_for(accept: str, content_type: str) -> None:
    """By quality, then by order; text to whoever accepts neither."""
    assert choose(accept, "").content_type == content_type


@pytest.mark.parametrize(
    ("encoding", "compressed"), [("gzip, deflate", True), ("gzip;q=0", False), ("br", False), ("", False), ("GZIP;q=0.1", True)]
)
def test_compression_is_by_consent(encoding: str, *, compressed: bool) -> None:
    """And `q=0` is a refusal."""
    assert choose("", encoding).gzip is compressed


class Time:
    """Monotonic seconds by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        """Now."""
        return self.now


HEALTH = Family("deskwatch_build_info", "Always 1", ("version",))


def test_a_cycle_that_stopped_takes_the_desk_off_the_page() -> None:
    """Health stays, so that `up` is 1 and the absence is seen; the last numbers are not repeated for ever."""
    time = Time()
    exposition = Exposition(lambda: [HEALTH.sample("1", value=1)], time, stale_seconds=45)
    assert exposition.current(PLAIN).body(PLAIN).count(b"desk_") == 0
    exposition.publish(exposition.render(SAMPLES))
    time.now = 45.0
    assert b"desk_cycle_duration_seconds 1.25e-05" in exposition.current(PLAIN).body(PLAIN)
    time.now = 45.1
    assert exposition.current(PLAIN).body(PLAIN).decode().splitlines()[-1] == 'deskwatch_build_info{version="1"} 1.0'
    assert b"desk_cycle" not in exposition.current(PLAIN).body(PLAIN)
    exposition.publish(exposition.render(SAMPLES))
    assert b"desk_cycle" in exposition.current(PLAIN).body(PLAIN)


def test_forms_lately_asked_for_are_ready_before_the_next_scrape() -> None:
    """Others are made when asked for."""
    time = Time()
    exposition = Exposition(list, time, stale_seconds=45)
    compressed = Form(openmetrics=True, gzip=True)
    exposition.current(compressed)
    page = exposition.render(SAMPLES)
    assert list(page.bodies) == [compressed]
    assert gzip.decompress(page.bodies[compressed]) == page.body(OPEN)
    time.now = 1000.0
    assert list(exposition.render(SAMPLES).bodies) == []


def test_not_finite_numbers_cannot_come_from_a_family_by_mistake() -> None:
    """The pipeline keeps them out; should one pass, Prometheus still reads the page."""
    body = Renderer().render([CYCLE.sample(value=math.inf)]).body(PLAIN).decode()
    assert next(iter(parse_text(body))).samples[0].value == math.inf
