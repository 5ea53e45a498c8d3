"""The builders under TensorFlow Datasets' own test case, and what they write."""

import hashlib
import json
import pathlib
import tempfile

import pytest

pytest.importorskip('tensorflow_datasets')
pytest.importorskip('dill')  # of tfds.testing

import tensorflow_datasets as tfds

from musiclm_jax import records
from musiclm_jax import tfds_layout
from musiclm_jax.data import features
from musiclm_jax.data import musiccaps
from musiclm_jax.data.audio_folder import items
from musiclm_jax.data.audiocaps import audiocaps_dataset_builder
from musiclm_jax.data.audioset_labels import audioset_labels_dataset_builder
from musiclm_jax.data.fma import fma_dataset_builder
from musiclm_jax.data.musiccaps import musiccaps_dataset_builder
from tests.helpers import downloads


class _Case(tfds.testing.DatasetBuilderTestCase):
  """Makes its download in a folder that goes afterwards."""

  @classmethod
  def setUpClass(cls):
    cls._folder = tempfile.TemporaryDirectory()
    cls.addClassCleanup(cls._folder.cleanup)
    cls.EXAMPLE_DIR = cls._folder.name
    cls.download(pathlib.Path(cls._folder.name))
    super().setUpClass()


class TestMusiccaps(_Case):
  DATASET_CLASS = musiccaps_dataset_builder.Builder
  SPLITS = {'train': 1, 'test': 2}
  download = staticmethod(downloads.musiccaps)


class TestAudiocaps(_Case):
  DATASET_CLASS = audiocaps_dataset_builder.Builder
  SPLITS = {'train': 1, 'validation': 1, 'test': 1}
  download = staticmethod(downloads.audiocaps)


class TestAudiosetLabels(_Case):
  DATASET_CLASS = audioset_labels_dataset_builder.Builder
  SPLITS = {'train': 1, 'test': 1}
  download = staticmethod(downloads.audioset)


class TestFma(_Case):
  DATASET_CLASS = fma_dataset_builder.Builder
  BUILDER_CONFIG_NAMES_TO_TEST = ['medium']
  SPLITS = {'train': 1, 'validation': 1}
  download = staticmethod(lambda folder: downloads.fma(folder, 'medium'))


del _Case, tfds.testing  # pytest would take them for tests


def test_its_features_are_those_of_our_corpora():
  ours = tfds_layout.contents('a', 24_000, '', {})[tfds_layout.FEATURES]
  assert json.loads(json.dumps(features.features().to_json()['content'])) == (
      ours['featuresDict'])


def test_a_dataset_is_a_corpus(tmp_path):
  """Of the same tracks as `musiclm data musiccaps` writes."""
  csv, audio = downloads.musiccaps(tmp_path / 'in')
  builder = musiccaps_dataset_builder.Builder(data_dir=tmp_path / 'made')
  builder.download_and_prepare(
      download_config=tfds.download.DownloadConfig(manual_dir=tmp_path / 'in'))
  made = records.Corpus(builder.data_path)
  musiccaps.build(csv, audio, tmp_path / 'ours', progress=False)
  ours = records.Corpus(tmp_path / 'ours')
  assert made.sample_rate_hz == ours.sample_rate_hz and made.splits == ours.splits
  for name in ours.splits:
    tracks = {t.id: t for t in made.split(name)}
    assert set(tracks) == {t.id for t in ours.split(name)}
    for track in ours.split(name):
      assert tracks[track.id].meta == dict(
          track.meta, licence=ours.manifest['licence'])
      assert (made.split(name).read(tracks[track.id]) ==
              ours.split(name).read(track)).all()


def test_what_a_record_says(tmp_path, monkeypatch):
  monkeypatch.setattr(features.folder_corpus, 'MAX_SECONDS', 2.0)
  path = downloads.write_tone(tmp_path / 'a.wav', 6.0, rate=24_000)
  item = items.Item('a', str(path), captions=('A.',), aspects=('b',), split='test',
                    start_seconds=1.0, end_seconds=5.0, about=dict(genre='x'))
  one, two = features.examples(item, 'CC0', 1.0)
  for made, name, start in ((one, 'a#000', 1.0), (two, 'a#001', 3.0)):
    pcm = made.pop('audio')
    assert len(pcm) == 48_000
    assert json.loads(made.pop('about')) == dict(genre='x', start_seconds=start)
    assert made == dict(id=name, captions=['A.'], aspects=['b'], source='a',
                        licence='CC0', checksum=hashlib.sha256(pcm).hexdigest())
  reject = features.examples(item, 'CC0', 5.0)
  assert reject.reason == 'too short' and reject.split == 'test'
