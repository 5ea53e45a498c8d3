"""Text in, audio out: the whole of MusicLM with trained components.

  text -> MuLan -> M -> semantic stage -> S -> coarse stage -> A levels 1-4
       -> fine stage -> A levels 5-12 -> SoundStream decoder -> waveform
"""

import dataclasses
import functools
import math
import numbers

import numpy as np

from musiclm_jax import audio as audio_lib
from musiclm_jax import errors
from musiclm_jax.generation import long
from musiclm_jax.generation import sampler as sampler_lib

TEMPERATURES = {'semantic': 1.0, 'coarse': 0.95, 'fine': 0.4}  # paper
MIN_SECONDS, MAX_SECONDS = 1, 600
# The codec decodes long audio in stretches; each begins early enough to fill
# the causal decoder's past (its receptive field is under a second).
_DECODE_SECONDS, _DECODE_CONTEXT_SECONDS = 30, 2


@dataclasses.dataclass(frozen=True)
class Result:
  """What was generated. Rows: all samples of the first prompt, then the next.

  Attributes:
    audio: [B, N] float32, peak-limited, N = seconds * sample_rate_hz.
    sample_rate_hz: of `audio`.
    prompts: the prompt of each row.
    seed: what it was drawn with.
    mulan: [B, 12] int32 codes of the text.
    semantic: [B, T] int32 codes, whole seconds.
    acoustic: [B, T, 12] int32 codes, whole seconds.
  """

  audio: np.ndarray
  sample_rate_hz: int
  prompts: list
  seed: int
  mulan: np.ndarray
  semantic: np.ndarray
  acoustic: np.ndarray


