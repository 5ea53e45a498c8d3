"""Metrics on disk: metrics.csv for people, events for TensorBoard."""

from collections.abc import Mapping
import csv
import pathlib

from musiclm_jax import files
from musiclm_jax.training import previews

_FIXED = ['step', 'split']


class MetricsWriter:
  """Appends to `metrics.csv` and to TensorBoard events in `tensorboard/`.

  A resumed run drops the rows after the step it resumes from, so that no step
  stands twice. A metric that appears later adds a column.
  """

  def __init__(self, model_dir: str | pathlib.Path, start_step: int = 0,
               writes: bool = True):
    """Reads what there is.

    Args:
      model_dir: of the run.
      start_step: rows after it are dropped.
      writes: False keeps rows in memory alone: another host writes them.
    """
    self._writes = writes
    self._board = None
    self._path = pathlib.Path(model_dir) / 'metrics.csv'
    found = read(model_dir)
    self._rows = [r for r in found if int(r['step']) <= start_step]
    again = start_step or len(found) > len(self._rows)
    self._columns = list(_FIXED)
    for row in self._rows:
      self._columns += [k for k in row if k not in self._columns]
    if not writes:
      return
    self._rewrite()
    # Imported late: it costs most of a second.
    import tensorboardX  # pylint: disable=g-import-not-at-top
    self._board = tensorboardX.SummaryWriter(
        str(pathlib.Path(model_dir) / 'tensorboard'),
        purge_step=start_step + 1 if again else None)

  def __enter__(self):
    return self

  def __exit__(self, *unused):
    if self._board is not None:
      self._board.close()

  def write(
      self, step: int, split: str, metrics: Mapping[str, float]) -> None:
    """One row. `split` is 'train' or 'eval'; `metrics` maps names to floats."""
    row = dict(step=str(step), split=split,
               **{k: f'{v:.8g}' for k, v in metrics.items()})
    self._rows.append(row)
    if not self._writes:
      return
    new = [k for k in row if k not in self._columns]
    if new:
      self._columns += new
      self._rewrite()
    else:
      with open(self._path, 'a', encoding='utf-8', newline='') as out:
        csv.DictWriter(out, self._columns, restval='').writerow(row)
    for name, value in metrics.items():
      self._board.add_scalar(f'{split}/{name}', value, step)
    self._board.flush()

  def rows(self, split: str) -> list[dict[str, float]]:
    """[{metric: float}] of `split`, earlier starts included, oldest first."""
    return [{k: float(v) for k, v in row.items() if k not in _FIXED}
            for row in self._rows if row['split'] == split]

  def say(self, step: int, name: str, text: str) -> None:
    """A line of text for TensorBoard."""
    if self._board is None:
      return
    self._board.add_text(name, text, step)
    self._board.flush()

  def show(
      self, step: int,
      shown: Mapping[str, previews.Audio | previews.Image]) -> None:
    """Sounds and pictures for TensorBoard: {name: Audio or Image}."""
    for name, value in shown.items():
      if isinstance(value, previews.Audio):
        self._board.add_audio(
            f'preview/{name}', value.samples.clip(-1.0, 1.0), step,
            value.sample_rate_hz)
      else:
        self._board.add_image(
            f'preview/{name}', value.pixels, step, dataformats='HWC')
    self._board.flush()

  def _rewrite(self):
    with files.whole(self._path) as temporary:
      with open(temporary, 'w', encoding='utf-8', newline='') as out:
        writer = csv.DictWriter(out, self._columns, restval='')
        writer.writeheader()
        writer.writerows(self._rows)


def read(model_dir: str | pathlib.Path,
         split: str | None = None) -> list[dict[str, str]]:
  """The rows of `metrics.csv` as dicts of strings, without the empty cells."""
  path = pathlib.Path(model_dir) / 'metrics.csv'
  if not path.is_file():
    return []
  with open(path, encoding='utf-8', newline='') as lines:
    rows = [{k: v for k, v in row.items() if k and v}
            for row in csv.DictReader(lines)]
  # A row cut short by a kill has no split or no step.
  rows = [r for r in rows if r.get('step', '').isdigit() and 'split' in r]
  return [r for r in rows if split is None or r['split'] == split]


def last(model_dir: str | pathlib.Path, split: str) -> dict[str, float]:
  """The newest metrics of `split` as floats; {} if there are none."""
  rows = read(model_dir, split)
  if not rows:
    return {}
  return {k: float(v) for k, v in rows[-1].items() if k not in _FIXED}
