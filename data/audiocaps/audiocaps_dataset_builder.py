"""AudioCaps for TensorFlow Datasets: `tfds build data/audiocaps`."""

from musiclm_jax.data import features
from musiclm_jax.data.audiocaps import corpus


class Builder(features.TrackBuilder):
  """AudioCaps, with what of its audio there is."""

  MANUAL_DOWNLOAD_INSTRUCTIONS = """
  train.csv, val.csv and test.csv, from https://github.com/cdjkim/audiocaps, and a
  folder audio with the sound of the videos, whole or the ten seconds, such as
  0123456789a.wav or 0123456789a_30.wav.
  """
  DESCRIPTION = ('Ten-second clips of AudioSet with captions of what sounds in '
                 'them; those whose sound is at hand.')
  HOMEPAGE = 'https://audiocaps.github.io'
  LICENCE = corpus.LICENCE
  CITATION = """
  @inproceedings{kim2019audiocaps,
    title = {AudioCaps: Generating Captions for Audios in The Wild},
    author = {Kim, Chris Dongjoo and Kim, Byeongchang and Lee, Hyunmin and Kim,
              Gunhee},
    booktitle = {NAACL-HLT},
    year = {2019}
  }
  """

  def walk(self, folder):
    return corpus.walk(folder, folder / 'audio')
