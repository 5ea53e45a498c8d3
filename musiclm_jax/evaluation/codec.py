"""The codec against the original and against Opus, by bitrate.

  clips --encode--> 12 levels --decode the first 1, 3, 4 ...--> copies
        --Opus at 6, 12, 24 kbps----------------------------> copies
  copies --> ViSQOL, Zimtohrli, SI-SDR, log-mel distance, roughness; codes -->
             how many of the bits carry information

Each mean stands with its 95 % bootstrap interval over the clips. What a missing
package would give is named and left out.
"""

import dataclasses
import importlib.util
import re

import numpy as np

from musiclm_jax import errors
from musiclm_jax.codecs import losses
from musiclm_jax.evaluation import codec_clips
from musiclm_jax.evaluation import codec_modelability
from musiclm_jax.evaluation import ladder
from musiclm_jax.evaluation import report
from musiclm_jax.evaluation import streams
from musiclm_jax.metrics import code_use
from musiclm_jax.metrics import codec_quality
from musiclm_jax.metrics import opus
from musiclm_jax.metrics import retrieval
from musiclm_jax.metrics import roughness

KBPS = (0.5, 1.5, 2.0, 3.0, 6.0)  # of MusicLM's coarse levels: 2
OPUS_KBPS = (6, 12, 24)
# ours: codes to count, more clips than are judged; 60 x 8 s are 24,000 frames.
POOL_CLIPS = 60
_BATCH = 4
METRICS = ('visqol', 'zimtohrli', 'si_sdr', 'mel_distance', 'roughness')
_TITLES = dict(codec_quality.TITLES, si_sdr='SI-SDR', mel_distance='mel',
               roughness='roughness added')
_UNITS = dict(visqol='', zimtohrli='', si_sdr=' dB', mel_distance=' dB',
              roughness=' dB')
_DIGITS = dict(visqol=2, zimtohrli=2, si_sdr=1, mel_distance=1, roughness=1)


@dataclasses.dataclass(frozen=True)
class Copy:
  """All clips of one set through one coding.

  Attributes:
    name: of the coding, as figures have it: '6kbps', 'opus12'.
    kbps: what it is asked to take.
    taken_kbps: what it took, mean over the clips.
    audio: [n, N] float32.
    scores: {metric: [n]}, of METRICS.
  """

  name: str
  kbps: float
  taken_kbps: float
  audio: np.ndarray
  scores: dict


@dataclasses.dataclass(frozen=True)
class Judged:
  """One set of clips, judged.

  Attributes:
    label: its name, unlike that of any other set.
    clips: codec_clips.Clips.
    ours: Copies by bitrate.
    opus: Copies; empty without ffmpeg.
    pool: number of clips whose codes were counted.
    codes: as `code_use.usage_and_efficiency` returns it.
  """

  label: str
  clips: codec_clips.Clips
  ours: list
  opus: list
  pool: int
  codes: dict

  @property
  def copies(self):
    return self.ours + self.opus


@dataclasses.dataclass
class Evaluation:
  """What came out: flat figures, report.Sections, one Judged a set."""

  figures: dict
  sections: list
  judged: list


def levels_of(kbps, spec):
  """Levels of a codec that make up a bitrate.

  50 frames a second x 10 bits are 0.5 kbps a level:

  >>> from musiclm_jax import specs
  >>> [levels_of(kbps, specs.CodecSpec()) for kbps in KBPS]
  [1, 3, 4, 6, 12]
  """
  bits = spec.frame_rate_hz * np.log2(spec.codebook_size)
  return int(np.clip(round(kbps * 1000 / bits), 1, spec.num_codebooks))


