"""Clips that probes learn from and are judged on, and what is known of them."""

from collections.abc import Sequence
import dataclasses
import pathlib
import zlib

import numpy as np

from musiclm_jax import errors
from musiclm_jax import records
from musiclm_jax.evaluation import held_out

CLIP_SECONDS = 10
_HELD_SHARE = 5  # one cluster in so many validates, without a split for it


@dataclasses.dataclass(frozen=True)
class Clip:
  """10 s of a recording, from sample `start` on."""

  split: records.Split
  track: records.Track
  start: int

  def pitch_classes(
      self, num_frames: int, frame_seconds: float) -> np.ndarray:
    """[T] 0..11, what the melody plays in the middle of each frame, or -1."""
    begin = self.start / self.split.sample_rate_hz
    return pitch_classes(self.track.meta.get('melody') or (), begin +
                         (np.arange(num_frames) + 0.5) * frame_seconds)


def pitch_classes(
    melody: Sequence[Sequence[float]], seconds: np.ndarray) -> np.ndarray:
  """[T] pitch class 0..11 (C is 0) at each of [T] moments; -1: no note.

  Args:
    melody: notes [start s, length s, MIDI pitch], in order of their starts.
    seconds: [T].
  """
  if not len(melody):
    return np.full(len(seconds), -1)
  starts, lengths, pitches = np.asarray(melody, np.float64).T
  note = np.searchsorted(starts, seconds, side='right') - 1
  sounds = (note >= 0) & (seconds < (starts + lengths)[note])
  return np.where(sounds, pitches[note].astype(int) % 12, -1)


def choose(directory: str | pathlib.Path, rate: int, clips: int,
           train_clips: int) -> dict[str, list[Clip]]:
  """The clips of each split; the same ones each time.

  Args:
    directory: a corpus with `family`, `rhythm` or `melody`, as folk_gm has.
    rate: samples a second that the bundle works at.
    clips: of test, and of validation, at most.
    train_clips: training clips, at most.

  Returns:
    {'train', 'validation', 'test': [Clip]}; the test ones may be those of the
    validation split, where the corpus has no other. Without a validation split
    a fifth of the training split's tunes take its place. No tune is in two of
    them.

  Raises:
    UserError: no such corpus, or a split without a clip.
  """
  corpus, name = held_out.open_corpus(directory, rate)
  if 'train' not in corpus.splits:
    raise errors.UserError(
        f'the corpus {directory} has no train split for the probes to learn '
        f'from, only {", ".join(corpus.splits)}.')
  train, test = corpus.split('train'), corpus.split(name)
  judged = {piece(t) for t in test}
  learned, held = {piece(t) for t in train} - judged, train
  if name != 'validation' and 'validation' in corpus.splits:
    held = corpus.split('validation')
  else:
    learned = {p for p in learned if zlib.crc32(p.encode()) % _HELD_SHARE}
  found = dict(
      train=_clips(train, lambda t: piece(t) in learned),
      validation=_clips(held, lambda t: piece(t) not in learned | judged),
      test=_clips(test))
  for split, made in found.items():
    if not made:
      raise errors.UserError(
          f'the corpus {directory} has no {split} clip of {CLIP_SECONDS} s '
          f'that is not hummed; choose a larger one.')
  return {split: made[:train_clips if split == 'train' else clips]
          for split, made in found.items()}


def _clips(split, wanted=lambda track: True):
  """Clips that do not overlap: one of each track, then another of each."""
  samples = CLIP_SECONDS * split.sample_rate_hz
  tracks = held_out.in_turn(
      (t for t in split if t.num_samples >= samples and wanted(t)
       and not held_out.is_hummed(t)), lambda t: t.meta.get('family', ''))
  places = [t.num_samples // samples for t in tracks]
  return [
      Clip(split, t, (zlib.crc32(t.id.encode()) + turn) % count * samples)
      for turn in range(max(places, default=0))
      for t, count in zip(tracks, places) if turn < count]


def piece(track: records.Track) -> str:
  """What versions of one tune share."""
  return track.meta.get('cluster', track.meta.get('tune', track.id))
