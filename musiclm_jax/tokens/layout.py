"""Codes to tokens and back: the only place that does arithmetic on ids.

Codes are raw, 0..K-1, per codebook. Tokens are model ids: 0 is padding, then one
separator for each boundary between segments, then each segment's codebooks one
after the other. A segment of Q codebooks over T frames is flattened row-major,
time outer, level inner (AudioLM, section 3.3): y_1^1 .. y_1^Q, y_2^1 .. y_2^Q.

A layout is made of StreamSpecs and asks none of them for its name. For MusicLM's
semantic stage on 30 s (paper: [M 12][S 750]; the separator is ours):

>>> from musiclm_jax import specs
>>> layout = for_stage(specs.StageSpec('semantic'))
>>> [(s.name, s.start, s.stop, s.first_id) for s in layout.placed]
[('mulan', 0, 12, 2), ('semantic', 13, 763, 12290)]
>>> layout.length, layout.vocab_size, layout.target.name
(763, 13314, 'semantic')

Position 0 holds the first MuLan level, so its ids are 2..1025; position 1 the
second, 1026..2049; position 12 is the separator, id 1:

>>> low, high = layout.legal_ranges()
>>> int(low[0]), int(high[0]), int(low[1]), int(low[12]), int(high[12])
(2, 1026, 1026, 1, 2)
"""

from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import functools

import numpy as np
import numpy.typing as npt

from musiclm_jax import specs

PAD_ID = 0


@dataclasses.dataclass(frozen=True)
class Segment:
  """`num_frames` frames of a stream, a part of a stage's sequence.

  Attributes:
    stream: its StreamSpec, whose values it passes on.
    num_frames: frames, of `num_codebooks` codes each.
  """

  stream: specs.StreamSpec
  num_frames: int

  @property
  def name(self) -> str:
    return self.stream.name

  @property
  def num_codebooks(self) -> int:
    return self.stream.num_codebooks

  @property
  def codebook_size(self) -> int:
    return self.stream.codebook_size

  @property
  def first_level(self) -> int:
    """Level of the first codebook within its source.

    The fine stage's target begins at level 4 (0-based) of the codec's 12.
    """
    return self.stream.first_level

  @property
  def frame_seconds(self) -> float:
    """From one frame to the next; 0 for what holds for the whole crop."""
    return self.stream.frame_seconds

  @property
  def length(self) -> int:
    return self.num_codebooks * self.num_frames

  @property
  def num_ids(self) -> int:
    return self.num_codebooks * self.codebook_size


@dataclasses.dataclass(frozen=True)
class Placed(Segment):
  """A segment with its place in the sequence and in the vocabulary."""

  start: int = 0
  first_id: int = 0

  @property
  def stop(self) -> int:
    return self.start + self.length

  @property
  def last_id(self) -> int:
    """One past the segment's largest id."""
    return self.first_id + self.num_ids

  def level_first_ids(self) -> np.ndarray:
    """[length] first id of each position's level."""
    levels = np.tile(np.arange(self.num_codebooks), self.num_frames)
    return self.first_id + levels * self.codebook_size

  def to_tokens(self, codes: npt.ArrayLike) -> np.ndarray:
    """[..., T, Q] codes, -1 where padded -> [..., T * Q] tokens, 0 there."""
    codes = np.asarray(codes)
    if codes.shape[-1] != self.num_codebooks:
      raise ValueError(
          f'{self.name} codes have {codes.shape[-1]} codebooks; expected '
          f'{self.num_codebooks}.')
    if codes.size and (codes.max() >= self.codebook_size or codes.min() < -1):
      raise ValueError(
          f'{self.name} codes span {codes.min()}..{codes.max()}; expected '
          f'0..{self.codebook_size - 1}, or -1 for padding.')
    offsets = self.first_id + np.arange(self.num_codebooks) * self.codebook_size
    tokens = np.where(codes >= 0, codes + offsets, PAD_ID).astype(np.int32)
    return tokens.reshape(codes.shape[:-2] + (-1,))

  def to_codes(self, tokens: npt.ArrayLike) -> np.ndarray:
    """[..., T * Q] tokens -> [..., T, Q] codes, -1 where the token is 0."""
    tokens = np.asarray(tokens)
    if tokens.shape[-1] % self.num_codebooks:
      raise ValueError(
          f'{self.name} has {tokens.shape[-1]} tokens; expected a multiple of '
          f'its {self.num_codebooks} codebooks.')
    tokens = tokens.reshape(tokens.shape[:-1] + (-1, self.num_codebooks))
    codes = tokens - self.first_id - (
        np.arange(self.num_codebooks) * self.codebook_size)
    padded = tokens == PAD_ID
    legal = padded | ((codes >= 0) & (codes < self.codebook_size))
    if not legal.all():
      where = tuple(int(i) for i in np.argwhere(~legal)[0])
      raise ValueError(
          f'{self.name} token {tokens[where]} at {where} is outside the ids of '
          f'its level.')
    return np.where(padded, -1, codes).astype(np.int32)


