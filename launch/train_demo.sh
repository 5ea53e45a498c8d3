#!/usr/bin/env bash
# The recipe of the shipped bundle, from nothing to music.
#
#   bash launch/train_demo.sh OUT [MINUTES] [PRESET]
#
# Makes the folk_gm corpus (20 h), trains SoundStream, w2v-BERT and MuLan on it,
# precomputes tokens, trains the semantic, coarse and fine stages, exports a
# bundle and writes OUT/demo.wav. The time is divided among the models by their
# need (musiclm_jax/demo.py: NEED). Run it again to go on after an interruption,
# or with more minutes to train every model further.
#
# On two cores, MINUTES 120 is a beginning; with a GPU use PRESET gpu.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
out=${1:?usage: train_demo.sh OUT [MINUTES] [PRESET]}
exec bash "$here/local.sh" demo --preset "${3:-cpu}" --minutes "${2:-120}" \
  --out "$out"
