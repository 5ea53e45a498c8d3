"""A codec that begins from a trained one, at its own or a wider decoder (ours).

A decoder of n times the width begins as the same function: every channel is
there n times, and what reads them takes a share of each,

  kernel [k, C, D] -> [k, n C, m D] / n        bias [D] -> [m D]

with a little noise, without which the copies would learn the same. ELU acts on
each channel alone, so copies stay copies through it.

With `learns = 'decoder'` (trainer.py) the encoder and the codebooks stay, bit
for bit: tokens made before are still its tokens, and stages trained on them
need not be trained again.
"""

import dataclasses

import jax
import jax.numpy as jnp

from musiclm_jax import bundle
from musiclm_jax import errors
from musiclm_jax import specs
from musiclm_jax.soundstream import model

_NOISE = 0.05  # of a kernel's own deviation


def begin(directory, config, params, rng):
  """The parameters and codebooks of a trained codec, in the shape of a new one.

  Args:
    directory: `<bundle>/soundstream`.
    config: the new codec's SoundStreamConfig: the old one's, but that
      `decoder_channels` may be a multiple.
    params: fresh parameters, of which the shapes are used.
    rng: random key of the noise; a decoder of the same width gets none.

  Returns:
    (params, codebooks [Q, K, D]), float32.

  Raises:
    UserError: there is no codec, or it has another shape.
  """
  component = bundle.load_component(directory)
  if component.kind != 'soundstream':
    raise errors.UserError(
        f'START_FROM {directory} is a {component.kind}; expected the '
        f'soundstream of a bundle.')
  old = specs.from_dict(model.SoundStreamConfig, component.config)
  differing = specs.difference(dataclasses.replace(
      old, decoder_channels=config.decoder_channels), config)
  if config.decoder_channels % old.decoder_channels:
    differing.append(
        f'decoder_channels: {old.decoder_channels}, expected a divisor of '
        f'{config.decoder_channels}')
  if differing:
    raise errors.UserError(
        f'START_FROM {directory} does not fit: {"; ".join(differing)}.')
  arrays, shapes = bundle.flatten(component.tree()['params']), bundle.flatten(
      params)
  rngs = dict(zip(sorted(shapes), jax.random.split(rng, len(shapes))))
  begun = {name: _widened(jnp.asarray(arrays[name]), shapes[name].shape, key)
           for name, key in rngs.items()}
  return bundle.unflatten(begun), jnp.asarray(component.weights['codebooks'])


def steps(directory):
  """What a codec says of its training: {'steps': ..., 'corpus': ...}."""
  about = bundle.load_component(directory).metadata
  return {name: about[name] for name in ('steps', 'corpus') if name in about}


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
