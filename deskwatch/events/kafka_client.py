"""Questions to a Kafka cluster from the event loop: through a process that talks to its brokers.

The process is started at the first question and kept; one that has died or does not answer is replaced. A question has a
deadline and can be cancelled. Refuses nothing: what the brokers refuse is told as an error with a bounded reason.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import count
from logging import WARNING
from typing import Any, Literal, TypeVar

import msgspec

from deskwatch.errors import Reason, Retryable
from deskwatch.events.cluster import (
    AskCommitted,
    AskGroups,
    AskLayout,
    AskMembers,
    AskOffsets,
    Failure,
    Group,
    Layout,
    Listing,
    Offsets,
    Partition,
    Question,
    Said,
    Setup,
)
from deskwatch.events.connection import KafkaConfig
from deskwatch.events.frames import LOG, SETUP, packed, receive
from deskwatch.events.refusals import explain, reason_of
from deskwatch.logs import get_logger

SPARE_SECONDS = 2.0
"""Beyond the deadline of a question its answer gets so long to arrive: the process may have to start first."""
PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR")
"""Environment variables the process gets; everything else may hold a secret."""
COMPLAINT_BYTES = 2000
_SAID = msgspec.msgpack.Decoder(Said)
_LAYOUT: msgspec.msgpack.Decoder[Layout | Failure] = msgspec.msgpack.Decoder(Layout | Failure)
_LISTING: msgspec.msgpack.Decoder[Listing | Failure] = msgspec.msgpack.Decoder(Listing | Failure)
_OFFSETS: msgspec.msgpack.Decoder[Offsets | Failure] = msgspec.msgpack.Decoder(Offsets | Failure)
_BY_NAME: msgspec.msgpack.Decoder[dict[str, Any]] = msgspec.msgpack.Decoder(dict[str, Group | Offsets | Failure])

T = TypeVar("T")


class _Process:
    """The running process: questions in, answers out."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._numbers = count(SETUP + 1)
        self._waiting: dict[int, asyncio.Future[bytes | None]] = {}
        self._readers = [asyncio.ensure_future(self._read_answers()), asyncio.ensure_future(self._read_complaints())]

    @property
    def end_code(self) -> int | None:
        """Its exit code, negative for a signal; None where it is not known yet."""
        return self._process.returncode

    @property
    def usable(self) -> bool:
        """Whether it can still answer."""
        return self._process.returncode is None and not self._readers[0].done()

    async def ask(self, question: Question) -> bytes:
        """The answer's body.

        Raises:
            ConnectionError: the process has ended.
        """
        number = next(self._numbers)
        answered: asyncio.Future[bytes | None] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answered
        try:
            await self.send(number, question)
            body = await answered
        finally:
            del self._waiting[number]
        if body is None:
            raise ConnectionResetError("the process has ended")
        return body

    async def send(self, number: int, content: Any) -> None:
        """Write a frame."""
        assert self._process.stdin is not None  # noqa: S101 - a pipe
        self._process.stdin.write(packed(number, content))
        await self._process.stdin.drain()

    async def end(self) -> None:
        """Kill it and wait until it is gone."""
        assert self._process.stdin is not None  # noqa: S101 - a pipe
        with suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()
        await asyncio.gather(*self._readers, return_exceptions=True)
        self._process.stdin.close()
        with suppress(OSError):
            await self._process.stdin.wait_closed()

    async def _read_answers(self) -> None:
        assert self._process.stdout is not None  # noqa: S101 - a pipe
        try:
            while True:
                number, body = await receive(self._process.stdout)
                if number == LOG:
                    said = _SAID.decode(body)
                    # An error is a warning here: what comes of it for a question is told where it was asked.
                    get_logger().log(min(said.level, WARNING), "librdkafka says", facility=said.facility, text=said.text)
                elif number in self._waiting:
                    self._answer(self._waiting[number], body)
        except asyncio.IncompleteReadError:
            pass  # it has ended
        finally:
            for answered in self._waiting.values():
                self._answer(answered, None)

    @staticmethod
    def _answer(waiting: asyncio.Future[bytes | None], body: bytes | None) -> None:
        if not waiting.done():
            waiting.set_result(body)

    async def _read_complaints(self) -> None:
        assert self._process.stderr is not None  # noqa: S101 - a pipe
        while said := await self._process.stderr.read(COMPLAINT_BYTES):
            text = said.decode(errors="replace").strip()
            get_logger().warning("the process that talks to Kafka says", text=text)


