"""How fast a folder of audio goes through an embedder and FAD.

  python tests/benchmarks/fad.py [--clips 120] [--seconds 10] [--rate 24000]
      [--embedder musicnn] [--json FILE]

Writes clips of noise and tones as WAVs into a temporary folder, and then reads,
resamples and embeds them and takes the distance, as `evaluate` does; loading and
compiling come first and are not counted. Prints times real time by the clock,
and by processor time, which other programs on the machine do not change: so
many times real time on one core that it has alone.
"""

import argparse
import os
import pathlib
import tempfile
import time

import numpy as np

from musiclm_jax import audio as audio_lib
from musiclm_jax import figures as figures_lib
from musiclm_jax.evaluation import clip_sets
from musiclm_jax.evaluation import embeddings
from musiclm_jax.evaluation import measures
from musiclm_jax.evaluation.measures import fad


def write_clips(folder, count, seconds, rate):
  """`count` WAVs, each of another tone in noise."""
  rng = np.random.default_rng(0)
  times = np.arange(seconds * rate) / rate
  for number in range(count):
    tone = np.sin(2 * np.pi * rng.uniform(100, 2_000) * times)
    audio = 0.3 * tone + 0.1 * rng.normal(size=len(times))
    audio_lib.write(folder / f'{number:05d}.wav', audio, rate)


def measure(folder, embedder):
  """({name: figure}) of a folder held against itself."""
  clips = clip_sets.from_folder(folder)
  few = clips.only(clips.ids[:8])
  context = measures.Context(
      reference=few, listeners={'embedder': (embedder,)})
  fad.begin(context)  # loads and compiles
  seconds = sum(len(clip.sound(clips.clips[0].sample_rate_hz))
                for clip in clips.clips) / clips.clips[0].sample_rate_hz
  clock, processor = time.perf_counter(), time.process_time()
  made = embeddings.of(context)
  row = made.of(clips, made.embedders[0])
  embedded = time.perf_counter(), time.process_time()
  fad.begin(context)(clips)
  return dict(
      seconds_of_audio=seconds, vectors=len(row.vectors),
      embedding_times_real_time=seconds / (embedded[0] - clock),
      embedding_times_real_time_of_a_core=(
          seconds / (embedded[1] - processor)),
      distance_seconds=time.perf_counter() - embedded[0],
      distance_processor_seconds=time.process_time() - embedded[1])


def main():
  parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  parser.add_argument('--clips', type=int, default=120)
  parser.add_argument('--seconds', type=int, default=10)
  parser.add_argument('--rate', type=int, default=24_000)
  parser.add_argument('--embedder', default='musicnn')
  parser.add_argument('--json')
  args = parser.parse_args()
  with tempfile.TemporaryDirectory() as folder:
    folder = pathlib.Path(folder)
    write_clips(folder, args.clips, args.seconds, args.rate)
    found = measure(folder, args.embedder)
  for name, value in found.items():
    print(f'{name:<36} {value:10.2f}')
  each = found['embedding_times_real_time_of_a_core']
  print(f'ten hours: {36_000 / each / 60:.1f} minutes of one core, '
        f'{36_000 / found["embedding_times_real_time"] / 60:.1f} by the clock, '
        f'on {os.cpu_count()} cores')
  if args.json:
    figures_lib.write(args.json, found)


if __name__ == '__main__':
  main()
