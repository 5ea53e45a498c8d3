"""The model: shapes, who sees what, and that no part of it is a dead end."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_framecodec as small

from musiclm_jax.codecs import registry
from musiclm_jax.codecs.framecodec import model

HOP = small.HOP
# Who waits for the end of a window of four hops: the encoder, both, or the
# decoder.
LOOKAHEADS = [(0, 3), (2, 1), (3, 0)]


def _config(lookahead, **changes):
  encoder, decoder = lookahead
  return small.config(
      encoder_lookahead=encoder, decoder_lookahead=decoder, **changes)


def _apply(config, method):
  params = small.params(config)
  return jax.jit(lambda x: config.build().apply(
      {'params': params}, x, method=method))


@pytest.mark.parametrize('samples', [1, HOP, HOP + 1, 5 * HOP - 1])
def test_frames_of_any_length(samples):
  config = small.config()
  shape = lambda x, method: jax.eval_shape(
      lambda x: config.build().apply(
          {'params': small.params(config)}, x, method=method), x)
  latents = shape(jax.ShapeDtypeStruct((2, samples), jnp.float32), 'encode')
  frames = -(-samples // HOP)
  assert latents.shape == (2, frames, config.latent_dim)
  assert shape(latents, 'decode').shape == (2, frames * HOP)


@pytest.mark.parametrize('lookahead', LOOKAHEADS)
def test_a_latent_sees_its_context_and_its_lookahead_only(lookahead):
  config = _config(lookahead)
  back, ahead = config.encoder_context_frames, config.encoder_lookahead
  frames, at = back + 10, 6
  encode = _apply(config, 'encode')
  audio = small.noise(frames, rows=1)
  base = np.asarray(encode(audio))
  audio[0, at * HOP + HOP // 2] += 1.0
  moved = np.abs(np.asarray(encode(audio)) - base).max(-1)[0] > 1e-6
  assert not moved[:at - ahead].any() and moved[at - ahead]
  assert moved[at + 1:at + back].any()
  assert not moved[at + back + 1:].any()


@pytest.mark.parametrize('lookahead', LOOKAHEADS)
def test_a_block_of_samples_sees_its_context_and_its_lookahead_only(lookahead):
  config = _config(lookahead)
  back, ahead = config.decoder_context_frames, config.decoder_lookahead
  frames, at = back + 10, 6
  decode = _apply(config, 'decode')
  rng = np.random.default_rng(0)
  latents = rng.normal(size=(1, frames, config.latent_dim)).astype(np.float32)
  base = np.asarray(decode(latents)).reshape(frames, HOP)
  latents[0, at] += 1.0
  found = np.asarray(decode(latents)).reshape(frames, HOP)
  moved = np.abs(found - base).max(-1) > 1e-6
  assert not moved[:at - ahead].any() and moved[at - ahead]
  assert not moved[at + back + 1:].any()


@pytest.mark.parametrize('shown,differ', [('magnitudes', False),
                                          ('complex', True)])
def test_phases_are_seen_where_they_are_asked_for(shown, differ):
  encode = _apply(_config((0, 3), shown=shown, parts=0), 'encode')
  n = np.arange(20 * HOP)
  tone = lambda phase: np.sin(
      2 * np.pi * 40 * n / (4 * HOP) + phase)[None].astype(np.float32)
  one, other = (np.asarray(encode(tone(phase)))[:, 10:] for phase in (0, 1.5))
  assert (np.abs(one - other).max() > 0.1) == differ


def test_the_default_codes_depend_on_the_past_alone():
  config = model.FrameCodecConfig()
  assert config.encoder_lookahead == 0
  assert config.decoder_lookahead == config.window_frames - 1
  assert small.codec(_config((0, 3))).causal
  assert not small.codec(_config((2, 1))).causal


@pytest.mark.parametrize('lookahead', LOOKAHEADS)
def test_latency_is_a_frame_and_what_is_waited_for(lookahead):
  codec = small.codec(_config(lookahead))
  assert codec.latency_samples == 4 * HOP  # 1 + 3, whoever waits
  few = small.codec(_config((0, 1)))
  assert few.latency_samples == 2 * HOP


def test_products_equal_transforms():
  configs = [small.config(fourier=fourier) for fourier in ('fft', 'product')]
  audio = small.noise(12)
  latents = [np.asarray(_apply(c, 'encode')(audio)) for c in configs]
  np.testing.assert_allclose(*latents, atol=1e-3)
  sound = [np.asarray(_apply(c, 'decode')(latents[0])) for c in configs]
  assert np.abs(sound[0]).max() > 0.01
  np.testing.assert_allclose(*sound, atol=1e-4)


def test_silence_and_full_scale_have_finite_latents_and_gradients():
  config = small.config()
  params = small.params(config)

  @jax.jit
  def slope(params, audio):
    def loss(params, audio):
      made = config.build().apply({'params': params}, audio)
      return jnp.mean(jnp.square(made)), made
    return jax.grad(loss, has_aux=True, argnums=(0, 1))(params, audio)

  for level in (0.0, 1e-6, 1.0):
    grads, made = slope(params, level * np.sign(small.noise(8)))
    assert np.all(np.isfinite(made))
    for leaf in jax.tree.leaves(grads):
      assert np.all(np.isfinite(leaf))
  dead = [jax.tree_util.keystr(path) for path, leaf in
          jax.tree_util.tree_leaves_with_path(grads[0]) if not np.any(leaf)]
  assert not dead


@pytest.mark.parametrize('changes, said', [
    (dict(encoder_lookahead=4), 'encoder_lookahead is 4; expected 0 to 3'),
    (dict(decoder_lookahead=-1), 'decoder_lookahead is -1'),
    (dict(window_frames=2, decoder_lookahead=1), 'window_frames is 2'),
    (dict(fourier='dct'), "fourier is 'dct'")])
def test_bad_configurations_are_refused(changes, said):
  with pytest.raises(ValueError, match=said):
    small.config(**changes)


def test_the_registry_knows_it():
  config = small.config()
  assert registry.config_class(config.kind, 'here') is model.FrameCodecConfig
