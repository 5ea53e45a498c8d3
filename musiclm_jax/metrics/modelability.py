"""How well can a small network predict a codec's tokens?

  codes [n, T, Q] of training clips ──> a decoder of one size, so many steps
  codes of held-out clips ───────────> nats per token, by level

A codec that reconstructs well and cannot be predicted is no gain for the stages
above it. The decoder is the same for every codec, as are its data's length, its
steps and its seed: what differs is the codes. Nats per second of audio are what
codecs of other frame rates, levels and codebook sizes can be compared by.

Levels are predicted in a delay pattern, one position a frame:

  position      0     1     2     3
  level 1      c01   c11   c21   c31      c_tq: frame t, level q
  level 2       -    c02   c12   c22
  level 3       -     -    c03   c13

The embeddings of a position are summed, T5 blocks follow, and one softmax a
level predicts the next position: a code is predicted from all earlier frames'
coarser codes and its own frame's. A level's softmax has the level's embeddings as
its rows: that a code lasts, which is most of what can be known of it, is then a
matter of one number, where separate rows take thousands of steps to find each
code's like.
"""

from collections.abc import Callable
import dataclasses
import functools
from typing import Self

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from musiclm_jax import errors
from musiclm_jax import specs
from musiclm_jax.nn import transformer
from musiclm_jax.tokens import frequencies

_BATCH = 10  # clips in a step


@dataclasses.dataclass(frozen=True)
class Config:
  """The decoder and its training; figures of two settings do not compare.

  Attributes:
    levels: codebooks that are predicted, the first ones; 0: those that the
      codec's spec calls coarse.
    steps: updates.
    seed: of the first parameters and of the order of the clips.
    learning_rate: the peak, after a tenth of the steps; it ends at zero.
    dim: width; heads have 64.
    num_layers: blocks.
  """

  levels: int = 0
  steps: int = 300
  seed: int = 0
  learning_rate: float = 1e-3
  dim: int = 256
  num_layers: int = 4

  def __post_init__(self):
    if self.steps < 1:
      raise errors.UserError(
          f'modelability takes {self.steps} steps; expected at least 1.')

  def of(self, spec: specs.CodecSpec) -> Self:
    """The same for one codec: its number of levels is known."""
    levels = self.levels or min(spec.coarse_codebooks, spec.num_codebooks)
    if not 1 <= levels <= spec.num_codebooks:
      raise errors.UserError(
          f'modelability is asked of {levels} levels; expected 1 to the '
          f"codec's {spec.num_codebooks}.")
    return dataclasses.replace(self, levels=levels)


@dataclasses.dataclass(frozen=True)
class Result:
  """What the held-out codes cost.

  Attributes:
    nats: [clips, Q] mean nats per token of each clip and level.
    unigram: [Q] entropy of each level's own frequencies, in nats.
    frame_rate_hz: frames a second.
    tracks: [clips] the recordings that they were cut from; () where every clip
      counts as its own.
  """

  nats: np.ndarray
  unigram: np.ndarray
  frame_rate_hz: float
  tracks: tuple = ()

  @property
  def by_level(self) -> np.ndarray:
    """[Q] nats per token, mean over clips."""
    return self.nats.mean(axis=0)

  @property
  def per_second(self) -> np.ndarray:
    """[clips] nats per second of audio, of all levels together."""
    return self.nats.sum(axis=1) * self.frame_rate_hz

  @property
  def unigram_per_second(self) -> float:
    return float(self.unigram.sum() * self.frame_rate_hz)


def measure(
    train: np.ndarray, held: np.ndarray, codebook_size: int, frame_rate_hz: int,
    config: Config, say: Callable[[str], None] | None = None) -> Result:
  """Trains the decoder on some codes and asks it for others.

  Args:
    train: [n, T, Q] int codes, 0..K-1, with Q >= `config.levels`.
    held: [m, T, Q] codes of other music.
    codebook_size: K.
    frame_rate_hz: frames a second.
    config: a `Config` with levels.
    say: None or a function of a line of progress.

  Returns:
    A `Result`.
  """
  train, held = (np.asarray(codes[..., :config.levels], np.int32)
                 for codes in (train, held))
  if train.shape[1:] != held.shape[1:] or not (len(train) and len(held)):
    raise ValueError(
        f'training codes have shape {train.shape} and held-out ones '
        f'{held.shape}; expected [clips, T, Q], alike but for the clips.')
  module = Decoder(codebook_size, config.levels, config.dim, config.num_layers)
  params = _learn(module, train, config, say or (lambda line: None))
  cost = jax.jit(functools.partial(_nats, module))
  nats = []
  for start in range(0, len(held), _BATCH):
    part = held[start:start + _BATCH]
    rows = np.pad(part, ((0, _BATCH - len(part)), (0, 0), (0, 0)))
    nats.append(np.asarray(cost(params, rows))[:len(part)])
  return Result(
      np.concatenate(nats).mean(axis=1),
      frequencies.entropy_of_counts(
          frequencies.level_counts(held, codebook_size)), frame_rate_hz)


