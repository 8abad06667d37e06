"""The source of Kafka's measures on brokers that speak the protocol: what it reads, and what it makes of every way to fail.

The brokers are librdkafka's mock ones; `tests/stack/test_kafka.py` has a real one.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import structlog
import trustme

from deskwatch.errors import Permanent, Reason, Retryable
from exporter.normal.kafka import (
    BROKERS,
    CONTROLLER,
    LAG_MESSAGES,
    LAG_SECONDS,
    OFFLINE,
    PARTITION_CURRENT,
    PARTITION_OLDEST,
    TOPIC_CURRENT,
    TOPIC_OFFLINE,
    TOPIC_OLDEST,
    TOPIC_PARTITIONS,
    UNCOMMITTED,
)
from tests.flows.exporter.kafka_desk import Watched, measure_a_commit_beyond_the_end, measure_what_was_written, values, watching
from tests.flows.exporter.running import running, value
from tests.stand_ins.kafka import (
    GROUP_AUTHORIZATION_FAILED,
    LIST_OFFSETS,
    OFFSET_FETCH,
    TOPIC_AUTHORIZATION_FAILED,
    Brokers,
)


@pytest.fixture
def brokers() -> Iterator[Brokers]:
    """Three brokers with the topic `orders`: two partitions, ten messages in the first, four in the second."""
    with Brokers(3) as found:
        found.topic("orders", partitions=2, replicas=3)
        found.write("orders", 0, messages=10)
        found.write("orders", 1, messages=4)
        found.commit("risk", "orders", {0: 4})
        yield found


def gone(process: int) -> bool:
    """Whether the process has ended and been waited for."""
    return not Path(f"/proc/{process}").exists()


async def test_what_was_written_and_committed_is_what_is_measured() -> None:
    """Ten messages and four; a group that has read four of the first partition and none of the second."""
    with Brokers(3) as brokers:
        await measure_what_was_written(brokers)


async def test_retention_moves_the_oldest_offset(brokers: Brokers) -> None:
    """Low watermarks are the brokers' own, not 0."""
    brokers.delete_before("orders", 0, 3)
    async with watching(brokers.bootstrap) as watched:
        snapshot = await watched.fetch()
        assert values(snapshot, PARTITION_OLDEST) == {("orders", "0"): 3, ("orders", "1"): 0}
        assert values(snapshot, TOPIC_OLDEST) == {("orders",): 3}


async def test_a_topic_made_anew_has_no_lag_until_its_group_commits_anew(brokers: Brokers) -> None:
    """Its commits went with it, and so did its past."""
    async with watching(brokers.bootstrap, groups=["risk"]) as watched:
        await watched.fetch()
        brokers.drop("orders")
        brokers.topic("orders", partitions=2)
        brokers.write("orders", 0, messages=2)
        snapshot = await watched.until(TOPIC_CURRENT, "orders", is_=2)
        assert values(snapshot, LAG_MESSAGES) == values(snapshot, UNCOMMITTED) == {}
        brokers.commit("risk", "orders", {0: 1})
        snapshot = await watched.fetch()
        assert values(snapshot, LAG_MESSAGES) == {("risk", "orders"): 1}
        assert values(snapshot, LAG_SECONDS) == {}


async def test_a_commit_beyond_the_end_is_left_out(brokers: Brokers) -> None:
    """What a restored backup or an unclean election leaves behind."""
    await measure_a_commit_beyond_the_end(brokers)


async def test_partitions_without_leader_and_a_lost_controller_are_seen(brokers: Brokers) -> None:
    """And are gone when they are well again."""
    async with watching(brokers.bootstrap, groups=["risk"]) as watched:
        await watched.fetch()
        brokers.lead("orders", 0, -1)
        brokers.control(-1)
        snapshot = await watched.fetch()
        assert values(snapshot, OFFLINE) == {(): 1}
        assert values(snapshot, TOPIC_OFFLINE) == {("orders",): 1}
        assert values(snapshot, CONTROLLER) == {(): 0}
        assert values(snapshot, TOPIC_CURRENT) == values(snapshot, LAG_MESSAGES) == {}
        brokers.lead("orders", 0, 1)
        brokers.control(2)
        snapshot = await watched.fetch()
        assert values(snapshot, OFFLINE) == {(): 0}
        assert values(snapshot, CONTROLLER) == {(): 1}
        assert values(snapshot, TOPIC_CURRENT) == {("orders",): 14}


