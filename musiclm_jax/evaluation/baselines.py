"""Rows that keep a table honest: what costs nothing, and what would be perfect.

  other half  another clip of the same recordings: real music of that caption
  codec       the recordings through the bundle's codec: the stages' ceiling
  retrieved   for each caption the training recording of the nearest caption
  noise       white noise as loud as the recordings

A model that does not beat retrieval has learned no more than to look up; one
that is told from noise only by a hair has learned nothing. Each becomes a folder
of FLACs beside what was drawn, so that it is listened to in the same way.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Sequence
import dataclasses
import pathlib
from typing import Any
import zlib

import numpy as np

from musiclm_jax import audio as audio_lib
from musiclm_jax.evaluation import clip_sets

_BATCH = 8
_TEXTS = 256  # that are embedded at once
_SUFFIX = '.flac'


def through_codec(
    codec: Any, reference: clip_sets.ClipSet,
    folder: pathlib.Path) -> clip_sets.ClipSet:
  """The recordings after `codec.encode` and `codec.decode`, all levels."""
  rate = codec.spec.sample_rate_hz

  def rendered():
    waiting = []
    for clip, audio in reference.each(rate):
      waiting.append((clip, audio))
      if len(waiting) == _BATCH:
        yield from _coded(codec, waiting)
        waiting = []
    yield from _coded(codec, waiting)

  return _kept('codec', reference, rendered, rate, folder)


def _coded(codec, waiting):
  """(clip, audio) pairs, their audio through the codec, as one batch."""
  if not waiting:
    return
  # Whole seconds of all rows, so that few programs are compiled.
  rate = codec.spec.sample_rate_hz
  longest = -(-max(len(a) for _, a in waiting) // rate) * rate
  audio = np.zeros((_BATCH, longest), np.float32)
  for row, (_, sound) in enumerate(waiting):
    audio[row, :len(sound)] = sound
  decoded = np.asarray(codec.decode(codec.encode(audio)))
  for (clip, sound), row in zip(waiting, decoded):
    yield clip, row[:len(sound)]


def noise(reference: clip_sets.ClipSet, rate: int, folder: pathlib.Path,
          seed: int = 0) -> clip_sets.ClipSet:
  """White noise of each recording's length and mean level."""
  def rendered():
    for clip, audio in reference.each(rate):
      rng = np.random.default_rng((seed, zlib.crc32(clip.id.encode())))
      level = np.sqrt(np.mean(np.square(audio, dtype=np.float64)))
      yield clip, rng.normal(0.0, level, len(audio)).astype(np.float32)

  return _kept('noise', reference, rendered, rate, folder)


def retrieved(
    embed_text: Callable[[Sequence[str]], Any], reference: clip_sets.ClipSet,
    pool: clip_sets.ClipSet, rate: int,
    folder: pathlib.Path) -> clip_sets.ClipSet:
  """For each clip that of `pool` whose caption is the nearest to its own.

  Args:
    embed_text: texts -> [n, D] of unit length.
    reference: clips with captions.
    pool: training clips with captions.
    rate: of the files.
    folder: where they go.
  """
  asked = [c for c in reference.clips if c.caption]
  known = [c for c in pool.clips if c.caption]
  embed = lambda clips: np.concatenate([
      np.asarray(embed_text([c.caption for c in clips[i:i + _TEXTS]]))
      for i in range(0, len(clips), _TEXTS)])
  order = np.argsort(-(embed(asked) @ embed(known).T), axis=1)

  def rendered():
    for clip, nearest in zip(asked, order):
      for index in nearest[:_BATCH]:  # the first that can be read
        try:
          yield clip, pool.read(known[index].id, rate)
          break
        except clip_sets.Refused:
          continue

  return _kept('retrieved', reference, rendered, rate, folder)


def _kept(name: str, reference: clip_sets.ClipSet,
          rendered: Callable[[], Iterable], rate: int,
          folder: pathlib.Path) -> clip_sets.ClipSet:
  """The clips of `rendered` as files; those of an earlier run are taken."""
  folder = folder / name
  done = folder / 'complete'
  if not done.is_file():
    for clip, audio in rendered():
      path = folder / f'{clip.id}{_SUFFIX}'
      path.parent.mkdir(parents=True, exist_ok=True)
      audio_lib.write(path, audio, rate)
    folder.mkdir(parents=True, exist_ok=True)
    done.touch()
  return like(clip_sets.from_folder(folder, name=name), reference)


def like(clips: clip_sets.ClipSet,
         reference: clip_sets.ClipSet) -> clip_sets.ClipSet:
  """The clips with the captions, facts and tracks of those they belong to."""
  named = {c.id: c for c in reference.clips}
  return clip_sets.ClipSet(clips.name, [
      dataclasses.replace(c, caption=named[c.id].caption,
                          facts=named[c.id].facts, track=named[c.id].track)
      if c.id in named else c for c in clips.clips], clips.refused)
