"""The processes the demo starts: each in a group of its own, with its log in a file, gone when the demo is gone.

Knows nothing of what they do. Linux: the kernel is asked to end a child whose parent died, so that not even `kill -9` of the
demo leaves one behind.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from deskwatch.errors import DeskwatchError

PR_SET_PDEATHSIG = 1
"""Source: prctl(2)."""
TERM_SECONDS = 6.0
"""What a process gets to end by itself: a second more than ours promise."""
ENVIRONMENT = {"OPENBLAS_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
"""One BLAS thread for each process: on a small machine the second costs more than it brings."""
LINE_BYTES = 1024 * 1024
_LIBC = ctypes.CDLL(None)


class ChildDied(DeskwatchError):
    """A process the demo needs has ended by itself."""


class Child:
    """One process and its group."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, log: Path) -> None:
        self.name = name
        self.log = log
        self._process = process

    @property
    def pid(self) -> int:
        """Its process id, also that of its group."""
        return self._process.pid

    @property
    def ended(self) -> bool:
        """Whether it has ended."""
        return self._process.returncode is not None

    def last_lines(self, count: int) -> list[str]:
        """The end of its log."""
        return last_lines(self.log, count)

    async def lines(self) -> AsyncIterator[str]:
        """Its standard output, line by line, until it ends."""
        stream = self._process.stdout
        assert stream is not None  # noqa: S101 - started with output=True
        while line := await stream.readline():
            yield line.decode("utf-8", "replace").rstrip("\n")

    async def wait(self) -> int:
        """Its exit code, once it has ended; negative is a signal."""
        return await self._process.wait()

    async def stop(self) -> None:
        """End it and everything in its group: asked first, killed after `TERM_SECONDS`."""
        if self._process.returncode is None:
            self._signal(signal.SIGTERM)
            with suppress(TimeoutError):
                await asyncio.wait_for(self.wait(), TERM_SECONDS)
        self._signal(signal.SIGKILL)
        await self.wait()

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.pid, number)


async def start(
    name: str,
    command: Sequence[str],
    log: Path,
    *,
    output: bool = False,
    environment: Mapping[str, str] | None = None,
    niceness: int = 0,
) -> Child:
    """Start a process.

    Args:
        name: for people.
        command: program and arguments.
        log: file its standard error, and its standard output unless `output`, are added to.
        output: keep standard output to be read by `Child.lines`.
        environment: added to the demo's own.
        niceness: how far it stands back for others, 0 to 19.

    Raises:
        DeskwatchError: the program cannot be started.
    """
    parent = os.getpid()

    def in_child() -> None:
        _LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # died before it could be asked for
            os._exit(1)
        os.nice(niceness)

    with log.open("ab") as sink:
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE if output else sink,
                stderr=sink,
                env={**os.environ, **(environment or {})},
                start_new_session=True,
                preexec_fn=in_child,
                limit=LINE_BYTES,
            )
        except OSError as error:
            raise DeskwatchError(f"{name} cannot be started: {command[0]}: {error.strerror}") from error
    return Child(name, process, log)


class Children:
    """Every process of one demo: started, watched and stopped together.

    Args:
        folder: where each keeps its log, `<name>.log`.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._watches: dict[Child, asyncio.Task[None] | None] = {}
        self._died: asyncio.Queue[ChildDied] = asyncio.Queue()

    def log(self, name: str) -> Path:
        """Log of one process."""
        return self._folder / f"{name.lower()}.log"

    async def start(self, name: str, command: Sequence[str], *, output: bool = False, on_trial: bool = False) -> Child:
        """Start one more.

        Args:
            name: for people.
            command: program and arguments.
            output: keep standard output to be read by `Child.lines`.
            on_trial: its end is no failure until `keep` says that it is needed.

        Raises:
            DeskwatchError: the program cannot be started.
        """
        child = await start(name, command, self.log(name), output=output, environment=ENVIRONMENT)
        self._watches[child] = None
        if not on_trial:
            self.keep(child)
        return child

    def keep(self, child: Child) -> None:
        """From now on its end is a failure."""
        self._watches[child] = asyncio.create_task(self._watch(child))

    async def watch(self) -> None:
        """Wait until one ends by itself.

        Raises:
            ChildDied: always, with the last lines of its log.
        """
        raise await self._died.get()

    async def stop(self, *children: Child) -> None:
        """End these, or all of them, side by side."""
        chosen = children or tuple(self._watches)
        for child in chosen:
            if watch := self._watches.pop(child):
                watch.cancel()
        await asyncio.gather(*(child.stop() for child in chosen))

    async def _watch(self, child: Child) -> None:
        code = await child.wait()
        how = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
        last = "\n".join(f"    {line}" for line in last_lines(child.log)) or "    (it logged nothing)"
        self._died.put_nowait(ChildDied(f"{child.name} {how}; the last lines of {child.log}:\n{last}"))


def last_lines(log: Path, count: int = 8, characters: int = 300) -> list[str]:
    """The end of a log, long lines cut."""
    try:
        content = log.read_bytes()[-64 * 1024 :].decode("utf-8", "replace")
    except OSError:
        return []
    lines = [line for line in content.splitlines() if line.strip()]
    return [line if len(line) <= characters else line[: characters - 1] + "…" for line in lines[-count:]]


def free_ports(usual: Mapping[str, int]) -> dict[str, int]:
    """A loopback port for each name: the usual one where nobody has it, else a free one. All different.

    The check and the process that takes the port are two steps: in between somebody else may come first. That process then
    says so and ends.
    """
    chosen: dict[str, int] = {}
    held: list[socket.socket] = []
    try:
        for name, port in usual.items():
            listener = _listen(port) or _listen(0)
            if listener is None:
                raise DeskwatchError("no free port on 127.0.0.1: stop something that listens there")
            held.append(listener)
            chosen[name] = int(listener.getsockname()[1])
    finally:
        for listener in held:
            listener.close()
    return chosen


def _listen(port: int) -> socket.socket | None:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    # As the servers do: a port whose last connections are still winding down is free.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
        listener.listen(1)
    except OSError:
        listener.close()
        return None
    return listener
