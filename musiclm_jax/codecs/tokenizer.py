"""The trained codec as a tokenizer: audio <-> codes, any length.

A track is processed in chunks of one shape: each sees enough of what came before
and of what comes next (`encoder_context_frames`, `encoder_lookahead` and so on of
the configuration) that its result equals that of the whole track. Memory is
bounded by a chunk, and only a few shapes are ever compiled.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from musiclm_jax import contracts
from musiclm_jax import specs
from musiclm_jax.codecs import registry
from musiclm_jax.codecs import streaming
from musiclm_jax.nn import quantize

_CHUNK_FRAMES = 512  # 10 s at 50 Hz
_SMALLEST_FRAMES = 32  # shorter inputs are padded to it


class Codec:
  """Encodes [B, N] audio into [B, T, Q] codes, and decodes them.

  Attributes:
    config: of the architecture.
    params: the generator's parameters, on the device.
    codebooks: [Q, K, D] float, on the device.
    chunk_frames: frames processed at once.
    model: the generator.Generator.
  """

  def __init__(self, config: Any, params: Any, codebooks: ArrayLike,
               chunk_frames: int = _CHUNK_FRAMES):
    """A codec.

    Args:
      config: of the architecture; see codecs/registry.py.
      params: the generator's parameters, and those of a quantizer that has
        some, under `quantize.PARAMS`.
      codebooks: [Q, K, D] float.
      chunk_frames: frames processed at once, context on both sides included.
    """
    context = config.period_frames - 1 + max(
        config.encoder_context_frames + config.encoder_lookahead,
        config.decoder_context_frames + config.decoder_lookahead)
    if chunk_frames <= context:
      raise ValueError(
          f'chunk_frames is {chunk_frames}; expected more than the context of '
          f'{context} frames.')
    self.config = config
    self.params = jax.tree.map(jnp.asarray, params)
    self.codebooks = jnp.asarray(codebooks)
    self.chunk_frames = chunk_frames
    self.model = config.build()

  @property
  def spec(self) -> specs.CodecSpec:
    return self.config.spec

  @property
  def encoder_lookahead(self) -> int:
    """Frames after its own that the codes of a frame depend on."""
    return self.config.encoder_lookahead

  @property
  def decoder_lookahead(self) -> int:
    """Frames after its own that the samples of a frame depend on."""
    return self.config.decoder_lookahead

  @property
  def latency_samples(self) -> int:
    """From a sample that goes in to the same one coming out of a stream.

    The frame must be full, and encoder and decoder wait for their look-ahead.
    """
    frames = 1 + self.encoder_lookahead + self.decoder_lookahead
    return frames * self.spec.hop_samples

  @property
  def causal(self) -> bool:
    """Whether the codes of a frame depend on nothing after it."""
    return not self.encoder_lookahead

  def stream_encoder(self, levels: int | None = None) -> streaming.Encoder:
    """Audio to codes chunk by chunk: those of the whole, nothing twice.

    Args:
      levels: codebooks to use, the first ones; None for all.
    """
    return streaming.Encoder(self, levels)

  def stream_decoder(self) -> streaming.Decoder:
    """Codes to audio chunk by chunk: that of the whole, nothing twice."""
    return streaming.Decoder(self)

  def encode(self, audio: ArrayLike) -> np.ndarray:
    """Codes of audio.

    Args:
      audio: [B, N] float at `spec.sample_rate_hz`; the last frame is padded
        with zeros.

    Returns:
      [B, ceil(N / hop), Q] int32.
    """
    audio = np.asarray(audio, np.float32)
    _check_rank(audio, 2, 'audio', '[B, N]')
    frames = self.spec.num_frames(audio.shape[1])
    hop = self.spec.hop_samples
    audio = np.pad(audio, ((0, 0), (0, frames * hop - audio.shape[1])))
    blocks = audio.reshape(len(audio), frames, hop)
    return self._by_chunks(
        blocks, self._encode, self.config.encoder_context_frames,
        self.encoder_lookahead, 'constant')

  def decode(self, codes: ArrayLike) -> np.ndarray:
    """Audio of codes.

    Args:
      codes: [B, T, q] int; the first q levels, q <= Q.

    Returns:
      [B, T * hop] float32.
    """
    codes = np.asarray(codes, np.int32)
    _check_rank(codes, 3, 'codes', '[B, T, q]')
    self._check_codes(codes)
    blocks = self._by_chunks(
        codes, self._decode, self.config.decoder_context_frames,
        self.decoder_lookahead, 'edge')
    return blocks.reshape(len(codes), -1)

  def _by_chunks(self, inputs, function, context, ahead, padding):
    """`function` over [B, T, ...] in chunks that overlap.

    With chunks of 8, a context of 3 and nothing ahead, 15 frames are done as
    0..8, 5..13 and 10..18 (the last one padded); of each chunk but the first,
    the first 3 results are dropped. With 1 ahead they are 0..8, 4..12, 8..16:
    of each chunk but the last, the last result is dropped too.

    Args:
      inputs: [B, T, ...].
      function: [B, size, ...] -> [B, size, ...].
      context: frames back that a result depends on.
      ahead: frames ahead likewise.
      padding: what stands behind the end, as of `np.pad`.
    """
    length, period = inputs.shape[1], self.config.period_frames
    size = self._padded(length)
    outputs, start, done = [], 0, 0
    while done < length:
      part = inputs[:, start:start + size]
      missing = size - part.shape[1]
      part = np.pad(
          part, ((0, 0), (0, missing)) + ((0, 0),) * (part.ndim - 2), padding)
      last = start + size >= length
      stop = length if last else start + size - ahead
      result = np.asarray(function(part))
      outputs.append(result[:, done - start:stop - start])
      done = stop
      start = (stop - context) // period * period
    return np.concatenate(outputs, axis=1)

  def _padded(self, frames):
    """Frames of one chunk: powers of two up to `chunk_frames`."""
    size = _SMALLEST_FRAMES
    while size < frames:
      size *= 2
    return min(size, self.chunk_frames)

  @functools.cached_property
  def _encode(self):
    """Jitted: [B, T, hop] samples -> [B, T, Q] codes."""
    @jax.jit
    def encode(params, codebooks, blocks):
      latents = self.model.apply(
          {'params': params}, blocks.reshape(len(blocks), -1),
          method='encode')
      return quantize.rvq_encode(
          latents, codebooks, params.get(quantize.PARAMS))

    return lambda blocks: encode(self.params, self.codebooks, blocks)

  @functools.cached_property
  def _decode(self):
    """Jitted: [B, T, q] codes -> [B, T, hop] samples."""
    @jax.jit
    def decode(params, codebooks, codes):
      audio = self.model.apply(
          {'params': params}, quantize.rvq_decode(codes, codebooks),
          method='decode')
      return audio.reshape(codes.shape[:2] + (self.spec.hop_samples,))

    return lambda codes: decode(self.params, self.codebooks, codes)

  def _check_codes(self, codes):
    if not 0 < codes.shape[2] <= self.spec.num_codebooks:
      raise ValueError(
          f'codes have {codes.shape[2]} levels; expected 1 to '
          f'{self.spec.num_codebooks}.')
    if codes.size and not (
        0 <= codes.min() and codes.max() < self.spec.codebook_size):
      raise ValueError(
          f'codes are in {codes.min()}..{codes.max()}; expected '
          f'0..{self.spec.codebook_size - 1}.')


def from_component(component: contracts.Component) -> Codec:
  """The codec of a stored component."""
  config = registry.config_of(component)
  weights = component.tree()
  return Codec(config, weights['params'], weights['codebooks'])


def _check_rank(array, rank, name, expected):
  if array.ndim != rank or 0 in array.shape:
    raise ValueError(
        f'{name} has shape {array.shape}; expected {expected}, not empty.')
