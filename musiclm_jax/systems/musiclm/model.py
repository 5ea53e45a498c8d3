"""The model as a user of Python holds it.

  import musiclm_jax
  model = musiclm_jax.load()
  audio = model.generate('a lively irish jig on fiddle', seconds=10)
  for chunk in model.stream('a slow air on flute', seconds=60):
    ...
"""

from collections.abc import Iterator
import dataclasses
from typing import Any

import numpy as np

from musiclm_jax import audio as audio_lib
from musiclm_jax import bundle as bundle_lib
from musiclm_jax import contracts
from musiclm_jax import errors
from musiclm_jax.decoding import choices
from musiclm_jax.decoding import sampler as sampler_lib
from musiclm_jax.systems.musiclm import pipeline as pipeline_lib
from musiclm_jax.systems.musiclm import settings as settings_lib
from musiclm_jax.systems.musiclm import steering as steering_lib
from musiclm_jax.systems.musiclm import tracks


@dataclasses.dataclass(frozen=True)
class Take:
  """One sample.

  Attributes:
    sample: its index among those that were drawn.
    sound: what holds its audio: `read()` gives [N] float32 as decoded.
    semantic: [T] int32 codes, whole seconds; [0] where the coarse stage takes
      none.
    acoustic: [T, levels] int32 codes.
    similarity: to what was asked for, by MuLan; None unless it was wanted.
  """

  sample: int
  sound: object
  semantic: np.ndarray
  acoustic: np.ndarray
  similarity: float | None


@dataclasses.dataclass(frozen=True)
class Result:
  """What was generated.

  Attributes:
    takes: Takes, the best first if the best were wanted.
    settings: the Settings.
    title: what was asked for, in a line.
    sample_rate_hz: of the audio.
    mulan: [C, 12] int32 codes, a row for each part of a story.
    changes: seconds at which the parts begin.
    known: seconds that come from a recording, as the codec renders it.
    joins: {stage: seconds at which one of its windows goes on from another}.
  """

  takes: list
  settings: settings_lib.Settings
  title: str
  sample_rate_hz: int
  mulan: np.ndarray
  changes: tuple
  known: int
  joins: dict

  @property
  def audio(self) -> np.ndarray:
    """[K, N] float32, each take limited to a peak of 0.99."""
    return np.stack(
        [audio_lib.limit_peak(take.sound.read()) for take in self.takes])


class Memory:
  """Audio that is kept in memory."""

  def __init__(self):
    self._parts = []

  def write(self, samples: np.ndarray) -> None:
    """Adds [n] samples, as they are now."""
    self._parts.append(np.array(samples, np.float32))

  def read(self) -> np.ndarray:
    """[N] float32, all of them."""
    return np.concatenate(self._parts)


