"""The modality gap, on embeddings whose codes are plain."""

import numpy as np
import pytest

from musiclm_jax.tokenizers.mulan import gap


class _Largest:
  """Its first token is the largest coordinate."""

  def quantize(self, vectors):
    first = np.argmax(vectors, axis=-1)
    return np.stack([first, np.zeros_like(first)], axis=-1)


def test_by_hand():
  audio = np.eye(3)
  text = np.array([[1, 0, 0], [0, 1, 0], [0, 1, 0.0]])
  found = gap.measure(_Largest(), audio, text)
  assert found['equal_first_level'] == pytest.approx(2 / 3)
  # Of six other pairs only the third text meets the second recording.
  assert found['equal_first_level_shuffled'] == pytest.approx(1 / 6)
  assert found['positive_cosine'] == pytest.approx(2 / 3)
  assert found['shuffled_cosine'] == pytest.approx(1 / 6)
  # (1, 1, 1) and (1, 2, 0).
  assert found['means_cosine'] == pytest.approx(3 / np.sqrt(3 * 5))


def test_texts_of_several_recordings():
  audio = np.eye(2)[[0, 0, 1]]
  text = np.eye(2)
  right = np.array([[1, 1, 0], [0, 1, 1]], bool)
  found = gap.measure(_Largest(), audio, text, right)
  assert found['equal_first_level'] == pytest.approx(3 / 4)
  assert found['equal_first_level_shuffled'] == 0.0


def test_opposite_clouds():
  audio = np.array([[1.0, 0.1], [1.0, -0.1]])
  found = gap.measure(_Largest(), audio, -audio)
  assert found['means_cosine'] == pytest.approx(-1.0)
  assert found['equal_first_level'] == 0.0
