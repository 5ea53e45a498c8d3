"""Is the melody that was given heard? Contour, chroma, notes, an embedding.

  the recording of the same id ──> pitch, chroma, notes, melody embedding ──┐
  the row's clip ──> the same ──────────────────────────────────────────────┴─>

  melody_contour         share of the melody's frames with a pitch in which the
                         clip has that pitch class, at the best transposition
  melody_chroma          mean cosine of chroma, at the best transposition
  melody_notes           note F1 (mir_eval) of basic-pitch's notes: pitch within
                         half a semitone, onset within 50 ms
  melody_notes_any_key   the same in one octave, at the best transposition
  melody_embedding       mean cosine of the windows of a bundle's melody embedder

Each note has what the same clips get with the melodies of other tracks
(shuffled), and the interval of the difference. What is drawn without a melody is
a row of its own. Where clips have the fact `melody`, [start, duration, MIDI
number] triples, these are the notes that are asked for, and the recordings' own
F1 says how far basic-pitch hears them; else its notes of the recordings are.
"""

import dataclasses
import json
from typing import Any

import numpy as np

from musiclm_jax.evaluation import adherence
from musiclm_jax.evaluation import clip_sets
from musiclm_jax.evaluation import measures
from musiclm_jax.listeners import notes as note_listener
from musiclm_jax.listeners import pitch
from musiclm_jax.metrics import intervals
from musiclm_jax.metrics import notes

HELP = 'are melodies followed that were given: contour, chroma, notes'
WANTS = ('reference', 'pairs', 'melody')

OTHERS = 4  # melodies of other tracks that a clip is compared with
_RATE_HZ = 24_000
_NOTES = ('melody_notes', 'melody_notes_any_key')


@dataclasses.dataclass(frozen=True)
class _Tune:
  """What is known of one sound.

  Attributes:
    heard: its `adherence.Heard`.
    notes: [n, 3] as basic-pitch hears them, or None.
    vectors: [W, D] melody embeddings, or None.
    asked: the notes that it is to have, or None: those that are heard in it.
  """

  heard: adherence.Heard
  notes: np.ndarray | None
  vectors: np.ndarray | None
  asked: np.ndarray | None = None


class _Listener:
  """Hears tunes in clips."""

  def __init__(self, bundle: Any):
    self.embedder = None
    self.rate_hz = _RATE_HZ
    if bundle is not None and bundle.has('melody'):
      self.embedder = bundle.tokenizer('melody')
      self.rate_hz = bundle.tokens.audio.sample_rate_hz
    self.transcribes = (notes.installed()
                        and note_listener.model_path() is not None)

  def hear(self, audio: np.ndarray, asked: np.ndarray | None = None) -> _Tune:
    return _Tune(
        adherence.listen(audio, self.rate_hz),
        note_listener.transcribe(audio, self.rate_hz)
        if self.transcribes else None,
        None if self.embedder is None else np.asarray(
            self.embedder.embed_windows(audio[None]))[0], asked)


def begin(context: measures.Context) -> measures.Measure:
  """Listens to the recordings.

  Raises:
    Unavailable: no recordings to compare with.
  """
  reference = context.reference
  if reference is None:
    raise measures.Unavailable(
        'melodies are compared with recordings of the same ids; give a '
        '--reference folder of them.')
  listener = _Listener(context.bundle)
  tunes, odd = {}, []
  for clip in reference.clips:
    try:
      asked = _asked(clip)
    except ValueError:
      asked, _ = None, odd.append(clip.id)
    try:
      tunes[clip.id] = listener.hear(
          reference.read(clip.id, listener.rate_hz), asked)
    except clip_sets.Refused:
      continue
  if odd:
    context.say(f'melody: the fact melody of {len(odd)} clips, such as '
                f'{odd[0]!r}, is no list of [start, duration, MIDI number]')
  given = sum(t.asked is not None for t in tunes.values())
  context.say(f'melody: {len(tunes)} recordings, notes of {given} known; pitch '
              f'by {pitch.tracker()}')
  context.provenance['melody'] = dict(
      pitch=pitch.tracker(), rate_hz=listener.rate_hz, recordings=len(tunes),
      notes_known=given, transcribed=listener.transcribes,
      embedder=None if listener.embedder is None else
      context.bundle.component_hash('melody'))
  return _Melody(context, listener, tunes).measure


def _asked(clip: clip_sets.Clip) -> np.ndarray | None:
  """The clip's notes by its facts, or None; ValueError of nonsense."""
  melody = clip.facts.get('melody')
  if melody is None or melody == '':
    return None
  if isinstance(melody, str):
    melody = json.loads(melody)
  place = [float(clip.facts.get(name) or default) for name, default in (
      ('start_seconds', 0.0), ('seconds', 'inf'))]
  return notes.of_triples(melody, *place)


