"""EnCodec, DAC and Mimi as codecs.

  audio [B, N] at 24 kHz -> the model's rate -> codes [B, T, Q] -> audio

Audio of more than a minute is processed in pieces with context on both sides
(ours: memory stays bounded, and the codes are nearly those of one pass). Streams
process each chunk with the same context (streaming.py): equal to one pass for the
first 10 s; after them exact for DAC, which hears far less than that, and nearly so
for EnCodec and Mimi, whose recurrent and attention layers remember more.
"""

import fractions
import math

import numpy as np
from numpy.typing import ArrayLike

from musiclm_jax import errors
from musiclm_jax import specs
from musiclm_jax.tokenizers.adapters import hub
from musiclm_jax.tokenizers.adapters import options as options_lib
from musiclm_jax.tokenizers.adapters import streaming
from musiclm_jax.tokenizers.adapters import waveforms

MODELS = {'encodec': 'EncodecModel', 'dac': 'DacModel', 'mimi': 'MimiModel'}
_PIECE_SECONDS = 60  # ours: audio in one call, batch included
_LEFT_SECONDS = 10
_RIGHT_SECONDS = 1


class Codec:
  """A `transformers` codec of a local directory.

  Attributes:
    spec: the `CodecSpec`, at the system's sample rate.
    codebooks: None: each kind keeps its vectors in its own way.
    causal: whether padding after the end leaves the codes before it alone.
  """

  spec: specs.CodecSpec
  codebooks: None = None
  causal: bool

  def __init__(self, options: options_lib.CodecOptions,
               audio_rate_hz: int = waveforms.RATE_HZ):
    self._kind = hub.model_type(options.directory, MODELS, '--codec')
    self._model = hub.load(options.directory, MODELS[self._kind])
    config = self._model.config
    _check_supported(options.directory, self._kind, config)
    self._rate_hz = config.sampling_rate
    self._hop, strides = _hop(self._kind, config)
    rate = waveforms.frame_rate(
        options.directory, self._rate_hz, self._hop, audio_rate_hz)
    self._hop = int(self._hop)
    self.spec = _spec(options, _num_codebooks(self._kind, config), rate,
                      strides, config, audio_rate_hz)
    self.causal = self._kind != 'dac' and bool(config.use_causal_conv)

  @property
  def encoder_lookahead(self) -> int:
    """Frames that codes are held back for in a stream."""
    if self.causal:
      # Resampling looks a few samples ahead, for which a frame is plenty.
      return int(self._rate_hz != self.spec.sample_rate_hz)
    return self.spec.frame_rate_hz * _RIGHT_SECONDS

  @property
  def decoder_lookahead(self) -> int:
    """Frames that samples are held back for in a stream."""
    return self.encoder_lookahead

  @property
  def latency_samples(self) -> int:
    """From a sample that goes in to the same one coming out of two streams."""
    frames = 1 + self.encoder_lookahead + self.decoder_lookahead
    return frames * self.spec.hop_samples

  def stream_encoder(self, levels: int | None = None
                     ) -> streaming.Overlapping:
    """`encode` chunk by chunk; how exact it is, the module says.

    Args:
      levels: codebooks to use, the first ones; None for all.
    """
    if levels is not None and not 1 <= levels <= self.spec.num_codebooks:
      raise ValueError(f'levels is {levels}; expected 1 to '
                       f'{self.spec.num_codebooks}.')
    return streaming.Overlapping(
        lambda audio: self.encode(audio)[..., :levels],
        _LEFT_SECONDS * self.spec.frame_rate_hz, self.encoder_lookahead,
        inputs_per_frame=self.spec.hop_samples)

  def stream_decoder(self) -> streaming.Overlapping:
    """`decode` chunk by chunk; how exact it is, the module says."""
    return streaming.Overlapping(
        self.decode, _LEFT_SECONDS * self.spec.frame_rate_hz,
        self.decoder_lookahead, outputs_per_frame=self.spec.hop_samples)

  def encode(self, audio: ArrayLike) -> np.ndarray:
    """[B, N] float32 at 24 kHz -> [B, ceil(N / hop), Q] int32 codes."""
    audio = waveforms.check(audio)
    frames, hop = self.spec.num_frames(audio.shape[1]), self.spec.hop_samples
    audio = np.pad(audio, ((0, 0), (0, frames * hop - audio.shape[1])))
    audio = waveforms.resample(
        audio, self.spec.sample_rate_hz, self._rate_hz)

    def encode(rows, start, stop):
      return self._encode(audio[rows, start * self._hop:stop * self._hop])

    return self._by_pieces(len(audio), frames, encode, axis_scale=1)

  def decode(self, codes: ArrayLike) -> np.ndarray:
    """[B, T, q] int codes, q <= Q -> [B, T * hop] float32 at 24 kHz."""
    codes = np.asarray(codes)
    spec = self.spec
    if codes.ndim != 3 or 0 in codes.shape or codes.shape[2] > (
        spec.num_codebooks):
      raise ValueError(
          f'codes have shape {codes.shape}; expected [B, T, q] with q in '
          f'1..{spec.num_codebooks}.')
    if codes.min() < 0 or codes.max() >= spec.codebook_size:
      raise ValueError(
          f'codes are in {codes.min()}..{codes.max()}; expected '
          f'0..{spec.codebook_size - 1}.')

    def decode(rows, start, stop):
      made = self._decode(codes[rows, start:stop])
      wanted = (stop - start) * self._hop
      # DAC's odd strides leave some samples out at the end.
      made = made[:, :wanted]
      return np.pad(made, ((0, 0), (0, wanted - made.shape[1])))

    made = self._by_pieces(
        len(codes), codes.shape[1], decode, axis_scale=self._hop)
    return waveforms.resample(
        made, self._rate_hz, self.spec.sample_rate_hz)

  def _by_pieces(self, batch, frames, function, axis_scale):
    """`function(rows, start, stop)` over all; axis 1 is frames * axis_scale."""
    rate = self.spec.frame_rate_hz
    size = _PIECE_SECONDS * rate
    step = max(1, size // frames)
    rows = [slice(i, i + step) for i in range(0, batch, step)]
    parts = []
    for start, stop, first, last in waveforms.pieces(
        frames, size, _LEFT_SECONDS * rate, _RIGHT_SECONDS * rate):
      kept = slice((first - start) * axis_scale, (last - start) * axis_scale)
      parts.append(np.concatenate(
          [function(r, start, stop)[:, kept] for r in rows]))
    return np.concatenate(parts, axis=1)

  def _encode(self, audio):
    """[b, t * hop] at the model's rate -> [b, t, Q] codes, one call."""
    torch = hub.package('torch')
    levels = self.spec.num_codebooks
    with torch.inference_mode():
      x = torch.from_numpy(np.ascontiguousarray(audio))[:, None]
      x = x.to(self._model.device)
      if self._kind == 'encodec':
        made = self._model.encode(x, bandwidth=self._bandwidth(levels))
        codes = made.audio_codes[0]  # the one chunk
      elif self._kind == 'dac':
        codes = self._model.encode(x, n_quantizers=levels).audio_codes
      else:
        # Mimi quantises its semantic levels apart, and wants them all.
        least = max(levels, self._model.config.num_semantic_quantizers)
        codes = self._model.encode(x, num_quantizers=least).audio_codes
    codes = codes[:, :levels].transpose(1, 2).cpu().numpy()
    return codes.astype(np.int32)

  def _decode(self, codes):
    """[b, t, q] -> [b, n] at the model's rate, one call."""
    torch = hub.package('torch')
    with torch.inference_mode():
      x = torch.from_numpy(np.ascontiguousarray(
          codes.transpose(0, 2, 1).astype(np.int64))).to(self._model.device)
      if self._kind == 'encodec':
        made = self._model.decode(x[None], [None]).audio_values
      elif self._kind == 'dac':
        made = self._model.decode(audio_codes=x).audio_values
      else:
        made = self._model.decode(x).audio_values
    return made.reshape(len(codes), -1).cpu().numpy()

  def _bandwidth(self, levels):
    """EnCodec's lowest bandwidth that has so many levels."""
    count = self._model.quantizer.get_num_quantizers_for_bandwidth
    return next(b for b in sorted(self._model.config.target_bandwidths)
                if count(b) >= levels)


def _check_supported(directory, kind, config):
  """Refuses what the protocol cannot carry."""
  channels = getattr(config, 'audio_channels', 1)
  if channels != 1:
    raise errors.UserError(
        f'{directory} is a codec of {channels} channels; expected mono, such '
        f'as EnCodec at 24 kHz.')
  if kind == 'encodec' and (
      config.normalize or config.chunk_length_s is not None):
    raise errors.UserError(
        f'{directory} scales its audio or cuts it into chunks (normalize '
        f'{config.normalize}, chunk_length_s {config.chunk_length_s}), which '
        f'codes alone cannot undo; expected a checkpoint such as EnCodec at '
        f'24 kHz.')


def _hop(kind, config):
  """(samples of a frame at the model's rate, the strides that make them)."""
  if kind == 'encodec':
    strides = tuple(config.upsampling_ratios)[::-1]
  elif kind == 'dac':
    strides = tuple(config.downsampling_ratios)
  else:
    strides = tuple(config.upsampling_ratios)[::-1]
    whole = fractions.Fraction(config.sampling_rate) / fractions.Fraction(
        config.frame_rate)
    extra = whole / math.prod(strides)
    if extra.denominator == 1 and extra > 1:
      strides += (int(extra),)
    return whole, strides
  return math.prod(strides), strides


def _num_codebooks(kind, config):
  if kind == 'dac':
    return config.n_codebooks
  return config.num_quantizers


def _spec(options, available, rate, strides, config, audio_rate_hz):
  """The `CodecSpec` at the system's rate, which may not be the model's."""
  wanted = options.codebooks or available
  if not 2 <= wanted <= available:
    raise errors.UserError(
        f'--codec asks for {wanted} codebooks of {options.directory}; expected '
        f'2 to {available}.')
  if options.coarse >= wanted:
    raise errors.UserError(
        f'--codec {options.directory} gives {wanted} codebooks, '
        f'{options.coarse} of them coarse; expected fewer: add '
        f':coarse={max(1, wanted // 3)}.')
  hop = audio_rate_hz // rate
  if config.sampling_rate != audio_rate_hz or math.prod(strides) != hop:
    strides = (hop,)
  return specs.CodecSpec(
      sample_rate_hz=audio_rate_hz, strides=strides, num_codebooks=wanted,
      codebook_size=config.codebook_size, coarse_codebooks=options.coarse)
