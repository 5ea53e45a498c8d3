"""Does music follow the melody that it was given?

  contour  pitch of both, frame by frame: the share of frames with a pitch in
           both where the pitch classes are within half a semitone
  chroma   the mean cosine of chroma frames

Both are taken at the best of the 12 transpositions, since a melody may come
back in another key, and beside what the same melody gets at other times of the
music (chance). Pitch comes from swift-f0 where it is installed, else from
librosa's pYIN (listeners/pitch.py); in music of several voices either follows the
loudest.
"""

import dataclasses

import numpy as np

from musiclm_jax.evaluation import melody
from musiclm_jax.listeners import pitch

_SHIFTS = 12  # other times that chance is taken from


@dataclasses.dataclass(frozen=True)
class Heard:
  """What is compared of one sound.

  Attributes:
    contour: [T] MIDI numbers, NaN where there is no pitch; 50 frames a second.
    chroma: [12, T'] of unit length, 5 frames a second.
  """

  contour: np.ndarray
  chroma: np.ndarray


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
  ours, theirs = (listen(x[:length], sample_rate_hz) for x in (sound, tune))
  contour, chance = _best(_agreement, ours.contour, theirs.contour)
  similar, similar_chance = _best(_cosine, ours.chroma, theirs.chroma)
  both = np.isfinite(ours.contour) & np.isfinite(theirs.contour)
  return Adherence(contour, chance, int(both.sum()), similar, similar_chance,
                   pitch.tracker())


def listen(sound: np.ndarray, sample_rate_hz: int) -> Heard:
  """What is compared of [N] samples; `compare` takes two of them."""
  sound = np.asarray(sound, np.float32)
  return Heard(pitch.contour(sound, sample_rate_hz),
               melody.chroma(sound, sample_rate_hz))


def compare(sound: Heard, tune: Heard) -> tuple[float | None, float]:
  """How a sound follows a melody; the shorter one counts.

  Returns:
    (share of the melody's frames with a pitch in which the sound has that pitch
    class, mean cosine of chroma), each at its best transposition. Unlike
    `Adherence.contour`, frames where the sound has no pitch count as wrong: of
    noise, one frame of which has a pitch, that one would agree at some
    transposition. None where the melody has no pitch.
  """
  cut = lambda a, b: (x[..., :min(a.shape[-1], b.shape[-1])] for x in (a, b))
  ours, theirs = cut(sound.contour, tune.contour)
  asked = int(np.isfinite(theirs).sum())
  both = int((np.isfinite(ours) & np.isfinite(theirs)).sum())
  agree = _transposed(_agreement, ours, theirs)
  return (None if not asked else (agree or 0.0) * both / asked,
          _transposed(_cosine, *cut(sound.chroma, tune.chroma)))


def _best(score, ours, theirs):
  """(score at the best transposition, its mean at other times), or None."""
  length = ours.shape[-1]
  steps = [round(length * (k + 1) / (_SHIFTS + 1)) for k in range(_SHIFTS)]
  others = [_transposed(score, ours, np.roll(theirs, step, axis=-1))
            for step in steps]
  others = [float(x) for x in others if x is not None]
  return (_transposed(score, ours, theirs),
          float(np.mean(others)) if others else None)


def _transposed(score, ours, theirs):
  """The score at the best of the 12 transpositions, or None."""
  found = [score(ours, theirs, shift) for shift in range(12)]
  found = [float(s) for s in found if s is not None]
  return max(found) if found else None


def _cosine(ours, theirs, shift):
  """Mean cosine of frames of chroma."""
  return (ours * np.roll(theirs, shift, axis=0)).sum(0).mean()


def _agreement(ours, theirs, shift):
  """Share of frames whose pitch classes, in semitones, agree; None of none."""
  both = np.isfinite(ours) & np.isfinite(theirs)
  if not both.any():
    return None
  apart = (ours[both] - theirs[both] - shift + 6.0) % 12.0 - 6.0
  return float(np.mean(np.abs(apart) <= 0.5))
