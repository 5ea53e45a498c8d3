"""Makes the folder of a test from folders of audio with the same ids.

  folders ─> ids that all have ─> drawn, read, cut, levelled ─> audio/*.wav
                                └> slots (design) ─> test.json, key.json

What raters get says nothing of the systems: every clip has one rate, and one
length and loudness in all systems; the files have drawn names, one date and no
tags. Raters who look still see none of that, as the server names no files.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import math
import os
import pathlib
import random

import numpy as np

from musiclm_jax import audio as audio_lib
from musiclm_jax import errors
from musiclm_jax import files
from musiclm_jax.evaluation import clip_sets
from musiclm_jax.evaluation import provenance
from musiclm_jax.listening import design
from musiclm_jax.listening import folder
from musiclm_jax.metrics import loudness

_PEAK = 0.99
_FADE_S = 0.02  # where a clip is cut, so that the cut does not click


def make(out: str | os.PathLike, systems: Mapping[str, str | os.PathLike],
         captions: str | os.PathLike | None = None,
         options: design.Options = design.Options(),
         say: Callable[[str], None] = lambda line: None) -> folder.Test:
  """Writes a test, whole or not at all.

  Args:
    out: the folder; must not exist.
    systems: {name: folder of audio}; two or more.
    captions: CSV with `id,caption`, and `track` where clips share recordings.
    options: see `design.Options`.
    say: takes a line about each thing that was left out or changed.

  Raises:
    UserError: fewer than two systems, clips or captions that are missing, no
      usable clip, more ratings than `design.MOST_SLOTS`.
  """
  out = pathlib.Path(out)
  files.check_folder(out, '--out')
  if out.exists():
    raise errors.UserError(
        f'--out {out} exists already; remove it or choose another.')
  if len(systems) < 2:
    raise errors.UserError(
        f'{len(systems)} system to compare; give --system NAME=FOLDER twice or '
        f'more.')
  count = len(design.pairs(len(systems))) * options.ratings
  if count > design.MOST_SLOTS:
    raise errors.UserError(
        f'{len(systems)} systems with {options.ratings} ratings a pair are '
        f'{count} ratings; expected at most {design.MOST_SLOTS}, so lower '
        f'--ratings.')
  sets = [clip_sets.from_folder(path, captions, f'--system {name}', name)
          for name, path in systems.items()]
  ids = _shared(sets, options.common, say)
  if captions is not None:
    _check_captions(sets[0], ids, captions, say)
  ids = random.Random(options.seed).sample(ids, len(ids))
  with files.whole_folder(out) as made:
    sounds = _Sounds(made / folder.SOUNDS, sets, options)
    clips = sounds.write(ids, options.ratings)
    _tell(sets, sounds, say)
    if not clips:
      raise errors.UserError(
          f'none of {len(ids)} clips is usable in all systems; '
          f'{_first_refused(sets)}')
    _write(made, sets, clips, sounds, options, captions, systems)
  return folder.read(out)


def _shared(sets, common, say):
  """Ids that all sets have, sorted; UserError where some lack some."""
  listed = [{clip.id for clip in clips.clips} for clips in sets]
  everything = set().union(*listed)
  shared = sorted(set.intersection(*listed))
  lacking = [f'{clips.name} lacks {len(gone)} (such as {min(gone)!r})'
             for clips, has in zip(sets, listed)
             if (gone := everything - has)]
  told = f'of {len(everything)} ids {", ".join(lacking)}'
  if not shared:
    raise errors.UserError(
        f'{told}: none is in all systems; the files of one clip must have one '
        f'name in every folder.')
  if lacking and not common:
    raise errors.UserError(
        f'{told}; add them, or give --common to take the {len(shared)} that '
        f'all have.')
  if lacking:
    say(f'{told}; {len(shared)} are common')
  return shared


def _check_captions(clips, ids, path, say):
  """UserError where clips have none; a line where the CSV has more."""
  without = [i for i in ids if not clips.clip(i).caption.strip()]
  if without:
    raise errors.UserError(
        f'{path} has no caption for {len(without)} of {len(ids)} clips, such '
        f'as {without[0]!r}; add them, or leave --captions out to ask '
        f'{design.QUESTION_ALONE!r}')
  rows = len(set(clip_sets.read_captions(path)) - set(ids))
  if rows:
    say(f'{rows} captions of {path} have no clip')


class _Sounds:
  """Reads, cuts, levels and writes what is heard.

  Attributes:
    rate_hz: of all files, the highest of the systems'.
    shortened: clips cut because a system's version is shorter.
    limited: files that would clip at the wanted loudness, and stay quieter.
  """

  def __init__(self, directory: pathlib.Path,
               sets: Sequence[clip_sets.ClipSet], options: design.Options):
    self._directory, self._sets, self._options = directory, sets, options
    self.rate_hz = max(clip.sample_rate_hz
                       for clips in sets for clip in clips.clips)
    self.shortened = self.limited = 0
    self._draw = random.Random(f'{options.seed} names')
    directory.mkdir()

  def write(self, ids: Sequence[str], most: int) -> list[folder.Heard]:
    """The first `most` clips that are usable in all systems."""
    made = []
    for name in ids:
      if len(made) == most:
        break
      sounds = [self._read(clips, name) for clips in self._sets]
      if any(sound is None for sound in sounds):
        continue
      made.append(self._clip(name, sounds))
    return made

  def _read(self, clips, name):
    """[N] at the loudness that is wanted; None where it is not usable."""
    try:
      sound = clips.read(name, self.rate_hz)
    except clip_sets.Refused:
      return None
    sound = sound[:round(self._options.seconds * self.rate_hz)]
    if loudness.integrated(sound, self.rate_hz) == -math.inf:
      where = clips.clip(name).where
      clips.refused[name] = (
          'silent', f'{where} is silent in the part that would be heard.')
      return None
    return sound

  def _clip(self, name, sounds):
    """Writes one clip of every system."""
    length = min(map(len, sounds))
    self.shortened += length < max(map(len, sounds))
    names = []
    for sound in sounds:
      names.append(f'{self._draw.getrandbits(64):016x}.wav')
      path = self._directory / names[-1]
      audio_lib.write(path, self._levelled(_faded(
          sound[:length], self.rate_hz)), self.rate_hz)
      os.utime(path, (0, 0))  # who was written first, headers would tell
    clip = self._sets[0].clip(name)
    return folder.Heard(name, clip.track, length / self.rate_hz, tuple(names))

  def _levelled(self, sound):
    if self._options.lufs is None:
      return sound
    now = loudness.integrated(sound, self.rate_hz)
    gain = 10**((self._options.lufs - now) / 20) if np.isfinite(now) else 1.0
    most = _PEAK / np.abs(sound).max(initial=1e-9)
    self.limited += gain > most
    return sound * np.float32(min(gain, most))


def _faded(sound, rate_hz):
  """[N] whose end goes to 0, as it may have been cut there."""
  count = min(round(_FADE_S * rate_hz), len(sound))
  return np.concatenate([
      sound[:len(sound) - count],
      sound[len(sound) - count:] * np.linspace(1, 0, count, dtype=np.float32)])


def _tell(sets, sounds, say):
  """Lines about what was left out and changed."""
  for clips in sets:
    for name, (_, line) in sorted(clips.refused.items()):
      say(f'left out {name}: {line}')
  if sounds.shortened:
    say(f'{sounds.shortened} clips are cut to the shortest of their versions')
  if sounds.limited:
    say(f'{sounds.limited} files stay below the loudness, or they would clip')


def _first_refused(sets):
  """The reason for the first clip that is not usable."""
  return next(line for clips in sets
              for _, (_, line) in sorted(clips.refused.items()))


def _write(made, sets, clips, sounds, options, captions, systems):
  """test.json and key.json."""
  slots = design.plan(len(clips), len(sets), options.ratings, options.seed)
  said = [sets[0].clip(clip.id).caption if captions is not None else ''
          for clip in clips]
  question = options.question or (
      design.QUESTION if captions is not None else design.QUESTION_ALONE)
  shown = dict(question=question, per_rater=options.per_rater,
               hear_seconds=options.hear_seconds, captions=said)
  key = dict(
      systems=[s.name for s in sets],
      folders=[str(path) for path in systems.values()],
      clips=[dataclasses.asdict(clip) for clip in clips],
      options=dataclasses.asdict(options), sample_rate_hz=sounds.rate_hz,
      loudness='as it was' if options.lufs is None else
      f'{options.lufs:g} LUFS, ITU-R BS.1770-4',
      shortened=sounds.shortened, limited=int(sounds.limited),
      provenance=provenance.of(
          seed=options.seed, sets={s.name: s for s in sets}))
  folder.write(made, shown, key, slots)
