"""FLOPs, bytes and collectives of compiled programs, beside hand counts."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from musiclm_jax.preflight import hlo
from musiclm_jax.preflight import hlo_text
from musiclm_jax.preflight import hlo_traffic


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


def test_traffic_is_what_xla_counts():
  """Without loops XLA's own count of bytes is right; ours is another one."""
  def function(weights, x):
    return layers(False)(weights, jax.nn.softmax(x)[:8]).sum()
  flat = compiled(jax.grad(function), (6, 256, 256), (16, 256))
  expected = flat.cost_analysis()['bytes accessed']
  assert expected > 3 * 4 * 6 * 256 * 256
  assert hlo.count(flat.as_text()).bytes == pytest.approx(expected, rel=0.02)


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


# A fusion within a fusion takes a slice of each of two stacks, and writes a
# layer of a third in place.
NESTED = '''HloModule step

%inner (q.0: bf16[24,512,256], q.1: s32[]) -> bf16[512,256] {
  %q.0 = bf16[24,512,256]{2,1,0} parameter(0)
  %q.1 = s32[] parameter(1)
  %null = s32[] constant(0)
  %one = bf16[1,512,256]{2,1,0} dynamic-slice(%q.0, %q.1, %null, %null), dynamic_slice_sizes={1,512,256}
  ROOT %flat = bf16[512,256]{1,0} bitcast(%one)
}

%place (r.0: f32[24,64,256], r.1: f32[64,256], r.2: s32[]) -> f32[24,64,256] {
  %r.0 = f32[24,64,256]{2,1,0} parameter(0)
  %r.1 = f32[64,256]{1,0} parameter(1)
  %r.2 = s32[] parameter(2)
  %nil = s32[] constant(0)
  %row = f32[1,64,256]{2,1,0} bitcast(%r.1)
  ROOT %put = f32[24,64,256]{2,1,0} dynamic-update-slice(%r.0, %row, %r.2, %nil, %nil)
}

%outer (p.0: bf16[64,512], p.1: bf16[24,512,256], p.2: s32[], p.3: f32[24,64,256]) -> f32[24,64,256] {
  %p.0 = bf16[64,512]{1,0} parameter(0)
  %p.1 = bf16[24,512,256]{2,1,0} parameter(1)
  %p.2 = s32[] parameter(2)
  %p.3 = f32[24,64,256]{2,1,0} parameter(3)
  %w = bf16[512,256]{1,0} fusion(%p.1, %p.2), kind=kLoop, calls=%inner
  %conv = f32[64,256]{1,0} convolution(%p.0, %w), dim_labels=bf_io->bf
  ROOT %all = f32[24,64,256]{2,1,0} fusion(%p.3, %conv, %p.2), kind=kLoop, calls=%place
}

ENTRY %main (a: bf16[64,512], b: bf16[24,512,256], i: s32[], c: f32[24,64,256]) -> f32[24,64,256] {
  %a = bf16[64,512]{1,0:S(1)} parameter(0)
  %b = bf16[24,512,256]{2,1,0} parameter(1)
  %i = s32[]{:S(6)} parameter(2)
  %c = f32[24,64,256]{2,1,0} parameter(3)
  ROOT %y = f32[24,64,256]{2,1,0} fusion(%a, %b, %i, %c), kind=kOutput, calls=%outer, backend_config={"window_config":{"estimated_cycles":"1234"}}
}
'''


def test_slices_deep_in_fusions_count_as_slices():
  """As a scanned layer's weights, which a TPU's fusions take within others."""
  found = hlo.count(NESTED)
  assert found.bytes == 2 * 512 * 256 + 4 * 64 * 256
  assert found.products == 2 * 64 * 512 * 256
  assert found.cycles == 1234
  unknown = NESTED.replace('"1234"', '"9223372036854775807"')
  assert hlo.count(unknown).cycles == 0


def test_a_stack_that_a_fusion_uses_whole_counts_whole():
  text = NESTED.replace(
      'ROOT %all =', '%sum = bf16[512,256]{1,0} reduce(%p.1, %p.2), '
      'dimensions={0}\n  ROOT %all =')
  assert hlo.count(text).bytes == 24 * 2 * 512 * 256 + 4 * 64 * 256


