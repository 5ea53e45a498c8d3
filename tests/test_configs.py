"""gin: names from anywhere, the order of files, and what is refused.

The second half runs over every leaf in gin/, whatever there is.
"""

import importlib
import os
import pathlib
import re

import pytest

from musiclm_jax import configs
from musiclm_jax import errors

TOY = '''
from __gin__ import dynamic_registration
import toy_trainable
from musiclm_jax.training import optim

TRAINABLE = @toy_trainable.Toy()
SOURCE = @toy_trainable.ToySource()
TRAIN_STEPS = 30
BATCH_SIZE = 8
LOG_EVERY = 10
toy_trainable.Toy.optimizer = @optim.OptimizerConfig()
optim.OptimizerConfig.learning_rate = 0.01
toy_trainable.ToySource.batch_size = %BATCH_SIZE
'''


@pytest.fixture(name='leaf')
def _leaf(tmp_path, monkeypatch):
  monkeypatch.syspath_prepend(pathlib.Path(__file__).parent / 'training')
  path = tmp_path / 'toy.gin'

  def write(extra='', text=TOY):
    path.write_text(text + extra, encoding='utf-8')
    return str(path)

  return write


def test_the_leaf_overrides_the_run_file_and_the_bindings_both(leaf):
  config = configs.load(leaf(), {'MODEL_DIR': '/tmp/x', 'BATCH_SIZE': 16})
  assert config.arguments['log_every'] == 10
  assert config.arguments['checkpoint_every'] == 1000
  assert config.arguments['source'].batch_size == 16
  assert config.arguments['num_steps'] == 30
  assert config.arguments['mesh'] == {'data': -1}


def test_nested_frozen_dataclasses_are_plain_instances(leaf):
  import toy_trainable  # pylint: disable=g-import-not-at-top

  from musiclm_jax.training import optim  # pylint: disable=g-import-not-at-top
  trainable = configs.load(leaf(), ["MODEL_DIR = 'x'"]).arguments['trainable']
  # pylint: disable=unidiomatic-typecheck
  assert type(trainable) is toy_trainable.Toy
  assert type(trainable.optimizer) is optim.OptimizerConfig
  assert trainable == toy_trainable.Toy(
      optimizer=optim.OptimizerConfig(learning_rate=0.01))


def test_hosts_are_met_by_what_gin_says(leaf, monkeypatch):
  met = []
  monkeypatch.setattr(
      'jax.distributed.initialize', lambda **given: met.append(given))
  # A test that talks to nobody must not change how later tests do.
  monkeypatch.setattr('jax.config.update', lambda *_: None)
  configs.join_hosts(leaf())
  assert not met
  text = leaf("COORDINATOR = 'first:99'\nNUM_PROCESSES = 2\n")
  configs.join_hosts(text, ['PROCESS_ID = 1'])
  assert met == [dict(coordinator_address='first:99', num_processes=2,
                      process_id=1)]
  with pytest.raises(errors.UserError, match='PROCESS_ID .* whole number'):
    configs.join_hosts(text)
  # Who only looks at a leaf meets nobody.
  configs.load(text, {'MODEL_DIR': '/tmp/x'})
  assert len(met) == 1


def test_loading_again_forgets_the_first(leaf):
  configs.load(leaf('toy_trainable.Toy.noise = 0.5\n'), {'MODEL_DIR': 'x'})
  again = configs.load(leaf(), {'MODEL_DIR': 'x'})
  assert again.arguments['trainable'].noise == 0.1


