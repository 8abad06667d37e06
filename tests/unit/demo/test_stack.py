"""The shipped configuration of Prometheus and Alertmanager, fitted to the demo: every address and every waiting time."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from deskwatch.data import data_folder
from deskwatch.demo import configuration, stack
from deskwatch.demo.configuration import Files

ADDRESSES = {name: f"127.0.0.1:{port + 20000}" for name, port in stack.USUAL_PORTS.items()}


def written(file: Path) -> Any:
    """The file, parsed."""
    return yaml.safe_load(file.read_text())


def test_prometheus_scrapes_these_addresses_every_second(tmp_path: Path) -> None:
    """Same jobs as shipped, other targets, the given rules, nothing left of the usual ports."""
    file = tmp_path / "prometheus.yml"
    stack.write_prometheus(file, tmp_path / "demo.rules.yml", ADDRESSES)
    config, shipped = written(file), written(data_folder("deploy") / "prometheus" / "prometheus.yml")
    assert {config["global"][name] for name in ("scrape_interval", "scrape_timeout", "evaluation_interval")} == {"1s"}
    assert [job["job_name"] for job in config["scrape_configs"]] == [job["job_name"] for job in shipped["scrape_configs"]]
    targets = [target for job in config["scrape_configs"] for each in job["static_configs"] for target in each["targets"]]
    assert set(targets) == set(ADDRESSES.values())
    assert config["rule_files"] == [str(tmp_path / "demo.rules.yml")]
    assert config["alerting"]["alertmanagers"] == [{"static_configs": [{"targets": [ADDRESSES["Alertmanager"]]}]}]


def test_alertmanager_sends_at_once_and_to_this_receiver(tmp_path: Path) -> None:
    """Routes, receivers and inhibition as shipped; no waiting, other address."""
    file = tmp_path / "alertmanager.yml"
    stack.write_alertmanager(file, ADDRESSES)
    config, shipped = written(file), written(data_folder("deploy") / "alertmanager" / "alertmanager.yml")

    def routes(route: dict[str, Any]) -> list[dict[str, Any]]:
        return [route, *(each for child in route.get("routes", ()) for each in routes(child))]

    assert {(route["group_wait"], route["group_interval"]) for route in routes(config["route"])} == {("0s", "1s")}
    assert [route["receiver"] for route in routes(config["route"])] == [route["receiver"] for route in routes(shipped["route"])]
    urls = {hook["url"] for receiver in config["receivers"] for hook in receiver.get("webhook_configs", ())}
    assert urls == {f"http://{ADDRESSES['receiver']}/api/v1/webhook"}
    assert config["inhibit_rules"] == shipped["inhibit_rules"]


def test_rules_are_the_demo_profile_with_links_to_this_receiver(tmp_path: Path) -> None:
    """Only addresses change."""
    file = tmp_path / "demo.rules.yml"
    stack.write_rules(file, ADDRESSES)
    shipped = (data_folder("rules") / "profiles" / "demo.rules.yml").read_text()
    assert file.read_text() == shipped.replace("127.0.0.1:9878", ADDRESSES["receiver"])
    assert f"http://{ADDRESSES['receiver']}/runbooks/ExpectedShortfallExceeded" in file.read_text()


def test_exporter_and_receiver_accept_what_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`deskwatch check` finds no fault, with Alertmanager and without."""
    from deskwatch.cli import main

    files = Files(tmp_path)
    stack.write_rules(files.rules, ADDRESSES)
    for direct in (False, True):
        configuration.write(files, ADDRESSES, direct=direct)
        with pytest.raises(SystemExit) as ended:
            main(["check", str(files.config)])
        assert (ended.value.code, capsys.readouterr().err) == (0, "")


def program(folder: Path, *names: str) -> Path:
    """A folder with programs of these names."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_text("#!/bin/sh\n")
        (folder / name).chmod(0o755)
    return folder


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without Prometheus: empty PATH, empty home, no checkout."""
    monkeypatch.setenv("PATH", str(program(tmp_path / "path")))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("DESKWATCH_STACK", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(stack, "_in_checkout", lambda: None)
    return tmp_path


def test_programs_are_found_in_order(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Named folder, then PATH, then the cache; both or none; Debian's name of Alertmanager or upstream's."""
    assert stack.find_programs() is None
    cached = program(nowhere / "home" / ".cache" / "deskwatch" / "stack" / "usr" / "bin", "prometheus", "alertmanager")
    assert stack.find_programs() == stack.Programs(cached / "prometheus", cached / "alertmanager")
    on_path = program(nowhere / "path", "prometheus")
    found = stack.find_programs()
    assert found is not None
    assert found.prometheus.parent == cached, "PATH has only one of the two"
    program(on_path, "prometheus-alertmanager")
    assert stack.find_programs() == stack.Programs(on_path / "prometheus", on_path / "prometheus-alertmanager")
    named = program(nowhere / "named" / "usr" / "bin", "prometheus", "alertmanager")
    monkeypatch.setenv("DESKWATCH_STACK", str(nowhere / "named"))
    assert stack.find_programs() == stack.Programs(named / "prometheus", named / "alertmanager")


def test_without_a_home_folder_nothing_is_looked_for_there(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty or missing HOME is no folder, least of all the current one."""
    for value in ("", None):
        monkeypatch.setenv("HOME", "") if value == "" else monkeypatch.delenv("HOME")
        monkeypatch.chdir(nowhere)
        program(nowhere / ".cache" / "deskwatch" / "stack" / "usr" / "bin", "prometheus", "alertmanager")
        assert stack.find_programs() is None


async def test_what_cannot_be_fetched_is_said_in_one_line(nowhere: Path) -> None:
    """No Debian here: the script's own sentence."""
    import shutil

    from deskwatch.errors import DeskwatchError

    for tool in ("sh", "sed", "grep", "mkdir"):
        if found := shutil.which(tool, path=os.defpath):
            (nowhere / "path" / tool).symlink_to(found)
    with pytest.raises(DeskwatchError, match="apt-get is missing, so this is no Debian or Ubuntu"):
        await stack.fetch(nowhere)
