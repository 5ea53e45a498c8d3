"""Who hears the facts of clips: listeners, and what is made of what they hear.

  clip ──> an ear (numbers) ──> an answer ──> scores of (asked, answer)

Some answers are what the ear says, such as a tempo. Others need recordings whose
facts are known: where the strength of onsets becomes "drums", which pitch is
"low", what a flute looks like. Those are fitted on the reference, cross-fitted by
track, so that no clip is judged by what was fitted on its own recording.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
from typing import Any

import numpy as np

from musiclm_jax import errors
from musiclm_jax.evaluation import clip_sets
from musiclm_jax.listeners import drums
from musiclm_jax.listeners import keys as key_listeners
from musiclm_jax.listeners import pitch
from musiclm_jax.listeners import tempo as tempo_listeners
from musiclm_jax.metrics import cuts
from musiclm_jax.metrics import family
from musiclm_jax.metrics import keys
from musiclm_jax.metrics import tempo

RATE_HZ = 24_000  # that clips are heard at
MIN_SECONDS = 2.0  # ours: of a clip; less has no tempo and hardly a key
NEAR_SEMITONES = 3.0  # ours: a mean pitch that counts as right
TRAIN_CLIPS, TRAIN_SECONDS = 700, 10  # ours, of a corpus to learn from
_MUSICNN_RATE_HZ = 16_000
_MUSICNN, _TIMBRE = 'musicnn', 'timbre'
_CHOICES = {'tempo': tempo_listeners.JUDGES, 'key': key_listeners.JUDGES,
            'family': (_MUSICNN, _TIMBRE)}

Ear = Callable[[np.ndarray], Any]  # [N] at RATE_HZ -> a number or a vector
Score = Callable[[np.ndarray, np.ndarray], np.ndarray]
# ([n, ...] heard, [n] tracks) -> [n] answers
Answer = Callable[[np.ndarray, Sequence[str]], np.ndarray]
# ([n, ...] heard, [n] facts, [n] tracks) of recordings -> Answer
Settle = Callable[[np.ndarray, np.ndarray, Sequence[str]], Answer]


@dataclasses.dataclass(frozen=True, eq=False)
class Judge:
  """One judge of one fact.

  Attributes:
    fact: of `fact_columns.FACTS`.
    ear: its key in `EARS`.
    scores: {figure: function of (asked, answers) that broadcast}.
    about: who it is, for notes.
    settle: what makes answers of what is heard; None: it is the answer.
    recordings: whether `settle` has to be fitted on recordings.
    judged: which facts it can hear; None: all.
  """

  fact: str
  ear: str
  scores: Mapping[str, Score]
  about: str
  settle: Settle | None = None
  recordings: bool = False
  judged: Callable[[np.ndarray], np.ndarray] | None = None


def _equal(asked, heard):
  return asked == heard


def _near(asked, heard):
  return np.abs(asked - heard) <= NEAR_SEMITONES


def choose(listeners: Mapping[str, Sequence[str]]) -> tuple[Judge, ...]:
  """The judges that are asked for, or all that are installed.

  Args:
    listeners: {'tempo', 'key' or 'family': names}, as a measure's context has
      them. Of families, timbre=DIR learns from a corpus's training split.

  Raises:
    UserError: an unknown name, or one that is not installed.
  """
  installed = {'tempo': tempo_listeners.installed(),
               'key': key_listeners.installed(),
               'family': (_MUSICNN, _TIMBRE)}
  found = []
  for kind, there in installed.items():
    names = tuple(listeners.get(kind) or there)
    for text in names:
      name, _, folder = text.partition('=')
      if name not in _CHOICES[kind]:
        raise errors.choice(f'judge of {kind}', name, _CHOICES[kind])
      if name not in there:
        raise errors.UserError(
            f'the judge {name} of {kind} is not installed; `pip install '
            f'{name}`.')
      if folder and name != _TIMBRE:
        raise errors.UserError(
            f'{text} names a folder; of the judges of facts {_TIMBRE}=DIR alone '
            f'takes one, a corpus to learn from.')
      found += (_timbre(folder) if folder else _BY_KIND[kind](name))
  return (*found, *_others())


def _tempo(name):
  suffix = '' if name == 'librosa' else f'_{name}'
  return [Judge('tempo', f'tempo_{name}', {
      f'tempo_accuracy1{suffix}': tempo.accuracy1,
      f'tempo_accuracy2{suffix}': tempo.accuracy2}, f'tempo by {name}')]


def _key(name):
  suffix = '' if name == 'librosa' else f'_{name}'
  about = ("Temperley's profiles on librosa's chroma" if name == 'librosa' else
           f'key by {name}')
  return [Judge('key', f'key_{name}', {
      f'key{suffix}': _equal, f'key_mirex{suffix}': keys.weighted}, about),
          Judge('mode', f'key_{name}', {f'mode{suffix}': _equal}, about,
                settle=lambda heard, facts, tracks: _mode_of_key)]


def _mode_of_key(heard, tracks):
  return heard // 12


def _family(name):
  if name == _MUSICNN:
    return [Judge('family', 'tags', {'family_musicnn': _equal},
                  "musicnn's tags, of families that it has tags for",
                  settle=_tag_judge, recordings=True,
                  judged=family.is_judged)]
  return [Judge('family', 'timbre', {'family_timbre': _equal},
                'a classifier of spectra, cross-fitted on the recordings',
                settle=_timbre_judge, recordings=True)]


def _timbre(folder):
  """The classifier of spectra, fitted on a corpus's training split."""
  return [Judge('family', 'timbre', {'family_timbre': _equal},
                f'a classifier of spectra, fitted on {folder}',
                settle=lambda heard, facts, tracks: _learned(folder))]


