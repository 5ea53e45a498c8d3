"""What the music should be like: text, a story, a song, a melody, a beginning.

  text, story, --like ──MuLan──> M, a row for each part of the story
  --melody ──melody embedder──> melody tokens, a row a second
  --continue-from ──codec, w2v-BERT──> the first seconds of S and A

M are MuLan's tokens, S the semantic and A the acoustic ones. Every stage needs an
M. Without text and without --like it is made from the recording of
--continue-from, as M is made from the audio itself in training; without that one
from the recording of --melody (ours: the paper gives a melody with text only).
"""

from collections.abc import Callable
import dataclasses
import pathlib
from typing import Any

import numpy as np

from musiclm_jax import bundle as bundle_lib
from musiclm_jax import contracts
from musiclm_jax import errors
from musiclm_jax import text as text_lib
from musiclm_jax.decoding import guidance
from musiclm_jax.systems.musiclm import settings as settings_lib
from musiclm_jax.systems.musiclm import story as story_lib
from musiclm_jax.tokens import conditioning

# Components that all music takes; `components` says what else.
NEEDS = ('codec', 'mulan', 'semantic', 'coarse')
MIN_SECONDS = 1  # a recording that is given is at least so long
_SILENT = 1e-4  # no sample of a silent recording is larger
_LAST_PART_SECONDS = 15  # ours: of a story, where `seconds` is not given
_CONTEXT_SECONDS = 30  # w2v-BERT hears windows of this length


@dataclasses.dataclass(frozen=True)
class Steering:
  """What was asked for, checked and read.

  Attributes:
    parts: story.Parts: one for a prompt alone, none where there is no text.
    like: [N] float32 of a song, or None.
    melody: [N] float32 of a melody, or None.
    before: [N] float32, whole seconds that the music goes on from, or None.
    title: all of it in a line, for people to read.
  """

  parts: tuple = ()
  like: np.ndarray | None = None
  melody: np.ndarray | None = None
  before: np.ndarray | None = None
  title: str = ''


@dataclasses.dataclass(frozen=True)
class Conditions:
  """What the stages and the ranking are given.

  Attributes:
    codes: {segment: [1, T, Q] int32}; 'mulan' has a row for each of `changes`.
    targets: [C, D] float32 embeddings that the music should be near, one for
      each of `changes`.
    changes: C seconds; row i of 'mulan' conditions what is drawn from second
      `changes[i]` up to the next.
    known: seconds at the start that come from a recording and are not drawn.
  """

  codes: dict
  targets: np.ndarray
  changes: tuple
  known: int


def asked(bundle: Any, prompt: str | None = None, story: Any = None,
          like: Any = None, melody: Any = None, continue_from: Any = None,
          named: Callable[[str], str] = str, **values: Any
          ) -> tuple[settings_lib.Settings, Steering]:
  """What a call asks for, checked before a model is loaded.

  Args:
    bundle: a bundle.Bundle.
    prompt: text, or None.
    story: path of a story, its Parts, or None. Without `seconds` the music ends
      15 s after its last part begins.
    like: path of a song or its samples, [N] at the bundle's rate, or None.
    melody: likewise a melody, hummed, whistled or played.
    continue_from: likewise what the music goes on from; the codec's rendering
      of its whole seconds comes before what is new.
    named: how messages call an argument, `settings.option` for the shell.
    **values: of `settings.Settings`; None stands for the default.

  Returns:
    (Settings, Steering).

  Raises:
    UserError: something that cannot be made.
  """
  if story is not None and not isinstance(story, tuple):
    story = story_lib.load(story)
  if story and values.get('seconds') is None:
    values['seconds'] = story_seconds(story)
  settings = settings_lib.make(named, bundle.defaults, **values)
  if values.get('guidance_melody') is not None and melody is None:
    raise errors.UserError(
        f'{named("guidance_melody")} is for {named("melody")}; give one, or '
        f'leave it out.')
  if values.get('like_weight') is not None and (
      like is None or prompt is None and story is None):
    raise errors.UserError(
        f'{named("like_weight")} is for {named("like")} beside a prompt or a '
        f'story; give both, or leave it out.')
  settings_lib.check_levels(
      settings.levels, bundle.tokens.codec, named('levels'))
  steering = read(settings, bundle.tokens.audio.sample_rate_hz, prompt, story,
                  like, melody, continue_from, named)
  components(steering, bundle, settings.levels)
  for name, scales in guided(steering, settings, bundle).items():
    guidance.check(
        name, conditioning.optional(bundle.stored_metadata(name)), scales)
  return settings, steering


