"""Attention's kernel for TPUs, beside what tests/nn/test_kernels.py compares."""

import dataclasses
import importlib.util
import json
import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from musiclm_jax.nn import causal
from musiclm_jax.nn import dropping
from musiclm_jax.nn.kernels import dispatch
from musiclm_jax.nn.kernels import tpu
from musiclm_jax.nn.kernels import tpu_attention
from musiclm_jax.preflight import hlo
from musiclm_jax.preflight import schedule

HELPERS = pathlib.Path(__file__).parents[1] / 'helpers'


def _plan(length=512, block=128, rate=0.0, near=2, is_causal=True):
  return tpu_attention.Plan(length, 64, 2, block, near, is_causal, rate, True)


def _seed(row, head, words=(3, 4)):
  return tpu_attention.head_seed(
      jnp.array([*words, 0, 0], jnp.uint32), jnp.int32(row), jnp.int32(head))


def _kept(row=0, head=0, keys=0, queries=0, rate=0.1, block=256):
  return np.asarray(tpu_attention.kept(
      _plan(rate=rate, block=block), _seed(row, head), jnp.int32(keys),
      jnp.int32(queries)))


@pytest.mark.parametrize('rate', [0.1, 0.5])
def test_as_many_weights_are_dropped_as_were_asked_for(rate):
  keep = np.stack([_kept(row, head, rate=rate)
                   for row in range(4) for head in range(4)])
  deviation = (rate * (1 - rate) / keep.size)**0.5
  assert abs(keep.mean() - (1 - rate)) < 5 * deviation
  # Also of each query and each key, by their own counts' deviation.
  for axis in (1, 2):
    counts = keep.mean(axis=axis)
    expected = (rate * (1 - rate) / keep.shape[axis])**0.5
    assert counts.std() == pytest.approx(expected, rel=0.1)


def test_what_is_dropped_has_no_pattern():
  """Neighbours, halves of a block, blocks, heads and rows agree by chance."""
  first = _kept(rate=0.5)
  shifted = [first[1:] == first[:-1], first[:, 1:] == first[:, :-1],
             first[:128] == first[128:]]
  others = [first == _kept(keys=256, rate=0.5), first == _kept(head=1, rate=0.5),
            first == _kept(queries=256, rate=0.5),
            first == _kept(row=1, rate=0.5), first == first.T]
  for same in shifted + others:
    assert abs(same.mean() - 0.5) < 6 * 0.5 / same.size**0.5


def test_a_block_further_on_is_the_same_sequence_further_on():
  """Devices that have other parts of a batch drop what one device would."""
  assert (_kept(row=3, head=5) == np.asarray(tpu_attention.kept(
      _plan(rate=0.1, block=256), tpu_attention.head_seed(
          jnp.array([3, 4, 2, 4], jnp.uint32), jnp.int32(1), jnp.int32(1)),
      jnp.int32(0), jnp.int32(0)))).all()


def test_the_gradient_drops_what_the_value_did():
  """The output is linear in the values, by the very weights that it kept."""
  draw = lambda seed: jnp.asarray(
      np.random.default_rng(seed).normal(size=(1, 2, 300, 64)), jnp.float32)
  query, key, value, grad = map(draw, range(4))
  bias = jnp.zeros((2, 300))
  mask = jnp.zeros((1, 300))
  drop = dropping.WeightDropout(jax.random.key(1), 0.3)

  def attend(value):
    return causal.attention(query, key, value, causal.near_biases(bias), mask,
                            dropout=drop)

  with dispatch.using('tpu'):
    out, back = jax.vjp(jax.jit(attend), value)
    value_grad, = back(grad)
    other = jax.jit(attend)(draw(5))
  np.testing.assert_allclose(
      (out * grad).sum(), (value * value_grad).sum(), rtol=1e-4)
  np.testing.assert_allclose(
      (other * grad).sum(), (draw(5) * value_grad).sum(), rtol=1e-4)


