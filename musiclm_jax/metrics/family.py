"""Is the instrument family that was asked for the one that is heard?

  musicnn's tags -> logits -> standardised per family -> the largest   (primary)
  log-mel statistics -> logistic regression fitted on train clips    (secondary)

Both hear families; `agreement` counts, `chance` and `p_value` say what
shuffled answers would give. musicnn never saw our corpora; the classifier did,
and shares nothing with the models it judges.
"""

from collections.abc import Sequence
import functools
from typing import Self

import numpy as np
import numpy.typing as npt

from musiclm_jax import errors
from musiclm_jax.listeners import classifiers

# folk_gm's families -> tags of MTT_musicnn that mean them. Reeds, free reeds,
# mallets and brass have no tag.
FAMILY_TAGS = {
    'bowed strings': ('violin', 'cello', 'strings'),
    'plucked strings': ('guitar', 'harp', 'sitar'),
    'keyboards': ('piano', 'harpsichord'),
    'flutes': ('flute',),
    'voice': ('choir', 'choral', 'voice', 'vocal', 'vocals', 'singing'),
    'synthesisers': ('synth', 'electronic'),
}
JUDGED = tuple(FAMILY_TAGS)

# The classifier's front end and strength (ours, chosen on train clips).
_WINDOW_SAMPLES = 1024
_HOP_SAMPLES = 480
_NUM_MELS = 64
_LOW_HZ, _HIGH_HZ = 60.0, 11_000.0
_FLOOR = -1.0  # nats, of audio at unit power
_INVERSE_PENALTY = 0.03


class TagJudge:
  """Hears one of `JUDGED` in tag probabilities.

  A tag that is often high (guitar) must not win every clip: each tag, then each
  family's largest tag, is standardised over reference clips, without labels.
  """

  def __init__(self, tags: Sequence[str], reference: np.ndarray):
    """A judge calibrated on reference clips.

    Args:
      tags: names of the tags, as `MusicNN.tags`.
      reference: [R, len(tags)] probabilities of real clips, R >= 2.

    Raises:
      ValueError: a tag of `FAMILY_TAGS` is missing, or too few clips.
    """
    missing = {t for names in FAMILY_TAGS.values() for t in names} - set(tags)
    if missing:
      raise ValueError(
          f'tags lack {sorted(missing)}; expected those of MTT_musicnn.')
    reference = np.asarray(reference)
    if reference.ndim != 2 or reference.shape[1] != len(tags) or (
        len(reference) < 2):
      raise ValueError(
          f'reference has shape {reference.shape}; expected [R, {len(tags)}] '
          f'with R >= 2.')
    self._columns = [
        [list(tags).index(t) for t in names] for names in FAMILY_TAGS.values()]
    self._tag_moments = _moments(classifiers.logits_of(reference))
    self._family_moments = _moments(self._largest(reference))

  def scores(self, probabilities: np.ndarray) -> np.ndarray:
    """[B, len(tags)] -> [B, len(JUDGED)] standardised evidence."""
    return _standardise(self._largest(probabilities), self._family_moments)

  def predict(self, probabilities: np.ndarray) -> np.ndarray:
    """[B, len(tags)] -> [B] names among `JUDGED`."""
    return np.array(JUDGED)[self.scores(probabilities).argmax(axis=1)]

  def _largest(self, probabilities):
    values = _standardise(classifiers.logits_of(probabilities), self._tag_moments)
    return np.stack(
        [values[:, columns].max(axis=1) for columns in self._columns], axis=1)


class TimbreClassifier:
  """Logistic regression on log-mel statistics, fitted on labelled clips.

  Fit it on real clips and on the same clips through the codec: fitted on 120
  real ones alone, it was not told from chance on audio of the first shipped
  codec (0.17 against 0.12); fitted on both it agreed in 0.32.
  """

  def __init__(self, sample_rate_hz: int = 24_000):
    self.sample_rate_hz = sample_rate_hz
    self._model = None

  def fit(self, audio: np.ndarray, labels: npt.ArrayLike) -> Self:
    """Fits to [B, N] float audio and its B labels; returns itself.

    Raises:
      UserError: fewer than two different labels.
    """
    return self.fit_statistics(self._features(audio), labels)

  def fit_statistics(self, statistics: np.ndarray,
                     labels: npt.ArrayLike) -> Self:
    """The same of [B, D] `timbre_statistics`."""
    from sklearn import linear_model  # pylint: disable=g-import-not-at-top
    from sklearn import pipeline  # pylint: disable=g-import-not-at-top
    from sklearn import preprocessing  # pylint: disable=g-import-not-at-top
    labels = np.asarray(labels)
    if len(labels) != len(statistics):
      raise ValueError(
          f'{len(statistics)} clips came with {len(labels)} labels.')
    if len(set(labels.tolist())) < 2:
      raise errors.UserError(
          f'the clips carry {len(set(labels.tolist()))} instrument family; '
          f'expected at least 2 to tell apart.')
    self._model = pipeline.make_pipeline(
        preprocessing.StandardScaler(),
        linear_model.LogisticRegression(C=_INVERSE_PENALTY, max_iter=2000))
    self._model.fit(statistics, labels)
    return self

  def predict(self, audio: np.ndarray) -> np.ndarray:
    """[B, N] float -> [B] labels among those fitted."""
    return self.predict_statistics(self._features(audio))

  def predict_statistics(self, statistics: np.ndarray) -> np.ndarray:
    """[B, D] `timbre_statistics` -> [B] labels among those fitted."""
    if self._model is None:
      raise ValueError('the classifier is not fitted; call fit first.')
    return self._model.predict(statistics)

  def _features(self, audio):
    return np.stack(
        [timbre_statistics(clip, self.sample_rate_hz) for clip in audio])


