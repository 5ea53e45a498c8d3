"""Audio longer than a stage's crop: windows, and how they are put together.

Semantic (paper): windows advance by half of their length, 15 s of 30, with the
other half as prefix. Coarse (ours): 10 s windows, the last 5 s of the previous
one as prefix. Fine (paper: AudioLM): independent 3 s windows in batches; the
last one is aligned to the end and what it shares with the one before it is
forced (ours).

40 s of semantic tokens come from two windows, the second of which keeps 15 s
and draws 10 s; 10 s of fine tokens from three windows and one that draws 1 s:

>>> for w in overlapping(40, window=30): print(w)
Window(index=0, start=0, stop=30, drawn_from=0)
Window(index=1, start=15, stop=40, drawn_from=30)
>>> for w in aligned(10, window=3): print(w)
Window(index=0, start=0, stop=3, drawn_from=0)
Window(index=1, start=3, stop=6, drawn_from=3)
Window(index=2, start=6, stop=9, drawn_from=6)
Window(index=3, start=7, stop=10, drawn_from=9)

All in seconds; every frame is drawn once:

>>> [w.stop - w.drawn_from for w in overlapping(23, window=10)]
[10, 5, 5, 3]
"""

import dataclasses

import numpy as np

from musiclm_jax.generation import sampler as sampler_lib

FINE_ROWS = 4  # windows of a fine batch, real or not, of up to 4 samples


@dataclasses.dataclass(frozen=True)
class Window:
  """Seconds start..stop, of which drawn_from..stop are new."""

  index: int
  start: int
  stop: int
  drawn_from: int


def overlapping(seconds, window):
  """Windows that each keep half of the one before as their prefix."""
  prefix = window // 2
  windows = [Window(0, 0, min(window, seconds), 0)]
  while windows[-1].stop < seconds:
    last = windows[-1].stop
    start = last - prefix
    windows.append(Window(
        len(windows), start, min(start + window, seconds), last))
  return windows


def aligned(seconds, window):
  """Windows side by side; the last one is moved back to end at the end."""
  windows = []
  for first in range(0, seconds, window):
    stop = min(first + window, seconds)
    windows.append(Window(len(windows), max(0, stop - window), stop, first))
  return windows


@dataclasses.dataclass
class Request:
  """What the stages share while a batch of rows is generated.

  Attributes:
    seconds: whole seconds.
    seed: the user's.
    samples: [B] index of each row's sample, for its random key.
    codes: {segment: [B, T, Q]}: grows from stage to stage. 'melody' has a row
      for every second, of the 4 s that begin there; without it, stages that
      could be given one do without.
    progress: None or a function of (stage, seconds done, seconds in all).
  """

  seconds: int
  seed: int
  samples: np.ndarray
  codes: dict
  progress: object = None

  def report(self, stage, done):
    if self.progress is not None:
      self.progress(stage, min(done, self.seconds), self.seconds)


def generate_stage(sampler, request, draw):
  """Fills `request.codes` with the target of the sampler's stage."""
  spec = sampler.stage.spec
  name, crop = spec.target, spec.crop_seconds
  target = sampler.layout.target
  rate = target.num_frames // crop
  request.codes[name] = np.full(
      (len(request.samples), request.seconds * rate, target.num_codebooks), -1,
      np.int32)
  request.report(name, 0)
  if name == 'fine':
    _generate_side_by_side(sampler, request, draw)
    return
  for window in overlapping(request.seconds, crop):
    _draw_windows(sampler, request, draw, [window])
    request.report(name, window.stop)


def _generate_side_by_side(sampler, request, draw):
  """All windows but one that overlaps, in batches; then that one."""
  name = sampler.stage.spec.target
  windows = aligned(request.seconds, sampler.stage.spec.crop_seconds)
  free = [w for w in windows if w.start == w.drawn_from]
  count = len(request.samples)
  rows = FINE_ROWS if count <= FINE_ROWS else sampler_lib.ROW_COUNTS[-1]
  step = max(1, rows // count)
  for first in range(0, len(free), step):
    part = free[first:first + step]
    _draw_windows(sampler, request, draw, part, rows=rows)
    request.report(name, part[-1].stop)
  if len(free) < len(windows):
    _draw_windows(sampler, request, draw, windows[-1:])
    request.report(name, request.seconds)


def _draw_windows(sampler, request, draw, windows, rows=None):
  """Draws windows of equal length and prefix for every row of the request."""
  layout, target = sampler.layout, sampler.layout.target
  codes = request.codes
  rate = target.num_frames // sampler.stage.spec.crop_seconds
  tokens = np.concatenate(
      [_window_tokens(sampler, codes, window) for window in windows])
  first = windows[0]
  per_second = rate * target.num_codebooks
  at = lambda second: target.start + (second - first.start) * per_second
  count = len(request.samples)
  keys = sampler_lib.row_keys(
      request.seed, target.name,
      np.repeat([w.index for w in windows], count),
      np.tile(request.samples, len(windows)))
  tokens = sampler.sample(
      tokens, keys, prompt=at(first.drawn_from), stop=at(first.stop),
      draw=draw, rows=rows)
  drawn = layout.split(tokens)[target.name]
  for i, window in enumerate(windows):
    part = drawn[i * count:(i + 1) * count]
    skip, length = window.drawn_from - window.start, window.stop - window.start
    codes[target.name][:, window.drawn_from * rate:window.stop * rate] = (
        part[:, skip * rate:length * rate])


def _window_tokens(sampler, codes, window):
  """[B, L] tokens of a window: its conditions and what is drawn already."""
  layout, crop = sampler.layout, sampler.stage.spec.crop_seconds
  parts = {}
  for placed in layout.placed:
    if placed.name == 'melody':
      parts['melody'] = _window_melody(sampler.stage.spec, codes, window)
      continue
    known = codes[placed.name]
    if placed.name != 'mulan':  # one for all of the audio
      rate = placed.num_frames // crop
      stop = window.drawn_from if placed is layout.target else window.stop
      known = known[:, window.start * rate:stop * rate]
    missing = placed.num_frames - known.shape[1]
    parts[placed.name] = np.pad(
        known, ((0, 0), (0, missing), (0, 0)), constant_values=-1)
  return layout.build(parts)


def _window_melody(spec, codes, window):
  """[B, W, Q] melody codes of a window of `spec`'s crop, -1 where none are.

  A crop of 30 s from second 15 takes the rows of seconds 15, 18, ... 39.
  """
  melody = spec.tokens.melody
  rows = len(next(iter(codes.values())))
  count = melody.num_windows(spec.crop_seconds)
  parts = np.full((rows, count, melody.num_codebooks), -1, np.int32)
  if 'melody' in codes:
    known = codes['melody'][:, window.start::melody.window_stride_seconds]
    known = known[:, :count]
    parts[:, :known.shape[1]] = known
  return parts