def guided(steering: Steering, settings: settings_lib.Settings, bundle: Any
           ) -> dict[str, tuple[tuple[str, float], ...]]:
  """{stage: pairs of a condition that it has, and its scale} that are guided.

  Args:
    steering: the Steering.
    settings: the Settings.
    bundle: the bundle.Bundle.
  """
  found = {}
  for name in filter(bundle.has, ('semantic', 'coarse')):
    known = bundle.stored_spec(name)['conditions']
    found[name] = tuple(
        (condition, scale) for condition, scale in settings.guidance(
            name, steering.melody is not None) if condition in known)
  return {name: scales for name, scales in found.items() if scales}


def story_seconds(parts: tuple[story_lib.Part, ...]) -> int:
  """How long the music of a story is where `seconds` is not given."""
  return parts[-1].at + _LAST_PART_SECONDS


def read(settings: settings_lib.Settings, rate: int, prompt: str | None = None,
         story: tuple[story_lib.Part, ...] | None = None, like: Any = None,
         melody: Any = None, continue_from: Any = None,
         named: Callable[[str], str] = str) -> Steering:
  """Checks and reads what was asked for, without loading a model.

  Args:
    settings: the Settings.
    rate: of the system's audio, in Hz.
    prompt: text, or None.
    story: a story's Parts, or None.
    like: as of `asked`.
    melody: as of `asked`.
    continue_from: as of `asked`.
    named: how messages call an argument.

  Returns:
    A `Steering`.

  Raises:
    UserError: nothing, too much or something unreadable was asked for.
  """
  given = dict(like=like, melody=melody, continue_from=continue_from)
  given = {k: v for k, v in given.items() if v is not None}
  if prompt is not None:
    _check_prompt(prompt)
  if prompt is not None and story is not None:
    raise errors.UserError(
        f'a prompt and a story were given; {named("story")} holds prompts of '
        f'its own, leave one out.')
  if prompt is None and story is None and not given:
    raise errors.UserError(
        f'nothing says what the music should be like; expected a prompt, '
        f'{", ".join(map(named, ("story", "like", "melody")))} or '
        f'{named("continue_from")}.')
  parts = ()
  if prompt is not None:
    parts = (story_lib.Part(0, ' '.join(prompt.split())),)
  if story is not None:
    parts = tuple(story)
    story_lib.check_length(parts, settings.seconds)
  sounds = {name: sound(value, named(name), rate)
            for name, value in given.items()}
  before = sounds.get('continue_from')
  if before is not None:
    # Stages count whole seconds. The rest of a second is cut off the start,
    # because the end is what the music goes on from.
    before = before[len(before) % rate:]
    if len(before) / rate + settings.seconds > settings_lib.MAX_SECONDS:
      raise errors.UserError(
          f'{named("continue_from")} has {len(before) // rate} s and '
          f'{named("seconds")} is {settings.seconds:g}; expected at most '
          f'{settings_lib.MAX_SECONDS} s together.')
  return Steering(parts, sounds.get('like'), sounds.get('melody'), before,
                  _title(parts, given))


def _check_prompt(prompt):
  """UserError unless it is text of some length."""
  if not isinstance(prompt, str):
    raise errors.UserError(
        f'the prompt is {errors.kind(prompt)}; expected text.')
  if text_lib.is_blank(prompt):
    raise errors.UserError(
        'the prompt is empty; describe the music, for example '
        '"a slow waltz on accordion".')
  if len(prompt) > story_lib.MAX_CHARACTERS:
    raise errors.UserError(
        f'the prompt has {len(prompt)} characters; expected at most '
        f'{story_lib.MAX_CHARACTERS}.')
  try:
    prompt.encode('utf-8')
  except UnicodeEncodeError as error:
    raise errors.UserError('the prompt is not text in UTF-8.') from error


