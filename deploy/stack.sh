#!/bin/sh
# Brings Prometheus, promtool, Alertmanager and amtool into DIRECTORY (.stack) without root and without touching the system.
#
#   stack.sh [DIRECTORY]                         this system's own packages            -> DIRECTORY/usr/bin
#   stack.sh --suite trixie [DIRECTORY]          the pair of another Debian release    -> DIRECTORY/trixie/usr/bin
#   stack.sh --suite trixie --mirror URL [DIR]   the same from that mirror; by default the one apt uses here for Debian
#   stack.sh --databases [DIRECTORY]             PostgreSQL and MariaDB as well, for tests   -> DIRECTORY/databases/bin
#
# Packages come from apt (signatures checked) and are only unpacked: nothing is installed, started or configured.
# Does nothing where the programs are on PATH or already there. Exit 1 with one line on stderr where it cannot.
set -eu

suite='' mirror='' directory='' scratch='' databases=''
keyring=/usr/share/keyrings/debian-archive-keyring.gpg

fail() { printf 'stack.sh: %s\n' "$*" >&2; exit 1; }
say() { printf 'stack.sh: %s\n' "$*"; }
clean_up() { [ -z "$scratch" ] || rm -rf "$scratch"; }
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

while [ $# -gt 0 ]; do
  case $1 in
    --suite | --mirror)
      [ $# -ge 2 ] || fail "$1 needs a value"
      if [ "$1" = --suite ]; then suite=$2; else mirror=$2; fi
      shift ;;
    --databases) databases=wanted ;;
    -h | --help) sed -n '2,10s/^# \{0,1\}//p' "$0"; exit 0 ;;
    -*) fail "unknown option $1; see stack.sh --help" ;;
    *) [ -z "$directory" ] || fail "one directory only, got $directory and $1"; directory=$1 ;;
  esac
  shift
done
[ -z "$databases" ] || sh "$(dirname "$0")/databases.sh" "${directory:-.stack}" || exit 1
case $suite in *[!a-z0-9-]*) fail "--suite must be a release name such as trixie, was $suite" ;; esac

# Debian calls the server prometheus-alertmanager, the upstream archives alertmanager.
has_all() { # has_all BIN_DIRECTORY: all four programs are there and start
  [ -x "$1/amtool" ] && { [ -x "$1/prometheus-alertmanager" ] || [ -x "$1/alertmanager" ]; } &&
    "$1/promtool" --version >/dev/null 2>&1 && "$1/prometheus" --version >/dev/null 2>&1
}
on_path() {
  command -v prometheus && command -v promtool && command -v amtool &&
    { command -v prometheus-alertmanager || command -v alertmanager; }
}

if [ -z "$suite" ] && on_path >/dev/null 2>&1; then
  say "Prometheus, promtool, Alertmanager and amtool are on PATH, nothing to do"
  exit 0
fi
target=${directory:-.stack}${suite:+/$suite}
if has_all "$target/usr/bin"; then
  say "already in $target/usr/bin"
  exit 0
fi

for tool in apt-get apt-cache dpkg-deb dpkg mktemp; do
  command -v "$tool" >/dev/null 2>&1 ||
    fail "$tool is missing, so this is no Debian or Ubuntu: put prometheus, promtool, alertmanager and amtool on PATH"
done
mkdir -p "$target" 2>/dev/null || fail "cannot write to $target"
target=$(cd "$target" && pwd)
scratch=$(mktemp -d "$target/.fetch.XXXXXX") || fail "cannot write to $target"
mkdir -p "$scratch/lists/partial" "$scratch/cache/archives/partial" "$scratch/debs" "$scratch/root"
log=$scratch/apt.log
export LC_ALL=C DEBIAN_FRONTEND=noninteractive

candidate() { # candidate PACKAGE OPTIONS...: apt knows a version it could fetch
  package=$1
  shift
  apt-cache "$@" policy "$package" 2>/dev/null | grep -q '^  Candidate: [0-9]'
}
download() { # download OPTIONS...: the programs; promtool and amtool are packages of their own in some releases
  candidate prometheus "$@" && candidate prometheus-alertmanager "$@" || return 1
  wanted='prometheus prometheus-alertmanager'
  for extra in promtool amtool; do
    if candidate "$extra" "$@"; then wanted="$wanted $extra"; fi
  done
  # scripts and fonts of Prometheus's own pages
  pages=$(apt-cache "$@" depends --recurse --important prometheus 2>/dev/null | grep -E '^(libjs|fonts)-[a-z0-9.-]+$' | sort -u) || true
  # shellcheck disable=SC2086  # lists of package names
  (cd "$scratch/debs" && { apt-get "$@" -qq download $wanted $pages || apt-get "$@" -qq download $wanted; }) >>"$log" 2>&1
}

