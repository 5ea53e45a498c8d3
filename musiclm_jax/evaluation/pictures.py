"""What the numbers look like: spectrograms, token maps, losses by level."""

from collections.abc import Sequence
import pathlib
from typing import Any

import numpy as np

from musiclm_jax import files
from musiclm_jax.evaluation import held_out
from musiclm_jax.evaluation import ladder as ladder_lib
from musiclm_jax.evaluation import stage_losses

_TITLES = dict(
    real='recording', codec='true A', fine='true A(1..4), fine drawn',
    coarse='true M, S; the rest drawn', all='all drawn, from the caption',
    unguided='the same without guidance')
_SHOWN_CLIPS = 3
_SPREAD_DB = 70.0


def draw(
    folder: str | pathlib.Path, clips: held_out.Clips,
    ladder: ladder_lib.Ladder | None,
    stages: Sequence[stage_losses.StageReport]
) -> list[tuple[str, pathlib.Path]]:
  """Writes the PNGs that there is something for.

  Args:
    folder: where they go; exists.
    clips: held_out.Clips.
    ladder: a ladder.Ladder, or None.
    stages: list of StageReports.

  Returns:
    List of (caption, path), in the order to show them.
  """
  folder = pathlib.Path(folder)
  made = []
  if ladder is not None:
    made.append(('Log-mel spectrograms, one row a rung of the ladder.',
                 _spectrograms(folder / 'spectrograms.png', clips, ladder)))
    made.append(('Token maps of the first clip: time runs right, levels down, '
                 'a colour a code. Below, how often each code is used over all '
                 'clips, most frequent first.',
                 _token_maps(folder / 'tokens.png', ladder)))
  if stages:
    made.append(('Loss on held-out targets beside what guessing costs, by '
                 'level.', _losses(folder / 'losses.png', stages)))
  return made


def panels(
    rows: int, columns: int, width: float,
    height: float) -> tuple[Any, np.ndarray]:
  """(figure, [rows, columns] axes) to draw on, in inches."""
  import matplotlib  # pylint: disable=g-import-not-at-top
  matplotlib.use('Agg')
  from matplotlib import pyplot  # pylint: disable=g-import-not-at-top
  return pyplot.subplots(
      rows, columns, figsize=(width, height), squeeze=False,
      layout='constrained')


def save(figure: Any, path: pathlib.Path) -> pathlib.Path:
  """Writes the figure as PNG under a temporary name; returns `path`."""
  from matplotlib import pyplot  # pylint: disable=g-import-not-at-top
  with files.whole(path) as temporary:
    figure.savefig(temporary, dpi=80, format='png')
  pyplot.close(figure)
  return path


def _spectrograms(path, clips, ladder):
  """Rows: recording and rungs; columns: the first clips."""
  rows = [('real', ladder.real)] + [(n, r.audio)
                                    for n, r in ladder.rungs.items()]
  count = min(_SHOWN_CLIPS, len(ladder.real))
  figure, axes = panels(len(rows), count, 5.2 * count, 1.9 * len(rows))
  for column in range(count):
    images = [ladder_lib.mel_image(audio[column]) for _, audio in rows]
    top = images[0].max()
    for row, ((name, audio), image) in enumerate(zip(rows, images)):
      axis = axes[row, column]
      seconds = audio.shape[1] / ladder_lib.MEL.sample_rate_hz
      axis.imshow(image, origin='lower', aspect='auto', cmap='magma',
                  vmin=top - _SPREAD_DB, vmax=top,
                  extent=(0, seconds, 0, len(image)))
      axis.set_yticks([])
      if not column:
        axis.set_ylabel(_TITLES[name].replace('; ', ';\n'), fontsize=8)
      if not row:
        text = clips.captions[column] or clips.ids[column]
        axis.set_title(text[:80], fontsize=8)
    axes[-1, column].set_xlabel('seconds')
  return save(figure, path)


def _token_maps(path, ladder):
  """Semantic and coarse codes of the first clip, and usage over all clips."""
  shown = [n for n in ('codec', 'coarse', 'all') if n in ladder.rungs]
  figure, axes = panels(3, len(shown), 5.2 * len(shown), 6.0)
  for column, name in enumerate(shown):
    codes = ladder.rungs[name].codes
    axes[0, column].set_title(_TITLES[name], fontsize=9)
    for row, part in enumerate(('semantic', 'coarse')):
      axis = axes[row, column]
      axis.set_yticks([])
      axis.set_ylabel(f'{part} codes')
      if part in codes:
        image = codes[part][0].T
        # Codes have no order: scatter their colours.
        axis.imshow(image * 389 % 1024, aspect='auto', cmap='prism',
                    interpolation='nearest')
    axis = axes[2, column]
    for part in ('semantic', 'coarse', 'fine'):
      if part in codes:
        counts = np.sort(np.bincount(codes[part].reshape(-1)))[::-1]
        counts = counts[counts > 0]
        axis.loglog(np.arange(1, len(counts) + 1), counts / counts.sum(),
                    label=part)
    axis.set_xlabel('code, by rank')
    axis.set_ylabel('share')
    axis.legend(fontsize=7)
  return save(figure, path)


def _losses(path, stages):
  """Bars: loss, shuffled conditions, bigram, unigram, by level."""
  figure, axes = panels(1, len(stages), 4.8 * len(stages), 3.2)
  for axis, stage in zip(axes[0], stages):
    series = [('loss', stage.loss), ('other conditions', stage.loss_shuffled),
              ('bigram', stage.bigram), ('unigram', stage.unigram)]
    series = [(label, value) for label, value in series if value is not None]
    levels = np.arange(len(stage.loss)) + stage.first_level
    width = 0.8 / len(series)
    for i, (label, value) in enumerate(series):
      axis.bar(levels + (i - len(series) / 2 + 0.5) * width, value, width,
               label=label)
    axis.axhline(np.log(1024), color='grey', linewidth=0.8, linestyle=':')
    axis.set_title(f'{stage.name}, nats a token', fontsize=9)
    axis.set_xlabel('level')
    axis.set_xticks(levels)
  axes[0, 0].legend(fontsize=7)
  return save(figure, path)
