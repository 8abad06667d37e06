"""Logs: one JSON object a line, with the correlation id and the component."""

from __future__ import annotations

import json
import logging

import pytest

from deskwatch.logs import LogConfig, configure, correlated, get_logger


@pytest.fixture(autouse=True)
def _restore_logging() -> object:
    """Leave the root logger as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def test_a_line_is_json_with_its_correlation_id(capsys: pytest.CaptureFixture[str]) -> None:
    """Ours and the standard library's lines look the same."""
    configure(LogConfig(format="json"), component="exporter")
    with correlated("req-1"):
        get_logger().info("fetched", source="rates")
        logging.getLogger("some.library").warning("careful %s", "now")
    ours, theirs = (json.loads(line) for line in capsys.readouterr().err.splitlines())
    assert (ours["event"], ours["source"], ours["correlation_id"], ours["component"]) == (
        "fetched",
        "rates",
        "req-1",
        "exporter",
    )
    assert (theirs["event"], theirs["level"], theirs["correlation_id"]) == ("careful now", "warning", "req-1")


def test_below_the_level_nothing_is_written(capsys: pytest.CaptureFixture[str]) -> None:
    """`level: warning` silences info."""
    configure(LogConfig(format="json", level="warning"), component="receiver")
    get_logger().info("quiet")
    assert capsys.readouterr().err == ""


def test_a_traceback_stays_on_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """A log shipper reads lines."""
    configure(LogConfig(format="json"), component="receiver")
    try:
        raise ValueError("boom")
    except ValueError:
        get_logger().exception("failed")
    (line,) = capsys.readouterr().err.splitlines()
    assert "ValueError: boom" in json.loads(line)["exception"]
