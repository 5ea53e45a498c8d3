"""EfficientNet over log-spectral images (Tan and Le, 2019).

  [B, T, F, C] -> 3x3 stem, stride 2 -> seven stages of MBConv -> 1x1 to 1280

EfficientNet-B0 at its default sizes. GroupNorm stands for BatchNorm (ours, as in
nn/resnet): rows do not see each other, and a bundle has no moving averages. It
has as many parameters.
"""

import dataclasses
import math

import flax.linen as nn
import jax

from musiclm_jax import errors


@dataclasses.dataclass(frozen=True)
class EfficientNetConfig:
  """Sizes of an EfficientNet; the defaults are B0.

  Attributes:
    stem_channels: after the first convolution.
    stages: (factor of widening, kernel, stride, channels, blocks) of each.
    head_channels: after the last convolution.
    squeeze_share: inner width of a squeeze-and-excite, of its block's input.
    stochastic_depth: share of examples whose last block is left out in
      training; it grows from 0 at the first block.
    norm_groups: groups of each GroupNorm; fewer where it does not divide.
  """

  stem_channels: int = 32  # paper (EfficientNet)
  stages: tuple = (  # paper (EfficientNet)
      (1, 3, 1, 16, 1), (6, 3, 2, 24, 2), (6, 5, 2, 40, 2), (6, 3, 2, 80, 3),
      (6, 5, 1, 112, 3), (6, 5, 2, 192, 4), (6, 3, 1, 320, 1))
  head_channels: int = 1280  # paper (EfficientNet)
  squeeze_share: float = 0.25  # paper (EfficientNet)
  stochastic_depth: float = 0.2  # paper (EfficientNet)
  norm_groups: int = 8  # ours

  def __post_init__(self):
    object.__setattr__(self, 'stages', tuple(map(tuple, self.stages)))
    for stage in self.stages:
      if len(stage) != 5:
        raise errors.UserError(
            f'stage {stage} has {len(stage)} numbers; expected 5: factor of '
            f'widening, kernel, stride, channels, blocks.')

  @property
  def num_blocks(self) -> int:
    return sum(stage[-1] for stage in self.stages)


class MBConv(nn.Module):
  """1x1 up, depthwise k x k, squeeze-and-excite, 1x1 down, beside a skip."""

  widening: int
  kernel: int
  stride: int
  channels: int
  drop_rate: float
  config: EfficientNetConfig

  @nn.compact
  def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
    cfg, size = self.config, x.shape[-1]
    wide = size * self.widening
    y = x
    if self.widening != 1:
      y = nn.Conv(wide, (1, 1), use_bias=False, name='expand')(y)
      y = nn.silu(_norm(cfg, y, 'expand_norm'))
    y = nn.Conv(wide, (self.kernel, self.kernel), (self.stride, self.stride),
                feature_group_count=wide, use_bias=False, name='depthwise')(y)
    y = nn.silu(_norm(cfg, y, 'depthwise_norm'))
    y = y * self._excite(y, max(1, int(size * cfg.squeeze_share)))
    y = nn.Conv(self.channels, (1, 1), use_bias=False, name='project')(y)
    y = _norm(cfg, y, 'project_norm')
    if self.stride != 1 or size != self.channels:
      return y
    # One draw for all of an example: its block counts, or is left out.
    return x + nn.Dropout(self.drop_rate, broadcast_dims=(1, 2, 3),
                          deterministic=not train)(y)

  def _excite(self, y, inner):
    """[B, T, F, C] -> [B, 1, 1, C] in 0..1, from what all places have."""
    z = y.mean(axis=(1, 2), keepdims=True)
    z = nn.silu(nn.Dense(inner, name='squeeze')(z))
    return nn.sigmoid(nn.Dense(y.shape[-1], name='excite')(z))


class EfficientNet(nn.Module):
  """[B, T, F, C] -> [B, ceil(T / 32), ceil(F / 32), head_channels] as B0."""

  config: EfficientNetConfig

  @nn.compact
  def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
    cfg = self.config
    x = nn.Conv(cfg.stem_channels, (3, 3), (2, 2), use_bias=False,
                name='stem')(x)
    x = nn.silu(_norm(cfg, x, 'stem_norm'))
    index = 0
    for widening, kernel, stride, channels, blocks in cfg.stages:
      for block in range(blocks):
        drop = cfg.stochastic_depth * index / cfg.num_blocks
        x = MBConv(widening, kernel, stride if not block else 1, channels,
                   drop, cfg, name=f'block_{index}')(x, train)
        index += 1
    x = nn.Conv(cfg.head_channels, (1, 1), use_bias=False, name='head')(x)
    return nn.silu(_norm(cfg, x, 'head_norm'))


def _norm(config, x, name):
  """GroupNorm of [B, T, F, C] in as many groups as divide the channels."""
  groups = math.gcd(config.norm_groups, x.shape[-1])
  return nn.GroupNorm(num_groups=groups, name=name)(x)