async def test_one_broker_down_costs_what_only_it_can_tell(brokers: Brokers) -> None:
    """The other partition stands; what is missing is counted; it comes back with the broker."""
    brokers.lead("orders", 0, 1)
    brokers.lead("orders", 1, 2)
    brokers.coordinate("risk", 2)
    async with watching(brokers.bootstrap, groups=["risk"]) as watched:
        assert values(await watched.fetch(), LAG_MESSAGES) == {("risk", "orders"): 6}
        brokers.down(1)
        snapshot = await watched.until(BROKERS, is_=2)
        assert values(snapshot, PARTITION_CURRENT) == {("orders", "1"): 4}
        assert values(snapshot, TOPIC_CURRENT) == values(snapshot, LAG_MESSAGES) == {}
        assert snapshot.rejected
        brokers.up(1)
        snapshot = await watched.until(TOPIC_CURRENT, "orders", is_=14)
        assert values(snapshot, BROKERS) == {(): 3}


async def test_a_groups_coordinator_may_come_and_go(brokers: Brokers) -> None:
    """librdkafka aborts of this (its issue 4605): the process with a question nobody has answered is replaced in time."""
    brokers.lead("orders", 0, 1)
    brokers.lead("orders", 1, 1)
    brokers.coordinate("risk", 2)
    async with watching(brokers.bootstrap, groups=["risk"]) as watched:
        for _ in range(2):
            await watched.until(LAG_MESSAGES, "risk", "orders", is_=6)
            brokers.down(2)
            processes = set()
            for _ in range(2):
                snapshot = await watched.fetch()
                processes.add(watched.process)
                assert values(snapshot, TOPIC_CURRENT) == {("orders",): 14}
                assert values(snapshot, LAG_MESSAGES) == {}
                assert {each.reason for each in snapshot.rejected} <= {"refused", "timeout", "server_error"}
            assert len(processes) == 2
            brokers.up(2)


async def test_all_brokers_down_is_refused_and_recovers(brokers: Brokers) -> None:
    """Said before the deadline, again at each fetch, and over when they are back."""
    async with watching(brokers.bootstrap, groups=["risk"]) as watched:
        await watched.fetch()
        brokers.down()
        for _ in range(2):
            error = await watched.fails()
            assert isinstance(error, Retryable)
            assert error.reason is Reason.REFUSED
        brokers.up()
        snapshot = await watched.recovers(TOPIC_CURRENT, "orders", is_=14)
        assert values(snapshot, BROKERS) == {(): 3}


async def test_slow_brokers_are_waited_for_within_the_deadline(brokers: Brokers) -> None:
    """Late is not wrong; too late is `timeout`."""
    async with watching(brokers.bootstrap, groups=["risk"]) as watched:
        await watched.fetch()
        brokers.delay(300)
        assert values(await watched.fetch(), LAG_MESSAGES) == {("risk", "orders"): 6}
        brokers.delay(4000)
        assert (await watched.fails()).reason is Reason.TIMEOUT
        brokers.delay(0)
        await watched.recovers(LAG_MESSAGES, "risk", "orders", is_=6)


async def test_a_topic_we_may_not_read_is_left_out(brokers: Brokers) -> None:
    """Its partitions are known, its offsets are not; nothing else suffers."""
    brokers.topic("fills", partitions=1)
    async with watching(brokers.bootstrap, topics=["fills"], groups=["risk"]) as watched:
        await watched.fetch()
        brokers.fail(LIST_OFFSETS, *[TOPIC_AUTHORIZATION_FAILED] * 2)
        snapshot = await watched.fetch()
        assert values(snapshot, TOPIC_PARTITIONS) == {("fills",): 1}
        assert values(snapshot, TOPIC_CURRENT) == {}
        assert {each.reason for each in snapshot.rejected} == {"auth"}
        assert values(await watched.fetch(), TOPIC_CURRENT) == {("fills",): 0}


