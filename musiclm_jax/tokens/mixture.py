"""Several token caches as one, each drawn from at a rate of its own.

  CACHE_DIR = 'folk,fma'      caches of the same tokenizers, commas between them
  CACHE_RATES = (1.0, 3.0)    one example of four comes from `folk`; () counts
                              crops, so every second of music is as likely

Which cache example n is of, and which of its examples, is arithmetic: a round
of `ROUND` examples has each cache's share to the nearest whole number, in an
order of its own. So a run resumes at any step as fast as it starts, and over a
cache nothing comes twice before all of it has come once.
"""

from collections.abc import Sequence
import dataclasses
import functools
import hashlib
import math
import os
from typing import Any

import numpy as np

from musiclm_jax import errors
from musiclm_jax import specs
from musiclm_jax.tokens import cache as cache_lib
from musiclm_jax.tokens import crops

ROUND = 1000  # ours: a rate is kept to a thousandth
_KEPT_ROUNDS = 4


def directories(cache_dir: str | os.PathLike) -> list[str]:
  """
  >>> directories('folk, fma')
  ['folk', 'fma']
  """
  return [part.strip() for part in str(cache_dir).split(',')]


def load(cache_dir: str | os.PathLike,
         rates: Sequence[float] = ()) -> 'cache_lib.Cache | Mixture':
  """The cache at a path, or the `Mixture` of several with commas between them.

  Args:
    cache_dir: what `musiclm precompute` wrote.
    rates: of several, one each; () counts crops.

  Raises:
    UserError: a cache is not finished, they are of other tokenizers, or the
      rates are not one for each.
  """
  caches = [cache_lib.Cache(part) for part in directories(cache_dir)]
  return Mixture(caches, rates) if len(caches) > 1 else (
      _alone(caches[0], rates))


def tokens_of(cache_dir: str | os.PathLike,
              rates: Sequence[float] = ()) -> specs.TokenSpec:
  """The TokenSpec of the caches, as `cache.tokens_of` gives it of one.

  A leaf asks for it first, so rates that do not fit are refused here already.
  """
  parts = directories(cache_dir)
  _check_rates(tuple(map(float, rates)), len(parts))
  return cache_lib.tokens_of(parts[0])


class Mixture:
  """Caches of the same tokenizers, with the tracks of all of them in a row.

  Has what readers want of a `cache.Cache`.
  """

  def __init__(self, caches: Sequence[cache_lib.Cache],
               rates: Sequence[float] = ()):
    self.caches, self.rates = list(caches), tuple(map(float, rates))
    _check_rates(self.rates, len(self.caches))
    first = self.caches[0]
    for other in self.caches[1:]:
      lines = specs.difference(
          dict(first.about['bundle'], tokens=first.about['tokens']),
          dict(other.about['bundle'], tokens=other.about['tokens']))
      if lines:
        raise errors.UserError(
            f'the token caches {first.directory} and {other.directory} are of '
            f'other tokenizers: {"; ".join(lines)}. Precompute both with one '
            f'bundle.')
      if other.about['format'] != first.about['format']:
        raise errors.UserError(
            f'the token caches {first.directory} and {other.directory} have the '
            f'formats {first.about["format"]!r} and {other.about["format"]!r}; '
            f'precompute the older one again.')
    names = [cache.about['corpus']['name'] for cache in self.caches]
    self.about = dict(first.about, corpus=dict(name='+'.join(names)))

  @property
  def tokens(self) -> specs.TokenSpec:
    return self.caches[0].tokens

  @property
  def codebooks(self) -> dict[str, np.ndarray]:
    return self.caches[0].codebooks

  @property
  def fingerprint(self) -> str:
    """Changes with any of the caches, their order and their rates."""
    parts = [cache.fingerprint for cache in self.caches] + [str(self.rates)]
    return hashlib.sha256(' '.join(parts).encode()).hexdigest()[:16]

  @property
  def has_text(self) -> bool:
    return all(cache.has_text for cache in self.caches)

  @property
  def splits(self) -> list[str]:
    return sorted({name for cache in self.caches for name in cache.splits})

  def described(self) -> dict[str, dict]:
    """Shapes and types of what all their records have."""
    return {name: feature
            for name, feature in self.caches[0].described().items()
            if all(name in cache.described() for cache in self.caches)}

  def check(self, stage: specs.StageSpec) -> None:
    """UserError where a stage cannot be trained on one of them."""
    for cache in self.caches:
      cache.check(stage)

  def of(self, split: str) -> list[tuple[cache_lib.Cache, float]]:
    """[(cache, rate)] of those that have a split; rates of () are 0."""
    rates = self.rates or (0.0,) * len(self.caches)
    found = [(cache, rate) for cache, rate in zip(self.caches, rates)
             if split in cache.splits]
    if not found:
      raise errors.choice('split of the token caches', split, self.splits)
    return found

  def index(self, split: str) -> cache_lib.Index:
    """The tracks of all, in a row; their shards count on."""
    parts, shards = [], 0
    for cache, _ in self.of(split):
      part = cache.index(split)
      parts.append(dataclasses.replace(part, shard=part.shard + shards))
      shards += len(cache.records(split).paths)
    return cache_lib.Index.join(parts)

  def records(self, split: str) -> '_Records':
    return _Records([cache.records(split) for cache, _ in self.of(split)],
                    [len(cache.index(split)) for cache, _ in self.of(split)])

  def order(self, split: str, crop_seconds: int, seed: int) -> Any:
    """Which track of all, and which crop, each example is."""
    if not self.rates:
      return crops.Order(self.index(split).seconds, crop_seconds, seed)
    orders, rates, first, firsts = [], [], 0, []
    for cache, rate in self.of(split):
      seconds = cache.index(split).seconds
      orders.append(crops.Order(seconds, crop_seconds, seed))
      rates.append(rate)
      firsts.append(first)
      first += len(seconds)
    return Order(orders, firsts, rates, seed)


