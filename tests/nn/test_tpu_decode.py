"""Decoding's kernels on TPUs that are not there: meshes, and the compiler."""

import importlib.util
import os
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest

from musiclm_jax.nn import causal
from musiclm_jax.nn.kernels import dispatch

# In a process of its own: a topology changes jax's settings. Prints the
# optimised program of one device.
_COMPILE = """
import sys
import jax
import jax.numpy as jnp
import numpy as np
from musiclm_jax.nn import causal
from musiclm_jax.nn import packed
from musiclm_jax.preflight import machines

def print_program(function, *arrays):
  device = machines.topology(sys.argv[1]).devices[0]
  mesh = jax.sharding.Mesh(np.array([device]), ('data',))
  here = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
  arrays = jax.tree.map(lambda x: jax.ShapeDtypeStruct(
      x.shape, x.dtype, sharding=here), arrays)
  with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
    compiled = jax.jit(function).lower(*arrays).compile()
  print(compiled.as_text())
  print('temporary bytes:', compiled.memory_analysis().temp_size_in_bytes)

of = jax.ShapeDtypeStruct
"""
_ATTENTION = """
rows, heads, width, size = {shape}
near = of((rows, heads, 32, width), jnp.float32)
print_program(
    causal.cached_attention, of((rows, heads, width), {dtype}),
    of((rows, heads, width, size), {dtype}),
    of((rows, heads, size, width), {dtype}),
    of((rows, heads, size), jnp.float32), (near, near),
    of((1, heads, 32), jnp.float32), of((), jnp.int32))
"""
_INT8 = """
matrix = packed.Int8(of((8192, 1024), jnp.int8), of((8192,), jnp.float32))
print_program(packed.product, of(({rows}, 1024), jnp.bfloat16), matrix)
"""
_TOPOLOGIES = ['v4:2x2x1', 'v5e:2x2', 'v5p:2x2x1', 'v6e:2x2']
_needs_libtpu = pytest.mark.skipif(
    importlib.util.find_spec('libtpu') is None, reason='libtpu is missing')


def _program(topology, body):
  # Compiled as it would be for use, not as for tests (conftest.py).
  settings = {name: value for name, value in os.environ.items() if name not in (
      'JAX_DISABLE_MOST_OPTIMIZATIONS', 'XLA_FLAGS')}
  done = subprocess.run(
      [sys.executable, '-c', _COMPILE + body, topology], check=False,
      capture_output=True, text=True, timeout=600, env=settings)
  assert done.returncode == 0, done.stderr
  return done.stdout


def _traced(devices):
  rows, heads, width, size, latest = 2, 4, 8, 40, 3
  of = jax.ShapeDtypeStruct
  near = of((rows, heads, latest, width), jnp.float32)
  device = jax.sharding.AbstractDevice(
      device_kind='tpu', num_cores=None, platform='tpu')
  mesh = jax.sharding.AbstractMesh(
      (devices,), ('data',), abstract_device=device)
  with jax.sharding.use_abstract_mesh(mesh):
    return str(jax.make_jaxpr(causal.cached_attention)(
        of((rows, heads, width), jnp.float32),
        of((rows, heads, width, size), jnp.float32),
        of((rows, heads, size, width), jnp.float32),
        of((rows, heads, size), jnp.float32), (near, near),
        of((1, heads, latest), jnp.float32), of((), jnp.int32)))


def test_one_device_takes_the_kernel_and_a_mesh_of_several_does_not():
  assert 'pallas_call' in _traced(1)
  assert 'pallas_call' not in _traced(2)


def test_forced_on_a_cpu_it_is_interpreted():
  one = jnp.ones
  with dispatch.using('tpu'):
    found = jax.jit(causal.cached_attention)(
        one((1, 1, 8)), one((1, 1, 8, 16)), one((1, 1, 16, 8)),
        jnp.zeros((1, 1, 16)), (one((1, 1, 2, 8)), 3 * one((1, 1, 2, 8))),
        jnp.zeros((1, 1, 2)), jnp.int32(6))
  # Six values of 1 and two of 3, all of one logit.
  assert jnp.allclose(found, (6 * 1.0 + 2 * 3.0) / 8, atol=1e-6)


@pytest.mark.slow
@_needs_libtpu
@pytest.mark.parametrize('topology', _TOPOLOGIES)
@pytest.mark.parametrize('shape,dtype', [
    ((8, 16, 64, 2304), 'jnp.bfloat16'), ((1, 16, 64, 800), 'jnp.float32'),
    ((2, 8, 128, 640), 'jnp.bfloat16')])
def test_attention_compiles_and_reads_the_cache_where_it_lies(
    topology, shape, dtype):
  rows, heads, width, size = shape
  text = _program(topology, _ATTENTION.format(shape=shape, dtype=dtype))
  assert 'tpu_custom_call' in text
  # Neither keys nor values are copied, widened or brought on the chip whole.
  cached = rf'\[{rows},{heads},({width},{size}|{size},{width})\]'
  made = re.findall(rf'= \w+{cached}\S* (?!parameter|bitcast)\w+.*', text)
  assert not made


@pytest.mark.slow
@_needs_libtpu
@pytest.mark.parametrize('topology', _TOPOLOGIES)
@pytest.mark.parametrize('rows', [1, 8])
def test_xla_widens_int8_within_the_product(topology, rows):
  """Which is why int8 products have no kernel: nothing as large as the matrix
  of [8192, 1024] is written."""
  text = _program(topology, _INT8.format(rows=rows))
  assert int(re.search(r'temporary bytes: (\d+)', text).group(1)) < 2**20
