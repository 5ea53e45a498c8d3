"""Every number that generation takes, with its range: for shell, Python, HTTP.

Nothing here loads a model or jax, so that whatever asks can check first.
"""

from collections.abc import Callable
from collections.abc import Mapping
import dataclasses
import math
import numbers
import os
import typing
from typing import Any

from musiclm_jax import errors
from musiclm_jax import specs

if typing.TYPE_CHECKING:
  from musiclm_jax.decoding import categorical

STAGES = ('semantic', 'coarse', 'fine')
VARIATIONS = ('semantics', 'acoustics')
MIN_SECONDS, MAX_SECONDS = 1, 600
MAX_SAMPLES = 64
MAX_GUIDANCE = 20.0


def _number(default: float, low: float, high: float, text: str) -> Any:
  """A field that may lie in low..high."""
  return dataclasses.field(
      default=default, metadata=dict(low=low, high=high, help=text))


@dataclasses.dataclass(frozen=True)
class Settings:
  """How to generate; what, is in `steering.Steering`.

  Each field's metadata holds low, high (inclusive) and a line of help.
  Temperatures: the paper's. The other defaults draw from the stages' own
  distributions, as the paper does.
  """

  seconds: float = _number(
      10.0, MIN_SECONDS, MAX_SECONDS, 'length; after --continue-from: of what '
      'is new')
  seed: int = _number(0, -2**63, 2**63 - 1, 'another seed, another music')
  samples: int = _number(1, 1, MAX_SAMPLES, 'how many')
  best_of: int = _number(
      0, 0, MAX_SAMPLES, 'draw so many and keep the --samples that are nearest '
      'to what was asked for, by MuLan, best first; 0: keep all')
  vary: str = dataclasses.field(default='semantics', metadata=dict(
      choices=VARIATIONS, help='in what samples differ: semantics, in all '
      'but the prompt; acoustics, in sound alone: they share the semantic '
      'tokens of the first'))
  levels: int = _number(
      0, 0, 64, 'codec levels; fewer are faster and rougher, the coarse ones '
      'alone (4) leave the fine stage out; 0: all (12)')
  like_weight: float = _number(
      0.5, 0.0, 1.0, 'of --like beside the prompt: 0 the prompt, 1 the song')
  temperature_semantic: float = _number(
      1.0, 0.0, 10.0, '0 takes the likeliest')  # paper
  temperature_coarse: float = _number(0.95, 0.0, 10.0, '')  # paper
  temperature_fine: float = _number(0.4, 0.0, 10.0, '')  # paper
  top_k_semantic: int = _number(
      0, 0, 2**31 - 1, 'draw among the k likeliest; 0: all')
  top_k_coarse: int = _number(0, 0, 2**31 - 1, '')
  top_k_fine: int = _number(0, 0, 2**31 - 1, '')
  top_p_semantic: float = _number(
      1.0, 0.001, 1.0, 'draw among the likeliest that together have '
      'probability p')
  top_p_coarse: float = _number(1.0, 0.001, 1.0, '')
  top_p_fine: float = _number(1.0, 0.001, 1.0, '')
  guidance_semantic: float = _number(
      1.0, 0.0, MAX_GUIDANCE, 'how much the semantic stage heeds the prompt: '
      '0 not at all, 1 as it has learned, above 1 more; all but 1 draw one row '
      'more')
  guidance_coarse: float = _number(1.0, 0.0, MAX_GUIDANCE, '')
  guidance_melody: float = _number(
      1.0, 0.0, MAX_GUIDANCE, 'likewise of --melody, in every stage that takes '
      'it')

  @property
  def drawn(self) -> int:
    """Samples that are drawn for each prompt."""
    return self.best_of or self.samples

  @property
  def whole_seconds(self) -> int:
    """What the stages draw; the audio is cut to `seconds`."""
    return math.ceil(self.seconds)

  def changed(self) -> str:
    """'seed=3 top_k_fine=10': the seed, and what is not the default."""
    pairs = [(f.name, getattr(self, f.name), f.default)
             for f in dataclasses.fields(self)]
    return ' '.join(f'{name}={value:g}' if isinstance(value, float) else
                    f'{name}={value}' for name, value, default in pairs
                    if name == 'seed' or value != default)

  def draws(self, melody: bool = True) -> dict[str, 'categorical.Draw']:
    """{stage: categorical.Draw}, all levels of each; without `melody` none guides."""
    from musiclm_jax.decoding import categorical  # pylint: disable=g-import-not-at-top
    get = lambda name, stage: getattr(self, f'{name}_{stage}')
    return {stage: categorical.Draw(
        float(get('temperature', stage)), int(get('top_k', stage)),
        float(get('top_p', stage)), guidance=self.guidance(stage, melody))
            for stage in STAGES}

  def guidance(
      self, stage: str, melody: bool = True) -> tuple[tuple[str, float], ...]:
    """Pairs of a condition and its scale, those that are not 1.

    Args:
      stage: of STAGES.
      melody: whether one is given.
    """
    scales = dict(mulan=float(getattr(self, f'guidance_{stage}', 1.0)))
    if melody:
      scales['melody'] = float(self.guidance_melody)
    return tuple((k, v) for k, v in scales.items() if v != 1.0)