def test_longer_sequences_than_fit_are_left_to_the_plain_form(monkeypatch):
  monkeypatch.setattr(tpu, '_MOST', 20)
  draw = lambda seed: jnp.asarray(
      np.random.default_rng(seed).normal(size=(1, 2, 24, 8)), jnp.float32)
  inputs = [draw(i) for i in range(3)]

  def attend(query, key, value):
    near = causal.near_biases(jnp.zeros((2, 24)), 8)
    assert near.ndim == 3
    return causal.attention(query, key, value, near, jnp.zeros((1, 24)))

  with dispatch.using('tpu'):
    found = attend(*inputs)
  with dispatch.using('jnp'):
    np.testing.assert_array_equal(found, attend(*inputs))


def test_sizes_of_heads_fill_the_lanes():
  assert [tpu_attention.head_size(n) for n in (1, 4, 48, 64, 100, 128, 200)] == [
      1, 4, 64, 64, 128, 128, 256]
  plan = _plan(length=300)
  assert (plan.heads, plan.width, plan.blocks, plan.padded) == (2, 128, 3, 384)


@pytest.mark.parametrize('is_causal', [True, False])
def test_the_loops_cover_all_pairs_of_blocks(is_causal):
  for length in (100, 128, 300, 1000):
    for near in (1, 2, 5):
      plan = _plan(length, near=near if is_causal else 0, is_causal=is_causal)
      own = plan.blocks if is_causal else 0  # the value's, outside of its loops
      value, gradient = plan.loops(False), plan.loops(True)[1:-1]
      # Loops over two blocks at a time.
      twice = (value[0], gradient[1]) if is_causal else (0, 0)
      assert sum(value) + own + twice[0] == plan.pairs
      assert sum(gradient) + twice[1] == plan.pairs


def test_its_products_are_those_of_the_plain_form():
  """The gradient's too, and the logits over again."""
  shape = jax.ShapeDtypeStruct((2, 4, 512, 64), jnp.float32)
  near = jax.ShapeDtypeStruct((4, 128, 255), jnp.float32)
  mask = jax.ShapeDtypeStruct((2, 512), jnp.float32)

  def products(function):
    with dispatch.using('jnp'):
      text = jax.jit(function).lower(
          shape, shape, shape, near, mask).compile().as_text()
    return hlo.count(text).products

  value = products(causal.attention)
  both = products(lambda *inputs: jax.vjp(causal.attention, *inputs)[1](
      inputs[2])[:4])
  plan = _plan()
  found = [tpu_attention.cost(plan, 2, 4, jnp.float32, backward).flops
           for backward in (False, True)]
  assert found[0] == value
  # Of the value's two products one is made anew, and four are the gradient's.
  assert found[1] == both - value + value / 2


def test_a_schedule_is_read_with_its_loops():
  """As v6e's compiler prints it: a loop's close stands a little apart."""
  lines = ['  0x0   :  { }', '  0x1 LB: > { }', '  0x2   : > { }',
           '  0x3 LB: >> { }', '  0x4   : >> { }', '  0x5   : >> { }',
           '  0x6 LE:  { }', '  0x7   : >> { }', '  0x8   : > { }',
           '  0x9 LB: >> { }', '  0xa   : >> { }', '  0xb   : >> { }',
           'no bundle', '  0xc   :  { }']
  found = schedule.parse('\n'.join(lines))
  assert found == schedule.Bundles(3, 3, (4, 3))
  assert found.cycles(10, [100]) == 3 + 10 * 3 + 100 * 4 + 10 * 3
  # Of one block, where a loop is none to the compiler; else a loop is missing.
  assert found.cycles(10, [10, 0, 10]) == 3 + 10 * 3 + 10 * 7
  with pytest.raises(ValueError, match='2 loops in the schedule of a kernel'):
    found.cycles(10, [10, 20, 10])


