"""From a stage's task to what its decoder reads."""

from collections.abc import Mapping
from typing import Any

import seqio
import tensorflow as tf

from musiclm_jax.tokens import layout as layout_lib

_SPEC = seqio.FeatureConverter.FeatureSpec


class StageFeatureConverter(seqio.FeatureConverter):
  """Conditions and target as one sequence, with the loss on the target.

  For inputs [7, 1] (a condition and its separator) and targets [9, 8, 0], where
  0 is padding:

    decoder_target_tokens  [7, 1, 9, 8, 0]
    decoder_input_tokens   [0, 7, 1, 9, 8]
    decoder_loss_weights   [0, 0, 1, 1, 0]

  Nothing is packed: a stage's sequences all have one length, and a position
  means a segment and a level.
  """

  TASK_FEATURES = {
      'inputs': _SPEC(dtype=tf.int32),
      'targets': _SPEC(dtype=tf.int32),
  }
  MODEL_FEATURES = {
      'decoder_input_tokens': _SPEC(dtype=tf.int32),
      'decoder_target_tokens': _SPEC(dtype=tf.int32),
      'decoder_loss_weights': _SPEC(dtype=tf.float32),
  }
  PACKING_FEATURE_DTYPES = None

  def __init__(self, pack: bool = False, **kwargs: Any):
    if pack:
      raise ValueError(
          'pack is True; stage sequences cannot be packed, set it to False.')
    super().__init__(pack=False, **kwargs)

  def _convert_features(self, ds, task_feature_lengths):
    ds = self._pack_or_pad(ds, task_feature_lengths)
    return ds.map(self._convert_example, num_parallel_calls=tf.data.AUTOTUNE)

  def _convert_example(self, features):
    inputs, targets = features['inputs'], features['targets']
    sequence = tf.concat([inputs, targets], axis=0)
    weights = tf.cast(targets != layout_lib.PAD_ID, tf.float32)
    return dict(
        decoder_input_tokens=tf.concat([[self.bos_id], sequence[:-1]], axis=0),
        decoder_target_tokens=sequence,
        decoder_loss_weights=tf.concat(
            [tf.zeros_like(inputs, tf.float32), weights], axis=0))

  def get_model_feature_lengths(
      self, task_feature_lengths: Mapping[str, int]) -> dict[str, int]:
    length = task_feature_lengths['inputs'] + task_feature_lengths['targets']
    return {name: length for name in self.MODEL_FEATURES}
