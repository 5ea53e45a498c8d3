"""The codec against the original and against Opus, by bitrate.

  clips --encode--> 12 levels --decode the first 1, 3, 4 ...--> copies
        --Opus at 6, 12, 24 kbps----------------------------> copies
  copies --> ViSQOL, Zimtohrli, SI-SDR, log-mel distance, roughness; codes -->
             how many of the bits carry information

Each mean stands with its 95 % bootstrap interval over the clips. What a missing
package would give is named and left out.

  musiclm evaluate codec --data DIR [--data DIR2] [--bundle DIR] [--clips 12]
                         [--modelability]

--data is a corpus, of which the test split counts, or a folder of audio files.
With --modelability also how many nats a second one small decoder of a fixed
size and training needs for the codec's tokens, by level; --data are then corpora
with a train split.
"""

from collections.abc import Sequence
import dataclasses
import importlib.util
import pathlib
from typing import Any

import numpy as np

from musiclm_jax import errors
from musiclm_jax.codecs import losses
from musiclm_jax.evaluation import codec_clips
from musiclm_jax.evaluation import codec_modelability
from musiclm_jax.evaluation import codec_report
from musiclm_jax.evaluation import codec_sections as sections_lib
from musiclm_jax.evaluation import ladder
from musiclm_jax.evaluation import report
from musiclm_jax.evaluation import runnable
from musiclm_jax.evaluation import streams
from musiclm_jax.metrics import code_use
from musiclm_jax.metrics import codec_quality
from musiclm_jax.metrics import modelability as modelability_lib
from musiclm_jax.metrics import opus
from musiclm_jax.metrics import roughness

EVALUATION = {
    'help': 'the codec beside Opus, by bitrate',
    'corpus': False,
    'clips': 12,
    'clips_help': 'clips of each --data',
    'pictures': True,
    'arguments': {
        '--data': {
            'metavar': 'DIR', 'action': 'append',
            'help': 'a corpus or a folder of audio files; may be given again'},
        '--modelability': {
            'action': 'store_true',
            'help': 'train a small decoder on the codes'},
        '--modelability-steps': {
            'type': 'int', 'metavar': 'N', 'help': 'its steps (default: 300)'},
        '--modelability-levels': {
            'type': 'int', 'metavar': 'Q',
            'help': 'codebooks that it predicts (default: the coarse ones)'}},
}

OPUS_KBPS = (6, 12, 24)
# ours: codes to count, more clips than are judged; 60 x 8 s are 24,000 frames.
POOL_CLIPS = 60
_BATCH = 4
_LISTEN_CLIPS = 4  # of each set that the page has players for


@dataclasses.dataclass
class Evaluation:
  """What came out: flat figures, report.Sections, one Judged a set."""

  figures: dict
  sections: list
  judged: list


def evaluate(
    bundle: Any, data: Sequence[str | pathlib.Path], clips: int = 12,
    say: report.Say | None = None, show: report.Show | None = None,
    pool: int = POOL_CLIPS, seconds: int = codec_clips.SECONDS,
    modelability: modelability_lib.Config | None = None) -> Evaluation:
  """Judges a bundle's codec.

  Args:
    bundle: a bundle.Bundle.
    data: corpora, or folders of audio files.
    clips: of each, at most.
    say: None or a function of a line of progress.
    show: None or a function of each finished Section.
    pool: clips of each whose codes are counted, at most.
    seconds: length of a clip.
    modelability: a metrics.modelability.Config, if the codes are to be
      predicted as well; `data` are then corpora with a train split.

  Returns:
    An `Evaluation`. With several sets the figures of each stand under its name
    (`debian_music_visqol_6kbps`), and those without a name are means over all
    clips.

  Raises:
    UserError: no codec in the bundle, or unusable data.
  """
  say, show = say or (lambda line: None), show or (lambda section: None)
  if not bundle.has('codec'):
    raise errors.UserError(
        f'{bundle.directory} has no codec; choose another '
        f'--bundle.')
  codec = bundle.get('codec')
  rate = codec.spec.sample_rate_hz
  if rate != ladder.MEL.sample_rate_hz:
    raise errors.UserError(
        f'the codec works at {rate} Hz; expected {ladder.MEL.sample_rate_hz}.')
  if modelability:
    modelability = modelability.of(codec.spec)
    for place in data:
      codec_modelability.check(place, rate)
  sets = [codec_clips.load(place, max(clips, pool), rate, seconds)
          for place in data]
  result = Evaluation({}, [], [])

  def add(section, figures):
    result.sections.append(section)
    result.figures.update(figures)
    show(section)

  absent = _absent()
  if absent:
    add(_absent_section(absent), {})
  for place, label, every in zip(data, _labels(sets), sets):
    say(f'{label}: {min(clips, len(every))} clips, codes of {len(every)}')
    judged = _judge(codec, label, every, clips, say)
    result.judged.append(judged)
    prefix = f'{sections_lib.identifier(label)}_' if len(sets) > 1 else ''
    add(*sections_lib.quality(judged, prefix))
    add(*sections_lib.codes(judged, codec.spec, prefix))
    if len(set(judged.clips.groups)) > 1:
      add(*sections_lib.groups(judged, prefix))
    if modelability:
      add(*codec_modelability.section(
          label, codec_modelability.measure(codec, place, modelability, say),
          modelability, prefix))
  if len(sets) > 1:
    result.figures.update(sections_lib.together(result.judged, codec.spec))
  return result


