"""Names for a number: cuts between classes, and judges that never saw a clip.

A number, such as the strength of onsets, becomes an answer, such as "drums", by
cuts that are placed on clips whose answer is known. A judge of such cuts, or of
anything else that is fitted, is asked about a clip of those in the version that
was fitted without the clip's track.
"""

from collections.abc import Callable
from collections.abc import Sequence
import zlib

import numpy as np
import numpy.typing as npt

FOLDS = 5
_Predict = Callable[[np.ndarray], np.ndarray]


def fit(values: npt.ArrayLike, names: npt.ArrayLike) -> _Predict:
  """A function of [m] numbers -> [m] names.

  Names are ordered by the median of their numbers. Each cut is where the two
  names beside it are told apart best, both counted alike however frequent they
  are.

  Args:
    values: [n] numbers.
    names: [n] what each of them means.

  Raises:
    ValueError: fewer than two names.
  """
  values, names = np.asarray(values, np.float64), np.asarray(names)
  known = np.unique(names)
  if len(known) < 2:
    raise ValueError(f'{len(known)} name; expected two at least.')
  medians = [np.median(values[names == name]) for name in known]
  known = known[np.argsort(medians, kind='stable')]
  edges = [_cut(values[names == low], values[names == high])
           for low, high in zip(known, known[1:])]
  edges = np.maximum.accumulate(edges)
  return lambda asked: known[np.searchsorted(
      edges, np.asarray(asked, np.float64), side='right')]


def _cut(below, above):
  """Where most of `below` is below and most of `above` is not."""
  places = np.unique(np.concatenate([below, above]))
  middles = (places[1:] + places[:-1]) / 2 if len(places) > 1 else places
  right = (np.searchsorted(np.sort(below), middles, side='left') / len(below)
           - np.searchsorted(np.sort(above), middles, side='left') / len(above))
  best = np.flatnonzero(right >= right.max() - 1e-12)
  return float(middles[best[len(best) // 2]])


class CrossFitted:
  """A judge in as many versions as there are folds of tracks, and a whole one."""

  def __init__(self, fit_: Callable[[np.ndarray, np.ndarray], _Predict],
               inputs: npt.ArrayLike, names: npt.ArrayLike,
               tracks: Sequence[str], folds: int = FOLDS):
    """Fits.

    Args:
      fit_: ([n, ...] inputs, [n] names) -> function of inputs -> names; it may
        raise ValueError where it cannot be fitted.
      inputs: [n, ...].
      names: [n] what is right of each.
      tracks: [n] names; a track's fold is a hash of its name.
      folds: how many.

    Raises:
      ValueError: `fit_` raised it, of all clips or of those of a version.
    """
    inputs, names = np.asarray(inputs), np.asarray(names)
    self._known = {str(track) for track in tracks}
    self._folds = folds
    place = np.array([self._fold(track) for track in tracks])
    self._whole = fit_(inputs, names)
    self._parts = [fit_(inputs[place != k], names[place != k])
                   if (place == k).any() else self._whole for k in range(folds)]

  def _fold(self, track):
    return zlib.crc32(str(track).encode()) % self._folds

  def predict(self, inputs: npt.ArrayLike, tracks: Sequence[str]) -> np.ndarray:
    """[m] names of [m, ...] inputs of these tracks."""
    inputs = np.asarray(inputs)
    version = np.array([self._fold(track) if str(track) in self._known else -1
                        for track in tracks], int)
    answers = np.empty(len(inputs), object)
    for k in np.unique(version):
      judge = self._whole if k < 0 else self._parts[k]
      answers[version == k] = judge(inputs[version == k])
    return np.array(answers.tolist())
