"""A real Prometheus scrapes the exporter by https with basic authentication, also across a rotation of both."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme
import yaml

from deskwatch.demo import stack
from deskwatch.demo.processes import Children, free_ports
from tests.components import find
from tests.flows.exporter.running import configuration, running, trading_database
from tests.flows.exporter.test_tls import WEB, write_web_file

pytestmark = pytest.mark.stack
WAIT_SECONDS = 45.0


async def query(address: str, expression: str) -> list[Any]:
    """An instant query; nothing while Prometheus starts."""
    async with httpx.AsyncClient(trust_env=False) as client:
        try:
            answer = await client.get(f"http://{address}/api/v1/query", params={"query": expression})
            found: list[Any] = answer.json()["data"]["result"]
        except (httpx.HTTPError, ValueError):
            return []
        return found


async def until(address: str, expression: str) -> list[Any]:
    """Wait until the expression has a result."""
    async with asyncio.timeout(WAIT_SECONDS):
        while not (found := await query(address, expression)):  # noqa: ASYNC110 - another program
            await asyncio.sleep(0.2)
    return found


def scrape_configuration(target: str) -> str:
    """As an operator writes it."""
    job = {
        "job_name": "exporter",
        "scheme": "https",
        "tls_config": {"ca_file": "ca.crt"},
        "basic_auth": {"username": "prometheus", "password_file": "password"},
        "static_configs": [{"targets": [target]}],
    }
    return yaml.safe_dump({"global": {"scrape_interval": "1s", "scrape_timeout": "1s"}, "scrape_configs": [job]})


async def test_prometheus_scrapes_by_https_with_basic_authentication(tmp_path: Path) -> None:
    """The desk's value arrives; after certificate and password rotated on both sides, it goes on arriving."""
    authority = trustme.CA()
    trading_database(tmp_path / "trading.db").close()
    write_web_file(tmp_path, authority)
    (tmp_path / "ca.crt").write_bytes(authority.cert_pem.bytes())
    (tmp_path / "password").write_text("s3cr3t")
    address = f"127.0.0.1:{free_ports({'Prometheus': 0})['Prometheus']}"
    async with AsyncExitStack() as opened:
        exporter = await opened.enter_async_context(running(tmp_path, configuration(web=WEB)))
        (tmp_path / "prometheus.yml").write_text(scrape_configuration(exporter.url.partition("://")[2]))
        children = Children(tmp_path)
        opened.push_async_callback(children.stop)
        command = stack.prometheus_command(find("prometheus"), tmp_path / "prometheus.yml", tmp_path / "tsdb", address)
        await children.start("prometheus", command)
        (found,) = await until(address, 'desk_portfolio_value{portfolio="desk"}')
        assert float(found["value"][1]) > 0
        write_web_file(tmp_path, authority, password="n3w")
        await until(address, 'up{job="exporter"} == 0')  # it still sends the old password
        (tmp_path / "password").write_text("n3w")
        await until(address, 'up{job="exporter"} == 1')
