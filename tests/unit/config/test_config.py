"""Configuration: every fault of a file is reported at once, by key path, with the value found, and no secret."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import trustme
import yaml
from click.testing import CliRunner

from deskwatch.cli import main
from deskwatch.config import Secret, Settings, load, load_all, read, sections, validate
from deskwatch.errors import ConfigError
from deskwatch.files import changed, stamp
from deskwatch.http import HttpConfig
from deskwatch.logs import LogConfig
from exporter.config import ExporterConfig
from exporter.source import SOURCES

FAULTS = sorted((Path(__file__).parent / "faults").glob("*.yml"))
CERTIFICATE = trustme.CA().cert_pem.bytes().decode()
MINIMAL = {
    "exporter": {
        "sources": [{"type": "ecb", "name": "rates"}],
        "portfolios": [{"name": "carry", "base_currency": "EUR"}],
    }
}


@pytest.mark.parametrize("file", FAULTS, ids=lambda file: file.stem)
def test_each_fault_is_named_with_its_key_path(file: Path) -> None:
    """`deskwatch check` prints exactly the faults the file's head announces, and exits 1."""
    text = file.read_text()
    fill = {"{file}": str(file), "{sources}": ", ".join(SOURCES.modules)}
    expected = re.findall(r"^# expect: (.*)$", text, flags=re.M)
    for mark, value in fill.items():
        expected = [line.replace(mark, value) for line in expected]
    result = CliRunner().invoke(main, ["check", str(file)], env={"DESKWATCH_TEST_UNSET": None})
    found = [line.strip() for line in result.stderr.splitlines()[1:]]
    starts = re.findall(r"^# expect-start: (.*)$", text, flags=re.M)
    assert result.exit_code == 1
    if starts:
        assert [line[: len(start)] for line, start in zip(found, starts, strict=True)] == starts
    else:
        assert sorted(found) == sorted(expected)
    assert "s3cr3t" not in result.output
    assert "12345" not in result.output


def test_a_good_file_is_ok(tmp_path: Path) -> None:
    """A file with nothing wrong exits 0 and names its sections."""
    file = write(tmp_path, "logs: {level: debug}\nexporter:\n  sources: [{type: ecb, name: rates}]\n"
                 "  portfolios: [{name: carry, base_currency: EUR}]\n")  # fmt: skip
    result = CliRunner().invoke(main, ["check", str(file)])
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == f"{file}: ok (exporter, logs)\n"


def test_a_missing_file_says_so(tmp_path: Path) -> None:
    """The path and the reason, no traceback."""
    with pytest.raises(ConfigError, match=re.escape(f"{tmp_path / 'no.yml'}: cannot read the file: No such file or directory")):
        read(tmp_path / "no.yml")


class Vault(Settings):
    """A settings class with a secret and a number."""

    key: Secret
    size: int = 0


def test_a_secret_is_read_from_its_file_beside_the_configuration(tmp_path: Path) -> None:
    """`key_file` is relative to the configuration; surrounding white space is not part of the secret."""
    (tmp_path / "key").write_text("hunter2\n")
    vault = validate(Vault, {"key_file": "key"}, folder=tmp_path)
    assert isinstance(vault, Vault)
    assert vault.key.get_secret_value() == "hunter2"
    assert "hunter2" not in repr(vault)


def test_an_empty_secret_file_is_a_fault(tmp_path: Path) -> None:
    """An empty file is no secret; the other faults of the section are still reported."""
    (tmp_path / "key").write_text("\n")
    faults = validate(Vault, {"key_file": "key", "size": "big"}, folder=tmp_path, at=("vault",))
    assert sorted(str(fault) for fault in faults) == [
        "vault.key_file: key is empty",
        "vault.size: must be a valid integer, unable to parse string as an integer, was 'big'",
    ]


def test_a_missing_secret_names_both_ways_to_give_it() -> None:
    """`key` or `key_file`."""
    faults = validate(Vault, {})
    assert [str(fault) for fault in faults] == ["key: is required (or key_file)"]


