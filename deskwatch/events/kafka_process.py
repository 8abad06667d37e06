"""The process that talks to Kafka's brokers: `python -m deskwatch.events.kafka_process`.

Questions come as frames on standard input, the first being the `Setup`; answers and log lines go to the descriptor that was
standard output. Ends with its input, so it never outlives who started it. Why a process: librdkafka aborts where a consumer
group's coordinator goes away at the wrong moment (github.com/confluentinc/librdkafka/issues/4605); so it ends this one only.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
import threading
import traceback
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec

from deskwatch.events.cluster import Failure, Question, Said, Setup
from deskwatch.events.frames import LOG, packed, read
from deskwatch.events.kafka import Brokers

AT_A_TIME = 4
"""Questions answered at once."""


def main() -> None:
    """Answer until the input ends."""
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, signal.SIG_IGN)  # whoever started us ends us
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # what anybody prints is no answer
    turn = threading.Lock()

    def send(number: int, content: Any) -> None:
        frame = packed(number, content)
        with turn:
            answers.write(frame)

    def say(line: Said) -> None:
        send(LOG, line)

    def answer(number: int, body: bytes) -> None:
        send(number, _answer(brokers, questions.decode(body)))

    first = read(sys.stdin.buffer)
    if first is None:
        return
    brokers = Brokers(msgspec.msgpack.decode(first[1], type=Setup), say)
    questions: msgspec.msgpack.Decoder[Question] = msgspec.msgpack.Decoder(Question)
    pool = ThreadPoolExecutor(AT_A_TIME)
    while (frame := read(sys.stdin.buffer)) is not None:
        pool.submit(answer, *frame)
    os._exit(0)  # whatever is still asked, nobody waits for it


def _answer(brokers: Brokers, question: Question) -> Any:
    try:
        return brokers.answer(question)
    except Exception as error:
        traceback.print_exc()
        return Failure(type(question).__name__, "_FAIL", f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    main()
