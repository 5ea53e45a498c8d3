"""Samples a stage's target tokens: one compiled program for each padded shape.

  prompt -> prefill -> loop { embed, step, logits of the position's own level,
                              draw } -> tokens

Everything runs on the device. Each position can only take the ids of its own
level, by construction: logits are computed for those alone, under either head.

A program is compiled for each (rows, prompt length): rows are padded to 1, 2, 4
or 8, the sequence always has the length of the stage's crop, and where to stop
is an argument. The cache grows in a few steps.
"""

import dataclasses
import functools

import jax
from jax import lax
import jax.numpy as jnp
import numpy as np

from musiclm_jax.nn import cached_transformer
from musiclm_jax.nn import transformer
from musiclm_jax.stages import decoder
from musiclm_jax.tokens import layout as layout_lib

ROW_COUNTS = (1, 2, 4, 8)
STAGES = ('semantic', 'coarse', 'fine')
BLOCK = 32  # steps between two writes into the large cache
_STRETCH = 512  # the cache grows by about this many positions at a time,
_MOST_STRETCHES = 4  # but not more often: each is compiled


@dataclasses.dataclass(frozen=True)
class Draw:
  """How a token is drawn from its logits.

  Attributes:
    temperature: divides the logits; 0 takes the largest.
    top_k: keep the k most likely ids; 0 keeps all.
    top_p: keep the most likely ids until their probabilities reach top_p; 1
      keeps all. Probabilities are those after the temperature.
  """

  temperature: float = 1.0
  top_k: int = 0
  top_p: float = 1.0

  @property
  def filtered(self):
    return self.top_k > 0 or self.top_p < 1.0


def row_keys(seed, stage, window, samples):
  """Random keys, one for each row: a function of its arguments alone.

  Args:
    seed: the user's.
    stage: 'semantic', 'coarse' or 'fine'.
    window: int, index of the window, or one for each row.
    samples: [B] index of each row's sample.
  """
  key = jax.random.fold_in(
      jax.random.key(seed % (1 << 32)), STAGES.index(stage))
  samples = jnp.asarray(samples, jnp.uint32)
  windows = jnp.broadcast_to(jnp.asarray(window, jnp.uint32), samples.shape)
  fold = lambda w, s: jax.random.fold_in(jax.random.fold_in(key, w), s)
  return jax.vmap(fold)(windows, samples)


class Sampler:
  """Draws sequences from a trained stage.

  Attributes:
    stage: the stages.model.TrainedStage.
    layout: its layout.
    compilations: programs compiled so far.
  """

  def __init__(self, stage):
    self.stage = stage
    self.layout = stage.layout
    self.compilations = 0
    self._weights = jax.jit(functools.partial(
        _decode_weights, layout=stage.layout, config=stage.config))(
            stage.params)
    self._program = jax.jit(
        self._run, static_argnames=('prompt', 'filtered', 'with_logits'))

  def sample(self, tokens, keys, prompt, stop=None, draw=Draw(), rows=None):
    """Fills in the free target tokens.

    Args:
      tokens: [B, L] int32 as of `Layout.build`: 0 where a token is to be drawn
        (or is padding of a condition); others stay as they are.
      keys: [B] random keys, of `row_keys`.
      prompt: the first position that may be drawn. All before it is known and
        processed at once; a program is compiled for each value.
      stop: positions from here on are left alone; default L.
      draw: temperature and filters.
      rows: pad to this many rows, for one shape whatever B is.

    Returns:
      [B, L] int32 NumPy.
    """
    return self._call(tokens, keys, prompt, stop, draw, rows, False)[0]

  def score(self, tokens, rows=None):
    """Step-wise logits of a whole sequence: [B, T * Q, K] float32.

    The same program as `sample`, with every token given.
    """
    keys = row_keys(0, self.stage.spec.name, 0, np.arange(len(tokens)))
    return self._call(tokens, keys, self.layout.target.start, None, Draw(),
                      rows, True)[1]

  def _call(self, tokens, keys, prompt, stop, draw, rows, with_logits):
    tokens = np.asarray(tokens, np.int32)
    if tokens.ndim != 2 or tokens.shape[1] != self.layout.length:
      raise ValueError(
          f'tokens of shape {tokens.shape}; expected [B, '
          f'{self.layout.length}].')
    if not self.layout.target.start <= prompt <= self.layout.length:
      raise ValueError(
          f'prompt ends at {prompt}; expected {self.layout.target.start} to '
          f'{self.layout.length}.')
    count = len(tokens)
    rows = rows or next((n for n in ROW_COUNTS if n >= count), ROW_COUNTS[-1])
    parts = []
    for first in range(0, count, rows):
      # Rows that only fill up the shape repeat the last real one.
      index = np.minimum(np.arange(first, first + rows), count - 1)
      result = self._program(
          self._weights, tokens[index], keys[index],
          jnp.int32(self.layout.length if stop is None else stop),
          jnp.float32(draw.temperature), jnp.int32(draw.top_k),
          jnp.float32(draw.top_p), prompt=prompt, filtered=draw.filtered,
          with_logits=with_logits)
      parts.append([np.asarray(x) for x in result])
    return [np.concatenate(p)[:count] for p in zip(*parts)]

  def _run(self, weights, tokens, keys, stop, temperature, top_k, top_p, *,
           prompt, filtered, with_logits):
    """The program: (tokens,) or (tokens, logits)."""
    self.compilations += 1  # runs when traced, once for each shape
    config, target = self.stage.config, self.layout.target
    batch, length = tokens.shape
    inputs = jnp.pad(tokens, ((0, 0), (1, 0)))
    mask = jnp.where(jnp.arange(length + 1) <= prompt,
                     decoder.key_mask(inputs), 0.0)
    cache = cached_transformer.prefill(
        weights['stack'], config, weights['embedding'][inputs[:, :prompt]],
        mask[:, :prompt])
    ends = cache_sizes(prompt, length)
    bias = (cached_transformer.reversed_bias(
        weights['stack'], config, ends[-1], BLOCK), ends[-1])
    mask = jnp.pad(mask[:, :length], ((0, 0), (0, ends[-1] - length)))

    def body(start, cache, mask, position, carry):
      tokens, recent, logits = carry
      at = lambda p: lax.dynamic_slice(tokens, (0, p), (batch, 1))[:, 0]
      x, recent = cached_transformer.step(
          weights['stack'], config, cache, recent,
          weights['embedding'][at(position - 1)], position, start, bias, mask)
      level = (position - target.start) % target.num_codebooks
      row = lax.dynamic_index_in_dim(weights['output'], level, keepdims=False)
      scores = lax.dot_general(
          x.astype(row.dtype), row, (((1,), (1,)), ((), ())),
          preferred_element_type=jnp.float32)
      if with_logits:
        logits = lax.dynamic_update_slice(
            logits, scores[:, None], (0, position - target.start, 0))
      code = draw_codes(scores, keys, position, temperature,
                        (top_k, top_p) if filtered else None)
      drawn = target.first_id + level * target.codebook_size + code
      given = at(position)
      token = jnp.where(given != layout_lib.PAD_ID, given, drawn)
      tokens = lax.dynamic_update_slice(tokens, token[:, None], (0, position))
      return tokens, recent, logits

    def block(first, mask, index, carry):
      tokens, cache, logits = carry
      start = first + index * BLOCK
      seen = jnp.arange(mask.shape[1]) < start
      tokens, recent, logits = lax.fori_loop(
          start, jnp.minimum(start + BLOCK, stop),
          functools.partial(body, start, cache,
                            jnp.where(seen, mask, transformer.NEGATIVE)),
          (tokens, cached_transformer.empty_recent(config, batch, BLOCK),
           logits))
      return tokens, cached_transformer.append(cache, recent, start), logits

    logits = jnp.zeros((batch, target.length, target.codebook_size)
                       if with_logits else (), jnp.float32)
    first = prompt
    for end in ends:
      blocks = (jnp.minimum(end, stop) - first + BLOCK - 1) // BLOCK
      tokens, cache, logits = lax.fori_loop(
          0, blocks, functools.partial(block, first, mask[:, :end]),
          (tokens, cached_transformer.grow(cache, end), logits))
      first = end
    return (tokens, logits) if with_logits else (tokens,)