def test_preflight_reads_what_a_kernel_says_of_itself():
  says = dict(length=300, backward=False, programs=2, loops=[0, 1])
  line = json.dumps(json.dumps(says))
  text = (
      'HloModule jit_f\n\nENTRY %main (x: f32[8,128]) -> f32[8,128] {\n'
      '  %x = f32[8,128]{1,0} parameter(0)\n'
      '  ROOT %attention.1 = f32[8,128]{1,0} custom-call(%x), '
      'custom_call_target="tpu_custom_call", frontend_attributes='
      '{kernel_metadata={\n"attention":' + line + '\n}}, '
      'backend_config={"custom_call_config":{"body":"TUz","cost_estimate":'
      '{"flops":"1000","transcendentals":"7","bytes_accessed":"5"}}}\n}\n')
  found = hlo.count(text)
  assert found.products == 1000 and found.bytes == 2 * 8 * 128 * 4
  assert found.kernels == ((1, says),)


def test_eight_devices_equal_one():
  """Values, gradients, and what is dropped, on a mesh of 2 x 2 x 2."""
  environment = dict(
      os.environ, XLA_FLAGS='--xla_force_host_platform_device_count=8')
  done = subprocess.run(
      [sys.executable, str(HELPERS / 'eight_kernels.py')], text=True,
      capture_output=True, env=environment, check=False)
  assert done.returncode == 0, done.stderr[-2000:]
  found = json.loads(done.stdout.splitlines()[-1])
  assert set(found) == {'none', 'weights', 'keys'}
  for name, case in found.items():
    assert case['distance'] < 5e-5, name  # sums in another order
    assert case['sharded'], name
  assert found['none']['norm'] != found['weights']['norm']


LIBTPU = pytest.mark.skipif(
    importlib.util.find_spec('libtpu') is None, reason='libtpu is missing')


@LIBTPU
@pytest.mark.slow
@pytest.mark.parametrize('generation', ['v4', 'v5e', 'v5p', 'v6e'])
@pytest.mark.parametrize('changes', [
    {}, dict(rate=0.1), dict(causal=False, near=0), dict(near=5),
    dict(dtype='float32'), dict(head_dim=128, heads=1),
    dict(head_dim=32, heads=4), dict(head_dim=32, heads=3),
    dict(length=100, block=128, near=1), dict(block=384)])
def test_it_compiles_for_every_generation(monkeypatch, generation, changes):
  # As for use, not with the tests' few optimisations.
  for name in ('JAX_DISABLE_MOST_OPTIMIZATIONS', 'XLA_FLAGS'):
    monkeypatch.delenv(name, raising=False)
  fields = dict(length=2272, head_dim=64, heads=2, block=256, near=2, causal=True,
                rate=0.0, interpret=False, dtype='bfloat16') | changes
  plan = tpu_attention.Plan(**{k: v for k, v in fields.items() if k != 'dtype'})
  for backward in (False, True):
    loops = plan.loops(backward)
    cycles = schedule.cycles(generation, dict(
        fields, backward=backward, programs=plan.blocks, loops=loops))
    # Its products alone, on units of which half of the inputs are zeros.
    assert cycles > 100 * plan.pairs


@pytest.mark.slow
@pytest.mark.parametrize('generation, fields', [
    ('v4', dict(length=3_072, heads=2, block=256)),
    ('v5e', dict(length=16_384, heads=2, block=384)),
    ('v5p', dict(length=16_384, heads=2, block=384)),
    ('v6e', dict(length=8_192, heads=4, block=256)),
    ('v6e', dict(length=16_384, heads=2, block=256))])
def test_the_longest_sequences_fit(monkeypatch, generation, fields):
  """The limits of nn/kernels/tpu.py, in float32."""
  for name in ('JAX_DISABLE_MOST_OPTIMIZATIONS', 'XLA_FLAGS'):
    monkeypatch.delenv(name, raising=False)
  plan = tpu_attention.Plan(**fields, head_dim=64, near=2, causal=True, rate=0.0,
                            interpret=False)
  assert schedule.cycles(generation, dict(
      dataclasses.asdict(plan), dtype='float32', backward=True,
      programs=plan.blocks, loops=plan.loops(True))) > 0