class Pipeline:
  """Generates audio with the components of a bundle.

  Args:
    bundle: has `get(name)` for soundstream, mulan, semantic, coarse and fine
      (a bundle.Bundle).
  """

  def __init__(self, bundle):
    self._bundle = bundle
    self._samplers = {}

  @functools.cached_property
  def codec(self):
    return self._bundle.get('soundstream')

  @functools.cached_property
  def mulan(self):
    return self._bundle.get('mulan')

  def sampler(self, name):
    """The stage's Sampler, made once, so that its programs are kept."""
    if name not in self._samplers:
      self._samplers[name] = sampler_lib.Sampler(self._bundle.get(name))
    return self._samplers[name]

  def generate(self, prompts, seconds=10, seed=0, temperatures=None, samples=1,
               progress=None, top_k=0, top_p=1.0, melody=None):
    """Generates `samples` clips for each prompt.

    The same seed gives the same bytes on the same machine, and a clip does not
    depend on the other prompts' text.

    Args:
      prompts: list of texts, or one text.
      seconds: 1 to 600, whole or not.
      seed: any int.
      temperatures: {stage: temperature}; the paper's where missing.
      samples: clips for each prompt.
      progress: None or a function of (stage, seconds done, seconds in all),
        stage being 'semantic', 'coarse', 'fine' or 'audio'.
      top_k: keep the k most likely ids, in every stage; 0 keeps all.
      top_p: keep the most likely ids up to this probability; 1 keeps all.
      melody: [T, Q] int32 codes of a melody, a row a second, for stages that
        are conditioned on one; None for none.

    Returns:
      A `Result`.

    Raises:
      UserError: an empty prompt or a setting out of range.
    """
    prompts = [prompts] if isinstance(prompts, str) else list(prompts)
    draws = check_settings(prompts, seconds, samples, temperatures, top_k,
                           top_p)
    embedded = np.asarray(self.mulan.embed_text(prompts))
    mulan = np.asarray(self.mulan.quantize(embedded), np.int32)
    mulan = np.repeat(mulan, samples, axis=0)
    given = {'mulan': mulan[:, None]}
    if melody is not None:
      given['melody'] = self._melody(melody, len(mulan))
    codes, audio = self.complete(
        given, math.ceil(seconds), seed=seed,
        samples=np.tile(np.arange(samples), len(prompts)), draws=draws,
        progress=progress)
    rate = self.codec.spec.sample_rate_hz
    audio = audio[:, :int(round(seconds * rate))]
    return Result(
        audio=np.stack([audio_lib.limit_peak(row) for row in audio]),
        sample_rate_hz=rate, seed=seed, mulan=mulan,
        prompts=[p for p in prompts for _ in range(samples)],
        semantic=codes['semantic'][..., 0],
        acoustic=np.concatenate([codes['coarse'], codes['fine']], axis=-1))

  def _melody(self, melody, rows):
    """[rows, T, Q] of [T, Q]; UserError where nothing would heed it."""
    if not any('melody' in self.sampler(name).stage.spec.conditions
               for name in ('semantic', 'coarse')):
      raise errors.UserError(
          'a melody was given, but no stage of the bundle is conditioned on '
          'one; leave it out, or choose a bundle trained with melody.')
    return np.repeat(np.asarray(melody, np.int32)[None], rows, axis=0)

  def complete(self, codes, seconds, seed=0, samples=None, draws=None,
               progress=None):
    """Draws the streams that are missing and decodes the whole.

    With {'mulan'} this is generation; with the true 'semantic' and 'coarse'
    codes of a recording as well, only the fine stage is asked.

    Args:
      codes: {name: [B, T, Q] int32} of 'mulan' (T = 1), 'semantic', 'coarse',
        'fine'; T covers `seconds`. Must hold what the first missing stage is
        conditioned on, but for 'melody': a row a second, as
        `MelodyEmbedder.encode(audio, stride_seconds=1)` gives them, or absent.
      seconds: whole seconds.
      seed: any int.
      samples: [B] index of each row's sample, for its random key; default 0..B-1.
      draws: {stage: Draw}; default the paper's temperatures.
      progress: as in `generate`.

    Returns:
      ({name: codes}, [B, N] float32 audio as decoded, N whole seconds).
    """
    rows = len(next(iter(codes.values())))
    draws = draws or {name: sampler_lib.Draw(t)
                      for name, t in TEMPERATURES.items()}
    request = long.Request(
        seconds=seconds, seed=seed, codes=dict(codes), progress=progress,
        samples=np.arange(rows) if samples is None else samples)
    for name in self._missing(codes):
      long.generate_stage(self.sampler(name), request, draws[name])
    codes = request.codes
    acoustic = np.concatenate([codes['coarse'], codes['fine']], axis=-1)
    return codes, self._decode(acoustic, request)

  def _missing(self, codes):
    """The stages to draw, in order: what A lacks, and what that is drawn from."""
    missing = [name for name in ('coarse', 'fine') if name not in codes]
    if 'coarse' in missing and 'semantic' not in codes and (
        'semantic' in self.sampler('coarse').stage.spec.conditions):
      missing.insert(0, 'semantic')
    return missing

  def _decode(self, codes, request):
    """[B, T, Q] codes -> [B, N] float32, in stretches of one shape."""
    request.report('audio', 0)
    rate, hop = self.codec.spec.frame_rate_hz, self.codec.spec.hop_samples
    stretch, context = _DECODE_SECONDS * rate, _DECODE_CONTEXT_SECONDS * rate
    parts = []
    for first in range(0, codes.shape[1], stretch):
      begin = max(0, first - context)
      part = self.codec.decode(codes[:, begin:first + stretch])
      parts.append(np.asarray(part, np.float32)[:, (first - begin) * hop:])
      request.report('audio', (first + stretch) // rate)
    return np.concatenate(parts, axis=1)


def check_settings(prompts, seconds, samples, temperatures, top_k=0, top_p=1.0):
  """Refuses what cannot be generated; returns {stage: Draw}."""
  if not prompts:
    raise errors.UserError('no prompt; expected a text that describes music.')
  for prompt in prompts:
    if not isinstance(prompt, str) or not prompt.strip():
      raise errors.UserError(
          f'the prompt is {prompt!r}; expected a text that describes music.')
  if (not isinstance(seconds, numbers.Real) or isinstance(seconds, bool) or
      not MIN_SECONDS <= seconds <= MAX_SECONDS):
    raise errors.UserError(
        f'seconds is {seconds}; expected {MIN_SECONDS} to {MAX_SECONDS}.')
  if not isinstance(samples, numbers.Integral) or samples < 1:
    raise errors.UserError(
        f'samples is {samples}; expected a whole number of at least 1.')
  if top_k < 0 or not 0.0 < top_p <= 1.0:
    raise errors.UserError(
        f'top_k is {top_k} and top_p {top_p}; expected top_k of at least 0 and '
        f'top_p above 0, at most 1.')
  draws = {}
  given = dict(temperatures or {})
  for name in given:
    if name not in TEMPERATURES:
      raise errors.choice('stage in temperatures', name, TEMPERATURES)
  for name, default in TEMPERATURES.items():
    value = given.get(name, default)
    value = default if value is None else value
    if not 0.0 <= value <= 10.0:  # NaN fails as well
      raise errors.UserError(
          f'the {name} temperature is {value}; expected 0 to 10.')
    draws[name] = sampler_lib.Draw(float(value), top_k, top_p)
  return draws