class KafkaCluster:
    """One cluster.

    Args:
        config: addresses and login.
        request_seconds: deadline of one question.
    """

    def __init__(self, config: KafkaConfig, request_seconds: float) -> None:
        self._setup = Setup(dict(config.properties()), request_seconds)
        self._process: asyncio.Task[_Process] | None = None
        self._suspect = False

    async def layout(self) -> Layout:
        """Brokers and topics, internal ones included.

        Raises:
            Retryable: no broker can be reached: refused, name, TLS, too late.
            Permanent: the login is refused, or a property is.
        """
        if self._suspect:
            await self.close()
        return _whole(await self._ask(AskLayout(), _LAYOUT))

    async def groups(self) -> Listing:
        """The consumer groups the cluster has and lets us see.

        Raises:
            Unsupported: the brokers do not tell.
            Retryable, Permanent: no broker answered.
        """
        return _whole(await self._ask(AskGroups(), _LISTING))

    async def members(self, names: Sequence[str]) -> Mapping[str, Group | Failure]:
        """State and members of these groups; one the cluster does not have is `dead`. For clusters that list their groups."""
        return await self._of_groups(AskMembers(tuple(names))) if names else {}

    async def committed(
        self, names: Sequence[str], partitions: Sequence[Partition] | None = None
    ) -> Mapping[str, Offsets | Failure]:
        """The offset each group will read next, by partition; a partition on which it has committed nothing is left out.

        Args:
            names: the groups.
            partitions: only of these; by default of all on which the group has committed.
        """
        if not names or (partitions is not None and not partitions):
            return {}
        return await self._of_groups(AskCommitted(tuple(names), None if partitions is None else tuple(partitions)))

    async def offsets(self, partitions: Sequence[Partition], end: Literal["earliest", "latest"]) -> Offsets:
        """The offset of the oldest message there is, or of the next one to be written (the high watermark)."""
        if not partitions:
            return Offsets({})
        return _whole(await self._ask(AskOffsets(tuple(partitions), end), _OFFSETS))

    async def close(self) -> None:
        """End the process and its connections; a later question starts another."""
        starting, self._process, self._suspect = self._process, None, False
        if starting is not None:
            with suppress(OSError):
                await (await starting).end()

    async def _of_groups(self, question: AskMembers | AskCommitted) -> dict[str, Any]:
        found = await self._ask(question, _BY_NAME)
        # A question to a coordinator that is never answered is what the library may die of later.
        unanswered = (Reason.TIMEOUT, Reason.REFUSED)
        self._suspect |= any(isinstance(each, Failure) and reason_of(each) in unanswered for each in found.values())
        return found

    async def _ask(self, question: Question, decoder: msgspec.msgpack.Decoder[T]) -> T:
        try:
            async with asyncio.timeout(self._setup.request_seconds + SPARE_SECONDS):
                process = await self._running()
                return decoder.decode(await process.ask(question))
        except TimeoutError:
            self._suspect = True
            raise Retryable("Kafka: the brokers did not answer in time", reason=Reason.TIMEOUT) from None
        except asyncio.CancelledError:
            self._suspect = True
            raise
        except OSError:
            message = "Kafka: the process that talks to the brokers has ended; the next fetch starts another"
            raise Retryable(message, reason=Reason.INTERNAL) from None

    async def _running(self) -> _Process:
        if self._process is not None and self._process.done() and not (await self._process).usable:
            code = (await self._process).end_code
            get_logger().warning("the process that talks to Kafka had ended and is started again", exit_code=code)
            await self.close()
        if self._process is None:
            self._process = asyncio.ensure_future(_start(self._setup))
        # A question that is cancelled meanwhile must not leave a process behind that nobody knows.
        return await asyncio.shield(self._process)


def _whole(found: T | Failure) -> T:
    if isinstance(found, Failure):
        raise explain(found)
    return found


async def _start(setup: Setup) -> _Process:
    kept = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    # The same modules as this process sees, whatever the working directory.
    kept |= {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    process = _Process(
        await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",
            "-m",
            "deskwatch.events.kafka_process",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=kept,
            start_new_session=True,
        )
    )
    await process.send(SETUP, setup)
    return process