def test_a_value_from_the_environment_is_used_and_never_shown(tmp_path: Path) -> None:
    """`${NAME}` is replaced inside a text; `$$` is a dollar; a fault about such a value does not print it."""
    file = write(tmp_path, "exporter:\n  cycle_seconds: ${CYCLE}\n  sources: [{type: ecb, name: 'a$$b'}]\n"
                 "  portfolios: [{name: carry, base_currency: EUR}]\n")  # fmt: skip
    with pytest.raises(ConfigError) as caught:
        load(file, {"exporter": ExporterConfig}, {"CYCLE": "hunter2"})
    assert "exporter.cycle_seconds" in str(caught.value)
    assert "hunter2" not in str(caught.value)
    assert "exporter.sources[0].name: string should match pattern '^[A-Za-z0-9_.-]+$', was 'a$b'" in str(caught.value)


def test_a_configuration_is_frozen() -> None:
    """Nothing changes a configuration after it was validated."""
    config = validate(ExporterConfig, MINIMAL["exporter"])
    assert isinstance(config, ExporterConfig)
    with pytest.raises(ValueError, match="frozen"):
        config.cycle_seconds = 3  # type: ignore[misc]


def test_relative_paths_count_from_the_file(tmp_path: Path) -> None:
    """`state_folder: state` lies beside the configuration, whatever the working directory is."""
    config = validate(ExporterConfig, {**MINIMAL["exporter"], "state_folder": "state"}, folder=tmp_path)
    assert isinstance(config, ExporterConfig)
    assert config.state_folder == tmp_path / "state"


def test_every_file_it_was_read_from_is_known(tmp_path: Path) -> None:
    """Itself, the files of secrets, certificates and rules, with what each was before it was read; no others."""
    for name in ("token", "ca.pem", "own.rules.yml", "as_of"):
        (tmp_path / name).write_text(CERTIFICATE if name == "ca.pem" else "groups: []")
    receiver = {"base_url": "https://receiver:9878", "ca_file": "ca.pem"}
    content = {
        **MINIMAL["exporter"],
        "web": {"token_file": "token"},
        "detector": {"rules": ["own.rules.yml"], "receiver": receiver},
    }
    content["sources"] = [{"type": "ecb", "name": "rates", "as_of_file": "as_of"}]
    file = write(tmp_path, yaml.safe_dump({"exporter": content}))
    loaded = load_all(file, {"exporter": ExporterConfig})
    assert loaded.files == {
        tmp_path / name: stamp(tmp_path / name) for name in ("deskwatch.yml", "token", "ca.pem", "own.rules.yml")
    }


def test_a_file_that_changes_while_it_is_read_has_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is looked at before it is read: what is written meanwhile is seen the next time."""
    file = write(tmp_path, "logs: {level: debug}\n")

    def read_and_write(path: Path) -> dict[str, Any]:
        content = read(path)
        path.write_text("logs: {level: error, format: json}\n")
        return content

    monkeypatch.setattr("deskwatch.config.read", read_and_write)
    loaded = load_all(file, {"logs": LogConfig})
    assert loaded.sections["logs"].level == "debug"
    assert changed(loaded.files)


def test_another_authority_under_the_same_name_is_another_configuration(tmp_path: Path) -> None:
    """So that a reload notices; one that is missing or no certificate is a fault before anything is called."""
    (tmp_path / "ca.pem").write_text(CERTIFICATE)

    def read() -> HttpConfig:
        config = validate(HttpConfig, {"ca_file": "ca.pem"}, folder=tmp_path)
        assert isinstance(config, HttpConfig)
        return config

    first = read()
    assert first == read()
    (tmp_path / "ca.pem").write_text(trustme.CA().cert_pem.bytes().decode())
    assert first != read()
    (tmp_path / "ca.pem").write_text("junk")
    faults = [validate(HttpConfig, {"ca_file": name}, folder=tmp_path) for name in ("ca.pem", "gone.pem")]
    assert [str(fault) for (fault,) in faults] == [  # type: ignore[misc, str-unpack]
        f"ca_file: {tmp_path / 'ca.pem'} holds no usable PEM certificate",
        f"ca_file: cannot read {tmp_path / 'gone.pem'}: No such file or directory",
    ]


def test_every_section_is_known_to_check() -> None:
    """The packages announce their sections; `check` needs no list of its own."""
    assert set(sections()) == {"exporter", "logs", "receiver"}


def write(folder: Path, text: str) -> Path:
    """A configuration file with this text."""
    file = folder / "deskwatch.yml"
    file.write_text(text)
    return file
