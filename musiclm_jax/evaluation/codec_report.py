"""The codec's evaluation to look at and to listen to."""

import importlib.util
import pathlib

from musiclm_jax import figures as figures_lib
from musiclm_jax.evaluation import codec
from musiclm_jax.evaluation import codec_clips
from musiclm_jax.evaluation import report
from musiclm_jax.metrics import retrieval

_AXES = dict(visqol='ViSQOL (1 to 5)', zimtohrli='Zimtohrli (1 to 5)',
             si_sdr='SI-SDR in dB', mel_distance='log-mel distance in dB')


def draw(folder, judged):
  """Writes a PNG a set; returns [(caption, path)], [] without matplotlib."""
  if importlib.util.find_spec('matplotlib') is None:
    return []
  import matplotlib  # pylint: disable=g-import-not-at-top
  matplotlib.use('Agg')
  from matplotlib import pyplot  # pylint: disable=g-import-not-at-top
  made = []
  for number, one in enumerate(judged, 1):
    metrics = list(one.copies[0].scores)
    figure, axes = pyplot.subplots(
        1, len(metrics), figsize=(3.6 * len(metrics), 3.2), squeeze=False,
        layout='constrained')
    for axis, metric in zip(axes[0], metrics):
      for copies, name in ((one.ours, 'this codec'), (one.opus, 'Opus')):
        if copies:
          _curve(axis, copies, metric, name)
      axis.set(xlabel='kbps', title=_AXES[metric], xscale='log')
      axis.set_xticks([0.5, 1.5, 3, 6, 12, 24],
                      ['0.5', '1.5', '3', '6', '12', '24'])
      axis.minorticks_off()
    axes[0][0].legend()
    path = pathlib.Path(folder) / f'codec_{number}.png'
    temporary = path.with_name(f'.{path.name}')
    figure.savefig(temporary, dpi=80, format='png')
    pyplot.close(figure)
    temporary.replace(path)
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


def write(path, bundle, result, drawn, listen):
  """The page with figures, pictures and the first clips of each set."""
  context = figures_lib.context()
  sounds = []
  for one in result.judged:
    for i in range(min(listen, len(one.clips))):
      row = [('recording', one.clips.audio[i])] + [
          (codec.title(copy), copy.audio[i]) for copy in one.copies]
      rate = round(one.clips.audio.shape[1] / codec_clips.SECONDS)
      sounds.append((f'{one.label}: {one.clips.ids[i]}',
                     [(title, audio, rate) for title, audio in row]))
  report.write(
      path, f'The codec of {bundle.identity}', result.sections, drawn, sounds,
      [f'{sum(len(j.clips) for j in result.judged)} clips of '
       f'{codec_clips.SECONDS} s; {result.figures["wall_seconds"]:.0f} s on '
       f'{context["machine"]}; jax {context["version_jax"]}, commit '
       f'{context["git_commit"][:7]}'])
