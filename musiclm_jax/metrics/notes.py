"""Do two lists of notes agree? Note F1 of mir_eval.

A note is found if there is one of the same pitch, within half a semitone, that
begins within 50 ms of it; ends do not count (mir_eval's onset-only measure). Each
note is matched with one at most.
"""

from collections.abc import Sequence
import dataclasses
import importlib.util

import numpy as np

INSTALL = 'pip install mir_eval'
ONSET_SECONDS = 0.05
_CENTS = 50.0


@dataclasses.dataclass(frozen=True)
class Found:
  """Shares, 0..1: of the notes played that were asked for, and the reverse."""

  precision: float
  recall: float
  f1: float


def installed() -> bool:
  return importlib.util.find_spec('mir_eval') is not None


def score(asked: np.ndarray, heard: np.ndarray) -> Found:
  """How far `heard` has the notes of `asked`.

  Args:
    asked: [n, 3] start and end in seconds, MIDI number.
    heard: [m, 3].

  Returns:
    A `Found`; zeros where either has no notes.
  """
  if not len(asked) or not len(heard):
    return Found(0.0, 0.0, 0.0)
  from mir_eval import transcription  # pylint: disable=g-import-not-at-top
  parts = [(n[:, :2], hz(n[:, 2])) for n in (asked, heard)]
  precision, recall, f1, _ = transcription.precision_recall_f1_overlap(
      *parts[0], *parts[1], onset_tolerance=ONSET_SECONDS,
      pitch_tolerance=_CENTS, offset_ratio=None)
  return Found(float(precision), float(recall), float(f1))


def best_score(asked: np.ndarray, heard: np.ndarray) -> Found:
  """The same at the best transposition, with all notes in one octave.

  A melody may come back in another key, or an octave lower. Notes that coincide
  in the one octave count once.
  """
  one = _folded(asked, 0)
  tries = [score(one, _folded(heard, shift)) for shift in range(12)]
  return max(tries, key=lambda found: found.f1)


def _folded(notes, shift):
  if not len(notes):
    return notes
  folded = np.column_stack([
      notes[:, :2], 60.0 + (np.round(notes[:, 2]) + shift) % 12])
  _, first = np.unique(
      np.round(folded[:, [0, 2]], 3), axis=0, return_index=True)
  return folded[np.sort(first)]


def hz(midi: np.ndarray) -> np.ndarray:
  """MIDI numbers -> Hz."""
  return 440.0 * 2.0**((np.asarray(midi, np.float64) - 69.0) / 12.0)


def of_triples(triples: Sequence[Sequence[float]], start_seconds: float = 0.0,
               seconds: float = float('inf')) -> np.ndarray:
  """[start, duration, MIDI number] triples -> [n, 3] start, end, MIDI number.

  Args:
    triples: of a whole recording.
    start_seconds: where the clip begins in it.
    seconds: how long it is; notes that begin outside it are left out.

  Raises:
    ValueError: they are not triples of numbers.
  """
  try:
    notes = np.array([[float(x) for x in row] for row in triples], np.float64)
    notes = notes.reshape(-1, 3) if not len(notes) else notes
    if notes.ndim != 2 or notes.shape[1] != 3:
      raise ValueError
  except (TypeError, ValueError) as error:
    raise ValueError('a melody is not a list of [start, duration, MIDI number] '
                     'triples.') from error
  begins = notes[:, 0] - start_seconds
  notes = np.column_stack([begins, begins + notes[:, 1], notes[:, 2]])
  return notes[(begins >= 0) & (begins < seconds) & (notes[:, 1] > begins)]
