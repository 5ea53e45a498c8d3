"""FMA for TensorFlow Datasets: `tfds build data/fma --config small`."""

import tensorflow_datasets as tfds

from musiclm_jax.data import features
from musiclm_jax.data.fma import corpus
from musiclm_jax.data.fma import metadata

_HOLDS = {'small': '8,000 excerpts of 30 s, 8 genres alike in number',
          'medium': '25,000 excerpts of 30 s, 16 genres',
          'large': '106,574 excerpts of 30 s, 161 genres',
          'full': '106,574 whole recordings, 161 genres'}


class Builder(features.TrackBuilder):
  """The Free Music Archive; a config for each subset."""

  BUILDER_CONFIGS = [
      tfds.core.BuilderConfig(name=name, description=_HOLDS[name])
      for name in metadata.SUBSETS]
  MANUAL_DOWNLOAD_INSTRUCTIONS = """
  fma_metadata.zip and fma_small.zip (or medium, large, full), from
  https://github.com/mdeff/fma; as they are, or unpacked. Zip files are held
  against their published SHA-1.
  """
  DESCRIPTION = ('Recordings of the Free Music Archive with titles, artists and '
                 'genres, under licences that allow to share them.')
  HOMEPAGE = 'https://github.com/mdeff/fma'
  LICENCE = corpus.LICENCE
  CITATION = """
  @inproceedings{defferrard2017fma,
    title = {FMA: A Dataset for Music Analysis},
    author = {Defferrard, Micha{\\"e}l and Benzi, Kirell and Vandergheynst, Pierre
              and Bresson, Xavier},
    booktitle = {ISMIR},
    year = {2017}
  }
  """

  def walk(self, folder):
    return corpus.walk(folder, self.builder_config.name, verify=True)
