"""What `deploy/` ships: accepted by the real tools, complete, closed to the outside, and true to its README."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.components import REPOSITORY, find
from tests.rules.rulebook import ALERTS

DEPLOY = REPOSITORY / "deploy"
PROMETHEUS = DEPLOY / "prometheus" / "prometheus.yml"
ALERTMANAGER = DEPLOY / "alertmanager" / "alertmanager.yml"
WEBHOOK = "http://127.0.0.1:9878/api/v1/webhook"


def run(*command: str | Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def test_promtool_accepts_the_configuration() -> None:
    """prometheus.yml is valid and finds every rule file of the repository."""
    found = run(find("promtool"), "check", "config", PROMETHEUS)
    assert f"{len(list((REPOSITORY / 'rules').glob('*.rules.yml')))} rule files found" in found


def test_prometheus_scrapes_the_jobs_the_rules_know() -> None:
    """ComponentDown watches jobs by name: they exist, and at the product's ports."""
    targets = {job["job_name"]: job["static_configs"][0]["targets"] for job in load(PROMETHEUS)["scrape_configs"]}
    watched = set(re.findall(r"deskwatch-(?:exporter|receiver)", ALERTS["ComponentDown"]["expr"]))
    assert watched <= set(targets)
    assert targets["deskwatch-exporter"] == ["127.0.0.1:9877"]
    assert targets["deskwatch-receiver"] == ["127.0.0.1:9878"]


def test_amtool_accepts_the_configuration() -> None:
    """alertmanager.yml is valid."""
    run(find("amtool"), "check-config", ALERTMANAGER)


def test_the_commented_templates_are_valid_too(tmp_path: Path) -> None:
    """What an operator uncomments (credentials, PagerDuty, Slack, a dead-man service) works as it stands."""
    lines = []
    for line in ALERTMANAGER.read_text().splitlines():
        code = re.match(r"^( +)# ((?:  )*(?:- )?[a-z_]+:(?: .*)?)$", line)
        lines.append(f"{code[1]}{code[2]}" if code else line)
    text = "\n".join(lines).replace("routing_key_file: /etc/alertmanager/pagerduty_routing_key", "routing_key: key")
    config = tmp_path / "alertmanager.yml"
    config.write_text(text)
    receivers = {receiver["name"]: receiver for receiver in load(config)["receivers"]}
    assert {"pagerduty_configs", "slack_configs"} <= set(receivers["out-of-band"])
    assert "authorization" in receivers["deskwatch"]["webhook_configs"][0]["http_config"]
    assert len(receivers["dead-man"]["webhook_configs"]) == 2
    run(find("amtool"), "check-config", config)


@pytest.mark.parametrize(
    ("labels", "receiver"),
    [
        *(
            (f"alertname={name} severity={rule['labels']['severity']} priority={rule['labels']['priority']}", "deskwatch")
            for name, rule in sorted(ALERTS.items())
            if name not in {"Watchdog", "ComponentDown"}
        ),
        ("alertname=Watchdog severity=none priority=INFO", "dead-man"),
        ("alertname=ComponentDown component=exporter severity=critical priority=P0", "deskwatch"),
        ("alertname=ComponentDown component=receiver severity=critical priority=P0", "out-of-band"),
        ("alertname=ReceiverDown severity=critical priority=P0", "out-of-band"),
        ("alertname=AlertDeliveryFailures severity=critical priority=P0", "out-of-band"),
        ("alertname=SomebodyElses severity=page", "deskwatch"),
    ],
)
def test_an_alert_takes_one_route(labels: str, receiver: str) -> None:
    """Everything goes to the receiver; around it go only the watchdog and what says that the receiver cannot deliver."""
    options = [f"--config.file={ALERTMANAGER}", f"--verify.receivers={receiver}"]
    run(find("amtool"), "config", "routes", "test", *options, *labels.split())


def test_criticals_do_not_wait() -> None:
    """A critical alert is sent in the moment it fires; the watchdog's turn never falls between two flushes."""
    routes = load(ALERTMANAGER)["route"]["routes"]
    assert {route["group_wait"] for route in routes} == {"0s"}
    watchdog = next(route for route in routes if route["receiver"] == "dead-man")
    assert watchdog["repeat_interval"] == "1m"
    assert watchdog["group_interval"] == "10s"


def test_every_webhook_sends_whole_groups_to_the_receiver() -> None:
    """A group that was cut may say "resolved" while what was cut still fires."""
    hooks = [hook for receiver in load(ALERTMANAGER)["receivers"] for hook in receiver["webhook_configs"]]
    assert {(hook["url"], hook["send_resolved"], hook["max_alerts"]) for hook in hooks} == {(WEBHOOK, True, 0)}


def test_the_readmes_command_changes_every_link(tmp_path: Path) -> None:
    """The sed line, run as printed, leaves no loopback link in rules and dashboards, and rules that promtool accepts."""
    command = next(line for line in (DEPLOY / "README.md").read_text().splitlines() if line.startswith("sed -i"))
    for folder in ("rules", "dashboards"):
        shutil.copytree(REPOSITORY / folder, tmp_path / folder)
    subprocess.run(["sh", "-c", command], cwd=tmp_path, check=True)
    changed = [*tmp_path.glob("rules/**/*.rules.yml"), *tmp_path.glob("dashboards/*.json")]
    for path in changed:
        assert "127.0.0.1" not in path.read_text(), path.name
    assert "https://deskwatch.example.com/runbooks/StaleData" in (tmp_path / "rules/data.rules.yml").read_text()
    assert "https://grafana.example.com/d/desk_overview?var-portfolio=" in (tmp_path / "rules/risk.rules.yml").read_text()
    run(find("promtool"), "check", "rules", *tmp_path.glob("rules/*.rules.yml"))


