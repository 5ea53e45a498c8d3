#!/usr/bin/env bash
#SBATCH --job-name=musiclm
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --output=musiclm-%j.log
#SBATCH --open-mode=append
#SBATCH --requeue
#SBATCH --signal=B:TERM@120
# One program on the GPUs of one or many nodes, a process a node:
#
#   sbatch --nodes=4 launch/gpu_slurm.sh train semantic_base \
#       --gin.MODEL_DIR="'/shared/semantic'" --gin.CACHE_DIR="'/shared/cache'"
#
# from the root of a checkout that all nodes see. Options of sbatch override the
# #SBATCH lines. When Slurm preempts the job, or its time is nearly up, every
# process writes a checkpoint and the job goes back into the queue, until the
# program ends by itself; after a crash RETRIES times (default 3).
#
# LOG_DIR (default: musiclm-JOB in the working directory) holds a log for each
# node. DRY_RUN=1 bash launch/gpu_slurm.sh COMMAND ... shows what would run.
set -euo pipefail
fail() { echo "launch/gpu_slurm.sh: $1" >&2; exit 2; }

[ $# -gt 0 ] ||
  fail "no command; expected one of launch/local.sh, such as train"
root=${SLURM_SUBMIT_DIR:-$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)}
[ -f "$root/launch/host.sh" ] ||
  fail "$root is no checkout; submit from the root of the repository"
if [ "${DRY_RUN:-}" != 1 ] && [ -z "${SLURM_JOB_ID:-}" ]; then
  fail "not in a Slurm job; run: sbatch launch/gpu_slurm.sh COMMAND ..."
fi
job=${SLURM_JOB_ID:-0}
nodes=${SLURM_JOB_NUM_NODES:-1}
if [ -n "${SLURM_JOB_NODELIST:-}" ]; then
  first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | sed -n 1p)
else
  first=$(uname -n)
fi
export LOG_DIR=${LOG_DIR:-$PWD/musiclm-$job}
export MUSICLM_COORDINATOR=$first:$((20000 + job % 10000))
export MUSICLM_NUM_PROCESSES=$nodes
run=(srun --nodes="$nodes" --ntasks="$nodes" --ntasks-per-node=1
  --kill-on-bad-exit=1 bash "$root/launch/host.sh" "$@")
if [ "${DRY_RUN:-}" = 1 ]; then
  env | grep '^MUSICLM_' | sort
  echo "log $LOG_DIR"
  echo "prepare bash $root/launch/local.sh $1 --help"
  echo "run ${run[*]}"
  exit
fi

preempted=
# Slurm signals this script alone; srun hands the signal to all processes.
trap 'preempted=1; kill -TERM "$child" 2>/dev/null || true' TERM
# Once, before all nodes want it: the environment lies on the shared disk.
bash "$root/launch/local.sh" "$1" --help >/dev/null
"${run[@]}" &
child=$!
code=0
wait "$child" || code=$?
if [ -n "$preempted" ]; then
  code=0
  wait "$child" || code=$?  # the first wait ended with the signal
fi
if [ "$code" -eq 0 ] || [ "$code" -eq 2 ]; then
  exit "$code"  # done; or a mistake in the command, not to be repeated
fi
restarts=${SLURM_RESTART_COUNT:-0}
if [ -n "$preempted" ] || [ "$code" -eq 75 ] ||
   [ "$restarts" -lt "${RETRIES:-3}" ]; then
  echo "ended with $code; back into the queue"
  exec scontrol requeue "$job"
fi
exit "$code"
