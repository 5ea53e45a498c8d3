#!/usr/bin/env bash
# The recipe of the shipped bundle, from nothing to music: hours of two cores.
#
#   bash launch/train_demo.sh OUT
#   DRY_RUN=1 bash launch/train_demo.sh OUT     shows the commands
#
#   OUT/codec                what train_codec.sh leaves
#   OUT/corpus OUT/cache     40 h of folk_gm, and its tokens
#   OUT/train/<model>        checkpoints, curves
#   OUT/bundle OUT/demo.wav  what ships
#
# Run it again to go on after an interruption: what is finished is left alone.
# Less time, other sizes or your own audio: `musiclm demo` (launch/local.sh demo).
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
out=${1:?usage: train_demo.sh OUT}
bundle=$out/bundle

musiclm() {
  if [ -n "${DRY_RUN:-}" ]; then echo "musiclm $*"; else
    bash "$here/local.sh" "$@"
  fi
}

of() {  # of MODEL INPUT...: the bindings of a run
  local model=$1
  shift
  echo "--gin.MODEL_DIR='$out/train/$model'"
  printf -- "--gin.%s\n" "$@"
}

tokenizer() {  # tokenizer MODEL COMPONENT
  local model=$1 leaf=$1_demo place=$bundle/$2
  [ -e "$place/config.json" ] && return
  local bindings
  mapfile -t bindings < <(of "$model" "CORPUS_DIR='$out/corpus'")
  musiclm train "$leaf" "${bindings[@]}"
  musiclm export "$leaf" "${bindings[@]}" --out "$place" --storage float16
}

# A stage learns on short crops, which are many for the time, then on whole ones.
# Each phase goes on to its STEPS on a cosine from RATE at step 0 to its end there.
stage() {  # stage LEAF MODEL "STEPS BATCH SECONDS RATE"...
  local leaf=$1 model=$2 phase bindings
  shift 2
  [ -e "$bundle/$model/config.json" ] && return
  for phase; do
    local steps batch seconds rate
    read -r steps batch seconds rate <<<"$phase"
    mapfile -t bindings < <(of "$model" "CACHE_DIR='$out/cache'" \
      "TRAIN_STEPS=$steps" "BATCH_SIZE=$batch" \
      "specs.StageSpec.crop_seconds=$seconds" \
      "optim.OptimizerConfig.learning_rate=$rate")
    musiclm train "$leaf" "${bindings[@]}"
  done
  musiclm export "$leaf" "${bindings[@]}" --out "$bundle/$model" --storage int8
}

mkdir -p "$out"
[ -e "$bundle/codec" ] || {
  bash "$here/train_codec.sh" "$out/codec"
  [ -n "${DRY_RUN:-}" ] || { mkdir -p "$bundle" && cp -r "$out/codec/bundle/codec" "$bundle"; }
}
[ -e "$out/corpus" ] || musiclm data folk_gm --hours 40 --out "$out/corpus"
tokenizer w2vbert w2vbert
tokenizer mulan mulan
tokenizer notes melody
musiclm precompute --bundle "$bundle" --corpus "$out/corpus" --cache "$out/cache"
stage semantic_melody_demo semantic '5000 24 4 2e-3' '7700 24 4 4e-3' \
  '8000 10 10 8e-3' '8100 3 30 8e-3'
stage coarse_demo coarse '2500 4 5 2e-3' '2750 2 10 8e-3' \
  '5300 2 10 2.5e-3' '6200 2 10 8e-3' '8700 4 5 8e-3' '8900 2 10 8e-3'
stage fine_demo fine '900 3 3 2e-3'
[ -n "${DRY_RUN:-}" ] || echo '{"guidance_semantic": 2.0}' >"$bundle/defaults.json"
musiclm evaluate quick --bundle "$bundle" --corpus "$out/corpus" --record
musiclm generate "a lively irish jig on fiddle with hand drums" \
  --bundle "$bundle" -o "$out/demo.wav"
