"""The demo's processes: none outlives it, one that dies is reported with what it said last."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from deskwatch.demo.processes import Child, ChildDied, Children, free_ports, last_lines
from deskwatch.errors import DeskwatchError

PARENT_OF_TWO = "import subprocess, sys, time; subprocess.Popen(['sleep', '300']); print('ready', flush=True); time.sleep(300)"
"""A process with a child of its own."""


def group_of(child: Child) -> list[int]:
    """Ids of the living processes in a child's group."""
    listing = subprocess.run(["ps", "-eo", "pid=,pgid=,stat="], capture_output=True, text=True, check=True).stdout
    rows = [line.split() for line in listing.splitlines()]
    return [int(pid) for pid, group, state in rows if int(group) == child.pid and not state.startswith("Z")]


async def first_line(child: Child) -> str:
    """What it prints first."""
    async for line in child.lines():
        return line
    return ""


async def test_a_child_that_dies_is_reported_with_its_last_lines(tmp_path: Path) -> None:
    """The name, the exit code, the end of its log."""
    children = Children(tmp_path)
    code = "import sys; [print('line', n, file=sys.stderr) for n in range(20)]; sys.exit(3)"
    await children.start("Prometheus", [sys.executable, "-c", code])
    with pytest.raises(ChildDied) as died:
        await asyncio.wait_for(children.watch(), 10)
    assert str(died.value).startswith("Prometheus ended with exit code 3; the last lines of")
    assert str(died.value).endswith("line 18\n    line 19")
    assert "line 11" not in str(died.value)
    await children.stop()


async def test_a_child_that_was_killed_is_reported_with_the_signal(tmp_path: Path) -> None:
    """Out of memory looks like this."""
    children = Children(tmp_path)
    child = await children.start("exporter", ["sleep", "300"])
    os.kill(child.pid, signal.SIGKILL)
    with pytest.raises(ChildDied, match="exporter was ended by signal 9"):
        await asyncio.wait_for(children.watch(), 10)
    await children.stop()


async def test_stopping_ends_the_whole_group_and_is_no_death(tmp_path: Path) -> None:
    """Grandchildren too, whether or not their parent asks them to."""
    children = Children(tmp_path)
    child = await children.start("receiver", [sys.executable, "-c", PARENT_OF_TWO], output=True)
    assert await first_line(child) == "ready"
    assert len(group_of(child)) == 2
    watching = asyncio.create_task(children.watch())
    await children.stop()
    assert group_of(child) == []
    assert not watching.done()
    watching.cancel()


async def test_a_program_that_is_not_there_is_named(tmp_path: Path) -> None:
    """Which one, and why."""
    with pytest.raises(DeskwatchError, match="Alertmanager cannot be started: /nowhere/alertmanager: No such file"):
        await Children(tmp_path).start("Alertmanager", ["/nowhere/alertmanager"])


def test_children_end_when_the_demo_is_killed(tmp_path: Path) -> None:
    """`kill -9` of the parent leaves nothing behind: the kernel tells the child."""
    code = f"""
        import asyncio, time
        from pathlib import Path
        from deskwatch.demo.processes import start
        async def main():
            child = await start("child", ["sleep", "300"], Path({str(tmp_path / "log")!r}))
            print(child.pid, flush=True)
            await asyncio.sleep(300)
        asyncio.run(main())
    """
    parent = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    # Its end is awaited, not slept for: a descriptor of the process becomes readable when it ends.
    handle = os.pidfd_open(child)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    try:
        assert select.select([handle], [], [], 10)[0], "the child is still alive"
    finally:
        os.close(handle)


def test_usual_ports_are_taken_where_they_are_free() -> None:
    """A port somebody has is replaced by a free one; no two are the same."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            usual = free.getsockname()[1]
        chosen = free_ports({"exporter": taken, "receiver": usual, "Prometheus": usual})
    assert chosen["exporter"] != taken
    assert chosen["receiver"] == usual
    assert len(set(chosen.values())) == 3


def test_the_end_of_a_log_is_short(tmp_path: Path) -> None:
    """No log, no lines; a traceback of a megabyte is cut."""
    log = tmp_path / "log"
    assert last_lines(log) == []
    log.write_text("first\n\n" + "x" * 1_000_000 + "\nlast\n")
    lines = last_lines(log, 2)
    assert lines[1] == "last"
    assert len(lines[0]) == 300
