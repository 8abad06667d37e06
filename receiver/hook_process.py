"""A hook's own process: `python -m receiver.hook_process`. Reads one run as JSON on standard input, writes one result.

The result goes to the descriptor that was standard output; what the hook itself prints goes to standard error, so it cannot be
taken for a result. Knows no store, no channel and no secret.
"""

from __future__ import annotations

import asyncio
import math
import os
import signal
import sys

import msgspec

from deskwatch.errors import ConfigError, Permanent, Retryable
from deskwatch.hook import ExporterAccess, Mode, Run
from receiver.hook_room import hook_function


class RunOrder(msgspec.Struct, frozen=True, kw_only=True):
    """What the runner hands over."""

    hook: str
    mode: Mode
    idempotency_key: str
    fencing_token: int
    episode_id: str
    labels: dict[str, str]
    annotations: dict[str, str]
    exporter: ExporterAccess | None = None
    timeout_seconds: float


class RunResult(msgspec.Struct, frozen=True, kw_only=True):
    """What comes back: `text` is the hook's sentence, or why it failed."""

    succeeded: bool
    text: str


def main() -> None:
    """Run one hook."""
    result_descriptor = os.dup(1)
    os.dup2(2, 1)
    order = msgspec.json.decode(sys.stdin.buffer.read(), type=RunOrder)
    # The runner kills the group at the timeout. Should the runner itself be gone by then, this process still ends.
    signal.alarm(math.ceil(order.timeout_seconds) + 1)
    result = asyncio.run(_run(order))
    os.write(result_descriptor, msgspec.json.encode(result))


async def _run(order: RunOrder) -> RunResult:
    run = Run(
        hook=order.hook,
        mode=order.mode,
        idempotency_key=order.idempotency_key,
        fencing_token=order.fencing_token,
        episode_id=order.episode_id,
        labels=order.labels,
        annotations=order.annotations,
        exporter=order.exporter,
    )
    try:
        said = await hook_function(order.hook)(run)
    except (Retryable, Permanent, ConfigError) as error:
        return RunResult(succeeded=False, text=str(error))
    except Exception as error:
        sys.excepthook(type(error), error, error.__traceback__)
        return RunResult(succeeded=False, text=f"the hook raised {type(error).__name__}: {error}")
    return RunResult(succeeded=True, text=str(said))


if __name__ == "__main__":
    main()
