"""The T5 blocks against an independent NumPy forward pass."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from musiclm_jax.nn import biases
from musiclm_jax.nn import causal
from musiclm_jax.nn import dropping
from musiclm_jax.nn import layer_stacks
from musiclm_jax.nn import transformer


@dataclasses.dataclass(frozen=True)
class Config(transformer.StackConfig):
  num_layers: int = 2
  num_heads: int = 2
  head_dim: int = 4
  mlp_dim: int = 12
  num_buckets: int = 8
  max_distance: int = 16


def bucket_by_formula(distance, num_buckets, max_distance):
  half = num_buckets // 2
  if distance < half:
    return distance
  ratio = math.log(distance / half) / math.log(max_distance / half)
  return min(num_buckets - 1, half + math.floor((num_buckets - half) * ratio))


@pytest.mark.parametrize('num_buckets,max_distance', [(32, 128), (8, 20)])
def test_buckets_follow_the_formula(num_buckets, max_distance):
  buckets = causal.relative_buckets(300, num_buckets, max_distance)
  expected = [bucket_by_formula(n, num_buckets, max_distance)
              for n in range(300)]
  np.testing.assert_array_equal(buckets, expected)
  assert (buckets[max_distance:] == num_buckets - 1).all()


def test_toeplitz_places_every_diagonal():
  values = np.arange(2 * 8, dtype=np.float32).reshape(2, 8)
  found = biases.toeplitz(jnp.asarray(values), 3, 6)
  for row in range(3):
    for column in range(6):
      np.testing.assert_array_equal(
          found[:, row, column], values[:, column - row + 2])


def forward(config, params, x, mask):
  return jax.jit(transformer.Transformer(config).apply)(
      {'params': params}, x, mask)


def numpy_forward(params, config, x, key_mask):
  """Query by query, over an explicit list of the keys that may be seen."""
  norm = lambda y, scale: (
      y / np.sqrt((y**2).mean(-1, keepdims=True) + 1e-6) * scale)
  gelu = lambda y: 0.5 * y * (
      1 + np.tanh(np.sqrt(2 / np.pi) * (y + 0.044715 * y**3)))
  for index in range(config.num_layers):
    layer = params[f'layers_{index}']
    y = norm(x, layer['pre_self_attention_layer_norm']['scale'])
    heads = lambda n: (y @ layer['self_attention'][n]['kernel']).reshape(
        x.shape[:2] + (config.num_heads, config.head_dim))
    query, key, value = heads('query'), heads('key'), heads('value')
    out = np.zeros_like(query)
    for b, q, h in np.ndindex(x.shape[0], x.shape[1], config.num_heads):
      seen = [k for k in range(q + 1) if key_mask[b, k] == 0]
      logits = np.array([
          query[b, q, h] @ key[b, k, h] + params['rel_embedding'][
              h, bucket_by_formula(q - k, config.num_buckets,
                                   config.max_distance)] for k in seen])
      weights = np.exp(logits - logits.max())
      weights /= weights.sum()
      out[b, q, h] = sum(w * value[b, k, h] for w, k in zip(weights, seen))
    out = out.reshape(x.shape[:2] + (-1,))
    x = x + out @ layer['self_attention']['out']['kernel']
    y = norm(x, layer['pre_mlp_layer_norm']['scale'])
    mlp = layer['mlp']
    y = gelu(y @ mlp['wi_0']['kernel']) * (y @ mlp['wi_1']['kernel'])
    x = x + y @ mlp['wo']['kernel']
  return norm(x, params['decoder_norm']['scale'])


def make(config, length=21, seed=0):
  keys = jax.random.split(jax.random.key(seed), 3)
  x = jax.random.normal(keys[0], (2, length, 8))
  mask = jnp.zeros((2, length)).at[0, 4:7].set(causal.NEGATIVE)
  init = jax.jit(transformer.Transformer(config).init)
  params = init(keys[1], x, mask)['params']
  # Norm scales start at one and would hide a missing factor.
  params = jax.tree.map(
      lambda p: p * 1.3 if p.ndim == 1 else p, params)
  return params, x, mask


@pytest.mark.parametrize('chunk,remat', [
    (0, 'none'), (5, 'none'), (7, 'attention')])
def test_forward_equals_numpy(chunk, remat):
  config = Config(attention_chunk=chunk, remat=remat)
  params, x, mask = make(config)
  found = forward(config, params, x, mask)
  to_numpy = lambda tree: jax.tree.map(lambda a: np.asarray(a, np.float64), tree)
  expected = numpy_forward(
      to_numpy(params), config, to_numpy(x), np.asarray(mask))
  np.testing.assert_allclose(found, expected, atol=2e-5)


def test_gradients_do_not_depend_on_chunks_or_remat():
  params, x, mask = make(Config(num_layers=1))

  def gradient(**settings):
    config = Config(num_layers=1, **settings)
    loss = lambda p: jnp.sin(transformer.Transformer(config).apply(
        {'params': p}, x, mask)).sum()
    return jax.jit(jax.grad(loss))(params)

  expected = gradient()
  assert float(jnp.abs(expected['rel_embedding']).max()) > 1e-3
  for chunk, remat in ((5, 'attention'), (8, 'dots'), (8, 'full')):
    found = gradient(attention_chunk=chunk, remat=remat)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5, rtol=1e-4),
        found, expected)


def numpy_attention(query, key, value, bias, mask, keep, grad):
  """(output, gradients of query, key, value and bias) of all logits at once.

  The bias's gradient is summed over each diagonal: [H, L].
  """
  length = query.shape[2]
  distance = np.arange(length)[:, None] - np.arange(length)
  logits = query @ key.swapaxes(2, 3) + bias[:, np.maximum(distance, 0)]
  logits += np.where(distance < 0, -np.inf, 0) + mask[:, None, None]
  weights = np.exp(logits - logits.max(-1, keepdims=True))
  weights /= weights.sum(-1, keepdims=True)
  into = grad @ value.swapaxes(2, 3) * keep
  into = weights * (into - (weights * into).sum(-1, keepdims=True))
  diagonals = np.stack([np.trace(into, -n, 2, 3).sum(0)
                        for n in range(length)], axis=1)
  return (weights * keep @ value, into @ key, into.swapaxes(2, 3) @ query,
          (weights * keep).swapaxes(2, 3) @ grad, diagonals)


@pytest.mark.parametrize('chunk,flat,remat', [
    (0, 6, False), (5, 6, True), (8, 6, False), (5, 40, False),
    (8, None, False)])
def test_attention_and_its_gradient_equal_numpy(chunk, flat, remat):
  """With dropout, padding, and a last chunk that is shorter."""
  rng = np.random.default_rng(0)
  length = 21
  query, key, value, grad = (rng.normal(size=(2, 3, length, 4))
                             for _ in range(4))
  bias = rng.normal(size=(3, length))
  if flat is not None:
    bias = bias[:, np.minimum(np.arange(length), flat)]
  mask = np.zeros((2, length))
  mask[0, 4:7] = causal.NEGATIVE
  keep = rng.choice([0.0, 2.0], (2, 3, length, length))

  class Dropout(dropping.WeightDropout):

    def __call__(self, weights, index=0):
      start = index * (chunk or length)
      rows, columns = weights.shape[2:]
      part = keep[:, :, start:start + rows, :columns]
      return weights * part.astype(np.float32)

  dropout = Dropout(jax.random.key(0), 0.5)

  def attention(query, key, value, bias):
    near = causal.near_biases(bias, chunk, flat)
    return causal.attention(
        query, key, value, near, jnp.float32(mask), remat, dropout)

  inputs = [jnp.float32(x) for x in (query, key, value, bias)]
  found, pullback = jax.vjp(jax.jit(attention), *inputs)
  found = [found, *pullback(jnp.float32(grad))]
  expected = list(numpy_attention(query, key, value, bias, mask, keep, grad))
  if flat is not None:  # distances that share a bias share a gradient
    for result in (found, expected):
      bias_grad = np.asarray(result[-1])
      result[-1] = np.concatenate(
          [bias_grad[:, :flat], bias_grad[:, flat:].sum(1, keepdims=True)], 1)
  for one, other in zip(found, expected):
    np.testing.assert_allclose(one, other, atol=3e-5)


def gradient_of(config):
  """(params, x) -> (gradient of a loss by params), jitted."""
  mask = jnp.zeros((2, 21))
  def loss(params, x):
    return jnp.sin(transformer.Transformer(config).apply(
        {'params': params}, x, mask)).sum()
  return jax.jit(jax.grad(loss))


@pytest.mark.parametrize('remat, unroll', [
    *((remat, 1) for remat in transformer.REMATS), ('none', 2), ('dots', 0)])
def test_scanned_layers_are_the_unrolled_ones(remat, unroll):
  params, x, mask = make(Config(num_layers=3))
  stacked = layer_stacks.stack(params)
  assert layer_stacks.is_stacked(stacked) and not layer_stacks.is_stacked(params)
  jax.tree.map(np.testing.assert_array_equal, layer_stacks.unroll(stacked), params)
  config = Config(
      num_layers=3, scan_layers=True, remat=remat, scan_unroll=unroll)
  text = jax.jit(lambda x: forward(config, stacked, x, mask)).lower(x).as_text()
  assert ('stablehlo.while' in text) == bool(unroll)
  shapes = jax.eval_shape(transformer.Transformer(config).init,
                          jax.random.key(0), x, mask)['params']
  assert jax.tree.map(jnp.shape, shapes) == jax.tree.map(jnp.shape, stacked)
  np.testing.assert_allclose(
      forward(config, stacked, x, mask),
      forward(Config(num_layers=3), params, x, mask), atol=1e-5)
  found = layer_stacks.unroll(gradient_of(config)(stacked, x))
  expected = gradient_of(Config(num_layers=3))(params, x)
  jax.tree.map(
      lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5, rtol=1e-4),
      found, expected)


def test_scanned_layers_start_different():
  config = Config(scan_layers=True)
  params, _, _ = make(config)
  kernel = params['layers']['mlp']['wi_0']['kernel']
  assert np.abs(kernel[0] - kernel[1]).max() > 0.1
  assert abs(float(kernel.std()) - 8**-0.5) < 0.05


@pytest.mark.parametrize('scan', [
    pytest.param(False, marks=pytest.mark.slow), True])
def test_remat_keeps_less_and_less(scan):
  """Values that the forward pass leaves for the backward pass."""
  held = {}
  for remat in transformer.REMATS:
    config = Config(num_layers=4, remat=remat, scan_layers=scan)
    model = transformer.Transformer(config)
    params, x, mask = make(config)
    loss = lambda p: model.apply({'params': p}, x, mask).sum()
    residuals = jax.eval_shape(lambda p: jax.vjp(loss, p)[1], params)
    held[remat] = sum(r.size for r in jax.tree.leaves(residuals))
  assert held['none'] > held['attention'] > held['dots'] > held['full'], held
  parameters = sum(p.size for p in jax.tree.leaves(params))
  assert held['full'] - parameters < 0.2 * (held['none'] - parameters)


def _equations(jaxpr):
  """All equations of a jaxpr, those of inner ones too."""
  for equation in jaxpr.eqns:
    yield equation
    for value in jax.tree.leaves(
        equation.params, is_leaf=lambda x: hasattr(x, 'eqns')):
      inner = getattr(value, 'jaxpr', value)
      if hasattr(inner, 'eqns'):
        yield from _equations(inner)


@pytest.mark.parametrize('scan', [False, True])
def test_bfloat16_multiplies_and_float32_sums(scan):
  config = Config(dtype='bfloat16', scan_layers=scan, num_buckets=8)
  params, x, mask = make(config)
  loss = lambda p: transformer.Transformer(config).apply(
      {'params': p}, x, mask).sum()
  gradient = jax.make_jaxpr(jax.grad(loss))(params)
  seen = {}
  for equation in _equations(gradient.jaxpr):
    seen.setdefault(str(equation.primitive), set()).update(
        str(v.aval.dtype) for v in equation.invars if hasattr(v, 'aval'))
  assert 'bfloat16' in seen['dot_general']
  forward_dots = {
      str(v.aval.dtype) for e in _equations(jax.make_jaxpr(loss)(params).jaxpr)
      if str(e.primitive) == 'dot_general' for v in e.invars}
  assert forward_dots == {'bfloat16'}
  assert seen['exp'] == {'float32'}  # the softmax
  assert seen['rsqrt'] == {'float32'}  # the norms
  assert {str(x.dtype) for x in jax.tree.leaves(params)} == {'float32'}
  assert {str(x.dtype) for x in gradient.out_avals} == {'float32'}


def test_bfloat16_stays_close():
  config = Config(dtype='bfloat16')
  params, x, mask = make(config)
  wide = forward(Config(), params, x, mask)
  found = forward(config, params, x, mask)
  assert found.dtype == jnp.float32
  error = float(jnp.abs(found - wide).max())
  assert 0 < error < 0.15  # 8 bits of mantissa, values of about 1


def test_dropout_changes_training_only():
  config = Config(dropout_rate=0.5)
  params, x, mask = make(config)
  apply = jax.jit(lambda seed: transformer.Transformer(config).apply(
      {'params': params}, x, mask, False,
      rngs={'dropout': jax.random.key(seed)}))
  assert not np.allclose(apply(0), apply(1))
  np.testing.assert_array_equal(apply(0), apply(0))
  np.testing.assert_array_equal(
      forward(config, params, x, mask), forward(Config(), params, x, mask))


@pytest.mark.parametrize('chunk', [0, 5])
def test_dropout_by_sequence_is_that_of_T5X(chunk):
  """A feature is dropped at all positions or none, a key for all queries."""
  config = Config(dropout_rate=0.5, dropout_by_sequence=True,
                  attention_chunk=chunk, num_layers=1)
  x = jnp.ones((2, 21, 12))
  drop = transformer._dropout(config, False)
  dropped = np.asarray(drop.apply(
      {}, x, rngs={'dropout': jax.random.key(0)}))
  assert set(np.unique(dropped)) == {0.0, 2.0}
  assert (dropped == dropped[:, :1]).all()
  assert (dropped[0] != dropped[1]).any()

  kept = jax.random.bernoulli(jax.random.key(1), 0.5, (2, 3, 21))
  rng = np.random.default_rng(0)
  draw = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)
  query, key, bias, mask = draw(2, 3, 21, 4), draw(2, 3, 21, 4), draw(
      3, 21), jnp.zeros((2, 21))
  # Values that tell which key's weight they came with.
  ones = jnp.broadcast_to(jnp.eye(21), (2, 3, 21, 21))
  run = lambda dropout: causal.attention(
      query, key, ones, causal.near_biases(bias, chunk), mask, dropout=dropout)
  np.testing.assert_allclose(
      run(dropping.KeyDropout(kept, 0.5)),
      run(None) * 2.0 * kept[:, :, None], atol=1e-6)


@pytest.mark.parametrize('remat, unroll', [('none', 0), ('none', 1), ('dots', 1)])
def test_scanned_layers_drop_by_sequence_what_others_do(remat, unroll):
  """All layers' are drawn before the first; each layer has its own."""
  settings = dict(num_layers=3, dropout_rate=0.5, dropout_by_sequence=True)
  params, x, mask = make(Config(**settings))

  def run(config, params):
    apply = lambda params: transformer.Transformer(config).apply(
        {'params': params}, x, mask, False,
        rngs={'dropout': jax.random.key(0)})
    return jax.jit(lambda params: (apply(params), jax.grad(
        lambda p: jnp.sin(apply(p)).sum())(params)))(params)

  expected, gradient = run(Config(**settings), params)
  found, of_stack = run(
      Config(**settings, scan_layers=True, scan_unroll=unroll, remat=remat),
      layer_stacks.stack(params))
  np.testing.assert_allclose(found, expected, atol=1e-5)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(
      a, b, atol=2e-4, rtol=1e-4), layer_stacks.unroll(of_stack), gradient)
  keys = iter(jax.random.split(jax.random.key(1), 9))
  kept = dropping.of_layers(
      lambda: next(keys), Config(**settings), 2, 21, x.shape[-1])
  for part in jax.tree.leaves(kept):
    assert part.dtype == bool and part.shape[:2] == (3, 2)
    assert (part[0] != part[1]).any() and 0.2 < part.mean() < 0.8


