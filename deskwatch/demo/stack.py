"""Prometheus and Alertmanager for the demo: where the programs are, how they are fetched, how their shipped configuration is
fitted to one machine and one second. Starts nothing.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from deskwatch.data import data_folder
from deskwatch.demo import processes
from deskwatch.errors import DeskwatchError

ALERTMANAGERS = ("prometheus-alertmanager", "alertmanager")
"""Debian's name, then the upstream archive's."""
USUAL_PORTS = {"exporter": 9877, "receiver": 9878, "Prometheus": 9090, "Alertmanager": 9093}
JOBS = {
    "deskwatch-exporter": "exporter",
    "deskwatch-receiver": "receiver",
    "prometheus": "Prometheus",
    "alertmanager": "Alertmanager",
}
"""Jobs of the shipped prometheus.yml and whose address each has."""
FETCH_SECONDS = 180.0
FETCH_NICENESS = 10
"""The first reading shall not wait for an archive being unpacked."""
PROFILE = "demo.rules.yml"
REPEAT = "12h"


@dataclass(frozen=True, slots=True)
class Programs:
    """The two programs."""

    prometheus: Path
    alertmanager: Path


def find_programs() -> Programs | None:
    """The programs, from `$DESKWATCH_STACK`, PATH, or where `fetch` puts them; None where one is missing."""
    named = os.environ.get("DESKWATCH_STACK")
    candidates = [
        *([named, _programs_in(Path(named))] if named else []),
        os.environ.get("PATH", os.defpath),
        *(_programs_in(home) for home in (_in_checkout(), _in_cache()) if home is not None),
    ]
    return next((programs for path in candidates if (programs := _on(path))), None)


def _programs_in(stack: Path) -> str:
    return str(stack / "usr" / "bin")


def _on(path: str) -> Programs | None:
    prometheus = shutil.which("prometheus", path=path)
    alertmanager = next((found for name in ALERTMANAGERS if (found := shutil.which(name, path=path))), None)
    return Programs(Path(prometheus), Path(alertmanager)) if prometheus and alertmanager else None


def _in_checkout() -> Path | None:
    """`.stack` of the checkout this runs from; None for an installed wheel."""
    top = data_folder("deploy").parent
    return top / ".stack" if (top / "pyproject.toml").is_file() else None


def _in_cache() -> Path | None:
    """Where programs are kept from one demo to the next outside a checkout; None where there is no home folder."""
    for variable, below in (("XDG_CACHE_HOME", "deskwatch/stack"), ("HOME", ".cache/deskwatch/stack")):
        if os.environ.get(variable):
            return Path(os.environ[variable]) / below
    return None


async def fetch(state: Path) -> Programs:
    """Bring the programs with `deploy/stack.sh`: Debian packages, unpacked, not installed.

    Args:
        state: the demo's own folder, for the log, and for the programs where there is no better place.

    Raises:
        DeskwatchError: why that is impossible here, one line.
    """
    stack, log = _in_checkout() or _in_cache() or state / "stack", state / "stack.log"
    command = ["sh", str(data_folder("deploy") / "stack.sh"), str(stack)]
    child = await processes.start("stack.sh", command, log, niceness=FETCH_NICENESS)
    try:
        code = await asyncio.wait_for(child.wait(), FETCH_SECONDS)
    except TimeoutError:
        raise DeskwatchError(f"fetching them took longer than {FETCH_SECONDS:g} s") from None
    finally:
        await child.stop()
    found = find_programs() or _on(_programs_in(stack))
    if code or found is None:
        said = processes.last_lines(log, 1)
        raise DeskwatchError(said[0].removeprefix("stack.sh: ") if said else f"stack.sh ended with exit code {code}")
    return found


def write_rules(file: Path, addresses: Mapping[str, str]) -> None:
    """The demo profile of the rules, with links to where the receiver really is.

    Args:
        file: to be written.
        addresses: `host:port` by name.
    """
    text = (data_folder("rules") / "profiles" / PROFILE).read_text(encoding="utf-8")
    file.write_text(_readdressed(text, addresses), encoding="utf-8")


def write_prometheus(file: Path, rules: Path, addresses: Mapping[str, str]) -> None:
    """The shipped prometheus.yml with these rules, these addresses, and everything once a second."""
    config = _load("prometheus/prometheus.yml")
    config["global"] |= {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
    config["rule_files"] = [str(rules)]
    for manager in config["alerting"]["alertmanagers"]:
        manager["static_configs"] = [{"targets": [addresses["Alertmanager"]]}]
    for job in config["scrape_configs"]:
        job["static_configs"] = [{"targets": [addresses[JOBS[job["job_name"]]]]}]
    file.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")


def write_alertmanager(file: Path, addresses: Mapping[str, str]) -> None:
    """The shipped alertmanager.yml with these addresses, groups sent at once, and nothing said twice."""
    config = _load("alertmanager/alertmanager.yml")
    _hurry(config["route"])
    file.write_text(_readdressed(yaml.safe_dump(config, sort_keys=False), addresses), encoding="utf-8")


def _hurry(route: dict[str, Any]) -> None:
    route |= {"group_wait": "0s", "group_interval": "1s", "repeat_interval": REPEAT}
    for child in route.get("routes", ()):
        _hurry(child)


def _load(name: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((data_folder("deploy") / name).read_text(encoding="utf-8"))
    return content


def _readdressed(text: str, addresses: Mapping[str, str]) -> str:
    """The text with the usual addresses replaced by these."""
    for name, address in addresses.items():
        text = text.replace(f"127.0.0.1:{USUAL_PORTS[name]}", address)
    return text


def prometheus_command(program: Path, config: Path, data: Path, address: str) -> list[str]:
    """How Prometheus is started on loopback."""
    return [
        str(program),
        f"--config.file={config}",
        f"--storage.tsdb.path={data}",
        f"--web.listen-address={address}",
        f"--web.external-url=http://{address}/",
        # What was sent before it knew Alertmanager, as the watchdog is, is said again soon.
        "--rules.alert.resend-delay=5s",
        "--log.level=warn",
    ]


def alertmanager_command(program: Path, config: Path, data: Path, address: str) -> list[str]:
    """How Alertmanager is started on loopback, without a cluster."""
    return [
        str(program),
        f"--config.file={config}",
        f"--storage.path={data}",
        f"--web.listen-address={address}",
        f"--web.external-url=http://{address}/",
        "--cluster.listen-address=",
        "--log.level=warn",
    ]
