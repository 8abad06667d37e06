#!/bin/sh
# Brings the servers of PostgreSQL and MariaDB into DIRECTORY/databases (.stack) without root and without touching the system:
# what the tests read from. `stack.sh --databases` calls this.
#
#   databases.sh [DIRECTORY]       -> DIRECTORY/databases/bin/{postgres,initdb,mariadbd}
#
# Packages come from apt (signatures checked) and are only unpacked, with the libraries this system lacks. A server that is already
# on PATH or where Debian installs it is not fetched. Exit 1 with one line on stderr where it cannot.
set -eu

scratch=''
fail() { printf 'databases.sh: %s\n' "$*" >&2; exit 1; }
say() { printf 'databases.sh: %s\n' "$*"; }
clean_up() { [ -z "$scratch" ] || rm -rf "$scratch"; }
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

case ${1-} in -h | --help) sed -n '2,8s/^# \{0,1\}//p' "$0"; exit 0 ;; -*) fail "unknown option $1; see databases.sh --help" ;; esac
[ $# -le 1 ] || fail "one directory only, got $*"
target=${1:-.stack}/databases

starts() { "$1" --version >/dev/null 2>&1; }
anywhere() { # anywhere PROGRAM PLACES...: it starts from PATH, from one of the places, or from what was fetched before
  name=$1
  shift
  command -v "$name" >/dev/null 2>&1 && return 0
  for place in "$@" "$target/bin"; do
    if [ -x "$place/$name" ] && starts "$place/$name"; then return 0; fi
  done
  return 1
}
wanted=''
{ anywhere postgres /usr/lib/postgresql/*/bin && anywhere initdb /usr/lib/postgresql/*/bin; } || wanted="postgresql"
anywhere mariadbd /usr/sbin || wanted="$wanted mariadb-server-core"
if [ -z "$wanted" ]; then
  say "PostgreSQL and MariaDB are here, nothing to do"
  exit 0
fi

for tool in apt-get apt-cache dpkg-deb dpkg-query mktemp; do
  command -v "$tool" >/dev/null 2>&1 ||
    fail "$tool is missing, so this is no Debian or Ubuntu: put postgres, initdb and mariadbd on PATH"
done
mkdir -p "$target" 2>/dev/null || fail "cannot write to $target"
target=$(cd "$target" && pwd)
scratch=$(mktemp -d "$target/.fetch.XXXXXX") || fail "cannot write to $target"
mkdir -p "$scratch/lists/partial" "$scratch/cache/archives/partial" "$scratch/debs" "$scratch/root"
log=$scratch/apt.log
export LC_ALL=C DEBIAN_FRONTEND=noninteractive

numbered() { # numbered OPTIONS...: `postgresql` only depends on the release's own version
  apt-cache "$@" depends --important postgresql 2>/dev/null | sed -n 's/^ *Depends: \(postgresql-[0-9][0-9]*\)$/\1/p' | head -n 1
}
# shellcheck disable=SC2016  # dpkg-query expands this
installed=$(dpkg-query -W -f '${Package} ${Status}\n' 2>/dev/null | sed -n 's/ .* installed$//p')
lacking() { # lacking PACKAGE OPTIONS...: the libraries it needs that are not installed; compilers and Perl are not needed to serve
  package=$1
  shift
  apt-cache "$@" depends --recurse --important "$package" 2>/dev/null | grep -E '^lib[a-z0-9.+-]+$' | sort -u |
    grep -vE '^lib(llvm|z3|pam|perl|elogind|c6|debian-installer|newt|slang|textwrap)|-perl$' | grep -vxF "$installed" || true
}
download() { # download OPTIONS...: the servers and what they lack
  for package in $wanted; do
    [ "$package" != postgresql ] || package=$(numbered "$@")
    [ -n "$package" ] || return 1
    # shellcheck disable=SC2046  # a list of package names
    (cd "$scratch/debs" && apt-get "$@" -qq download "$package" $(lacking "$package" "$@")) >>"$log" 2>&1 || return 1
  done
}

set -- -o Acquire::Retries=1 -o Acquire::http::Timeout=10 -o Acquire::https::Timeout=10 -o Acquire::Languages=none \
  -o APT::Sandbox::User=root
# The system's own lists are quickest; where they are empty or out of date, private ones are fetched.
if ! download "$@"; then
  rm -f "$scratch"/debs/*.deb
  set -- "$@" -o "Dir::State::lists=$scratch/lists" -o "Dir::Cache=$scratch/cache" \
    -o Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false -o Acquire::IndexTargets::deb::CNF::DefaultEnabled=false
  apt-get "$@" -qq update >>"$log" 2>&1 || true # one unreachable source of several is no failure: the download decides
  if ! download "$@"; then
    reason=$(sed -n 's/^[EW]: //p' "$log" | head -n 1 | cut -c1-200)
    fail "could not download $wanted: ${reason:-apt knows no such packages, check its sources and the network}"
  fi
fi
for deb in "$scratch"/debs/*.deb; do
  dpkg-deb -x "$deb" "$scratch/root" >>"$log" 2>&1 || fail "cannot unpack ${deb##*/} into $target: is the disk full?"
done

# Only what serves is kept; a start script for each program finds the libraries beside it, wherever the folder is moved to.
root=$scratch/root
mkdir -p "$scratch/new/bin" "$scratch/new/lib" "$scratch/new/usr/share"
find "$root/usr/lib" "$root/lib" -name '*.so*' -path '*-linux-gnu*' ! -path '*/postgresql/*' -exec cp -P {} "$scratch/new/lib/" \; 2>/dev/null || true
for part in usr/lib/postgresql usr/share/postgresql usr/sbin usr/share/mysql; do
  [ ! -e "$root/$part" ] || { mkdir -p "$scratch/new/${part%/*}" && mv "$root/$part" "$scratch/new/$part"; }
done
rm -rf "$scratch"/new/usr/lib/postgresql/*/lib/bitcode # for the JIT compiler, which is not fetched
script() { # script PROGRAM: a start script for one of the programs below
  # shellcheck disable=SC2016  # the script expands these, not this one
  printf '#!/bin/sh\nhere=$(dirname "$(readlink -f "$0")")/..\nLD_LIBRARY_PATH="$here/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}" exec "$here/%s" "$@"\n' \
    "${1#"$scratch"/new/}" >"$scratch/new/bin/${1##*/}"
  chmod 755 "$scratch/new/bin/${1##*/}"
}
for program in "$scratch"/new/usr/lib/postgresql/*/bin/postgres "$scratch"/new/usr/lib/postgresql/*/bin/initdb "$scratch"/new/usr/sbin/mariadbd; do
  [ -x "$program" ] || continue
  script "$program"
  starts "$scratch/new/bin/${program##*/}" ||
    fail "the downloaded ${program##*/} does not start here: $("$scratch/new/bin/${program##*/}" --version 2>&1 | head -n 1 | cut -c1-200)"
done

# One server may be there from before: what is new is put beside it.
versions=''
for program in "$scratch"/new/bin/postgres "$scratch"/new/bin/mariadbd; do
  [ ! -x "$program" ] || versions="$versions${versions:+ and }$("$program" --version 2>/dev/null | head -n 1 | sed 's/.* Ver /MariaDB /; s/ for .*//; s/ (Debian.*//; s/^[a-z]* (\(.*\))/\1/')"
done
cp -a "$scratch/new/." "$target/"
say "$versions: ready in $target/bin"
