"""A track as TensorFlow Datasets has it, and what its builders share.

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
from typing import Any

from absl import logging
import numpy as np
import tensorflow_datasets as tfds

from musiclm_jax import files
from musiclm_jax import record_shards
from musiclm_jax.data import corpora
from musiclm_jax.data import sounds


def features() -> tfds.features.FeaturesDict:
  """What a record holds; `about` is JSON of whatever else is known."""
  text = tfds.features.Text
  return tfds.features.FeaturesDict(dict(
      id=text(), source=text(), licence=text(), checksum=text(), about=text(),
      captions=tfds.features.Sequence(text()),
      aspects=tfds.features.Sequence(text()),
      # One value of bytes, so that a reader can map the samples where they are.
      audio=tfds.features.Tensor(
          shape=(None,), dtype=np.int16, encoding='bytes')))


def example(track: sounds.Track, piece: sounds.Piece, licence: str
            ) -> dict[str, Any]:
  """A record of `features`.

  Args:
    track: of a walk.
    piece: of it.
    licence: of the data set, where the track has none.
  """
  pcm = piece.audio.astype('<i2')
  about = dict(track.about, start_seconds=piece.start_seconds)
  return dict(
      id=piece.id, audio=pcm, captions=list(track.captions),
      aspects=list(track.aspects),
      source=files.encodable(track.sound.name),
      licence=track.licence or licence,
      checksum=record_shards.checksum(pcm.tobytes()),
      about=json.dumps(about, ensure_ascii=False))


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

  def walk(self, folder: pathlib.Path) -> Iterable[sounds.Track | sounds.Reject]:
    """What the folder of --manual_dir has."""
    raise NotImplementedError

  def _info(self) -> tfds.core.DatasetInfo:
    return tfds.core.DatasetInfo(
        builder=self, description=self.DESCRIPTION, features=features(),
        homepage=self.HOMEPAGE, citation=self.CITATION, license=self.LICENCE,
        metadata=tfds.core.MetadataDict(
            sample_rate_hz=sounds.SAMPLE_RATE_HZ, licence=self.LICENCE))

  def _split_generators(self, dl_manager):
    found = list(self.walk(pathlib.Path(dl_manager.manual_dir)))
    tracks, reasons = {}, Counter()
    for item in found:
      if isinstance(item, sounds.Reject):
        reasons[item.reason] += 1
      else:
        tracks.setdefault(item.split, []).append(item)
    for reason, count in sorted(reasons.items()):
      logging.warning('%s: %d of %d recordings are left out: %s', self.name, count,
                      len(found), reason)
    return {split: self._generate_examples(listed)
            for split, listed in sorted(tracks.items())}

  def _generate_examples(self, tracks: Iterable[sounds.Track]
                         ) -> Iterator[tuple[str, dict[str, Any]]]:
    for track in tracks:
      decoded = sounds.decode(track, corpora.MIN_SECONDS)
      if isinstance(decoded, sounds.Reject):
        logging.warning('%s: %s is left out: %s (%s)', self.name, decoded.id,
                        decoded.reason, decoded.detail)
        continue
      for piece in decoded:
        yield piece.id, example(track, piece, self.LICENCE)
