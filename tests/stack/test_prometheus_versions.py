"""What the exporter serves is accepted by both Prometheus releases that Debian ships, and by their promtools."""

from __future__ import annotations

import asyncio
import os
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import yaml

from deskwatch.demo import stack
from deskwatch.demo.processes import Children, free_ports
from tests.components import REPOSITORY, find
from tests.flows.exporter.running import running, trading_database
from tests.stack.test_scrape_by_https import until

pytestmark = pytest.mark.stack
NEWER = REPOSITORY / ".stack" / "trixie" / "usr" / "bin"


def program(name: str, release: str) -> Path:
    """The program of this system's release, or of the newer one fetched beside it."""
    if release == "system":
        return find(name)
    if os.access(NEWER / name, os.X_OK):
        return NEWER / name
    message = f"{name} of Debian trixie is missing: run deploy/stack.sh --suite trixie .stack"
    if os.environ.get("DESKWATCH_REQUIRE_STACK") == "1":
        pytest.fail(message)
    pytest.skip(message)


@pytest.mark.parametrize("release", ["system", "trixie"])
async def test_every_line_of_the_page_arrives(tmp_path: Path, release: str) -> None:
    """`up` is 1, as many samples are taken as the page has lines, none is refused or doubled; promtool finds no fault.

    Its own process metrics are left out: their names are the client library's.
    """
    prometheus, promtool = program("prometheus", release), program("promtool", release)
    trading_database(tmp_path / "trading.db").close()
    address = f"127.0.0.1:{free_ports({'Prometheus': 0})['Prometheus']}"
    async with AsyncExitStack() as opened:
        exporter = await opened.enter_async_context(running(tmp_path))
        await exporter.until(lambda series: "desk_var_ratio" in {name for name, _ in series})
        job = {"job_name": "exporter", "static_configs": [{"targets": [exporter.url.partition("://")[2]]}]}
        settings = {"global": {"scrape_interval": "1s", "scrape_timeout": "1s"}, "scrape_configs": [job]}
        (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(settings))
        children = Children(tmp_path)
        opened.push_async_callback(children.stop)
        await children.start(
            "prometheus", stack.prometheus_command(prometheus, tmp_path / "prometheus.yml", tmp_path / "tsdb", address)
        )
        await until(address, 'up{job="exporter"} == 1')
        page = (await exporter.get()).text
        lines = sum(not line.startswith("#") for line in page.splitlines())
        (taken,) = await until(address, 'scrape_samples_scraped{job="exporter"}')
        (added,) = await until(address, 'scrape_samples_post_metric_relabeling{job="exporter"}')
        assert int(taken["value"][1]) == int(added["value"][1])
        assert abs(int(taken["value"][1]) - lines) <= 2  # a series may come or go between the two looks
        checked = await asyncio.create_subprocess_exec(
            promtool, "check", "metrics",
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        said, _ = await checked.communicate(page.encode())
        faults = [line for line in said.decode().splitlines() if "process_" not in line and "python_" not in line]
        assert faults == []
