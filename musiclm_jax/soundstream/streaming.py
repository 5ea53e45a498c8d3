"""The codec chunk by chunk, with its whole memory in an explicit state.

  state = encoder.init(batch)
  state, codes = encoder.step(state, audio [B, n * hop])     [B, n, Q]
  state, audio = decoder.step(state, codes [B, n, q])        [B, n * hop]

A chunk is any whole number of frames, one (20 ms) included; the results are
those of the whole signal, and nothing is computed twice. A state is a pytree of
arrays, one for each convolution that looks back: its last inputs.

  kernel k, dilation d     (k - 1) * d steps
  stride S                 one block of S steps
  transposed               one step

There is no second copy of the architecture here. The model runs as it is, and
where it calls one of its convolutions, the layer's past is put before the
inputs instead of zeros. All-zero pasts are therefore the start of a signal.
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from musiclm_jax.nn import conv
from musiclm_jax.nn import quantize
from musiclm_jax.soundstream import model

_COLLECTION = 'stream'


class _Stream:
  """What encoder and decoder share: a method of the model, with a state."""

  _method = None

  def __init__(self, codec):
    self._codec = codec
    self._model = model.SoundStream(codec.config)

  @property
  def spec(self):
    return self._codec.spec

  def init(self, batch=1):
    """The state before the first sample of `batch` signals."""
    _, state = jax.eval_shape(
        functools.partial(self._apply, self._codec.params, None),
        self._first(batch))
    return jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), state)

  def _first(self, batch):
    """Shape and type of one frame of inputs."""
    raise NotImplementedError

  def _apply(self, params, state, inputs):
    """(outputs, state) of one chunk."""
    variables = {'params': params}
    if state is not None:
      variables[_COLLECTION] = state
    with nn.intercept_methods(_with_past):
      outputs, changed = self._model.apply(
          variables, inputs, method=self._method, mutable=[_COLLECTION])
    return outputs, changed[_COLLECTION]


class Encoder(_Stream):
  """Audio to codes, chunk by chunk."""

  _method = 'encode'

  def __init__(self, codec, levels=None):
    """An encoder.

    Args:
      codec: a `codec.Codec`.
      levels: codebooks to use, the first ones; None for all.
    """
    super().__init__(codec)
    levels = self.spec.num_codebooks if levels is None else levels
    if not 1 <= levels <= self.spec.num_codebooks:
      raise ValueError(f'levels is {levels}; expected 1 to '
                       f'{self.spec.num_codebooks}.')
    self._codebooks = codec.codebooks[:levels]

  def step(self, state, chunk):
    """Codes of the next samples.

    Args:
      state: from `init` or from the step before.
      chunk: [B, n * hop] float at `spec.sample_rate_hz`.

    Returns:
      (state, [B, n, levels] int32).
    """
    state, latents = self.latents(state, chunk)
    return state, self._quantize(latents, self._codebooks)

  def latents(self, state, chunk):
    """As `step`, before quantisation: (state, [B, n, D] float)."""
    chunk = jnp.asarray(chunk, jnp.float32)
    hop = self.spec.hop_samples
    if chunk.ndim != 2 or not chunk.size or chunk.shape[1] % hop:
      raise ValueError(
          f'chunk has shape {chunk.shape}; expected [B, n * {hop}], n >= 1.')
    _check_batch(state, chunk)
    latents, state = self._run(self._codec.params, state, chunk)
    return state, latents

  def _first(self, batch):
    return jax.ShapeDtypeStruct((batch, self.spec.hop_samples), jnp.float32)

  @functools.cached_property
  def _run(self):
    return jax.jit(self._apply)

  @functools.cached_property
  def _quantize(self):
    return jax.jit(quantize.rvq_encode)


class Decoder(_Stream):
  """Codes to audio, chunk by chunk."""

  _method = 'decode'

  def step(self, state, codes):
    """Audio of the next frames.

    Args:
      state: from `init` or from the step before.
      codes: [B, n, q] int in 0..K-1, the first q levels; q may change from
        step to step.

    Returns:
      (state, [B, n * hop] float32).
    """
    codes = jnp.asarray(codes, jnp.int32)
    if (codes.ndim != 3 or not codes.size or
        codes.shape[2] > self.spec.num_codebooks):
      raise ValueError(
          f'codes have shape {codes.shape}; expected [B, n, 1 to '
          f'{self.spec.num_codebooks}].')
    _check_batch(state, codes)
    audio, state = self._run(
        self._codec.params, self._codec.codebooks, state, codes)
    return state, audio

  def _first(self, batch):
    return jax.ShapeDtypeStruct(
        (batch, 1, self._codec.config.latent_dim), jnp.float32)

  @functools.cached_property
  def _run(self):
    @jax.jit
    def run(params, codebooks, state, codes):
      return self._apply(
          params, state, quantize.rvq_decode(codes, codebooks))

    return run


def _check_batch(state, inputs):
  batch = jax.tree.leaves(state)[0].shape[0]
  if batch != inputs.shape[0]:
    raise ValueError(
        f'the chunk has {inputs.shape[0]} rows and the state {batch}; expected '
        f'as many as in `init`.')


def _with_past(call, args, kwargs, context):
  """Runs one method of the model; convolutions see their past, not zeros."""
  layer = context.module
  kind = _KINDS.get(type(layer))
  if kind is None or context.method_name != '__call__':
    return call(*args, **kwargs)
  steps, convolve = kind
  steps = steps(layer)
  if not steps:
    return call(*args, **kwargs)
  inputs, = args
  batch, _, channels = inputs.shape
  past = layer.variable(
      _COLLECTION, 'past', jnp.zeros, (batch, steps, channels), inputs.dtype)
  inputs = jnp.concatenate([past.value, inputs], axis=1)
  past.value = inputs[:, -steps:]
  return (convolve(inputs, layer.get_variable('params', 'kernel'), layer) +
          layer.get_variable('params', 'bias'))


def _plain(inputs, kernel, layer):
  """[B, (k - 1) * d + T, C] -> [B, T, D]."""
  return jax.lax.conv_general_dilated(
      inputs, kernel, (1,), 'VALID', rhs_dilation=(layer.dilation,),
      dimension_numbers=('NHC', 'HIO', 'NHC'))


def _strided(inputs, kernel, layer):
  """[B, S + T * S, C] -> [B, T, D]: a block and the one before it."""
  stride = layer.stride
  blocks = inputs.reshape(len(inputs), -1, stride * inputs.shape[2])
  both = jnp.concatenate([blocks[:, :-1], blocks[:, 1:]], axis=2)
  return both @ kernel.reshape(-1, kernel.shape[2])


def _transposed(inputs, kernel, layer):
  """[B, 1 + T, C] -> [B, T * S, D]: first half of a step, second of the last.
  """
  _, channels, features = kernel.shape
  halves = kernel.reshape(2, layer.stride, channels, features)
  matrix = jnp.swapaxes(halves, 1, 2).reshape(2 * channels, -1)
  both = jnp.concatenate([inputs[:, 1:], inputs[:, :-1]], axis=2)
  return (both @ matrix).reshape(len(inputs), -1, features)


# Layer -> (steps of its past, its outputs from past and present inputs).
_KINDS = {
    conv.CausalConv: (
        lambda layer: (layer.kernel_size - 1) * layer.dilation, _plain),
    conv.CausalConvStrided: (lambda layer: layer.stride, _strided),
    conv.CausalConvTransposed: (lambda layer: 1, _transposed),
}
