"""Shows what our own processes log as errors, so that a person need not look into files. Reads logs; judges nothing."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from deskwatch.clock import Clock
from deskwatch.demo.commentary import Commentary

LOOK_SECONDS = 0.5
SHOWN = ("error", "critical")
MOST_OF_A_KIND = 3
"""So often the same sentence is shown; after that it stands in the log only."""
DETAILS = ("error", "source", "analytic", "portfolio", "channel", "hook")


class Faults:
    """Follows log files of JSON lines.

    Args:
        logs: name of the process to its file, which need not exist yet.
        commentary: told of errors.
        clock: for waiting.
    """

    def __init__(self, logs: dict[str, Path], commentary: Commentary, clock: Clock) -> None:
        self._logs = logs
        self._commentary = commentary
        self._clock = clock
        self._read = dict.fromkeys(logs, 0)
        self._shown: Counter[tuple[str, str]] = Counter()

    async def run(self) -> None:
        """Follow until cancelled."""
        while True:
            self.look()
            await self._clock.sleep(LOOK_SECONDS)

    def look(self) -> None:
        """Show what was added since the last look."""
        for name, file in self._logs.items():
            for line in self._new_lines(name, file):
                sentence = _sentence(line)
                if sentence is not None and self._shown[name, sentence] < MOST_OF_A_KIND:
                    self._shown[name, sentence] += 1
                    self._commentary.event("ERROR", f"{name}: {sentence}", "bad")

    def _new_lines(self, name: str, file: Path) -> list[bytes]:
        """Whole lines only: the rest is read once it is complete."""
        try:
            with file.open("rb") as log:
                log.seek(self._read[name])
                added = log.read()
        except OSError:
            return []
        whole = added[: added.rfind(b"\n") + 1]
        self._read[name] += len(whole)
        return whole.splitlines()


def _sentence(line: bytes) -> str | None:
    """What an error line says; None for any other line."""
    try:
        entry: Any = json.loads(line)
    except ValueError:
        return None
    if not isinstance(entry, dict) or entry.get("level") not in SHOWN:
        return None
    details = ", ".join(f"{key}: {entry[key]}" for key in DETAILS if key in entry)
    return f"{entry.get('event', '')}{f' ({details})' if details else ''}"
