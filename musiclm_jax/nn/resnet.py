"""Residual networks over log-mel images, with GroupNorm.

ResNet-50 (He et al., 2015) at its default sizes, on a 1-channel image. GroupNorm
stands for BatchNorm (ours): a batch may be split over devices or in time, and a
frozen tower gives the same embedding whatever it is batched with.
"""

import dataclasses
import math

import flax.linen as nn
import jax.numpy as jnp

from musiclm_jax import errors


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
    norm_groups: groups of each GroupNorm; fewer where it does not divide.
  """

  stage_blocks: tuple = (3, 4, 6, 3)  # paper (ResNet-50)
  stage_channels: tuple = (256, 512, 1024, 2048)  # paper (ResNet-50)
  block: str = 'bottleneck'  # paper (ResNet-50)
  stem: str = 'conv'  # paper (ResNet-50)
  stem_channels: int = 64  # paper (ResNet-50)
  norm_groups: int = 32  # ours

  def __post_init__(self):
    for name in ('stage_blocks', 'stage_channels'):
      object.__setattr__(self, name, tuple(getattr(self, name)))
    if len(self.stage_blocks) != len(self.stage_channels):
      raise errors.UserError(
          f'stage_blocks {self.stage_blocks} and stage_channels '
          f'{self.stage_channels} differ in length.')
    if self.block not in BLOCKS:
      raise errors.choice('block', self.block, BLOCKS)
    if self.stem not in STEMS:
      raise errors.choice('stem', self.stem, STEMS)


class GroupNorm(nn.Module):
  """GroupNorm in as many groups, up to `groups`, as divide the channels."""

  groups: int

  @nn.compact
  def __call__(self, x):
    return nn.GroupNorm(
        num_groups=math.gcd(self.groups, x.shape[-1]), name='norm')(x)


class BasicBlock(nn.Module):
  """Two 3x3 convolutions beside a skip."""

  channels: int
  stride: int
  groups: int

  @nn.compact
  def __call__(self, x):
    y = _conv(self.channels, 3, self.stride, 'conv_0')(x)
    y = nn.relu(GroupNorm(self.groups, name='norm_0')(y))
    y = _conv(self.channels, 3, 1, 'conv_1')(y)
    y = GroupNorm(self.groups, name='norm_1')(y)
    return nn.relu(y + _skip(x, self.channels, self.stride, self.groups))


class BottleneckBlock(nn.Module):
  """1x1 down to a quarter, 3x3 (strided), 1x1 up, beside a skip."""

  channels: int
  stride: int
  groups: int

  @nn.compact
  def __call__(self, x):
    inner = self.channels // 4
    y = _conv(inner, 1, 1, 'conv_0')(x)
    y = nn.relu(GroupNorm(self.groups, name='norm_0')(y))
    y = _conv(inner, 3, self.stride, 'conv_1')(y)
    y = nn.relu(GroupNorm(self.groups, name='norm_1')(y))
    y = _conv(self.channels, 1, 1, 'conv_2')(y)
    y = GroupNorm(self.groups, name='norm_2')(y)
    return nn.relu(y + _skip(x, self.channels, self.stride, self.groups))


BLOCKS = {'basic': BasicBlock, 'bottleneck': BottleneckBlock}


class ConvStem(nn.Module):
  """7x7 with stride 2 and a 3x3 max-pool with stride 2."""

  channels: int
  groups: int

  @nn.compact
  def __call__(self, x):
    x = _conv(self.channels, 7, 2, 'conv')(x)
    x = nn.relu(GroupNorm(self.groups, name='norm')(x))
    return nn.max_pool(x, (3, 3), (2, 2), padding='SAME')


class PatchStem(nn.Module):
  """4x4 patches without overlap; what is left over at the end is zero-padded."""

  channels: int
  groups: int

  @nn.compact
  def __call__(self, x):
    batch, height, width, channels = x.shape
    x = jnp.pad(x, ((0, 0), (0, -height % 4), (0, -width % 4), (0, 0)))
    rows, columns = x.shape[1] // 4, x.shape[2] // 4
    x = x.reshape(batch, rows, 4, columns, 4, channels)
    x = jnp.moveaxis(x, 2, 3).reshape(batch, rows, columns, -1)
    x = nn.Dense(self.channels, use_bias=False, name='conv')(x)
    return nn.relu(GroupNorm(self.groups, name='norm')(x))


STEMS = {'conv': ConvStem, 'patches': PatchStem}


class ResNet(nn.Module):
  """[B, T, F, 1] -> [B, ceil(T / 32), ceil(F / 32), C] with four stages."""

  config: ResNetConfig

  @nn.compact
  def __call__(self, x):
    cfg = self.config
    x = STEMS[cfg.stem](cfg.stem_channels, cfg.norm_groups, name='stem')(x)
    for stage, (blocks, channels) in enumerate(
        zip(cfg.stage_blocks, cfg.stage_channels)):
      for i in range(blocks):
        stride = 2 if stage and not i else 1
        x = BLOCKS[cfg.block](
            channels, stride, cfg.norm_groups, name=f'stage_{stage}_{i}')(x)
    return x


def _conv(channels, size, stride, name):
  return nn.Conv(channels, (size, size), (stride, stride), use_bias=False,
                 name=name)


def _skip(x, channels, stride, groups):
  """The identity, or a strided 1x1 where the shape changes."""
  if x.shape[-1] == channels and stride == 1:
    return x
  x = _conv(channels, 1, stride, 'skip')(x)
  return GroupNorm(groups, name='skip_norm')(x)
