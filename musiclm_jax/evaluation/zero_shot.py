"""Zero-shot tagging: is a recording nearer to the tags that it has?

A tag becomes a prompt, and its score for a recording is their cosine. Nothing
is trained (MuLan, section 4.2). Tags are what folk_gm knows of its tracks, or
else the aspects of a captioned folder.
"""

from collections.abc import Sequence
import dataclasses

import numpy as np

from musiclm_jax import records
from musiclm_jax.metrics import tagging

MIN_TRACKS = 3  # that have a tag, and that have it not
ASPECTS = 'aspect'

# What is known of a track -> the prompt.
_PROMPTS = dict(
    family='music played on {}', instrument='music played on {}',
    rhythm='a {}', mode='music in a {} key', pace='music at a {} tempo')
# Accompanying parts; what plays there is heard, but is not the instrument.
_PARTS = ('second', 'chords', 'bass')


@dataclasses.dataclass(frozen=True)
class Tag:
  """One tag.

  Attributes:
    group: a key of `_PROMPTS`, or 'aspect'.
    prompt: what is asked for.
    has: [n] bool, the tracks that have it.
    judged: [n] bool, the tracks of which that is known.
  """

  group: str
  prompt: str
  has: np.ndarray
  judged: np.ndarray

  def is_testable(self) -> bool:
    judged = self.has[self.judged]
    return min(judged.sum(), (~judged).sum()) >= MIN_TRACKS


def tags(tracks: Sequence[records.Track]) -> list[Tag]:
  """The tags that enough of `tracks` have, and enough have not; [] if none."""
  found = []
  for group, prompt in _PROMPTS.items():
    values = [t.meta.get(group, '') for t in tracks]
    for value in sorted(set(values) - {''}):
      has = np.array([v == value for v in values])
      elsewhere = np.array([
          any(t.meta.get(part) == value for part in _PARTS) for t in tracks])
      known = np.array([v != '' for v in values])
      found.append(Tag(group, prompt.format(value), has,
                       known & (has | ~elsewhere)))
  if not found:
    mine = [set(t.meta.get('aspects') or ()) for t in tracks]
    known = np.array([bool(aspects) for aspects in mine])
    found = [Tag(ASPECTS, name, np.array([name in a for a in mine]), known)
             for name in sorted(set().union(*mine))]
  return [tag for tag in found if tag.is_testable()]


def areas(
    asked: Sequence[Tag], audio: np.ndarray, text: np.ndarray) -> np.ndarray:
  """[tags] area under the ROC curve of each.

  Args:
    asked: Tags.
    audio: [n, D] embeddings of the tracks.
    text: [tags, D] embeddings of the prompts.
  """
  scores = text @ audio.T
  return np.array([
      tagging.roc_auc(row[tag.judged], tag.has[tag.judged])
      for row, tag in zip(scores, asked)])
