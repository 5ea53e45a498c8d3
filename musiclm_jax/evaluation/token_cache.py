"""What is in a token cache: how its codes are used, and what one sounds like.

  found = use(cache)              counts of each level of each stream
  print(table(found))
  draw('use.png', found)
  example(cache, bundle, seed)    some seconds of it, by the bundle's codec

Tracks are drawn with a seed where there are more than `MOST_TRACKS`.
"""

import dataclasses
import math
import pathlib
from typing import Any

import jax
import numpy as np

from musiclm_jax import errors
from musiclm_jax.evaluation import pictures
from musiclm_jax.metrics import token_baselines
from musiclm_jax.nn import batching
from musiclm_jax.nn import quantize
from musiclm_jax.tokens import cache as cache_lib
from musiclm_jax.tokens import frequencies

MOST_TRACKS = 1000  # ours
EXAMPLE_SECONDS = 20
_TRACKS_AT_ONCE = 50
_WINDOW_COUNTS = (64, 1024)
_NATS_PER_BIT = math.log(2)
_quantize = jax.jit(quantize.rvq_encode)


@dataclasses.dataclass
class LevelUse:
  """How the codes of one level occur.

  Attributes:
    stream: such as 'acoustic'.
    level: from 1.
    counts: [K] of each code.
    repeated: codes that are the same as a frame before.
    followed: codes that have a frame before.
  """

  stream: str
  level: int
  counts: np.ndarray
  repeated: float = 0.0
  followed: int = 0

  @property
  def used(self) -> int:
    """Codes that occur."""
    return int(np.count_nonzero(self.counts))

  @property
  def entropy_bits(self) -> float:
    """Of the frequencies; `frequencies.entropy_of_counts` says how."""
    return float(frequencies.entropy_of_counts(self.counts)) / _NATS_PER_BIT

  @property
  def most_bits(self) -> float:
    """What it would be if all codes were as frequent."""
    return math.log2(len(self.counts))

  @property
  def repeat_share(self) -> float:
    return self.repeated / max(self.followed, 1)


@dataclasses.dataclass
class Use:
  """Of a cache, or of some of its tracks.

  Attributes:
    levels: stream after stream.
    tracks: that were read.
    tracks_in_all: that the cache has.
  """

  levels: list[LevelUse]
  tracks: int
  tracks_in_all: int


def use(cache: cache_lib.Cache, most_tracks: int = MOST_TRACKS, seed: int = 0
        ) -> Use:
  """Counts the codes of a cache, of all its splits together."""
  places = [(split, number) for split in cache.splits
            for number in range(len(cache.index(split)))]
  chosen = places
  if len(places) > most_tracks:
    drawn = np.random.default_rng(seed).choice(
        len(places), most_tracks, replace=False)
    chosen = [places[i] for i in np.sort(drawn)]
  stored = {split: cache.records(split) for split in cache.splits}
  levels: dict[str, list[LevelUse]] = {}
  for first in range(0, len(chosen), _TRACKS_AT_ONCE):
    for name, size, codes in _streams(cache, [
        stored[split].read(number)
        for split, number in chosen[first:first + _TRACKS_AT_ONCE]]):
      if name not in levels:
        levels[name] = [LevelUse(name, level, np.zeros(size, np.int64))
                        for level in range(1, codes.shape[1] + 1)]
      _add(levels[name], codes)
  return Use(sum(levels.values(), []), len(chosen), len(places))


def _add(levels, codes):
  counts = frequencies.level_counts(codes, len(levels[0].counts))
  repeats = token_baselines.repeat_share(codes[None])
  for level, found, share in zip(levels, counts, repeats):
    level.counts += found
    level.repeated += float(share) * (len(codes) - 1)
    level.followed += len(codes) - 1


def _streams(cache, stored):
  """(stream, K, [T, Q] codes) of some records."""
  from musiclm_jax.tokens import preprocessors  # pylint: disable=g-import-not-at-top
  from musiclm_jax.tokens import tasks  # pylint: disable=g-import-not-at-top
  tokens, books = cache.tokens, cache.codebooks['mulan']
  found = [tasks.parse(record, cache.described()) for record in stored]
  windows = [preprocessors.vectors(record['mulan'], books.shape[-1]).numpy()
             for record in found]
  # All at once, since tracks of each length would be a program of their own.
  codes = batching.by_batches(
      lambda rows: _quantize(rows, books),
      [np.concatenate(windows)], _WINDOW_COUNTS)
  ends = np.cumsum([len(rows) for rows in windows])
  for record, words in zip(found, np.split(codes, ends[:-1])):
    acoustic = record['acoustic'].numpy()
    yield 'acoustic', tokens.codec.codebook_size, acoustic.reshape(
        -1, tokens.codec.num_codebooks)
    yield ('semantic', tokens.semantic.codebook_size,
           record['semantic'].numpy()[:, None])
    yield 'mulan', books.shape[1], words
    if cache.has_melody:
      yield 'melody', tokens.melody.codebook_size, record['melody'].numpy()