def cache_sizes(prompt, length):
  """Ends of the stretches that share one cache size.

  Each is a whole number of blocks after the prompt:

  >>> cache_sizes(264, 2264)
  [776, 1288, 1800, 2312]
  >>> cache_sizes(13, 763)
  [397, 781]
  """
  steps = length - prompt
  count = min(_MOST_STRETCHES, max(1, -(-steps // _STRETCH)))
  stretch = max(1, -(-steps // (count * BLOCK))) * BLOCK
  return [prompt + stretch * (i + 1) for i in range(count)]


def draw_codes(logits, keys, position, temperature, filters=None):
  """[B, K] logits -> [B] codes.

  Args:
    logits: [B, K] float32.
    keys: [B] random keys; with the position they decide the draw.
    position: int32 scalar.
    temperature: float32 scalar; 0 takes the largest.
    filters: None or (top_k, top_p) scalars.
  """
  scaled = logits / jnp.maximum(temperature, 1e-6)
  if filters is not None:
    scaled = _filter(scaled, *filters)
  noise = jax.vmap(lambda key: jax.random.gumbel(
      jax.random.fold_in(key, position), logits.shape[1:]))(keys)
  noisy = jnp.where(temperature > 0, scaled + noise, logits)
  return jnp.argmax(noisy, axis=-1).astype(jnp.int32)


def _filter(logits, top_k, top_p):
  """Puts ids outside the top k and the top p out of reach."""
  size = logits.shape[-1]
  order = jnp.sort(logits, axis=-1)[:, ::-1]
  last = jnp.where(top_k > 0, jnp.minimum(top_k, size), size) - 1
  smallest = jnp.take(order, last, axis=-1)
  probabilities = jax.nn.softmax(order, axis=-1)
  before = jnp.cumsum(probabilities, axis=-1) - probabilities
  kept = jnp.where(before < top_p, order, jnp.inf).min(axis=-1)
  smallest = jnp.maximum(smallest, kept)
  return jnp.where(logits >= smallest[:, None], logits, -jnp.inf)


def _decode_weights(params, layout, config):
  dtype = jnp.dtype(config.dtype)
  output = decoder.target_rows(params['logits_embedding'], layout, config.head)
  return {
      'embedding': params['token_embedding'].astype(dtype),
      'output': output.astype(dtype),
      'stack': cached_transformer.weights_from(params['decoder'], config),
  }
