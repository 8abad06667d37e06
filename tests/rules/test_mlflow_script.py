"""deploy/mlflow.sh, with a made-up uv and Python: what it decides, without a network and without MLflow."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.components import REPOSITORY
from tests.rules.test_stack_script import program

NEEDED = ("sh", "cat", "chmod", "cmp", "cp", "cut", "dirname", "env", "grep", "mkdir", "mv", "rm", "sed", "tail")
MAKES = 'mkdir -p "$last/bin"; printf "#!/bin/sh\\necho 3.17\\n" >"$last/bin/python"; chmod 755 "$last/bin/python"'
"""What a made-up `venv` puts in place: a Python that says a version to whatever it is asked."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A PATH with the ordinary tools, and a Python that makes environments."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in NEEDED:
        found = shutil.which(name)
        assert found is not None, name
        (folder / name).symlink_to(found)
    log = tmp_path / "log"
    program(folder / "python3", f'echo "python3 $@" >>{log}\nfor last; do :; done\ncase $2 in venv) {MAKES};; esac')
    return folder


@pytest.fixture
def script(tmp_path: Path) -> Path:
    """The script in a checkout with a lock."""
    for folder in ("deploy", "requirements"):
        (tmp_path / "desk" / folder).mkdir(parents=True)
    shutil.copy(REPOSITORY / "deploy" / "mlflow.sh", tmp_path / "desk" / "deploy" / "mlflow.sh")
    (tmp_path / "desk" / "requirements" / "mlflow.lock").write_text("mlflow-skinny==3.17\n")
    return tmp_path / "desk" / "deploy" / "mlflow.sh"


def add_uv(path: Path, *, works: bool = True) -> None:
    """A uv that makes an environment and installs nothing."""
    fails = "" if works else 'case $1 in pip) echo "error: no route" >&2; exit 2;; esac'
    log = path.parent / "log"
    program(path / "uv", f'echo "uv $@" >>{log}\n{fails}\nfor last; do :; done\ncase $1 in venv) {MAKES};; esac')


def run(script: Path, path: Path, *arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [path / "sh", script, *arguments], env={"PATH": str(path), **environment}, capture_output=True, text=True, check=False
    )


def test_with_uv_it_installs_the_lock_by_hash_into_an_environment_of_its_own(script: Path, path: Path, tmp_path: Path) -> None:
    """Even below a path with a space; one line said, nothing else left behind."""
    add_uv(path)
    done = run(script, path, tmp_path / "a desk")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"mlflow.sh: MLflow 3.17 is in {tmp_path}/a desk/mlflow\n"
    assert [each.name for each in (tmp_path / "a desk").iterdir()] == ["mlflow"]
    calls = (tmp_path / "log").read_text().splitlines()
    assert calls[0].startswith(f"uv venv -q --python {path}/python3 ")
    assert calls[1] == f"uv pip install -q --require-hashes -r {script.parent}/../requirements/mlflow.lock"


def test_without_uv_it_uses_pythons_own_means(script: Path, path: Path, tmp_path: Path) -> None:
    """venv and pip, by hash too."""
    said = tmp_path / "pip"
    makes = MAKES.replace("echo 3.17", f"echo 3.17; echo \\$@ >>{said}")
    program(path / "python3", f"for last; do :; done\ncase $2 in venv) {makes};; esac")
    done = run(script, path, tmp_path / "desk2")
    assert done.returncode == 0, done.stderr
    assert "-m pip install -q --disable-pip-version-check --require-hashes -r" in said.read_text()


def test_it_does_nothing_the_second_time_and_starts_anew_for_another_lock(script: Path, path: Path, tmp_path: Path) -> None:
    """Idempotent, and never an environment of an older lock."""
    add_uv(path)
    run(script, path, tmp_path / "s")
    calls = (tmp_path / "log").read_text()
    done = run(script, path, tmp_path / "s")
    assert done.returncode == 0
    assert "already in" in done.stdout
    assert (tmp_path / "log").read_text() == calls
    (script.parents[1] / "requirements" / "mlflow.lock").write_text("mlflow-skinny==3.18\n")
    assert "MLflow 3.17 is in" in run(script, path, tmp_path / "s").stdout
    assert (tmp_path / "log").read_text() != calls


def test_where_it_cannot_it_says_so_in_one_line_and_leaves_what_was_there(script: Path, path: Path, tmp_path: Path) -> None:
    """Exit 1, the reason on stderr, no half-made environment, and the old one untouched."""
    add_uv(path)
    run(script, path, tmp_path / "s")
    add_uv(path, works=False)
    (script.parents[1] / "requirements" / "mlflow.lock").write_text("mlflow-skinny==3.18\n")
    done = run(script, path, tmp_path / "s")
    assert done.returncode == 1
    assert (done.stdout, done.stderr.count("\n")) == ("", 1)
    assert "no route" in done.stderr
    assert [each.name for each in (tmp_path / "s").iterdir()] == ["mlflow"]
    assert (tmp_path / "s" / "mlflow" / "mlflow.lock").read_text() == "mlflow-skinny==3.17\n"


@pytest.mark.parametrize(
    ("arguments", "environment", "complaint"),
    [
        (["--frob"], {}, "unknown option --frob"),
        (["s"], {"PYTHON": "python9"}, "python9 is missing"),
    ],
)
def test_what_it_cannot_work_with_is_refused(
    script: Path, path: Path, arguments: list[str], environment: dict[str, str], complaint: str
) -> None:
    """Before anything is fetched."""
    done = run(script, path, *arguments, **environment)
    assert done.returncode == 1
    assert complaint in done.stderr


def test_outside_a_checkout_it_says_what_it_needs(script: Path, path: Path) -> None:
    """The wheel carries the script and not the lock."""
    (script.parents[1] / "requirements" / "mlflow.lock").unlink()
    done = run(script, path, "s")
    assert done.returncode == 1
    assert "run this from a checkout of the repository" in done.stderr