@pytest.mark.parametrize('row, size', [
    # A slice on its way to the fast memory: the slice alone, read once.
    ('((f32[16,64]{1,0}), f32[4,64]{1,0:S(1)}, s32[]{:S(2)}) '
     'slice-start(%a), slice={[0:4], [0:64]}', 4 * 64 * 4),
    ('f32[4,64]{1,0} slice(%a), slice={[0:4], [0:64]}', 2 * 4 * 64 * 4),
    ('f32[4,64]{1,0:S(1)} dynamic-slice(%a, %i, %i)', 4 * 64 * 4),
    ('f32[2,64]{1,0} gather(%a, %n)', 2 * 2 * 64 * 4 + 2 * 4),
    ('(f32[16,64]{1,0}, f32[16,64]{1,0:S(1)}, u32[]{:S(2)}) copy-start(%a)',
     16 * 64 * 4),
    ('f32[16,64]{1,0} negate(%a)', 2 * 16 * 64 * 4),
    # What a part of the chip does beside the rest counts where it is done.
    ('((f32[16,64]{1,0}), f32[16,64]{1,0}, u32[]{:S(8)}) async-start(%a), '
     'calls=%apart', 2 * 16 * 64 * 4),
    ('((f32[16,64]{1,0}), f32[16,64]{1,0}) async-update(%s, %a, %n)', 0),
    ('f32[16,64]{1,0} async-done(%s)', 0)])
def test_traffic_by_hand(row, size):
  text = f'''HloModule step

%apart (p: f32[16,64]) -> f32[16,64] {{
  %p = f32[16,64]{{1,0}} parameter(0)
  ROOT %b = f32[16,64]{{1,0}} negate(%p)
}}

ENTRY %main (a: f32[16,64], i: s32[], n: s32[2]) -> f32[16,64] {{
  %a = f32[16,64]{{1,0}} parameter(0)
  %i = s32[]{{:S(6)}} parameter(1)
  %n = s32[2]{{0}} parameter(2)
  ROOT %y = {row}
}}
'''
  assert hlo.count(text).bytes == size
  computations, entry = hlo_text.parse(text)
  assert hlo_traffic.moved(
      computations[entry]['a'], computations[entry], computations) == 0


@pytest.mark.parametrize('lines, trips', [
    ('%one = s32[] constant(2)\n  %next = s32[] add(%i, %one)', 2),
    # 2, 5 and no more.
    ('%one = s32[] constant(3)\n  %next = s32[] add(%i, %one)', 2),
    ('%one = s32[] constant(1)\n  %half = s32[] add(%one, %i)\n'
     '  %next = s32[] add(%half, %one)', 2),
    ('%one = s32[] constant(4)\n  %half = s32[] add(%i, %one)\n'
     '  %next = s32[] copy(%half)', 1)])
def test_a_loop_may_count_up_by_more_than_one(lines, trips):
  text = re.sub(r'%one = s32\[\] constant\(1\)\n  %next = .*', lines, TPU)
  found = hlo.count(text, 8)
  assert found.products == trips * 2 * 64 * 512 * 256
  assert found.unknown_loops == 0


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
  shape = hlo_text.Shape('bf16', (3, 5), '{1,0:T(8,128)S(1)}')
  assert (shape.bytes, shape.main_bytes) == (30, 0)
  assert dataclasses.replace(shape, layout='{1,0}').main_bytes == 30
  assert [hlo_text.Shape(k, (4,), '').bytes for k in (
      'f32', 's8', 'pred', 'u4', 'token', 'f8e4m3fn')] == [16, 4, 4, 2, 0, 4]
  assert np.prod(hlo_text.Shape('f32', (), '').dims) == 1


@pytest.mark.parametrize('layout, size', [
    ('{2,1,0:T(8,128)(2,1)}', 5 * 16 * 128 * 2), ('{1,2,0:T(8,128)}',
                                                  5 * 64 * 128 * 2),
    ('{2,1,0:T(1,128)}', 5 * 9 * 128 * 2), ('{2,1,0}', 5 * 9 * 64 * 2),
    ('', 5 * 9 * 64 * 2)])
def test_arrays_fill_tiles(layout, size):
  shape = hlo_text.Shape('bf16', (5, 9, 64), layout)
  assert shape.tiled_bytes == shape.main_bytes == size
  assert shape.bytes == 5 * 9 * 64 * 2
  assert hlo_text.Shape('f32', (), '{:T(128)}').tiled_bytes == 4
  assert hlo_text.Shape('f32', (1025,), '{0:T(1024)}').tiled_bytes == 8192
