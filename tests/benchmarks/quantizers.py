"""Which quantizer suits a codec: each trained alike, on one page.

  python tests/benchmarks/quantizers.py --corpus DIR [--steps 1000]
      [--leaf framecodec_demo] [--only ema,projected] [--batch 16]
      [--modelability-steps 300] [--json FILE] [--gin BINDING]...

Trains the codec of a leaf once for each quantizer, from the same parameters, on
the same crops and for as many steps, and then tells on held-out crops

  mel dB          distance of 64-band log-mels, from all levels and from the
                  coarse ones
  usage           share of the entries that so many frames would be expected to
                  use, mean of the levels
  commitment      squared distance of latents from their codes; over their
                  variance, since a codec may choose how large its latents are
                  (a projected quantizer measures in its few dimensions)
  nats/s          what the coarse levels cost a small decoder
                  (metrics/modelability.py), beside the entropy of the unigram

A first codec is only a step of the way: look at the differences, not at the
values. The leaf's own schedule ends at --steps, and its codebooks begin at the
same share of the run as in the leaf; projected ones at once. Bindings compare
other choices the same way: a codec that keeps phases is

  --only ema --gin "model.FrameCodecConfig.shown='complex'"
  --gin trainer.LossWeights.complex=2 --gin trainer.LossWeights.waveform=1
"""

import argparse
import dataclasses
import pathlib
import sys
import time

# This file's folder has the names of packages that others need.
sys.path[:] = [p for p in sys.path
               if pathlib.Path(p).resolve() != pathlib.Path(__file__).parent]

import jax
import jax.numpy as jnp
import numpy as np

from musiclm_jax import configs
from musiclm_jax import errors
from musiclm_jax import figures as figures_lib
from musiclm_jax.codecs import tokenizer as codec_tokenizer
from musiclm_jax.evaluation import codec_modelability
from musiclm_jax.evaluation import ladder
from musiclm_jax.evaluation import streams
from musiclm_jax.metrics import modelability
from musiclm_jax.nn import quantize

# From the start: maps that only follow what is not yet quantised never catch up
# with latents that move as fast as they learn.
_PROJECTED = dict(kind='projected', start_step=0)
OPTIONS = {
    'ema': {},
    'ema_rotation': dict(gradient='rotation'),
    'ema_few_levels': dict(dropout_rate=1.0, dropout_power=2.0),
    'projected': dict(_PROJECTED),
    'projected_rotation': dict(_PROJECTED, gradient='rotation'),
    'projected_few_levels': dict(
        _PROJECTED, dropout_rate=1.0, dropout_power=2.0),
}
COLUMNS = ('mel dB', 'coarse', 'usage', 'commitment', 'of variance', 'nats/s',
           'unigram', 'steps', 'audio s', 'wall s')
HELD_CROPS = 48
_SEED = 0