def evaluate(bundle, data, clips=12, say=None, show=None, pool=POOL_CLIPS,
             seconds=codec_clips.SECONDS, modelability=None):
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
    prefix = f'{_identifier(label)}_' if len(sets) > 1 else ''
    add(*_quality(judged, prefix))
    add(*_codes(judged, codec.spec, prefix))
    if len(set(judged.clips.groups)) > 1:
      add(*_groups(judged, prefix))
    if modelability:
      add(*codec_modelability.section(
          label, codec_modelability.measure(codec, place, modelability, say),
          modelability, prefix))
  if len(sets) > 1:
    result.figures.update(_together(result.judged, codec.spec))
  return result


def _judge(codec, label, every, count, say):
  """All codings of one set, scored."""
  spec, clips = codec.spec, _first(every, count)
  codes = streams.by_batch(codec.encode, every.audio, _BATCH)
  size = clips.audio.shape[1]
  copies = []
  for kbps in KBPS:
    levels = levels_of(kbps, spec)
    audio = streams.by_batch(
        codec.decode, codes[:len(clips), :, :levels], _BATCH)[:, :size]
    taken = (levels * spec.frame_rate_hz * np.log2(spec.codebook_size)) / 1000
    copies.append((f'{_number(kbps)}kbps', kbps, taken, audio))
  if opus.available():
    say(f'{label}: Opus')
    for kbps in OPUS_KBPS:
      made = [opus.round_trip(clip, spec.sample_rate_hz, kbps)
              for clip in clips.audio]
      copies.append((f'opus{kbps}', kbps, np.mean([t for _, t in made]),
                     np.stack([audio for audio, _ in made])))
  scores = _scores(clips.audio, [audio for *_, audio in copies],
                   spec.sample_rate_hz, label, say)
  made = [Copy(*copy, each) for copy, each in zip(copies, scores)]
  use = code_use.usage_and_efficiency(
      codes, spec.codebook_size, sorted({levels_of(k, spec) for k in KBPS}))
  return Judged(label, clips, made[:len(KBPS)], made[len(KBPS):], len(every),
                use)


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
  return [{m: scores[m] for m in METRICS if m in scores} for scores in result]


def figure_name(metric, copy):
  """`visqol_6kbps`, `si_sdr_0_5kbps`, `opus12_visqol`."""
  if copy.name.startswith('opus'):
    return f'{copy.name}_{metric}'
  return f'{metric}_{copy.name}'


def _quality(judged, prefix):
  """Every metric by bitrate, with Opus below."""
  figures, lines = {f'{prefix}clips': len(judged.clips)}, []
  for metric in judged.copies[0].scores:
    for copy in judged.copies:
      value, low, high = _mean(copy.scores[metric])
      name = prefix + figure_name(metric, copy)
      figures.update({name: value, f'{name}_low': low, f'{name}_high': high})
      lines.append(report.Line(
          f'{_TITLES[metric]}, {title(copy)}', _shown(metric, value),
          f'{_shown(metric, low)} to {_shown(metric, high)}'))
  for copy in judged.opus:
    figures[f'{prefix}{copy.name}_kbps'] = float(copy.taken_kbps)
  return report.Section(
      f'{judged.label}, {judged.clips.split}: {len(judged.clips)} clips, mean '
      f'and 95 % interval', tuple(lines), _verdict(judged)), figures


def _verdict(judged):
  """Our best bitrate beside Opus, clip by clip."""
  best = judged.ours[-1]
  for metric in ('visqol', 'zimtohrli'):
    if metric in best.scores and judged.opus:
      parts = []
      for copy in judged.opus:
        value, low, high = _mean(best.scores[metric] - copy.scores[metric])
        parts.append(f'{value:+.2f} ({low:+.2f} to {high:+.2f}) against '
                     f'{title(copy)}')
      return (f'{_TITLES[metric]} at {_number(best.kbps, ".")} kbps, clip by '
              f'clip: {"; ".join(parts)}')
  return ''


