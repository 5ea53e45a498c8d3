"""KLD: does a classifier hear in a clip what it hears in its recording?

Each clip is paired with the recording that has its id, and the figures are means
over pairs (metrics/divergence.py). `kld_NAME_shuffled` is the first of them over
all pairs that do not belong together: what clips of the row would score beside
recordings that they have nothing to do with. A row is told from chance as far as
its own pairs lie below that.
"""

from collections.abc import Sequence

import numpy as np

from musiclm_jax import errors
from musiclm_jax.evaluation import clip_sets
from musiclm_jax.evaluation import measures
from musiclm_jax.listeners import classifiers
from musiclm_jax.metrics import divergence
from musiclm_jax.metrics import intervals

HELP = 'does a classifier hear in a clip what it hears in its recording?'
WANTS = ('reference', 'pairs')
KIND = 'classifier'  # of listeners
_DEFAULT = ('musicnn',)
_CLIPS_AT_ONCE = 8  # of one length


def begin(context: measures.Context) -> measures.Measure:
  """Loads the classifiers; see `measures`."""
  reference = context.reference
  if reference is None:
    raise measures.Unavailable(
        'KLD is between clips and the recordings of their ids; give the '
        'recordings as reference.')
  asked = context.listeners.get(KIND)
  try:
    heard = [Heard(classifiers.by_name(name), reference)
             for name in asked or _DEFAULT]
  except errors.UserError as error:
    if asked:  # a name that was given is a mistake of who gave it
      raise
    raise measures.Unavailable(
        f'KLD needs a classifier: {error} Or name one of your own.') from error
  names = [one.classifier.name for one in heard]
  if len(set(names)) < len(names):
    raise errors.UserError(
        f'the classifiers {", ".join(names)} share a name; write each as '
        f'NAME=PATH.')

  def measure(row):
    figures = [figure for one in heard
               for figure in of_row(one, row, context.seed)]
    for one in heard:  # its classes are known by now
      context.provenance[f'{KIND} {one.classifier.name}'] = (
          classifiers.described(one.classifier))
    return figures

  return measure


class Heard:
  """A classifier with the recordings that it has heard so far."""

  def __init__(self, classifier: classifiers.Classifier,
               reference: clip_sets.ClipSet):
    self.classifier, self.reference = classifier, reference
    self._known = {}

  def recordings(self, ids: Sequence[str]) -> dict[str, np.ndarray]:
    """{id: [C] logits} of those of `ids` that are usable; each is heard once."""
    new = [name for name in ids if name not in self._known]
    self._known.update(logits(self.classifier, self.reference, new))
    return {name: self._known[name] for name in ids if name in self._known}


def logits(classifier: classifiers.Classifier, clips: clip_sets.ClipSet,
           ids: Sequence[str]) -> dict[str, np.ndarray]:
  """{id: [C] logits} of the usable clips of a set; the others it refuses."""
  found, waiting = {}, []

  def hear():
    if waiting:
      heard = classifier.logits(np.stack([audio for _, audio in waiting]))
      found.update(zip((name for name, _ in waiting), heard))
      waiting.clear()

  for name in ids:
    try:
      audio = clips.read(name, classifier.sample_rate_hz)
    except clip_sets.Refused:
      continue
    if len(waiting) == _CLIPS_AT_ONCE or (
        waiting and len(waiting[0][1]) != len(audio)):
      hear()
    waiting.append((name, audio))
  hear()
  return found


def of_row(heard: Heard, row: clip_sets.ClipSet,
           seed: int = 0) -> list[measures.Figure]:
  """The figures of one row.

  Args:
    heard: the classifier and the recordings.
    row: clips; those whose id no recording has are not counted.
    seed: of the intervals.
  """
  prefix = f'kld_{heard.classifier.name}'
  ids = clip_sets.pairs(row, heard.reference)
  recordings = heard.recordings(ids)
  clips = logits(heard.classifier, row, [n for n in ids if n in recordings])
  ids = [name for name in ids if name in clips]
  if not ids:
    return [measures.Figure(
        prefix, None, note='no clip has the id of a recording')]
  real = np.stack([recordings[name] for name in ids])
  other = np.stack([clips[name] for name in ids])
  tracks = [heard.reference.clip(name).track for name in ids]

  def figure(suffix, values, better='lower', note=''):
    low, high = intervals.of_mean(values, tracks, seed)
    return measures.Figure(prefix + suffix, float(np.mean(values)), low, high,
                           len(values), better, note)

  return [
      figure('', divergence.softmax_kl(real, other)),
      figure('_reverse', divergence.softmax_kl(other, real),
             note='KL(generated || recording)'),
      figure('_bernoulli', divergence.bernoulli_kl(real, other),
             note='each class a yes or no'),
      _shuffled(prefix, figure, real, other, np.asarray(tracks, str))]


def _shuffled(prefix, figure, real, other, tracks):
  """KLD of all pairs of two tracks: for each recording, the mean over clips."""
  strange = tracks[:, None] != tracks
  if not strange.any():
    return measures.Figure(
        f'{prefix}_shuffled', None, note='all clips are of one track')
  found = divergence.softmax_kl_of_all(real, other)
  return figure('_shuffled', np.sum(found * strange, 1) / strange.sum(1), '',
                'clips beside recordings of other tracks')
