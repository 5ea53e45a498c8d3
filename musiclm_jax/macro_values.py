"""What the macros of gin files may be: a type and a range for each.

  check({'BATCH_SIZE': '4'})
      -> UserError: BATCH_SIZE is '4'; expected a whole number of at least 1.

A value out of range would fail all the same, but deep inside a library, after
minutes of loading, and without the name that the user wrote.
"""

from collections.abc import Callable
from collections.abc import Mapping
import dataclasses
import math
from typing import Any

from musiclm_jax import errors


@dataclasses.dataclass(frozen=True)
class Values:
  """The values that a macro may have."""

  words: str  # after 'expected'
  fits: Callable  # value -> bool


def _is_number(value):
  # To Python True is 1, but whoever writes it means something else.
  return (isinstance(value, (int, float)) and not isinstance(value, bool)
          and math.isfinite(value))


def _is_whole(value):
  return _is_number(value) and isinstance(value, int)


def whole(low: int) -> Values:
  return Values(f'a whole number of at least {low}',
                lambda value: _is_whole(value) and value >= low)


def number(low: float) -> Values:
  return Values(f'a number of at least {low}',
                lambda value: _is_number(value) and value >= low)


def above(low: float) -> Values:
  return Values(f'a number above {low}',
                lambda value: _is_number(value) and value > low)


def share(to_one: bool) -> Values:
  """From 0 to 1; whether 1 itself is among them."""
  return Values('a number from 0 to 1' if to_one else
                'a number of at least 0 and below 1',
                lambda value: _is_number(value) and 0 <= value <= 1 and (
                    to_one or value < 1))


def choice(*known: Any) -> Values:
  return Values('one of ' + ', '.join(map(repr, known)),
                lambda value: value in known)


def or_none(values: Values) -> Values:
  return Values(f'{values.words}, or None',
                lambda value: value is None or values.fits(value))


def _is_text(value):
  return isinstance(value, str) and bool(value.strip())


TEXT = Values("text in quotes, such as 'name'", _is_text)
DIRECTORY = Values("a path in quotes, such as '/data/run'", _is_text)
# '' stands for none.
MAYBE_TEXT = Values("text in quotes, '' for none",
                    lambda value: isinstance(value, str))
MAYBE_PATH = Values("a path in quotes, or [] for none",
                    lambda value: _is_text(value) or value in ([], (), None))
SWITCH = Values('True or False', lambda value: isinstance(value, bool))
SIZES = Values("whole numbers by name, such as {'data': -1}",
               lambda value: isinstance(value, (dict, list, tuple)) and all(
                   _is_whole(size) for size in (
                       value.values() if isinstance(value, dict) else value)))
PAIRS = Values("pairs, such as [('mlp', 'model')]",
               lambda value: isinstance(value, (list, tuple)) and all(
                   isinstance(pair, (list, tuple)) and len(pair) == 2
                   for pair in value))
LENGTHS = Values("lengths by name, such as {'inputs': 264, 'targets': 2000}",
                 lambda value: isinstance(value, dict) and all(
                     _is_whole(length) for length in value.values()))

RATES = Values('numbers above 0, one for each cache, such as (1.0, 3.0)',
               lambda value: isinstance(value, (list, tuple)) and all(
                   _is_number(rate) and rate > 0 for rate in value))
SHARES = Values("shares of 0 to 1 by name, such as {'mulan': 0.15}",
                lambda value: isinstance(value, dict) and all(
                    _is_number(each) and 0 <= each <= 1
                    for each in value.values()))

KNOWN = {
    # The run, under our loop.
    'MODEL_DIR': DIRECTORY,
    'TRAIN_STEPS': whole(1),
    'SEED': whole(0),
    'EVAL_EVERY': whole(0),
    'CHECKPOINT_EVERY': whole(0),
    'LOG_EVERY': whole(1),
    'KEEP': or_none(whole(1)),
    'MAX_MINUTES': or_none(number(0)),
    'MESH': SIZES,
    'RULES': PAIRS,
    'MAX_ROLLBACKS': whole(0),
    'ROLLBACK_RATE': Values('a number above 0 and up to 1', lambda value: (
        _is_number(value) and 0 < value <= 1)),
    'EXPLODE_FACTOR': number(0),
    'PREVIEW_CLIPS': whole(0),
    'HANG_MINUTES': number(0),
    'GENERATOR': choice('threefry2x32', 'rbg'),
    'COORDINATOR': MAYBE_TEXT,
    'NUM_PROCESSES': or_none(whole(1)),
    'PROCESS_ID': or_none(whole(0)),
    # The model and its data.
    'BATCH_SIZE': whole(1),
    'MICROBATCH': whole(0),
    'OTHER_CAPTIONS': whole(0),
    'NUM_TAGS': whole(1),
    'CROP_SECONDS': above(0),
    'CORPUS_DIR': DIRECTORY,
    'CACHE_DIR': DIRECTORY,
    'CACHE_RATES': RATES,
    'START_FROM': MAYBE_TEXT,
    'TEXT_CHECKPOINT': TEXT,
    'MAX_TOKENS': whole(1),
    'MIXTURE_OR_TASK_NAME': TEXT,
    'TASK_FEATURE_LENGTHS': or_none(LENGTHS),
    'DROPOUT_RATE': share(to_one=False),
    'CONDITION_DROPOUT': SHARES,
    'CONDITION_NOISE': number(0),
    'TEXT_SHARE': share(to_one=True),
    'LABEL_SMOOTHING': share(to_one=False),
    'INPUT_NOISE': share(to_one=True),
    'Z_LOSS': number(0),
    'SKIP_DEVIATIONS': number(0),
    # The run, under T5X.
    'RANDOM_SEED': or_none(whole(0)),
    'TEMPERATURE': number(0),
    'SPLIT': TEXT,
    'MODE': choice('predict', 'score', 'predict_with_aux'),
    'INITIAL_CHECKPOINT_PATH': MAYBE_PATH,
    'CHECKPOINT_PATH': DIRECTORY,
    'EVAL_OUTPUT_DIR': DIRECTORY,
    'INFER_OUTPUT_DIR': DIRECTORY,
    'SAVE_DATASET': SWITCH,
}


def check(
    macros: Mapping[str, Any],
    is_reference: Callable[[Any], bool] = lambda value: False) -> None:
  """Raises UserError for the first macro whose value is out of its range.

  Args:
    macros: {name: value}; names that are not in `KNOWN` pass.
    is_reference: value -> whether it stands for something that is yet to be
      built, and is not to be looked at.
  """
  for name, value in sorted(macros.items()):
    values = KNOWN.get(name)
    if values is None or is_reference(value) or values.fits(value):
      continue
    hint = ''
    if isinstance(value, str) and value.strip() and not _is_text_of(values):
      hint = ', without quotes'
    raise errors.UserError(
        f'{name} is {value!r}; expected {values.words}{hint}.')


def _is_text_of(values):
  return values.fits('some text') or 'one of' in values.words
