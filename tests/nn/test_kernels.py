"""Every form of an operation beside the plain one, values and gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from musiclm_jax import errors
from musiclm_jax.nn import assignments
from musiclm_jax.nn import causal
from musiclm_jax.nn import conv
from musiclm_jax.nn import packed
from musiclm_jax.nn.kernels import dispatch


def _random(*shape, seed=0, dtype=np.float32):
  rng = np.random.default_rng([seed, *shape])
  return jnp.asarray(rng.normal(size=shape), dtype)


def _convolution(x, kernel, *geometry):
  return (lambda *a: conv.convolve(*a, *geometry),
          (_random(*x), _random(*kernel)), True)


def _attention(length, chunk, flat=None, dropout=False, dtype=np.float32,
               batch=2, **settings):
  """Padding in one row, and gradients of the biases too."""
  mask = np.zeros((batch, length), np.float32)
  mask[0, 4:7] = causal.NEGATIVE
  keep = np.random.default_rng(1).choice(
      np.float32([0.0, 2.0]), (batch, 3, length, length))

  def drop(weights, index):
    rows, columns = weights.shape[2:]
    start = index * (chunk or length)
    return weights * keep[:, :, start:start + rows, :columns]

  def run(query, key, value, bias):
    return causal.attention(
        query, key, value, causal.near_biases(bias, chunk, flat), mask,
        dropout=drop if dropout else None, **settings)

  inputs = [_random(batch, 3, length, 4, seed=i, dtype=dtype) for i in range(3)]
  return run, (*inputs, _random(3, length, seed=3)), True


def _cached(size, seen, dtype=np.float32, shape=(8, 16, 64)):
  (rows, heads, width), latest = shape, 3  # pieces are of 128 positions
  draw = lambda *shape, seed: 0.3 * _random(*shape, seed=seed, dtype=dtype)
  bias = _random(1, heads, size, seed=6).at[..., seen:].set(causal.NEGATIVE)
  near = tuple(
      _random(rows, heads, latest, width, seed=i) for i in (3, 4))
  # What was never looked at must not matter, whatever it is.
  key = draw(rows, heads, width, size, seed=1).at[..., seen:].set(1e3)

  def run(query, key, value, seen):
    return causal.cached_attention(
        query, key, value, bias, near, _random(1, heads, latest, seed=5), seen)

  return run, (draw(rows, heads, width, seed=0), key,
               draw(rows, heads, size, width, seed=2), seen), False


def _narrow(shape, dtype, wide):
  values = lambda *shape: (20 * _random(*shape)).astype(dtype)
  return (lambda x, matrix: packed.narrow_product(x, matrix, wide),
          (values(*shape), values(48, shape[-1])), False)


# operation: [(function, inputs, whether it has a gradient), ...]
CASES = {
    'convolve': [
        _convolution((2, 30, 6), (7, 6, 5), (1,), ((6, 0),), (1,)),
        _convolution((2, 30, 6), (7, 6, 5), (1,), ((18, 0),), (3,)),
        _convolution((2, 31, 6), (5, 6, 4), (3,), ((2, 0),), (1,)),
        _convolution((2, 20, 12), (5, 3, 8), (2,), ((1, 2),), (1,), 4),
        _convolution((2, 9, 8, 3), (4, 4, 3, 5), (2, 2), ((1, 2), (1, 1)),
                     (1, 1))],
    'attention': [
        _attention(21, 0), _attention(21, 5, flat=6, remat=True),
        _attention(21, 8, flat=6, dropout=True), _attention(21, 5, flat=40),
        _attention(9, 4, batch=65), _attention(21, 8, dtype=jnp.bfloat16)],
    'cached_attention': [
        _cached(448, 0), _cached(448, 448), _cached(384, 257),
        _cached(448, 100, jnp.bfloat16), _cached(1100, 1057, shape=(2, 3, 8)),
        _cached(1100, 600, jnp.bfloat16, (1, 6, 32)),
        _cached(45, 20, shape=(3, 2, 128))],
    'narrow_product': [
        _narrow(shape, dtype, wide)
        for dtype, wide in ((jnp.bfloat16, jnp.float32), (jnp.int8, jnp.int32))
        for shape in ((1, 32), (2, 32), (2, 3, 32))],
    'sums_by_entry': [(
        lambda ids, vectors: assignments.sums_by_entry(ids, vectors, 4),
        (jnp.array([[0, 2, 2], [1, 1, 1]]), _random(2, 3, 5)), False)],
}


def _results(case, choice):
  """What `choice` computes, and its gradients."""
  function, inputs, differentiable = case
  with dispatch.using(choice):
    if not differentiable:
      return jax.tree.leaves(jax.jit(function)(*inputs))
    value, back = jax.vjp(jax.jit(function), *inputs)
    return [value, *back(_random(*value.shape, seed=9, dtype=value.dtype))]


@pytest.mark.parametrize('platform,name,index', [
    (platform, name, index) for platform, forms in dispatch.FORMS.items()
    for name in forms for index in range(len(CASES[name]))])
def test_a_form_has_the_values_and_gradients_of_the_plain_one(
    platform, name, index):
  case = CASES[name][index]
  found, expected = (_results(case, c) for c in (platform, 'jnp'))
  assert len(found) == len(expected)
  for a, b in zip(found, expected):
    assert (a.dtype, a.shape) == (b.dtype, b.shape)
    assert jnp.std(jnp.asarray(b, jnp.float32)) > 1e-3
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    rounding = 0.02 if any(
        x.dtype == jnp.bfloat16 for x in case[1]
        if hasattr(x, 'dtype')) else 1e-5
    np.testing.assert_allclose(
        a, b, rtol=rounding, atol=rounding * np.abs(b).max())


@dispatch.operation
def where(x):
  """The plain form of an operation that this test adds."""
  return x + 1.0


@pytest.fixture(name='forms')
def _forms(monkeypatch):
  monkeypatch.setitem(dispatch.FORMS, 'cpu', dict(where=lambda x: x + 2.0))
  monkeypatch.setitem(dispatch.FORMS, 'tpu', dict(where=lambda x: x + 3.0))
  monkeypatch.setattr(
      dispatch, 'CHOICES', ('auto', 'jnp', 'cpu', 'tpu'))


@pytest.mark.usefixtures('forms')
def test_a_choice_can_be_forced_and_is_not_taken_for_another():
  jitted = jax.jit(where)
  assert jitted(0.0) == {'cpu': 2.0}.get(jax.default_backend(), 1.0)
  for choice, expected in (('jnp', 1.0), ('cpu', 2.0), ('tpu', 3.0)):
    with dispatch.using(choice):
      assert where(0.0) == jitted(0.0) == expected
      with dispatch.using('jnp'):
        assert jitted(0.0) == 1.0
  with dispatch.using('cpu'), dispatch.using('auto'):
    assert jitted(0.0) == {'cpu': 2.0}.get(jax.default_backend(), 1.0)


@pytest.mark.usefixtures('forms')
def test_auto_is_for_the_platform_of_the_mesh_and_not_of_the_host():
  jitted = jax.jit(where)
  for platform, expected in (('tpu', 3.0), ('gpu', 1.0), ('cpu', 2.0)):
    device = jax.sharding.AbstractDevice(
        device_kind=platform, num_cores=None, platform=platform)
    mesh = jax.sharding.AbstractMesh(
        (1,), ('data',), abstract_device=device)
    with jax.sharding.use_abstract_mesh(mesh):
      assert dispatch.platform() == platform
      text = str(jax.make_jaxpr(jitted)(0.0))
      assert f'{expected}' in text
      with dispatch.using('jnp'):
        assert '1.0' in str(jax.make_jaxpr(jitted)(0.0))
  assert dispatch.platform() == jax.default_backend()


def test_an_unknown_choice_names_the_known_ones():
  with pytest.raises(errors.UserError, match="kernels 'gpu'; known: auto, cpu"):
    with dispatch.using('gpu'):
      pass
