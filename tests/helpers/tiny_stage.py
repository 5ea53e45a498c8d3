"""Stages of a few thousand parameters over second-long crops."""

import dataclasses

import jax
import numpy as np

from musiclm_jax import specs
from musiclm_jax.decoding import decoder
from musiclm_jax.systems.musiclm.stages import model

SECONDS = {'semantic': 4, 'coarse': 2, 'fine': 1}


def config(**settings):
  values = dict(embed_dim=16, num_layers=2, num_heads=2, head_dim=8, mlp_dim=24,
                dropout_rate=0.0, head='target', attention_chunk=64)
  return decoder.DecoderConfig(**{**values, **settings})


def tokens_spec(codebook_size=16):
  """The paper's grids with small codebooks."""
  spec = specs.TokenSpec()
  small = lambda s: dataclasses.replace(s, codebook_size=codebook_size)
  return dataclasses.replace(
      spec, codec=small(spec.codec), semantic=small(spec.semantic),
      joint=small(spec.joint))


def stage_model(name, codebook_size=16, seconds=0, **settings):
  spec = specs.StageSpec(name, tokens=tokens_spec(codebook_size),
                         crop_seconds=seconds or SECONDS[name])
  return model.StageModel(spec, config(**settings))


def init(stage, seed=0):
  return jax.jit(stage.init)(jax.random.key(seed))


def logits(stage, params, inputs):
  return np.asarray(jax.jit(stage.logits)(params, inputs))


def trained(name, seed=0, **settings):
  stage = stage_model(name, **settings)
  params = init(stage, seed)
  # Small random weights give almost uniform logits: make them matter.
  params = dict(params, logits_embedding=params['logits_embedding'] * 4)
  return model.TrainedStage(stage, params)


def codes(layout, batch=2, seed=0):
  """Random codes for every segment."""
  rng = np.random.default_rng(seed)
  return {s.name: rng.integers(
      0, s.codebook_size, (batch, s.num_frames, s.num_codebooks))
          for s in layout.placed}


def batch_of(layout, codes_):
  """What the feature converter makes of those codes."""
  tokens = layout.build(codes_)
  weights = layout.target_weights() * (tokens != 0)
  return dict(
      decoder_input_tokens=np.pad(tokens, ((0, 0), (1, 0)))[:, :-1],
      decoder_target_tokens=tokens,
      decoder_loss_weights=weights.astype(np.float32))
