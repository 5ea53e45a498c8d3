"""The codec's evaluation to look at and to listen to."""

from collections.abc import Sequence
import importlib.util
import pathlib

from musiclm_jax.evaluation import codec_clips
from musiclm_jax.evaluation import codec_sections
from musiclm_jax.evaluation import pictures
from musiclm_jax.metrics import retrieval

_AXES = dict(visqol='ViSQOL (1 to 5)', zimtohrli='Zimtohrli (1 to 5)',
             si_sdr='SI-SDR in dB', mel_distance='log-mel distance in dB',
             roughness='roughness added in dB')


def draw(
    folder: str | pathlib.Path,
    judged: Sequence[codec_sections.Judged]) -> list[tuple[str, pathlib.Path]]:
  """Writes a PNG a set; returns [(caption, path)], [] without matplotlib."""
  if importlib.util.find_spec('matplotlib') is None:
    return []
  made = []
  for number, one in enumerate(judged, 1):
    metrics = list(one.copies[0].scores)
    figure, axes = pictures.panels(1, len(metrics), 3.6 * len(metrics), 3.2)
    for axis, metric in zip(axes[0], metrics):
      for copies, name in ((one.ours, 'this codec'), (one.opus, 'Opus')):
        if copies:
          _curve(axis, copies, metric, name)
      axis.set(xlabel='kbps', title=_AXES[metric], xscale='log')
      axis.set_xticks([0.5, 1.5, 3, 6, 12, 24],
                      ['0.5', '1.5', '3', '6', '12', '24'])
      axis.minorticks_off()
    axes[0][0].legend()
    path = pictures.save(figure, pathlib.Path(folder) / f'codec_{number}.png')
    made.append((f'{one.label}: means and 95 % intervals over '
                 f'{len(one.clips)} clips, by bitrate.', path))
  return made


def _curve(axis, copies, metric, name):
  """Means with their intervals over the bitrate taken."""
  means = [copy.scores[metric].mean() for copy in copies]
  edges = [retrieval.bootstrap_interval(copy.scores[metric]) for copy in copies]
  axis.errorbar(
      [copy.taken_kbps for copy in copies], means,
      yerr=[[m - low for m, (low, _) in zip(means, edges)],
            [high - m for m, (_, high) in zip(means, edges)]],
      marker='o', capsize=3, label=name)


def sounds(judged: Sequence[codec_sections.Judged], count: int) -> list:
  """Rows of the first `count` clips of each set for `report.write`."""
  rows = []
  for one in judged:
    for i in range(min(count, len(one.clips))):
      players = [('recording', one.clips.audio[i])] + [
          (codec_sections.title(copy), copy.audio[i]) for copy in one.copies]
      rate = round(one.clips.audio.shape[1] / codec_clips.SECONDS)
      rows.append((f'{one.label}: {one.clips.ids[i]}',
                   [(title, audio, rate) for title, audio in players]))
  return rows