def test_a_layer_drops_what_it_is_told():
  """What is kept grows to twice its size at a rate of a half, everywhere."""
  config = Config(num_layers=1, dropout_rate=0.5, dropout_by_sequence=True)
  params, x, mask = make(config)
  layer, table = params['layers_0'], params['rel_embedding']
  near = causal.near_biases(
      causal.distance_bias(table, x.shape[1], config.max_distance))

  def run(kept, deterministic=False, layer=layer):
    return transformer.Block(config).apply(
        {'params': layer}, x, near, mask, kept, deterministic)

  def without(part, name):
    """What the layer adds if `part` adds nothing."""
    kernel = dict(kernel=jnp.zeros_like(layer[part][name]['kernel']))
    changed = {**layer, part: {**layer[part], name: kernel}}
    return run(None, True, changed) - x

  shape = dict(keys=(2, config.num_heads, 21), attended=(2, x.shape[-1]),
               inner=(2, config.mlp_dim), fed=(2, x.shape[-1]))
  told = lambda **kept: dropping.LayerDropout(**{
      name: jnp.full(size, kept.get(name, False))
      for name, size in shape.items()})
  np.testing.assert_allclose(run(told(keys=True, inner=True)), x, atol=1e-6)
  # Values and then results, inner features and then results: 2 * 2.
  np.testing.assert_allclose(
      run(told(keys=True, attended=True)) - x, 4 * without('mlp', 'wo'),
      atol=1e-5)
  np.testing.assert_allclose(
      run(told(inner=True, fed=True)) - x, 4 * without('self_attention', 'out'),
      atol=1e-5)
  kept = jnp.arange(x.shape[-1]) % 2 == jnp.arange(2)[:, None]
  np.testing.assert_array_equal(
      dropping.by_sequence(jnp.ones_like(x), kept, 0.5),
      jnp.broadcast_to(2.0 * kept[:, None], x.shape))


