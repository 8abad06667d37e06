"""Standard output, for a person at a terminal: what happened, to which portfolio, where the runbook is, what to do first.

Labels are untrusted: control characters and those that turn the direction of text are taken out, so none drives the terminal.
"""

from __future__ import annotations

import sys
import unicodedata
from collections.abc import Iterator
from typing import Literal

from deskwatch.errors import Reason, Retryable
from receiver.channel import Channel, ChannelConfig
from receiver.in_thread import in_thread
from receiver.message import EpisodeView, Message

EPISODES_SHOWN = 10
_TEXT_CHARACTERS = 2000
_LABELS_FIRST = ("severity", "priority", "portfolio", "limit", "strategy", "source", "component", "instance")


class Config(ChannelConfig):
    """Nothing of its own."""

    type: Literal["console"] = "console"
    name: str = "console"
    concurrency: int = 1
    """One after the other, so that messages do not mix."""


class Console(Channel[Config]):
    """Prints."""

    grouping = "group"
    takes = frozenset({"trigger", "resolve", "repeat", "remediation", "notice", "test"})

    async def send(self, message: Message) -> str:
        """Print the message; a terminal that is gone or stands still is a failed attempt."""
        now = self.clock.now()
        text = "\n".join([f"{now:%Y-%m-%d %H:%M:%S}Z  {_clean(_headline(message))}", *_lines(message), ""])

        def write() -> None:
            # Written whole: a pipe nobody reads blocks this thread only.
            sys.stdout.write(text + "\n")
            sys.stdout.flush()

        try:
            await in_thread(write, name="console")
        except (OSError, ValueError) as error:
            raise Retryable(f"standard output cannot be written: {error}", reason=Reason.NETWORK) from error
        return ""


def _headline(message: Message) -> str:
    again = f"  (attempt {message.attempt}, may be a duplicate)" if message.possible_duplicate else ""
    return f"{message.title}  {message.severity}/{message.priority}{again}"


def _lines(message: Message) -> Iterator[str]:
    if message.kind == "remediation":
        yield f"    {_clean(f'{message.hook} ({message.run_mode}, {message.run_outcome}): {message.text}')}"
        yield from (f"    for {_labels(episode)}" for episode in message.episodes)
        return
    if message.kind == "notice":
        yield from (f"    {_clean(line)}" for line in message.text.splitlines()[1:])
        return
    explained: set[str] = set()
    for episode in message.episodes[:EPISODES_SHOWN]:
        yield f"  {'FIRING  ' if episode.status == 'firing' else 'RESOLVED'} {_clean(episode.summary)}"
        yield f"    {_labels(episode)}"
        # The same runbook for ten portfolios is said once.
        if episode.status == "firing" and episode.name not in explained:
            explained.add(episode.name)
            yield from _first_steps(episode)
    more = len(message.episodes) - EPISODES_SHOWN
    if more > 0:
        yield f"    and {more} more"
    if message.truncated:
        yield f"    and {message.truncated} the sender left out"


def _first_steps(episode: EpisodeView) -> Iterator[str]:
    known = episode.enrichment
    if known.runbook_url:
        yield f"    runbook: {_clean(known.runbook_url)}"
    yield from (f"      {number}. {_clean(step)}" for number, step in enumerate(known.steps, 1))


def _labels(episode: EpisodeView) -> str:
    shown = [name for name in _LABELS_FIRST if name in episode.labels]
    return " ".join(f"{name}={_clean(episode.labels[name])}" for name in shown) or f"alertname={_clean(episode.name)}"


def _clean(text: str) -> str:
    """The text on one line without control, format and surrogate characters, cut to a readable length."""
    short = text[:_TEXT_CHARACTERS]
    return "".join(" " if c in "\n\t\r" else c for c in short if c in "\n\t\r" or unicodedata.category(c)[0] != "C")
