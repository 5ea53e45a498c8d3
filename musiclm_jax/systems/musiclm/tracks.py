"""A request on its way through the stages: what is drawn, window by window.

Every stage has a track: its windows, the one it is drawing, and how far it is.
A track draws a piece of a second and stops, so that what is done can be heard,
shown or dropped. The order in which tracks are asked changes no token: a
window's random key comes from its index, its programs have one shape, and a
fine window has its own place in the batch.
"""

import bisect
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses

import numpy as np

from musiclm_jax import specs
from musiclm_jax.decoding import categorical
from musiclm_jax.decoding import sampler as sampler_lib
from musiclm_jax.systems.musiclm import settings as settings_lib
from musiclm_jax.systems.musiclm import windows as windows_lib

PIECE_SECONDS = 1  # what is drawn between two chances to stop


@dataclasses.dataclass
class Request:
  """What the stages share while a batch of rows is generated.

  Attributes:
    seconds: whole seconds of all the audio.
    seed: the user's.
    samples: [B] index of each row's sample, for its random key.
    codes: {segment: [B, T, Q]}: grows from stage to stage. A stage's own may
      cover the first seconds already. What holds for a whole crop, as 'mulan',
      has a row for each of `changes`. What has windows, as 'melody', has a row
      for every second, of the 4 s that begin there; without it, stages that
      could be given one do without.
    progress: None or a function of (stage, seconds done, seconds in all). What
      it raises ends the work.
    changes: seconds from which the rows of 'mulan', or of another stream of
      the kind 'crop', are in force.
    rows: the shape that rows are padded to; by default the next of 1, 2, 4, 8.
  """

  seconds: int
  seed: int
  samples: np.ndarray
  codes: dict
  progress: Callable[[str, int, int], None] | None = None
  changes: tuple = (0,)
  rows: int = 0

  def __post_init__(self):
    self.rows = self.rows or sampler_lib.padded_rows(len(self.samples))

  def report(self, stage: str, done: int) -> None:
    if self.progress is not None:
      self.progress(stage, min(done, self.seconds), self.seconds)

  def prompt_at(self, second: int) -> int:
    """The row of a 'crop' stream that is in force."""
    return bisect.bisect_right(self.changes, second) - 1


class Track:
  """One stage's way through its windows.

  Attributes:
    name: of the stage.
    conditions: names of the segments that its windows look at.
    done: seconds that are drawn, without a gap.
    windows: all of them.
  """

  def __init__(self, sampler: sampler_lib.Sampler, request: Request,
               draw: categorical.Draw = categorical.Draw(), lanes: int = 1):
    """A track; puts an array for the whole of its target into the request.

    Args:
      sampler: the stage's Sampler.
      request: the Request.
      draw: how its tokens are drawn.
      lanes: windows that are drawn side by side, where the stage's stand so.
    """
    spec, target = sampler.stage.spec, sampler.layout.target
    self.name, self.conditions = spec.target, spec.conditions
    self._sampler, self._request, self._draw = sampler, request, draw
    self._rate = target.stream.rate_hz
    known = request.codes.get(self.name)
    codes = np.full((len(request.samples), request.seconds * self._rate,
                     target.num_codebooks), -1, np.int32)
    if known is not None:
      codes[:, :known.shape[1]] = known
    request.codes[self.name] = codes
    self.done = 0 if known is None else known.shape[1] // self._rate
    plan = windows_lib.PLANS[self.name]
    self._lanes = 1 if plan.overlap else lanes
    self.windows = plan.windows(
        request.seconds, spec.crop_seconds, request.changes, self.done)
    self._next = 0  # the first window that has not begun
    self._batch = None
    if self.windows:
      request.report(self.name, self.done)

  @property
  def wants(self) -> int:
    """Up to which second its conditions should be there before it goes on.

    Of windows side by side one at first, so that something is heard soon, then
    as many as are done, up to a batch: there is something to hear meanwhile.
    """
    if self._batch:
      return 0
    count = min(self._lanes, max(1, self._next))
    return self.windows[self._next:self._next + count][-1].stop

  def advance(self, available: int) -> None:
    """Draws a piece.

    Args:
      available: seconds of the conditions that are there, at least those of the
        next window.
    """
    batch = self._batch or self._begin(available)
    batch.advance()
    for window, codes in zip(batch.windows, batch.codes()):
      first = window.drawn_from * self._rate
      self._request.codes[self.name][:, first:first + codes.shape[1]] = codes
    first, last = batch.windows[0], batch.windows[-1]
    self.done = last.stop if batch.finished else first.drawn_from + batch.drawn
    self._request.report(
        self.name, first.drawn_from + batch.drawn * len(batch.windows))
    self._batch = None if batch.finished else batch

  def _begin(self, available):
    """The next windows that can be drawn together, as a `_Batch`."""
    first, *others = self.windows[self._next:self._next + self._lanes]
    shape = lambda w: (w.drawn_from - w.start, w.stop - w.start)
    batch = [first]
    for window in others:
      if window.stop > available or shape(window) != shape(first):
        break
      batch.append(window)
    self._next += len(batch)
    return _Batch(self._sampler, self._request, self._draw, batch, self._lanes)


