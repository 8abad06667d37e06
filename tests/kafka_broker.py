"""A real Apache Kafka broker for tests: one node, KRaft, free loopback ports, its data in a temporary folder.

with KafkaBroker(tmp_path) as broker:
    broker.address                         # bootstrap.servers
    broker.kill(); broker.start()          # the same broker, its data kept
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Self

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
JAVA = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xms256m", "-Xmx512m")
PATIENCE_SECONDS = 60.0


def jars() -> Path:
    """The folder of the broker's jars.

    Skips the test where it or Java is missing, and fails it under `DESKWATCH_REQUIRE_STACK=1`, unless Maven's artifacts cannot
    be reached at all (`DESKWATCH_NO_KAFKA` says why).
    """
    folder = Path(os.environ.get("DESKWATCH_STACK", REPOSITORY / ".stack")) / "kafka"
    if list(folder.glob("kafka_2.13-*.jar")) and shutil.which("java"):
        return folder
    message = "Kafka is missing: run deploy/kafka.sh .stack (it needs Java 17 and Maven)"
    if why := os.environ.get("DESKWATCH_NO_KAFKA"):
        pytest.skip(f"{message}; here: {why}")
    if os.environ.get("DESKWATCH_REQUIRE_STACK") == "1":
        pytest.fail(message)
    pytest.skip(message)


def free_port() -> int:
    """A port nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class KafkaBroker:
    """One broker. Starting it takes three seconds, most of it Java's."""

    def __init__(self, folder: Path, *, partitions: int = 2, **settings: str) -> None:
        self._jars = jars()
        self._folder = folder / "kafka"
        self._folder.mkdir()
        self._process: subprocess.Popen[bytes] | None = None
        self._port, controller = free_port(), free_port()
        self.address = f"127.0.0.1:{self._port}"
        properties = {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.voters": f"1@127.0.0.1:{controller}",
            "listeners": f"PLAINTEXT://{self.address},CONTROLLER://127.0.0.1:{controller}",
            "advertised.listeners": f"PLAINTEXT://{self.address}",
            "controller.listener.names": "CONTROLLER",
            "inter.broker.listener.name": "PLAINTEXT",
            "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
            "log.dirs": str(self._folder / "data"),
            "num.partitions": str(partitions),
            "offsets.topic.replication.factor": "1",
            "offsets.topic.num.partitions": "4",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "group.initial.rebalance.delay.ms": "0",
            **{name.replace("_", "."): value for name, value in settings.items()},
        }
        self._properties = self._folder / "server.properties"
        self._properties.write_text("".join(f"{name}={value}\n" for name, value in properties.items()))
        cluster = self._run("kafka.tools.StorageTool", "random-uuid").stdout.decode().split()[-1]
        self._run("kafka.tools.StorageTool", "format", "-t", cluster, "-c", str(self._properties))

    def start(self) -> None:
        """Start it and wait until it takes connections.

        Raises:
            AssertionError: it does not within a minute; holds the end of its log.
        """
        log = (self._folder / "log").open("ab")
        self._process = subprocess.Popen(
            ["java", *JAVA, "-cp", f"{self._jars}/*", "kafka.Kafka", str(self._properties)],
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        log.close()
        until = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < until and self._process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", self._port), timeout=1).close()
            except OSError:
                time.sleep(0.05)  # another process holds what is waited for
            else:
                return
        raise AssertionError(f"Kafka does not listen: {self.said()}")

    def kill(self) -> None:
        """End it at once, as a crash does; its data stays."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End it in good order; its data stays."""
        self._end(signal.SIGTERM)

    def said(self) -> str:
        """The end of its log."""
        return (self._folder / "log").read_text(errors="replace")[-2000:]

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def _end(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)
            self._process.wait(PATIENCE_SECONDS)

    def _run(self, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(["java", *JAVA, "-cp", f"{self._jars}/*", *arguments], check=True, capture_output=True)
