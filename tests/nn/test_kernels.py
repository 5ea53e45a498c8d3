"""Every form of an operation beside the plain one, values and gradients."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from musiclm_jax import errors
from musiclm_jax.nn import assignments
from musiclm_jax.nn import attention
from musiclm_jax.nn import causal
from musiclm_jax.nn import conv
from musiclm_jax.nn import dropping
from musiclm_jax.nn import packed
from musiclm_jax.nn import transformer
from musiclm_jax.nn.kernels import cudnn
from musiclm_jax.nn.kernels import dispatch
from musiclm_jax.nn.kernels import platforms
from musiclm_jax.nn.kernels import tpu
from musiclm_jax.nn.kernels import tpu_attention


def _random(*shape, seed=0, dtype=np.float32):
  rng = np.random.default_rng([seed, *shape])
  return jnp.asarray(rng.normal(size=shape), dtype)


def _convolution(x, kernel, *geometry):
  return (lambda *a: conv.convolve(*a, *geometry),
          (_random(*x), _random(*kernel)), True)


@dataclasses.dataclass(frozen=True)
class _Dropped(dropping.WeightDropout):
  """Drops what the kernels for TPUs do, by `tpu_attention.kept`, for all forms."""

  length: int = 0
  chunk: int = 0

  def __call__(self, weights, index=0):
    batch, heads, rows, columns = weights.shape
    block = tpu._block(self.length)
    plan = tpu_attention.Plan(self.length, 64, 2, block, 0, True, self.rate, True)

    def kept(row, head):
      seed = tpu_attention.head_seed(
          jnp.array([*self.rng, 0, 0], jnp.uint32), jnp.int32(row),
          jnp.int32(head))
      part = lambda key, query: tpu_attention.kept(
          plan, seed, jnp.int32(key * block), jnp.int32(query * block)).T
      return jnp.block([[part(key, query) for key in range(plan.blocks)]
                        for query in range(plan.blocks)])

    keep = jnp.array([[kept(row, head) for head in range(heads)]
                      for row in range(batch)])
    start = index * self.chunk
    keep = keep[:, :, start:start + rows, :columns]
    return jnp.where(keep, weights / (1 - self.rate), 0.0)


def _attention(length, chunk, flat=None, dropout=False, dtype=np.float32,
               batch=2, heads=3, width=4, **settings):
  """Padding in one row, and gradients of the biases too."""
  mask = np.zeros((batch, length), np.float32)
  mask[0, 4:7] = causal.NEGATIVE
  drop = _Dropped(jnp.array([5, 6], jnp.uint32), 0.25, length, chunk or length)
  if dropout == 'by_key':
    drop = dropping.KeyDropout(jax.random.bernoulli(
        jax.random.key(4), 0.75, (batch, heads, length)), 0.25)

  def run(query, key, value, bias):
    return causal.attention(
        query, key, value, causal.near_biases(bias, chunk, flat), mask,
        dropout=drop if dropout else None, **settings)

  inputs = [_random(batch, heads, length, width, seed=i, dtype=dtype)
            for i in range(3)]
  return run, (*inputs, _random(heads, length, seed=3)), True


def _attend(length, heads=3, width=4, dropout=False, dtype=np.float32):
  """Bidirectional; of the first row only some keys count."""
  mask = np.ones((2, length), bool)
  mask[0, length // 2:] = False
  drop = _Dropped(jnp.array([5, 6], jnp.uint32), 0.25, length, length)
  run = lambda *inputs: attention.attend(
      *inputs, jnp.asarray(mask), drop if dropout else None)
  return run, tuple(_random(2, length, heads, width, seed=i, dtype=dtype)
                    for i in range(3)), True


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
        _attention(9, 4, batch=65), _attention(21, 8, dtype=jnp.bfloat16),
        _attention(300, 0, flat=40, dropout=True, heads=2, width=64),
        _attention(530, 256, flat=128, heads=4, width=32, batch=1,
                   dtype=jnp.bfloat16),
        _attention(530, 256, heads=1, width=200, batch=1),
        _attention(40, 8, flat=6, dropout='by_key'),
        # Two heads at a time, and the third one with a head of zeros.
        _attention(40, 8, flat=6, dropout=True, heads=3, width=64)],
    'attend': [
        _attend(21), _attend(300, 2, 64, dropout=True),
        _attend(300, 4, 64, dtype=jnp.bfloat16)],
    'near_biases': [],  # compared in what it is for, attention
    'cached_attention': [
        _cached(448, 0), _cached(448, 448), _cached(384, 257),
        _cached(448, 100, jnp.bfloat16), _cached(1100, 1057, shape=(2, 3, 8)),
        _cached(1100, 600, jnp.bfloat16, (1, 6, 32)),
        _cached(45, 20, shape=(3, 2, 128))],
    'narrow_product': [
        _narrow(shape, dtype, wide)
        for dtype, wide in ((jnp.bfloat16, jnp.float32), (jnp.int8, jnp.int32))
        for shape in ((1, 32), (2, 32), (2, 3, 32))],
    'gated_gelu': [
        (transformer.gated_gelu, (3 * _random(2, 5, 8, dtype=dtype),
                                  _random(2, 5, 8, seed=1, dtype=dtype)), True)
        for dtype in (np.float32, jnp.bfloat16)],
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


@pytest.fixture(name='no_gpu')
def _no_gpu(monkeypatch):
  """What cuDNN would compute is computed by XLA, behind the same entry."""
  monkeypatch.setattr(cudnn, '_IMPLEMENTATION', 'xla')


@pytest.mark.usefixtures('no_gpu')
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


@pytest.mark.parametrize('case', [
    _attention(700, 0, flat=40, dropout=True, heads=2, width=8, batch=1),
    _attention(650, 0, flat=40, dropout='by_key', heads=1, width=8),
    _attend(300, 2, 8, dropout=True)])
def test_many_blocks_have_the_values_and_gradients_of_the_plain_form(
    monkeypatch, case):
  """Every loop of the kernels runs, those over two blocks at a time as well."""
  monkeypatch.setattr(tpu, '_BLOCKS', {128: 1.0})
  for a, b in zip(*(_results(case, c) for c in ('tpu', 'jnp')), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5 * np.abs(b).max())


@pytest.mark.parametrize('heads, together', [(4, 4), (6, 2), (3, 2)])
def test_a_v6e_takes_four_heads_of_64_where_none_is_left_over(
    monkeypatch, heads, together):
  plans = []
  attend = tpu_attention.attend
  monkeypatch.setattr(tpu, '_kind', lambda: 'TPU v6 lite')
  monkeypatch.setattr(tpu_attention, 'attend', lambda plan, *inputs: (
      plans.append(plan) or attend(plan, *inputs)))
  case = _attention(300, 0, flat=40, heads=heads, width=64, batch=1)
  for a, b in zip(*(_results(case, c) for c in ('tpu', 'jnp')), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5 * np.abs(b).max())
  assert {(p.heads, p.block) for p in plans} == {(together, 256)}


def test_blocks_are_those_with_the_least_work():
  assert [tpu._block(n) for n in (100, 200, 300, 768, 1808, 2272)] == [
      128, 256, 384, 256, 384, 384]
  assert (tpu._block(1472), tpu._block(1472, causal=False)) == (256, 384)


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
def test_the_environment_chooses_for_a_process(monkeypatch):
  for choice, expected in (('jnp', 1.0), ('tpu', 3.0)):
    monkeypatch.setenv('MUSICLM_KERNELS', choice)
    assert where(0.0) == expected
    with dispatch.using('cpu'):
      assert where(0.0) == 2.0
  monkeypatch.setenv('MUSICLM_KERNELS', 'cuda')
  with pytest.raises(errors.UserError, match='cuda'):
    where(0.0)


@pytest.mark.usefixtures('forms')
def test_auto_is_for_the_platform_of_the_mesh_and_not_of_the_host():
  jitted = jax.jit(where)
  for platform, expected in (('tpu', 3.0), ('gpu', 1.0), ('cpu', 2.0)):
    device = jax.sharding.AbstractDevice(
        device_kind=platform, num_cores=None, platform=platform)
    mesh = jax.sharding.AbstractMesh(
        (1,), ('data',), abstract_device=device)
    with jax.sharding.use_abstract_mesh(mesh):
      assert platforms.platform() == platform
      text = str(jax.make_jaxpr(jitted)(0.0))
      assert f'{expected}' in text
      with dispatch.using('jnp'):
        assert '1.0' in str(jax.make_jaxpr(jitted)(0.0))
  assert platforms.platform() == jax.default_backend()


def test_an_unknown_choice_names_the_known_ones():
  with pytest.raises(errors.UserError, match="kernels 'gpu'; known: auto, cpu"):
    with dispatch.using('gpu'):
      pass