@pytest.mark.parametrize('packed', [False, True])
def test_prefill_and_steps_equal_the_whole(packed):
  """Over two blocks of 4 positions, the first of them part of the cache then."""
  config, prompt, block = Config(attention_chunk=5), 9, 4
  params, x, mask = make(config, length=prompt + 2 * block)
  expected = np.asarray(forward(config, params, x, mask))
  if packed:
    params = transformer.packed_params(params, config, lambda matrix: matrix)
  stack = transformer.Transformer(config, packed=packed)
  bias = causal.distance_bias(params['rel_embedding'], 17, 16)
  hidden, cache = stack.apply(
      {'params': params}, x[:, :prompt], mask[:, :prompt], method='prefill')
  np.testing.assert_allclose(hidden, expected[:, :prompt], atol=1e-5)
  step = jax.jit(lambda *a: stack.apply({'params': params}, *a, method='step'))
  by_distance = lambda keys, p: jnp.where(
      keys <= p, bias[:, jnp.maximum(p - keys, 0)], causal.NEGATIVE)
  for start in (prompt, prompt + block):
    shape = (2, config.num_heads, block, config.head_dim)
    recent = ((jnp.zeros(shape), jnp.zeros(shape)),) * config.num_layers
    for i in range(block):
      p = start + i
      biases = (by_distance(jnp.arange(start), p) + mask[:, None, :start],
                by_distance(start + jnp.arange(block), p)[None])
      hidden, recent = step(x[:, p], cache, recent, i, start, biases)
      np.testing.assert_allclose(hidden, expected[:, p], atol=1e-5)
    cache = tuple(
        (jnp.concatenate([k, near_k.swapaxes(2, 3)], 3),
         jnp.concatenate([v, near_v], 2))
        for (k, v), (near_k, near_v) in zip(cache, recent))


def test_packed_matrices_contain_the_norms():
  config = Config()
  params, _, _ = make(config)
  layer = transformer.packed_params(params, config, lambda x: x)['layers_1']
  old = params['layers_1']
  scale = old['pre_mlp_layer_norm']['scale']
  assert layer['mlp']['wi']['kernel'].shape == (24, 8)
  np.testing.assert_allclose(
      layer['mlp']['wi']['kernel'][12:].T,
      old['mlp']['wi_1']['kernel'] * scale[:, None])
  np.testing.assert_array_equal(
      layer['self_attention']['out']['kernel'].T,
      old['self_attention']['out']['kernel'])
