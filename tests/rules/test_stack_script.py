"""deploy/stack.sh, with a made-up apt: what it decides, without a network."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.components import REPOSITORY

SCRIPT = REPOSITORY / "deploy" / "stack.sh"
PROGRAMS = ("prometheus", "promtool", "prometheus-alertmanager", "amtool")
NEEDED = (
    "sh",
    "cat",
    "cut",
    "grep",
    "head",
    "id",
    "mkdir",
    "mktemp",
    "mv",
    "rm",
    "sed",
    "touch",
    "chmod",
    "ls",
    "dirname",
    "readlink",
    "sort",
    "tr",
)


UNPACK = r"""
mkdir -p "$3/usr/bin" "$3/usr/share/prometheus/alertmanager" "$3/usr/share/doc/prometheus"
for name in prometheus promtool prometheus-alertmanager amtool; do
  {
    echo '#!/bin/sh'
    echo '[ "$1" = --read ] && exec cat /usr/share/prometheus/alertmanager/default.tmpl'
    echo "echo $name, version 1.0"
  } >"$3/usr/bin/$name"
  chmod 755 "$3/usr/bin/$name"
done
printf 'the template' >"$3/usr/share/prometheus/alertmanager/default.tmpl"
touch "$3/usr/share/doc/prometheus/copyright"
"""
"""What a made-up dpkg-deb puts in place: programs that say their version, and one that reads its template as Debian's does."""


def program(path: Path, body: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A PATH with the ordinary tools and nothing else."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in NEEDED:
        found = shutil.which(name)
        assert found is not None, name
        (folder / name).symlink_to(found)
    return folder


def add_apt(path: Path, *, stale_lists: bool = False, network: bool = True) -> None:
    """An apt that logs its calls; with stale lists, a download works only after an update into private lists."""
    log = path.parent / "apt.log"
    updated = path.parent / "updated"
    program(path / "dpkg", "exit 0")
    program(path / "apt-cache", 'for last; do :; done\ncase $last in prometheus*) echo "  Candidate: 1.0";; esac')
    download = "touch prometheus_1.deb" if network else 'echo "E: Failed to fetch: no route" >&2; exit 100'
    if stale_lists:
        download = f'if [ -e {updated} ]; then {download}; else echo "E: 404" >&2; exit 100; fi'
    program(
        path / "apt-get",
        f'echo "$@" >>{log}\ncase " $* " in\n'
        f'*" download "*) {download};;\n*" update "*) {f"touch {updated}" if network else "exit 100"};;\nesac',
    )
    program(path / "dpkg-deb", UNPACK)


def run(path: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [path / "sh", SCRIPT, *arguments], env={"PATH": str(path)}, capture_output=True, text=True, check=False
    )


def test_it_fetches_unpacks_and_leaves_only_the_programs(path: Path, tmp_path: Path) -> None:
    """Four programs that start, one line said, and nothing else left behind, even below a path with a space."""
    add_apt(path)
    target = tmp_path / "a desk"
    done = run(path, target)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("\n") == 1
    files = {file.relative_to(target / "usr").as_posix() for file in target.rglob("*") if file.is_file()}
    started = {"libexec/prometheus", "libexec/prometheus-alertmanager"}
    assert files == {f"bin/{name}" for name in PROGRAMS} | started | {"share/prometheus/alertmanager/default.tmpl"}


def test_debians_alertmanager_finds_its_templates_where_they_were_unpacked(path: Path, tmp_path: Path) -> None:
    """The build looks below /usr/share; the copy looks into the folder beside it, wherever that lies and whoever calls it."""
    add_apt(path)
    run(path, tmp_path / "a desk")
    server = tmp_path / "a desk/usr/bin/prometheus-alertmanager"
    done = subprocess.run([server, "--read"], cwd="/", env={"PATH": str(path)}, capture_output=True, text=True, check=True)
    assert done.stdout == "the template"


def test_it_does_nothing_the_second_time(path: Path, tmp_path: Path) -> None:
    """Idempotent: apt is not asked again."""
    add_apt(path)
    run(path, tmp_path / "desk")
    calls = (tmp_path / "apt.log").read_text()
    done = run(path, tmp_path / "desk")
    assert done.returncode == 0
    assert "already in" in done.stdout
    assert (tmp_path / "apt.log").read_text() == calls


@pytest.mark.parametrize("server", ["prometheus-alertmanager", "alertmanager"])
def test_it_uses_what_is_on_path(path: Path, tmp_path: Path, server: str) -> None:
    """With all four on PATH, Alertmanager under either name, nothing is fetched and nothing created."""
    for name in ("prometheus", "promtool", "amtool", server):
        program(path / name, "exit 0")
    done = run(path, tmp_path / "desk")
    assert done.returncode == 0
    assert "on PATH" in done.stdout
    assert not (tmp_path / "desk").exists()


def test_it_fetches_private_lists_when_the_systems_are_out_of_date(path: Path, tmp_path: Path) -> None:
    """The update never touches the system's own lists."""
    add_apt(path, stale_lists=True)
    assert run(path, tmp_path / "desk").returncode == 0
    update = next(line for line in (tmp_path / "apt.log").read_text().splitlines() if line.endswith("update"))
    assert f"Dir::State::lists={tmp_path / 'desk'}/.fetch." in update


def test_another_suite_lies_beside_and_comes_from_its_own_source(path: Path, tmp_path: Path) -> None:
    """`--suite` never asks the system's sources, and goes to a folder of its own."""
    add_apt(path)
    if not Path("/usr/share/keyrings/debian-archive-keyring.gpg").exists():
        assert "install debian-archive-keyring" in run(path, "--suite", "trixie", tmp_path / "desk").stderr
        return
    done = run(path, "--suite", "trixie", "--mirror", "http://mirror.example/debian", tmp_path / "desk")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "desk/trixie/usr/bin/prometheus").exists()
    assert all("Dir::Etc::sourceparts=/dev/null" in line for line in (tmp_path / "apt.log").read_text().splitlines())


@pytest.mark.parametrize("present", [True, False], ids=["no network", "no apt"])
def test_where_it_cannot_it_says_so_in_one_line(path: Path, tmp_path: Path, present: bool) -> None:
    """Exit 1, the reason on stderr, and no half-made stack."""
    if present:
        add_apt(path, network=False)
    done = run(path, tmp_path / "desk")
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert ("no route" if present else "apt-get is missing") in done.stderr
    assert not [file for file in (tmp_path / "desk").rglob("*") if file.is_file()]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--suite"], "--suite needs a value"),
        (["--suite", "a b"], "--suite must be a release name"),
        (["--suite", "../x"], "--suite must be a release name"),
        (["--frob"], "unknown option --frob"),
        (["a", "b"], "one directory only"),
    ],
)
def test_wrong_arguments_are_refused(path: Path, arguments: list[str], complaint: str) -> None:
    """Before anything is fetched."""
    done = run(path, *arguments)
    assert done.returncode == 1
    assert complaint in done.stderr
