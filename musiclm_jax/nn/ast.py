"""The Audio Spectrogram Transformer (Gong et al., 2021): a ViT over log-mel.

  [B, T, F] image -> overlapping patches -> linear, + positions, [CLS] before
      -> pre-norm transformer -> norm -> [CLS]

At its default sizes, on 1000 frames of 128 bands, an image is 99 x 12 patches
of 16 x 16 that begin every 10 frames and bands: 1,188 tokens and [CLS].

Deviations: one [CLS] where the published checkpoint has a second one for
distillation. Tokens are ordered by time first, then by band.
"""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp

from musiclm_jax import errors
from musiclm_jax.nn import text_encoder


@dataclasses.dataclass(frozen=True)
class AstConfig:
  """Sizes of the transformer; the defaults are the published AST's.

  Attributes:
    patch: frames and bands of a patch.
    stride: frames and bands between the beginnings of two patches; what does
      not fill a patch at the end is left out.
    dim: width.
    num_layers: transformer layers.
    num_heads: attention heads; they divide `dim`.
    mlp_dim: inner width of the feed-forwards.
    norm_eps: added to the variance in every norm.
  """

  patch: int = 16  # paper (AST)
  stride: int = 10  # paper (AST)
  dim: int = 768  # paper (AST)
  num_layers: int = 12  # paper (AST)
  num_heads: int = 12  # paper (AST)
  mlp_dim: int = 3072  # paper (AST)
  norm_eps: float = 1e-6

  def __post_init__(self):
    if self.dim % self.num_heads:
      raise errors.UserError(
          f'num_heads={self.num_heads} does not divide the width '
          f'dim={self.dim}.')
    if not 0 < self.stride <= self.patch:
      raise errors.UserError(
          f'stride={self.stride} of patches of {self.patch}; expected 1 to '
          f'{self.patch}, or parts of the image are not looked at.')

  @property
  def dropout_rate(self) -> float:
    """None (paper): rows then need no randomness of their own."""
    return 0.0

  def grid(self, frames: int, bands: int) -> tuple[int, int]:
    """(patches along time, patches along bands) of an image."""
    if min(frames, bands) < self.patch:
      raise errors.UserError(
          f'an image of {frames} frames and {bands} bands is smaller than a '
          f'patch of {self.patch}; take more bands or a smaller patch.')
    count = lambda size: (size - self.patch) // self.stride + 1
    return count(frames), count(bands)


class Ast(nn.Module):
  """[B, T, F] -> [B, dim]: the normalised [CLS]."""

  config: AstConfig

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    cfg = self.config
    rows, columns = cfg.grid(*x.shape[1:])
    x = nn.Conv(cfg.dim, (cfg.patch, cfg.patch), (cfg.stride, cfg.stride),
                padding='VALID', name='patches')(x[..., None])
    small = nn.initializers.normal(0.02)
    x = x.reshape(x.shape[0], rows * columns, cfg.dim)
    cls = self.param('cls', small, (1, 1, cfg.dim))
    x = jnp.concatenate(
        [jnp.broadcast_to(cls, (x.shape[0], 1, cfg.dim)), x], axis=1)
    x += self.param('positions', small, (1 + rows * columns, cfg.dim))
    for i in range(cfg.num_layers):
      x = text_encoder.Layer(cfg, pre_norm=True, name=f'layer_{i}')(x)
    return nn.LayerNorm(epsilon=cfg.norm_eps, name='norm')(x)[:, 0]
