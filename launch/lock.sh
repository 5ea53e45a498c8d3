#!/usr/bin/env bash
# Renews the lock files from setup.py's ranges. Needs uv (pip install uv).
#
#   locks/all.txt    every extra at once: one set that holds together
#   locks/base.txt   generate and inspect (no TensorFlow)
#   locks/train.txt  base + train, data, beam, eval, test
#   locks/test.txt   train + the page and what drives it
#   locks/codec.txt  train + ViSQOL, which needs a C compiler
#   locks/web.txt    base + the page
#   locks/cuda.txt    base + the CUDA build of jax
#   locks/tpu.txt     base + libtpu
#   locks/t5x.txt     train + what T5X needs; T5X itself has no release, its
#                     commits are pinned by hand in locks/t5x_commits.txt
#   locks/bench.txt   base + the peers of the benchmarks (torch)
#   locks/lint.txt    base + ruff
#   locks/types.txt   base + pyright, and node for it
# The smaller ones take their versions from all.txt. Each holds setuptools too,
# which makes this package: so that nothing is fetched but what a lock names.
set -euo pipefail
cd "$(dirname "$0")/.."

compile() {  # compile NAME EXTRA...
  local name=$1; shift
  local extras=()
  for extra in "$@"; do extras+=(--extra "$extra"); done
  uv pip compile -q setup.py "${extras[@]}" locks/alone-"$name".in \
    --python-version 3.11 --python-platform x86_64-manylinux_2_31 \
    --override locks/overrides.txt --generate-hashes --no-annotate \
    --no-emit-index-url --custom-compile-command 'bash launch/lock.sh' \
    "${constraint[@]}" -o "locks/$name.txt"
}

constraint=()
compile all train data beam eval test web web_test t5x tpu cuda visqol lint types
constraint=(-c locks/all.txt)
compile base
compile train train data beam eval test
compile test train data beam eval test web web_test
compile codec train data beam eval test visqol
compile web web
compile cuda cuda
compile tpu tpu
compile t5x train data eval test t5x
compile bench bench hf
compile lint lint
compile types types
