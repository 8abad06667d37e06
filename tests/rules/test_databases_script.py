"""deploy/databases.sh, with a made-up apt: what it decides, without a network."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.components import REPOSITORY
from tests.rules.test_stack_script import NEEDED, program

DEPLOY = REPOSITORY / "deploy"
TOOLS = (*NEEDED, "cp", "find")
UNPACK = r"""
case $2 in
*mariadb*) folder=$3/usr/sbin; name=mariadbd ;;
*libaio*) mkdir -p "$3/usr/lib/x86_64-linux-gnu"; touch "$3/usr/lib/x86_64-linux-gnu/libaio.so.1"; exit 0 ;;
*) folder=$3/usr/lib/postgresql/15/bin; name=postgres ;;
esac
mkdir -p "$folder" "$3/usr/share/doc"
for each in $name initdb; do
  [ "$each" = initdb ] && [ "$name" = mariadbd ] && continue
  printf '#!/bin/sh\n[ -e "$LD_LIBRARY_PATH/libaio.so.1" ] && echo "%s (Thing) 15.1"\n' "$each" >"$folder/$each"
  chmod 755 "$folder/$each"
done
"""
"""What a made-up dpkg-deb puts in place: servers that start only where they find the library that is lacking."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A PATH with the ordinary tools and no server."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in TOOLS:
        found = shutil.which(name)
        assert found is not None, name
        (folder / name).symlink_to(found)
    return folder


@pytest.fixture
def script(tmp_path: Path) -> Path:
    """The script for a machine that has no server where Debian installs them."""
    for name in ("databases.sh", "stack.sh"):
        text = (DEPLOY / name).read_text()
        text = text.replace("/usr/lib/postgresql/*/bin &&", "/nowhere &&").replace("/usr/lib/postgresql/*/bin;", "/nowhere;")
        (tmp_path / name).write_text(text.replace("mariadbd /usr/sbin", "mariadbd /nowhere"))
    return tmp_path / "databases.sh"


def add_apt(path: Path, *, network: bool = True) -> None:
    """An apt that logs its calls, and a system that lacks one library of those the servers need."""
    log = path.parent / "apt.log"
    depends = "Depends: postgresql-15\nlibaio1\nlibc6\nlibllvm14\nlibssl3\ndebconf"
    program(path / "apt-cache", f"printf '%s\\n' '{depends}' | sed 's/^Depends/  Depends/'")
    program(path / "dpkg-query", r"printf 'libc6 install ok installed\nlibssl3 install ok installed\n'")
    download = 'for name; do case $name in postgresql-*|mariadb*|lib*) touch "${name}_1.deb";; esac; done'
    program(
        path / "apt-get",
        f'echo "$@" >>{log}\ncase " $* " in\n*" download "*) '
        + (download if network else 'echo "E: Failed to fetch: no route" >&2; exit 100')
        + ";;\nesac",
    )
    program(path / "dpkg-deb", UNPACK)


def run(script: Path, path: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """The script with this PATH and nothing else."""
    command = [path / "sh", script, *arguments]
    return subprocess.run(command, env={"PATH": str(path)}, capture_output=True, text=True, check=False)


def test_it_fetches_both_servers_and_what_they_lack(script: Path, path: Path, tmp_path: Path) -> None:
    """The release's own PostgreSQL; of the libraries the one that is missing; no compiler. They start wherever they are."""
    add_apt(path)
    done = run(script, path, tmp_path / "a desk")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("\n") == 1
    downloads = [line for line in (tmp_path / "apt.log").read_text().splitlines() if " download " in line]
    assert [line.partition(" download ")[2] for line in downloads] == ["postgresql-15 libaio1", "mariadb-server-core libaio1"]
    shutil.copytree(tmp_path / "a desk", tmp_path / "moved")
    for name in ("postgres", "initdb", "mariadbd"):
        started = subprocess.run(
            [tmp_path / "moved/databases/bin" / name, "--version"],
            env={"PATH": str(path)},
            capture_output=True,
            text=True,
            check=True,
        )
        assert started.stdout == f"{name} (Thing) 15.1\n"
    assert not list((tmp_path / "a desk").rglob(".fetch*"))
    assert not list((tmp_path / "a desk").rglob("doc"))


def test_it_does_nothing_the_second_time(script: Path, path: Path, tmp_path: Path) -> None:
    """Apt is not asked again."""
    add_apt(path)
    run(script, path, tmp_path / "desk")
    calls = (tmp_path / "apt.log").read_text()
    done = run(script, path, tmp_path / "desk")
    assert (done.returncode, done.stdout) == (0, "databases.sh: PostgreSQL and MariaDB are here, nothing to do\n")
    assert (tmp_path / "apt.log").read_text() == calls


def test_it_fetches_only_the_one_that_is_missing(script: Path, path: Path, tmp_path: Path) -> None:
    """PostgreSQL is often there already."""
    add_apt(path)
    for name in ("postgres", "initdb"):
        program(path / name, "exit 0")
    assert run(script, path, tmp_path / "desk").returncode == 0
    assert [file.name for file in (tmp_path / "desk/databases/bin").iterdir()] == ["mariadbd"]


@pytest.mark.parametrize("present", [True, False], ids=["no network", "no apt"])
def test_where_it_cannot_it_says_so_in_one_line(script: Path, path: Path, tmp_path: Path, present: bool) -> None:
    """Exit 1, the reason on stderr, and nothing left behind; `stack.sh --databases` ends with it."""
    if present:
        add_apt(path, network=False)
    for name, arguments in (("databases.sh", ()), ("stack.sh", ("--databases",))):
        done = run(script.with_name(name), path, *arguments, tmp_path / "desk")
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
        assert ("no route" if present else "apt-get is missing") in done.stderr
        assert not [file for file in (tmp_path / "desk").rglob("*") if file.is_file()]
