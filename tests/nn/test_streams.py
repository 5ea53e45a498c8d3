"""Chunk by chunk equals the whole, layer by layer."""

import ast
import pathlib

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from musiclm_jax import nn as nn_package
from musiclm_jax.nn import conv
from musiclm_jax.nn import streams

ROWS, STEPS = 3, 40


class Clock(nn.Module):
  """What `streams.clock` says, as a layer."""

  period: int

  @nn.compact
  def __call__(self, x):
    count = streams.clock(self, *x.shape[:2], self.period)
    return x * (1.0 + count[..., None])


# name: (layer, channels of the inputs or None for samples, samples of a step,
# how far it looks back in what its state counts in)
LAYERS = {
    'CausalConv': (conv.CausalConv(5, 3, dilation=2), 4, 1, (4, 4)),
    'CausalConvDepthwise': (conv.CausalConvDepthwise(7), 4, 1, (6, 4)),
    'CausalConvStrided': (conv.CausalConvStrided(6, 3), 2, 3, (3, 2)),
    'CausalConvTransposed': (conv.CausalConvTransposed(3, 4), 5, 1, (1, 5)),
    'Frames': (streams.Frames(20, 5), None, 5, (3, 5)),
    'OverlapAdd': (streams.OverlapAdd(4), 12, 1, (2, 12)),
    'Clock': (Clock(3), 2, 1, (1,)),
}


def _chunkings(count):
  """Drawn lists of chunk lengths, in steps, that add up to STEPS."""
  for seed in range(count):
    rng, lengths = np.random.default_rng(seed), []
    while sum(lengths) < STEPS:
      n = int(rng.choice([1, 2, 5]))  # of few lengths: each is compiled
      lengths += [n] if sum(lengths) + n <= STEPS else [1]
    yield lengths


@pytest.fixture(name='layer', params=sorted(LAYERS))
def _layer(request):
  """(module, params, inputs, samples of a step, shape of its state)."""
  module, channels, unit, state = LAYERS[request.param]
  rng = np.random.default_rng(0)
  shape = (ROWS, STEPS * unit) + ((channels,) if channels else ())
  inputs = rng.normal(size=shape).astype(np.float32)
  params = module.init(jax.random.key(0), inputs).get('params', {})
  # Biases away from zero: silence must not hide a wrong past.
  params = jax.tree.map(lambda x: x + 0.1, params)
  return module, params, inputs, unit, state


def test_chunks_equal_the_whole(layer):
  module, params, inputs, unit, _ = layer
  whole = np.asarray(module.apply({'params': params}, inputs))
  step = jax.jit(lambda state, x: streams.step(module, params, state, x))
  first = jax.ShapeDtypeStruct(
      (ROWS, unit) + inputs.shape[2:], inputs.dtype)
  for lengths in [[STEPS], [1] * STEPS, *_chunkings(4)]:
    state, got, at = streams.start(module, params, first), [], 0
    for n in lengths:
      outputs, state = step(state, inputs[:, at * unit:(at + n) * unit])
      got.append(np.asarray(outputs))
      at += n
    np.testing.assert_allclose(np.concatenate(got, 1), whole, atol=1e-5)


def test_a_state_is_the_past_and_the_past_matters(layer):
  module, params, inputs, unit, shape = layer
  first = jax.ShapeDtypeStruct(
      (ROWS, unit) + inputs.shape[2:], inputs.dtype)
  fresh = streams.start(module, params, first)
  leaf, = jax.tree.leaves(fresh)
  assert leaf.shape == (ROWS, *shape) and not np.any(leaf)
  part = inputs[:, :4 * unit]
  _, later = streams.step(module, params, fresh, part)
  # A state is kept as it was: the same step can be taken again.
  again = [np.asarray(streams.step(module, params, state, part)[0])
           for state in (fresh, later, later)]
  np.testing.assert_array_equal(again[1], again[2])
  assert np.abs(again[0] - again[1]).max() > 1e-3
  # And without one a stream begins.
  np.testing.assert_array_equal(
      streams.step(module, params, None, part)[0], again[0])


def test_layers_are_causal(layer):
  module, params, inputs, unit, _ = layer
  whole = np.asarray(module.apply({'params': params}, inputs))
  at = STEPS // 2
  changed = inputs.copy()
  changed[:, at * unit:] += 1.0
  got = np.asarray(module.apply({'params': params}, changed))
  per_step = whole.shape[1] // STEPS
  np.testing.assert_allclose(
      got[:, :at * per_step], whole[:, :at * per_step], atol=1e-6)
  assert np.abs(got - whole)[:, at * per_step].max() > 1e-3


def test_every_layer_that_looks_back_is_tested():
  folder, found = pathlib.Path(nn_package.__path__[0]), set()
  for path in folder.glob('*.py'):
    for node in ast.walk(ast.parse(path.read_text())):
      if isinstance(node, ast.ClassDef) and any(
          name in ast.unparse(node) for name in ('with_past(', 'clock(')):
        found.add(node.name)
  assert found == set(LAYERS) - {'Clock'}


def test_what_looks_back_at_nothing_has_no_state():
  module = conv.CausalConv(5, 1)
  x = jnp.ones((2, 3, 4))
  params = module.init(jax.random.key(0), x)['params']
  assert streams.start(module, params, x[:, :1]) == {}
  outputs, state = streams.step(module, params, {}, x)
  assert state == {}
  np.testing.assert_array_equal(outputs, module.apply({'params': params}, x))


def test_frames_and_sums_by_hand():
  signal = np.arange(1.0, 9.0, dtype=np.float32)[None]
  frames = np.asarray(streams.Frames(4, 2).apply({}, signal))
  np.testing.assert_array_equal(
      frames[0], [[0, 0, 1, 2], [1, 2, 3, 4], [3, 4, 5, 6], [5, 6, 7, 8]])
  # Block t: the first half of frame t and the second half of the one before.
  added = np.asarray(streams.OverlapAdd(2).apply({}, frames))
  np.testing.assert_array_equal(added[0], [0, 0, 2, 4, 6, 8, 10, 12])
