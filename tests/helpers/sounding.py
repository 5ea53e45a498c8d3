"""Does a sound have what any music has? Measures that noise and silence fail.

Beside each bound stands what the shipped bundle gives (eight clips of four
prompts) and what the sounds give that the bound is there to refuse.
"""

import numpy as np
import scipy.ndimage
import scipy.signal

_WINDOW, _HOP = 2048, 480


def faults(sound):
  """What is wrong with a mono sound of a second or more, at 24 kHz.

  Returns:
    A list of words, empty for a sound that may be music.
  """
  parts = np.array_split(sound, 8)
  levels = [np.sqrt(np.mean(part**2)) for part in parts]
  if max(levels) < 1e-3:
    return ['silent']
  found = []
  if min(levels) < 1e-4:
    found.append('silent in part')
  if flatness(sound) > 0.1:  # up to 0.014; white noise 0.56
    found.append('noise')
  if level_changes_db(sound) < 1.0:  # from 2.3; noise and a tone 0.2
    found.append('its level never changes')
  if persistence(sound) < 0.3:  # from 0.47; white noise 0.03, brown 0.1
    found.append('no partial is held')
  if persistence(sound, 50) > 0.95:  # up to 0.7; a tone 1.0
    found.append('one sound all the time')
  return found


def _spectra(sound):
  """[F, T] powers."""
  return np.abs(scipy.signal.stft(
      sound, nperseg=_WINDOW, noverlap=_WINDOW - _HOP, boundary=None,
      padded=False, scaling='spectrum')[2])**2 + 1e-14


def flatness(sound):
  """Geometric by arithmetic mean of a spectrum, the median over time: 0..1."""
  power = _spectra(sound)
  return np.median(np.exp(np.log(power).mean(0)) / power.mean(0))


def level_changes_db(sound):
  """Standard deviation of the level over time."""
  return np.std(10 * np.log10(_spectra(sound).sum(0)))


def persistence(sound, frames=2):
  """Likeness of spectra's fine structure to that of 20 ms * `frames` later.

  Fine structure is what is left of log-amplitudes when they are smoothed over
  280 Hz: partials. It lasts in notes; in noise each frame has another.
  1 is the same, 0 nothing in common.
  """
  # A floor, so that what is too soft to be heard does not count.
  logs = np.log(np.sqrt(_spectra(sound)) + 2e-7)
  fine = logs - scipy.ndimage.gaussian_filter1d(logs, 12, axis=0)
  fine = fine - fine.mean(0)
  one, other = fine[:, :-frames], fine[:, frames:]
  both = np.sqrt((one**2).sum(0) * (other**2).sum(0)) + 1e-12
  return np.median((one * other).sum(0) / both)
