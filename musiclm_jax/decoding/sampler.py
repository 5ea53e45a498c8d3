"""Samples a stage's target tokens, piece by piece, on the device.

  begin:   prompt -> prefill -> keys and values of the prompt
  advance: loop { embed, step, logits of the position's own level, draw }

Each position can only take the ids of its own level, by construction: logits
are computed for those alone, under either head.

Where to stop is an argument of `advance`, and the same programs go on from
there: drawn in one piece or in many, tokens are the same. Rows are padded to 1,
2, 4 or 8, prompts to a multiple of 128, and the cache grows in a few steps,
each a program; a sampler compiles few of them, whatever it is asked.
"""

from collections.abc import Iterator
from collections.abc import Sequence
import dataclasses
import functools
from typing import Any

import jax
from jax import lax
import jax.numpy as jnp
import numpy as np

from musiclm_jax.decoding import cached_transformer
from musiclm_jax.decoding import categorical
from musiclm_jax.decoding import choices
from musiclm_jax.decoding import decoder
from musiclm_jax.decoding import guidance
from musiclm_jax.nn import batching
from musiclm_jax.nn import causal
from musiclm_jax.tokens import layout as layout_lib

ROW_COUNTS = choices.ROW_COUNTS
BLOCK = 32  # steps between two writes into the large cache
_STRETCH = 512  # the cache grows by about this many positions at a time,
_MOST_STRETCHES = 4  # but not more often: each is compiled
_PROMPT_MULTIPLE = 128  # prompts are padded to it


def padded_rows(count: int) -> int:
  """The number of rows that `count` rows are padded to, at most the largest."""
  return batching.size_for(count, ROW_COUNTS)


@dataclasses.dataclass
class Decoding:
  """Rows that are being drawn: on the device, but for how far they are.

  Attributes:
    variants: [R * B, L] int32, 0 where not drawn yet: the rows, then the same
      without each guided condition.
    cache: pairs of keys and values of all blocks before the current one.
    recent: pairs of the current block.
    logits: [B, T * Q, K] float32 where they were asked for, else a scalar.
    keys: [B] random keys.
    mix: [R] what the logits of each variant weigh; R is 1 without guidance.
    draw: the `categorical.Draw`.
    prompt: positions that were given; blocks are counted from here.
    position: the next position to draw.
  """

  variants: Any
  cache: Any
  recent: Any
  logits: Any
  keys: Any
  mix: Any
  draw: categorical.Draw
  prompt: int
  position: int

  @property
  def tokens(self) -> jax.Array:
    """[B, L] int32, 0 where not drawn yet."""
    return self.variants[:len(self.keys)]


