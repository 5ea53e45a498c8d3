"""Embeddings of the sets of a table: each set once per embedder.

  ClipSet ──> read and resampled in a thread ──> embedder ──> Embedded
  a reference's set, or its saved statistics ───────────────> Known

All measures of distance ask here, so that a row is listened to once, however
many of them there are.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence
import dataclasses
import pathlib
import weakref

import numpy as np

from musiclm_jax import errors
from musiclm_jax.evaluation import clip_sets
from musiclm_jax.evaluation import measures
from musiclm_jax.evaluation import reference_statistics
from musiclm_jax.listeners import embedders as embedders_lib
from musiclm_jax.training import prefetch

LISTENER = 'embedder'  # of Context.listeners
_SHARED = 'embeddings'
_CLIPS_AHEAD = 8


@dataclasses.dataclass(frozen=True)
class Embedded:
  """A set's vectors, without those of clips that were refused.

  Attributes:
    vectors: [n, D] float32.
    clips: how many they are of.
    tracks: [n] names of the recordings that the vectors are of.
  """

  vectors: np.ndarray
  clips: int
  tracks: tuple[str, ...]


def embed(clips: clip_sets.ClipSet, embedder: embedders_lib.Embedder
          ) -> Embedded:
  """Vectors of every usable clip; those that are not are in `clips.refused`.

  A thread reads and resamples ahead while the network runs.
  """
  tracks = []

  def sounds(source):
    for clip, audio in source:
      tracks.append(clip.track)
      yield audio

  with prefetch.Prefetch(clips.each(embedder.sample_rate_hz), lambda x: x,
                         _CLIPS_AHEAD) as source:
    made = list(embedder.embed_each(sounds(source)))
  names = tuple(name for name, vectors in zip(tracks, made)
                for _ in range(len(vectors)))
  vectors = (np.concatenate(made) if made else
             np.zeros((0, 0), np.float32))
  return Embedded(vectors, len(made), names)


class Embeddings:
  """What one table's measures of distance share.

  Attributes:
    embedders: those that were asked for, or the usual one.
  """

  def __init__(self, context: measures.Context):
    self._context = context
    self.embedders = _load(context)
    self._kept: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()
    self._references: dict[str, reference_statistics.Known] = {}

  def of(self, clips: clip_sets.ClipSet, embedder: embedders_lib.Embedder
         ) -> Embedded:
    """The set's vectors, made on the first call and kept while the set is."""
    kept = self._kept.setdefault(clips, {})
    if embedder.name not in kept:
      self._context.say(f'{embedder.name} listens to {clips.name}')
      kept[embedder.name] = embed(clips, embedder)
    return kept[embedder.name]

  def reference(self, embedder: embedders_lib.Embedder
                ) -> reference_statistics.Known:
    """What is known of the reference in this embedder's space.

    Raises:
      UserError: statistics of another embedder.
      Unavailable: the reference gives less than two vectors.
    """
    if embedder.name not in self._references:
      self._references[embedder.name] = self._reference(embedder)
    return self._references[embedder.name]

  def _reference(self, embedder):
    context = self._context
    if context.statistics is not None:
      return reference_statistics.load(context.statistics, embedder)
    found = self.of(context.reference, embedder)
    if len(found.vectors) < 2:
      raise measures.Unavailable(
          f'the reference {context.reference.name} gives {len(found.vectors)} '
          f'vectors of {embedder.name}, from {found.clips} usable clips; '
          f'expected two or more.')
    return reference_statistics.Known.of(
        context.reference.name, found.vectors, found.clips)


def of(context: measures.Context) -> Embeddings:
  """The context's embeddings; made by the measure that asks first.

  Raises:
    Unavailable: there is no reference, or the usual embedder is not installed.
    UserError: an embedder that was asked for cannot be loaded.
  """
  if context.reference is None and context.statistics is None:
    raise measures.Unavailable(
        'distances need a reference: a folder of recordings, or statistics '
        'that were saved of one.')
  if _SHARED not in context.shared:
    context.shared[_SHARED] = Embeddings(context)
  return context.shared[_SHARED]


def _load(context) -> tuple[embedders_lib.Embedder, ...]:
  asked = context.listeners.get(LISTENER, ())
  try:
    found = tuple(map(embedders_lib.by_name, asked or embedders_lib.DEFAULT))
  except errors.UserError as error:
    if asked:
      raise
    raise measures.Unavailable(str(error)) from error
  names = [e.name for e in found]
  twice = next((n for n in names if names.count(n) > 1), None)
  if twice:
    raise errors.UserError(
        f'two embedders are called {twice}; write NAME=PATH for one of them.')
  for embedder in found:
    context.provenance[embedder.name] = embedder.about()
  return found


def save_statistics(path: str | pathlib.Path, context: measures.Context
                    ) -> None:
  """Writes what is known of the context's reference, by all its embedders.

  Raises:
    UserError: the reference has no two usable clips, or `path` is no place for
      an .npz file.
  """
  reference_statistics.check_output(path)
  made = of(context)
  reference_statistics.save(
      path, {e: made.reference(e) for e in made.embedders})


def each(context: measures.Context, figures: Callable[
    [embedders_lib.Embedder, reference_statistics.Known, Embedded],
    Sequence[measures.Figure]]) -> measures.Measure:
  """A measure of `figures` for every embedder, the references known at once.

  Args:
    context: of the table.
    figures: embedder, reference and a row's vectors, two or more -> Figures.
  """
  made = of(context)
  known = [(e, made.reference(e)) for e in made.embedders]

  def measure(clips: clip_sets.ClipSet) -> list[measures.Figure]:
    found = []
    for embedder, reference in known:
      found += figures(embedder, reference, made.of(clips, embedder))
    return found

  return measure


def too_few(row: Embedded, *names: str, better: str = 'lower'
            ) -> list[measures.Figure]:
  """Figures without a value, where a row has no two vectors; else none."""
  if len(row.vectors) > 1:
    return []
  note = (f'{len(row.vectors)} vectors from {row.clips} usable clips; two or '
          f'more are needed')
  return [measures.Figure(name, None, count=row.clips, better=better, note=note)
          for name in names]