COMPOSE = load(DEPLOY / "compose.yml")
every_service = pytest.mark.parametrize("name", sorted(COMPOSE["services"]))


def test_compose_has_the_whole_stack() -> None:
    """Five services, and every named volume is declared and used."""
    services = COMPOSE["services"]
    assert set(services) == {"exporter", "receiver", "prometheus", "alertmanager", "grafana"}
    mounted = {volume.split(":")[0] for service in services.values() for volume in service["volumes"]}
    assert {name for name in mounted if not name.startswith(".")} == set(COMPOSE["volumes"])


@every_service
def test_a_service_is_hardened(name: str) -> None:
    """Not root, read-only, without capabilities, checked, and a pinned image."""
    service = COMPOSE["services"][name]
    assert not service["user"].startswith("0:")
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["healthcheck"]["test"][0] == "CMD"
    assert "build" in service or re.search(r":v?\d+\.\d+\.\d+$", service["image"])


@every_service
def test_a_service_is_not_reachable_from_outside(name: str) -> None:
    """On the machine's own network nothing is published, and what has an address to listen on is given a loopback one."""
    service = COMPOSE["services"][name]
    assert service["network_mode"] == "host"
    assert "ports" not in service
    listening = [part for part in service.get("command", []) if "listen-address" in part]
    listening += [value for key, value in service.get("environment", {}).items() if key == "GF_SERVER_HTTP_ADDR"]
    for address in listening:
        assert "127.0.0.1" in address or address == "--cluster.listen-address="
    assert listening or name in {"exporter", "receiver"}, "deskwatch.yml says where these two listen"


@every_service
def test_every_mounted_file_exists(name: str) -> None:
    """Docker would create an empty folder in place of a missing file."""
    for volume in COMPOSE["services"][name]["volumes"]:
        source = volume.split(":")[0]
        if source.startswith("."):
            assert (DEPLOY / source).exists(), source
            assert volume.endswith(":ro")


@pytest.mark.parametrize("name", ["exporter", "receiver"])
def test_the_sample_configuration_fits_compose(name: str) -> None:
    """It listens where Prometheus looks, on loopback, and keeps its state in the named volume."""
    section = load(DEPLOY / "deskwatch.yml")[name]
    assert section["web"]["listen"] == {"exporter": "127.0.0.1:9877", "receiver": "127.0.0.1:9878"}[name]
    volumes = dict(reversed(volume.split(":")[:2]) for volume in COMPOSE["services"][name]["volumes"])
    assert volumes[f"/etc/deskwatch/{section['state_folder']}"] == f"{name}-state"


def test_prometheus_in_compose_finds_rules_and_alertmanager() -> None:
    """Files keep their relative places inside the container, so the same prometheus.yml finds its rules."""
    mounts = dict(volume.split(":")[1::-1] for volume in COMPOSE["services"]["prometheus"]["volumes"])
    config = next(part for part in COMPOSE["services"]["prometheus"]["command"] if part.startswith("--config.file="))
    folder = Path(config.removeprefix("--config.file=")).parent
    rules = [(folder / pattern).parent.as_posix() for pattern in load(PROMETHEUS)["rule_files"]]
    assert mounts[str(folder)] == "./prometheus"
    for path in rules:
        resolved = str(Path("/").joinpath(*_normal(path)))
        assert (DEPLOY / mounts[resolved]).resolve() == REPOSITORY / "rules"


def _normal(path: str) -> list[str]:
    parts: list[str] = []
    for part in Path(path).parts[1:]:
        if part == "..":
            parts.pop()
        else:
            parts.append(part)
    return parts


def test_the_image_copies_files_that_exist() -> None:
    """The lock files the Dockerfile names are in the repository, and dependencies are installed by hash."""
    text = (DEPLOY / "Dockerfile").read_text()
    for name in set(re.findall(r"requirements/\S+", text)):
        assert (REPOSITORY / name).is_file(), name
    assert all("--require-hashes" in line for line in text.splitlines() if "pip install" in line and " -r " in line)
    assert "USER 10001" in text


def test_grafana_is_provisioned_with_what_is_mounted() -> None:
    """The data source is the Prometheus of the stack, the folder of dashboards is the one mounted."""
    provisioning = DEPLOY / "grafana" / "provisioning"
    source = load(provisioning / "datasources" / "deskwatch.yml")["datasources"][0]
    assert (source["type"], source["url"]) == ("prometheus", "http://127.0.0.1:9090")
    assert source["jsonData"]["timeInterval"] == load(PROMETHEUS)["global"]["scrape_interval"]
    provider = load(provisioning / "dashboards" / "deskwatch.yml")["providers"][0]
    mounted = [volume.split(":")[1] for volume in COMPOSE["services"]["grafana"]["volumes"]]
    assert provider["options"]["path"] in mounted
    home = COMPOSE["services"]["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert (REPOSITORY / "dashboards" / Path(home).name).is_file()
