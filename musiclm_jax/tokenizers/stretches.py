"""Codes of tracks of hours, stretch by stretch, in memory that does not grow.

Every tokenizer cuts long audio into chunks, windows or batches of its own. A
stretch is a whole number of them and begins where one begins when all of the
track is given at once, so each sees the same samples in an array of the same
shape, and the codes are the same, bit for bit:

  acoustic   stretches of 23 chunks of the codec, each with the codec's context
             before it; a codec that is not ours is asked for its stream
  semantic   w2v-BERT hears windows of 30 s that do not overlap (ours): a
             stretch is 8 of them, one batch, and the rest of the track another
  mulan      windows of 10 s, one a second: 231 of them, 11 batches of 21
  melody     a window a second: 480 of them, and 32 on either side, which are
             more than those who hear beyond a window hear

`read(start, count)` gives samples [count] of a track from `start`.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from musiclm_jax import specs
from musiclm_jax.tokens import shards

Read = Callable[[int, int], np.ndarray]
_CHUNKS = 23  # ours: about 220 s of a codec whose chunks are 10 s
_WINDOW_SECONDS, _WINDOWS = 30, 8
_JOINT_WINDOWS = 11 * 21
_MELODY_WINDOWS, _MELODY_MARGIN = 480, 32


def acoustic(codec: Any, read: Read, num_samples: int) -> np.ndarray:
  """Codes of a track of whole frames.

  Args:
    codec: of the role 'codec'.
    read: gives the track's samples.
    num_samples: of the track.

  Returns:
    [T, Q] int.
  """
  hop = codec.spec.hop_samples
  if not hasattr(codec, 'chunk_frames'):
    return _streamed(codec, read, num_samples)
  size, config = codec.chunk_frames, codec.config
  ahead, period = config.encoder_lookahead, config.period_frames
  step = (size - ahead - config.encoder_context_frames) // period * period
  span = size + (_CHUNKS - 1) * step
  frames, start, done, parts = num_samples // hop, 0, 0, []
  while done < frames:
    count = min(span, frames - start)
    # One chunk at least, so that the last stretch has no shape of its own.
    audio = np.zeros((1, max(count, size) * hop), np.float32)
    audio[0, :count * hop] = read(start * hop, count * hop)
    stop = frames if start + span >= frames else start + span - ahead
    parts.append(np.asarray(codec.encode(audio))[0, done - start:stop - start])
    done, start = stop, start + _CHUNKS * step
  return np.concatenate(parts)


def _streamed(codec, read, num_samples):
  chunk = _WINDOW_SECONDS * codec.spec.sample_rate_hz
  blocks = (read(start, min(chunk, num_samples - start))[None]
            for start in range(0, num_samples, chunk))
  return np.concatenate([
      np.asarray(codes)[0] for codes in codec.stream_encoder().stream(blocks)])


def semantic(tokenizer: Any, read: Read, seconds: int,
             tokens: specs.TokenSpec) -> np.ndarray:
  """[T] int ids of a track; arguments as those of `mulan`."""
  rate = tokens.audio.sample_rate_hz
  hop = rate // tokens.semantic.frame_rate_hz
  # Tracks that are encoded in one go are padded, too.
  length = shards.padded(seconds) * rate
  window = _WINDOW_SECONDS * rate
  whole = length // window * window
  begins = [*range(0, whole, _WINDOWS * window)]
  spans = [(start, min(_WINDOWS * window, whole - start), _WINDOWS * window)
           for start in begins]
  if length > whole:
    spans.append((whole, length - whole, length - whole))
  parts = []
  for start, inside, padded in spans:
    known = max(1, min(inside, seconds * rate - start))
    audio = np.zeros((1, padded), np.float32)
    audio[0, :known] = read(start, known)
    ids = np.asarray(tokenizer.encode(audio, np.array([known])))[0]
    parts.append(ids[:inside // hop])
  return np.concatenate(parts)[:seconds * tokens.semantic.frame_rate_hz]


def mulan(embedder: Any, read: Read, seconds: int,
          tokens: specs.TokenSpec) -> np.ndarray:
  """Embeddings of windows of a track.

  Args:
    embedder: of the role 'joint'.
    read: gives the track's samples.
    seconds: of the track.
    tokens: the grids of all.

  Returns:
    [W, D] float32.
  """
  rate, spec = tokens.audio.sample_rate_hz, tokens.joint
  stride, total, parts = spec.window_stride_seconds, spec.num_windows(seconds), []
  for first in range(0, total, _JOINT_WINDOWS):
    count = min(_JOINT_WINDOWS, total - first)
    length = spec.window_seconds + (count - 1) * stride
    audio = read(first * stride * rate, length * rate)
    found = np.asarray(embedder.embed_audio_windows(audio[None]), np.float32)
    parts.append(found[0, :count])
  return np.concatenate(parts)


def melody(embedder: Any, read: Read, seconds: int,
           tokens: specs.TokenSpec) -> np.ndarray:
  """[W, Q] int codes, a row a second; arguments as those of `mulan`."""
  rate, spec = tokens.audio.sample_rate_hz, tokens.melody
  total, parts = seconds - spec.window_seconds + 1, []
  for first in range(0, total, _MELODY_WINDOWS):
    before = min(first, _MELODY_MARGIN)
    stop = min(seconds, first + _MELODY_WINDOWS + spec.window_seconds +
               _MELODY_MARGIN)
    start = first - before
    audio = read(start * rate, (stop - start) * rate)
    codes = np.asarray(embedder.encode(audio[None], stride_seconds=1))
    count = min(_MELODY_WINDOWS, total - first)
    parts.append(codes.reshape(-1, spec.num_codebooks)[before:before + count])
  return np.concatenate(parts)