class Model:
  """A bundle that makes music: MusicLM as a contracts.System.

  Everything below takes what to make (a prompt, `story`, `like`, `melody`,
  `continue_from`, as of `steering.read`) and how (`seconds`, `seed`,
  `temperature_fine` and so on, as of `settings.Settings`).

  Attributes:
    bundle: the bundle.Bundle.
    sample_rate_hz: of all audio, in and out.
    needs: components that all music takes; `fine` besides unless fewer levels
      are asked for, w2v-BERT and the melody embedder for a recording to
      continue and a melody.
  """

  needs = steering_lib.NEEDS

  def __init__(self, bundle: bundle_lib.Bundle, weights: str | None = None):
    """A model; its parts are loaded when they are needed.

    Args:
      bundle: the bundle.Bundle.
      weights: of choices.WEIGHTS, what the stages calculate with; as trained
        by default.
    """
    self.bundle = bundle
    self.sample_rate_hz = bundle.tokens.audio.sample_rate_hz
    self._weights = choices.check_weights(weights)
    self._pipeline = pipeline_lib.Pipeline(bundle, weights=self._weights)

  @property
  def conditions(self) -> tuple[str, ...]:
    """Arguments that can say what to make: of this bundle's, all that there are.
    """
    return steering_lib.possible(self.bundle)

  def generate(self, prompt: str | None = None, *, samples: int | None = None,
               progress: contracts.Progress = None, **wanted: Any
               ) -> np.ndarray:
    """Makes music.

    The same arguments give the same samples on the same machine.

    Args:
      prompt: text, or None where something else says what to make.
      samples: None for one clip, or a number of them.
      progress: None or a function of (stage, seconds done, seconds in all),
        stage being 'semantic', 'coarse', 'fine' or 'audio'. What it raises ends
        the work.
      **wanted: see the class.

    Returns:
      [N] float32 within -0.99..0.99 at `sample_rate_hz`, or [samples, N].

    Raises:
      UserError: something that cannot be made, before anything is computed.
    """
    settings, steering = steering_lib.asked(
        self.bundle, prompt, samples=samples, **wanted)
    found = self.make(steering, settings, progress).audio
    return found[0] if samples is None else found

  def stream(self, prompt: str | None = None, *, samples: int | None = None,
             progress: contracts.Progress = None, **wanted: Any
             ) -> Iterator[np.ndarray]:
    """Yields music while it is made, a second at a time.

    Arguments as of `generate`; at most 8 samples and no `best_of`. The chunks
    one after the other are what `generate` returns, but that nothing can scale
    down a peak above 0.99 that is still to come: `limit_peak` of the whole is
    the same array.

    Returns:
      An iterator of [n] float32, or of [samples, n]. Closing it ends the work.
    """
    settings, steering = steering_lib.asked(
        self.bundle, prompt, samples=samples, **wanted)
    if settings.best_of or settings.drawn > pipeline_lib.MAX_ROWS:
      raise errors.UserError(
          f'a stream has no best_of and at most {pipeline_lib.MAX_ROWS} '
          f'samples; use generate.')
    chunks = self._stream(steering, settings, progress)
    return (c[0] for c in chunks) if samples is None else chunks

  def make(self, steering: steering_lib.Steering,
           settings: settings_lib.Settings,
           progress: contracts.Progress = None, sounds: list | None = None,
           similarity: bool = False, soon: bool = False) -> Result:
    """Makes all samples; at most 8 of them at a time.

    Args:
      steering: the Steering.
      settings: the Settings.
      progress: as of `generate`; ranking reports 'similarity', in samples.
      sounds: None or, for each sample that is drawn, something with `write` and
        `read`, which takes its audio as decoded.
      similarity: measure it even if it is not needed to choose.
      soon: give each second to `sounds` as soon as it is there, not after all
        tokens are drawn; the audio is the same.

    Returns:
      A `Result`.
    """
    sounds = sounds or [Memory() for _ in range(settings.drawn)]
    conditions = steering_lib.conditions(steering, settings, self.bundle)
    codes = self._held(conditions, settings, progress)
    takes = []
    for first in range(0, settings.drawn, pipeline_lib.MAX_ROWS):
      samples = np.arange(
          first, min(first + pipeline_lib.MAX_ROWS, settings.drawn))
      generation = self._start(conditions, codes, settings, samples, progress)
      if not soon:
        generation.draw()
      for chunk in self._cut(generation.chunks(), conditions, settings):
        for sample, row in zip(samples, chunk):
          sounds[sample].write(row)
      takes += [
          Take(int(sample), sounds[sample],
               generation.codes['semantic'][i, :, 0] if (
                   'semantic' in generation.codes) else np.zeros(0, np.int32),
               generation.acoustic()[i], None)
          for i, sample in enumerate(samples)]
    if similarity or settings.best_of:
      takes = self._ranked(takes, conditions, settings, progress)
    return Result(
        takes=takes[:settings.samples], settings=settings, title=steering.title,
        sample_rate_hz=self.sample_rate_hz, mulan=conditions.codes['mulan'][0],
        changes=conditions.changes, known=conditions.known,
        joins=generation.joins)

  def prepare(self, samples: int = 1) -> Iterator[None]:
    """Compiles what so many samples of any length take, and draws nothing.

    As the bundle draws them by default: other levels compile when asked for.

    Yields:
      After each program, so that who waits for something else can have it.
    """
    usual = settings_lib.make(defaults=self.bundle.defaults)
    draws = {name: draw for name, draw in usual.draws(melody=False).items()
             if self.bundle.has(name)}
    if usual.levels == self.bundle.tokens.codec.coarse_codebooks:
      draws.pop('fine', None)  # nothing waits for it
    return self._pipeline.prepare(sampler_lib.padded_rows(samples), draws)

  def how(self, settings: settings_lib.Settings) -> str:
    """'seed=3 top_k_fine=10 weights=int8': what is not the default."""
    weights = f' weights={self._weights}' if self._weights else ''
    return settings.changed() + weights

  def tags(self, result: Result, take: Take) -> dict[str, str]:
    """{tag: text} for a take's file: what it is, and what makes it again."""
    return dict(
        title=result.title, software='musiclm_jax',
        comment=f'{self.how(result.settings)} sample={take.sample + 1} '
        f'bundle={self.bundle.identity}')

  def _stream(self, steering, settings, progress):
    conditions = steering_lib.conditions(steering, settings, self.bundle)
    codes = self._held(conditions, settings, progress)
    generation = self._start(
        conditions, codes, settings, np.arange(settings.drawn), progress)
    yield from self._cut(generation.chunks(), conditions, settings)

  def _start(self, conditions, codes, settings, samples, progress):
    """The Generation of some of the samples."""
    repeated = {k: np.repeat(v, len(samples), axis=0)
                for k, v in codes.items()}
    return self._pipeline.start(tracks.Request(
        seconds=conditions.known + settings.whole_seconds, seed=settings.seed,
        samples=samples, codes=repeated, progress=progress,
        changes=conditions.changes,
        rows=sampler_lib.padded_rows(settings.drawn)),
                                settings.draws(), settings.levels)

  def _held(self, conditions, settings, progress):
    """{segment: [1, T, Q]} that all samples share."""
    if settings.vary != 'acoustics':
      return conditions.codes
    first = self._start(
        conditions, conditions.codes, settings, np.zeros(1, int), progress)
    first.draw(['semantic'])
    held = {k: v for k, v in first.codes.items() if k == 'semantic'}
    return {**conditions.codes, **held}

  def _cut(self, chunks, conditions, settings):
    """The chunks, the last one only as long as was asked for."""
    left = conditions.known * self.sample_rate_hz + int(
        round(settings.seconds * self.sample_rate_hz))
    for chunk in chunks:
      if left:
        yield chunk[:, :left]
      left -= min(left, chunk.shape[1])

  def _ranked(self, takes, conditions, settings, progress):
    """The takes with their similarity, the best first if that was asked."""
    found = []
    for take in takes:
      found.append(dataclasses.replace(
          take, similarity=steering_lib.similarity(
              take.sound.read(), conditions, self.bundle.tokenizer('joint'),
              self.sample_rate_hz)))
      if progress is not None:
        progress('similarity', len(found), len(takes))
    if settings.best_of:
      found.sort(key=lambda take: -take.similarity)
    return found
