"""MusicCaps for TensorFlow Datasets: `tfds build data/musiccaps`."""

from musiclm_jax.data import features
from musiclm_jax.data.musiccaps import corpus


class Builder(features.TrackBuilder):
  """MusicCaps, with what of its audio there is."""

  MANUAL_DOWNLOAD_INSTRUCTIONS = """
  musiccaps-public.csv, from https://huggingface.co/datasets/google/MusicCaps or
  https://www.kaggle.com/datasets/googleai/musiccaps, and a folder audio with the
  sound of its videos, whole or the ten seconds, such as 0123456789a.wav or
  [0123456789a]-[30-40].wav.
  """
  DESCRIPTION = ('5,521 ten-second clips of AudioSet with captions and aspects '
                 'written by musicians; those whose sound is at hand.')
  HOMEPAGE = 'https://www.kaggle.com/datasets/googleai/musiccaps'
  LICENCE = corpus.LICENCE
  CITATION = """
  @article{agostinelli2023musiclm,
    title = {MusicLM: Generating Music From Text},
    author = {Agostinelli, Andrea and Denk, Timo I. and Borsos, Zal{\\'a}n and
              Engel, Jesse and Verzetti, Mauro and Caillon, Antoine and Huang,
              Qingqing and Jansen, Aren and Roberts, Adam and Tagliasacchi, Marco
              and Sharifi, Matt and Zeghidour, Neil and Frank, Christian},
    journal = {arXiv:2301.11325},
    year = {2023}
  }
  """

  def walk(self, folder):
    return corpus.walk(folder / 'musiccaps-public.csv', folder / 'audio')