def timbre_statistics(clip: np.ndarray, sample_rate_hz: int) -> np.ndarray:
  """[N] -> [5 * 64] float: level, spread and temporal change of each mel band.

  The clip's loudness is divided out. The five are mean, deviation, mean step in
  time (unsigned), deviation of the rising and mean of the falling steps: a
  plucked string rises at once and falls slowly, a flute does neither.
  """
  clip = np.asarray(clip, np.float64)
  clip = np.pad(clip, (0, max(0, 2 * _WINDOW_SAMPLES - len(clip))))
  clip = clip / (np.sqrt(np.mean(np.square(clip))) + 1e-9)
  frames = np.lib.stride_tricks.sliding_window_view(
      clip, _WINDOW_SAMPLES)[::_HOP_SAMPLES] * np.hanning(_WINDOW_SAMPLES)
  power = np.square(np.abs(np.fft.rfft(frames)))
  mels = np.log(power @ _mel_matrix(sample_rate_hz) + 1e-3)
  mels = np.maximum(mels, _FLOOR)
  steps = np.diff(mels, axis=0)
  return np.concatenate([
      mels.mean(0), mels.std(0), np.abs(steps).mean(0),
      steps.clip(min=0).std(0), (-steps).clip(min=0).mean(0)])


@functools.cache
def _mel_matrix(sample_rate_hz):
  """[513, 64] Slaney triangles."""
  import librosa  # pylint: disable=g-import-not-at-top
  return librosa.filters.mel(
      sr=sample_rate_hz, n_fft=_WINDOW_SAMPLES, n_mels=_NUM_MELS, fmin=_LOW_HZ,
      fmax=min(_HIGH_HZ, sample_rate_hz / 2)).T


def is_judged(families: npt.ArrayLike) -> np.ndarray:
  """[B] bool: whether musicnn has a tag for each family."""
  return np.isin(np.asarray(families), JUDGED)


def agreement(asked: npt.ArrayLike, heard: npt.ArrayLike) -> float:
  """The share of clips in which the family heard is the one asked for."""
  asked, heard = _pair(asked, heard)
  return float(np.mean(asked == heard))


def chance(asked: npt.ArrayLike, heard: npt.ArrayLike) -> float:
  """The agreement expected when the answers are shuffled among the clips.

  sum over families of p(asked) p(heard): a judge that hears a flute in every
  clip agrees by chance as often as a flute was asked for.
  """
  asked, heard = _pair(asked, heard)
  return float(sum(
      np.mean(asked == f) * np.mean(heard == f) for f in np.unique(asked)))


def p_value(
    asked: npt.ArrayLike, heard: npt.ArrayLike, num_permutations: int = 10_000,
    seed: int = 0) -> float:
  """The share of shuffles that agree at least as often; never below 1 / 10,001.

  The actual order counts as one of them, so that the test is exact.
  """
  asked, heard = _pair(asked, heard)
  rng = np.random.default_rng(seed)
  names, codes = np.unique(np.concatenate([asked, heard]), return_inverse=True)
  del names
  asked, heard = codes[:len(asked)], codes[len(asked):]
  shuffled = rng.permuted(
      np.tile(heard, (num_permutations, 1)), axis=1)
  hits = (shuffled == asked).sum(axis=1)
  better = np.sum(hits >= np.sum(asked == heard))
  return float((1 + better) / (1 + num_permutations))


def _pair(asked, heard):
  asked, heard = np.asarray(asked), np.asarray(heard)
  if asked.shape != heard.shape or asked.ndim != 1 or not len(asked):
    raise ValueError(
        f'asked has shape {asked.shape} and heard {heard.shape}; expected the '
        f'same number of clips, one at least.')
  return asked, heard


def _moments(values):
  return values.mean(axis=0), values.std(axis=0) + 1e-6


def _standardise(values, moments):
  return (values - moments[0]) / moments[1]