# Repeated attempts at a dead network would only cost time; descriptions and translations are not wanted.
# Sandbox user root: as root apt would warn that its own user cannot reach the folder; otherwise it means nothing.
set -- -o Acquire::Retries=1 -o Acquire::http::Timeout=10 -o Acquire::https::Timeout=10 -o Acquire::Languages=none \
  -o APT::Sandbox::User=root
# The system's own lists are quickest; where they are empty or out of date, private ones are fetched.
if [ -n "$suite" ] || ! download "$@"; then
  rm -f "$scratch"/debs/*.deb
  set -- "$@" -o "Dir::State::lists=$scratch/lists" -o "Dir::Cache=$scratch/cache" \
    -o Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false -o Acquire::IndexTargets::deb::CNF::DefaultEnabled=false
  if [ -n "$suite" ]; then
    [ -r "$keyring" ] || fail "$keyring is missing, which signs Debian $suite: install debian-archive-keyring"
    [ -n "$mirror" ] || mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 2>/dev/null | grep -E '/debian/?$' | head -n 1)
    [ -n "$mirror" ] || fail "apt knows no mirror of Debian here: name one with --mirror URL"
    printf 'deb [signed-by=%s] %s %s main\n' "$keyring" "$mirror" "$suite" >"$scratch/sources.list"
    set -- "$@" -o "Dir::Etc::sourcelist=$scratch/sources.list" -o Dir::Etc::sourceparts=/dev/null
  fi
  apt-get "$@" -qq update >>"$log" 2>&1 || true # one unreachable source of several is no failure: the candidates decide
  if ! download "$@"; then
    reason=$(sed -n 's/^[EW]: //p' "$log" | head -n 1 | cut -c1-200)
    fail "could not download prometheus and prometheus-alertmanager${suite:+ of $suite}: ${reason:-apt knows no such packages, check its sources and the network}"
  fi
fi

for deb in "$scratch"/debs/*.deb; do
  dpkg-deb -x "$deb" "$scratch/root" >>"$log" 2>&1 || fail "cannot unpack ${deb##*/} into $target: is the disk full?"
done
root=$scratch/root/usr
has_all "$root/bin" || fail "the downloaded programs do not start here: $("$root/bin/prometheus" --version 2>&1 | head -n 1 | cut -c1-200)"
version() { "$root/bin/$1" --version 2>&1 | sed -n '1s/.*version \([^ ]*\).*/\1/p'; }
versions="Prometheus $(version prometheus) and Alertmanager $(version prometheus-alertmanager)"

# Debian's builds expect their pages and message templates below /usr/share. Prometheus has a flag for that. Alertmanager has none
# and does not start without its templates, so the path in this copy is replaced by one of the same length: a file descriptor that
# the start script opens on the folder beside it.
mkdir -p "$root/libexec" "$root/share/prometheus/alertmanager" "$scratch/usr/share"
installed=/usr/share/prometheus/alertmanager
opened=/proc/self/fd/9///////////////////
LC_ALL=C sed "s#$installed#$opened#g" "$root/bin/prometheus-alertmanager" >"$root/libexec/prometheus-alertmanager"
mv "$root/bin/prometheus" "$root/libexec/prometheus"
chmod 755 "$root/libexec"/*
# shellcheck disable=SC2016  # the scripts expand these, not this one
here='here=$(dirname "$(readlink -f "$0")")/..'
assets=
if "$root/libexec/prometheus" --help 2>&1 | grep -q -e --web.local-assets; then
  # shellcheck disable=SC2016
  assets=' "--web.local-assets=$here/share/prometheus/web"'
fi
# shellcheck disable=SC2016
printf '#!/bin/sh\n%s\nexec "$here/libexec/prometheus"%s "$@"\n' "$here" "$assets" >"$root/bin/prometheus"
# shellcheck disable=SC2016
printf '#!/bin/sh\n%s\nexec 9<"$here/share/prometheus/alertmanager"\nexec "$here/libexec/prometheus-alertmanager" "$@"\n' "$here" \
  >"$root/bin/prometheus-alertmanager"
chmod 755 "$root/bin"/*
has_all "$root/bin" || fail "the start scripts do not work here: $("$root/bin/prometheus-alertmanager" --version 2>&1 | head -n 1 | cut -c1-200)"

# Only what is needed is kept, and it appears in one step: an interrupted run leaves nothing half done.
rm -rf "$root/share/javascript/moment-timezone/data" # 200 MB no page asks for
for part in bin libexec share/prometheus share/javascript share/fonts-glyphicons share/nodejs; do
  [ ! -e "$root/$part" ] || mv "$root/$part" "$scratch/usr/$part"
done
rm -rf "${target:?}/usr"
mv "$scratch/usr" "$target/usr"
say "$versions are in $target/usr/bin"
