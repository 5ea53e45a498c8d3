"""A judged codec in figures and sections: what `codec` found, as it is told."""

import dataclasses
import re

import numpy as np

from musiclm_jax import specs
from musiclm_jax.evaluation import codec_clips
from musiclm_jax.evaluation import report
from musiclm_jax.metrics import codec_quality
from musiclm_jax.metrics import retrieval

KBPS = (0.5, 1.5, 2.0, 3.0, 6.0)  # of MusicLM's coarse levels: 2
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
  def copies(self) -> list[Copy]:
    return self.ours + self.opus


def levels_of(kbps: float, spec: specs.CodecSpec) -> int:
  """Levels of a codec that make up a bitrate.

  50 frames a second x 10 bits are 0.5 kbps a level:

  >>> from musiclm_jax import specs
  >>> [levels_of(kbps, specs.CodecSpec()) for kbps in KBPS]
  [1, 3, 4, 6, 12]
  """
  bits = spec.frame_rate_hz * np.log2(spec.codebook_size)
  return int(np.clip(round(kbps * 1000 / bits), 1, spec.num_codebooks))


def figure_name(metric: str, copy: Copy) -> str:
  """`visqol_6kbps`, `si_sdr_0_5kbps`, `opus12_visqol`."""
  if copy.name.startswith('opus'):
    return f'{copy.name}_{metric}'
  return f'{metric}_{copy.name}'


def quality(judged: Judged, prefix: str) -> report.Told:
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
      return (f'{_TITLES[metric]} at {number(best.kbps, ".")} kbps, clip by '
              f'clip: {"; ".join(parts)}')
  return ''


def codes(
    judged: Judged, spec: specs.CodecSpec, prefix: str) -> report.Told:
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
        f'efficiency at {number(copy.kbps, ".")} kbps', f'{value:.1%}',
        f'{low:.1%} to {high:.1%}'))
  shown = lambda values: ' '.join(f'{v:.0%}' for v in values)
  lines.append(report.Line('by level', '', shown(use['efficiency'])))
  lines.append(report.Line('codes in use', f'{use["usage"].mean():.0%}',
                           shown(use['usage']), 'by level'))
  return report.Section(
      f'{judged.label}: entropy of the codes over {bits:g} bits, '
      f'{judged.pool} clips', tuple(lines)), figures


def groups(judged: Judged, prefix: str) -> report.Told:
  """The best bitrate by package, family or folder."""
  figures, lines = {}, []
  names = np.array(judged.clips.groups)
  shown = [judged.ours[-1]] + judged.opus
  for group in sorted(set(names)):
    rows = names == group
    parts = []
    for metric in judged.ours[-1].scores:
      values = [copy.scores[metric][rows].mean() for copy in shown]
      for copy, value in zip(shown, values):
        name = f'{prefix}{identifier(group)}_{figure_name(metric, copy)}'
        figures[name] = float(value)
      parts.append(f'{_TITLES[metric]} ' + ' / '.join(
          f'{v:.{_DIGITS[metric]}f}' for v in values) + _UNITS[metric])
    lines.append(report.Line(
        group or 'others', f'{rows.sum()} clips', '; '.join(parts)))
  return report.Section(
      f'{judged.label}: ' + ' / '.join(title(copy) for copy in shown),
      tuple(lines)), figures


def together(
    judged: list[Judged], spec: specs.CodecSpec) -> dict[str, float]:
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


def _mean(values):
  """(mean, low, high)."""
  return (float(np.mean(values)), *retrieval.bootstrap_interval(values))


def identifier(text: str) -> str:
  """`text` as part of a figure's name."""
  return re.sub(r'\W+', '_', text).strip('_') or 'others'


def number(kbps: float, point: str = '_') -> str:
  """0.5 -> '0_5', 6.0 -> '6'."""
  return f'{kbps:g}'.replace('.', point)


def title(copy: Copy) -> str:
  """A coding's name for people."""
  if copy.name.startswith('opus'):
    return f'Opus {copy.kbps:g} kbps ({copy.taken_kbps:.1f})'
  return f'{copy.kbps:g} kbps'


def _shown(metric, value):
  return f'{value:.{_DIGITS[metric]}f}{_UNITS[metric]}'
