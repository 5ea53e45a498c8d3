"""The codec chunk by chunk, with its whole memory in an explicit state.

  state = encoder.init(batch)
  state, codes = encoder.step(state, audio [B, n * hop])     [B, n, Q]
  state, audio = decoder.step(state, codes [B, n, q])        [B, n * hop]

  for codes in encoder.stream(blocks of audio): ...     late frames put right
  for audio in decoder.stream(blocks of codes): ...

A chunk is any whole number of frames, one (20 ms) included; the results are
those of the whole signal, and nothing is computed twice. A codec that looks ahead
gives its results `delay_frames` late: `step` gives as many frames as it takes,
of which the first `delay_frames` of a stream are of what was before it; `stream`
drops them, and gives the end what it waits for.

The layers keep their own pasts (nn/streams.py): a state is a tree of arrays, one
for each layer that looks back.
"""

from collections.abc import Iterable
from collections.abc import Iterator
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from musiclm_jax.nn import quantize
from musiclm_jax.nn import streams


class _Stream:
  """What encoder and decoder share: a method of the model, with a state.

  Attributes:
    delay_frames: how much later than its inputs the outputs come.
  """

  _method = None
  _per_frame = 1  # outputs along axis 1
  delay_frames = 0

  def __init__(self, codec: Any):
    self._codec = codec
    self._model = codec.model

  @property
  def spec(self) -> Any:
    return self._codec.spec

  def init(self, batch: int = 1) -> Any:
    """The state before the first sample of `batch` signals."""
    return streams.start(self._model, self._codec.params, self._first(batch),
                         method=self._method)

  def stream(self, chunks: Iterable) -> Iterator[jax.Array]:
    """`step` over the chunks of one signal, its outputs in time.

    Args:
      chunks: iterable of what `step` takes, all of one batch.

    Yields:
      As many frames as came in, what is known after each chunk. The first
      outputs are fewer by `delay_frames`, and those come behind the last chunk.
    """
    late, state, chunk = self.delay_frames, None, None
    for chunk in chunks:
      state = self.init(len(chunk)) if state is None else state
      state, outputs = self.step(state, chunk)
      yield from self._cut(outputs, late)
      late -= min(late, outputs.shape[1] // self._per_frame)
    missing = self.delay_frames if chunk is not None else 0
    while missing:  # by chunks of a known size: nothing new is compiled
      state, outputs = self.step(state, self._behind(chunk))
      frames = outputs.shape[1] // self._per_frame
      yield from self._cut(
          outputs[:, :min(missing, frames) * self._per_frame], late)
      late -= min(late, frames)
      missing -= min(missing, frames)

  def _cut(self, outputs, late):
    """`outputs` without their first `late` frames, where any are left."""
    if outputs.shape[1] > late * self._per_frame:
      yield outputs[:, late * self._per_frame:]

  def _behind(self, chunk):
    """A chunk of what is behind the end, as long as the last one."""
    raise NotImplementedError

  def _first(self, batch):
    """Shape and type of one frame of inputs."""
    raise NotImplementedError

  def _apply(self, params, state, inputs):
    """(outputs, state) of one chunk."""
    return streams.step(self._model, params, state, inputs,
                        method=self._method)


class Encoder(_Stream):
  """Audio to codes, chunk by chunk."""

  _method = 'encode'

  def __init__(self, codec: Any, levels: int | None = None):
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
    self._quantizer = jax.tree.map(
        lambda x: x[:levels],
        (codec.codebooks, codec.params.get(quantize.PARAMS)))
    self.delay_frames = codec.config.encoder_lookahead

  def step(self, state: Any,
           chunk: jax.Array | np.ndarray) -> tuple[Any, jax.Array]:
    """Codes of the next samples.

    Args:
      state: from `init` or from the step before.
      chunk: [B, n * hop] float at `spec.sample_rate_hz`.

    Returns:
      (state, [B, n, levels] int32).
    """
    state, latents = self.latents(state, chunk)
    return state, self._quantize(latents, *self._quantizer)

  def latents(self, state: Any,
              chunk: jax.Array | np.ndarray) -> tuple[Any, jax.Array]:
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

  def _behind(self, chunk):
    return np.zeros_like(chunk)

  @functools.cached_property
  def _run(self):
    return jax.jit(self._apply)

  @functools.cached_property
  def _quantize(self):
    return jax.jit(quantize.rvq_encode)


class Decoder(_Stream):
  """Codes to audio, chunk by chunk."""

  _method = 'decode'

  def __init__(self, codec: Any):
    super().__init__(codec)
    self.delay_frames = codec.config.decoder_lookahead
    self._per_frame = self.spec.hop_samples

  def step(self, state: Any,
           codes: jax.Array | np.ndarray) -> tuple[Any, jax.Array]:
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

  def _behind(self, chunk):
    return np.repeat(np.asarray(chunk)[:, -1:], chunk.shape[1], axis=1)

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