def table(found: Use) -> str:
  """A line for each level."""
  some = (f'{found.tracks}' if found.tracks == found.tracks_in_all else
          f'{found.tracks} of {found.tracks_in_all}')
  lines = [f'codes of {some} tracks',
           'stream    level       in use      entropy      repeats']
  lines += [
      f'{use.stream:<9} {use.level:5d}  {use.used:5d}/{len(use.counts):<5d}  '
      f'{use.entropy_bits:5.2f} of {use.most_bits:5.2f}  '
      f'{100 * use.repeat_share:5.1f} %' for use in found.levels]
  return '\n'.join(lines)


def figures(found: Use) -> dict[str, float]:
  """The same, flat."""
  flat = {}
  for level in found.levels:
    name = f'{level.stream}_{level.level}'
    flat |= {f'{name}_used': level.used,
             f'{name}_entropy_bits': level.entropy_bits,
             f'{name}_repeat_share': level.repeat_share}
  return flat


def draw(path: pathlib.Path, found: Use) -> None:
  """A row for each stream: frequencies by rank; bits and repeats by level."""
  names = list(dict.fromkeys(level.stream for level in found.levels))
  figure, axes = pictures.panels(len(names), 2, 10.0, 2.6 * len(names))
  for (left, right), name in zip(axes, names):
    levels = [level for level in found.levels if level.stream == name]
    for level in levels:
      counts = np.sort(level.counts)[::-1]
      shares = counts[counts > 0] / max(counts.sum(), 1)
      left.loglog(np.arange(1, len(shares) + 1), shares, linewidth=1,
                  color=(0.1, 0.37, 0.68, 0.3 + 0.7 / level.level))
    left.set_ylabel(name)
    places = [level.level for level in levels]
    right.bar(places, [level.most_bits for level in levels], color='#e4e2dc')
    right.bar(places, [level.entropy_bits for level in levels],
              color='#8fbdec')
    right.set_ylabel('bits')
    right.set_xlim(0.4, max(12, len(levels)) + 0.6)
    share = right.twinx()
    share.plot(places, [100 * level.repeat_share for level in levels], 'o',
               color='#b8510f', markersize=4)
    share.set_ylim(0, 100)
    share.set_ylabel('repeats, %', color='#b8510f')
  axes[0, 0].set_title('share of a code, by rank (levels: dark to light)',
                       fontsize=9)
  axes[0, 1].set_title('entropy, of what the codebook could hold', fontsize=9)
  axes[-1, 0].set_xlabel('rank of the code')
  axes[-1, 1].set_xlabel('level')
  pictures.save(figure, pathlib.Path(path))


def example(cache: cache_lib.Cache, bundle: Any, seed: int,
            seconds: int = EXAMPLE_SECONDS) -> tuple[np.ndarray, str]:
  """Some seconds of a track, drawn with a seed, decoded.

  Args:
    cache: a `cache.Cache`.
    bundle: a `bundle.Bundle` with the codec that made the codes.
    seed: another one, another place.
    seconds: of audio, at most.

  Returns:
    ([N] float32 at the rate of the codec, where it is from).

  Raises:
    UserError: the bundle has another codec.
  """
  from musiclm_jax.tokens import tasks  # pylint: disable=g-import-not-at-top
  bundle.require('codec')
  made, own = cache.about['bundle'].get('codec'), bundle.component_hash('codec')
  if made != own:
    raise errors.UserError(
        f'the codes of {cache.directory} are of the codec {made}, and '
        f'{bundle.directory} has {own}; name the --bundle that made them.')
  rng = np.random.default_rng(seed)
  lengths = {split: cache.index(split).seconds for split in cache.splits}
  all_seconds = np.concatenate(list(lengths.values()))
  place = int(rng.choice(len(all_seconds), p=all_seconds / all_seconds.sum()))
  for split, of_split in lengths.items():
    if place < len(of_split):
      break
    place -= len(of_split)
  record = tasks.parse(cache.records(split).read(place), cache.described())
  codec = cache.tokens.codec
  start = int(rng.integers(max(1, int(lengths[split][place]) - seconds + 1)))
  codes = record['acoustic'].numpy().reshape(-1, codec.num_codebooks)
  first, stop = (s * codec.frame_rate_hz for s in (start, start + seconds))
  audio = np.asarray(bundle.tokenizer('codec').decode(codes[None, first:stop]))
  captions = [text.decode() for text in record['captions'].numpy()]
  length = len(codes[first:stop]) // codec.frame_rate_hz
  return audio[0], (
      f'{split} {record["id"].numpy().decode()}, {start} to '
      f'{start + length} s' + (f': {captions[0]}' if captions else ''))
