#!/bin/sh
# A Slurm array job, a shard a task:   sbatch --array=1-16 examples/slurm.sh
# then, when all have ended:           scripts/daxfault report shard-*.jsonl --html report.html
# FILTER narrows what is run, for example FILTER='load-* --engine kvm'.
#SBATCH --job-name=daxfault
#SBATCH --cpus-per-task=2
#SBATCH --time=00:30:00
set -eu
count=${SLURM_ARRAY_TASK_COUNT:?this is an array job: sbatch --array=1-16}
index=${SLURM_ARRAY_TASK_ID:?this is an array job: sbatch --array=1-16}
set -f # a pattern in FILTER is daxfault's, not the shell's
# shellcheck disable=SC2086 # FILTER is a list of words
exec scripts/daxfault run ${FILTER:-} --shard "$index/$count" --json "shard-$index.jsonl"