@pytest.mark.parametrize('extra, words', [
    ('UNREAD = 3\n', ['UNREAD', 'nothing reads']),
    # OptimizerConfig is built; the look-alike is not.
    ('from musiclm_jax.training import sources\n'
     'sources.AudioBatches.batch_size = 4\n', ['AudioBatches.batch_size']),
    ('other/toy_trainable.Toy.noise = 0.5\n', ['other/', 'noise']),
    ('toy_trainable.Toy.widht = 3\n', ['widht']),
    ('toy_trainable.Toyy.width = 3\n', ['Toyy']),
    ('toy_trainable.Toy.width = %WIDTH\n', ['no value for WIDTH']),
    ('TRAIN_STEPS = %gin.REQUIRED\n', ['no value for TRAIN_STEPS']),
    ("optim.OptimizerConfig.name = 'sgdd'\n", ['sgdd', 'adamw']),
    ("include 'models/none.gin'\n", ['models/none.gin']),
    ('import no_such_module\n', ['no_such_module']),
    ('TRAIN_STEPS = = 3\n', ['toy.gin'])])
def test_mistakes_are_one_line(leaf, extra, words):
  with pytest.raises(errors.UserError) as caught:
    configs.load(leaf(extra), {'MODEL_DIR': 'x'})
  assert '\n' not in str(caught.value)
  for word in words:
    assert word in str(caught.value)


def test_macros_under_another_launcher(leaf, tmp_path):
  """What T5X parses is looked at in the same way."""
  other = tmp_path / 'pretrain.gin'
  other.write_text('USE_CACHED_TASKS = True\nOTHER = %TRAIN_STEPS\n')
  look = lambda: configs.check_macros_of_other_runs([other])
  configs.required(leaf('USE_CACHED_TASKS = False\nSAVE_DATASET = True\n'))
  assert look() == []
  configs.required(leaf('TRAIN_STEPZ = 3\n'))
  with pytest.raises(errors.UserError, match='TRAIN_STEPZ is bound but') as one:
    look()
  assert 'read: BATCH_SIZE, ' in str(one.value) and 'TRAIN_STEPS' in str(
      one.value)


def test_macros_of_our_loop_alone_are_said(tmp_path):
  run = tmp_path / 'run.gin'
  run.write_text("GENERATOR = 'rbg'\nSEED = 3\n")
  configs.required(str(run), run=str(run))
  assert configs.check_macros_of_other_runs([]) == [
      'GENERATOR is read by our own loop alone; T5X passes over it.']


def test_a_missing_macro_is_named(leaf):
  with pytest.raises(errors.UserError, match='no value for MODEL_DIR'):
    configs.load(leaf())


def test_unquoted_text_is_explained(leaf):
  with pytest.raises(errors.UserError, match='quotes'):
    configs.load(leaf(), ['MODEL_DIR = /tmp/x'])


def test_unknown_leaf_lists_the_known():
  with pytest.raises(errors.UserError) as caught:
    configs.resolve('no_such_leaf')
  for name in configs.leaves():
    assert name in str(caught.value)


def test_unknown_files_of_a_folder_list_its_known():
  for name in ('pods/v5e_257', 'gin/pods/v5e_257.gin'):
    with pytest.raises(errors.UserError, match='known: .*pods/v5e_256') as caught:
      configs.resolve(name)
    assert 'coarse_base' not in str(caught.value)
  for name in ('nowhere/v5e', '/nowhere/v5e', '../v5e'):
    with pytest.raises(errors.UserError, match='coarse_base'):
      configs.resolve(name)


def test_files_resolve_from_any_directory(tmp_path, monkeypatch):
  expected = configs.gin_root() / 'runs' / 'local.gin'
  for directory in (tmp_path, configs.gin_root(), configs.gin_root().parent):
    monkeypatch.chdir(directory)
    for name in ('runs/local.gin', 'gin/runs/local.gin', 'runs/local',
                 str(expected)):
      assert os.path.samefile(configs.resolve(name), expected)


