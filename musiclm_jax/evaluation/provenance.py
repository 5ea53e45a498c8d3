"""What a figure rests on, so that anyone can have it again."""

from collections.abc import Mapping
import importlib.metadata
import shlex
import sys
from typing import Any

from musiclm_jax import figures
from musiclm_jax.evaluation import clip_sets

RESAMPLER = 'soxr, high quality'


def of(bundle: Any = None, seed: int | None = None,
       sets: Mapping[str, clip_sets.ClipSet] | None = None,
       **more: Any) -> dict[str, Any]:
  """The provenance of an evaluation's figures, as JSON has it.

  Args:
    bundle: the bundle.Bundle that was judged, or None.
    seed: of all that was drawn.
    sets: {role: ClipSet} that was listened to.
    **more: what else there is to say, such as `listeners`.

  Returns:
    command, commit, machine, versions; bundle and its fingerprint; counts of
    clips, used and refused, by reason; the resampler.
  """
  found = dict(command=command(),
               resampler=f'{RESAMPLER} {_version("soxr")}', seed=seed,
               **figures.context())
  if bundle is not None:
    found.update(bundle=bundle.identity,
                 bundle_fingerprint=bundle.weights_fingerprint())
  found['clips'] = {
      role: dict(name=clips.name, listed=len(clips), used=len(clips.ids),
                 refused=clips.counted(),
                 refused_clips={name: line for name, (_, line)
                                in sorted(clips.refused.items())})
      for role, clips in (sets or {}).items()}
  return dict(found, **more)


def command() -> str:
  """The words that this program was started with."""
  return ' '.join(['musiclm', *map(shlex.quote, sys.argv[1:])])


def _version(package):
  try:
    return importlib.metadata.version(package)
  except importlib.metadata.PackageNotFoundError:
    return ''
