"""AudioSet for TensorFlow Datasets: `tfds build data/audioset_labels`."""

from musiclm_jax.data import features
from musiclm_jax.data.audioset_labels import corpus


class Builder(features.TrackBuilder):
  """AudioSet's clips and labels, with what of its audio there is."""

  MANUAL_DOWNLOAD_INSTRUCTIONS = """
  class_labels_indices.csv and one or more of balanced_train_segments.csv,
  unbalanced_train_segments.csv and eval_segments.csv, from
  https://research.google.com/audioset/download.html, and a folder audio with the
  sound of the videos, whole or the ten seconds, such as 0123456789a.wav or
  0123456789a_30000_40000.flac.
  """
  DESCRIPTION = ('Ten-second clips of videos with the names of 527 classes of '
                 'sounds; those whose sound is at hand.')
  HOMEPAGE = 'https://research.google.com/audioset/'
  LICENCE = corpus.LICENCE
  CITATION = """
  @inproceedings{gemmeke2017audioset,
    title = {Audio Set: An ontology and human-labeled dataset for audio events},
    author = {Gemmeke, Jort F. and Ellis, Daniel P. W. and Freedman, Dylan and
              Jansen, Aren and Lawrence, Wade and Moore, R. Channing and Plakal,
              Manoj and Ritter, Marvin},
    booktitle = {ICASSP},
    year = {2017}
  }
  """

  def walk(self, folder):
    return corpus.walk(folder, folder / 'audio')