async def test_a_group_we_may_not_read_is_left_out(brokers: Brokers) -> None:
    """Neither a lag nor an uncommitted partition is made of it."""
    async with watching(brokers.bootstrap, groups=["risk"]) as watched:
        await watched.fetch()
        brokers.fail(OFFSET_FETCH, GROUP_AUTHORIZATION_FAILED)
        snapshot = await watched.fetch()
        assert values(snapshot, LAG_MESSAGES) == values(snapshot, UNCOMMITTED) == {}
        assert [each.reason for each in snapshot.rejected] == ["auth"]
        assert values(snapshot, TOPIC_CURRENT) == {("orders",): 14}
        assert values(await watched.fetch(), LAG_MESSAGES) == {("risk", "orders"): 6}


async def test_a_silent_peer_is_a_timeout() -> None:
    """Something takes the connection and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        async with watching(f"127.0.0.1:{silent.getsockname()[1]}") as watched:
            error = await watched.fails()
    assert (type(error), error.reason) == (Retryable, Reason.TIMEOUT)
    assert str(error) == "Kafka: brokers and topics: no broker answered in time"


async def test_a_peer_that_is_no_broker_is_a_bad_response() -> None:
    """A web server on the port."""

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with (
        await asyncio.start_server(greet, "127.0.0.1", 0) as server,
        watching(f"127.0.0.1:{server.sockets[0].getsockname()[1]}") as watched,
    ):
        assert (await watched.fails()).reason is Reason.BAD_RESPONSE


async def test_a_name_that_does_not_resolve_is_dns() -> None:
    """RFC 2606 reserves `.invalid`."""
    async with watching("nobody.invalid:9092") as watched:
        assert (await watched.fails()).reason is Reason.DNS


async def test_one_good_address_of_several_is_enough(brokers: Brokers) -> None:
    """The first refuses."""
    async with watching(f"127.0.0.1:9,{brokers.bootstrap}") as watched:
        assert values(await watched.fetch(), BROKERS) == {(): 3}


async def test_a_login_the_brokers_do_not_take_is_not_tried_again_and_again(brokers: Brokers) -> None:
    """`auth`, permanent; the password stands nowhere."""
    security = {"mechanism": "PLAIN", "username": "reader", "password": "hunter2"}
    async with watching(brokers.bootstrap, security=security) as watched:
        with structlog.testing.capture_logs() as logged:
            error = await watched.fails()
    assert (type(error), error.reason) == (Permanent, Reason.AUTH)
    assert "hunter2" not in f"{error} {logged}"


async def test_tls_is_spoken_and_the_brokers_certificate_is_checked(tmp_path: Path) -> None:
    """With their authority's certificate it works; with another it is `tls`, as it is where they speak no TLS."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    trustme.CA().cert_pem.write_to_path(tmp_path / "other.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with Brokers(1) as brokers:
        brokers.topic("orders")
        plain = brokers.bootstrap
        async with tls_proxy(plain, context) as port:
            brokers.advertise(1, port)
            async with watching(f"127.0.0.1:{port}", security={"tls": True, "ca_file": tmp_path / "ca.pem"}) as watched:
                assert values(await watched.fetch(), TOPIC_CURRENT) == {("orders",): 0}
            async with watching(f"127.0.0.1:{port}", security={"tls": True, "ca_file": tmp_path / "other.pem"}) as watched:
                assert (await watched.fails()).reason is Reason.TLS
            async with watching(plain, security={"tls": True, "ca_file": tmp_path / "ca.pem"}) as watched:
                assert (await watched.fails()).reason is Reason.TLS
            async with watching(plain, security={"tls": True, "ca_file": tmp_path / "missing.pem"}) as watched:
                assert (await watched.fails()).reason is Reason.TLS