class _Batch:
  """Windows of equal length and prefix for every row of the request.

  Window i stands in lane `i % lanes` whatever others are drawn with it.
  """

  def __init__(self, sampler, request, draw, windows, lanes):
    self.windows, self.drawn = windows, 0
    self._layout, self._sampler = sampler.layout, sampler
    self._count = len(request.samples)
    places = np.zeros((lanes, request.rows), int)  # others repeat the first
    self._lanes = [window.index % lanes for window in windows]
    for number, lane in enumerate(self._lanes):
      places[lane, :self._count] = (
          number * self._count + np.arange(self._count))
    places = places.reshape(-1)
    tokens = np.concatenate(
        [_window_tokens(sampler, request, window) for window in windows])
    keys = categorical.row_keys(
        request.seed, settings_lib.STAGES.index(self._layout.target.name),
        np.repeat([w.index for w in windows], self._count)[places],
        np.tile(request.samples, len(windows))[places])
    self._length = windows[0].stop - windows[0].drawn_from
    self._prefix = windows[0].drawn_from - windows[0].start
    self._rows = request.rows
    self._decoding = sampler.begin(
        tokens[places], keys, self._position(0), draw)

  @property
  def finished(self):
    return self.drawn == self._length

  def _position(self, second):
    """The position of a second, counted from the first that is drawn."""
    return _position(self._sampler, self._prefix + second)

  def advance(self):
    self.drawn = min(self.drawn + PIECE_SECONDS, self._length)
    self._sampler.advance(self._decoding, self._position(self.drawn))

  def codes(self):
    """For each window, [B, T, Q] of what is drawn."""
    part = slice(self._position(0), self._position(self.drawn))
    codes = self._layout.target.to_codes(
        np.asarray(self._decoding.tokens)[:, part])
    lanes = codes.reshape((-1, self._rows) + codes.shape[1:])
    return [lanes[lane, :self._count] for lane in self._lanes]


def prompts(sampler: sampler_lib.Sampler) -> list[int]:
  """Where the prompts of a stage's windows may end, the shortest first."""
  crop = sampler.stage.spec.crop_seconds
  longest = windows_lib.PLANS[sampler.stage.spec.target].longest_prefix(crop)
  return [_position(sampler, second) for second in range(longest + 1)]


def _position(sampler, second):
  """Of the first token of a second of a window."""
  target = sampler.layout.target
  return target.start + (
      second * target.length // sampler.stage.spec.crop_seconds)


def _window_tokens(sampler, request, window):
  """[B, L] tokens of a window: its conditions and what is drawn already."""
  layout, parts = sampler.layout, {}
  for placed in layout.placed:
    stop = window.drawn_from if placed is layout.target else window.stop
    known = _KNOWN[placed.stream.kind](placed.stream, request, window, stop)
    known = known[:, :placed.num_frames]
    missing = placed.num_frames - known.shape[1]
    parts[placed.name] = np.pad(
        known, ((0, 0), (0, missing), (0, 0)), constant_values=-1)
  return layout.build(parts)


def _crop_codes(stream, request, window, stop):
  """[B, 1, Q]: what is in force where the window begins to be drawn."""
  del stop
  row = request.prompt_at(window.drawn_from)
  return request.codes[stream.name][:, row:row + 1]


def _frame_codes(stream, request, window, stop):
  """[B, T, Q] of the window up to the second `stop`."""
  rate = stream.rate_hz
  return request.codes[stream.name][:, window.start * rate:stop * rate]


def _window_codes(stream, request, window, stop):
  """[B, W, Q] of what has windows, such as a melody; W = 0 without one.

  A window of 30 s from second 15 takes the rows of seconds 15, 18, ... 39.
  """
  del stop
  codes = request.codes.get(stream.name)
  if codes is None:
    rows = len(next(iter(request.codes.values())))
    return np.zeros((rows, 0, stream.num_codebooks), np.int32)
  return codes[:, window.start::stream.window_stride_seconds]


_KNOWN = {specs.CROP: _crop_codes, specs.FRAMES: _frame_codes,
          specs.WINDOWS: _window_codes}


class Tracks:
  """The tracks of a request, pulled by the last one.

  Attributes:
    all: {stage: Track} of what is to be drawn, in order.
  """

  def __init__(self, request: Request,
               samplers: Callable[[str], sampler_lib.Sampler],
               draws: Mapping[str, categorical.Draw], names: Sequence[str],
               lanes: int = 1):
    """Tracks.

    Args:
      request: the Request.
      samplers: function from a stage's name to its Sampler.
      draws: {stage: Draw}.
      names: the stages to draw, in order.
      lanes: as of `Track`.
    """
    self._request = request
    self.all = {name: Track(samplers(name), request, draws[name], lanes)
                for name in names}

  def whole(self, names: Sequence[str] | None = None) -> None:
    """Draws all of these stages, one after the other, in full batches."""
    for name in names or self.all:
      self.reach(name, self._request.seconds)

  def reach(self, name: str, second: int) -> None:
    """Draws until `name` is there up to a second."""
    track = self.all.get(name)
    while track and track.done < second:
      self.step(name)

  def step(self, name: str) -> None:
    """Draws a piece of `name`, and before it others that it looks at."""
    track = self.all[name]
    needed = [self.all[n] for n in track.conditions if n in self.all]
    for other in needed:
      self.reach(other.name, track.wants)
    track.advance(min([t.done for t in needed], default=self._request.seconds))
