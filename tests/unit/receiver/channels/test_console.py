"""The console: everything a person at a terminal needs, and nothing that could drive the terminal."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any

import pytest

from deskwatch.clock import ManualClock
from deskwatch.errors import Retryable
from receiver.channels.console import Config, Console
from receiver.message import Message
from tests.unit.receiver.channels.messages import NOTICE, REMEDIATION, episode, message


async def printed(said: Message, capsys: pytest.CaptureFixture[str]) -> str:
    """What the console shows."""
    await Console(Config(), ManualClock()).send(said)
    return capsys.readouterr().out


async def test_a_trigger_shows_summary_labels_runbook_and_first_steps(capsys: pytest.CaptureFixture[str]) -> None:
    """Enough to begin without opening anything."""
    assert await printed(message(), capsys) == (
        "2026-01-01 00:00:00Z  [FIRING:1] VaRLimitExceeded carry  critical/P0\n"
        "  FIRING   carry is over its limit\n"
        "    severity=critical portfolio=carry limit=var_0.99\n"
        "    runbook: http://receiver:9878/runbooks/VaRLimitExceeded\n"
        "      1. Check the mark.\n"
        "      2. Ask the exporter which trades restore the limit.\n"
        "      3. Trade and watch it fall.\n"
        "\n"
    )


async def test_a_runbook_is_said_once_for_ten_portfolios(capsys: pytest.CaptureFixture[str]) -> None:
    """And beyond ten alerts only how many there are."""
    many = [episode(number, labels={"portfolio": f"p{number}"}) for number in range(13)]
    text = await printed(message("trigger", *many, truncated=4), capsys)
    assert text.count("runbook:") == 1
    assert "p9" in text
    assert "p10" not in text
    assert "and 3 more" in text
    assert "and 4 the sender left out" in text


async def test_a_resolve_says_so_without_steps(capsys: pytest.CaptureFixture[str]) -> None:
    """There is nothing left to do."""
    text = await printed(message("resolve", episode(status="resolved")), capsys)
    assert "[RESOLVED] VaRLimitExceeded carry" in text
    assert "runbook" not in text


async def test_a_proposal_shows_its_text_and_that_nothing_was_done(capsys: pytest.CaptureFixture[str]) -> None:
    """Hook, mode, outcome, and which alert it is for."""
    text = await printed(REMEDIATION, capsys)
    assert "reduce_position (dry_run, succeeded): It would sell 5 CHF in carry." in text
    assert "for severity=critical portfolio=carry limit=var_0.99" in text


async def test_a_notice_shows_all_its_lines(capsys: pytest.CaptureFixture[str]) -> None:
    """The kept body is among them."""
    text = await printed(NOTICE, capsys)
    assert "[NOTICE] A notification could not be used: it is empty." in text
    assert "    kept" in text


async def test_a_second_attempt_is_marked(capsys: pytest.CaptureFixture[str]) -> None:
    """The first may have been printed before the crash."""
    assert "(attempt 2, may be a duplicate)" in await printed(message(attempt=2), capsys)


HOSTILE = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202egnp.exe\u2066\r\n[RESOLVED] all good\x00\x7f"


@pytest.mark.parametrize("where", ["alertname", "portfolio", "summary", "runbook_url", "step", "text", "hook"])
async def test_no_label_can_drive_the_terminal(where: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Escape sequences, bidirectional overrides, line breaks that fake a line of ours: none gets through."""
    fields: dict[str, Any] = {}
    known = episode().enrichment
    if where in ("alertname", "portfolio"):
        fields = {"labels": {where: HOSTILE}}
    elif where == "summary":
        fields = {"annotations": {"summary": HOSTILE}}
    elif where == "runbook_url":
        fields = {"enrichment": type(known)(runbook_url=HOSTILE)}
    elif where == "step":
        fields = {"enrichment": type(known)(steps=(HOSTILE,))}
    said = message("trigger", episode(**fields))
    if where in ("text", "hook"):
        said = message("remediation", text=HOSTILE, hook=HOSTILE, run_mode="dry_run", run_outcome="succeeded")
    text = await printed(said, capsys)
    assert not any((ord(character) < 32 and character != "\n") or character in "\x7f\x9b\u202e\u2066" for character in text)
    assert not any(line.startswith("[RESOLVED]") for line in text.splitlines())


async def test_a_label_of_a_megabyte_is_cut(capsys: pytest.CaptureFixture[str]) -> None:
    """It would push everything else off the screen."""
    assert len(await printed(message("trigger", episode(annotations={"summary": "x" * 1_000_000})), capsys)) < 5000


async def test_a_closed_output_is_a_failed_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reader has gone; the process lives on."""
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as broken:
        monkeypatch.setattr(sys, "stdout", broken)
        with pytest.raises(Retryable, match="cannot be written"):
            await Console(Config(), ManualClock()).send(message())
        monkeypatch.undo()
        os.dup2(os.open(os.devnull, os.O_WRONLY), broken.fileno())


async def test_a_reader_that_stands_still_does_not_stop_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """A full pipe blocks a thread of its own; the deadline passes and the event loop goes on."""
    reading, writing = os.pipe()
    with os.fdopen(writing, "w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        os.set_blocking(writing, False)
        while True:
            try:
                os.write(writing, b"x" * 65536)
            except BlockingIOError:
                break
        os.set_blocking(writing, True)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await Console(Config(), ManualClock()).send(message())
        monkeypatch.undo()
        os.set_blocking(reading, False)
        for _ in range(100):
            try:
                if not os.read(reading, 1 << 20):
                    break
            except BlockingIOError:
                break
    os.close(reading)
