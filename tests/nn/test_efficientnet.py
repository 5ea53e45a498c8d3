"""EfficientNet-B0's published size, its shapes and its blocks."""

import jax
import jax.numpy as jnp
import numpy as np

from musiclm_jax.nn import efficientnet

SMALL = efficientnet.EfficientNetConfig(
    stem_channels=4, stages=((1, 3, 1, 4, 1), (2, 5, 2, 8, 2)),
    head_channels=12, norm_groups=2)


def test_b0_has_as_many_parameters_as_published():
  module = efficientnet.EfficientNet(efficientnet.EfficientNetConfig())
  image = jax.ShapeDtypeStruct((1, 64, 40, 3), jnp.float32)
  params = jax.eval_shape(module.init, jax.random.PRNGKey(0), image)
  count = sum(x.size for x in jax.tree.leaves(params))
  # The published 5,288,548 have a last layer of 1280 x 1000 and 1000 biases.
  assert count + 1_281_000 == 5_288_548
  out = jax.eval_shape(module.apply, params, image)
  assert out.shape == (1, 2, 2, 1280)


def test_rows_do_not_see_each_other_nor_drop_out_when_judged():
  module = efficientnet.EfficientNet(SMALL)
  x = jax.random.normal(jax.random.PRNGKey(1), (3, 8, 8, 1))
  together, params = jax.jit(module.init_with_output)(
      jax.random.PRNGKey(0), x)
  assert together.shape == (3, 2, 2, 12)
  other = jax.jit(module.apply)(params, x.at[0].set(0.0))
  np.testing.assert_allclose(other[1:], together[1:], atol=1e-5)
  assert np.abs(other[0] - together[0]).max() > 1e-3


def test_a_block_that_is_left_out_is_its_input():
  block = efficientnet.MBConv(2, 3, 1, 4, 0.5, SMALL)
  x = np.random.default_rng(1).standard_normal((32, 4, 4, 4)).astype(np.float32)
  plain, params = jax.jit(block.init_with_output)(jax.random.PRNGKey(0), x)
  drawn = jax.jit(lambda params, x: block.apply(
      params, x, True, rngs={'dropout': jax.random.PRNGKey(1)}))(params, x)
  left_out = np.all(np.asarray(drawn) == x, axis=(1, 2, 3))
  assert 0 < left_out.sum() < 32
  # What counts counts double, so that the mean stays.
  np.testing.assert_allclose(
      drawn[~left_out] - x[~left_out], 2 * (plain - x)[~left_out], atol=1e-4)