def _codes(judged, spec, prefix):
  """Usage and entropy by level, and by bitrate."""
  use = judged.codes
  bits = np.log2(spec.codebook_size)
  figures = {f'{prefix}codes_clips': judged.pool}
  for level, (used, share) in enumerate(
      zip(use['usage'], use['efficiency']), 1):
    figures[f'{prefix}usage_level{level}'] = float(used)
    figures[f'{prefix}bitrate_efficiency_level{level}'] = float(share)
  lines = []
  for copy in judged.ours:
    value, low, high = use['mean'][levels_of(copy.kbps, spec)]
    name = f'{prefix}bitrate_efficiency_{copy.name}'
    figures.update({name: value, f'{name}_low': low, f'{name}_high': high})
    lines.append(report.Line(
        f'efficiency at {_number(copy.kbps, ".")} kbps', f'{value:.1%}',
        f'{low:.1%} to {high:.1%}'))
  shown = lambda values: ' '.join(f'{v:.0%}' for v in values)
  lines.append(report.Line('by level', '', shown(use['efficiency'])))
  lines.append(report.Line('codes in use', f'{use["usage"].mean():.0%}',
                           shown(use['usage']), 'by level'))
  return report.Section(
      f'{judged.label}: entropy of the codes over {bits:g} bits, '
      f'{judged.pool} clips', tuple(lines)), figures


def _groups(judged, prefix):
  """The best bitrate by package, family or folder."""
  figures, lines = {}, []
  groups = np.array(judged.clips.groups)
  shown = [judged.ours[-1]] + judged.opus
  for group in sorted(set(groups)):
    rows = groups == group
    parts = []
    for metric in judged.ours[-1].scores:
      values = [copy.scores[metric][rows].mean() for copy in shown]
      for copy, value in zip(shown, values):
        name = f'{prefix}{_identifier(group)}_{figure_name(metric, copy)}'
        figures[name] = float(value)
      parts.append(f'{_TITLES[metric]} ' + ' / '.join(
          f'{v:.{_DIGITS[metric]}f}' for v in values) + _UNITS[metric])
    lines.append(report.Line(
        group or 'others', f'{rows.sum()} clips', '; '.join(parts)))
  return report.Section(
      f'{judged.label}: ' + ' / '.join(title(copy) for copy in shown),
      tuple(lines)), figures


def _together(judged, spec):
  """Means over the clips of all sets, under the names without a set's."""
  figures = {'clips': sum(len(j.clips) for j in judged)}
  for index, first in enumerate(judged[0].copies):
    for metric in first.scores:
      name = figure_name(metric, first)
      value, low, high = _mean(np.concatenate(
          [j.copies[index].scores[metric] for j in judged]))
      figures.update({name: value, f'{name}_low': low, f'{name}_high': high})
  for copy in judged[0].ours:
    levels = levels_of(copy.kbps, spec)
    figures[f'bitrate_efficiency_{copy.name}'] = float(np.mean(
        [j.codes['mean'][levels][0] for j in judged]))
  return figures


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


def _mean(values):
  """(mean, low, high)."""
  return (float(np.mean(values)), *retrieval.bootstrap_interval(values))


def _first(clips, count):
  return dataclasses.replace(
      clips, audio=clips.audio[:count], ids=clips.ids[:count],
      groups=clips.groups[:count])


def _labels(sets):
  """The sets' names, numbered where two are alike."""
  names = [clips.name for clips in sets]
  return [name if names.count(name) == 1 else
          f'{name} {names[:i].count(name) + 1}' for i, name in enumerate(names)]


def _identifier(text):
  return re.sub(r'\W+', '_', text).strip('_') or 'others'


def _number(kbps, point='_'):
  """0.5 -> '0_5', 6.0 -> '6'."""
  return f'{kbps:g}'.replace('.', point)


def title(copy):
  """A coding's name for people."""
  if copy.name.startswith('opus'):
    return f'Opus {copy.kbps:g} kbps ({copy.taken_kbps:.1f})'
  return f'{copy.kbps:g} kbps'


def _shown(metric, value):
  return f'{value:.{_DIGITS[metric]}f}{_UNITS[metric]}'
