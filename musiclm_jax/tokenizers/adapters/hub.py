"""A local checkpoint directory, as `transformers` saves one -> its model."""

import hashlib
import importlib
import json
import pathlib
import types
from typing import Any

from musiclm_jax import errors

INSTALL = '`pip install torch transformers`'
_HASHED = ('*.json', '*.txt', '*.model', '*.safetensors')
# Not used at inference, and absent from some checkpoints.
_NOT_NEEDED = ('masked_spec_embed', 'position_ids')


def package(name: str) -> types.ModuleType:
  """Imports torch or transformers; UserError where that does not work."""
  try:
    return importlib.import_module(name)
  except ImportError as error:
    raise errors.UserError(
        f'other people\'s models need torch and transformers, and '
        f'{error.name or name} is missing; run {INSTALL}.') from error
  except OSError as error:  # a shared library that does not load
    raise errors.UserError(
        f'{name} is installed but does not load ({_line(error)}); run '
        f'{INSTALL} in a fresh environment.') from error


def model_type(directory: str | pathlib.Path, known: Any, option: str) -> str:
  """The `model_type` of a checkpoint, one of `known`; needs no torch.

  Raises:
    UserError: no configuration, or a type that is not known.
  """
  path = pathlib.Path(directory) / 'config.json'
  if not path.is_file():
    raise errors.UserError(
        f'{directory} has no config.json; expected a checkpoint directory as '
        f'transformers saves it (save_pretrained).')
  found = read_json(path).get('model_type')
  if found not in known:
    raise errors.UserError(
        f'{directory} is a model of type {found!r}; {option} knows '
        f'{", ".join(sorted(known))}.')
  return found


def read_json(path: str | pathlib.Path) -> Any:
  """The JSON of a file, or a UserError."""
  try:
    return json.loads(pathlib.Path(path).read_text(encoding='utf-8'))
  except ValueError as error:
    raise errors.UserError(f'{path} is not JSON ({_line(error)}).') from error


def load(directory: str | pathlib.Path, class_name: str) -> Any:
  """The model in evaluation mode, float32, on the GPU where there is one.

  Raises:
    UserError: packages or weights are missing, or weights do not fit.
  """
  torch, transformers = package('torch'), package('transformers')
  folder = pathlib.Path(directory)
  if not list(folder.glob('model*.safetensors')):
    raise errors.UserError(
        f'{folder} has no model.safetensors; pickled weights are never loaded: '
        f'save them again with save_pretrained.')
  transformers.utils.logging.disable_progress_bar()  # a line per checkpoint
  model, info = _build(
      transformers, class_name, folder, use_safetensors=True,
      output_loading_info=True)
  missing = sorted(
      key for key in info['missing_keys']
      if not key.endswith(_NOT_NEEDED))
  if missing:
    raise errors.UserError(
        f'{folder} lacks {len(missing)} weights of {class_name}, {missing[0]} '
        f'for one; it is damaged or a checkpoint of another model.')
  device = 'cuda' if torch.cuda.is_available() else 'cpu'
  return model.float().eval().to(device)


def load_processor(directory: str | pathlib.Path, class_name: str) -> Any:
  """A feature extractor or tokenizer of the directory."""
  return _build(package('transformers'), class_name, pathlib.Path(directory))


def _build(transformers, class_name, folder, **kwargs):
  """`transformers.<class_name>.from_pretrained` of local files only."""
  from safetensors import SafetensorError  # pylint: disable=g-import-not-at-top
  try:
    return getattr(transformers, class_name).from_pretrained(
        str(folder), local_files_only=True, **kwargs)
  except (AttributeError, ImportError, KeyError, OSError, RuntimeError,
          SafetensorError, TypeError, ValueError) as error:
    raise errors.UserError(
        f'{folder} could not be loaded as {class_name} by transformers '
        f'{transformers.__version__}: {_line(error)}') from error


def fingerprint(directory: str | pathlib.Path) -> str:
  """16 hex digits of a checkpoint's configuration, vocabulary and weights."""
  folder = pathlib.Path(directory)
  digest = hashlib.sha256()
  for path in sorted({p for pattern in _HASHED for p in folder.glob(pattern)}):
    digest.update(f'{path.name}:'.encode())
    with open(path, 'rb') as file:
      digest.update(hashlib.file_digest(file, 'sha256').digest())
  return digest.hexdigest()[:16]


def _line(error):
  """The first line of an error's text."""
  return next(iter(str(error).strip().splitlines()), type(error).__name__)
