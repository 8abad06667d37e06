"""Logs: one JSON object a line, with the correlation id and the component."""

from __future__ import annotations

import asyncio
import json
import logging

import pytest

from deskwatch import logs
from deskwatch.logs import LogConfig, captured, configure, correlated, get_logger


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


async def test_what_one_task_logs_can_be_captured_and_is_logged_all_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    """With its threads, the tasks it starts and the libraries it uses; nothing of another task, nothing afterwards."""
    configure(LogConfig(format="json"), component="exporter")

    async def another() -> None:
        get_logger().info("another's")

    other = asyncio.ensure_future(another())
    with captured() as lines, correlated("fetch-1"):
        get_logger().info("mine", size=1)
        await asyncio.to_thread(lambda: logging.getLogger("some.library").warning("careful"))
        await asyncio.create_task(another())
        try:
            raise ValueError("s3cr3t")
        except ValueError:
            get_logger().exception("failed")
        await other
    get_logger().info("afterwards")
    assert [line["event"] for line in lines] == ["mine", "careful", "another's", "failed"]
    assert (lines[0]["size"], lines[0]["correlation_id"], lines[0]["level"]) == (1, "fetch-1", "info")
    assert lines[3]["exception"] == "ValueError"
    assert "s3cr3t" not in json.dumps(lines)
    assert len(capsys.readouterr().err.splitlines()) == 6


def test_what_is_captured_is_bounded(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A source that logs without end fills the log, not the memory."""
    monkeypatch.setattr(logs, "MOST_CAPTURED", 3)
    configure(LogConfig(format="json"), component="exporter")
    with captured() as lines:
        for number in range(5):
            get_logger().info("line", number=number)
    assert [line["number"] for line in lines] == [0, 1, 2]
    assert len(capsys.readouterr().err.splitlines()) == 5
