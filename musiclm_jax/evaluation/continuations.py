"""Continuations of examples by a stage, greedy, as memorisation is asked for.

  a track ──> its crop, as the stage's training draws it ──> M_A, S
          ──> M_A and the first T tokens of S ──> 125 more, the likeliest

Beside each stand the true tokens and what turning the ones into the others
costs (metrics/transport.py).
"""

from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
from typing import Any

import numpy as np

from musiclm_jax import errors
from musiclm_jax import records
from musiclm_jax.decoding import categorical
from musiclm_jax.decoding import choices
from musiclm_jax.decoding import sampler as sampler_lib
from musiclm_jax.evaluation import clip_sets
from musiclm_jax.evaluation import held_out
from musiclm_jax.evaluation import report
from musiclm_jax.evaluation import streams as streams_lib
from musiclm_jax.metrics import memorization as metric
from musiclm_jax.metrics import transport

PROMPT_TOKENS = (0, 25, 50, 100, 150, 200, 250)  # paper
TARGET_TOKENS = 125  # paper
# ours: a tokenizer that hears so long a window gives a crop's tokens as it gave
# them in training, where it was shown the whole track.
_WINDOW_SECONDS = 30
_GREEDY = categorical.Draw(temperature=0.0)


@dataclasses.dataclass(frozen=True)
class Examples:
  """What is continued.

  Attributes:
    codes: {segment: [n, T, Q]} of the stage's crop, -1 where there is nothing.
    ids: [n] tracks.
    tracks: [n] tunes, or whatever else may be alike.
    clips: the ClipSet that they were cut from; None where there is none.
  """

  codes: Mapping[str, np.ndarray]
  ids: Sequence[str]
  tracks: Sequence[str]
  clips: clip_sets.ClipSet | None = None

  def __len__(self) -> int:
    return len(self.ids)


@dataclasses.dataclass(frozen=True)
class Point:
  """Continuations of one length of the prompt.

  Attributes:
    prompt: tokens of S that were given.
    generated: [n, 125].
    target: [n, 125].
    cost: [n] of transport from the one to the other.
  """

  prompt: int
  generated: np.ndarray
  target: np.ndarray
  cost: np.ndarray

  @property
  def exact(self) -> np.ndarray:
    return metric.exact(self.generated, self.target)


def prompts_within(rate_hz: int, crop_seconds: int) -> list[int]:
  """The paper's T that leave room for 125 tokens in a crop.

  >>> prompts_within(25, 30), prompts_within(25, 8)
  ([0, 25, 50, 100, 150, 200, 250], [0, 25, 50])
  """
  return [t for t in PROMPT_TOKENS
          if t + TARGET_TOKENS <= rate_hz * crop_seconds]