class _Melody:
  """Recordings that have been listened to."""

  def __init__(self, context, listener, tunes):
    self._context, self._listener, self._tunes = context, listener, tunes
    self._own = {}  # {figure: mean of the recordings against their own notes}
    known = [t for t in tunes.values() if t.asked is not None]
    if listener.transcribes and known:
      scores = [_note_scores(t, t) for t in known]
      self._own = {name: float(np.mean([s[name] for s in scores]))
                   for name in _NOTES}

  def measure(self, clips: clip_sets.ClipSet) -> list[measures.Figure]:
    """The figures of one row."""
    ours = {}
    for clip in clips.clips:
      if clip.id in self._tunes:
        try:
          ours[clip.id] = self._listener.hear(
              clips.read(clip.id, self._listener.rate_hz))
        except clip_sets.Refused:
          continue
    tracks = {c.id: c.track for c in self._context.reference.clips}
    own, others = [], []
    rng = np.random.default_rng(self._context.seed)
    for clip_id, tune in ours.items():
      rest = [i for i in self._tunes if tracks[i] != tracks[clip_id]]
      rest = [rest[k] for k in rng.permutation(len(rest))[:OTHERS]]
      own.append(_scores(tune, self._tunes[clip_id]))
      others.append([_scores(tune, self._tunes[i]) for i in rest])
    groups = [tracks[i] for i in ours]
    return [self._figure(name, own, others, groups) for name in _names(
        self._listener)] + self._missing(len(ours))

  def _missing(self, count):
    """Figures that cannot be had, with the reason."""
    found = []
    if not self._listener.transcribes:
      found += [(name, f'{note_listener.INSTALL} for notes')
                for name in _NOTES]
    if self._listener.embedder is None:
      found.append(('melody_embedding',
                    'no --bundle with a melody embedder is there'))
    return [measures.Figure(name, None, count=count, better='higher', note=why)
            for name, why in found]

  def _figure(self, name, own, others, tracks):
    rows = [(mine[name], [o[name] for o in rest if o[name] is not None], track)
            for mine, rest, track in zip(own, others, tracks)]
    kept = [(mine, float(np.mean(rest)), track) for mine, rest, track in rows
            if mine is not None and rest]
    if not kept:
      return measures.Figure(
          name, None, count=0, better='higher',
          note='no clip and melody that could be compared' if rows else
          'no clip has the id of a recording')
    mine, rest = (np.array([k[i] for k in kept]) for i in (0, 1))
    groups, seed = [k[2] for k in kept], self._context.seed
    apart = intervals.of_mean(mine - rest, groups, seed)
    parts = [f'shuffled {rest.mean():.3f}, difference '
             f'{(mine - rest).mean():.3f} [{apart[0]:.3f}, {apart[1]:.3f}]']
    if name in self._own:
      parts.append(f'recordings {self._own[name]:.3f}')
    if name == 'melody_contour':
      parts.append(f'pitch by {pitch.tracker()}')
    if len(kept) < len(rows):
      parts.append(f'{len(rows) - len(kept)} left out, with nothing to compare')
    low, high = intervals.of_mean(mine, groups, seed)
    return measures.Figure(name, float(mine.mean()), low, high, len(kept),
                           'higher', '; '.join(parts))


def _names(listener):
  return ('melody_contour', 'melody_chroma',
          *(_NOTES if listener.transcribes else ()),
          *(('melody_embedding',) if listener.embedder else ()))


def _scores(ours: _Tune, theirs: _Tune) -> dict[str, float | None]:
  """{figure: score} of a sound with a melody."""
  contour, chroma = adherence.compare(ours.heard, theirs.heard)
  found = dict(melody_contour=contour, melody_chroma=chroma)
  if ours.notes is not None:
    found.update(_note_scores(ours, theirs))
  if ours.vectors is not None:
    count = min(len(ours.vectors), len(theirs.vectors))
    found['melody_embedding'] = float(np.mean(np.sum(
        ours.vectors[:count] * theirs.vectors[:count], axis=-1)))
  return found


def _note_scores(ours, theirs):
  """Note F1; None of a melody that has no notes."""
  asked = theirs.asked if theirs.asked is not None else theirs.notes
  if not len(asked):
    return dict.fromkeys(_NOTES)
  return dict(zip(_NOTES, (notes.score(asked, ours.notes).f1,
                           notes.best_score(asked, ours.notes).f1)))