@dataclasses.dataclass(frozen=True)
class Layout:
  """A sequence of segments with one separator between neighbours.

  The last segment is the target, the others are its conditions.
  """

  segments: tuple[Segment, ...]

  @functools.cached_property
  def placed(self) -> tuple[Placed, ...]:
    start, first_id = 0, 1 + self.num_separators
    result = []
    for segment in self.segments:
      result.append(
          Placed(segment.stream, segment.num_frames, start, first_id))
      start += segment.length + 1
      first_id += segment.num_ids
    return tuple(result)

  @property
  def num_separators(self) -> int:
    return len(self.segments) - 1

  @property
  def separator_ids(self) -> tuple[int, ...]:
    return tuple(range(1, 1 + self.num_separators))

  @property
  def target(self) -> Placed:
    return self.placed[-1]

  @property
  def length(self) -> int:
    return self.target.stop

  @property
  def vocab_size(self) -> int:
    return self.target.last_id

  def segment(self, name: str) -> Placed:
    for placed in self.placed:
      if placed.name == name:
        return placed
    raise ValueError(
        f'no segment {name!r}; there are {[s.name for s in self.placed]}.')

  def with_frames(self, **num_frames: int) -> 'Layout':
    """The same vocabulary with other segment lengths, as generation needs."""
    return Layout(tuple(
        dataclasses.replace(s, num_frames=num_frames.get(s.name, s.num_frames))
        for s in self.segments))

  def build(self, codes: Mapping[str, npt.ArrayLike]) -> np.ndarray:
    """One sequence from the codes of every segment.

    Args:
      codes: {name: [..., T, Q]} int, -1 where a track has ended.

    Returns:
      [..., length] int32 tokens, separators included.
    """
    parts = []
    for index, placed in enumerate(self.placed):
      tokens = placed.to_tokens(codes[placed.name])
      if tokens.shape[-1] != placed.length:
        raise ValueError(
            f'{placed.name} has {tokens.shape[-1]} tokens; expected '
            f'{placed.length}.')
      if index:
        parts.append(np.full(tokens.shape[:-1] + (1,), index, np.int32))
      parts.append(tokens)
    return np.concatenate(parts, axis=-1)

  def split(self, tokens: npt.ArrayLike) -> dict[str, np.ndarray]:
    """The inverse of `build`: [..., length] -> {name: [..., T, Q] codes}."""
    tokens = np.asarray(tokens)
    if tokens.shape[-1] != self.length:
      raise ValueError(
          f'sequence has {tokens.shape[-1]} tokens; expected {self.length}.')
    for index, placed in enumerate(self.placed[1:], start=1):
      if not (tokens[..., placed.start - 1] == index).all():
        raise ValueError(
            f'position {placed.start - 1} is not the separator {index} before '
            f'{placed.name}.')
    return {p.name: p.to_codes(tokens[..., p.start:p.stop])
            for p in self.placed}

  def legal_ranges(self) -> tuple[np.ndarray, np.ndarray]:
    """([length], [length]) int32: position p may hold ids low[p]..high[p]-1."""
    low = np.zeros(self.length, np.int32)
    high = np.zeros(self.length, np.int32)
    for index, placed in enumerate(self.placed):
      if index:
        low[placed.start - 1], high[placed.start - 1] = index, index + 1
      first = placed.level_first_ids()
      low[placed.start:placed.stop] = first
      high[placed.start:placed.stop] = first + placed.codebook_size
    return low, high

  def input_seconds(self) -> np.ndarray:
    """[length] float32: when the token that is the input at p, p - 1, begins.

    NaN where that is no time: at the first position, for separators, and for
    what holds for the whole crop.
    """
    seconds = np.full(self.length + 1, np.nan, np.float32)
    for placed in self.placed:
      if placed.frame_seconds:
        seconds[placed.start + 1:placed.stop + 1] = placed.frame_seconds * (
            np.arange(placed.length) // placed.num_codebooks)
    return seconds[:-1]

  def target_weights(self) -> np.ndarray:
    """[length] float32: 1 on the target segment, 0 elsewhere."""
    weights = np.zeros(self.length, np.float32)
    weights[self.target.start:] = 1.0
    return weights


def for_streams(streams: Sequence[specs.StreamSpec], seconds: int) -> Layout:
  """The layout of streams over `seconds`, the last of which is the target.

  Three seconds of chords, two a second, after one key for each window of 2 s:

  >>> keys = specs.StreamSpec('keys', 'keys', 1, 24, kind=specs.WINDOWS,
  ...                         window_seconds=2, window_stride_seconds=1)
  >>> chords = specs.StreamSpec('chords', 'chords', 1, 100, rate_hz=2)
  >>> layout = for_streams([keys, chords], 3)
  >>> layout.build({'keys': [[5], [6]],
  ...               'chords': [[0], [0], [7], [7], [99], [-1]]}).tolist()
  [7, 8, 1, 26, 26, 33, 33, 125, 0]
  """
  return Layout(tuple(
      Segment(stream, stream.num_frames(seconds)) for stream in streams))


def for_stage(stage: specs.StageSpec, seconds: int | None = None) -> Layout:
  """The layout of a StageSpec, over its crop or over `seconds`."""
  return for_streams(stage.streams, seconds or stage.crop_seconds)
