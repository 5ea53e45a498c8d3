"""Notes in music of any number of voices: basic-pitch's model.

Bittner et al., "A lightweight instrument-agnostic model for polyphonic note
transcription and multipitch estimation" (2022). The package `basic-pitch`
(Apache-2.0) holds the model as ONNX; what reads its output here is ours.

  [N] -> windows of 2 s, 30 frames overlap -> [T, 88] onsets, [T, 88] notes
      -> a note from each onset to where its note's activation has ceased
"""

import functools
import importlib.util
import pathlib

import numpy as np

from musiclm_jax import errors

INSTALL = ('pip install onnxruntime && pip install --no-deps basic-pitch '
           'mir_eval')
RATE_HZ = 22_050
_HOP = 256
_WINDOW = 2 * RATE_HZ - _HOP
_OVERLAP_FRAMES = 30
_STRIDE = _WINDOW - _OVERLAP_FRAMES * _HOP
_LOWEST_MIDI = 21
_MODEL = 'saved_models/icassp_2022/nmp.onnx'
# The package's thresholds and shortest note.
_ONSET, _NOTE = 0.5, 0.3
_SHORTEST_FRAMES = 11
_GAP_FRAMES = 11  # so long below the threshold, and a note has ended


def model_path() -> pathlib.Path | None:
  """The installed package's ONNX file; the package itself is not imported."""
  found = importlib.util.find_spec('basic_pitch')
  if found is None or importlib.util.find_spec('onnxruntime') is None:
    return None
  for place in found.submodule_search_locations or ():
    if (pathlib.Path(place) / _MODEL).is_file():
      return pathlib.Path(place) / _MODEL
  return None


def transcribe(audio: np.ndarray, sample_rate_hz: int) -> np.ndarray:
  """The notes of [N] float32 samples.

  Returns:
    [n, 3] float64: start and end in seconds, MIDI number; by start.

  Raises:
    UserError: the package or onnxruntime is not installed.
  """
  onsets, notes, seconds = activations(audio, sample_rate_hz)
  return decode(onsets, notes, seconds)


def activations(audio: np.ndarray, sample_rate_hz: int
                ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """([T, 88] onsets, [T, 88] notes, [T] seconds) of [N] samples, all 0..1."""
  import soxr  # pylint: disable=g-import-not-at-top
  audio = np.asarray(audio, np.float32)
  if sample_rate_hz != RATE_HZ:
    audio = soxr.resample(audio, sample_rate_hz, RATE_HZ)
  # Half of the overlap is cut off each window, at both its ends.
  half = _OVERLAP_FRAMES // 2
  count = max(1, -(-len(audio) // _STRIDE))
  padded = np.zeros((count - 1) * _STRIDE + _WINDOW, np.float32)
  whole = np.concatenate([np.zeros(half * _HOP, np.float32), audio])
  padded[:len(whole)] = whole[:len(padded)]
  windows = np.lib.stride_tricks.sliding_window_view(padded, _WINDOW)[::_STRIDE]
  session = _session()
  # One after the other: all at once took no less time, and much memory.
  found = [session.run(
      ['StatefulPartitionedCall:1', 'StatefulPartitionedCall:2'],
      {'serving_default_input_2:0': window[None, :, None]})
           for window in windows]
  notes, onsets = (np.concatenate([parts[k][0, half:-half] for parts in found])
                   for k in (0, 1))
  each = len(notes) // count
  seconds = (np.arange(count)[:, None] * _STRIDE
             + np.arange(each)[None] * _HOP).ravel() / RATE_HZ
  keep = seconds < len(audio) / RATE_HZ
  return onsets[keep], notes[keep], seconds[keep]


def decode(onsets: np.ndarray, notes: np.ndarray,
           seconds: np.ndarray) -> np.ndarray:
  """Notes of activations.

  Args:
    onsets: [T, 88], how sure a note begins in a frame.
    notes: [T, 88], how sure it sounds.
    seconds: [T] of the frames.

  Returns:
    [n, 3]: start, end, MIDI number.
  """
  found = []
  for key in range(onsets.shape[1]):
    begin, on = onsets[:, key], notes[:, key] >= _NOTE
    padded = np.concatenate([[-1.0], begin, [-1.0]])
    peaks = np.flatnonzero((begin >= _ONSET) & (begin > padded[:-2])
                           & (begin >= padded[2:]))
    for start, following in zip(peaks, [*peaks[1:], len(begin)]):
      sounding = np.flatnonzero(on[start:following])
      if not len(sounding):
        continue
      # The first gap that is long enough ends it.
      gaps = np.flatnonzero(np.diff(sounding) > _GAP_FRAMES)
      end = start + 1 + sounding[gaps[0] if len(gaps) else -1]
      if end - start > _SHORTEST_FRAMES:
        found.append((seconds[start], seconds[min(end, len(seconds) - 1)],
                      key + _LOWEST_MIDI))
  return np.array(sorted(found), np.float64).reshape(-1, 3)


@functools.cache
def _session():
  path = model_path()
  if path is None:
    raise errors.UserError(f'basic-pitch is not installed; {INSTALL}.')
  import onnxruntime  # pylint: disable=g-import-not-at-top
  options = onnxruntime.SessionOptions()
  options.log_severity_level = 3
  return onnxruntime.InferenceSession(
      str(path), options, providers=['CPUExecutionProvider'])
