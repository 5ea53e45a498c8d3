"""How fast the data paths are; prints, and never asserts.

  python tests/benchmarks/data.py [--bundle DIR] [--json FILE]

  coarse_sequences_per_s   input pipeline of the coarse stage, paper grids:
                           sequences of 2,264 tokens from tracks of 3 minutes
  coarse_tokens_per_s      the same in tokens
  resume_seconds           first batch at step 1,000,000 less that at step 0
  precompute_xrt           tokenising with --bundle, x real time; the first
                           minute, which compiles, is not counted
"""

import argparse
import itertools
import pathlib
import tempfile
import time

import numpy as np

from musiclm_jax import bundle as bundle_lib
from musiclm_jax import figures
from musiclm_jax import records
from musiclm_jax import specs
from musiclm_jax.tokenizers import loading
from musiclm_jax.tokens import crops
from musiclm_jax.tokens import precompute
from musiclm_jax.tokens import source

_TRACKS = 40
_TRACK_SECONDS = 180
_REPEATS = 5
_BATCH_SIZE = 16


class RandomTokenizers(loading.Tokenizers):
  """Random codes on the paper's grids, as fast as NumPy makes them."""

  def encode(self, audio, seconds):
    rng = np.random.default_rng(len(audio))
    codec, semantic, joint = (
        self.tokens.codec, self.tokens.semantic, self.tokens.joint)
    return [(rng.integers(0, 1024, (s * codec.frame_rate_hz,
                                    codec.num_codebooks)),
             rng.integers(0, 1024, s * semantic.frame_rate_hz),
             rng.standard_normal((joint.num_windows(s), joint.embedding_dim),
                                 np.float32)) for s in seconds]

  def codebooks(self):
    return dict(mulan=np.asarray(self.joint.codebooks, np.float32))


class RandomJoint:
  codebooks = np.random.default_rng(0).standard_normal((12, 1024, 128))

  @staticmethod
  def embed_text(texts):
    return np.ones((len(texts), 128), np.float32)


def write_corpus(directory, tracks, seconds):
  rate = specs.AudioSpec().sample_rate_hz
  noise = np.random.default_rng(0).standard_normal(seconds * rate) * 0.1
  with records.Writer(directory, 'noise', rate, licence='CC0') as writer:
    for i in range(tracks):
      writer.add('train', f'{i}', np.roll(noise, i * 1000), captions=['noise'])
  return records.Corpus(directory)


def random_cache(root, tracks=_TRACKS):
  """A token cache of random codes, below `root`."""
  corpus = write_corpus(root / 'corpus', tracks, _TRACK_SECONDS)
  tokenizers = RandomTokenizers(
      None, None, RandomJoint, specs.TokenSpec(), dict(soundstream='random'))
  precompute.tokenize(tokenizers, corpus, root / 'cache')
  return root / 'cache'


def pipeline(root):
  """Sequences a second, and what resuming far away costs."""
  batches = source.TaskBatches(
      str(random_cache(root)), specs.StageSpec('coarse'), _BATCH_SIZE)

  def first(step):
    start = time.perf_counter()
    next(batches.batches(step))
    return time.perf_counter() - start

  first(0)
  resume = np.median([first(1_000_000) - first(0) for _ in range(_REPEATS)])
  running = batches.batches(0)
  rates = []
  list(itertools.islice(running, 10))
  for _ in range(_REPEATS):
    start = time.perf_counter()
    count = len(list(itertools.islice(running, 20)))
    rates.append(count * _BATCH_SIZE / (time.perf_counter() - start))
  rate = float(np.median(rates))
  length = sum(crops.feature_lengths(batches.stage).values())
  return dict(coarse_sequences_per_s=rate, coarse_tokens_per_s=rate * length,
              resume_seconds=float(resume))


def tokenising(root, bundle_dir):
  """x real time of `musiclm precompute` on tracks of 30 s."""
  tokenizers = loading.Tokenizers.load(bundle_dir)
  warm = write_corpus(root / 'warm', 10, 30)
  precompute.tokenize(tokenizers, warm, root / 'warm_cache')
  corpus = write_corpus(root / 'more', 20, 30)
  start = time.perf_counter()
  precompute.tokenize(tokenizers, corpus, root / 'more_cache')
  return dict(precompute_xrt=20 * 30 / (time.perf_counter() - start))


def main():
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--bundle', default=str(bundle_lib.shipped()))
  parser.add_argument('--json', metavar='FILE')
  args = parser.parse_args()
  with tempfile.TemporaryDirectory() as root:
    found = pipeline(pathlib.Path(root))
    if (pathlib.Path(args.bundle) / 'manifest.json').is_file():
      found.update(tokenising(pathlib.Path(root), args.bundle))
    else:
      print(f'precompute_xrt: no bundle at {args.bundle}')
  for name, value in found.items():
    print(f'{name}: {value:.4g}')
  if args.json:
    figures.write(args.json, found)


if __name__ == '__main__':
  main()
