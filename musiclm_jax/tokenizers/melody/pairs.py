"""Pairs of 4 s: the same passage of one tune in two arrangements of it.

A corpus states for each track the `tune` that it plays and its `melody`, a list
of [start s, length s, MIDI pitch]. Note k of one version is note k of any
other, whatever their keys and tempi, as far as the shorter one goes. A moment of
one version is therefore known in the other: with notes at 0.0, 0.5, 1.0 s here
and at 0.2, 1.2, 2.2 s there, second 0.75 here is second 1.7 there. Both crops
have the same moment in their middle.
"""

from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import functools
import itertools

import jax
import numpy as np

from musiclm_jax import errors
from musiclm_jax import records
from musiclm_jax import specs
from musiclm_jax.training import shares
from musiclm_jax.training import trainable

# Set apart from any training seed, so that evaluation pairs never move with it.
_EVAL_SEED = 20_301


@dataclasses.dataclass(frozen=True)
class MelodyBatches(trainable.BatchSource):
  """Batches of pairs, a pure function of (seed, step).

  Yields {'first': [P, N] float32 at the corpus rate, 'second': [P, N], 'tune':
  [P] int32}; pairs of one `tune` number hold one tune, or two so alike that
  neither may be the other's negative (one `cluster`). A batch takes every
  cluster once before it takes one again.

  Attributes:
    corpus_dir: a corpus with `tune` and `melody`, such as folk_gm's; several,
      with commas between them, are one mixture.
    batch_size: pairs in a batch, of all devices together.
    window_seconds: length of a crop.
    seed: with the step it decides the training batch.
    train_split: split of the training pairs.
    eval_split: split of the evaluation pairs; the training split stands in
      where this one has fewer than two tunes in two versions.
    eval_batches_count: evaluation batches; the same ones each time.
    jitter_seconds: in training, each crop is moved by up to this much in either
      direction, since windows of a recording lie anywhere (ours).
    speed_semitones: in training, each crop is played faster or slower, and so
      higher or lower, by up to this much (ours).
    expected_rate_hz: of the corpus, for `batch_shapes`, which do not read it.
  """

  corpus_dir: str = ''
  batch_size: int = 32
  window_seconds: int = 4  # paper
  seed: int = 0
  train_split: str = 'train'
  eval_split: str = 'validation'
  eval_batches_count: int = 4
  jitter_seconds: float = 0.0
  speed_semitones: float = 0.0
  expected_rate_hz: int = specs.AudioSpec.sample_rate_hz

  @functools.cached_property
  def corpus(self):
    return records.load(self.corpus_dir)

  def batches(self, start_step, share=shares.WHOLE):
    """Endless batches, the first one that of `start_step`."""
    pairs = Pairs(
        self.corpus.split(self.train_split), self.window_seconds,
        self.batch_size, self.seed, self.jitter_seconds, self.speed_semitones)
    return map(functools.partial(pairs.batch, share=share),
               itertools.count(start_step))

  def eval_batches(self, share=shares.WHOLE):
    """The fixed evaluation batches, `eval_batches_count` of them."""
    split = self.eval_split
    if split not in self.corpus.splits or (
        len(set(clusters(versions(self.corpus.split(split))))) < 2):
      split = self.train_split
    pairs = Pairs(self.corpus.split(split), self.window_seconds,
                  self.batch_size, _EVAL_SEED)
    return map(functools.partial(pairs.batch, share=share),
               range(self.eval_batches_count))

  def batch_shapes(self):
    """The batch as ShapeDtypeStructs, for a corpus at the audio rate."""
    samples = specs.AudioSpec(self.expected_rate_hz).num_samples(self.window_seconds)
    audio = jax.ShapeDtypeStruct((self.batch_size, samples), np.float32)
    return dict(first=audio, second=audio, tune=jax.ShapeDtypeStruct(
        (self.batch_size,), np.int32))


def versions(split: records.Split) -> dict[str, list[records.Track]]:
  """{tune: [Track, ...]} of the tunes that `split` has more than once."""
  tunes = {}
  for track in split:
    if track.meta.get('tune') and track.meta.get('melody'):
      tunes.setdefault(track.meta['tune'], []).append(track)
  return {tune: tracks for tune, tracks in tunes.items() if len(tracks) > 1}


def clusters(tunes: Mapping[str, Sequence[records.Track]]) -> list[str]:
  """The cluster of each tune of `versions`; the tune where none is said."""
  return [tracks[0].meta.get('cluster', tune)
          for tune, tracks in tunes.items()]


