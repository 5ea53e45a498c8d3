"""How fast the data paths are; prints, and never asserts.

  python tests/benchmarks/data.py [--bundle DIR] [--json FILE]
                                  [--only pipeline|ingest|precompute]

  coarse_sequences_per_s   input pipeline of the coarse stage, paper grids:
                           sequences of 2,264 tokens from tracks of 3 minutes
  coarse_tokens_per_s      the same in tokens
  resume_seconds           first batch at step 1,000,000 less that at step 0
  ingest_xrt               `musiclm ingest`, x real time of a core's own time, of
                           stereo at 44.1 kHz, a third each WAV, FLAC and MP3;
                           the first files are not counted
  precompute_xrt           tokenising with --bundle, x real time; the first
                           minute, which compiles, is not counted
"""

import argparse
import functools
import itertools
import pathlib
import tempfile
import time

import numpy as np
import soundfile

from musiclm_jax import bundle as bundle_lib
from musiclm_jax import figures
from musiclm_jax import records
from musiclm_jax import specs
from musiclm_jax import workers
from musiclm_jax.data import audio_folder
from musiclm_jax.tokenizers import loading
from musiclm_jax.tokens import crops
from musiclm_jax.tokens import precompute
from musiclm_jax.tokens import source

_TRACKS = 40
_TRACK_SECONDS = 180
_REPEATS = 5
_BATCH_SIZE = 16
_INGESTED = 18  # files of a minute


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


def ingesting(root):
  """x real time of `musiclm ingest` with one worker."""
  options = workers.Options(workers=1)
  for name, tracks in (('first', 3), ('ingested', _INGESTED)):
    (root / name).mkdir()
    for i in range(tracks):
      rng = np.random.default_rng(i)
      sound = np.cumsum(0.02 * rng.standard_normal((60 * 44_100, 2)), 0) % 1 - 0.5
      soundfile.write(root / name / f'{i}.{("wav", "flac", "mp3")[i % 3]}',
                      0.8 * sound, 44_100)
    start = time.process_time()
    audio_folder.build(root / name, root / f'{name}_corpus', runner=options,
                       progress=False)
  return dict(ingest_xrt=_INGESTED * 60 / (time.process_time() - start))


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
  parts = dict(pipeline=pipeline, ingest=ingesting, precompute=tokenising)
  parser.add_argument('--only', choices=parts, help='one part of them')
  args = parser.parse_args()
  found = {}
  with tempfile.TemporaryDirectory() as root:
    for name, part in parts.items():
      if args.only not in (None, name):
        continue
      if part is tokenising:
        if not (pathlib.Path(args.bundle) / 'manifest.json').is_file():
          print(f'precompute_xrt: no bundle at {args.bundle}')
          continue
        part = functools.partial(tokenising, bundle_dir=args.bundle)
      found |= part(pathlib.Path(root))
  for name, value in found.items():
    print(f'{name}: {value:.4g}')
  if args.json:
    figures.write(args.json, found)


if __name__ == '__main__':
  main()
