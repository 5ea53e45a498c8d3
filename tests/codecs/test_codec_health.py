"""The codec in the loop: collapse, rollback, previews; eight devices as one."""

import dataclasses
import json
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_codec

from musiclm_jax.codecs import trainer
from musiclm_jax.nn import quantize
from musiclm_jax.training import gates
from musiclm_jax.training import loop
from musiclm_jax.training import optim
from musiclm_jax.training import previews

PLAIN = small_codec.make(discriminator_start_step=-1)


def test_both_rates_fall_at_a_rollback():
  half = optim.scale_rates(small_codec.make(), 0.5)
  assert isinstance(half, trainer.CodecTrainable)
  assert half.optimizer.learning_rate == 1.5e-3
  assert half.discriminator_optimizer.learning_rate == 1.5e-3
  assert dataclasses.replace(
      half, optimizer=PLAIN.optimizer,
      discriminator_optimizer=PLAIN.discriminator_optimizer
  ) == small_codec.make()


def test_gates_follow_the_settings():
  names = lambda **kw: [g.name for g in small_codec.make(**kw).gates()]
  assert names() == ['codebook_usage', 'discriminator_runaway']
  assert names(discriminator_start_step=-1) == ['codebook_usage']
  assert not names(discriminator_start_step=-1, usage_floor=0.0)


@dataclasses.dataclass(frozen=True)
class _Still(trainer.CodecTrainable):
  """The codec as it begins, for ever: only its evaluation is the real one."""

  def init(self, rng, batch):
    params = self._generator.init(rng, batch['audio'])['params']
    codebooks = jax.random.normal(rng, (4, 16, 8))
    return trainer.CodecState(
        step=jnp.int32(0), params=params, opt_state=(),
        rvq=quantize.Rvq(codebooks, codebooks[..., 0], codebooks),
        discriminator_params={}, discriminator_opt_state={}, watch={})

  def update(self, state, batch, rng):
    return state.replace(step=state.step + 1), {'loss': jnp.ones(())}


def test_a_collapsed_codebook_stops_the_run(tmp_path):
  """Silence has one latent: one entry of 16 serves all frames of a level."""
  codec = small_codec.make(
      _Still, discriminator_start_step=-1, usage_floor=0.1, usage_patience=2)
  with pytest.raises(gates.Tripped) as caught:
    loop.train(codec, small_codec.Tones(level=0.0), str(tmp_path), 9,
               eval_every=2, checkpoint_every=0, log_every=1,
               preview_clips=0)
  message = str(caught.value)
  assert message.startswith('stopped at step 4: codebook_usage/01 is 0.0625, '
                            'under 0.1 for 2 evaluations.')
  assert 'collapsed' in message and 'learning rate' in message
  assert os.listdir(tmp_path / 'checkpoints') == ['4']
  event, = json.loads((tmp_path / 'run.json').read_text())['events']
  assert (event['kind'], event['gate']) == ('stop', 'codebook_usage')


def test_previews_are_real_and_reconstructed_at_two_rates(monkeypatch):
  batch = small_codec.tones(batch=2, samples=810)
  state = trainer.CodecState(
      step=jnp.int32(0), params={}, opt_state=(), rvq=None,
      discriminator_params={}, discriminator_opt_state={}, watch={})
  # The generator returns what it was given, times its number of levels.
  monkeypatch.setattr(
      trainer.CodecTrainable, '_reconstruct',
      lambda self, params, rvq, audio, n: ((audio * n[:, None], 0.0), None))
  shown = small_codec.make().previews(state, batch)
  assert sorted(shown) == [f'clip_{i}/{name}' for i in (1, 2) for name in (
      'levels_01', 'levels_04', 'log_mel', 'real')]
  whole = batch['audio'][:, :800]
  for clip in (0, 1):
    for name, gain in (('real', 1), ('levels_01', 1), ('levels_04', 4)):
      sound = shown[f'clip_{clip + 1}/{name}']
      assert isinstance(sound, previews.Audio)
      assert sound.sample_rate_hz == small_codec.RATE
      np.testing.assert_allclose(sound.samples, gain * whole[clip], rtol=1e-6)
  # Three panels of 80 bands, four rows of white between.
  assert shown['clip_1/log_mel'].pixels.shape == (3 * 80 + 2 * 4, 2, 3)


