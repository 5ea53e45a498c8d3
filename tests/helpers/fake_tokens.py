"""A tiny corpus and tokenizers whose codes can be told from the samples.

Every second of a track has one sample value, its mark: 10 * (track + 1) + second.
Code q of a codec frame is mark + q, a semantic token mark + 5, both modulo 16; the
embedding of a window is a fixed random vector chosen by the window's mark.
"""

import json
import zlib

import numpy as np

from musiclm_jax import records
from musiclm_jax import specs
from musiclm_jax.tokenizers import loading

RATE_HZ = 1200
TOKENS = specs.TokenSpec(
    audio=specs.AudioSpec(sample_rate_hz=RATE_HZ),
    codec=specs.CodecSpec(sample_rate_hz=RATE_HZ, strides=(2, 12),
                          num_codebooks=12, codebook_size=16),
    semantic=specs.SemanticSpec(codebook_size=16),
    joint=specs.JointSpec(embedding_dim=8, num_codebooks=3, codebook_size=16))
# Track lengths in seconds: longer than every crop, between them, and short.
SECONDS = {'train': (45, 33, 12.5, 7, 3.2, 0.4), 'validation': (31, 14)}


def marks(track, seconds):
  """[seconds] the sample value of each second of a track."""
  return 10 * (track + 1) + np.arange(seconds)


def embedding(mark):
  vector = np.random.default_rng(int(mark)).standard_normal(8)
  return (vector / np.linalg.norm(vector)).astype(np.float32)


def write_corpus(directory, splits=tuple(SECONDS)):
  with records.Writer(directory, 'fake', RATE_HZ, licence='CC0') as writer:
    for split in splits:
      for track, seconds in enumerate(SECONDS[split]):
        whole = np.repeat(marks(track, int(seconds) + 1), RATE_HZ)
        writer.add(split, f'{split}{track}',
                   whole[:round(seconds * RATE_HZ)].astype(np.int16),
                   captions=[f'tune {track}', 'lively'])
  return records.Corpus(directory)


class Codec:
  """`shapes` is what came; `stop_after` so many batches it is interrupted."""

  causal, codebooks = True, None

  def __init__(self, stop_after=None):
    self.shapes = []
    self.stop_after = stop_after

  def encode(self, audio):
    if self.stop_after is not None and len(self.shapes) >= self.stop_after:
      raise KeyboardInterrupt
    self.shapes.append(audio.shape)
    first = _marks(audio)[:, ::TOKENS.codec.hop_samples]
    return (first[..., None] + np.arange(12)) % 16


class Semantic:
  """Wants true lengths: padding would change what a real one sees."""

  centroids = None

  def encode(self, audio, num_samples):
    for row, length in zip(audio, num_samples):
      assert np.all(row[:length] > 0) and not np.any(row[length:])
    hop = RATE_HZ // TOKENS.semantic.frame_rate_hz
    return (_marks(audio)[:, ::hop] + 5) % 16


class Joint:

  codebooks = np.random.default_rng(7).standard_normal(
      (3, 16, 8)).astype(np.float32) * np.array([1, .5, .25])[:, None, None]

  def embed_audio_windows(self, audio):
    seconds = _marks(audio)[:, ::RATE_HZ]
    count = TOKENS.joint.num_windows(seconds.shape[1])
    return np.stack([[embedding(m) for m in row[:count]] for row in seconds])


  def embed_text(self, texts):
    return np.stack([text_embedding(text) for text in texts])


def text_embedding(text):
  """[8] another fixed vector for each text."""
  return embedding(1_000 + zlib.crc32(text.encode()) % 1_000)


def _marks(audio):
  return np.round(audio * 32767).astype(np.int32)


def tokenizers(**codec_options):
  return loading.Tokenizers(
      Codec(**codec_options), Semantic(), Joint(), TOKENS,
      dict(codec='a', w2vbert='b', mulan='c'))


def content(directory):
  """{name: bytes} of a cache; the commit may change while tests run."""
  found = {str(p.relative_to(directory)): p.read_bytes()
           for p in directory.rglob('*') if p.is_file()}
  if 'provenance.json' in found:
    about = json.loads(found['provenance.json'])
    found['provenance.json'] = dict(about, git_commit='')
  return found


def residual_codes(vector):
  """[3] codes, written out."""
  codes = []
  residual = np.asarray(vector, np.float64)
  for codebook in Joint.codebooks.astype(np.float64):
    code = np.argmin(((codebook - residual)**2).sum(-1))
    residual = residual - codebook[code]
    codes.append(code)
  return np.array(codes)


def crop_codes(track, seconds, start, crop):
  """{segment: [T, Q] codes} of a crop, from the rules above alone."""
  line = marks(track, seconds)[start:start + crop]
  windows = max(1, seconds - 9)
  if crop >= 10:
    chosen = range(start, min(start + crop - 9, windows))
  else:
    chosen = [min(max(start + (crop - 10) // 2, 0), windows - 1)]
  mean = np.mean([embedding(10 * (track + 1) + w) for w in chosen], axis=0)
  pad = lambda codes, length: np.pad(
      codes, ((0, length - len(codes)), (0, 0)), constant_values=-1)
  acoustic = pad((np.repeat(line, 50)[:, None] + np.arange(12)) % 16, crop * 50)
  semantic = pad((np.repeat(line, 25)[:, None] + 5) % 16, crop * 25)
  return dict(mulan=residual_codes(mean / np.linalg.norm(mean))[None],
              semantic=semantic, coarse=acoustic[:, :4], fine=acoustic[:, 4:])
