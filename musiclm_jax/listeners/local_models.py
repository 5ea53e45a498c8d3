"""Networks in local files, each as a function of windows.

  onnx          onnxruntime, on the CPU
  saved_model   TensorFlow: a signature, or the model's own call (TF-Hub's)
  transformers  CLAP, or an audio encoder such as MERT or wav2vec 2.0

Nothing is ever downloaded. The packages are imported when a model is loaded.
"""

from __future__ import annotations

from collections.abc import Mapping
import dataclasses
import hashlib
import importlib
import pathlib
import types
from typing import Any

import numpy as np

from musiclm_jax import errors
from musiclm_jax.listeners import model_settings
from musiclm_jax.listeners import vggish_frontend

_BATCH = 16  # windows of one call, where the network does not fix them
_CLAP_HOP_SECONDS = 1  # ours
_ENCODER_SECONDS = 5  # MERT's own training crops
_INSTALL = {'onnxruntime': 'pip install "musiclm_jax[eval]"',
            'tensorflow': 'pip install "musiclm_jax[train]"'}


class Network:
  """A function of windows.

  Attributes:
    settings: with rate and window filled in.
    digest: of its weights.
    batch: windows that one call takes.
    fixed: whether it takes just so many.
  """

  settings: model_settings.Settings
  digest: str
  batch: int = _BATCH
  fixed: bool = False

  def __call__(self, windows: np.ndarray) -> np.ndarray:
    """[B, N] float32 -> [B, K, D]: K vectors of each window."""
    raise NotImplementedError


def load(path: pathlib.Path, settings: model_settings.Settings) -> Network:
  """The network of a file or folder, by `settings.format`.

  Raises:
    UserError: a package is missing, the file is damaged, or the settings do not
      fit it.
  """
  made = {'onnx': _Onnx, 'saved_model': _SavedModel,
          'transformers': _transformers}[settings.format]
  network = made(path, settings)
  for name in ('sample_rate_hz', 'window_samples', 'hop_samples'):
    if not getattr(network.settings, name):
      raise errors.UserError(
          f'{path} does not say its {name}; write it into '
          f'{model_settings.FILE} beside the model, with those of '
          f'sample_rate_hz, window_samples and hop_samples that are missing.')
  return network


class _Graph(Network):
  """What ONNX graphs and SavedModels have in common.

  `_dimensions` are those of the audio input, None where the network leaves one
  open.
  """

  def _prepare(self, path, settings, dimensions):
    self._path, self.settings = path, settings
    rank = len(dimensions)
    kind = settings.input
    if kind == 'auto':
      kind = 'log_mel' if rank > 2 else 'waveform'
    if (rank > 2) != (kind == 'log_mel') or not 1 <= rank <= 4:
      raise errors.UserError(
          f'{path} takes {rank} dimensions, which is no {kind}; expected 1 or '
          f'2 for a waveform, 3 or 4 for log_mel.')
    self._rank = rank
    if rank == 1:  # one clip at a time: its [N] has no place for others
      self.batch = 1
    elif dimensions[0]:
      self.batch, self.fixed = int(dimensions[0]), True
    self.settings = dataclasses.replace(settings, input=kind)

  def _inputs(self, windows):
    """[B, N] -> what the graph takes."""
    if self.settings.input == 'log_mel':
      mels = vggish_frontend.examples(windows)
      if mels.shape[1] != 1:
        raise errors.UserError(
            f'window_samples {windows.shape[1]} hold {mels.shape[1]} examples '
            f'of VGGish; expected one, such as 16000.')
      mels = mels[:, 0]
      return mels if self._rank == 3 else mels[..., None]
    return windows[0] if self._rank == 1 else windows

  def __call__(self, windows):
    made = np.asarray(self._run(self._inputs(windows)), np.float32)
    count = len(windows)
    if self._rank == 1:
      made = made[None]
    if made.ndim < 2 or made.shape[0] != count or not made.size:
      raise errors.UserError(
          f'{self._path} gave an output of shape {made.shape} for {count} '
          f'windows; expected a vector, or several, for each.')
    return made.reshape(count, -1, made.shape[-1]) if made.ndim > 2 else (
        made[:, None])

  def _run(self, inputs):
    raise NotImplementedError