def make(named: Callable[[str], str] = str,
         defaults: Mapping[str, Any] | None = None, **values: Any) -> Settings:
  """Checked `Settings`.

  Args:
    named: how messages call a field, for example `option` for the shell.
    defaults: {field: value} that stand in for what is not said, such as a
      bundle's own; others have those of the class.
    **values: of the fields; None stands for the default.

  Raises:
    UserError: an unknown name, a wrong type or a value out of range.
  """
  fields = {f.name: f for f in dataclasses.fields(Settings)}
  for name in values:
    if name not in fields:
      raise errors.choice('setting', name, fields)
  values = {k: v for k, v in values.items() if v is not None}
  values = {**(defaults or {}), **values}
  for name, value in values.items():
    _check(fields[name], named(name), value)
  settings = Settings(**values)
  if settings.best_of and settings.best_of < settings.samples:
    raise errors.UserError(
        f'{named("best_of")} is {settings.best_of}; expected at least the '
        f'{settings.samples} of {named("samples")}, or 0.')
  if settings.vary == 'acoustics' and settings.drawn < 2:
    raise errors.UserError(
        f'{named("vary")} acoustics is about samples that differ; expected '
        f'{named("samples")} or {named("best_of")} of at least 2.')
  return settings


def check_levels(
    levels: int, spec: specs.CodecSpec, name: str = 'levels') -> int:
  """Codec levels to use, 0 being all; UserError for what there is not.

  Args:
    levels: as of `Settings`.
    spec: the CodecSpec.
    name: how the message calls it.
  """
  if levels and not spec.coarse_codebooks <= levels <= spec.num_codebooks:
    raise errors.UserError(
        f'{name} is {levels}; expected {spec.coarse_codebooks} to '
        f'{spec.num_codebooks}, or 0 for all.')
  return levels or spec.num_codebooks


def check_defaults(
    values: dict[str, Any], path: str | os.PathLike[str]) -> dict[str, Any]:
  """`values`, defaults of a bundle; UserError for what cannot be one."""
  fields = {f.name: f for f in dataclasses.fields(Settings)}
  for name, value in values.items():
    if name not in fields:
      raise errors.choice(f'setting in {path}', name, fields)
    _check(fields[name], f'{name} in {path}', value)
  return values


def option(name: str) -> str:
  """The shell's name of a setting."""
  return '--' + name.replace('_', '-')


def _check(field: dataclasses.Field, name: str, value: Any) -> None:
  """UserError unless `value` fits the field."""
  if 'choices' in field.metadata:
    if not isinstance(value, str):
      raise errors.UserError(
          f'{name} is {errors.kind(value)}; expected one of '
          f'{", ".join(field.metadata["choices"])}.')
    if value not in field.metadata['choices']:
      raise errors.choice(name, value, field.metadata['choices'])
    return
  low, high = field.metadata['low'], field.metadata['high']
  what = 'a whole number of ' if field.type is int else ''
  if isinstance(value, bool) or not isinstance(value, numbers.Real):
    shown = f' ({value[:40]!r})' if isinstance(value, str) else ''
    raise errors.UserError(
        f'{name} is {errors.kind(value)}{shown}; expected '
        f'{what or "a number of "}{low:g} to {high:g}.')
  whole = isinstance(value, numbers.Integral)
  if field.type is int and not whole or not low <= value <= high:  # or NaN
    shown = value if whole or what else f'{value:g}'
    raise errors.UserError(
        f'{name} is {shown}; expected {what}{low:g} to {high:g}.')