class Pairs:
  """Pairs of a split; `MelodyBatches` says what the arguments mean."""

  def __init__(self, split: records.Split, window_seconds: float,
               batch_size: int, seed: int, jitter_seconds: float = 0.0,
               speed_semitones: float = 0.0):
    self._split = split
    self._seconds = window_seconds
    self._batch_size = batch_size
    self._seed = seed
    self._jitter = jitter_seconds
    self._speed = speed_semitones
    tunes = versions(split)
    self._tunes = list(tunes.values())
    names = sorted(set(clusters(tunes)))
    numbers = {name: number for number, name in enumerate(names)}
    self._clusters = [[] for _ in names]
    for index, name in enumerate(clusters(tunes)):
      self._clusters[numbers[name]].append(index)
    if len(names) < 2:
      raise errors.UserError(
          f'{split.directory} has {len(names)} tunes in two versions; a melody '
          f'embedder learns from at least 2 (better hundreds). Each track '
          f'states its `tune` and its `melody`, as `musiclm data folk_gm` '
          f'writes them.')

  def batch(self, step: int, share: shares.Share = shares.WHOLE
            ) -> dict[str, np.ndarray]:
    """The rows of `share` of the batch of `step`; no others are read."""
    rng = np.random.default_rng([self._seed, step])
    count, drawn = len(self._clusters), []
    while len(drawn) < self._batch_size:
      drawn += rng.permutation(count).tolist()
    drawn = drawn[:self._batch_size]
    # All pairs are drawn, since each begins where the one before left `rng`.
    places = [self._draw(rng, cluster) for cluster in drawn]
    rows = share.rows(self._batch_size)
    crops = [[crop(self._split, track, moment, self._seconds, rate)
              for track, moment, rate in places[row]] for row in rows]
    return dict(first=np.stack([c[0] for c in crops]),
                second=np.stack([c[1] for c in crops]),
                tune=np.array(drawn, np.int32)[rows])

  def _draw(self, rng, cluster):
    """Two (track, moment, rate), as `crop` takes them, of a tune of `cluster`."""
    choices = self._clusters[cluster]
    tracks = self._tunes[choices[rng.integers(len(choices))]]
    pair = [tracks[i] for i in rng.permutation(len(tracks))[:2]]
    u, *moves = rng.random(5)
    moments = same_moment(*pair, u, self._seconds, self._split.sample_rate_hz)
    places = []
    for track, moment, (move, speed) in zip(
        pair, moments, (moves[:2], moves[2:])):
      moment += (2.0 * move - 1.0) * self._jitter
      rate = 2.0**((2.0 * speed - 1.0) * self._speed / 12.0)
      places.append((track, moment, rate))
    return places


def same_moment(first: records.Track, second: records.Track, u: float,
                window_seconds: float,
                sample_rate_hz: int) -> tuple[float, float]:
  """A moment of the tune in both of its versions, in seconds of each.

  Args:
    first: a Track.
    second: a Track of the same tune.
    u: in 0..1; which moment, of those that leave room for a window in both.
    window_seconds: length of the window around the moment.
    sample_rate_hz: of the tracks.

  Returns:
    (second of `first`, second of `second`).
  """
  a, b = note_times(first), note_times(second)
  common = min(len(a), len(b))
  a, b = a[:common], b[:common]
  half = window_seconds / 2
  ends = [t.num_samples / sample_rate_hz - half for t in (first, second)]
  low = max(a[0], half, np.interp(half, b, a))
  high = min(a[-1], ends[0], np.interp(ends[1], b, a))
  moment = low + u * (high - low) if high > low else (low + high) / 2
  return moment, float(np.interp(moment, a, b))


def note_times(track: records.Track) -> np.ndarray:
  """[n] the second at which each note of the melody begins."""
  return np.array([note[0] for note in track.meta['melody']], np.float64)


def crop(split: records.Split, track: records.Track, centre_seconds: float,
         window_seconds: float, rate: float = 1.0) -> np.ndarray:
  """[N] float32: `window_seconds` around a moment; zeros beyond the track.

  Args:
    split: where the track is.
    track: a Track.
    centre_seconds: the moment.
    window_seconds: length of the crop.
    rate: the crop plays this much faster than the track: 2 is an octave up.
  """
  hz = split.sample_rate_hz
  count = round(window_seconds * hz)
  needed = count if rate == 1.0 else int(np.ceil(count * rate)) + 1
  start = int(round(centre_seconds * hz)) - needed // 2
  before = max(0, -start)
  audio = np.zeros(needed, np.float32)
  if before < needed and start < track.num_samples:
    audio[before:] = split.read(track, start + before, needed - before)
  if rate == 1.0:
    return audio
  return np.interp(np.arange(count) * rate, np.arange(needed),
                   audio).astype(np.float32)
