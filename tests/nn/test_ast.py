"""The Audio Spectrogram Transformer: sizes, patches, order of its tokens."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from musiclm_jax import errors
from musiclm_jax.nn import ast

SMALL = ast.AstConfig(
    patch=4, stride=3, dim=8, num_layers=1, num_heads=2, mlp_dim=16)


def _init(config, x):
  return jax.jit(ast.Ast(config).init)(jax.random.PRNGKey(0), x)['params']


def test_published_sizes():
  config = ast.AstConfig()
  assert config.grid(1000, 128) == (99, 12)
  assert config.grid(1024, 128) == (101, 12)  # AST's own 1,212 patches
  shapes = jax.eval_shape(
      ast.Ast(config).init, jax.random.PRNGKey(0),
      jax.ShapeDtypeStruct((1, 1000, 128), jnp.float32))['params']
  count = sum(x.size for x in jax.tree.leaves(shapes))
  # ViT-B/16 at 224 x 224 has 85,798,656 without its head: with 3 colours where
  # we have one, and positions for 197 tokens where we have 1,189.
  assert count == 85_798_656 - 2 * 256 * 768 + (1_189 - 197) * 768


def test_a_token_sees_its_patch():
  """Without layers, [CLS] alone; so patches are compared before them."""
  rng = np.random.default_rng(0)
  x = rng.normal(size=(2, 10, 7)).astype(np.float32)  # 3 x 2 patches
  params = _init(SMALL, x)
  module = ast.Ast(SMALL)
  _, state = module.apply(
      {'params': params}, x, capture_intermediates=True,
      mutable=['intermediates'])
  found = state['intermediates']['patches']['__call__'][0]
  kernel, bias = params['patches']['kernel'], params['patches']['bias']
  assert found.shape == (2, 3, 2, 8)
  for row in range(3):
    for column in range(2):
      patch = x[:, 3 * row:3 * row + 4, 3 * column:3 * column + 4]
      np.testing.assert_allclose(
          found[:, row, column],
          np.einsum('bij,ijd->bd', patch, kernel[:, :, 0]) + bias, atol=1e-5)


def test_every_patch_and_its_place_count():
  rng = np.random.default_rng(1)
  x = rng.normal(size=(1, 10, 7)).astype(np.float32)
  params, module = _init(SMALL, x), ast.Ast(SMALL)
  params['positions'] = 0.5 * rng.normal(
      size=params['positions'].shape).astype(np.float32)
  apply = jax.jit(lambda x: module.apply({'params': params}, x))
  out = apply(x)
  assert out.shape == (1, 8)
  for row in (1, 5, 9):
    changed = x.copy()
    changed[0, row] += 3.0
    assert np.abs(apply(changed) - out).max() > 1e-4
  assert np.abs(apply(x[:, ::-1]) - out).max() > 1e-3
  padded = np.pad(x, ((0, 0), (0, 2), (0, 2)))  # too little for a patch more
  np.testing.assert_allclose(apply(padded), out, atol=1e-6)


def test_bad_settings():
  with pytest.raises(errors.UserError, match='does not divide'):
    ast.AstConfig(dim=10, num_heads=3)
  with pytest.raises(errors.UserError, match='not looked at'):
    ast.AstConfig(patch=4, stride=5)
  with pytest.raises(errors.UserError, match='smaller than a patch'):
    SMALL.grid(1000, 3)
