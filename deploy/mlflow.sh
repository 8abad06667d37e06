#!/bin/sh
# Builds a real MLflow tracking server, for the tests only: a Python environment of its own with what requirements/mlflow.lock names.
#
#   mlflow.sh [DIRECTORY]     -> DIRECTORY/mlflow; start it with DIRECTORY/mlflow/bin/python -m mlflow server
#
# Uses uv where there is one, else venv and pip; PYTHON names the interpreter. Does nothing where the environment is there and of
# this lock. Exit 1 with one line on stderr where it cannot.
set -eu

case ${1-} in -h | --help) sed -n '2,7s/^# \{0,1\}//p' "$0"; exit 0 ;; -*) printf 'mlflow.sh: unknown option %s; see mlflow.sh --help\n' "$1" >&2; exit 1 ;; esac
directory=${1:-.stack}
lock=$(dirname "$0")/../requirements/mlflow.lock
python=${PYTHON:-python3}
target=$directory/mlflow
fresh=$directory/.mlflow.$$

fail() { printf 'mlflow.sh: %s\n' "$*" >&2; exit 1; }
say() { printf 'mlflow.sh: %s\n' "$*"; }
trap 'rm -rf "$fresh" "$fresh.log"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

[ -r "$lock" ] || fail "$lock is missing: run this from a checkout of the repository"
if [ -x "$target/bin/python" ] && cmp -s "$lock" "$target/mlflow.lock"; then
  say "already in $target"
  exit 0
fi
command -v "$python" >/dev/null 2>&1 || fail "$python is missing: install Python, or name one in PYTHON"
mkdir -p "$directory" 2>/dev/null || fail "cannot write to $directory"

log=$fresh.log
export UV_PYTHON_DOWNLOADS=never
attempt() { "$@" >"$log" 2>&1 || fail "cannot make the environment: $(grep -v '^ *$' "$log" | tail -n 1 | cut -c1-200)"; }
if command -v uv >/dev/null 2>&1; then
  attempt uv venv -q --python "$(command -v "$python")" "$fresh"
  attempt env VIRTUAL_ENV="$fresh" uv pip install -q --require-hashes -r "$lock"
else
  "$python" -c 'import ensurepip' 2>/dev/null || fail "Python's venv module is missing: on Debian and Ubuntu install python3-venv"
  attempt "$python" -m venv "$fresh"
  attempt "$fresh/bin/python" -m pip install -q --disable-pip-version-check --require-hashes -r "$lock"
fi
attempt "$fresh/bin/python" -c 'import mlflow.cli, mlflow.server.fastapi_app'

# It appears in one step: an interrupted run leaves nothing half done.
cp "$lock" "$fresh/mlflow.lock"
rm -rf "$target"
mv "$fresh" "$target"
say "MLflow $("$target/bin/python" -c 'import importlib.metadata as m; print(m.version("mlflow-skinny"))') is in $target"
