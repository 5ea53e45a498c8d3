#!/usr/bin/env bash
# One machine, one command: makes the virtual environment, installs what the
# command needs from the lock files and nothing more, and passes the rest on.
#
#   bash launch/local.sh generate "a slow waltz on accordion" -o waltz.wav
#   bash launch/local.sh test [pytest arguments]
#   bash launch/local.sh lint             what ruff says of all files
#   bash launch/local.sh types            what pyright says of the public surface
#   bash launch/local.sh COMMAND ...      any command of `musiclm`
#   bash launch/local.sh t5x train --gin_file=gin/runs/t5x.gin ...
#                                         T5X: train, eval or infer
#
# T5X_FROM=DIR takes T5X, airio and jestimator from DIR, where GitHub is not
# reached: a source folder, an archive or a wheel of each, at the commits of
# locks/t5x_commits.txt.
# VENV=DIR puts the environment elsewhere (default: .venv in the repository).
# A folder for compiled programs, .jax_cache, makes later starts faster; set
# JAX_COMPILATION_CACHE_DIR to move it.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=${VENV:-$root/.venv}

need() {  # the lock file that a command needs
  case "${1:-help}" in
    generate | inspect | codec | help | -h | --help | --version) echo base ;;
    serve) echo web ;;
    test | lint | types | t5x) echo "$1" ;;
    evaluate) if [ "${2:-}" = codec ]; then echo codec; else echo train; fi ;;
    *) echo train ;;
  esac
}

fail() { echo "launch/local.sh: $1" >&2; exit 2; }

make_venv() {
  [ -x "$venv/bin/pip" ] && return
  local python
  python=$(command -v python3.11) ||
    fail "python3.11 is missing; run: apt-get install python3.11 python3.11-venv"
  "$python" -c 'import ensurepip, venv' 2>/dev/null ||
    fail "python3.11 has no venv; run: apt-get install python3.11-venv"
  echo "making $venv" >&2
  "$python" -m venv "$venv"
}

install() {  # install LOCK: does nothing when this very lock is in place
  local lock=$root/locks/$1.txt
  local stamp=$venv/installed-$1
  local want
  want=$(cat "$lock" "$root/setup.py" | sha256sum | cut -d' ' -f1)
  [ "$(cat "$stamp" 2>/dev/null)" = "$want" ] && return
  echo "installing $(grep -c '==' "$lock") packages of locks/$1.txt" >&2
  # The lock is the whole set, resolved already; --no-deps keeps it so.
  "$venv/bin/pip" install --disable-pip-version-check --no-deps \
    --require-hashes -r "$lock" | sed '/^Requirement already/d' >&2
  # setuptools is in every lock, so that pip need not fetch one to build with.
  "$venv/bin/pip" install --disable-pip-version-check -q --no-deps \
    --no-build-isolation -e "$root" >&2
  echo "$want" >"$stamp"
}

local_source() {  # local_source NAME: what T5X_FROM has of it
  local found
  for found in "$T5X_FROM/$1" "$T5X_FROM/$1"-*.whl "$T5X_FROM/$1"-*.tar.gz \
      "$T5X_FROM/$1"-*.zip; do
    if [ -f "$found" ] || [ -f "$found/setup.py" ] ||
        [ -f "$found/pyproject.toml" ]; then
      echo "$found"
      return
    fi
  done
  fail "T5X_FROM=$T5X_FROM has no $1: expected folders, archives or wheels named airio, jestimator and t5x"
}

install_commits() {  # what has no release: pinned commits, by git or from files
  local lock=$root/locks/t5x_commits.txt
  local stamp=$venv/installed-t5x_commits
  local log=$venv/t5x_install.log
  local name url source what=()
  cmp -s "$lock" "$stamp" && return
  if [ -n "${T5X_FROM:-}" ]; then
    for name in airio jestimator t5x; do
      source=$(local_source "$name") || exit
      what+=("$source")
    done
  else
    command -v git >/dev/null ||
      fail "T5X is installed from its repository; run: apt-get install git"
    url=$(sed -n 's/^t5x @ git+\(.*\)@.*/\1/p' "$lock")
    GIT_TERMINAL_PROMPT=0 timeout 60 git ls-remote -q "$url" HEAD \
      >"$log" 2>&1 ||
      fail "$url cannot be reached; bring the commits of locks/t5x_commits.txt here as source folders or wheels, and name the folder that holds them: T5X_FROM=DIR"
    what=(-r "$lock")
  fi
  echo "installing airio, jestimator and t5x from ${T5X_FROM:-GitHub}" >&2
  "$venv/bin/pip" install --disable-pip-version-check --no-deps "${what[@]}" \
    >"$log" 2>&1 ||
    fail "T5X could not be installed from ${T5X_FROM:-GitHub} ($(grep -i error "$log" | tail -n 1)); all that pip said is in $log"
  cp "$lock" "$stamp"
}

if [ "$(need "$@")" = codec ] && ! command -v cc >/dev/null; then
  fail "ViSQOL needs a C compiler; run: apt-get install gcc libc6-dev g++"
fi
make_venv
exec 9>"$venv/install.lock"
flock 9
install "$(need "$@")"
if [ "${1:-}" = t5x ]; then install_commits; fi
if nvidia-smi -L >/dev/null 2>&1; then install cuda; fi
if compgen -G '/dev/accel[0-9]*' >/dev/null; then install tpu; fi
if compgen -G '/dev/vfio/[0-9]*' >/dev/null; then install tpu; fi
exec 9>&-

export JAX_COMPILATION_CACHE_DIR=${JAX_COMPILATION_CACHE_DIR:-$root/.jax_cache}
if [ "${1:-}" = test ]; then
  shift
  cd "$root"
  cores=$(nproc)
  exec "$venv/bin/python" -m pytest -n $((cores < 4 ? cores : 4)) \
    --dist loadfile "$@"
fi
if [ "${1:-}" = lint ]; then
  shift
  cd "$root"
  exec "$venv/bin/ruff" check "$@"
fi
if [ "${1:-}" = types ]; then
  shift
  cd "$root"
  exec "$venv/bin/pyright" --project pyproject.toml \
    --pythonpath "$venv/bin/python" "$@"
fi
if [ "${1:-}" = t5x ]; then
  shift
  exec "$venv/bin/python" -m musiclm_jax.commands.under_t5x "$@"
fi
exec "$venv/bin/musiclm" "$@"