def _learned(folder):
  from musiclm_jax.evaluation import held_out  # pylint: disable=g-import-not-at-top
  train = held_out.load(folder, held_out.MIN_CLIPS, TRAIN_SECONDS, TRAIN_CLIPS,
                        RATE_HZ).train
  named = np.flatnonzero([bool(f) for f in train.families]) if train else ()
  if not len(named):
    raise errors.UserError(
        f'{folder} has no training split with instrument families; `musiclm '
        f'data folk_gm` makes one.')
  judge = family.TimbreClassifier(RATE_HZ).fit(
      train.audio[named], [train.families[row].lower() for row in named])
  return lambda heard, tracks: judge.predict_statistics(heard)


_BY_KIND = {'tempo': _tempo, 'key': _key, 'family': _family}


def _others():
  return (
      Judge('percussion', 'onsets', {'percussion': _equal},
            'onsets above 2 kHz, a cut cross-fitted on the recordings',
            settle=_cut_judge, recordings=True),
      Judge('register', 'pitch', {'register': _equal},
            f'mean pitch by {pitch.tracker()}, cuts cross-fitted on the '
            f'recordings', settle=_cut_judge, recordings=True),
      Judge('mean_pitch', 'pitch', {'mean_pitch': _near},
            f'within {NEAR_SEMITONES:g} semitones, pitch by {pitch.tracker()}'),
  )


def _tag_judge(heard, facts, tracks):
  from musiclm_jax.listeners import musicnn  # pylint: disable=g-import-not-at-top
  judge = family.TagJudge(musicnn.MTT_TAGS, heard)
  return lambda asked, tracks: judge.predict(asked)


def _timbre_judge(heard, facts, tracks):
  import threadpoolctl  # pylint: disable=g-import-not-at-top

  def fit(inputs, names):
    # So few clips are fitted sooner by one thread, which waits for no other.
    with threadpoolctl.threadpool_limits(1):
      return family.TimbreClassifier(RATE_HZ).fit_statistics(
          inputs, names).predict_statistics
  return cuts.CrossFitted(fit, heard, facts, tracks).predict


def _cut_judge(heard, facts, tracks):
  """Cuts; a clip without a number, such as one without pitch, is named ''."""
  known = np.isfinite(heard)
  pick = [track for track, there in zip(tracks, known) if there]
  judge = cuts.CrossFitted(cuts.fit, heard[known], facts[known], pick)

  def answer(asked, tracks):
    there = np.isfinite(asked)
    answers = np.empty(len(asked), object)
    answers[:] = ''
    if there.any():
      answers[there] = judge.predict(
          asked[there], [t for t, yes in zip(tracks, there) if yes])
    return answers
  return answer


def make_ear(name: str) -> Ear:
  """What hears; made once for a table, since some load a model.

  Raises:
    UserError: a model that it needs is missing.
  """
  if name == 'tags':
    return _tags()
  return {
      'tempo_librosa': lambda a: tempo_listeners.judge('librosa')(a, RATE_HZ),
      'tempo_essentia': lambda a: tempo_listeners.judge('essentia')(a, RATE_HZ),
      'key_librosa': lambda a: keys.estimate(key_listeners.chroma(a, RATE_HZ)),
      'key_essentia': lambda a: keys.parse(
          key_listeners.essentia_name(a, RATE_HZ)),
      'onsets': lambda a: drums.onsets(a, RATE_HZ),
      'pitch': lambda a: pitch.mean(a, RATE_HZ),
      'timbre': lambda a: family.timbre_statistics(a, RATE_HZ),
  }[name]


def _tags():
  from musiclm_jax.listeners import musicnn  # pylint: disable=g-import-not-at-top
  listener = musicnn.MusicNN.load('MTT_musicnn')

  def hear(audio):
    audio = clip_sets.resampled(audio, RATE_HZ, _MUSICNN_RATE_HZ)
    # Whole seconds, so that programs are compiled for few lengths.
    whole = max(1, len(audio) // _MUSICNN_RATE_HZ) * _MUSICNN_RATE_HZ
    return listener.tag(audio[None, :whole], _MUSICNN_RATE_HZ)[0]
  return hear