def _title(parts, given):
  """'a jig, like song.wav'."""
  words = dict(like='like', melody='to the melody of',
               continue_from='going on from')
  titles = [' / '.join(p.prompt for p in parts)] if parts else []
  for name, value in given.items():
    what = 'a recording' if isinstance(value, np.ndarray) else str(
        value).replace('\\', '/').rsplit('/', 1)[-1]
    titles.append(f'{words[name]} {what}')
  return ', '.join(titles)


def sound(value: np.ndarray | str | pathlib.Path, name: str, rate: int
          ) -> np.ndarray:
  """[N] float32 of a path or an array; UserError for what cannot be used."""
  if isinstance(value, np.ndarray):
    audio = np.asarray(value, np.float32)
    if audio.ndim != 1 or not np.all(np.isfinite(audio)):
      raise errors.UserError(
          f'{name} is an array of shape {audio.shape}; expected [N] finite '
          f'samples at {rate} Hz.')
    shown = name
  else:
    audio, shown = _read_file(value, rate, settings_lib.MAX_SECONDS), str(value)
  if not MIN_SECONDS * rate <= len(audio) <= settings_lib.MAX_SECONDS * rate:
    raise errors.UserError(
        f'{shown} has {len(audio) / rate:.2f} s; expected {MIN_SECONDS} to '
        f'{settings_lib.MAX_SECONDS} s.')
  if np.max(np.abs(audio)) < _SILENT:
    raise errors.UserError(f'{shown} is silent.')
  return audio


def _read_file(path, rate, most_seconds):
  """[N] float32, at most a second more than `most_seconds`.

  That is enough to see that a file is too long, and holds no more of it.
  """
  from musiclm_jax import audio_stream  # pylint: disable=g-import-not-at-top
  with audio_stream.Source(path, rate) as source:
    blocks, count = [], 0
    for block in source.blocks(rate):
      blocks.append(block)
      count += len(block)
      if count > most_seconds * rate:
        break
    return np.concatenate(blocks)


def components(steering: Steering, bundle: Any, levels: int) -> list[str]:
  """Names of the components that the music takes; UserError for one missing.

  Args:
    steering: the Steering.
    bundle: a bundle.Bundle.
    levels: of the codec, 0 for all.
  """
  names = list(NEEDS)
  if bundle.has('coarse') and (
      'semantic' not in bundle.stored_spec('coarse')['conditions']):
    names.remove('semantic')  # M -> A, the papers' ablation
  if not levels or levels > bundle.tokens.codec.coarse_codebooks:
    names.append('fine')
  if steering.before is not None:
    names.append('w2vbert')
  if steering.melody is not None:
    if not bundle.has('melody'):
      raise errors.UserError(
          f'a melody was given, but the bundle {bundle.identity} has no melody '
          f'component; leave it out, or choose a bundle trained with melody.')
    names.append('melody')
  bundle.require(*names)
  if steering.melody is not None and not heeds_melody(bundle):
    raise errors.UserError(
        'a melody was given, but no stage of the bundle is conditioned on one; '
        'leave it out, or choose a bundle trained with melody.')
  return names


def possible(bundle: Any) -> tuple[str, ...]:
  """Arguments of `asked` that can say to this bundle what to make."""
  found = ('prompt', 'story', 'like')
  if bundle.has(bundle_lib.component_for('semantic')):
    found += ('continue_from',)
  return found + ('melody',) * takes_melody(bundle)


def takes_melody(bundle: Any) -> bool:
  """Whether a melody can be given."""
  return bundle.has('melody') and heeds_melody(bundle)


def heeds_melody(bundle: Any) -> bool:
  """Whether a stage of the bundle is conditioned on a melody."""
  return any('melody' in bundle.stored_spec(name)['conditions']
             for name in ('semantic', 'coarse') if bundle.has(name))


