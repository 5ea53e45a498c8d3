"""What an embedder of other people's weights is told: `embedder.json`.

  {"model": "vggish.onnx", "sample_rate_hz": 16000, "window_samples": 16000,
   "hop_samples": 8000, "input": "log_mel", "output": "embedding"}

It lies in the model's folder, or beside a single file as NAME.json. A name that
is known here (`vggish`, `trill`, `clap`, `mert`) gives what the file does not.
"""

from __future__ import annotations

from collections.abc import Mapping
import dataclasses
import json
import pathlib
from typing import Any

from musiclm_jax import errors

FILE = 'embedder.json'
FORMATS = ('onnx', 'saved_model', 'transformers')
INPUTS = ('auto', 'waveform', 'log_mel')
FRAMES = ('windows', 'model')
POOLS = ('mean', 'none')


@dataclasses.dataclass(frozen=True)
class Settings:
  """How a network is asked.

  Attributes:
    sample_rate_hz: of the audio that it wants.
    window_samples: that one embedding is of.
    hop_samples: from one window to the next.
    frames: 'windows': we cut them, and call the network with several; 'model':
      it is given the whole clip and cuts by itself, as the two above say.
    peak: whether a clip is divided by its largest sample, or by 0.1 where that
      is smaller, as the official FAD code does.
    input: 'waveform', or 'log_mel' for VGGish's examples; 'auto' goes by the
      number of dimensions that the network declares.
    pool: of several vectors for one window, 'mean' or 'none': each counts.
    model: file or folder of the network, within the folder of the settings.
    format: 'onnx', 'saved_model' or 'transformers'; '' goes by the files.
    input_name: of the network's audio; '': its only one.
    output: of the network that is taken; '': its only one.
    arguments: {name: number} of other inputs.
    signature: of a SavedModel; '': 'serving_default', or the model's own call.
    input_dimensions: of a SavedModel without signature: 1 [N], 2 [B, N].
    layer: block of a `transformers` encoder; 0: the last one.
  """

  sample_rate_hz: int = 0
  window_samples: int = 0
  hop_samples: int = 0
  frames: str = 'windows'
  peak: bool = False
  input: str = 'auto'
  pool: str = 'mean'
  model: str = ''
  format: str = ''
  input_name: str = ''
  output: str = ''
  arguments: Mapping[str, float] = dataclasses.field(default_factory=dict)
  signature: str = ''
  input_dimensions: int = 1
  layer: int = 0

  def __post_init__(self):
    for name, known in (('frames', FRAMES), ('input', INPUTS),
                        ('pool', POOLS), ('format', ('', *FORMATS))):
      if getattr(self, name) not in known:
        raise errors.choice(f'{name} of an embedder', getattr(self, name),
                            filter(None, known))
    for name in ('sample_rate_hz', 'window_samples', 'hop_samples', 'layer'):
      if getattr(self, name) < 0:
        raise errors.UserError(
            f'{name} of an embedder is {getattr(self, name)}; expected a whole '
            f'number of 0 and more.')

  def about(self) -> dict[str, Any]:
    """What decides the embeddings, besides the weights."""
    kept = dataclasses.asdict(self)
    kept.pop('model')  # where it lies changes nothing
    return {k: v for k, v in kept.items() if v not in ('', {}, None)}


# Values of the sources that are named; those marked `ours` are choices.
PRESETS = {
    # The official FAD code: seconds that overlap by half, one example of 0.96 s
    # out of each.
    'vggish': Settings(
        sample_rate_hz=16_000, window_samples=16_000, hop_samples=8_000,
        peak=True),
    # Shor et al. (2020): it cuts by itself, 0.96 s of context about every sixth
    # of a second.
    'trill': Settings(
        sample_rate_hz=16_000, window_samples=15_360, hop_samples=2_672,
        frames='model', output='embedding',
        arguments={'sample_rate': 16_000}),
    # Rate and window are the checkpoint's; the hop of a second is ours.
    'clap': Settings(format='transformers'),
    # Li et al. (2023) trained on 5 s; the mean over each window's frames is
    # ours: 75 vectors a second are nearly copies of one another.
    'mert': Settings(format='transformers'),
}


def read(path: pathlib.Path, name: str = '') -> tuple[Settings, pathlib.Path]:
  """The settings of a model's file or folder, and where the network is.

  Args:
    path: an .onnx file, a SavedModel's folder, a `transformers` folder, or a
      folder with `embedder.json`.
    name: of PRESETS, for what the file does not say.

  Raises:
    UserError: no such path, JSON that is not settings, or no network there.
  """
  if not path.exists():
    raise errors.UserError(
        f'the embedder {path} does not exist; expected an .onnx file or the '
        f'folder of a SavedModel or of a transformers checkpoint.')
  file = path / FILE if path.is_dir() else path.with_suffix('.json')
  values = dataclasses.asdict(PRESETS.get(name, Settings()))
  if file.is_file():
    values.update(_values(file))
  settings = Settings(**values)
  network = (path / settings.model if path.is_dir() and settings.model
             else path)
  if not network.exists():
    raise errors.UserError(
        f'{file} names the model {settings.model}, which is not there.')
  network = _single(network)
  found = settings.format or _format(network)
  return dataclasses.replace(settings, format=found), network


def _values(file):
  """The JSON of a file, checked against the fields."""
  try:
    found = json.loads(file.read_text(encoding='utf-8'))
  except (OSError, ValueError) as error:
    raise errors.UserError(f'{file} is not JSON ({error}).') from error
  if not isinstance(found, dict):
    raise errors.UserError(
        f'{file} holds {errors.kind(found)}; expected an object.')
  fields = {f.name: f for f in dataclasses.fields(Settings)}
  for key, value in found.items():
    if key not in fields:
      raise errors.choice(f'setting in {file}', key, fields)
    wanted = {'int': int, 'str': str, 'bool': bool}.get(
        fields[key].type, dict)
    if type(value) is not wanted:
      raise errors.UserError(
          f'{file} says {key} is {errors.kind(value)}; expected '
          f'{errors.kind(wanted())}.')
  return found


def _single(path):
  """The network's own file where its folder has one .onnx file only."""
  files = sorted(path.glob('*.onnx')) if path.is_dir() else []
  return files[0] if len(files) == 1 else path


def _format(path):
  if path.suffix == '.onnx':
    return 'onnx'
  if (path / 'saved_model.pb').is_file():
    return 'saved_model'
  if (path / 'config.json').is_file():
    return 'transformers'
  raise errors.UserError(
      f'{path} is no model that is known: expected one .onnx file, '
      f'saved_model.pb or config.json; {FILE} may name it.')