class Order:
  """Examples of several orders, in rounds with a fixed share of each.

  >>> order = Order([crops.Order([9] * 30, 9, 0), crops.Order([9] * 20, 9, 0)],
  ...               first_tracks=[0, 30], rates=[1, 3], seed=0)
  >>> drawn = [order.example(i)[0] for i in range(ROUND)]
  >>> sum(track < 30 for track in drawn)
  250
  """

  def __init__(self, orders: Sequence[crops.Order], first_tracks: Sequence[int],
               rates: Sequence[float], seed: int):
    """Mixes orders.

    Args:
      orders: of the single caches.
      first_tracks: where each one's tracks begin among those of all.
      rates: of each, in proportion.
      seed: any non-negative int.
    """
    self._orders, self._first_tracks = list(orders), list(first_tracks)
    self._counts = _shares(rates)
    self._seed = seed
    self._round = functools.lru_cache(_KEPT_ROUNDS)(self._draw)

  def example(self, index: int) -> tuple[int, np.ndarray]:
    """(track of all, [2] int32 seed of the crop) of the example at `index`."""
    number, place = divmod(int(index), ROUND)
    which, ranks = self._round(number)
    chosen = which[place]
    track, seed = self._orders[chosen].example(
        number * int(self._counts[chosen]) + int(ranks[place]))
    return track + self._first_tracks[chosen], seed

  def _draw(self, number):
    """([ROUND] which order, [ROUND] how many of it came before) of a round."""
    which = np.repeat(np.arange(len(self._counts)), self._counts)
    # 1: set apart from the permutations of the single orders.
    which = np.random.default_rng([self._seed, number, 1]).permutation(which)
    ranks = np.zeros(ROUND, np.int64)
    for order in range(len(self._counts)):
      ranks[which == order] = np.arange(self._counts[order])
    return which, ranks


class _Records:
  """The records of several caches by number."""

  def __init__(self, parts, counts):
    self._parts, self._ends = parts, np.cumsum(counts)

  @property
  def paths(self):
    return [path for part in self._parts for path in part.paths]

  def read(self, number: int) -> bytes:
    part = int(np.searchsorted(self._ends, number, side='right'))
    before = int(self._ends[part - 1]) if part else 0
    return self._parts[part].read(number - before)


def _alone(cache, rates):
  _check_rates(tuple(map(float, rates)), 1)
  return cache


def _check_rates(rates, count):
  if rates and len(rates) != count:
    raise errors.UserError(
        f'CACHE_RATES has {len(rates)} rates and CACHE_DIR {count} caches; '
        f'expected one each, or () to count crops.')
  if rates and not all(0 < rate < math.inf for rate in rates):
    raise errors.UserError(
        f'CACHE_RATES is {rates}; expected numbers above 0.')


def _shares(rates):
  """[n] of ROUND examples, how many are of each: the largest remainders get
  what rounding down leaves, and none goes without.

  >>> _shares([1, 3]).tolist()
  [250, 750]
  >>> _shares([1, 1, 1]).tolist()
  [334, 333, 333]
  >>> _shares([1e-9, 1]).tolist()
  [1, 999]
  """
  exact = np.asarray(rates, np.float64) / np.sum(rates) * ROUND
  counts = np.floor(exact).astype(np.int64)
  for place in np.argsort(counts - exact, kind='stable')[:ROUND - counts.sum()]:
    counts[place] += 1
  while (counts == 0).any():
    counts[np.argmin(counts)] += 1
    counts[np.argmax(counts)] -= 1
  return counts
