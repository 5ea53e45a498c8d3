"""Residual networks over log-mel images.

ResNet-50 (He et al., 2015) at its default sizes, on a 1-channel image.
GroupNorm stands for BatchNorm unless asked otherwise (ours): rows do not see
each other, so that a batch may be split in time.

With BatchNorm the means and variances of a training step are those of the whole
batch, of all devices together: under jit an array that is split over devices
still is one array. Their moving averages are the collection 'batch_stats'.
"""

import dataclasses
import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from musiclm_jax import errors

NORMS = ('group', 'batch')


@dataclasses.dataclass(frozen=True)
class ResNetConfig:
  """Sizes of a residual network; the defaults are ResNet-50.

  Attributes:
    stage_blocks: residual blocks in each stage.
    stage_channels: output channels of each stage; the first block of every
      stage but the first halves both axes.
    block: 'bottleneck' (1x1, 3x3, 1x1 with a quarter of the channels inside)
      or 'basic' (two 3x3).
    stem: 'conv' (7x7, stride 2, then 3x3 max-pool, stride 2) or 'patches' (4x4
      without overlap: the same resolution at a fraction of the work on CPU).
    stem_channels: channels after the stem.
    norm: 'group' or 'batch'.
    norm_groups: groups of each GroupNorm; fewer where it does not divide.
    norm_decay: of BatchNorm's moving averages, in a step.
  """

  stage_blocks: tuple = (3, 4, 6, 3)  # paper (ResNet-50)
  stage_channels: tuple = (256, 512, 1024, 2048)  # paper (ResNet-50)
  block: str = 'bottleneck'  # paper (ResNet-50)
  stem: str = 'conv'  # paper (ResNet-50)
  stem_channels: int = 64  # paper (ResNet-50)
  norm: str = 'group'  # ours
  norm_groups: int = 32  # ours
  norm_decay: float = 0.9  # ours

  def __post_init__(self):
    for name in ('stage_blocks', 'stage_channels'):
      object.__setattr__(self, name, tuple(getattr(self, name)))
    if len(self.stage_blocks) != len(self.stage_channels):
      raise errors.UserError(
          f'stage_blocks {self.stage_blocks} and stage_channels '
          f'{self.stage_channels} differ in length.')
    if self.norm not in NORMS:
      raise errors.choice('norm', self.norm, NORMS)
    if self.block not in BLOCKS:
      raise errors.choice('block', self.block, BLOCKS)
    if self.stem not in STEMS:
      raise errors.choice('stem', self.stem, STEMS)


class Norm(nn.Module):
  """GroupNorm in as many groups as divide the channels, or BatchNorm."""

  config: ResNetConfig

  @nn.compact
  def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
    cfg = self.config
    if cfg.norm == 'batch':
      return nn.BatchNorm(use_running_average=not train,
                          momentum=cfg.norm_decay, name='norm')(x)
    return nn.GroupNorm(num_groups=math.gcd(cfg.norm_groups, x.shape[-1]),
                        name='norm')(x)


class BasicBlock(nn.Module):
  """Two 3x3 convolutions beside a skip."""

  channels: int
  stride: int
  config: ResNetConfig

  @nn.compact
  def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
    y = _conv(self.channels, 3, self.stride, 'conv_0')(x)
    y = nn.relu(Norm(self.config, name='norm_0')(y, train))
    y = _conv(self.channels, 3, 1, 'conv_1')(y)
    y = Norm(self.config, name='norm_1')(y, train)
    return nn.relu(y + _skip(x, self, train))


class BottleneckBlock(nn.Module):
  """1x1 down to a quarter, 3x3 (strided), 1x1 up, beside a skip."""

  channels: int
  stride: int
  config: ResNetConfig

  @nn.compact
  def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
    inner = self.channels // 4
    y = _conv(inner, 1, 1, 'conv_0')(x)
    y = nn.relu(Norm(self.config, name='norm_0')(y, train))
    y = _conv(inner, 3, self.stride, 'conv_1')(y)
    y = nn.relu(Norm(self.config, name='norm_1')(y, train))
    y = _conv(self.channels, 1, 1, 'conv_2')(y)
    y = Norm(self.config, name='norm_2')(y, train)
    return nn.relu(y + _skip(x, self, train))


BLOCKS = {'basic': BasicBlock, 'bottleneck': BottleneckBlock}


class ConvStem(nn.Module):
  """7x7 with stride 2 and a 3x3 max-pool with stride 2."""

  config: ResNetConfig

  @nn.compact
  def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
    x = _conv(self.config.stem_channels, 7, 2, 'conv')(x)
    x = nn.relu(Norm(self.config, name='norm')(x, train))
    return nn.max_pool(x, (3, 3), (2, 2), padding='SAME')


class PatchStem(nn.Module):
  """4x4 patches without overlap; what is left at the end is zero-padded."""

  config: ResNetConfig

  @nn.compact
  def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
    batch, height, width, channels = x.shape
    x = jnp.pad(x, ((0, 0), (0, -height % 4), (0, -width % 4), (0, 0)))
    rows, columns = x.shape[1] // 4, x.shape[2] // 4
    x = x.reshape(batch, rows, 4, columns, 4, channels)
    x = jnp.moveaxis(x, 2, 3).reshape(batch, rows, columns, -1)
    x = nn.Dense(self.config.stem_channels, use_bias=False, name='conv')(x)
    return nn.relu(Norm(self.config, name='norm')(x, train))


STEMS = {'conv': ConvStem, 'patches': PatchStem}


class ResNet(nn.Module):
  """[B, T, F, 1] -> [B, ceil(T / 32), ceil(F / 32), C] with four stages."""

  config: ResNetConfig

  @nn.compact
  def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
    cfg = self.config
    x = STEMS[cfg.stem](cfg, name='stem')(x, train)
    for stage, (blocks, channels) in enumerate(
        zip(cfg.stage_blocks, cfg.stage_channels)):
      for i in range(blocks):
        stride = 2 if stage and not i else 1
        x = BLOCKS[cfg.block](
            channels, stride, cfg, name=f'stage_{stage}_{i}')(x, train)
    return x


def _conv(channels, size, stride, name):
  return nn.Conv(channels, (size, size), (stride, stride), use_bias=False,
                 name=name)


def _skip(x, block, train):
  """The identity, or a strided 1x1 where `block` changes the shape."""
  if x.shape[-1] == block.channels and block.stride == 1:
    return x
  x = _conv(block.channels, 1, block.stride, 'skip')(x)
  return Norm(block.config, name='skip_norm')(x, train)
