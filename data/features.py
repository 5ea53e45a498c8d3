"""A recording as TensorFlow Datasets has it, and what its builders share.

A builder is a folder with NAME_dataset_builder.py, a `Builder` in it that says
how the data set is walked, and `build`, which needs none of this. What both write
is the same, and musiclm_jax.records reads both.
"""

from collections import Counter
from collections.abc import Iterable
from collections.abc import Iterator
import inspect
import json
import pathlib
import tempfile
from typing import Any

from absl import logging
import numpy as np
import tensorflow_datasets as tfds

from musiclm_jax import tfds_layout
from musiclm_jax.data import downloads
from musiclm_jax.data.audio_folder import corpus as folder_corpus
from musiclm_jax.data.audio_folder import hear
from musiclm_jax.data.audio_folder import items

_Example = dict[str, Any]


def features() -> tfds.features.FeaturesDict:
  """What a record holds; `about` is JSON of whatever else is known."""
  text, listed = tfds.features.Text, tfds.features.Sequence
  # One value of bytes, so that a reader can map the samples where they are.
  audio = tfds.features.Tensor(shape=(None,), dtype=np.int16, encoding='bytes')
  return tfds.features.FeaturesDict(
      {name: text() for name in tfds_layout.TEXTS} |
      {name: listed(text()) for name in tfds_layout.LISTS} |
      {tfds_layout.AUDIO: audio})


def examples(item: items.Item, licence: str, min_seconds: float
             ) -> Iterator[_Example] | downloads.Reject:
  """The records of one recording, or why there is none.

  Args:
    item: of a walk.
    licence: of the data set, where the recording has none.
    min_seconds: less than this is no recording.
  """
  limits = hear.Limits(min_seconds, folder_corpus.MAX_SECONDS)
  with tempfile.TemporaryDirectory() as folder:
    part = str(pathlib.Path(folder) / 'part')
    told, = hear.hear(([item], limits, part))
    if 'reason' in told:
      return downloads.Reject(item.split, item.id, told['reason'], told['detail'])
    pcm = np.fromfile(part + hear.PCM, '<i2')
  return _examples(item, licence, told['pieces'], pcm)


def _examples(item, licence, pieces, pcm):
  for k, (start, stop, checksum) in enumerate(pieces):
    seconds = item.start_seconds + start / hear.SAMPLE_RATE_HZ
    yield dict(
        id=item.id if len(pieces) == 1 else f'{item.id}#{k:03d}',
        audio=pcm[start:stop], captions=list(item.captions),
        aspects=list(item.aspects), source=item.id,
        licence=item.licence or licence, checksum=checksum,
        about=json.dumps(dict(item.about, start_seconds=round(seconds, 3)),
                         ensure_ascii=False))


class TrackBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
  """A builder of what a walk finds in the folder given by --manual_dir.

  Attributes:
    DESCRIPTION: one sentence.
    CITATION: BibTeX.
    HOMEPAGE: URL.
    LICENCE: of the data set.
  """

  VERSION = tfds.core.Version('1.0.0')
  RELEASE_NOTES = {'1.0.0': 'First.'}
  DESCRIPTION = CITATION = HOMEPAGE = LICENCE = ''

  def __init_subclass__(cls, **kwargs: Any):
    super().__init_subclass__(**kwargs)
    # TFDS looks where the module's name says, but data/ need not be there.
    cls.pkg_dir_path = tfds.core.Path(inspect.getfile(cls)).parent

  def walk(self, folder: pathlib.Path) -> Iterable[items.Item | downloads.Reject]:
    """What the folder of --manual_dir has."""
    raise NotImplementedError

  def _info(self) -> tfds.core.DatasetInfo:
    return tfds.core.DatasetInfo(
        builder=self, description=self.DESCRIPTION, features=features(),
        homepage=self.HOMEPAGE, citation=self.CITATION, license=self.LICENCE,
        metadata=tfds.core.MetadataDict(
            sample_rate_hz=hear.SAMPLE_RATE_HZ, licence=self.LICENCE))

  def _split_generators(self, dl_manager):
    found = list(self.walk(pathlib.Path(dl_manager.manual_dir)))
    by_split, reasons = {}, Counter()
    for one in found:
      if isinstance(one, downloads.Reject):
        reasons[one.reason] += 1
      else:
        by_split.setdefault(one.split, []).append(one)
    for reason, count in sorted(reasons.items()):
      logging.warning('%s: %d of %d recordings are left out: %s', self.name, count,
                      len(found), reason)
    return {split: self._generate_examples(own)
            for split, own in sorted(by_split.items())}

  def _generate_examples(self, recordings: Iterable[items.Item]
                         ) -> Iterator[tuple[str, _Example]]:
    for item in recordings:
      made = examples(item, self.LICENCE, downloads.MIN_SECONDS)
      if isinstance(made, downloads.Reject):
        logging.warning('%s: %s is left out: %s (%s)', self.name, made.id,
                        made.reason, made.detail)
        continue
      for example in made:
        yield example['id'], example