class Decoder(nn.Module):
  """Codes [B, T, Q] -> logits [B, T, Q, K] of the same codes.

  Attributes:
    size: K.
    levels: Q.
    dim: width.
    num_layers: blocks.
  """

  size: int
  levels: int
  dim: int
  num_layers: int

  @nn.compact
  def __call__(self, codes):
    delayed = delay(codes, self.size)  # size: nothing there yet
    # The sequence begins with a position of nothing.
    inputs = jnp.pad(delayed, ((0, 0), (1, 0), (0, 0)),
                     constant_values=self.size)[:, :-1]
    table = self.param('embedding', nn.initializers.normal(0.5),
                       (self.levels, self.size + 1, self.dim))
    x = sum(table[q][inputs[..., q]] for q in range(self.levels))
    x = transformer.Transformer(transformer.StackConfig(
        self.num_layers, max(1, self.dim // 64), min(64, self.dim),
        2 * self.dim), name='blocks')(x, jnp.zeros(x.shape[:2]))
    # From zero: before the first step every code is as likely.
    gains = self.param('gains', nn.initializers.zeros, (self.levels,))
    biases = self.param('biases', nn.initializers.zeros,
                        (self.levels, self.size))
    frames = codes.shape[1]
    return jnp.stack([
        gains[q] * (x[:, q:q + frames] @ table[q, :self.size].T) + biases[q]
        for q in range(self.levels)], axis=2)


def delay(codes: jax.Array, nothing: int) -> jax.Array:
  """[B, T, Q] -> [B, T + Q - 1, Q]: level q comes q positions later.

  >>> delay(jnp.asarray([[[1, 2], [3, 4]]]), 9)[0].tolist()
  [[1, 9], [3, 2], [9, 4]]
  """
  levels = codes.shape[-1]
  return jnp.stack([
      jnp.pad(codes[..., q], ((0, 0), (q, levels - 1 - q)),
              constant_values=nothing) for q in range(levels)], axis=-1)


def _nats(module, params, codes):
  """[B, T, Q] what each code costs."""
  logits = module.apply({'params': params}, codes)
  return optax.softmax_cross_entropy_with_integer_labels(logits, codes)


def _learn(module, codes, config, say):
  """Parameters after the steps; clips in an order drawn anew each round."""
  warmup = max(1, config.steps // 10)
  rate = optax.warmup_cosine_decay_schedule(
      0.0, config.learning_rate, warmup, max(config.steps, warmup + 1))
  optimizer = optax.chain(
      optax.clip_by_global_norm(1.0),
      optax.adamw(rate, b1=0.9, b2=0.95, weight_decay=0.01))
  params = jax.jit(module.init)(
      jax.random.key(config.seed), codes[:1])['params']

  @functools.partial(jax.jit, donate_argnums=(0, 1))
  def step(params, opt_state, rows):
    loss, grads = jax.value_and_grad(
        lambda p: jnp.mean(_nats(module, p, rows)))(params)
    updates, opt_state = optimizer.update(grads, opt_state, params)
    return optax.apply_updates(params, updates), opt_state, loss

  opt_state, order = optimizer.init(params), _order(len(codes), config)
  for number, rows in enumerate(order, 1):
    params, opt_state, loss = step(params, opt_state, codes[rows])
    if number % 50 == 0 or number == config.steps:
      say(f'modelability: step {number} of {config.steps}, '
          f'{float(loss):.2f} nats a token')
  return params


def _order(count, config):
  """[steps, batch] indices of clips."""
  rng = np.random.default_rng(config.seed)
  wanted = config.steps * _BATCH
  rounds = -(-wanted // count)
  return np.concatenate([rng.permutation(count) for _ in range(rounds)])[
      :wanted].reshape(config.steps, _BATCH)
