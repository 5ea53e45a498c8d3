"""Figures as a flat JSON file, with the machine, versions and commit."""

from collections.abc import Mapping
import importlib.metadata
import os
import pathlib
import platform
import subprocess
from typing import Any

from musiclm_jax import files


def context() -> dict[str, str]:
  """What a figure depends on besides the code: machine, versions, commit."""
  versions = {}
  for package in ('jax', 'jaxlib', 'flax', 'numpy', 'tensorflow', 'torch'):
    try:
      versions[f'version_{package}'] = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
      pass
  return dict(machine=_machine(), python=platform.python_version(),
              git_commit=git_commit(), **versions)


def write(path: str | os.PathLike, figures: Mapping[str, Any]) -> None:
  """Writes `figures` and their context, flat, to `path`."""
  files.write_json(path, {**figures, **context()})


def git_commit() -> str:
  """The commit of the checkout this package lies in, or 'unknown'."""
  root = pathlib.Path(__file__).resolve().parent.parent
  try:
    result = subprocess.run(
        ['git', '-C', str(root), 'rev-parse', 'HEAD'], capture_output=True,
        text=True, timeout=10, check=True)
  except (OSError, subprocess.SubprocessError):
    return 'unknown'
  return result.stdout.strip()


def _machine():
  """Processor name and core count."""
  name = platform.processor() or platform.machine()
  try:
    with open('/proc/cpuinfo', encoding='utf-8') as lines:
      name = next(l.split(':', 1)[1].strip() for l in lines
                  if l.startswith('model name'))
  except (OSError, StopIteration):
    pass
  return f'{name}, {os.cpu_count()} cores'