def cut(
    bundle: Any, corpus: records.Corpus, split: str, count: int,
    seed: int = 0) -> Examples:
  """Random crops of a split's tracks, as the stage's training sees them.

  Args:
    bundle: a bundle.Bundle with w2v-BERT, MuLan and the semantic stage.
    corpus: the corpus.
    split: its split.
    count: tracks, of one example each, or all that are long enough.
    seed: of the choice.

  Raises:
    UserError: fewer than two tracks are long enough and audible.
  """
  stage, part = bundle.get('semantic').spec, corpus.split(split)
  rate, semantic = part.sample_rate_hz, bundle.tokens.semantic
  prompts = prompts_within(semantic.frame_rate_hz, stage.crop_seconds)
  needed = -(-(prompts[-1] + TARGET_TOKENS) // semantic.frame_rate_hz)
  clips = _crops(part, f'{corpus.name}, {split}', stage.crop_seconds, needed,
                 count, np.random.default_rng(seed))
  joint, size = bundle.get('mulan'), stage.crop_seconds
  used, tokens, windows = [], [], []
  for clip, sound in clips.each(rate):
    sound = np.pad(sound, (0, size * rate - len(sound)))
    windows.append(np.asarray(joint.embed_audio_windows(sound[None]))[0])
    heard = _in_its_track(bundle.get('w2vbert'), part, clip)
    tokens.append(np.pad(
        heard, (0, size * semantic.frame_rate_hz - len(heard)),
        constant_values=-1))
    used.append(clip)
  if len(used) < held_out.MIN_CLIPS:
    raise errors.UserError(
        f'the {split} split of {corpus.directory} has {len(used)} tracks of '
        f'{needed} s or more with sound in them; expected at least '
        f'{held_out.MIN_CLIPS}.')
  streams = streams_lib.Streams(
      dict(semantic=np.stack(tokens)[..., None].astype(np.int32),
           mulan=np.stack(windows)),
      np.array([clip.facts['seconds'] for clip in used]))
  return Examples(
      streams_lib.stage_codes(stage, streams, 0, joint),
      tuple(c.id for c in used), tuple(c.track for c in used), clips)


def _crops(part, name, seconds, needed, count, rng):
  """A ClipSet of one crop each of `count` tracks of `needed` seconds."""
  tracks = [t for t in part if t.num_samples >= needed * part.sample_rate_hz
            and not held_out.is_hummed(t)]
  return clip_sets.ClipSet(name, [
      clip_sets.from_split(part, seconds, [tracks[i]], rng.random()).clips[0]
      for i in rng.permutation(len(tracks))[:count]])


def _in_its_track(tokenizer, part, clip):
  """[T] the tokens of a clip, made with what is around it."""
  track = next(t for t in part if t.id == clip.id)
  start, seconds = clip.facts['start_seconds'], clip.facts['seconds']
  windows = -(-(start + seconds) // _WINDOW_SECONDS)
  whole = min(track.num_samples // part.sample_rate_hz,
              windows * _WINDOW_SECONDS)
  audio = part.read(track, 0, whole * part.sample_rate_hz)
  rate = tokenizer.spec.frame_rate_hz
  tokens = np.asarray(tokenizer.encode(audio[None], np.array([len(audio)])))[0]
  return tokens[start * rate:(start + seconds) * rate]


def continued(
    sampler: Any, codes: Mapping[str, np.ndarray], prompt: int) -> np.ndarray:
  """[n, 125] what the stage says after `prompt` tokens, greedily.

  Args:
    sampler: the stage's decoding.sampler.Sampler.
    codes: {segment: [n, T, Q]} of whole crops.
    prompt: how many of the target's tokens are given.
  """
  target = sampler.layout.target
  known = np.array(codes[target.name])
  known[:, prompt:] = -1
  tokens = sampler.layout.build({**codes, target.name: known})
  start = target.start + prompt
  keys = categorical.row_keys(0, 0, 0, np.arange(len(tokens)))
  drawn = sampler.sample(
      tokens, keys, start, start + TARGET_TOKENS, _GREEDY,
      sampler_lib.padded_rows(min(len(tokens), choices.MAX_ROWS)))
  return target.to_codes(drawn[:, start:start + TARGET_TOKENS])[..., 0]


def points(
    sampler: Any, examples: Examples, ground: np.ndarray,
    say: report.Say = lambda line: None) -> list[Point]:
  """A `Point` for every prompt that the crop has room for.

  Args:
    sampler: as of `continued`.
    examples: the Examples.
    ground: [K, K] distances of the tokens.
    say: takes a line of progress.
  """
  spec, found = sampler.stage.spec, []
  target = sampler.layout.target
  for prompt in prompts_within(target.stream.rate_hz, spec.crop_seconds):
    say(f'{len(examples)} examples after {prompt} tokens')
    generated = continued(sampler, examples.codes, prompt)
    true = examples.codes[target.name][
        :, prompt:prompt + TARGET_TOKENS, 0]
    found.append(Point(
        prompt, generated, true, cost_between(generated, true, ground)))
  return found


def cost_between(
    one: np.ndarray, other: np.ndarray, ground: np.ndarray) -> np.ndarray:
  """[n] costs of turning [n, T] tokens into others; `ground` as of `points`."""
  size = len(ground)
  return transport.between(
      transport.shares(one, size), transport.shares(other, size), ground).cost