def test_includes_are_relative_to_the_gin_root(leaf, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  path = leaf("include 'runs/local.gin'\nTRAINABLE = @toy_trainable.Toy()\n"
              'SOURCE = @toy_trainable.ToySource()\nTRAIN_STEPS = 7\n')
  config = configs.load(path, {'MODEL_DIR': 'x'})
  assert config.arguments['num_steps'] == 7


# ---- every leaf there is ----

GIN_FILES = sorted(configs.gin_root().rglob('*.gin'))
# What a user would give; only macros that a leaf leaves open are bound.
GIVEN = {
    'MODEL_DIR': 'run', 'CORPUS_DIR': 'corpus', 'CACHE_DIR': 'cache',
    'BUNDLE_DIR': 'bundle', 'TEXT_CHECKPOINT': 'text',
    'START_FROM': 'bundle/codec',
}


# As in '# Parameters: 4,056,832; with the shipped tokenizers 2,877,184'. That
# the number is true is held by the tests of each model's leaves.
COUNT = re.compile(r'^# Parameters: \d{1,3}(,\d{3})+(?=$|[,;] )', re.M)


def _load(leaf):
  """(a leaf with those of `GIVEN` that it asks for, their names)."""
  bindings = {}
  while True:
    try:
      return configs.load(leaf, bindings), set(bindings)
    except errors.UserError as error:
      wanted = re.match(r'no value for ([A-Z_, ]+);', str(error))
      names = wanted.group(1).split(', ') if wanted else []
      new = {n: GIVEN[n] for n in names if n in GIVEN and n not in bindings}
      if not new:
        raise
      bindings.update(new)


@pytest.mark.parametrize('name', configs.leaves())
def test_leaf_builds_and_reads_every_binding(name, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  config, asked = _load(name)
  assert asked == set(_required(_header(name)))
  for method in ('init', 'update', 'evaluate', 'export'):
    assert callable(getattr(config.arguments['trainable'], method))
  for method in ('batches', 'eval_batches'):
    assert callable(getattr(config.arguments['source'], method))
  assert not configs.unread()
  assert config.arguments['num_steps'] > 0


@pytest.mark.parametrize(
    'path', GIN_FILES,
    ids=[str(p.relative_to(configs.gin_root())) for p in GIN_FILES])
def test_gin_file_begins_with_dynamic_registration(path):
  lines = [l for l in path.read_text(encoding='utf-8').splitlines()
           if l.strip() and not l.startswith('#')]
  assert lines[0] == 'from __gin__ import dynamic_registration'


def _header(name):
  """The comment above a leaf's first line."""
  text = (configs.gin_root() / f'{name}.gin').read_text(encoding='utf-8')
  return text.split('from __gin__')[0]


def _required(header):
  """Names of the macros that stand below a header's 'Required'."""
  part = re.search(r'^# Required:\n((?:#   .*\n)+)', header, re.M)
  return re.findall(r'^#   ([A-Z_]+) ', part[1], re.M) if part else []


@pytest.mark.parametrize('name', configs.leaves())
def test_leaf_header_says_what_is_required(name):
  assert COUNT.search(_header(name))
  assert 'MODEL_DIR' in _required(_header(name))


@pytest.mark.parametrize('header', [
    '# Its parameters are many.\n', '# Parameters:\n', '# Parameters: 3 B\n',
    '# Parameters: 4056832\n', '# Parameters: 40,56\n'])
def test_a_header_without_a_count_is_seen(header):
  assert not COUNT.search(header)
  assert not _required(header + '# What is required: nothing\n')


def test_the_gin_root_is_no_package():
  assert not (configs.gin_root() / '__init__.py').exists()


@pytest.mark.parametrize('path', sorted(
    configs.gin_root().rglob('*.gin')), ids=lambda path: path.stem)
def test_what_gin_names_is_there(path):
  """Of our own modules, also in files that only T5X can read."""
  text = re.sub(r'#.*', '', path.read_text(encoding='utf-8'))
  for package, name in re.findall(
      r'^from (musiclm_jax[\w.]*) import (\w+)$', text, re.M):
    if name == 't5x_adapter':
      continue  # imports T5X
    module = importlib.import_module(f'{package}.{name}')
    for attribute in re.findall(rf'(?<![\w.]){name}\.(\w+)', text):
      assert hasattr(module, attribute), f'{name}.{attribute}'
