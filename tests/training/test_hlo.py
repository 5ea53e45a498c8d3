"""FLOPs, bytes and collectives of compiled programs, beside hand counts."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from musiclm_jax.training import hlo


def compiled(function, *shapes):
  arguments = [jax.ShapeDtypeStruct(s, jnp.float32) for s in shapes]
  return jax.jit(function).lower(*arguments).compile()


def layers(scan):
  """Six products of [16, 32] with [32, 32], one after the other."""
  def function(weights, x):
    step = lambda x, w: (jnp.tanh(x @ w), None)
    if scan:
      return jax.lax.scan(step, x, weights)[0]
    for w in weights:
      x, _ = step(x, w)
    return x
  return function


SHAPES = ((6, 32, 32), (16, 32))
ONE = 2 * 16 * 32 * 32


def test_a_loop_counts_as_often_as_it_runs():
  """XLA counts its body once; unrolled, both agree."""
  loop = compiled(layers(True), *SHAPES)
  flat = compiled(layers(False), *SHAPES)
  assert hlo.count(loop.as_text()).products == 6 * ONE
  assert hlo.count(flat.as_text()).products == 6 * ONE
  assert loop.cost_analysis()['flops'] < 2 * ONE
  assert flat.cost_analysis()['flops'] >= 6 * ONE
  assert not hlo.count(loop.as_text()).unknown_loops


def test_gradients_and_loops_in_loops():
  def function(weights, x):
    outer = lambda x, _: (layers(True)(weights, x), None)
    return jax.lax.scan(outer, x, length=5)[0].sum()
  found = hlo.count(compiled(jax.grad(function), *SHAPES).as_text())
  # Forward, and both factors' gradients.
  assert found.products == 3 * 5 * 6 * ONE


def test_a_loop_moves_the_slices_that_it_takes():
  """The stack of weights is read once in all, not once for each layer."""
  weights, x = 4 * 6 * 64 * 1024, 4 * 16 * 64
  def function(weights, x):
    step = lambda x, w: (jnp.tanh(x @ w @ w.T), None)
    return jax.lax.scan(step, x, weights)[0]
  found = hlo.count(compiled(function, (6, 64, 1024), (16, 64)).as_text())
  # The slice may be written out, and is read by two products.
  assert weights <= found.bytes < 5 * weights + 6 * 20 * x


@pytest.mark.parametrize('window', [
    dict(padding='SAME'), dict(padding='VALID', window_strides=(2, 3)),
    dict(padding=((3, 1), (0, 2)), rhs_dilation=(2, 1)),
    dict(padding=((1, 1), (0, 2)), lhs_dilation=(2, 2)),
    dict(padding='SAME', feature_group_count=2)])
def test_convolutions_count_as_xla_counts_them(window):
  groups = window.get('feature_group_count', 1)
  def function(x, w):
    window_ = dict(dict(window_strides=(1, 1)), **window)
    return jax.lax.conv_general_dilated(
        x, w, dimension_numbers=('NHWC', 'HWIO', 'NHWC'), **window_)
  program = compiled(function, (3, 9, 11, 4), (3, 2, 4 // groups, 6))
  expected = program.cost_analysis()['flops']
  assert hlo.count(program.as_text()).products == pytest.approx(
      expected, rel=0.01)


# As a TPU compiler writes it: products are convolutions, conditions are not
# annotated, S(1) is a memory beside the main one.
TPU = '''HloModule step, num_partitions=8

%gather_start (p.0: bf16[64,256]) -> bf16[64,512] {
  %p.0 = bf16[64,256]{1,0:T(8,128)(2,1)S(1)} parameter(0)
  ROOT %all-gather.1 = bf16[64,512]{1,0} all-gather(%p.0), channel_id=5, replica_groups=mesh['a'=4,'b'=2] {'b'}, dimensions={1}
}

%product (p.1: bf16[64,512], p.2: bf16[6,512,256], p.3: s32[], p.9: bf16[64,256]) -> bf16[64,256] {
  %p.1 = bf16[64,512]{1,0:T(8,128)(2,1)S(1)} parameter(0)
  %p.2 = bf16[6,512,256]{2,1,0:T(8,128)(2,1)} parameter(1)
  %p.3 = s32[]{:T(128)S(6)} parameter(2)
  %p.9 = bf16[64,256]{1,0:T(8,128)(2,1)S(1)} parameter(3)
  %zero = s32[] constant(0)
  %slice = bf16[1,512,256]{2,1,0} dynamic-slice(%p.2, %p.3, %zero, %zero), dynamic_slice_sizes={1,512,256}
  %flat = bf16[512,256]{1,0} bitcast(%slice)
  %all-gather.2 = bf16[64,512]{1,0} all-gather(%p.9), channel_id=5, replica_groups=mesh['a'=4,'b'=2] {'b'}, dimensions={1}
  ROOT %conv = bf16[64,256]{1,0} convolution(%p.1, %flat), dim_labels=bf_io->bf
}

%body (p.4: (s32[], bf16[64,256], bf16[6,512,256])) -> (s32[], bf16[64,256], bf16[6,512,256]) {
  %p.4 = (s32[], bf16[64,256]{1,0:S(1)}, bf16[6,512,256]{2,1,0}) parameter(0)
  %i = s32[] get-tuple-element(%p.4), index=0
  %x = bf16[64,256]{1,0:S(1)} get-tuple-element(%p.4), index=1
  %w = bf16[6,512,256]{2,1,0} get-tuple-element(%p.4), index=2
  %whole = bf16[64,512]{1,0:S(1)} fusion(%x), kind=kCustom, calls=%gather_start
  %y = bf16[64,256]{1,0:S(1)} fusion(%whole, %w, %i, %x), kind=kOutput, calls=%product
  %one = s32[] constant(1)
  %next = s32[]{:S(6)} add(%i, %one)
  ROOT %out = (s32[], bf16[64,256]{1,0:S(1)}, /*index=2*/bf16[6,512,256]{2,1,0}) tuple(%next, %y, %w)
}

%more (p.5: (s32[], bf16[64,256], bf16[6,512,256])) -> pred[] {
  %limit = s32[] constant(6)
  %p.5 = (s32[], bf16[64,256]{1,0:S(1)}, bf16[6,512,256]{2,1,0}) parameter(0)
  %j = s32[] get-tuple-element(%p.5), index=0
  ROOT %less = pred[] compare(%j, %limit), direction=LT
}

ENTRY %main (a: bf16[64,256], b: bf16[6,512,256]) -> f32[512,128] {
  %a = bf16[64,256]{1,0:S(1)} parameter(0)
  %b = bf16[6,512,256]{2,1,0} parameter(1)
  %start = s32[] constant(2)
  %in = (s32[], bf16[64,256]{1,0:S(1)}, bf16[6,512,256]{2,1,0}) tuple(%start, %a, %b)
  %loop = (s32[], bf16[64,256]{1,0:S(1)}, bf16[6,512,256]{2,1,0}) while(%in), condition=%more, body=%body
  %grads = f32[512,256]{1,0} custom-call(), custom_call_target="grads"
  %sum = f32[512,256]{1,0} all-reduce(%grads), channel_id=7, replica_groups={{0,2,4,6},{1,3,5,7}}, to_apply=%add
  ROOT %scattered = f32[512,128]{1,0} reduce-scatter(%sum), channel_id=8, replica_groups=[4,2]<=[8], dimensions={1}, to_apply=%add
}
'''


def test_a_partitioned_program_for_a_tpu():
  found = hlo.count(TPU, 8)
  trips = 4  # from 2 to 6
  assert found.products == trips * 2 * 64 * 512 * 256
  gather = found.collectives['all-gather']
  # One collective that stands in two fusions, so that it runs beside a product.
  assert gather == hlo.Collective(trips, trips * 2 * 64 * 512,
                                  trips * 2 * 64 * 512 / 2)
  size = 4 * 512 * 256
  assert found.collectives['all-reduce'] == hlo.Collective(1, size, 1.5 * size)
  assert found.collectives['reduce-scatter'] == hlo.Collective(
      1, size, size / 2)
  assert found.wire_bytes == trips * 2 * 64 * 512 / 2 + 2 * size
  # The loop reads its slice of the weights; all else lies in the fast memory.
  outside = size + 2 * size + 1.5 * size
  assert found.bytes == pytest.approx(
      trips * 2 * 512 * 256 + outside, rel=1e-3)


def test_a_loop_of_unknown_length_is_told():
  text = TPU.replace('direction=LT', 'direction=NE')
  found = hlo.count(text, 8)
  assert found.unknown_loops == 1
  assert found.products == 2 * 64 * 512 * 256


def test_products_of_libraries_count_too():
  text = '''HloModule gemm

ENTRY %main (a: bf16[64,256], b: bf16[256,128]) -> bf16[64,128] {
  %a = bf16[64,256]{1,0} parameter(0)
  %b = bf16[256,128]{1,0} parameter(1)
  ROOT %c = (bf16[64,128]{1,0}, s8[1024]{0}) custom-call(%a, %b), custom_call_target="__cublas$gemm", backend_config={"gemm_backend_config":{"dot_dimension_numbers":{"lhs_contracting_dimensions":["1"],"rhs_contracting_dimensions":["0"]}}}
}
'''
  assert hlo.count(text).products == 2 * 64 * 256 * 128


def test_shapes():
  shape = hlo.Shape('bf16', (3, 5), '{1,0:T(8,128)S(1)}')
  assert (shape.bytes, shape.main_bytes) == (30, 0)
  assert dataclasses.replace(shape, layout='{1,0:T(8,128)}').main_bytes == 30
  assert [hlo.Shape(k, (4,), '').bytes for k in (
      'f32', 's8', 'pred', 'u4', 'token', 'f8e4m3fn')] == [16, 4, 4, 2, 0, 4]
  assert np.prod(hlo.Shape('f32', (), '').dims) == 1
