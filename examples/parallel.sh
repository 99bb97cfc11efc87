#!/bin/sh
# Shards side by side on one machine, or on several with --sshlogin, by GNU parallel; xargs where it is missing.
#   examples/parallel.sh 4 'load-*' --engine model
# Exits like the report of all shards together.
set -eu
count=$1
shift
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
export count folder
# A shard that is not as expected is the report's business, not the loop's.
shard='index=$1; shift; scripts/daxfault run "$@" --shard "$index/$count" --json "$folder/$index.jsonl" >/dev/null || true'
if command -v parallel >/dev/null 2>&1; then
    seq "$count" | parallel --will-cite -j 2 sh -c "'$shard'" shard {} "$@"
else
    seq "$count" | xargs -P 2 -I '{}' sh -c "$shard" shard '{}' "$@"
fi
scripts/daxfault report "$folder"/*.jsonl
