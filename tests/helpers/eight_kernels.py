"""Run by tests/nn/test_tpu_attention.py under 8 fake CPU devices; prints JSON.

Attention by its kernel for TPUs, interpreted, on a mesh and on one device.
"""

import json

import jax
import jax.numpy as jnp
import numpy as np

from musiclm_jax.nn import causal
from musiclm_jax.nn import dropping
from musiclm_jax.nn import partitioning
from musiclm_jax.nn.kernels import dispatch
from musiclm_jax.training import mesh as mesh_lib
from musiclm_jax.training import step as step_lib

P = jax.sharding.PartitionSpec
SHAPE = (4, 4, 40, 64)  # sequences, heads, positions, features


def gradients(dropout):
  def loss(query, key, value, bias, mask, grad):
    out = causal.attention(query, key, value, causal.near_biases(
        bias, flat=8), mask, dropout=dropout)
    return (out * grad).sum(), out

  return jax.value_and_grad(loss, argnums=(0, 1, 2, 3), has_aux=True)


def main():
  rng = np.random.default_rng(0)
  draw = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)
  arrays = [draw(*SHAPE) for _ in range(4)]
  mask = jnp.where(rng.random((4, 40)) < 0.2, causal.NEGATIVE, 0.0)
  inputs = (*arrays[:3], draw(4, 40), mask.at[:, 0].set(0.0), arrays[3])
  mesh = mesh_lib.make_mesh(dict(data=2, fsdp=2, model=2), jax.devices())
  split = P(('data', 'fsdp'), 'model')
  places = (split,) * 3 + (P('model'), P(('data', 'fsdp')), split)
  placed = [jax.device_put(x, jax.sharding.NamedSharding(mesh, p))
            for x, p in zip(inputs, places)]
  key, found = jax.random.key(3), {}
  for name, dropout in dict(
      none=None, weights=dropping.WeightDropout(key, 0.25),
      keys=dropping.KeyDropout(
          jax.random.bernoulli(key, 0.75, SHAPE[:3]), 0.25)).items():
    with dispatch.using('tpu'):
      one = jax.jit(gradients(dropout))(*inputs)
      with step_lib.context(mesh, partitioning.RULES):
        eight = jax.jit(gradients(dropout))(*placed)
    largest = max(
        float(jnp.abs(jax.device_get(a) - jax.device_get(b)).max() /
              jnp.abs(jax.device_get(a)).max())
        for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(eight)))
    part = eight[1][0].addressable_shards[0].data.shape
    found[name] = dict(distance=largest, norm=float(jnp.square(one[0][1]).sum()),
                       sharded=part == (1, 2, 40, 64))
  print(json.dumps(found))


if __name__ == '__main__':
  main()
