"""A codec that begins from a trained one, and a decoder that learns alone."""

import dataclasses

import jax
import numpy as np
import pytest
import small_codec

from musiclm_jax import bundle
from musiclm_jax import errors
from musiclm_jax.codecs import warm_start

BATCH = small_codec.tones()


@pytest.fixture(name='trained', scope='module')
def _trained(tmp_path_factory):
  """(directory, state) of a small codec after a few steps."""
  trainable = _reconstructing()
  state = _after(trainable, 3)
  directory = tmp_path_factory.mktemp('bundle') / 'soundstream'
  exported = trainable.export(jax.device_get(state))
  assert exported['metadata'] == dict(learned='all')
  bundle.save_component(directory, **dict(
      exported, metadata=dict(steps=3, corpus='tones', note='other')))
  return directory, state


def _reconstructing(**changes):
  return small_codec.make(discriminator_start_step=-1, **changes)


def _wide(directory, times=2, **changes):
  """A trainable that begins from `directory`, its decoder `times` as wide."""
  model = _reconstructing().model
  model = dataclasses.replace(model, decoder_channels=4 * times)
  return _reconstructing(model=model, start_from=str(directory), **changes)


def _after(trainable, steps):
  state = jax.jit(trainable.init)(jax.random.key(0), BATCH)
  update = jax.jit(trainable.update)
  for step in range(steps):
    state, _ = update(state, BATCH, jax.random.key(step))
  return state


def _heard(trainable, state):
  return np.asarray(trainable._from_levels(  # pylint: disable=protected-access
      state.params, state.rvq, BATCH['audio'], np.full(8, 4)))


@pytest.mark.parametrize('times', [1, 2, 3])
def test_a_wider_decoder_begins_as_the_same_function(
    trained, times, monkeypatch):
  monkeypatch.setattr(warm_start, '_NOISE', 0.0)
  directory, state = trained
  wide = _wide(directory, times)
  begun = _after(wide, 0)
  expected = _heard(_reconstructing(), state)
  assert np.std(expected) > 1e-3
  np.testing.assert_allclose(_heard(wide, begun), expected, atol=2e-6)
  np.testing.assert_array_equal(begun.rvq.codebooks, state.rvq.codebooks)


def test_noise_parts_the_copies_and_hardly_changes_the_sound(trained):
  directory, state = trained
  wide = _wide(directory)
  begun = _after(wide, 0)
  kernel = np.asarray(begun.params['decoder']['CausalConv_0']['kernel'])
  first, second = np.split(kernel, 2, axis=-1)
  assert np.abs(first - second).min() > 0
  expected = _heard(_reconstructing(), state)
  error = np.std(_heard(wide, begun) - expected) / np.std(expected)
  assert 0 < error < 0.2
  # At its own width it is what it was.
  same = _after(_wide(directory, 1), 0)
  for one, other in zip(jax.tree.leaves(same.params),
                        jax.tree.leaves(state.params)):
    np.testing.assert_array_equal(one, other)


def test_the_decoder_learns_alone_and_the_codes_stay(trained):
  directory, state = trained
  wide = _wide(directory, learns='decoder')
  begun, later = _after(wide, 0), _after(wide, 30)
  for kept in ('encoder', 'codebooks'):
    of = lambda s: s.rvq if kept == 'codebooks' else s.params['encoder']  # pylint: disable=cell-var-from-loop
    jax.tree.map(np.testing.assert_array_equal, of(later), of(begun))
  np.testing.assert_array_equal(later.rvq.codebooks, state.rvq.codebooks)
  assert wide.export(later)['metadata'] == dict(
      learned='decoder', began_from=dict(steps=3, corpus='tones'))
  loss = lambda s: float(wide.evaluate(s, BATCH, None)['loss'])
  assert loss(later) < 0.9 * loss(begun)


def test_all_of_it_learns_on_where_it_may(trained):
  directory, _ = trained
  wide = _wide(directory)
  begun, later = _after(wide, 0), _after(wide, 2)
  assert np.abs(np.subtract(later.rvq.codebooks, begun.rvq.codebooks)).max() > 0
  kernel = lambda s: s.params['encoder']['CausalConv_0']['kernel']
  assert np.abs(np.subtract(kernel(later), kernel(begun))).max() > 0


def test_what_does_not_fit_is_one_line(trained, tmp_path):
  directory, _ = trained
  with pytest.raises(errors.UserError, match='START_FROM, the codec'):
    _reconstructing(learns='decoder')
  with pytest.raises(errors.UserError, match="learns 'encoder'.*all, decoder"):
    _reconstructing(learns='encoder')
  with pytest.raises(errors.UserError, match='none'):
    _after(_wide(tmp_path / 'none'), 0)
  model = _reconstructing().model
  for change, said in [
      (dict(decoder_channels=6), 'decoder_channels: 4, expected a divisor of 6'),
      (dict(encoder_channels=8), 'encoder_channels: 4, expected 8'),
      (dict(spec=dataclasses.replace(model.spec, num_codebooks=2)),
       'spec.num_codebooks: 4, expected 2')]:
    other = _reconstructing(model=dataclasses.replace(model, **change),
                            start_from=str(directory))
    with pytest.raises(errors.UserError, match=said) as caught:
      _after(other, 0)
    assert '\n' not in str(caught.value)
  bundle.save_component(
      tmp_path / 'coarse', 'coarse', {}, model.spec, dict(a=np.zeros(1)))
  with pytest.raises(errors.UserError, match='is a coarse; expected'):
    _after(_wide(tmp_path / 'coarse'), 0)
