"""Does music follow the melody that it was given?

  contour  pitch of both, frame by frame: the share of frames with a pitch in
           both where the pitch classes are within half a semitone
  chroma   the mean cosine of chroma frames

Both are taken at the best of the 12 transpositions, since a melody may come
back in another key, and beside what the same melody gets at other times of the music
(chance). Pitch comes from swift-f0 where it is installed, else from librosa's
pYIN; in music of several voices either follows the loudest.
"""

import dataclasses
import importlib.util

import numpy as np

from musiclm_jax.evaluation import melody

_LOW_HZ, _HIGH_HZ = 65.0, 1_500.0
_FRAME_SECONDS = 0.02
_SHIFTS = 12  # other times that chance is taken from


@dataclasses.dataclass(frozen=True)
class Adherence:
  """Shares and cosines, 0..1; None where nothing could be compared.

  Attributes:
    contour: share of frames whose pitch class agrees.
    contour_chance: the same at other times.
    frames: frames with a pitch in both.
    chroma: mean cosine.
    chroma_chance: the same at other times.
    tracker: what found the pitch.
  """

  contour: float | None
  contour_chance: float | None
  frames: int
  chroma: float
  chroma_chance: float
  tracker: str


def measure(
    sound: np.ndarray, tune: np.ndarray, sample_rate_hz: int) -> Adherence:
  """Adherence of a sound to a melody that begins with it.

  Args:
    sound: [N] float32, the music.
    tune: [M] float32, the recording of the melody; the shorter one counts.
    sample_rate_hz: of both.

  Returns:
    An `Adherence`.
  """
  length = min(len(sound), len(tune))
  sound, tune = (np.asarray(x[:length], np.float32) for x in (sound, tune))
  tracker = ('swift-f0' if importlib.util.find_spec('swift_f0') else
             'librosa pYIN')
  track = _swift if tracker == 'swift-f0' else _pyin
  ours, theirs = (track(x, sample_rate_hz) for x in (sound, tune))
  contour, chance = _best(_agreement, ours, theirs)
  chromas = [melody.chroma(x, sample_rate_hz) for x in (sound, tune)]
  cosine = lambda a, b, shift: (a * np.roll(b, shift, axis=0)).sum(0).mean()
  similar, similar_chance = _best(cosine, *chromas)
  both = np.isfinite(ours) & np.isfinite(theirs)
  return Adherence(contour, chance, int(both.sum()), similar, similar_chance,
                   tracker)


def _best(score, ours, theirs):
  """(score at the best transposition, its mean at other times), or None."""
  at = lambda other: max(
      (s for s in (score(ours, other, shift) for shift in range(12))
       if s is not None), default=None)
  length = ours.shape[-1]
  steps = [round(length * (k + 1) / (_SHIFTS + 1)) for k in range(_SHIFTS)]
  others = [at(np.roll(theirs, step, axis=-1)) for step in steps]
  others = [float(x) for x in others if x is not None]
  found = at(theirs)
  return (None if found is None else float(found),
          float(np.mean(others)) if others else None)


def _agreement(ours, theirs, shift):
  """Share of frames whose pitch classes, in semitones, agree; None of none."""
  both = np.isfinite(ours) & np.isfinite(theirs)
  if not both.any():
    return None
  apart = (ours[both] - theirs[both] - shift + 6.0) % 12.0 - 6.0
  return float(np.mean(np.abs(apart) <= 0.5))


def _semitones(seconds, hz, voiced, length):
  """Pitch on a grid of frames, in semitones, NaN where there is none."""
  grid = np.arange(0.0, length, _FRAME_SECONDS)
  nearest = np.abs(grid[:, None] - np.asarray(seconds)[None]).argmin(1)
  hz = np.where(voiced, hz, np.nan)[nearest]
  return 12.0 * np.log2(hz / 440.0)


def _swift(audio, rate):
  import swift_f0  # pylint: disable=g-import-not-at-top
  found = swift_f0.SwiftF0().detect(audio, rate, fmin=_LOW_HZ, fmax=_HIGH_HZ)
  return _semitones(found.timestamps, found.pitch_hz, found.confidence >= 0.5,
                    len(audio) / rate)


def _pyin(audio, rate):
  import librosa  # pylint: disable=g-import-not-at-top
  hop = int(_FRAME_SECONDS * rate)
  hz, voiced, _ = librosa.pyin(
      y=audio, sr=rate, fmin=_LOW_HZ, fmax=_HIGH_HZ, frame_length=2048,
      hop_length=hop, resolution=0.25)
  seconds = np.arange(len(hz)) * hop / rate
  return _semitones(seconds, hz, voiced, len(audio) / rate)
