#!/usr/bin/env bash
# Ingests a store of audio on Google's Dataflow:
#
#   PROJECT=music REGION=us-east1 BUCKET=gs://music bash launch/dataflow.sh \
#       gs://music/recordings --out gs://music/corpus --licence CC-BY
#
# The words are those of `musiclm ingest`. MACHINE (default n2-standard-8) and
# MOST_WORKERS (default 100) are of the workers. IMAGE names a container that has
# this package (https://beam.apache.org/documentation/runtime/environments);
# without one each worker installs it from this checkout when it starts.
# Stopped and started again it goes on where it was. Here, Beam's own client for
# Google Cloud has to be installed: pip install 'apache-beam[gcp]' gcsfs.
# DRY_RUN=1 shows the command.
set -euo pipefail
fail() { echo "launch/dataflow.sh: $1" >&2; exit 2; }

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
[ $# -gt 0 ] || fail "no source; expected one such as gs://bucket/recordings"
for name in PROJECT REGION BUCKET; do
  [ -n "${!name:-}" ] || fail "$name is not set; see the head of this script"
done
[[ $BUCKET == gs://* ]] || fail "BUCKET is $BUCKET; expected one such as gs://music"
for word; do
  [[ $word != /* && $word != "~"* ]] ||
    fail "$word is a path of this machine, which workers do not see; name one such as $BUCKET/corpus"
done
flags="--project=$PROJECT --region=$REGION --temp_location=$BUCKET/tmp"
flags+=" --staging_location=$BUCKET/staging"
flags+=" --worker_machine_type=${MACHINE:-n2-standard-8}"
flags+=" --max_num_workers=${MOST_WORKERS:-100}"
if [ -n "${IMAGE:-}" ]; then
  flags+=" --sdk_container_image=$IMAGE --sdk_location=container"
else
  flags+=" --setup_file=$root/setup.py"
fi
command=(bash "$root/launch/local.sh" ingest "$@"
  --runner DataflowRunner --runner-flags="$flags")
if [ "${DRY_RUN:-}" = 1 ]; then echo "${command[*]@Q}"; exit; fi
exec "${command[@]}"
