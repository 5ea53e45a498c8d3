"""Statistics of a reference in a file, in place of its recordings.

  NAME/mean, NAME/scatter   of an embedder NAME: float64, [D] and [D, D]
  NAME/vectors              [n, D] float32, for distances without moments
  about                     JSON: by NAME the embedder's weights, rate, window,
                            hop and options, how many vectors and clips

A file is good for the embedder that made it and no other: a distance between
two spaces, or two ways of cutting windows, would look like any other number.
"""

from __future__ import annotations

from collections.abc import Mapping
import dataclasses
import functools
import json
import pathlib
import zipfile

import numpy as np

from musiclm_jax import errors
from musiclm_jax import files
from musiclm_jax.listeners import embedders as embedders_lib
from musiclm_jax.metrics import frechet
from musiclm_jax.metrics import kernel_distance

_MOST_VECTORS = 20_000  # ours: kept for KAD and MAUVE, drawn from more
_SUFFIX = '.npz'
_ABOUT = 'about'


@dataclasses.dataclass(frozen=True)
class Known:
  """What is known of a reference.

  Attributes:
    name: of the set.
    moments: of all its vectors.
    vectors: [n, D] float32, all of them or a draw.
    clips: how many clips they are of.
  """

  name: str
  moments: frechet.Moments
  vectors: np.ndarray
  clips: int

  @classmethod
  def of(cls, name: str, vectors: np.ndarray, clips: int, seed: int = 0
         ) -> Known:
    """Of [n, D] vectors of `clips` clips."""
    moments = frechet.Moments.of(vectors)
    if len(vectors) > _MOST_VECTORS:
      vectors = vectors[np.sort(np.random.default_rng(seed).choice(
          len(vectors), _MOST_VECTORS, replace=False))]
    return cls(name, moments, vectors, clips)

  @functools.cached_property
  def normal(self) -> frechet.Reference:
    """As the Frechet distance takes it."""
    return frechet.Reference(self.moments)

  @functools.cached_property
  def kernel(self) -> kernel_distance.Reference:
    """As the kernel distance takes it."""
    return kernel_distance.Reference(self.vectors)


def check_output(path: str | pathlib.Path) -> None:
  """UserError where `save` to `path` could not succeed."""
  files.check_output(path, (_SUFFIX,))


def save(path: str | pathlib.Path,
         known: Mapping[embedders_lib.Embedder, Known]) -> None:
  """Writes the statistics of one reference by each embedder.

  Raises:
    UserError: `path` is no place for an .npz file.
  """
  check_output(path)
  arrays, about = {}, {}
  for embedder, found in known.items():
    arrays.update({f'{embedder.name}/mean': found.moments.mean,
                   f'{embedder.name}/scatter': found.moments.scatter,
                   f'{embedder.name}/vectors': found.vectors})
    about[embedder.name] = dict(
        name=found.name, clips=found.clips, count=found.moments.count,
        embedder=embedder.about())
  with errors.of_files(path), files.whole(path) as temporary:
    with open(temporary, 'wb') as file:
      np.savez(file, **{_ABOUT: np.array(json.dumps(about))}, **arrays)


def load(path: str | pathlib.Path, embedder: embedders_lib.Embedder) -> Known:
  """What `save` wrote of a reference by this embedder.

  Raises:
    UserError: no such file, or none of statistics; it has another embedder, or
      the same with other weights, rate, window, hop or options.
  """
  errors.check_input(path, 'the statistics')
  try:
    with errors.of_files(path), np.load(path, allow_pickle=False) as stored:
      if _ABOUT not in stored.files:
        raise ValueError('it has no "about"')
      about = json.loads(str(stored[_ABOUT]))
      _check_embedder(path, about, embedder)
      mine = about[embedder.name]
      mean, scatter, vectors = (
          stored[f'{embedder.name}/{part}']
          for part in ('mean', 'scatter', 'vectors'))
      if not (np.isfinite(mean).all() and np.isfinite(scatter).all()
              and scatter.shape == (len(mean),) * 2
              and vectors.shape[1:] == mean.shape and len(vectors) > 1):
        raise ValueError('its arrays do not belong together')
      return Known(mine['name'], frechet.Moments(
          int(mine['count']), mean, scatter), vectors, int(mine['clips']))
  except errors.UserError:
    raise
  except (ValueError, KeyError, TypeError, AttributeError,
          zipfile.BadZipFile, EOFError) as error:
    raise errors.UserError(
        f'{path} holds no statistics of a reference ({error}).') from error


def _check_embedder(path, about, embedder):
  """Refuses statistics that another embedder made."""
  if embedder.name not in about:
    raise errors.UserError(
        f'{path} has statistics by {", ".join(sorted(about)) or "no embedder"}, '
        f'none by {embedder.name}; make them again with it.')
  stored = about[embedder.name]['embedder']
  # As JSON has it, where a tuple is a list.
  now = json.loads(json.dumps(embedder.about()))
  for key in sorted({*stored, *now}):
    if stored.get(key) != now.get(key):
      raise errors.UserError(
          f'{path} was made by {embedder.name} with {key} '
          f'{stored.get(key, "unset")}, which now is {now.get(key, "unset")}; '
          f'make the statistics again.')