class Sampler:
  """Draws sequences from a trained stage.

  Attributes:
    stage: the stages.model.TrainedStage.
    layout: its layout.
    sizes: those of the cache, one after the other.
    compilations: programs compiled so far.
  """

  def __init__(self, stage: Any, weights: str | None = None):
    """Lays the weights out for decoding.

    Args:
      stage: the TrainedStage.
      weights: of choices.WEIGHTS; the compute type of the stage by default.
        The cache is of the same type; with int8, of the stage's.
    """
    choices.check_weights(weights)
    self.stage = stage
    self.layout = stage.layout
    self._config = stage.config
    if weights not in (None, 'int8'):
      self._config = dataclasses.replace(stage.config, dtype=weights)
    self.sizes = cache_sizes(self.layout.length)
    self.compilations = 0
    self._weights = jax.jit(functools.partial(
        _decode_weights, layout=stage.layout, config=self._config,
        int8=weights == 'int8'))(stage.params)
    self._prefill = jax.jit(
        self._prefill_program, static_argnames=('padded', 'size', 'levels'))
    self._grow = jax.jit(cached_transformer.grow, static_argnums=1)
    self._advance = jax.jit(
        self._advance_program, donate_argnames=('cache', 'recent', 'logits'),
        static_argnames=('filtered', 'levels', 'with_logits'))

  def begin(self, tokens: jax.Array | np.ndarray, keys: jax.Array, prompt: int,
            draw: categorical.Draw = categorical.Draw(),
            with_logits: bool = False) -> Decoding:
    """Reads the prompt.

    Args:
      tokens: [B, L] int32 as of `Layout.build`: 0 where a token is to be drawn
        (or is padding of a condition); others stay as they are. A program is
        compiled for each B.
      keys: [B] random keys, of `categorical.row_keys`.
      prompt: the first position that may be drawn, where a frame of the target
        begins. All before it is known and processed at once.
      draw: temperature, filters and levels.
      with_logits: keep the logits of every target position.

    Returns:
      A `Decoding`.
    """
    tokens = jnp.asarray(tokens, jnp.int32)
    target = self.layout.target
    if tokens.ndim != 2 or tokens.shape[1] != self.layout.length:
      raise ValueError(
          f'tokens of shape {tokens.shape}; expected [B, '
          f'{self.layout.length}].')
    if not target.start <= prompt <= self.layout.length:
      raise ValueError(
          f'prompt ends at {prompt}; expected {target.start} to '
          f'{self.layout.length}.')
    if not 0 <= draw.levels <= target.num_codebooks:
      raise ValueError(
          f'levels is {draw.levels}; expected 0 to {target.num_codebooks}.')
    if self._kept(draw) and BLOCK % target.num_codebooks:
      raise ValueError(
          f'some levels of {target.num_codebooks} cannot be drawn alone: '
          f'blocks of {BLOCK} positions do not hold whole frames.')
    padded, size = self._prompt_shape(prompt)
    shape = (len(tokens), target.length, target.codebook_size)
    mix = np.ones(1, np.float32)
    if draw.guidance:  # else they may be traced
      scales = guidance.in_force(self.layout, tokens, draw.guidance)
      guidance.check(self.stage.spec.name, self.stage.optional, scales)
      tokens, mix = guidance.variants(self.layout, tokens, scales)
      tokens = jnp.asarray(tokens)
    cache, recent = self._prefill(
        self._weights, tokens, jnp.int32(prompt), padded=padded, size=size,
        levels=self._kept(draw))
    return Decoding(
        variants=tokens, cache=cache, recent=recent, mix=jnp.asarray(mix),
        logits=jnp.zeros(shape if with_logits else (), jnp.float32),
        keys=keys, draw=draw, prompt=prompt, position=prompt)

  def advance(self, decoding: Decoding, stop: int) -> None:
    """Draws up to position `stop`, where a frame ends; changes `decoding`."""
    if stop > self.layout.length:
      raise ValueError(
          f'stop is {stop}; expected at most {self.layout.length}.')
    prompt = decoding.prompt
    for size in self.sizes:
      # The last block of a cache of this size ends here.
      last = prompt + (size - prompt) // BLOCK * BLOCK
      end = min(stop, last)
      if decoding.position < end:
        self._draw_within(decoding, size, end)

  def prepare(self, rows: int, prompts: Sequence[int],
              draw: categorical.Draw = categorical.Draw()) -> Iterator[None]:
    """Compiles every program that so many rows take, and draws nothing.

    Args:
      rows: as in `sample`.
      prompts: where they may end, as of `begin`, the first one first.
      draw: levels and filters count, as they have programs of their own.

    Yields:
      After each program.
    """
    tokens = np.zeros((rows, self.layout.length), np.int32)
    if draw.guidance:  # a condition that is not there is not guided
      start = self.layout.target.start
      tokens[:, :start] = self.layout.legal_ranges()[0][:start]
    keys = categorical.row_keys(0, 0, 0, np.arange(rows))
    shapes = set()
    for prompt in prompts:
      if self._prompt_shape(prompt) in shapes:
        continue
      shapes.add(self._prompt_shape(prompt))
      decoding = self.begin(tokens, keys, prompt, draw)
      yield
      for size in self.sizes if prompt == prompts[0] else ():
        self._draw_within(decoding, size, prompt)
        yield

  def sample(self, tokens: jax.Array | np.ndarray, keys: jax.Array, prompt: int,
             stop: int | None = None,
             draw: categorical.Draw = categorical.Draw(),
             rows: int | None = None) -> np.ndarray:
    """Fills in the free target tokens, in one piece.

    Args:
      tokens: as in `begin`, any number of rows.
      keys: as in `begin`.
      prompt: as in `begin`.
      stop: positions from here on are left alone; default L.
      draw: temperature, filters and levels.
      rows: pad to this many rows, for one shape whatever B is.

    Returns:
      [B, L] int32 NumPy.
    """
    return self._all(tokens, keys, prompt, stop, draw, rows, False)[0]

  def score(self, tokens: jax.Array | np.ndarray,
            rows: int | None = None) -> np.ndarray:
    """Step-wise logits of a whole sequence: [B, T * Q, K] float32.

    The same programs as `sample`, with every token given.
    """
    keys = categorical.row_keys(0, 0, 0, np.arange(len(tokens)))
    return self._all(tokens, keys, self.layout.target.start, None,
                     categorical.Draw(), rows, True)[1]

  def loss(self, tokens: jax.Array | np.ndarray,
           rows: int | None = None) -> np.ndarray:
    """[Q] mean nats of the target tokens, level by level."""
    target = self.layout.target
    codes = target.to_codes(np.asarray(tokens)[:, target.start:])
    nats = -jax.nn.log_softmax(self.score(tokens, rows))
    nats = np.asarray(nats).reshape(codes.shape + (-1,))
    found = np.take_along_axis(
        nats, np.maximum(codes, 0)[..., None], axis=-1)[..., 0]
    return np.where(codes < 0, 0.0, found).sum((0, 1)) / np.maximum(
        (codes >= 0).sum((0, 1)), 1)

  def _all(self, tokens, keys, prompt, stop, draw, rows, with_logits):
    tokens, count = np.asarray(tokens), len(tokens)
    rows = rows or padded_rows(count)
    parts = []
    for index, _ in batching.batches(count, [rows]):
      decoding = self.begin(
          tokens[index], keys[index], prompt, draw, with_logits)
      self.advance(decoding, self.layout.length if stop is None else stop)
      parts.append((np.asarray(decoding.tokens), np.asarray(decoding.logits)))
    tokens, logits = zip(*parts)
    return (np.concatenate(tokens)[:count],
            np.concatenate(logits)[:count] if with_logits else None)

  def _prompt_shape(self, prompt):
    """(what a prompt is padded to, size of the cache that it begins with)."""
    size = next(s for s in self.sizes if s >= prompt + BLOCK)
    return min(size, -(-prompt // _PROMPT_MULTIPLE) * _PROMPT_MULTIPLE), size

  def _draw_within(self, decoding, size, end):
    """Draws up to `end` with a cache of this size; changes `decoding`."""
    draw = decoding.draw
    if decoding.cache[0][1].shape[2] < size:
      decoding.cache = self._grow(decoding.cache, size)
    (decoding.variants, decoding.cache, decoding.recent,
     decoding.logits) = self._advance(
         self._weights, decoding.variants, decoding.cache, decoding.recent,
         decoding.logits, decoding.keys, decoding.mix,
         jnp.int32(decoding.prompt),
         jnp.int32(decoding.position), jnp.int32(end),
         jnp.float32(draw.temperature), jnp.int32(draw.top_k),
         jnp.float32(draw.top_p), filtered=draw.filtered,
         levels=self._kept(draw), with_logits=decoding.logits.ndim > 0)
    decoding.position = end

  def _kept(self, draw):
    """Levels that are drawn; 0 for all, so that it compiles nothing more."""
    return draw.levels % self.layout.target.num_codebooks

  def _before(self, positions, levels):
    """The position whose token is the input at each of `positions`."""
    target = self.layout.target
    if not levels:
      return positions - 1
    first = (positions - target.start) % target.num_codebooks == 0
    gap = jnp.where(first & (positions > target.start),
                    target.num_codebooks - levels, 0)
    return positions - 1 - gap

  def _unseen(self, size, levels):
    """[size] bool: positions of levels that are not drawn."""
    place = jnp.arange(size) - self.layout.target.start
    if not levels:
      return jnp.zeros(size, bool)
    return (place >= 0) & (place % self.layout.target.num_codebooks >= levels)

  def _prompt_mask(self, tokens, prompt, size, levels):
    """([B, size] inputs, [B, size] key mask of prompt and levels)."""
    before = jnp.clip(self._before(jnp.arange(size), levels), 0,
                      self.layout.length - 1)
    inputs = tokens[:, before].at[:, 0].set(layout_lib.PAD_ID)
    mask = jnp.where(jnp.arange(size) <= prompt, decoder.key_mask(inputs), 0.0)
    return inputs, jnp.where(
        self._unseen(size, levels), causal.NEGATIVE, mask)

  def _embed(self, weights, tokens, position):
    """Inputs at `position`, one or as many as `tokens` has columns."""
    x = weights['embedding'][tokens]
    if 'times' in weights:
      x = x + weights['times'][jnp.minimum(position, self.layout.length - 1)]
    return x

  def _prefill_program(self, weights, tokens, prompt, *, padded, size, levels):
    """The cache, `size` long, unread beyond the prompt; an empty block."""
    self.compilations += 1  # runs when traced, once for each shape
    inputs, mask = self._prompt_mask(tokens, prompt, padded, levels)
    cache = cached_transformer.prefill(
        weights['stack'], self._config,
        self._embed(weights, inputs, jnp.arange(padded)), mask)
    return (cached_transformer.grow(cache, size),
            cached_transformer.empty_recent(
                self._config, len(tokens), BLOCK))

  def _advance_program(
      self, weights, tokens, cache, recent, logits, keys, mix, prompt, position,
      stop, temperature, top_k, top_p, *, filtered, levels, with_logits):
    """(tokens, cache, recent, logits) with `position` .. `stop` - 1 drawn."""
    self.compilations += 1
    config, target = self._config, self.layout.target
    batch, size = len(tokens), cache[0][1].shape[2]
    _, mask = self._prompt_mask(tokens, prompt, size, levels)
    bias = cached_transformer.reversed_bias(
        weights['stack'], config, size, BLOCK)
    hidden = jnp.where(
        self._unseen(size + BLOCK, levels), causal.NEGATIVE, 0.0)

    def body(start, cache, mask, near_mask, step, carry):
      tokens, recent, logits = carry
      position = start + self._offset(step, levels)
      at = lambda p: lax.dynamic_slice(tokens, (0, p), (batch, 1))[:, 0]
      x, recent = cached_transformer.step(
          weights['stack'], config, cache, recent,
          self._embed(weights, at(self._before(position, levels)), position),
          position, start, bias, mask, near_mask)
      level = (position - target.start) % target.num_codebooks
      row = lax.dynamic_index_in_dim(weights['output'], level, keepdims=False)
      scores = lax.dot_general(
          x.astype(row.dtype), row, (((1,), (1,)), ((), ())),
          preferred_element_type=jnp.float32)
      if len(mix) > 1:
        scores = guidance.mixed(scores, mix)
      if with_logits:
        logits = lax.dynamic_update_slice(
            logits, scores[:, None], (0, position - target.start, 0))
      code = categorical.draw_codes(scores, keys, position, temperature,
                        (top_k, top_p) if filtered else None)
      # Variants go on from the same tokens.
      code = jnp.tile(code, len(mix))
      drawn = target.first_id + level * target.codebook_size + code
      given = at(position)
      token = jnp.where(given != layout_lib.PAD_ID, given, drawn)
      tokens = lax.dynamic_update_slice(tokens, token[:, None], (0, position))
      return tokens, recent, logits

    def block(index, carry):
      tokens, cache, recent, logits = carry
      start = prompt + index * BLOCK
      seen = jnp.where(jnp.arange(size) < start, mask, causal.NEGATIVE)
      near_mask = lax.dynamic_slice(hidden, (start,), (BLOCK,))
      tokens, recent, logits = lax.fori_loop(
          self._steps(jnp.maximum(position - start, 0), levels),
          self._steps(jnp.minimum(stop - start, BLOCK), levels),
          functools.partial(body, start, cache, seen, near_mask),
          (tokens, recent, logits))
      # A block that is not full yet is put there again when it is.
      return tokens, cached_transformer.append(cache, recent, start), recent, (
          logits)

    return lax.fori_loop(
        (position - prompt) // BLOCK, (stop - prompt + BLOCK - 1) // BLOCK,
        block, (tokens, cache, recent, logits))

  def _steps(self, positions, levels):
    """Steps that draw the first `positions` of a block."""
    frames = positions // self.layout.target.num_codebooks
    return frames * levels if levels else positions

  def _offset(self, step, levels):
    """The position within a block that a step of it draws."""
    if not levels:
      return step
    return step // levels * self.layout.target.num_codebooks + step % levels


def cache_sizes(length: int) -> list[int]:
  """Sizes that the cache takes while a sequence of `length` is drawn.

  A block may begin anywhere, so there is room for one more than the length:

  >>> cache_sizes(2264)
  [640, 1280, 1920, 2304]
  >>> cache_sizes(763)
  [512, 800]
  """
  round_up = lambda x, unit: -(-x // unit) * unit
  last = round_up(length + BLOCK, BLOCK)
  stretch = max(_STRETCH, round_up(length // _MOST_STRETCHES, _PROMPT_MULTIPLE))
  return [*range(stretch, last, stretch), last]


def _decode_weights(params, layout, config, int8):
  dtype = jnp.dtype(config.dtype)
  output = decoder.target_rows(params['logits_embedding'], layout, config.head)
  times = {}
  if config.time_features:
    times['times'] = (decoder.time_features(layout, config.time_features)
                      @ params['time_embedding']).astype(dtype)
  return {
      **times,
      'embedding': params['token_embedding'].astype(dtype),
      'output': output.astype(dtype),
      'stack': cached_transformer.weights_from(
          params['decoder'], config, int8),
  }
