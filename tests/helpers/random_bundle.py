"""A tiny bundle with random weights, and a corpus of synthetic instruments."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import tiny_stage

from musiclm_jax import bundle
from musiclm_jax import records
from musiclm_jax.codecs.soundstream import model as soundstream_model
from musiclm_jax.nn import resnet
from musiclm_jax.tokenizers.mulan import model as mulan_model
from musiclm_jax.tokenizers.w2vbert import model as w2vbert_model
from musiclm_jax.tokenizers.w2vbert import tokenizer

RATE = 24_000
SIZE = 16  # codes of every codebook
FAMILIES = ('bowed strings', 'flutes', 'brass')


def tokens():
  return tiny_stage.tokens_spec(SIZE)


def write(directory):
  """Every component with random weights; returns the `bundle.Bundle`."""
  directory = pathlib.Path(directory)
  spec, rng = tokens(), np.random.default_rng(0)

  def save(name, config, part, weights, kind=None):
    bundle.save_component(
        directory / name, kind or name, config, part, weights, {'steps': 0})

  config = soundstream_model.SoundStreamConfig(
      spec=spec.codec, encoder_channels=4, decoder_channels=4, latent_dim=8,
      dilations=(1,))
  params = _random(rng, soundstream_model.SoundStream(config),
                   jnp.zeros((1, 960)))
  save('codec', config, spec.codec, dict(
      params=params, codebooks=rng.standard_normal((12, SIZE, 8))), 'soundstream')

  config = w2vbert_model.W2vBertConfig(
      conv_channels=(4, 4), dim=8, num_heads=2, mlp_dim=16,
      contrastive_blocks=1, prediction_blocks=1, feature_block=1,
      codebook_size=SIZE, codebook_dim=8, num_clusters=SIZE, dropout_rate=0.0)
  params = _random(rng, w2vbert_model.W2vBert(config), jnp.zeros((1, RATE)),
                   jnp.full(1, RATE), method='features')
  save('w2vbert', config, spec.semantic, dict(
      params=tokenizer.inference_params(params, config),
      kmeans=dict(mean=np.zeros(8), std=np.ones(8),
                  centroids=rng.standard_normal((SIZE, 8)))))

  config = mulan_model.MulanConfig(
      joint=spec.joint, num_mels=16, audio=resnet.ResNetConfig(
          stage_blocks=(1, 1), stage_channels=(4, 8), block='basic',
          stem='patches', stem_channels=4, norm_groups=2))
  module = mulan_model.Mulan(config)
  params = {
      **_random(rng, module, jnp.zeros((1, 10 * RATE)), 1,
                method='embed_windows'),
      **_random(rng, module, jnp.zeros((1, 384)),
                method='embed_text_features')}
  dim = spec.joint.embedding_dim
  save('mulan', config, spec.joint, dict(params=params, rvq=dict(
      codebooks=rng.standard_normal((12, SIZE, dim)) * 0.3,
      text_shift=np.zeros(dim))))

  for name in ('semantic', 'coarse', 'fine'):
    stage = tiny_stage.stage_model(name, SIZE)
    save(name, stage.config, stage.spec, tiny_stage.init(stage))
  bundle.write_manifest(directory, spec, name='random')
  return bundle.Bundle(directory)


def _random(rng, module, *inputs, method='__call__'):
  """Parameters of the right shapes, drawn without compiling anything."""
  shapes = jax.eval_shape(lambda: module.init(
      jax.random.key(0), *inputs, method=method))['params']
  return jax.tree.map(
      lambda x: 0.3 * rng.standard_normal(x.shape).astype(np.float32), shapes)


def write_corpus(directory, seconds=12, tracks=(8, 9)):
  """Tones of three timbres; captions name the family and a pitch."""
  rng = np.random.default_rng(1)
  with records.Writer(directory, 'timbres', RATE, licence='CC0') as writer:
    for split, count in zip(('train', 'test'), tracks):
      for i in range(count):
        family = FAMILIES[i % len(FAMILIES)]
        writer.add(split, f'{split}{i}', tones(family, seconds, rng),
                   captions=[f'{family} playing melody number {i}'],
                   family=family)
  return records.Corpus(directory)


def tones(family, seconds, rng):
  """[N] float32: notes of a quarter second in one of three timbres."""
  time = np.arange(RATE // 4) / RATE
  harmonics = dict(zip(FAMILIES, ((1, .5, .4, .3, .2), (1,), (1, 0, .6, 0, .4))
                      ))[family]
  notes = []
  for _ in range(int(seconds * 4)):
    pitch = 220 * 2**(rng.integers(0, 24) / 12)
    note = sum(a * np.sin(2 * np.pi * pitch * (k + 1) * time)
               for k, a in enumerate(harmonics))
    notes.append(note * np.exp(-3 * time))
  audio = np.concatenate(notes)
  return 0.3 * audio / np.abs(audio).max()


def without(directory, *names):
  """The bundle at `directory`, as one that lacks some parts."""
  class Partial(bundle.Bundle):

    def has(self, name):
      return name not in names and super().has(name)

  return Partial(directory)