def conditions(steering: Steering, settings: settings_lib.Settings, bundle: Any
               ) -> Conditions:
  """Runs the tokenizers over what was given.

  Args:
    steering: the Steering.
    settings: the Settings.
    bundle: has `tokenizer(role)` and `tokens` (a bundle.Bundle).
  """
  rate = bundle.tokens.audio.sample_rate_hz
  known = 0 if steering.before is None else len(steering.before) // rate
  joint = bundle.tokenizer('joint')
  targets = _targets(steering, settings, joint)
  codes = {'mulan': np.asarray(joint.quantize(targets), np.int32)[None]}
  if steering.melody is not None:
    codes['melody'] = _melody(steering.melody, known, bundle)
  if known:
    codes.update(_beginning(steering.before, bundle))
  # A story's times count from where the new music begins. Its first row holds
  # from second 0 all the same, because windows that begin within the recording
  # need one too.
  changes = tuple(known + p.at if p.at else 0 for p in steering.parts) or (0,)
  return Conditions(codes, targets, changes, known)


def _targets(steering, settings, joint):
  """[C, D]: the embedding of what each part should sound like."""
  heard = lambda audio: np.asarray(joint.embed_audio(audio[None]))
  if not steering.parts:
    return heard(next(audio for audio in (
        steering.like, steering.before, steering.melody) if audio is not None))
  text = np.asarray(joint.embed_text([p.prompt for p in steering.parts]))
  if steering.like is None:
    return text
  weight = settings.like_weight
  mixed = (1.0 - weight) * text + weight * heard(steering.like)
  return mixed / np.maximum(
      np.linalg.norm(mixed, axis=-1, keepdims=True), 1e-9)


def _melody(audio, known, bundle):
  """[1, T, Q]: a row for every second, -1 over the `known` ones.

  The tune begins where the new music does, so what is known has no melody.
  """
  embedder = bundle.tokenizer('melody')
  codes = np.asarray(embedder.encode(audio[None], stride_seconds=1), np.int32)
  codes = codes.reshape(1, -1, embedder.spec.num_codebooks)
  return np.pad(codes, ((0, 0), (known, 0), (0, 0)), constant_values=-1)


def _beginning(audio, bundle):
  """{'semantic', 'coarse', 'fine': [1, T, Q]} of a recording."""
  tokens, codec = bundle.tokens, bundle.tokenizer('codec')
  acoustic = np.asarray(codec.encode(audio[None]), np.int32)
  # w2v-BERT cuts audio into windows from the start, which would leave a short
  # one at the end, heard with little context. The music goes on from there, so
  # the last 30 s are made a window of their own and the short one comes first.
  semantic = bundle.tokenizer('semantic')
  window = _CONTEXT_SECONDS * tokens.audio.sample_rate_hz
  split = max(0, len(audio) - window)
  parts = [audio[:split], audio[split:]]
  found = np.concatenate(
      [semantic.encode(part[None]) for part in parts if len(part)], axis=1)
  coarse = tokens.codec.coarse_codebooks
  return dict(semantic=np.asarray(found, np.int32)[..., None],
              coarse=acoustic[..., :coarse], fine=acoustic[..., coarse:])


def similarity(audio: np.ndarray, conditions_: Conditions,
               joint: contracts.JointEmbedder, rate: int) -> float:
  """How near audio is to what was asked for: the cosine of joint embeddings.

  Each part of a story is compared with its own target, and weighs as much as it
  is long. The known seconds are left out, because they were not drawn.

  Args:
    audio: [N] float32.
    conditions_: the Conditions.
    joint: the joint embedder.
    rate: of `audio`, in Hz.

  Returns:
    -1 to 1.
  """
  starts = [max(s, conditions_.known) * rate for s in conditions_.changes]
  total, weight = 0.0, 0
  for start, stop, target in zip(
      starts, starts[1:] + [len(audio)], conditions_.targets):
    part = np.asarray(audio[start:stop])
    if len(part):
      total += len(part) * float(
          np.asarray(joint.embed_audio(part[None]))[0] @ target)
      weight += len(part)
  return total / max(1, weight)
