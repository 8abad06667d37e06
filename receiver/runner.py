"""The runner: executes one run of a hook in a process of its own and says how it ended.

Own process group, an environment without the receiver's secrets, never a shell: the alert arrives as JSON on standard input.
The timeout kills the whole group; output is capped. It decides nothing (`receiver.guard`) and records nothing
(`receiver.remediate`).
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass

import msgspec

from deskwatch.logs import get_logger
from receiver.hook_process import RunOrder, RunResult
from receiver.runs import Outcome

RESULT_BYTES = 64 * 1024
PRINTED_BYTES = 8 * 1024
PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR")
"""Environment variables a hook's process gets; everything else may hold a secret."""
LEFTOVER_SECONDS = 1.0
"""How long a killed group may take to be gone."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a run ended; `text` is what it said, or what went wrong."""

    outcome: Outcome
    text: str


async def execute(order: RunOrder) -> Ended:
    """Run the hook and wait for its end, at most `order.timeout_seconds`."""
    with tempfile.TemporaryDirectory(prefix="deskwatch-hook-") as folder:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",
            "-m",
            "receiver.hook_process",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=folder,
            env=_environment(),
            start_new_session=True,
        )
        assert process.stdin is not None and process.stdout is not None and process.stderr is not None  # noqa: S101, PT018 - pipes
        printed = asyncio.create_task(_read_capped(process.stderr, PRINTED_BYTES))
        try:
            async with asyncio.timeout(order.timeout_seconds):
                process.stdin.write(msgspec.json.encode(order))
                process.stdin.close()
                # Ends with the process: what the hook starts does not inherit the result's descriptor.
                result = await _read_capped(process.stdout, RESULT_BYTES)
        except TimeoutError:
            return Ended("timed_out", f"killed after {order.timeout_seconds:g} s; what it had begun may be done in part")
        finally:
            _kill_group(process.pid)
            await _leave(process, printed, order.hook)
    return _ended(result, process.returncode)


def _environment() -> dict[str, str]:
    kept = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    # The same modules as this process sees, hooks of other packages included, whatever the working directory.
    return kept | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path), "PYTHONDONTWRITEBYTECODE": "1"}


async def _leave(process: asyncio.subprocess.Process, printed: asyncio.Task[bytes], hook: str) -> None:
    """Reap the process and log what it printed."""
    await asyncio.wait({printed, asyncio.ensure_future(process.wait())}, timeout=LEFTOVER_SECONDS)
    if not printed.done():
        printed.cancel()
    elif text := printed.result().decode("utf-8", "replace").strip():
        get_logger().info("a hook printed", hook=hook, printed=text)


async def _read_capped(stream: asyncio.StreamReader, limit: int) -> bytes:
    """Read to the end and keep the first `limit` bytes: a hook that prints without end must not stop for a full pipe."""
    kept = bytearray()
    while chunk := await stream.read(64 * 1024):
        kept += chunk[: max(0, limit - len(kept))]
    return bytes(kept)


def _kill_group(pid: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def _ended(result: bytes, code: int | None) -> Ended:
    try:
        said = msgspec.json.decode(result, type=RunResult)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return Ended("failed", f"the hook's process ended with code {code} and no result")
    return Ended("succeeded" if said.succeeded else "failed", said.text)
