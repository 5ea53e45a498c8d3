"""What a layer remembers when a signal comes chunk by chunk.

  whole    module.apply({'params': p}, x)                 zeros before the start
  a chunk  module.apply({'params': p, 'stream': s}, x, mutable=['stream'])
                                                     -> y, {'stream': s'}

Each layer that looks back keeps its own last inputs, in a variable of the
collection 'stream', and takes them in place of the zeros. So there is one
`__call__` for both, whatever is built of such layers streams, and nothing lists
the kinds of layers. A stream begins with zeros, as the whole does.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

COLLECTION = 'stream'


def active(module: nn.Module) -> bool:
  """Whether `module` is called with a chunk of a stream."""
  return (module.is_mutable_collection(COLLECTION) and
          not module.is_initializing())


def with_past(module: nn.Module, inputs: jax.Array, steps: int,
              name: str = 'past') -> tuple[jax.Array, int]:
  """A layer's inputs with what came before them.

  Args:
    module: the layer; at most one call of this with `name` each time it runs.
    inputs: [B, T, C].
    steps: how far it looks back.
    name: of the variable that holds the past.

  Returns:
    (inputs, zeros that the layer must put before them): in a stream
    [B, steps + T, C] and 0, else `inputs` as they came and `steps`.
  """
  if not steps or not active(module):
    return inputs, steps
  batch, _, channels = inputs.shape
  past = module.variable(COLLECTION, name, jnp.zeros, (batch, steps, channels),
                         inputs.dtype)
  inputs = jnp.concatenate([past.value, inputs], axis=1)
  past.value = inputs[:, -steps:]
  return inputs, 0


def clock(module: nn.Module, batch: int, steps: int, period: int) -> jax.Array:
  """Where in its period each step is: [B, T] int32, 0, 1, ..., period - 1, 0, ...

  A stream goes on counting where the last chunk ended.

  Args:
    module: the layer that counts; one call of this each time it runs.
    batch: B.
    steps: T.
    period: steps.
  """
  count = jnp.broadcast_to(jnp.arange(steps), (batch, steps))
  if active(module):
    first = module.variable(
        COLLECTION, 'clock', jnp.zeros, (batch, 1), jnp.int32)
    count = count + first.value
    first.value = (first.value + steps) % period
  return count % period


def start(module: nn.Module, params: Any, inputs: Any, **kwargs: Any) -> Any:
  """The state of a stream before its first chunk.

  Args:
    module: a Flax module.
    params: its parameters.
    inputs: a ShapeDtypeStruct, or a tree of them: the inputs of one frame.
    **kwargs: of `apply`, such as its method.

  Returns:
    A tree of zeros, one array for each past; {} where nothing looks back.
  """
  _, state = jax.eval_shape(
      lambda p, x: step(module, p, None, x, **kwargs), params, inputs)
  return jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), state)


def step(module: nn.Module, params: Any, state: Any, inputs: Any,
         **kwargs: Any) -> tuple[Any, Any]:
  """(outputs, state) of one chunk; `state` None makes a fresh one."""
  variables = {'params': params}
  if state:
    variables[COLLECTION] = state
  outputs, changed = module.apply(
      variables, inputs, mutable=[COLLECTION], **kwargs)
  return outputs, changed.get(COLLECTION, {})


class Frames(nn.Module):
  """Cuts a signal into overlapping frames: [B, T * hop] -> [B, T, size].

  Frame t ends with the samples of block t; zeros stand before the start.

  Attributes:
    size: of a frame, a multiple of `hop`.
    hop: samples from one frame to the next.
  """

  size: int
  hop: int

  @nn.compact
  def __call__(self, signal: jax.Array) -> jax.Array:
    blocks = signal.reshape(signal.shape[0], -1, self.hop)
    back = self.size // self.hop - 1
    blocks, missing = with_past(self, blocks, back)
    blocks = jnp.pad(blocks, ((0, 0), (missing, 0), (0, 0)))
    count = blocks.shape[1] - back
    return jnp.concatenate(
        [blocks[:, i:i + count] for i in range(back + 1)], axis=-1)


class OverlapAdd(nn.Module):
  """Adds up overlapping frames: [B, T, size] -> [B, T * hop].

  Frame t begins with the samples of block t, so that block t is the sum of
  parts of frames t, t - 1, ... The tail, which later frames would still be
  added to, is not given out.
  """

  hop: int

  @nn.compact
  def __call__(self, frames: jax.Array) -> jax.Array:
    batch, count, size = frames.shape
    back = size // self.hop - 1
    frames, missing = with_past(self, frames, back)
    frames = jnp.pad(frames, ((0, 0), (missing, 0), (0, 0)))
    parts = frames.reshape(batch, back + count, back + 1, self.hop)
    blocks = sum(parts[:, back - i:back - i + count, i]
                 for i in range(back + 1))
    return blocks.reshape(batch, -1)