@asynccontextmanager
async def tls_proxy(target: str, context: ssl.SSLContext) -> AsyncIterator[int]:
    """Takes TLS on a port of its own and passes the bytes on."""
    host, _, port = target.rpartition(":")
    tasks: set[asyncio.Task[None]] = set()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while chunk := await reader.read(65536):
                writer.write(chunk)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        further, back = await asyncio.open_connection(host, int(port))
        for one, other in ((reader, back), (further, writer)):
            task = asyncio.ensure_future(pump(one, other))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

    async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context) as server:
        yield server.sockets[0].getsockname()[1]
        for task in tuple(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_what_librdkafka_says_goes_to_our_log_once(brokers: Brokers, capfd: pytest.CaptureFixture[str]) -> None:
    """Not to standard error, and not at each of its attempts to connect; after an answer it is news again."""
    async with watching(brokers.bootstrap) as watched:
        await watched.fetch()
        with structlog.testing.capture_logs() as logged:
            brokers.down()
            for _ in range(2):
                await watched.fails()
        said = [line["text"] for line in logged if line["event"] == "librdkafka says"]
        assert said
        assert len(said) == len(set(said)) < 20
        assert {line["log_level"] for line in logged} <= {"warning", "info", "debug"}
    assert capfd.readouterr().err == ""


async def test_a_process_that_dies_is_replaced(brokers: Brokers) -> None:
    """Between two fetches it costs none."""
    async with watching(brokers.bootstrap, groups=["risk"]) as watched:
        await watched.fetch()
        died = watched.process
        os.kill(died, signal.SIGABRT)
        with structlog.testing.capture_logs() as logged:
            await watched.lost_its_process()
            assert values(await watched.fetch(), LAG_MESSAGES) == {("risk", "orders"): 6}
        assert "the process that talks to Kafka had ended and is started again" in [line["event"] for line in logged]
        assert watched.process != died


async def ended(process: int) -> None:
    """Wait until the process is no more than a record of its end."""
    async with asyncio.timeout(10):
        while True:
            if state(process) in ("Z", ""):
                return
            await asyncio.sleep(0.01)


def state(process: int) -> str:
    """Of a process: `R`, `S`, `Z`, ...; empty where there is none."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


async def test_what_anybody_prints_in_the_process_is_no_answer(brokers: Brokers) -> None:
    """Its standard output is its standard error, which goes to our log; answers go elsewhere."""
    async with watching(brokers.bootstrap) as watched:
        await watched.fetch()
        descriptors = Path(f"/proc/{watched.process}/fd")
        assert (descriptors / "1").readlink() == (descriptors / "2").readlink()


async def test_a_process_that_dies_during_a_fetch_costs_that_fetch(brokers: Brokers) -> None:
    """`internal`: it is neither the brokers' nor the network's fault."""
    async with watching(brokers.bootstrap, groups=["risk"]) as watched:
        await watched.fetch()
        brokers.delay(500)
        fetching = asyncio.ensure_future(watched.fails())
        await asyncio.sleep(0)
        os.kill(watched.process, signal.SIGKILL)
        assert (await fetching).reason is Reason.INTERNAL
        brokers.delay(0)
        await watched.recovers(LAG_MESSAGES, "risk", "orders", is_=6)


async def test_a_cancelled_fetch_ends_at_once_and_the_next_one_works(brokers: Brokers) -> None:
    """As the poller cancels it at its deadline: nothing of it is left to answer late."""
    async with watching(brokers.bootstrap, groups=["risk"]) as watched:
        await watched.fetch()
        before = watched.process
        brokers.delay(3000)
        fetching = asyncio.ensure_future(watched.fetch())
        await asyncio.sleep(0)
        begun = asyncio.get_running_loop().time()
        fetching.cancel()
        with pytest.raises(asyncio.CancelledError):
            await fetching
        assert asyncio.get_running_loop().time() - begun < 2
        brokers.delay(0)
        await watched.recovers(LAG_MESSAGES, "risk", "orders", is_=6)
        assert gone(before)


async def test_a_fetch_cancelled_while_its_process_starts_leaves_none_behind(brokers: Brokers) -> None:
    """The process is known to the source before anybody waits for it."""
    watched = Watched(brokers.bootstrap)
    fetching = asyncio.ensure_future(watched.fetch())
    await asyncio.sleep(0)
    fetching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await fetching
    await watched.source.close()
    assert children(os.getpid()) == []


def children(process: int) -> list[int]:
    """The processes it has started that are still there."""
    tasks = Path(f"/proc/{process}/task").glob("*/children")
    return [int(each) for task in tasks for each in task.read_text().split()]


async def test_close_ends_the_process_also_when_the_brokers_hang(brokers: Brokers) -> None:
    """And a later fetch starts another."""
    watched = Watched(brokers.bootstrap)
    await watched.fetch()
    process = watched.process
    brokers.delay(3000)
    fetching = asyncio.ensure_future(watched.fetch())
    for _ in range(10):
        await asyncio.sleep(0)  # the question is on its way
    await watched.source.close()
    assert gone(process)
    with pytest.raises(Retryable):
        await fetching
    brokers.delay(0)
    assert values(await watched.fetch(), TOPIC_CURRENT) == {("orders",): 14}
    await watched.source.close()


def desk_of(brokers: Brokers) -> dict[str, Any]:
    """A desk that reads them many times a second."""
    source = {
        "type": "kafka",
        "name": "events",
        "bootstrap_servers": brokers.bootstrap,
        "groups": ["risk"],
        "interval_seconds": 0.2,
        "timeout_seconds": 5,
        "stale_after_seconds": 2,
        "breaker": {"failures": 100},
    }
    return {
        "logs": {"format": "json"},
        "exporter": {
            "web": {"listen": "127.0.0.1:0"},
            "cycle_seconds": 0.1,
            "sources": [source],
            "portfolios": [{"name": "carry", "base_currency": "EUR"}],
        },
    }


async def test_in_a_running_exporter_lag_becomes_a_gauge_and_goes_with_the_brokers(brokers: Brokers, tmp_path: Path) -> None:
    """Shown, then stale and gone with a reason, then back; ended by a signal although the brokers hang, no process left."""
    lag = {"source": "events", "consumergroup": "risk", "topic": "orders"}
    async with running(tmp_path, desk_of(brokers)) as exporter:
        series = await exporter.until(lambda page: value(page, "desk_kafka_consumer_lag_messages", **lag) == 6)
        assert value(series, "desk_source_up", source="events", kind="infrastructure") == 1
        (process,) = children(exporter.process.pid)
        brokers.down()
        series = await exporter.until(lambda page: value(page, "desk_kafka_brokers", source="events") is None)
        assert value(series, "desk_source_up", source="events", kind="infrastructure") == 0
        assert (value(series, "desk_source_fetch_failures_total", source="events", reason="refused") or 0) > 0
        assert not [name for name, _ in series if name.startswith("desk_kafka_")]
        brokers.up()
        await exporter.until(lambda page: value(page, "desk_kafka_consumer_lag_messages", **lag) == 6)
        brokers.delay(4000)
        (process,) = children(exporter.process.pid)
        _, seconds = await exporter.stop()
        assert seconds < 5
    await ended(process)
    assert {each["level"] for each in exporter.said} <= {"info", "warning"}


async def test_an_exporter_that_is_killed_leaves_no_process_behind(brokers: Brokers, tmp_path: Path) -> None:
    """It ends with its input."""
    async with running(tmp_path, desk_of(brokers)) as exporter:
        await exporter.until(lambda page: value(page, "desk_kafka_brokers", source="events") == 3)
        (process,) = children(exporter.process.pid)
        exporter.process.kill()
        await exporter.process.wait()
        await ended(process)