class _Onnx(_Graph):
  """An ONNX graph."""

  def __init__(self, path, settings):
    errors.check_input(path, 'the embedder')
    self._session = onnx_session(path)
    self.digest = digest_of(path)
    inputs = {i.name: i for i in self._session.get_inputs()}
    name = _audio_input(path, settings, inputs)
    self._name = name
    types_ = {'tensor(float)': np.float32, 'tensor(double)': np.float64,
              'tensor(int64)': np.int64, 'tensor(int32)': np.int32}
    self._others = {
        n: np.full([d if isinstance(d, int) else 1 for d in inputs[n].shape],
                   v, types_.get(inputs[n].type, np.float32))
        for n, v in settings.arguments.items() if n in inputs}
    self._type = types_.get(inputs[name].type, np.float32)
    outputs = [o.name for o in self._session.get_outputs()]
    self._output = _chosen(path, settings.output, outputs)
    self._prepare(path, settings, [
        d if isinstance(d, int) else None for d in inputs[name].shape])

  def _run(self, inputs):
    return self._session.run(
        [self._output],
        {self._name: inputs.astype(self._type), **self._others})[0]


class _SavedModel(_Graph):
  """A TensorFlow SavedModel."""

  def __init__(self, path, settings):
    tf = self._tf = _package('tensorflow', path)
    self._model = saved_model(path)
    self.digest = digest_of(path)
    known = list(self._model.signatures)
    wanted = settings.signature or (
        'serving_default' if 'serving_default' in known else '')
    if wanted and wanted not in known:
      raise errors.choice(f'signature of {path}', wanted, known)
    if not wanted and not callable(self._model):
      raise errors.UserError(
          f'{path} cannot be called, and has the signatures '
          f'{", ".join(known) or "none"}; name one as "signature".')
    self._output = settings.output
    self._name, self._arguments = '', dict(settings.arguments)
    if wanted:
      self._call = self._model.signatures[wanted]
      specs = self._call.structured_input_signature[1]
      self._name = _audio_input(path, settings, specs)
      self._arguments = {k: tf.cast(v, specs[k].dtype) for k, v
                         in settings.arguments.items() if k in specs}
      dimensions = specs[self._name].shape
    else:
      self._call = self._model
      self._name = settings.input_name
      dimensions = [None] * settings.input_dimensions
    self._prepare(path, settings, list(dimensions))

  def _run(self, inputs):
    audio = self._tf.constant(inputs)
    try:
      made = (self._call(**{self._name: audio}, **self._arguments)
              if self._name else self._call(audio, **self._arguments))
    except (TypeError, ValueError) as error:
      raise errors.UserError(
          f'{self._path} does not take such an input ({_line(error)}); see '
          f'input_name, input_dimensions and arguments of '
          f'{model_settings.FILE}.') from error
    if isinstance(made, Mapping):
      made = made[_chosen(self._path, self._output, list(made))]
    return made.numpy()


def _transformers(path, settings):
  from musiclm_jax.tokenizers.adapters import hub  # pylint: disable=g-import-not-at-top
  from musiclm_jax.tokenizers.adapters import joint  # pylint: disable=g-import-not-at-top
  from musiclm_jax.tokenizers.adapters import semantic  # pylint: disable=g-import-not-at-top
  kind = hub.model_type(path, {**joint.MODELS, **semantic.MODELS},
                        'an embedder')
  made = _Clap if kind in joint.MODELS else _Encoder
  return made(path, settings)


class _Clap(Network):
  """The audio tower of a CLAP; embeddings have unit length."""

  def __init__(self, path, settings):
    from musiclm_jax.tokenizers.adapters import hub  # pylint: disable=g-import-not-at-top
    from musiclm_jax.tokenizers.adapters import joint  # pylint: disable=g-import-not-at-top
    from musiclm_jax.tokenizers.adapters import options  # pylint: disable=g-import-not-at-top
    about = hub.read_json(path / 'preprocessor_config.json') if (
        path / 'preprocessor_config.json').is_file() else {}
    rate = about.get('sampling_rate', 48_000)
    self._model = joint.JointEmbedder(
        options.JointOptions(str(path)), audio_rate_hz=rate)
    spec = self._model.spec
    window = spec.window_seconds * spec.sample_rate_hz
    self.settings = _filled(
        settings, spec.sample_rate_hz, window,
        _CLAP_HOP_SECONDS * spec.sample_rate_hz)
    if self.settings.window_samples != window:
      raise errors.UserError(
          f'{path} hears windows of {window} samples, not of '
          f'{self.settings.window_samples}.')
    self.batch, self.digest = 8, hub.fingerprint(path)

  def __call__(self, windows):
    return self._model.embed_audio_windows(windows)


