"""From codes to audio with the trained components of a bundle.

  M -> semantic stage -> S -> coarse stage -> A levels 1-4
    -> fine stage -> A levels 5-12 -> the codec's decoder -> waveform

Whatever a caller has of M, S and A is taken, and what is missing is drawn;
where M comes from (text, a song, a melody) is in `steering`.
"""

from collections.abc import Iterator
import dataclasses
import functools
from typing import Any

import jax
import numpy as np

from musiclm_jax import contracts
from musiclm_jax.decoding import categorical
from musiclm_jax.decoding import choices
from musiclm_jax.decoding import sampler as sampler_lib
from musiclm_jax.systems.musiclm import settings as settings_lib
from musiclm_jax.systems.musiclm import tracks

MAX_ROWS = choices.MAX_ROWS


class Pipeline:
  """Draws codes and decodes them.

  Args:
    bundle: has `tokenizer('codec')` and `stage(name)` (a bundle.Bundle). The
      codec may be any contracts.Codec.
    lanes: windows of the fine stage that are drawn side by side for one row.
      By default one on a CPU, where rows cost what they give, else four.
    weights: of the stages, as of `sampler.Sampler`.
  """

  def __init__(self, bundle: Any, lanes: int | None = None,
               weights: str | None = None):
    self.bundle = bundle
    self._weights = weights
    self._samplers = {}
    self._lanes = lanes or (1 if jax.default_backend() == 'cpu' else 4)

  @functools.cached_property
  def codec(self) -> contracts.Codec:
    return self.bundle.tokenizer('codec')

  @functools.cached_property
  def decoder(self) -> contracts.CodeStream:
    """The codec's, made once, so that its programs are kept."""
    return self.codec.stream_decoder()

  def sampler(self, name: str) -> sampler_lib.Sampler:
    """The stage's Sampler, made once, so that its programs are kept."""
    if name not in self._samplers:
      self._samplers[name] = sampler_lib.Sampler(
          self.bundle.stage(name), self._weights)
    return self._samplers[name]

  def start(self, request: tracks.Request,
            draws: dict[str, categorical.Draw] | None = None, levels: int = 0
            ) -> 'Generation':
    """A `Generation`.

    Args:
      request: a tracks.Request of at most MAX_ROWS rows.
      draws: {stage: Draw}; default the paper's temperatures.
      levels: of the codec, 0 for all.
    """
    return Generation(self, request, draws or settings_lib.Settings().draws(),
                      levels)

  def prepare(self, rows: int,
              draws: dict[str, categorical.Draw] | None = None
              ) -> Iterator[None]:
    """Compiles what so many rows take, of any length, story or beginning.

    What draws among a part of the ids or of the levels has programs of its own,
    and so have the components beside the stages.

    Args:
      rows: of a request.
      draws: as of `start`; stages that it lacks are not prepared. Guided ones
        have rows of their own.

    Yields:
      After each program.
    """
    draws = draws or settings_lib.Settings().draws()
    for name in draws:
      sampler = self.sampler(name)
      lanes = self.lanes(rows) if name == 'fine' else 1
      yield from sampler.prepare(
          lanes * rows, tracks.prompts(sampler), draws[name])

  def lanes(self, rows: int) -> int:
    """Fine windows that fit beside each other for so many rows."""
    return max(1, self._lanes // rows)

  def complete(self, codes: dict[str, np.ndarray], seconds: int, seed: int = 0,
               samples: np.ndarray | None = None,
               draws: dict[str, categorical.Draw] | None = None,
               progress: contracts.Progress = None, levels: int = 0
               ) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Draws what is missing and decodes the whole.

    With {'mulan'} this is generation; with the true 'semantic' and 'coarse'
    codes of a recording as well, only the fine stage is asked.

    Args:
      codes: {name: [B, T, Q] int32} of 'mulan' (T = 1), 'semantic', 'coarse',
        'fine'; T covers the first whole seconds or all of them. Must hold what
        the first stage to be drawn is conditioned on, but for 'melody': a row a
        second, as `MelodyEmbedder.encode(audio, stride_seconds=1)` gives them,
        or absent.
      seconds: whole seconds.
      seed: any int.
      samples: [B] index of each row's sample, for its random key; default
        0..B-1.
      draws: {stage: Draw}; default the paper's temperatures.
      progress: None or a function of (stage, seconds done, seconds in all),
        stage being 'semantic', 'coarse', 'fine' or 'audio'. What it raises ends
        the work.
      levels: of the codec, the first ones; 0 for all.

    Returns:
      ({name: codes}, [B, N] float32 audio as decoded, N whole seconds).
    """
    count = len(next(iter(codes.values())))
    samples = np.arange(count) if samples is None else np.asarray(samples)
    made = []
    for first in range(0, count, MAX_ROWS):
      part = slice(first, first + MAX_ROWS)
      generation = self.start(tracks.Request(
          seconds=seconds, seed=seed, samples=samples[part], progress=progress,
          codes={k: v[part] for k, v in codes.items()},
          rows=sampler_lib.padded_rows(count)), draws, levels)
      generation.draw()
      audio = np.concatenate(list(generation.chunks()), axis=1)
      made.append((generation.codes, audio))
    names = made[0][0]
    return ({name: np.concatenate([c[name] for c, _ in made])
             for name in names}, np.concatenate([a for _, a in made]))


class Generation:
  """One request under way.

    generation.draw()                  all tokens, stage after stage
    for audio in generation.chunks():  what is not drawn yet, as it comes
      ...

  The audio is the same with `draw` and without. Leaving the loop ends the work.

  Attributes:
    request: the tracks.Request.
  """

  def __init__(self, pipeline: Pipeline, request: tracks.Request,
               draws: dict[str, categorical.Draw], levels: int = 0):
    self.request = request
    self._pipeline = pipeline
    spec = pipeline.codec.spec
    self._levels = settings_lib.check_levels(levels, spec)
    # The stage that audio waits for.
    self._last = 'fine' if self._levels > spec.coarse_codebooks else 'coarse'
    fine = self._levels - spec.coarse_codebooks
    draws = dict(draws, fine=dataclasses.replace(draws['fine'], levels=fine))
    self._tracks = tracks.Tracks(
        request, pipeline.sampler, draws, self._missing(fine > 0),
        pipeline.lanes(request.rows))

  @property
  def codes(self) -> dict[str, np.ndarray]:
    """{segment: [B, T, Q]} of what is drawn; -1 where nothing is yet."""
    return self.request.codes

  def acoustic(self, first: int = 0, stop: int | None = None) -> np.ndarray:
    """[B, T, levels] codes of frames `first` to `stop`."""
    parts = [self.codes['coarse'][:, first:stop]]
    if self._last == 'fine':
      parts.append(self.codes['fine'][:, first:stop])
    return np.concatenate(parts, axis=-1)[..., :self._levels]

  @property
  def joins(self) -> dict[str, list[int]]:
    """{stage: seconds at which one of its windows goes on from another}."""
    return {name: [w.drawn_from for w in track.windows if w.drawn_from]
            for name, track in self._tracks.all.items()}

  def draw(self, names: list[str] | None = None) -> None:
    """Draws all tokens, or those of some stages."""
    self._tracks.whole(names)

  def chunks(self) -> Iterator[np.ndarray]:
    """Yields [B, N] float32 audio, about a second each, until the end.

    What the decoder waits for makes the first chunk shorter, and comes behind
    the last second.
    """
    request, spec = self.request, self._pipeline.codec.spec
    done = 0
    request.report('audio', 0)
    for audio in self._pipeline.decoder.stream(self._seconds()):
      done += audio.shape[1]
      request.report('audio', round(done / spec.sample_rate_hz))
      yield np.asarray(audio, np.float32)

  def _seconds(self):
    """Yields [B, frames of a second, levels] codes, each once it is drawn."""
    frames = self._pipeline.codec.spec.frame_rate_hz
    for second in range(self.request.seconds):
      self._tracks.reach(self._last, second + 1)
      yield self.acoustic(second * frames, (second + 1) * frames)

  def _missing(self, fine):
    """The stages to draw, in order: what A lacks, and what it is drawn from."""
    request = self.request
    stage = lambda name: self._pipeline.sampler(name).stage.spec

    def lacks(name):
      if name not in request.codes:
        return True
      rate = (self._pipeline.sampler(name).layout.target.num_frames //
              stage(name).crop_seconds)
      return request.codes[name].shape[1] < request.seconds * rate

    missing = [n for n in ('coarse', 'fine')[:1 + fine] if lacks(n)]
    if 'coarse' in missing and 'semantic' in stage('coarse').conditions and (
        lacks('semantic')):
      missing.insert(0, 'semantic')
    return missing
