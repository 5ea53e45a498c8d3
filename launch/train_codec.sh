#!/usr/bin/env bash
# The recipe of the trained codec at the frame rate (the codec of musiclm_jax/pretrained):
# an hour of two cores that have nothing else to do.
#
#   bash launch/train_codec.sh OUT
#   DRY_RUN=1 bash launch/train_codec.sh OUT     shows the commands
#
#   OUT/corpus OUT/recordings   20 h of folk_gm, 7 h of the music in Debian packages
#   OUT/train/<phase>           checkpoints, curves
#   OUT/first/codec             encoder, codes and decoder
#   OUT/bundle/codec            with the decoder trained on: what is kept
#
# Run it again to go on after an interruption: what is finished is left alone.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
out=${1:?usage: train_codec.sh OUT}

musiclm() {
  if [ -n "${DRY_RUN:-}" ]; then echo "musiclm $*"; else
    bash "$here/local.sh" "$@"
  fi
}

gin=("--gin.CORPUS_DIR='$out/corpus,$out/recordings'")

phase() {  # phase LEAF NAME PLACE BINDING...
  local leaf=$1 name=$2 place=$3
  shift 3
  [ -e "$place/config.json" ] && return
  local bindings=("${gin[@]}" "--gin.MODEL_DIR='$out/train/$name'" "$@")
  musiclm train "$leaf" "${bindings[@]}"
  musiclm export "$leaf" "${bindings[@]}" --out "$place" --storage float16
}

mkdir -p "$out"
[ -e "$out/corpus" ] || musiclm data folk_gm --hours 20 --out "$out/corpus"
[ -e "$out/recordings" ] ||
  musiclm data debian_music --hours 7 --out "$out/recordings"
# The first phase heard the audio as it is: the changes of gain and the mixed clips
# of the leaf came with the second.
phase framecodec_demo codec "$out/first/codec" \
  "--gin.augment.AugmentConfig.gain_db=(0.0,0.0)" \
  "--gin.augment.AugmentConfig.mixed_share=0.0"
phase framecodec_demo_decoder decoder "$out/bundle/codec" \
  "--gin.START_FROM='$out/first/codec'" \
  "--gin.trainer.CodecTrainable.discriminator_start_step=-1"
