"""Draws a clip for each of many captions into a folder, and can be killed.

  OUT/<id>.flac      one for each caption, whole or not there
  OUT/drawn.json     what they were drawn with; another run must agree with it

A clip follows from the seed, its place in the list and the bundle: not from
which others are drawn beside it, in which order, or by how many processes. Rows
are drawn eight at a time, and missing ones only, so that a run which was killed
loses eight clips at most, and `--shard 0/4` to `3/4` can run side by side.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence
import dataclasses
import hashlib
import json
import pathlib
import re
from typing import Any

import numpy as np

from musiclm_jax import audio as audio_lib
from musiclm_jax import errors
from musiclm_jax import files
from musiclm_jax.systems.musiclm import pipeline as pipeline_lib
from musiclm_jax.systems.musiclm import settings as settings_lib

RECORD = 'drawn.json'
SUFFIX = '.flac'
_ROWS = pipeline_lib.MAX_ROWS
_SHARD = re.compile(r'(\d{1,4})/(\d{1,4})')


@dataclasses.dataclass(frozen=True)
class Shard:
  """Every `of`-th caption, from the `number`-th on."""

  number: int = 0
  of: int = 1

  @classmethod
  def read(cls, text: str) -> Shard:
    """'0/4' to '3/4'; UserError for anything else."""
    match = _SHARD.fullmatch(text.strip())
    shard = cls(*map(int, match.groups())) if match else cls(1, 1)
    if shard.number >= shard.of:
      raise errors.UserError(
          f'--shard is {text!r}; expected NUMBER/OF, such as 0/4 to 3/4.')
    return shard

  def __contains__(self, index: int) -> bool:
    return index % self.of == self.number


def check_ids(ids: Sequence[str]) -> None:
  """UserError where an id cannot be the name of a file in a folder."""
  for name in ids:
    path = pathlib.PurePosixPath(name)
    if not name or path.is_absolute() or '..' in path.parts or '\0' in name:
      raise errors.UserError(
          f'the id {name!r} cannot be the name of a file; change it.')


def draw(
    bundle: Any, captions: dict[str, str], folder: str | pathlib.Path,
    seconds: int, seed: int = 0, shard: Shard = Shard(),
    say: Callable[[str], None] = lambda line: None) -> list[str]:
  """Draws what is missing of a shard.

  Args:
    bundle: a bundle.Bundle that generates.
    captions: {id: caption}; an id is a relative path without suffix.
    folder: made if it is not there.
    seconds: of each clip, whole ones.
    seed: of all.
    shard: which captions this process draws.
    say: takes lines of progress.

  Returns:
    Ids that are still missing, those of other shards.

  Raises:
    UserError: the folder holds clips of another bundle, seed, length, list of
      captions or settings.
  """
  folder = pathlib.Path(folder)
  check_ids(list(captions))
  settings = settings_lib.make(defaults=bundle.defaults)
  _claim(folder, dict(
      bundle=bundle.identity, bundle_fingerprint=bundle.weights_fingerprint(),
      seed=seed, seconds=seconds, settings=settings.changed(),
      captions=len(captions), captions_hash=_digest(captions)))
  place = lambda name: folder / f'{name}{SUFFIX}'
  names = list(captions)
  missing = [(i, n) for i, n in enumerate(names)
             if i in shard and not place(n).exists()]
  if missing:
    pipeline = pipeline_lib.Pipeline(bundle)
    rate = bundle.tokens.audio.sample_rate_hz
    for first in range(0, len(missing), _ROWS):
      say(f'drawing {first + 1} to {min(first + _ROWS, len(missing))} of '
          f'{len(missing)} clips')
      part = missing[first:first + _ROWS]
      # Always so many rows, so that a clip's program is the same in any run.
      filled = part + part[-1:] * (_ROWS - len(part))
      audio = of_captions(
          bundle, [captions[name] for _, name in filled], seconds, seed,
          np.array([index for index, _ in filled]), pipeline)
      for (_, name), sound in zip(part, audio):
        place(name).parent.mkdir(parents=True, exist_ok=True)
        audio_lib.write(place(name), sound[:seconds * rate], rate,
                        dict(title=captions[name], software='musiclm_jax'))
  return [n for n in names if not place(n).exists()]


def of_captions(
    bundle: Any, captions: Sequence[str], seconds: int, seed: int,
    samples: np.ndarray | None = None,
    pipeline: pipeline_lib.Pipeline | None = None) -> np.ndarray:
  """[n, N] float32, as the bundle draws for captions by default.

  Args:
    bundle: a bundle.Bundle that generates.
    captions: n texts.
    seconds: of each, whole ones.
    seed: of all.
    samples: [n] what tells equal captions apart; by default 0 to n - 1.
    pipeline: of the bundle, where there is one already.
  """
  joint, usual = bundle.tokenizer('joint'), settings_lib.make(
      defaults=bundle.defaults)
  codes = np.asarray(joint.quantize(joint.embed_text(list(captions))))
  return (pipeline or pipeline_lib.Pipeline(bundle)).complete(
      {'mulan': codes[:, None]}, seconds, seed, samples=samples,
      draws=usual.draws(melody=False), levels=usual.levels)[1]


def _claim(folder, asked):
  """Writes what is drawn here, or holds it against what was."""
  path = folder / RECORD
  if path.is_file():
    known = files.read_json(path, 'choose another --out')
    other = [f'{k} {known.get(k)!r} (now {v!r})' for k, v in asked.items()
             if known.get(k) != v]
    if other:
      raise errors.UserError(
          f'{folder} holds clips drawn with {", ".join(other[:2])}; choose '
          f'another --out, or remove it.')
    return
  folder.mkdir(parents=True, exist_ok=True)
  files.write_json(path, asked)


def _digest(captions):
  text = json.dumps(list(captions.items()), ensure_ascii=False)
  return hashlib.sha256(text.encode()).hexdigest()[:16]
