"""Convolutions of few channels, for TPUs: steps of time become channels.

A register has 128 lanes, and channels lie along them: an array of 32 channels is
three quarters padding, in memory and in the matrix unit. Where few channels come
in and go out, as many steps as fill the lanes are taken together, [B, T, C] as
[B, T / S, S * C], and the convolution is one of S times the channels, S times
fewer steps, and taps that are mostly the same numbers at other places.
"""

import jax
import jax.numpy as jnp
import numpy as np

_LANES = 128


def causal_conv(inputs: jax.Array, kernel: jax.Array, dilation: int = 1,
                missing: int | None = None) -> jax.Array:
  """`conv.causal_conv` of fewer than half as many channels as lanes."""
  size, channels, features = kernel.shape
  steps = _LANES // max(channels, features)
  if size == 1 or steps < 2:
    return NotImplemented
  back = (size - 1) * dilation
  missing = back if missing is None else missing
  length = inputs.shape[1] + missing - back
  taps = (steps - 1 + back) // steps + 1
  blocks = -(-length // steps)
  # Of all blocks that an output looks at; what is cut off no output sees.
  whole = (blocks + taps - 1) * steps
  inputs = jnp.pad(inputs, (
      (0, 0), (missing, max(0, whole - missing - inputs.shape[1])), (0, 0)))
  inputs = inputs[:, :whole].reshape(len(inputs), -1, steps * channels)
  kernel = jnp.einsum(
      'mrpi,icd->mrcpd', _places(size, dilation, steps, taps), kernel)
  outputs = jax.lax.conv_general_dilated(
      inputs, kernel.reshape(taps, steps * channels, steps * features).astype(
          inputs.dtype), (1,), 'VALID', dimension_numbers=('NHC', 'HIO', 'NHC'))
  return outputs.reshape(len(inputs), -1, features)[:, :length]


def _places(size, dilation, steps, taps):
  """[taps, steps in, steps out, size]: 1 where a tap of the kernel stands.

  Output p of a block sees the input p + i * dilation steps after the block's
  first through tap i.
  """
  found = np.zeros((taps, steps, steps, size), np.float32)
  for out in range(steps):
    for tap in range(size):
      block, step = divmod(out + tap * dilation, steps)
      found[block, step, out, tap] = 1.0
  return found


FORMS = {'causal_conv': causal_conv}
