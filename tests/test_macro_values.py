"""Values of gin macros: a type and a range each, refused by name."""

import re

import pytest

from musiclm_jax import configs
from musiclm_jax import errors
from musiclm_jax import macro_values
from musiclm_jax.commands import cli

# They name objects, which say themselves what they can be.
OBJECTS = {'TRAINABLE', 'SOURCE', 'INFER_EVAL_DATASET', 'TOKENS', 'STAGE',
           'MODEL'}
# Those that a header tells of, and those that a line gives a value.
MACROS = sorted(set(re.findall(
    r'^(?:#   )?([A-Z][A-Z_]+)(?:, | +\w| = )', '\n'.join(
        path.read_text(encoding='utf-8')
        for path in configs.gin_root().rglob('*.gin')), re.M)))


def test_macros_were_found():
  assert {'BATCH_SIZE', 'CROP_SECONDS', 'MESH', 'SPLIT', 'START_FROM',
          'ROLLBACK_RATE'} <= set(MACROS)


@pytest.mark.parametrize('name', MACROS)
def test_every_macro_has_a_range(name):
  assert name in OBJECTS or name in macro_values.KNOWN


@pytest.mark.parametrize('name, value, words', [
    ('BATCH_SIZE', 0, 'whole number of at least 1'),
    ('BATCH_SIZE', -3, 'whole number of at least 1'),
    ('BATCH_SIZE', 2.5, 'whole number of at least 1'),
    ('BATCH_SIZE', '4', 'whole number of at least 1, without quotes'),
    ('BATCH_SIZE', True, 'whole number'),
    ('BATCH_SIZE', None, 'whole number'),
    ('BATCH_SIZE', [4], 'whole number'),
    ('TRAIN_STEPS', 0, 'at least 1'), ('LOG_EVERY', 0, 'at least 1'),
    ('EVAL_EVERY', -1, 'at least 0'), ('KEEP', 0, 'at least 1, or None'),
    ('CROP_SECONDS', 0, 'above 0'), ('CROP_SECONDS', -1.0, 'above 0'),
    ('CROP_SECONDS', '1', 'without quotes'),
    ('CROP_SECONDS', float('inf'), 'above 0'),
    ('DROPOUT_RATE', 1.0, 'below 1'), ('TEXT_SHARE', 1.1, '0 to 1'),
    ('CONDITION_DROPOUT', {'mulan': 2}, 'by name'),
    ('CONDITION_DROPOUT', 0.1, 'by name'),
    ('ROLLBACK_RATE', 0.0, 'above 0'), ('MAX_MINUTES', float('nan'), 'None'),
    ('SEED', -1, 'at least 0'), ('MESH', 8, "{'data': -1}"),
    ('MESH', {'data': '4'}, "{'data': -1}"), ('RULES', ['mlp'], 'pairs'),
    ('GENERATOR', 'mt', 'threefry2x32'), ('MODEL_DIR', '', 'path in quotes'),
    ('MODEL_DIR', 3, 'path in quotes'), ('CACHE_DIR', None, 'path in quotes'),
    ('TASK_FEATURE_LENGTHS', 264, "'targets': 2000"),
    ('TEMPERATURE', -0.5, 'at least 0'), ('MODE', 'draw', 'score'),
    ('SAVE_DATASET', 'yes', 'True or False')])
def test_out_of_range(name, value, words):
  with pytest.raises(errors.UserError) as caught:
    macro_values.check({'OTHER': object(), name: value})
  text = str(caught.value)
  assert text.startswith(f'{name} is {value!r}; expected ')
  assert words in text and '\n' not in text


@pytest.mark.parametrize('name, value', [
    ('BATCH_SIZE', 1), ('CROP_SECONDS', 0.5), ('CROP_SECONDS', 3),
    ('EVAL_EVERY', 0), ('KEEP', None), ('MAX_MINUTES', 0.02),
    ('MESH', {'data': -1}), ('MESH', (2, 4)), ('RULES', ()),
    ('RULES', [('mlp', None)]), ('DROPOUT_RATE', 0), ('TEXT_SHARE', 1),
    ('CONDITION_DROPOUT', {}), ('CONDITION_DROPOUT', {'mulan': 0.15}),
    ('START_FROM', ''), ('COORDINATOR', ''), ('PROCESS_ID', 0),
    ('TASK_FEATURE_LENGTHS', None), ('INITIAL_CHECKPOINT_PATH', []),
    ('INITIAL_CHECKPOINT_PATH', '/runs/checkpoint_3'), ('NOT_OURS', object())])
def test_within_range(name, value):
  macro_values.check({name: value})


def test_a_reference_is_not_a_value():
  macro_values.check({'BATCH_SIZE': 'later'}, lambda value: value == 'later')
  # %BATCH_SIZE of one file may be another macro's value.
  config = configs.load('semantic_tiny', [
      "MODEL_DIR = 'x'", "CACHE_DIR = 'y'", 'ROWS = 3', 'BATCH_SIZE = %ROWS'])
  assert config.arguments['source'].batch_size == 3


def test_the_command_line_answers_in_one_line(tmp_path, capsys):
  with pytest.raises(SystemExit) as caught:
    cli.main(['train', 'soundstream_tiny', '--gin.CROP_SECONDS=0',
              f"--gin.MODEL_DIR='{tmp_path}/run'", "--gin.CORPUS_DIR='none'"])
  assert caught.value.code == 2
  assert capsys.readouterr().err == (
      'musiclm: error: CROP_SECONDS is 0; expected a number above 0.\n')
  assert not list(tmp_path.iterdir())


def test_a_byte_order_mark_is_passed_over(tmp_path):
  text = '\ufefffrom __gin__ import dynamic_registration\n'
  (tmp_path / 'part.gin').write_text(text + 'BATCH_SIZE = 3\n', 'utf-8')
  leaf = tmp_path / 'leaf.gin'
  leaf.write_text(f"{text}include 'semantic_tiny.gin'\n"
                  f"include '{tmp_path}/part.gin'\nTRAIN_STEPS = 2\n", 'utf-8')
  arguments = configs.load(
      leaf, {'MODEL_DIR': 'x', 'CACHE_DIR': 'y'}).arguments
  assert arguments['num_steps'] == 2
  assert arguments['source'].batch_size == 3


def test_a_leaf_that_is_no_text_is_one_line(tmp_path):
  leaf = tmp_path / 'leaf.gin'
  leaf.write_bytes(b'TRAIN_STEPS = 2  # \xff\n')
  with pytest.raises(errors.UserError, match="leaf.gin: 'utf-8' codec"):
    configs.load(leaf, {'MODEL_DIR': 'x'})
