"""Datasets of TFDS whose examples hold audio, as the source of an ingest.

An example's audio is a feature of tfds.features.Audio, or a tensor of samples
named `audio` where metadata.json tells sample_rate_hz. Its captions are texts
named caption, captions or text. Only this file of an ingest needs TensorFlow.
"""

import functools
import itertools
import os
import pathlib
from typing import Any

import numpy as np

from musiclm_jax import errors
from musiclm_jax.data.audio_folder import items as items_lib

_CAPTIONS, _ASPECTS = ('captions', 'caption', 'text'), ('aspects', 'tags')
_SPLITS = ('train', 'validation', 'test')
_SEPARATOR = '\n'  # between a dataset's name and its data_dir, in an item


def find(name: str, data_dir: str | os.PathLike | None = None) -> items_lib.Found:
  """The examples of a dataset that has been prepared.

  Args:
    name: as tfds.builder takes it, or the path of a dataset's directory.
    data_dir: where it was prepared; None for TFDS's own place.

  Raises:
    UserError: TFDS is not installed, there is no such dataset, or no audio in it.
  """
  where = _SEPARATOR.join([name, str(data_dir or '')])
  builder = _builder(where)
  _audio_feature(builder)
  if not builder.info.splits:
    raise errors.UserError(
        f'the dataset {name} is not prepared in {builder.data_dir}; run `tfds '
        f'build {name}`, or name its place with --data-dir.')
  licence = str((builder.info.metadata or {}).get('licence', '')
                or builder.info.redistribution_info.license or '')
  found = []
  for split, info in sorted(builder.info.splits.items()):
    found += [
        items_lib.Item(f'{split}/{number:07d}', where, items_lib.TFDS,
                       (split, number), licence=licence,
                       split=split if split in _SPLITS else '')
        for number in range(info.num_examples)]
  return items_lib.Found(builder.info.name, found, about=dict(
      dataset=builder.info.full_name))


class Reader:
  """Reads examples; those that follow each other in one pass."""

  def __init__(self):
    self._next, self._examples = None, iter(())

  def read(self, item: items_lib.Item) -> tuple[np.ndarray, int, dict[str, Any]]:
    """([N] or [N, channels] float, its rate in Hz, dict(captions, aspects))."""
    builder = _builder(item.where)
    if self._next != (item.where, item.part):
      split, number = item.part
      self._examples = builder.as_dataset(
          split=f'{split}[{number}:]', shuffle_files=False).as_numpy_iterator()
    example = next(self._examples)
    self._next = item.where, (item.part[0], item.part[1] + 1)
    name, rate_hz = _audio_feature(builder)
    audio = np.asarray(example[name])
    if np.issubdtype(audio.dtype, np.integer):
      # TFDS hands 16-bit samples on as 64-bit ones.
      audio = audio.astype(np.float32) / np.float32(32767)
    return audio, rate_hz, dict(captions=_texts(example, _CAPTIONS),
                                aspects=_texts(example, _ASPECTS))


def _texts(example, names):
  """The texts of the first of `names` that an example has."""
  name = next(itertools.chain((n for n in names if n in example), ('',)))
  value = np.atleast_1d(example[name]) if name else ()
  return [text.decode('utf-8', 'backslashreplace') for text in value
          if isinstance(text, bytes) and text.strip()]


def _audio_feature(builder):
  """(name, rate in Hz) of the audio of a dataset; UserError without any."""
  import tensorflow_datasets as tfds  # pylint: disable=g-import-not-at-top
  told = (builder.info.metadata or {}).get('sample_rate_hz')
  for name, feature in sorted(builder.info.features.items()):
    if isinstance(feature, tfds.features.Audio) or name == 'audio':
      rate = getattr(feature, 'sample_rate', None) or told
      if not rate:
        raise errors.UserError(
            f'{builder.info.full_name} does not tell the sample rate of its '
            f'{name}; write sample_rate_hz into its metadata.json.')
      return name, int(rate)
  raise errors.UserError(
      f'{builder.info.full_name} holds no audio; it has '
      f'{", ".join(sorted(builder.info.features))}.')


@functools.lru_cache(4)
def _builder(where):
  name, data_dir = where.split(_SEPARATOR)
  try:
    import tensorflow_datasets as tfds  # pylint: disable=g-import-not-at-top
  except ModuleNotFoundError as error:
    raise errors.UserError(
        f'the dataset {name} needs TFDS; run `pip install '
        f'"musiclm_jax[train]"`.') from error
  try:
    if pathlib.Path(name).is_dir():
      return tfds.builder_from_directory(name)
    return tfds.builder(name, data_dir=data_dir or None)
  except Exception as error:  # pylint: disable=broad-except
    lines = str(error).strip().splitlines() or [type(error).__name__]
    raise errors.UserError(f'no dataset {name} of TFDS: {lines[0]}') from error
