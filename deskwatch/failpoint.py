"""Named places where a crash test kills the process: `DESKWATCH_FAILPOINT=name` or `name:3` for its third passage.

Outside tests the variable is unset and a failpoint costs one dictionary look-up.
"""

from __future__ import annotations

import os
import signal
from collections import Counter

_passages: Counter[str] = Counter()


def failpoint(name: str) -> None:
    """Kill this process with SIGKILL when the environment names this place."""
    armed = os.environ.get("DESKWATCH_FAILPOINT")
    if not armed:
        return
    wanted, _, nth = armed.partition(":")
    if wanted != name:
        return
    _passages[name] += 1
    if _passages[name] == int(nth or 1):
        os.kill(os.getpid(), signal.SIGKILL)