class _Encoder(Network):
  """One block of an audio encoder; a vector a frame."""

  def __init__(self, path, settings):
    from musiclm_jax.tokenizers.adapters import hub  # pylint: disable=g-import-not-at-top
    from musiclm_jax.tokenizers.adapters import options  # pylint: disable=g-import-not-at-top
    from musiclm_jax.tokenizers.adapters import semantic  # pylint: disable=g-import-not-at-top
    extractor, config = (
        hub.read_json(path / name) if (path / name).is_file() else {}
        for name in ('preprocessor_config.json', 'config.json'))
    rate = extractor.get('sampling_rate', 16_000)
    layers = config.get('num_hidden_layers', 0)
    layer = settings.layer or layers
    if not 1 <= layer <= layers:
      raise errors.UserError(
          f'layer of an embedder is {layer}, but {path} has {layers}.')
    self._model = semantic.SemanticTokenizer(
        options.SemanticOptions(str(path), layer=layer), audio_rate_hz=rate)
    window = _ENCODER_SECONDS * rate
    self.settings = dataclasses.replace(
        _filled(settings, rate, window, window), layer=layer)
    self.batch, self.digest = 4, hub.fingerprint(path)

  def __call__(self, windows):
    return self._model.features(windows)


def _filled(settings, rate, window, hop):
  """Settings with the checkpoint's own values where none are given."""
  if settings.sample_rate_hz not in (0, rate):
    raise errors.UserError(
        f'sample_rate_hz is {settings.sample_rate_hz}, but the checkpoint hears '
        f'{rate} Hz.')
  return dataclasses.replace(
      settings, sample_rate_hz=rate, input='waveform',
      window_samples=settings.window_samples or window,
      hop_samples=settings.hop_samples or settings.window_samples or hop)


def _audio_input(path, settings, inputs: Mapping[str, Any]) -> str:
  """The name of the input that takes the audio."""
  rest = [name for name in inputs if name not in settings.arguments]
  return _chosen(path, settings.input_name, rest, 'input_name')


def _chosen(path, wanted, names, setting='output'):
  if wanted and wanted not in names:
    raise errors.choice(f'{setting} of {path}', wanted, names)
  if not wanted and len(names) != 1:
    raise errors.UserError(
        f'{path} has {len(names)} to choose from ({", ".join(names)}); name one '
        f'as "{setting}" in {model_settings.FILE}.')
  return wanted or names[0]


def onnx_session(path: pathlib.Path) -> Any:
  """An onnxruntime.InferenceSession of a file, on the CPU.

  Raises:
    UserError: onnxruntime is not installed, or does not read the file.
  """
  runtime = _package('onnxruntime', path)
  try:
    return runtime.InferenceSession(
        str(path), providers=['CPUExecutionProvider'])
  except Exception as error:  # its errors share no class but this
    raise errors.UserError(
        f'{path} holds no model to listen with: it is no ONNX model that '
        f'onnxruntime loads ({_line(error)}).') from error


def saved_model(path: pathlib.Path) -> Any:
  """What TensorFlow loads from a SavedModel's folder.

  Raises:
    UserError: TensorFlow is not installed, or does not read the folder.
  """
  tf = _package('tensorflow', path)
  try:
    return tf.saved_model.load(str(path))
  except (OSError, ValueError, RuntimeError) as error:
    raise errors.UserError(
        f'{path} is no SavedModel that TensorFlow loads '
        f'({_line(error)}).') from error


def digest_of(path: pathlib.Path) -> str:
  """16 hex digits of a file, or of a SavedModel's graph and variables."""
  files = [path] if path.is_file() else sorted(
      [path / 'saved_model.pb', *(path / 'variables').glob('*')])
  digest = hashlib.sha256()
  for file in files:
    with errors.of_files(file), open(file, 'rb') as opened:
      digest.update(hashlib.file_digest(opened, 'sha256').digest())
  return digest.hexdigest()[:16]


def _package(name: str, path: pathlib.Path) -> types.ModuleType:
  try:
    return importlib.import_module(name)
  except ImportError as error:
    raise errors.UserError(
        f'{path} needs {name}, which is not installed; run '
        f'`{_INSTALL[name]}`.') from error


def _line(error):
  return next(iter(str(error).strip().splitlines()), type(error).__name__)
