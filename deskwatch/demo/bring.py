"""Brings Prometheus and Alertmanager up: found or fetched, configured, started, ready; or one sentence why not."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from deskwatch.clock import Clock
from deskwatch.demo import stack
from deskwatch.demo.commentary import Commentary
from deskwatch.demo.configuration import Files
from deskwatch.demo.processes import Child, Children
from deskwatch.demo.watch import Service
from deskwatch.errors import DeskwatchError

READY_SECONDS = 30.0
PAGES = {"Prometheus": ("/alerts", "/classic/alerts"), "Alertmanager": ("/",)}
"""Where a person looks; Debian's Prometheus has only the second."""


@dataclass(frozen=True, slots=True)
class Running:
    """One of the two, ready: its version and the page to open."""

    name: str
    version: str
    page: str


async def bring(
    children: Children, files: Files, addresses: Mapping[str, str], commentary: Commentary, clock: Clock
) -> list[Running]:
    """Start both on loopback and wait until they are ready.

    Args:
        children: who they are started by.
        files: where their configuration and data go.
        addresses: `host:port` by name.
        commentary: told when something has to be fetched first.
        clock: for waiting.

    Raises:
        DeskwatchError: why there are none here; what was started has been stopped again.
    """
    programs = stack.find_programs()
    if programs is None:
        commentary.event("STACK", "fetches Prometheus and Alertmanager: apt-get download, unpacked, nothing installed")
        programs = await stack.fetch(files.folder)
    started: list[Child] = []
    try:
        for name, command in _commands(programs, files, addresses).items():
            started.append(await children.start(name, command, on_trial=True))
        running = [await _until_ready(child, addresses[child.name], clock) for child in started]
    except DeskwatchError:
        await children.stop(*started)
        raise
    for child in started:
        children.keep(child)
    return running


def _commands(programs: stack.Programs, files: Files, addresses: Mapping[str, str]) -> dict[str, list[str]]:
    prometheus, alertmanager = files.folder / "prometheus.yml", files.folder / "alertmanager.yml"
    stack.write_prometheus(prometheus, files.rules, addresses)
    stack.write_alertmanager(alertmanager, addresses)
    return {
        "Alertmanager": stack.alertmanager_command(
            programs.alertmanager, alertmanager, files.folder / "alertmanager", addresses["Alertmanager"]
        ),
        "Prometheus": stack.prometheus_command(
            programs.prometheus, prometheus, files.folder / "prometheus", addresses["Prometheus"]
        ),
    }


async def _until_ready(child: Child, address: str, clock: Clock) -> Running:
    service = Service(address)
    until = clock.monotonic() + READY_SECONDS
    try:
        while not await service.ready():
            if child.ended or clock.monotonic() > until:
                said = child.last_lines(1)
                raise DeskwatchError(f"{child.name} does not start: {said[0] if said else 'it says nothing'}")
            await clock.sleep(0.1)
        return Running(child.name, await _version(service, child.name), await _page(service, child.name))
    finally:
        await service.close()


async def _version(service: Service, name: str) -> str:
    path, keys = ("/api/v1/status/buildinfo", ("data",)) if name == "Prometheus" else ("/api/v2/status", ("versionInfo",))
    found = await service.json(path) or {}
    for key in keys:
        found = found.get(key, {})
    return str(found.get("version", "")).partition("+")[0]


async def _page(service: Service, name: str) -> str:
    answers = await asyncio.gather(*(service.get(path) for path in PAGES[name]))
    return service.url + next((path for path, answer in zip(PAGES[name], answers, strict=True) if answer), "/")