def train(trainable, source, steps, say):
  """The state after `steps` updates; the last step's metrics."""
  batch = next(iter(source.batches(0)))
  state = jax.jit(trainable.init)(
      jax.random.key(_SEED), {'audio': jnp.asarray(batch['audio'])})
  update = jax.jit(trainable.update, donate_argnums=0)
  rng = jax.random.key(_SEED + 1)
  for step, batch in zip(range(steps), source.batches(0)):
    state, metrics = update(
        state, {'audio': jnp.asarray(batch['audio'])},
        jax.random.fold_in(rng, step))
    if (step + 1) % max(1, steps // 5) == 0:
      say(f'step {step + 1} of {steps}, loss {float(metrics["loss"]):.3f}')
  return state


def judge(trainable, state, source):
  """Figures of held-out crops, and the `Codec` that was trained."""
  spec = trainable.model.spec
  held = dataclasses.replace(
      source, batch_size=HELD_CROPS, eval_batches_count=1, crop_seconds=3.0)
  audio = next(iter(held.eval_batches()))['audio']
  exported = trainable.export(jax.device_get(state))['weights']
  codec = codec_tokenizer.Codec(
      trainable.model, exported['params'], exported['codebooks'])
  codes = streams.by_batch(codec.encode, audio, 8)
  audio = audio[:, :codes.shape[1] * spec.hop_samples]
  mel = lambda levels: float(np.mean(ladder.mel_distance_db(
      audio, streams.by_batch(
          codec.decode, codes[..., :levels], 8)[:, :audio.shape[1]])))
  found = dict(mel_distance=mel(spec.num_codebooks),
               mel_distance_coarse=mel(spec.coarse_codebooks),
               usage=float(np.mean(quantize.usage(
                   jnp.asarray(codes), spec.codebook_size))))
  metrics = jax.jit(trainable.evaluate)(
      state, {'audio': jnp.asarray(audio)}, jax.random.key(0))
  latents = np.asarray(jax.jit(lambda p, x: codec.model.apply(
      {'params': p}, x, method='encode'))(state.params, jnp.asarray(audio)))
  variance = float(latents.reshape(-1, latents.shape[-1]).var(axis=0).mean())
  found.update(commitment=float(metrics['commitment']),
               commitment_of_variance=float(metrics['commitment']) / variance)
  return found, codec


def trainables(args):
  """({name: trainable}, the source that all of them see)."""
  places = ["MODEL_DIR = 'unused'", f'CORPUS_DIR = {args.corpus!r}', *args.gin]
  loaded = configs.load(args.leaf, [
      *places, f'TRAIN_STEPS = {args.steps}', f'BATCH_SIZE = {args.batch}'])
  base, source = (loaded.arguments[k] for k in ('trainable', 'source'))
  whole = configs.load(args.leaf, places).arguments['num_steps']
  begin = round(base.rvq.start_step / whole * args.steps)

  def with_quantizer(name):
    changes = dict(dict(start_step=begin), **OPTIONS[name])
    return dataclasses.replace(
        base, rvq=dataclasses.replace(base.rvq, **changes))

  return {name: with_quantizer(name) for name in args.only}, source


def row(found):
  """A line of the table."""
  return (f'{found["mel_distance"]:.2f}', f'{found["mel_distance_coarse"]:.2f}',
          f'{found["usage"]:.0%}', f'{found["commitment"]:.3f}',
          f'{found["commitment_of_variance"]:.3f}',
          f'{found["nats_per_second"]:.0f}',
          f'{found["unigram_nats_per_second"]:.0f}', f'{found["steps"]}',
          f'{found["audio_seconds"]:.0f}', f'{found["wall_seconds"]:.0f}')


def table(rows):
  """Names and figures in columns."""
  cells = [('quantizer',) + COLUMNS] + [
      (name,) + row(found) for name, found in rows.items()]
  widths = [max(map(len, column)) for column in zip(*cells)]
  return '\n'.join(
      line[0].ljust(widths[0]) + ''.join(
          f'  {cell:>{width}}' for cell, width in zip(line[1:], widths[1:]))
      for line in cells)


def parse():
  parser = argparse.ArgumentParser(
      description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
  parser.add_argument('--corpus', required=True)
  parser.add_argument('--leaf', default='framecodec_demo')
  parser.add_argument('--steps', type=int, default=1_000)
  parser.add_argument('--batch', type=int, default=16)
  parser.add_argument('--only', default=','.join(OPTIONS),
                      type=lambda text: text.split(','))
  parser.add_argument('--modelability-steps', type=int, default=300)
  parser.add_argument('--train-clips', type=int,
                      default=codec_modelability.TRAIN_CLIPS)
  parser.add_argument('--json')
  parser.add_argument('--gin', action='append', default=[], metavar='BINDING',
                      help='of every codec, as of `musiclm train`')
  args = parser.parse_args()
  for name in args.only:
    if name not in OPTIONS:
      raise errors.choice('quantizer', name, list(OPTIONS))
  return args


def main():
  args = parse()
  settings = modelability.Config(steps=args.modelability_steps)
  rows = {}
  made, source = trainables(args)
  for name, trainable in made.items():
    def say(line, name=name):
      print(f'{name}: {line}', file=sys.stderr, flush=True)

    start = time.monotonic()
    state = train(trainable, source, args.steps, say)
    seconds = time.monotonic() - start
    found, codec = judge(trainable, state, source)
    result = codec_modelability.measure(
        codec, args.corpus, settings, say, args.train_clips)
    rows[name] = dict(
        found, nats_per_second=float(result.per_second.mean()),
        unigram_nats_per_second=result.unigram_per_second, steps=args.steps,
        audio_seconds=args.steps * args.batch * source.crop_seconds,
        wall_seconds=seconds)
    print(table(rows) + '\n', flush=True)
  if args.json:
    figures_lib.write(args.json, {
        f'{name}_{key}': value for name, found in rows.items()
        for key, value in found.items()})


if __name__ == '__main__':
  try:
    main()
  except errors.UserError as error:
    sys.exit(f'error: {error}')