def test_usage_by_hand():
  codes = np.stack([np.arange(64) % 16, np.zeros(64, int)], axis=-1)
  expected = 16 * (1 - (15 / 16)**64)
  got = quantize.usage(jnp.asarray(codes.reshape(4, 16, 2)), 16)
  np.testing.assert_allclose(got, [1.0, 1 / expected], rtol=1e-5)
  # Even draws use what they can, however few they are.
  rng = np.random.default_rng(0)
  for frames in (50, 400, 4000):
    draws = rng.integers(0, 1024, (frames, 3))
    assert np.all(np.asarray(quantize.usage(jnp.asarray(draws), 1024)) > 0.93)


# Trains on a mesh of one and of eight, with level dropout and entries that die
# and are replaced; the discriminators, if any, learn at two steps of three.
# Adam's large epsilon keeps rounding errors as small as they are.
SCRIPT = '''
import json, sys
import jax, numpy as np
import small_codec
from musiclm_jax.nn import quantize
from musiclm_jax.training import loop
from musiclm_jax.training import optim

adam = optim.OptimizerConfig(
    name='adam', learning_rate=3e-3, warmup_steps=0, schedule='constant',
    eps=0.01)
codec = small_codec.make(
    optimizer=adam, discriminator_optimizer=adam,
    discriminator_start_step=int(sys.argv[2]),
    discriminator_update_probability=0.67,
    rvq=quantize.RvqConfig(decay=0.5, dead_code_ratio=0.4, init_iters=2,
                           init_vectors=64))
states = [jax.device_get(loop.train(
    codec, small_codec.Tones(), sys.argv[1] + f'/{n}', 4, mesh=(n, 1),
    eval_every=0, checkpoint_every=0, log_every=4).state) for n in (1, 8)]
paths = [jax.tree_util.keystr(p)
         for p, _ in jax.tree_util.tree_leaves_with_path(states[0])]
learnt = lambda s: max((float(abs(x).max()) for x in jax.tree.leaves(
    s[1][0].mu)), default=0.0) if s else 0.0
mean = 8 * 40 / 16
print(json.dumps(dict(
    gap={p: float(np.max(np.abs(np.asarray(x, np.float64) - y)))
         for p, x, y in zip(paths, *map(jax.tree.leaves, states))},
    generator=learnt(states[1].opt_state),
    discriminators=learnt(states[1].discriminator_opt_state),
    counted=float(np.ptp(states[1].rvq.counts)),
    replaced=int(np.sum(states[1].rvq.counts == mean)))))
'''


@pytest.mark.slow
@pytest.mark.parametrize('start_step', [-1, 1])
def test_eight_devices_train_the_codec_as_one(tmp_path, start_step):
  """Codebooks, averages and replaced entries included."""
  env = dict(os.environ, JAX_PLATFORMS='cpu',
             XLA_FLAGS='--xla_force_host_platform_device_count=8')
  done = subprocess.run(
      [sys.executable, '-c', SCRIPT, str(tmp_path), str(start_step)],
      env=env, capture_output=True, text=True, timeout=300, check=False)
  assert done.returncode == 0, done.stderr
  eight = json.loads(done.stdout.splitlines()[-1])
  assert {k: v for k, v in eight['gap'].items() if v > 1e-3} == {}
  # It would say nothing of what stood still.
  assert eight['generator'] > 0 and eight['counted'] > 1
  assert (eight['discriminators'] > 0) == (start_step >= 0)
  assert eight['replaced'] > 0
