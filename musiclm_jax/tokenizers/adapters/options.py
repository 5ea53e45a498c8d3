"""What `--codec`, `--semantic` and `--joint` may say: 'hf:DIR:layer=7'."""

import dataclasses
import pathlib
from typing import Any

from musiclm_jax import errors

PREFIX = 'hf'


@dataclasses.dataclass(frozen=True)
class CodecOptions:
  """The codec of `directory`.

  Attributes:
    codebooks: the first so many levels; 0 for all that the checkpoint has.
    coarse: how many of them the coarse stage predicts.
  """

  directory: str
  codebooks: int = 0
  coarse: int = 4  # paper


@dataclasses.dataclass(frozen=True)
class SemanticOptions:
  """Clustered features of the audio encoder of `directory`.

  Attributes:
    layer: the block whose output is clustered, from 1.
    rate: tokens a second; 0 for the encoder's own rate, else a divisor of it,
      reached by averaging neighbours.
    clusters: K of the k-means.
    vectors: features that it is fitted to, at most.
  """

  directory: str
  layer: int = 0
  rate: int = 0
  clusters: int = 1024  # paper
  vectors: int = 200_000  # ours


@dataclasses.dataclass(frozen=True)
class JointOptions:
  """The joint embedding of `directory`, quantised.

  Attributes:
    codebooks: levels of the RVQ.
    entries: K of each of them.
    clips: clips of 30 s that it is fitted to, at most.
  """

  directory: str
  codebooks: int = 12  # paper
  entries: int = 1024  # paper
  clips: int = 1000  # ours


KINDS = {'codec': CodecOptions, 'semantic': SemanticOptions,
         'joint': JointOptions}
_MAY_BE_ZERO = {('codec', 'codebooks'), ('semantic', 'rate')}


def parse(kind: str, text: str) -> Any:
  """'hf:DIR:layer=7' -> the options of `kind`.

  >>> parse('semantic', 'hf:/models/w2v-bert-2.0:layer=7:rate=25')
  SemanticOptions(directory='/models/w2v-bert-2.0', layer=7, rate=25, \
clusters=1024, vectors=200000)

  Args:
    kind: 'codec', 'semantic' or 'joint'.
    text: 'hf:', a directory, and any number of ':name=whole number'.

  Raises:
    UserError: it is not that, an option is unknown or out of its range, or the
      directory is missing.
  """
  cls = KINDS[kind]
  known = {f.name for f in dataclasses.fields(cls)} - {'directory'}
  prefix, _, rest = text.partition(':')
  parts = rest.split(':')
  values = {}
  while len(parts) > 1 and '=' in parts[-1] and '/' not in parts[-1]:
    name, _, value = parts.pop().partition('=')
    if name not in known:
      raise errors.choice(f'option of --{kind}', name, known)
    least = 0 if (kind, name) in _MAY_BE_ZERO else 1
    if not value.isdecimal() or int(value) < least:
      raise errors.UserError(
          f'--{kind} {text} says {name}={value}; expected a whole number from '
          f'{least}.')
    values[name] = int(value)
  directory = ':'.join(parts)
  if prefix != PREFIX or not directory:
    raise errors.UserError(
        f'--{kind} is {text!r}; expected {PREFIX}:DIR, a local directory with '
        f'config.json and model.safetensors, and options such as '
        f'{PREFIX}:DIR:{sorted(known)[0]}=8.')
  if not pathlib.Path(directory).is_dir():
    raise errors.UserError(
        f'--{kind}: there is no directory {directory}; download the checkpoint '
        f'there first, nothing is fetched here.')
  if kind == 'semantic' and 'layer' not in values:
    raise errors.UserError(
        f'--semantic {text} names no layer; add the block to take features '
        f'from, {text}:layer=7 for example.')
  return cls(directory, **values)
