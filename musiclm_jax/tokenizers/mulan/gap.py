"""The modality gap: do audio and its text fall into the same cells?

MusicLM's stages learn from the tokens of audio and are prompted with those of
text. The nearer the two clouds of embeddings, the more a prompt looks like what
the stages know.
"""

from typing import Any

import numpy as np


def measure(joint: Any, audio: np.ndarray, text: np.ndarray,
            right: np.ndarray | None = None) -> dict[str, float]:
  """The gap between texts and the recordings they belong to.

  Args:
    joint: a JointEmbedder, for its codes.
    audio: [A, D] embeddings of recordings.
    text: [T, D] embeddings of texts.
    right: [T, A] bool, the recordings of each text; None: its row alone.

  Returns:
    equal_first_level: share of the pairs of a text and its recording that have
      the same first token.
    equal_first_level_shuffled: the same of texts and other recordings.
    means_cosine: cosine of the two mean embeddings; 1 where the clouds share
      a direction.
    positive_cosine, shuffled_cosine: mean cosine of a text with its recording,
      and with every other one.
  """
  right = np.eye(len(text), dtype=bool) if right is None else right
  same = joint.quantize(text)[:, :1] == joint.quantize(audio)[:, 0]
  cosine = text @ audio.T
  means = [x.mean(0) / np.linalg.norm(x.mean(0)) for x in (audio, text)]
  average = lambda x: float(np.mean(x)) if x.size else 0.0
  return dict(
      equal_first_level=average(same[right]),
      equal_first_level_shuffled=average(same[~right]),
      means_cosine=float(means[0] @ means[1]),
      positive_cosine=average(cosine[right]),
      shuffled_cosine=average(cosine[~right]))
