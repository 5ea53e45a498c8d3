"""The residual network: ResNet-50's sizes, shapes, invariances."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from musiclm_jax import errors
from musiclm_jax.nn import resnet

_SMALL = resnet.ResNetConfig(
    stage_blocks=(1, 1), stage_channels=(8, 12), block='basic', stem='patches',
    stem_channels=8, norm_groups=8)


def _shapes(config, frames, bands):
  module = resnet.ResNet(config)
  x = jax.ShapeDtypeStruct((2, frames, bands, 1), jnp.float32)
  params = jax.eval_shape(module.init, jax.random.PRNGKey(0), x)
  count = sum(leaf.size for leaf in jax.tree.leaves(params))
  return count, jax.eval_shape(module.apply, params, x).shape


def test_resnet50_has_the_published_number_of_parameters():
  # 25,557,032 with a 3-channel stem and 1000 classes: minus the classifier's
  # 2,049,000 and the two missing input channels' 2 * 49 * 64.
  count, shape = _shapes(resnet.ResNetConfig(), 1000, 64)
  assert count == 25_557_032 - 2_049_000 - 2 * 49 * 64
  assert shape == (2, 32, 2, 2048)


@pytest.mark.parametrize('stem', sorted(resnet.STEMS))
@pytest.mark.parametrize('block', sorted(resnet.BLOCKS))
def test_output_shape(stem, block):
  config = resnet.ResNetConfig(
      (1, 2), (8, 16), block, stem, stem_channels=8, norm_groups=4)
  assert _shapes(config, 41, 16)[1] == (2, 6, 2, 16)


def test_patches_equal_a_strided_convolution():
  stem = resnet.PatchStem(dataclasses.replace(_SMALL, norm_groups=4))
  x = np.random.default_rng(0).normal(size=(1, 10, 8, 1)).astype(np.float32)
  params = stem.init(jax.random.PRNGKey(0), x)
  padded = np.pad(x, ((0, 0), (0, 2), (0, 0), (0, 0)))
  kernel = params['params']['conv']['kernel'].reshape(4, 4, 1, 8)
  y = jax.lax.conv_general_dilated(
      padded, kernel, (4, 4), 'VALID', dimension_numbers=('NHWC', 'HWIO', 'NHWC'))
  expected = nn.relu(nn.GroupNorm(4).apply(
      {'params': params['params']['norm']['norm']}, y))
  np.testing.assert_allclose(stem.apply(params, x), expected, atol=1e-5)


def test_rows_do_not_see_each_other():
  module = resnet.ResNet(_SMALL)
  x = np.random.default_rng(0).normal(size=(3, 20, 16, 1)).astype(np.float32)
  params = jax.jit(module.init)(jax.random.PRNGKey(0), x)
  together = jax.jit(module.apply)(params, x)
  alone = jax.jit(module.apply)(params, x[1:2])
  np.testing.assert_allclose(together[1:2], alone, atol=1e-5)
  assert np.abs(together[0] - together[1]).max() > 1e-3


def test_groups_divide_any_number_of_channels():
  x = np.random.default_rng(0).normal(size=(1, 4, 4, 12)).astype(np.float32)
  module = resnet.Norm(_SMALL)  # 8 groups, but 12 channels: 4 groups
  params = module.init(jax.random.PRNGKey(0), x)
  y = np.asarray(module.apply(params, x)).reshape(1, 16, 4, 3)
  np.testing.assert_allclose(y.mean((1, 3)), 0.0, atol=1e-5)
  np.testing.assert_allclose(y.std((1, 3)), 1.0, atol=1e-3)


def test_batch_norm_has_the_batch_in_training_and_its_averages_after():
  x = 2.0 + 3.0 * np.random.default_rng(0).normal(size=(6, 5, 4, 2))
  module = resnet.Norm(dataclasses.replace(
      _SMALL, norm='batch', norm_decay=0.75))
  variables = module.init(jax.random.PRNGKey(0), x)
  y, changed = module.apply(variables, x, True, mutable=['batch_stats'])
  mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2))
  np.testing.assert_allclose(
      y, (x - mean) / np.sqrt(variance + 1e-5), atol=1e-4)
  found = changed['batch_stats']['norm']
  np.testing.assert_allclose(found['mean'], 0.25 * mean, rtol=1e-4)
  np.testing.assert_allclose(found['var'], 0.75 + 0.25 * variance, rtol=1e-4)
  variables = dict(variables, **changed)
  np.testing.assert_allclose(
      module.apply(variables, x),
      (x - 0.25 * mean) / np.sqrt(0.75 + 0.25 * variance + 1e-5), atol=1e-4)


def test_batch_norm_has_as_many_parameters():
  group, batch = (_shapes(dataclasses.replace(_SMALL, norm=norm), 41, 16)[0]
                  for norm in resnet.NORMS)
  # Two averages for each scale and bias.
  scales = 2 * (8 + 8 + 8 + 12 + 12 + 12)  # stem, two blocks, one skip
  assert batch == group + scales


def test_bad_settings():
  with pytest.raises(errors.UserError, match='differ in length'):
    resnet.ResNetConfig(stage_blocks=(1,))
  with pytest.raises(errors.UserError, match='bottleneck'):
    resnet.ResNetConfig(block='wide')
  with pytest.raises(errors.UserError, match='patches'):
    resnet.ResNetConfig(stem='none')
  with pytest.raises(errors.UserError, match='batch, group'):
    resnet.ResNetConfig(norm='layer')
