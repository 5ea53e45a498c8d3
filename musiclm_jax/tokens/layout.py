"""Codes to tokens and back: the only place that does arithmetic on ids.

Codes are raw, 0..K-1, per codebook. Tokens are model ids: 0 is padding, then one
separator for each boundary between segments, then each segment's codebooks one
after the other. A segment of Q codebooks over T frames is flattened row-major,
time outer, level inner (AudioLM, section 3.3): y_1^1 .. y_1^Q, y_2^1 .. y_2^Q.

For the semantic stage on 30 s (paper: [M 12][S 750]; the separator is ours):

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

import dataclasses
import functools

import numpy as np

PAD_ID = 0


@dataclasses.dataclass(frozen=True)
class Segment:
  """`num_frames` frames of `num_codebooks` codes, each 0..codebook_size-1.

  `first_level` is the level of the first codebook within its codec: the fine
  stage's target starts at level 4 (0-based) of the codec's 12. `frame_seconds`
  is the time from one frame to the next, 0 for what holds for the whole crop.
  """

  name: str
  num_codebooks: int
  codebook_size: int
  num_frames: int
  first_level: int = 0
  frame_seconds: float = 0.0

  @property
  def length(self):
    return self.num_codebooks * self.num_frames

  @property
  def num_ids(self):
    return self.num_codebooks * self.codebook_size


@dataclasses.dataclass(frozen=True)
class Placed(Segment):
  """A segment with its place in the sequence and in the vocabulary."""

  start: int = 0
  first_id: int = 0

  @property
  def stop(self):
    return self.start + self.length

  @property
  def last_id(self):
    """One past the segment's largest id."""
    return self.first_id + self.num_ids

  def level_first_ids(self):
    """[length] first id of each position's level."""
    levels = np.tile(np.arange(self.num_codebooks), self.num_frames)
    return self.first_id + levels * self.codebook_size

  def to_tokens(self, codes):
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

  def to_codes(self, tokens):
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

  segments: tuple

  @functools.cached_property
  def placed(self):
    start, first_id = 0, 1 + self.num_separators
    result = []
    for segment in self.segments:
      result.append(Placed(**dataclasses.asdict(segment), start=start,
                           first_id=first_id))
      start += segment.length + 1
      first_id += segment.num_ids
    return tuple(result)

  @property
  def num_separators(self):
    return len(self.segments) - 1

  @property
  def separator_ids(self):
    return tuple(range(1, 1 + self.num_separators))

  @property
  def target(self):
    return self.placed[-1]

  @property
  def length(self):
    return self.target.stop

  @property
  def vocab_size(self):
    return self.target.last_id

  def segment(self, name):
    for placed in self.placed:
      if placed.name == name:
        return placed
    raise ValueError(
        f'no segment {name!r}; there are {[s.name for s in self.placed]}.')

  def with_frames(self, **num_frames):
    """The same vocabulary with other segment lengths, as generation needs."""
    return Layout(tuple(
        dataclasses.replace(s, num_frames=num_frames.get(s.name, s.num_frames))
        for s in self.segments))

  def build(self, codes):
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

  def split(self, tokens):
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

  def legal_ranges(self):
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

  def input_seconds(self):
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

  def target_weights(self):
    """[length] float32: 1 on the target segment, 0 elsewhere."""
    weights = np.zeros(self.length, np.float32)
    weights[self.target.start:] = 1.0
    return weights


def segment(name, tokens, seconds):
  """The `Segment` called `name` over `seconds` of audio, from a TokenSpec."""
  codec, semantic = tokens.codec, tokens.semantic
  joint, melody = tokens.joint, tokens.melody
  if name == 'mulan':
    return Segment(name, joint.num_codebooks, joint.codebook_size, 1)
  if name == 'melody':
    return Segment(name, melody.num_codebooks, melody.codebook_size,
                   melody.num_windows(seconds),
                   frame_seconds=melody.window_stride_seconds)
  if name == 'semantic':
    return Segment(name, 1, semantic.codebook_size,
                   seconds * semantic.frame_rate_hz,
                   frame_seconds=1 / semantic.frame_rate_hz)
  frames, frame_seconds = (
      seconds * codec.frame_rate_hz, 1 / codec.frame_rate_hz)
  if name == 'coarse':
    return Segment(name, codec.coarse_codebooks, codec.codebook_size, frames,
                   frame_seconds=frame_seconds)
  if name == 'fine':
    return Segment(name, codec.fine_codebooks, codec.codebook_size, frames,
                   first_level=codec.coarse_codebooks,
                   frame_seconds=frame_seconds)
  raise ValueError(
      f'unknown segment {name!r}; known: mulan, melody, semantic, coarse, fine.')


def for_stage(stage, seconds=None):
  """The layout of a StageSpec, over its crop or over `seconds`."""
  seconds = seconds or stage.crop_seconds
  names = stage.conditions + (stage.target,)
  return Layout(tuple(segment(n, stage.tokens, seconds) for n in names))
