"""What are a stage's conditions worth, and is text where audio is?

  a recording ──> M_A ─┐ how many codes are equal,    ┌─> nats of each stage
  its caption ──> M_T ─┘ how much of M_T is left over ┘   under M_A, M_T, those
                                                          of others, and none

Stages learn on MuLan tokens of audio and are asked with those of text. Two
things can go wrong: the two may not fall into the same cells, and a stage may
not heed them. The second is asked over all of a crop and over its first second,
where nothing else says yet what the music is like.

  musiclm evaluate conditions [--bundle DIR] [--corpus DIR] [--clips 64]

Without --corpus a small folk_gm is made once and kept in the user's cache.
"""

import dataclasses
import pathlib
from typing import Any

import jax
import numpy as np

from musiclm_jax import errors
from musiclm_jax.evaluation import held_out
from musiclm_jax.evaluation import report
from musiclm_jax.evaluation import runnable
from musiclm_jax.evaluation import streams as streams_lib
from musiclm_jax.metrics import retrieval
from musiclm_jax.nn import quantize

EVALUATION = {
    'help': 'is text where audio is, and do the stages heed it?',
    'components': ['mulan'],
    'clips': 64,
    'clips_help': 'pairs of a recording and its caption',
}

_CLIP_SECONDS = 30
_ROWS = 4
# name -> what it is called
ASKED = dict(audio='M of the recording', text='M of its caption',
             audio_other='M of another recording',
             text_other="M of another's caption", nothing='no M')


@dataclasses.dataclass(frozen=True)
class Nats:
  """What each clip's target costs a stage under each of `ASKED`.

  Attributes:
    first: {name: [clips] mean nats a token over the first second}.
    whole: {name: [clips] over the whole crop}.
  """

  first: dict
  whole: dict


def evaluate(
    bundle: Any, corpus: str | pathlib.Path, clips: int = 64,
    say: report.Say | None = None,
    show: report.Show | None = None) -> report.Evaluation:
  """Pairs of a recording and its caption, and the stages under both.

  Args:
    bundle: a bundle.Bundle with 'mulan'; of the stages, those that it has and
      that are conditioned on it.
    corpus: a corpus's directory; captions of its held-out split are used.
    clips: pairs.
    say: None or a function of a line of progress.
    show: None or a function of each finished Section.

  Returns:
    A `report.Evaluation`.

  Raises:
    UserError: no MuLan, no corpus, or recordings without captions.
  """
  bundle.require('mulan')
  say, show = say or (lambda line: None), show or (lambda section: None)
  joint = bundle.tokenizer('joint')
  data = held_out.load(corpus, clips, _CLIP_SECONDS, 0,
                       bundle.tokens.audio.sample_rate_hz)
  say(f'{len(data.clips)} clips of {data.corpus}, split {data.split}')
  if not all(data.clips.captions):
    raise errors.UserError(
        f'some recordings of {corpus} have no caption to be compared with; '
        f'choose another --corpus.')
  streams = streams_lib.encode(bundle, data.clips)
  text = np.asarray(joint.embed_text(list(data.clips.captions)))
  audio = streams_lib.crop_embedding(
      streams.windows, streams.seconds, 0, _CLIP_SECONDS, joint.spec)
  result = report.Evaluation({'conditions_clips': float(len(text))}, [])
  result.add(show, *pairs(joint, audio, text))
  for name in ('semantic', 'coarse'):
    if bundle.has(name) and 'mulan' in bundle.stored_spec(name)['conditions']:
      say(f'{name} stage')
      found = nats(bundle.get(name), streams, joint, text)
      result.add(show, *_stage(name, found))
  return result


