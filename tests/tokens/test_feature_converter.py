"""The converter against worked examples."""

import numpy as np
import pytest
import tensorflow as tf

from musiclm_jax.tokens import feature_converter


def convert(inputs, targets, lengths):
  dataset = tf.data.Dataset.from_tensors(dict(
      inputs=tf.constant(inputs, tf.int32),
      targets=tf.constant(targets, tf.int32)))
  converter = feature_converter.StageFeatureConverter()
  return next(iter(converter(dataset, lengths).as_numpy_iterator()))


def check(found, inputs, targets, weights):
  np.testing.assert_array_equal(found['decoder_input_tokens'], inputs)
  np.testing.assert_array_equal(found['decoder_target_tokens'], targets)
  np.testing.assert_array_equal(found['decoder_loss_weights'], weights)
  assert found['decoder_loss_weights'].dtype == np.float32
  assert set(found) == {'decoder_input_tokens', 'decoder_target_tokens',
                        'decoder_loss_weights'}


def test_worked_example():
  check(convert([7, 1], [9, 8, 0], dict(inputs=2, targets=3)),
        [0, 7, 1, 9, 8], [7, 1, 9, 8, 0], [0, 0, 1, 1, 0])


def test_a_padded_condition_keeps_the_places():
  """A short track: [M][sep][S, 0][sep][A, A, 0, 0]."""
  check(convert([5, 1, 6, 0, 2], [9, 8, 0, 0], dict(inputs=5, targets=4)),
        [0, 5, 1, 6, 0, 2, 9, 8, 0], [5, 1, 6, 0, 2, 9, 8, 0, 0],
        [0, 0, 0, 0, 0, 1, 1, 0, 0])


def test_wrong_lengths_and_packing_are_refused():
  with pytest.raises(ValueError, match='pack is True'):
    feature_converter.StageFeatureConverter(pack=True)
  with pytest.raises(tf.errors.InvalidArgumentError):
    convert([7, 1], [9, 8, 0], dict(inputs=2, targets=2))
  with pytest.raises(ValueError, match='targets'):
    convert([7, 1], [9, 8, 0], dict(inputs=2))
