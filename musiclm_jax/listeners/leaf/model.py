"""LEAF and a network on it that tells which tags a clip has.

  [B, N] -> 16 kHz -> front end [B, T, 40] -> EfficientNet-B0 or a small ResNet
         -> mean over time and bands -> one logit for each tag

Zeghidour et al. (2021) train it on AudioSet's 527 classes, multi-label, with an
EfficientNet-B0; MusicLM's KLD is between the predictions of such a classifier.
At small sizes the network is the ResNet of nn/resnet (ours).
"""

import dataclasses

import flax.linen as nn
import jax

from musiclm_jax import audio as audio_lib
from musiclm_jax import errors
from musiclm_jax import specs
from musiclm_jax.listeners.leaf import frontend
from musiclm_jax.nn import efficientnet as efficientnet_lib
from musiclm_jax.nn import resnet as resnet_lib

ENCODERS = ('efficientnet', 'resnet')


@dataclasses.dataclass(frozen=True)
class LeafConfig:
  """Sizes of the classifier.

  Attributes:
    front_end: of LEAF.
    encoder: 'efficientnet' or 'resnet'.
    efficientnet: for the first.
    resnet: for the second.
    num_classes: C, tags.
    dropout_rate: before the last layer, in training.
    input_rate_hz: of the audio that it is given.
    segment_seconds: a longer clip is heard in pieces of this, as
      `classifier.LeafClassifier` does.
  """

  front_end: frontend.FrontEndConfig = frontend.FrontEndConfig()
  encoder: str = 'efficientnet'  # paper
  efficientnet: efficientnet_lib.EfficientNetConfig = (
      efficientnet_lib.EfficientNetConfig())
  resnet: resnet_lib.ResNetConfig = resnet_lib.ResNetConfig()
  num_classes: int = 527  # paper
  dropout_rate: float = 0.2  # paper (EfficientNet)
  input_rate_hz: int = specs.AudioSpec.sample_rate_hz  # ours
  segment_seconds: float = 1.0  # paper

  def __post_init__(self):
    if self.encoder not in ENCODERS:
      raise errors.choice('encoder', self.encoder, ENCODERS)
    if self.resnet.norm == 'batch':
      raise errors.UserError(
          'the ResNet of a LEAF classifier has norm \'batch\', whose averages '
          'it does not keep; set it to \'group\'.')


class Leaf(nn.Module):
  """[B, N] at `input_rate_hz` -> [B, C] logits."""

  config: LeafConfig

  @nn.compact
  def __call__(self, waveform: jax.Array, train: bool = False) -> jax.Array:
    cfg = self.config
    signal = audio_lib.resample(
        waveform, cfg.input_rate_hz, cfg.front_end.sample_rate_hz)
    x = frontend.FrontEnd(cfg.front_end, name='front_end')(signal)[..., None]
    if cfg.encoder == 'efficientnet':
      x = efficientnet_lib.EfficientNet(cfg.efficientnet, name='encoder')(x, train)
    else:
      x = resnet_lib.ResNet(cfg.resnet, name='encoder')(x, train)
    x = x.mean(axis=(1, 2))
    x = nn.Dropout(cfg.dropout_rate, deterministic=not train)(x)
    return nn.Dense(cfg.num_classes, name='tags')(x)
