"""Projected codes against NumPy, one level and one example at a time."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from musiclm_jax import errors
from musiclm_jax import specs
from musiclm_jax.codecs.framecodec import model as framecodec
from musiclm_jax.nn import quantize
from musiclm_jax.nn import quantize_projected

LEVELS, SIZE, DIM, LOW = 3, 8, 6, 2


def _params(seed=0):
  rng = np.random.default_rng(seed)
  return jax.tree.map(
      lambda x: rng.normal(size=x.shape).astype(np.float32) * 0.5,
      quantize_projected.blank(LEVELS, SIZE, DIM, LOW))


def _vectors(batch=2, frames=5, seed=1):
  return np.random.default_rng(seed).normal(
      size=(batch, frames, DIM)).astype(np.float32)


def _numpy(vector, params):
  """Of one vector: codes, outputs, and (low, entry) of each level."""
  codes, outputs, pairs = [], [], []
  residual = vector.astype(np.float64)
  for level in range(LEVELS):
    own = {name: x[level].astype(np.float64) for name, x in params.items()}
    low = residual @ own['down'] + own['down_bias']
    cosines = own['entries'] @ low / np.linalg.norm(own['entries'], axis=-1)
    codes.append(int(np.argmax(cosines)))
    entry = own['entries'][codes[-1]]
    outputs.append(entry @ own['up'] + own['up_bias'])
    pairs.append((low, entry))
    residual = residual - outputs[-1]
  return codes, outputs, pairs


def _config(**changes):
  return quantize.RvqConfig(kind='projected', projected_dim=LOW, **changes)


def _state(params):
  return quantize.begin(quantize_projected.effective(params), by_gradient=True)


def test_codes_values_and_losses_are_those_of_numpy():
  params, x = _params(), _vectors()
  levels = np.array([1, 3])
  out = jax.jit(_config().quantize)(
      x, _state(params), {quantize.PARAMS: params}, levels)
  distances = []
  for example, count in enumerate(levels):
    each = [_numpy(v, params) for v in x[example]]
    assert out.codes[example].tolist() == [codes for codes, *_ in each]
    np.testing.assert_allclose(
        out.vectors[example], [np.sum(o[:count], axis=0) for _, o, _ in each],
        atol=1e-5)
    distances += [np.mean([np.square(np.subtract(*pairs[level])).mean()
                           for *_, pairs in each]) for level in range(count)]
  assert float(out.commitment) == pytest.approx(np.mean(distances), rel=1e-5)


def test_decoding_is_a_sum_of_effective_entries():
  params, x = _params(), _vectors()
  codebooks = quantize_projected.effective(params)
  assert codebooks.shape == (LEVELS, SIZE, DIM)
  codes = quantize.rvq_encode(x, codebooks, params)
  out = _config().quantize(
      x, _state(params), {quantize.PARAMS: params}, np.array([3, 2]))
  np.testing.assert_array_equal(codes, out.codes)
  for example, count in enumerate((3, 2)):
    np.testing.assert_allclose(
        quantize.rvq_decode(codes[example, :, :count], codebooks),
        out.vectors[example], atol=1e-5)
  # The nearest effective entries would be others.
  assert (quantize.rvq_encode(x, codebooks) != codes).any()


def test_length_does_not_decide_which_entry():
  params, x = _params(), _vectors()
  own = {name: value[0] for name, value in params.items()}
  own['down_bias'] = np.zeros(LOW, np.float32)
  before = quantize_projected.search(x, own)
  longer = own['entries'] * np.arange(1, SIZE + 1)[:, None].astype(np.float32)
  after = quantize_projected.search(7.0 * x, dict(own, entries=longer))
  np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize('gradient', ['straight', 'rotation'])
def test_the_gradient_goes_through_the_maps(gradient):
  """Of one level: down, past the search, up; entries learn by their loss."""
  params, x = _params(), _vectors(1, 1)
  params = {name: value[:1] for name, value in params.items()}
  weights = np.random.default_rng(3).normal(size=DIM).astype(np.float32)
  config, one = _config(gradient=gradient), np.array([1])
  run = lambda v, p: config.quantize(
      v, _state(params), {quantize.PARAMS: p}, one)
  by_vector, by_params = jax.grad(
      lambda v, p: jnp.sum(run(v, p).vectors * weights), argnums=(0, 1))(
          x, params)
  low = x[0, 0] @ params['down'][0] + params['down_bias'][0]
  entry = params['entries'][0, int(run(x, params).codes[0, 0, 0])]
  back = params['up'][0] @ weights
  if gradient == 'rotation':  # in two dimensions, from code to vector
    angle = (np.arctan2(low[1], low[0]) - np.arctan2(entry[1], entry[0]))
    turn = np.array([[np.cos(angle), -np.sin(angle)],
                     [np.sin(angle), np.cos(angle)]])
    back = np.linalg.norm(entry) / np.linalg.norm(low) * turn @ back
  np.testing.assert_allclose(
      by_vector[0, 0], params['down'][0] @ back, rtol=1e-3, atol=1e-5)
  np.testing.assert_array_equal(by_params['entries'], 0.0)
  np.testing.assert_allclose(
      by_params['up'][0], np.outer(entry, weights), rtol=1e-4, atol=1e-6)


def test_entries_are_drawn_to_what_chose_them():
  params, x = _params(), _vectors()
  config, levels = _config(codebook_weight=3.0), np.array([1, 1])
  grads = jax.grad(lambda p: config.quantize(
      x, _state(params), {quantize.PARAMS: p}, levels).commitment)(params)
  expected = np.zeros((LEVELS, SIZE, LOW))
  for vector in x.reshape(-1, DIM):
    codes, _, pairs = _numpy(vector, params)
    for level, (low, entry) in enumerate(pairs):  # levels not used as well
      expected[level, codes[level]] += 3.0 * 2.0 * (entry - low)
  expected /= LEVELS * len(x.reshape(-1, DIM)) * LOW
  np.testing.assert_allclose(grads['entries'], expected, rtol=1e-3, atol=1e-6)


def test_what_is_not_used_yet_learns_from_vectors_and_leaves_them_alone():
  params, x, levels = _params(), _vectors(), np.array([1, 3])
  config = _config(codebook_weight=2.0)
  loss = lambda v, p, used: config.quantize(
      v, _state(params), {quantize.PARAMS: p}, levels, used).commitment
  by_vector, before = jax.grad(loss, argnums=(0, 1))(x, params, False)
  np.testing.assert_array_equal(by_vector, 0.0)
  assert np.abs(jax.grad(loss)(x, params, True)).max() > 0
  # Beside the losses in use there is what all levels lose.
  during = jax.grad(loss, argnums=1)(x, params, True)
  left = np.stack([v - np.sum(_numpy(v, params)[1], axis=0)
                   for v in x.reshape(-1, DIM)])
  np.testing.assert_allclose(
      np.sum(before['up_bias'][-1] - during['up_bias'][-1]),
      -2.0 * 2.0 * left.sum() / left.size, rtol=1e-3)
  assert np.abs(before['down']).max() > 0


def test_it_begins_with_the_data():
  rng = np.random.default_rng(4)
  mixing = rng.normal(size=(3, DIM))
  x = (rng.normal(size=(400, 3)) @ mixing + 2.0).astype(np.float32)
  config = quantize.RvqConfig(kind='projected', projected_dim=3, init_iters=5)
  rvq, params = jax.jit(config.init, static_argnums=(2, 3))(
      jax.random.key(0), x, 4, 32)
  codec = framecodec.FrameCodecConfig(latent_dim=DIM, spec=specs.CodecSpec(
      num_codebooks=4, codebook_size=32, coarse_codebooks=1))
  assert jax.tree.map(jnp.shape, params) == jax.tree.map(
      jnp.shape, config.blank(codec))
  params = params[quantize.PARAMS]
  np.testing.assert_allclose(
      rvq.codebooks, quantize_projected.effective(params), atol=1e-5)
  codes = quantize.rvq_encode(x, rvq.codebooks, params)
  left = [np.square(x - quantize.rvq_decode(codes[:, :q], rvq.codebooks)).mean()
          for q in range(1, 5)]
  assert (np.diff([x.var(axis=0).mean()] + left) < 0).all()
  assert left[-1] < 0.1 * x.var(axis=0).mean()
  assert min(len(np.unique(codes[:, q])) for q in range(4)) >= 24


def test_codebooks_follow_the_parameters_and_counts_the_codes():
  params, x = _params(), _vectors()
  config, moved = _config(decay=0.9), _params(seed=9)
  out = config.quantize(
      x, _state(params), {quantize.PARAMS: params}, np.array([3, 3]))
  rvq = jax.jit(config.update)(
      jax.random.key(0), _state(params), out, {quantize.PARAMS: moved})
  np.testing.assert_allclose(
      rvq.codebooks, quantize_projected.effective(moved), atol=1e-5)
  counts = np.stack([np.bincount(np.asarray(out.codes)[..., q].ravel(),
                                 minlength=SIZE) for q in range(LEVELS)])
  np.testing.assert_allclose(rvq.counts, 0.9 + 0.1 * counts, rtol=1e-5)


def test_more_dimensions_than_there_are():
  with pytest.raises(errors.UserError, match='projected_dim is 8; .* width, 6'):
    quantize.RvqConfig(kind='projected').init(
        jax.random.key(0), _vectors().reshape(-1, DIM), 2, 4)