def pairs(joint: Any, audio: np.ndarray, text: np.ndarray) -> report.Told:
  """(Section, figures) of [n, D] embeddings of recordings and their captions."""
  codes = [np.asarray(joint.quantize(x)) for x in (audio, text)]
  equal = codes[0] == codes[1]
  other = codes[0] == np.roll(codes[1], 1, axis=0)
  left = {name: quantize.level_report(x, joint.codebooks)['distortion'][-1]
          for name, x in (('audio', audio), ('text', text))}
  cosine = np.sum(audio * text, axis=-1)
  shuffled = np.sum(audio * np.roll(text, 1, axis=0), axis=-1)
  figures = {f'pairs_equal_level{i}': value
             for i, value in enumerate(equal.mean(axis=0), 1)}
  figures.update(
      pairs_equal_level1_shuffled=other[:, 0].mean(),
      pairs_cosine=cosine.mean(), pairs_cosine_shuffled=shuffled.mean(),
      pairs_audio_variance_left=left['audio'],
      pairs_text_variance_left=left['text'])
  by_level = ' '.join(f'{x:.2f}' for x in equal.mean(axis=0))
  return report.Section(f'Text beside audio: {len(text)} pairs', (
      report.Line('equal codes, level 1', f'{equal[:, 0].mean():.2f}',
                  f'shuffled {other[:, 0].mean():.2f}',
                  f'by level {by_level}'),
      report.Line('cosine', f'{cosine.mean():.2f}',
                  f'shuffled {shuffled.mean():.2f}'),
      report.Line('variance left, text', f'{left["text"]:.0%}',
                  f'audio {left["audio"]:.0%}',
                  f'after {codes[0].shape[1]} levels'))), figures


def nats(
    trained: Any, streams: streams_lib.Streams, joint: Any,
    text: np.ndarray) -> Nats:
  """`Nats` of a stage on the first crop of each clip.

  Args:
    trained: a stages.model.TrainedStage with M among its conditions.
    streams: Streams of two clips or more.
    joint: the bundle's JointEmbedder.
    text: [n, D] embeddings of the clips' captions.
  """
  codes = streams_lib.stage_codes(trained.spec, streams, 0, joint)
  own = dict(audio=codes['mulan'],
             text=np.asarray(joint.quantize(text))[:, None])
  asked = dict(own, **{f'{name}_other': np.roll(value, 1, axis=0)
                       for name, value in own.items()})
  asked['nothing'] = np.full_like(codes['mulan'], -1)
  layout = trained.layout
  second = layout.target.length // trained.spec.crop_seconds
  loss = jax.jit(trained.model.target_nats)
  # [rows, 2, P]: nats and weights.
  cost = lambda rows: np.stack(loss(
      trained.params, streams_lib.stage_batch(layout, rows)), axis=1)
  first, whole = {}, {}
  for name in ASKED:
    tokens = layout.build(dict(codes, mulan=asked[name]))
    found, weights = np.moveaxis(
        streams_lib.by_batch(cost, tokens, _ROWS), 1, 0)
    mean = lambda part, f=found, w=weights: (
        (f * w)[:, part].sum(axis=1) / np.maximum(w[:, part].sum(axis=1), 1))
    first[name], whole[name] = mean(slice(second)), mean(slice(None))
  return Nats(first, whole)


def _stage(name, found):
  """(Section, figures) of one stage's `Nats`."""
  figures, lines = {}, []
  for key, title in ASKED.items():
    figures[f'{name}_first_second_{key}'] = found.first[key].mean()
    figures[f'{name}_all_{key}'] = found.whole[key].mean()
    lines.append(report.Line(title, f'{found.first[key].mean():.2f}',
                             f'all {found.whole[key].mean():.2f}'))
  said = []
  for key in ('audio', 'text'):
    worth = found.first[f'{key}_other'] - found.first[key]
    low, high = retrieval.bootstrap_interval(worth)
    figures.update({f'{name}_first_second_{key}_worth': worth.mean(),
                    f'{name}_first_second_{key}_worth_low': low,
                    f'{name}_first_second_{key}_worth_high': high})
    said.append(f'{dict(audio="its own M", text="its caption")[key]} is worth '
                f'{worth.mean():.2f} nats ({low:.2f} to {high:.2f})')
  return report.Section(
      f'{name.capitalize()} stage: nats a token in the first second, and in '
      f'all', tuple(lines), 'in the first second ' + ', '.join(said)), figures


def run(asked: runnable.Asked) -> runnable.Outcome:
  """`musiclm evaluate conditions`."""
  result = evaluate(asked.bundle, asked.corpus, asked.options.clips, asked.say,
                    asked.show)
  return runnable.Outcome(
      result.figures, result.sections, dict(corpus=str(asked.corpus)),
      f'The conditions of {asked.bundle.identity}',
      f'{result.figures["conditions_clips"]:.0f} clips of {asked.corpus}')