def _judge(codec, label, every, count, say):
  """All codings of one set, scored."""
  spec, clips = codec.spec, _first(every, count)
  codes = streams.by_batch(codec.encode, every.audio, _BATCH)
  size = clips.audio.shape[1]
  copies = []
  for kbps in sections_lib.KBPS:
    levels = sections_lib.levels_of(kbps, spec)
    audio = streams.by_batch(
        codec.decode, codes[:len(clips), :, :levels], _BATCH)[:, :size]
    taken = (levels * spec.frame_rate_hz * np.log2(spec.codebook_size)) / 1000
    copies.append((f'{sections_lib.number(kbps)}kbps', kbps, taken, audio))
  if opus.available():
    say(f'{label}: Opus')
    for kbps in OPUS_KBPS:
      made = [opus.round_trip(clip, spec.sample_rate_hz, kbps)
              for clip in clips.audio]
      copies.append((f'opus{kbps}', kbps, np.mean([t for _, t in made]),
                     np.stack([audio for audio, _ in made])))
  scores = _scores(clips.audio, [audio for *_, audio in copies],
                   spec.sample_rate_hz, label, say)
  made = [sections_lib.Copy(*copy, each) for copy, each in zip(copies, scores)]
  use = code_use.usage_and_efficiency(
      codes, spec.codebook_size,
      sorted({sections_lib.levels_of(k, spec) for k in sections_lib.KBPS}))
  ours = len(sections_lib.KBPS)
  return sections_lib.Judged(
      label, clips, made[:ours], made[ours:], len(every), use)


def _scores(real, copies, rate, label, say):
  """[{metric: [n]} of each of `copies`]."""
  result = [dict(si_sdr=np.asarray(losses.si_sdr_each(real, copy)),
                 mel_distance=ladder.mel_distance_db(real, copy),
                 roughness=roughness.added_db(real, copy, rate))
            for copy in copies]
  pairs = [pair for copy in copies for pair in zip(real, copy)]
  for metric in codec_quality.PACKAGES:
    if metric in codec_quality.missing():
      continue
    heading = f'{label}: {codec_quality.TITLES[metric]}'

    def report_progress(done, total, heading=heading):
      if done % 12 == 0 or done == total:
        say(f'{heading} {done}/{total}')

    values = codec_quality.score(metric, pairs, rate, report_progress)
    for scores, own in zip(result, values.reshape(len(copies), -1)):
      scores[metric] = own
  return [{m: scores[m] for m in sections_lib.METRICS if m in scores}
          for scores in result]


def _absent():
  """[(what is left out, package)]."""
  absent = [(codec_quality.TITLES[metric], package)
            for metric, package in codec_quality.missing().items()]
  if not opus.available():
    absent.append(('Opus', opus.PACKAGE))
  if importlib.util.find_spec('matplotlib') is None:
    absent.append(('pictures', 'matplotlib'))
  return absent


def _absent_section(absent):
  return report.Section('Left out', tuple(
      report.Line(name, 'missing', '', f'pip install {package}')
      for name, package in absent))


def _first(clips, count):
  return dataclasses.replace(
      clips, audio=clips.audio[:count], ids=clips.ids[:count],
      groups=clips.groups[:count])


def _labels(sets):
  """The sets' names, numbered where two are alike."""
  names = [clips.name for clips in sets]
  return [name if names.count(name) == 1 else
          f'{name} {names[:i].count(name) + 1}' for i, name in enumerate(names)]


def run(asked: runnable.Asked) -> runnable.Outcome:
  """`musiclm evaluate codec`."""
  options = asked.options
  if not options.data:
    raise errors.UserError(
        '`musiclm evaluate codec` wants --data DIR: a corpus (`musiclm data '
        'debian_music` makes one of real recordings) or a folder of audio '
        'files.')
  result = evaluate(asked.bundle, options.data, options.clips, asked.say,
                    asked.show, modelability=_modelability(options))
  judged = result.judged
  return runnable.Outcome(
      result.figures, result.sections,
      dict(data=[j.label for j in judged],
           split=[j.clips.split for j in judged]),
      f'The codec of {asked.bundle.identity}',
      f'{sum(len(j.clips) for j in judged)} clips of {codec_clips.SECONDS} s',
      lambda folder: codec_report.draw(folder, judged),
      codec_report.sounds(judged, _LISTEN_CLIPS))


def _modelability(options):
  """How the codes are predicted, or None; UserError of what makes no sense."""
  settings = dict(
      steps=options.modelability_steps, levels=options.modelability_levels)
  for name, value in settings.items():
    if value is None:
      continue
    shown = f'--modelability-{name}'
    if not options.modelability:
      raise errors.UserError(f'{shown} goes with --modelability; add it.')
    if value < 1:
      raise errors.UserError(f'{shown} is {value}; expected at least 1.')
  if not options.modelability:
    return None
  return modelability_lib.Config(seed=options.seed, **{
      name: value for name, value in settings.items() if value is not None})
