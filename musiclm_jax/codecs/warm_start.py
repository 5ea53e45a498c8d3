"""A codec that begins from a trained one, at its own or a wider decoder (ours).

SoundStream's decoder of n times the width begins as the same function: every
channel is there n times, and what reads them takes a share of each,

  kernel [k, C, D] -> [k, n C, m D] / n        bias [D] -> [m D]

with a little noise, without which the copies would learn the same. ELU acts on
each channel alone, so copies stay copies through it.

With `learns = 'decoder'` (trainer.py) the encoder and the codebooks stay, bit
for bit: tokens made before are still its tokens, and stages trained on them
need not be trained again.
"""

import dataclasses
import os
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from musiclm_jax import bundle
from musiclm_jax import errors
from musiclm_jax import specs
from musiclm_jax.codecs import registry
from musiclm_jax.nn import quantize

_NOISE = 0.05  # of a kernel's own deviation
_WIDER = 'decoder_channels'  # the width that may grow, where a codec has it


def begin(directory: str | os.PathLike, config: Any, params: dict[str, Any],
          rng: jax.Array) -> tuple[dict[str, Any], jax.Array]:
  """The parameters and codebooks of a trained codec, in the shape of a new one.

  Args:
    directory: `<bundle>/codec`.
    config: the new codec's configuration: the old one's, but that
      `decoder_channels` of a SoundStream may be a multiple.
    params: fresh parameters, of which the shapes are used.
    rng: random key of the noise; a decoder of the same width gets none.

  Returns:
    (params, codebooks [Q, K, D]), float32.

  Raises:
    UserError: there is no codec, or it has another shape.
  """
  component = bundle.load_component(directory)
  if component.kind != config.kind:
    raise errors.UserError(
        f'START_FROM {directory} is a {component.kind}; expected a '
        f'{config.kind}, as the leaf trains it.')
  old = registry.config_of(component, directory)
  differing = specs.difference(_as_wide(old, config), config)
  if hasattr(old, _WIDER) and getattr(config, _WIDER) % getattr(old, _WIDER):
    differing.append(
        f'{_WIDER}: {getattr(old, _WIDER)}, expected a divisor of '
        f'{getattr(config, _WIDER)}')
  if differing:
    raise errors.UserError(
        f'START_FROM {directory} does not fit: {"; ".join(differing)}.')
  kept = component.tree()['params']
  if jax.tree.map(np.shape, kept.get(quantize.PARAMS, {})) != jax.tree.map(
      np.shape, params.get(quantize.PARAMS, {})):
    raise errors.UserError(
        f'START_FROM {directory} has a quantizer that learnt in another way; '
        f"expected RvqConfig's kind and projected_dim to be as they were when "
        f'it was trained.')
  arrays, shapes = bundle.flatten(kept), bundle.flatten(params)
  rngs = dict(zip(sorted(shapes), jax.random.split(rng, len(shapes))))
  begun = {name: _widened(jnp.asarray(arrays[name]), shapes[name].shape, key)
           for name, key in rngs.items()}
  return bundle.unflatten(begun), jnp.asarray(component.weights['codebooks'])


def steps(directory: str | os.PathLike) -> dict[str, Any]:
  """What a codec says of its training: {'steps': ..., 'corpus': ...}."""
  about = bundle.load_component(directory).metadata
  return {name: about[name] for name in ('steps', 'corpus') if name in about}


def _as_wide(old, config):
  """`old` with the width of `config`, which may differ."""
  if not hasattr(old, _WIDER):
    return old
  return dataclasses.replace(old, **{_WIDER: getattr(config, _WIDER)})


def _widened(array, shape, rng):
  """`array` in `shape`, a multiple of its own in its last two axes."""
  times = [new // old for new, old in zip(shape, array.shape)]
  if max(times) == 1:
    return array
  array = jnp.tile(array, times)
  if array.ndim == 1:
    return array
  array = array / times[-2]
  return array + _NOISE * jnp.std(array) * jax.random.normal(rng, array.shape)
