#!/bin/sh
# Brings an Apache Kafka broker into DIRECTORY/kafka (.stack/kafka) from its Maven artifacts: 46 jars, 43 MB, no root.
#
#   kafka.sh [DIRECTORY]
#
# Needs Java 17 or later to run it and Maven to fetch it. Does nothing where the jars are there. Exit 1 with one line on stderr.
set -eu

directory=${1:-.stack}
fail() { printf 'kafka.sh: %s\n' "$*" >&2; exit 1; }
here=$(cd "$(dirname "$0")" && pwd)
target=$directory/kafka

if ls "$target"/kafka_2.13-*.jar >/dev/null 2>&1; then
  printf 'kafka.sh: already in %s\n' "$target"
  exit 0
fi
command -v java >/dev/null 2>&1 || fail "java is missing: install a runtime of version 17 or later (openjdk-17-jre-headless)"
command -v mvn >/dev/null 2>&1 || fail "mvn is missing: install Maven (package maven)"
mkdir -p "$directory" 2>/dev/null || fail "cannot write to $directory"
scratch=$(mktemp -d "$directory/.kafka.XXXXXX") || fail "cannot write to $directory"
trap 'rm -rf "$scratch"' EXIT
scratch=$(cd "$scratch" && pwd)
cp "$here/kafka.xml" "$scratch/pom.xml"
mvn -q -B -f "$scratch/pom.xml" dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$scratch/jars" >"$scratch/log" 2>&1 ||
  fail "Maven cannot fetch the broker: $(grep -m 1 ERROR "$scratch/log" | cut -c1-200)"
# It appears in one step: an interrupted run leaves nothing half done.
rm -rf "$target"
mv "$scratch/jars" "$target"
printf 'kafka.sh: %s is in %s\n' "$(basename "$(ls "$target"/kafka_2.13-*.jar)" .jar)" "$target"
