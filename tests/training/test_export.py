"""From leaf to component by the entry points: train, resume, export."""

import subprocess
import sys

import numpy as np
import pytest
import toy_trainable

from musiclm_jax import bundle
from musiclm_jax import errors
from musiclm_jax import files
from musiclm_jax import records
from musiclm_jax import specs
from musiclm_jax.commands import cli
from musiclm_jax.commands import export
from musiclm_jax.commands import train
from musiclm_jax.training import exporting

LEAF = '''
from __gin__ import dynamic_registration
import toy_trainable

TRAINABLE = @toy_trainable.Toy()
SOURCE = @toy_trainable.ToySource()
TRAIN_STEPS = 6
'''


@pytest.fixture(name='leaf')
def _leaf(tmp_path):
  (tmp_path / 'toy.gin').write_text(LEAF, encoding='utf-8')
  return str(tmp_path / 'toy.gin')


def test_a_trained_leaf_becomes_a_component(leaf, tmp_path):
  model_dir = str(tmp_path / 'run')
  result = train.start(leaf, {'MODEL_DIR': model_dir})
  assert 'TRAIN_STEPS = 6' in (tmp_path / 'run/config.gin').read_text()
  with records.Writer(tmp_path / 'corpus', 'noise', 1000, licence='CC0') as out:
    out.add('train', 't0', np.zeros(100))
  out_dir = tmp_path / 'bundle' / 'codec'
  export.write(leaf, {'MODEL_DIR': model_dir}, str(out_dir),
               str(tmp_path / 'corpus'), metadata={'note': 'toy'})
  component = bundle.load_component(out_dir)
  np.testing.assert_array_equal(component.weights['w'],
                                result.state.params['w'])
  about = component.metadata
  assert (about['steps'], about['corpus'], about['licence'], about['note']) == (
      6, 'noise', 'CC0', 'toy')
  assert about['metrics']['loss'] == pytest.approx(result.metrics['loss'])
  assert component.config == {'tracks': 1}


def test_a_source_without_a_corpus_says_where_its_data_are_from(
    leaf, tmp_path, monkeypatch):
  monkeypatch.setattr(toy_trainable.ToySource, 'origin',
                      dict(corpus='hummed', cache='f00'), raising=False)
  model_dir = str(tmp_path / 'run')
  train.start(leaf, {'MODEL_DIR': model_dir})
  about = export.write(leaf, {'MODEL_DIR': model_dir},
                       str(tmp_path / 'bundle' / 'codec'))
  assert (about['corpus'], about['cache']) == ('hummed', 'f00')


def test_python_m_from_any_directory_resumes_and_exports(leaf, tmp_path):
  model_dir = tmp_path / 'run'
  train.start(leaf, {'MODEL_DIR': str(model_dir), 'TRAIN_STEPS': 3})
  words = [f'--gin_file={leaf}', f'--gin.MODEL_DIR="{model_dir}"']
  done = subprocess.run(
      [sys.executable, '-m', 'musiclm_jax.commands.train', *words], cwd=tmp_path,
      capture_output=True,
      text=True, timeout=120, check=False)
  assert done.returncode == 0, done.stderr
  assert 'resuming' in done.stderr and 'at step 3' in done.stderr
  cli.main(['export', *words, '--out', str(tmp_path / 'b' / 'codec')])
  about = bundle.load_component(tmp_path / 'b' / 'codec').metadata
  assert about['steps'] == 6 and 'corpus' not in about
  assert bundle.Bundle(tmp_path / 'b').has('codec')


@pytest.mark.parametrize('words', [
    ['--storage', 'float8'], ['--out', 'x/codec'], ['--gin.NAME'],
    ['--gin.NAME=3'], ['no_leaf']])
def test_mistakes_of_the_command_line_exit_with_2(
    leaf, tmp_path, capsys, words):
  with pytest.raises(SystemExit) as caught:
    cli.main(['export', leaf, f'--gin.MODEL_DIR="{tmp_path}/run"', '--out',
              str(tmp_path / 'out' / 'codec'), *words])
  assert caught.value.code == 2
  assert capsys.readouterr().err.count('\n') == 1
  assert not (tmp_path / 'out').exists() and not (tmp_path / 'run').exists()


def _tree(folder):
  return {path: path.read_bytes() if path.is_file() else None
          for path in folder.rglob('*')}


_REFUSED = [
    ('run', 'component in --out'),
    ('b/codec', 'codec holds checkpoints, which is no part of a'),
    ('notes/codec', 'codec holds mine.txt, which is no part'),
    ('both/codec', 'codec holds mine.txt, which is no part'),
    ('b/fine', 'fine holds a component of kind mulan, which is no fine; nothin'),
    ('file/codec', 'codec is a file'),
    ('new/mulan', 'trains soundstream, which cannot be mulan in a bundle'),
]


def test_an_export_removes_nothing_of_others(leaf, tmp_path, capsys):
  """Above all not the run itself, whose checkpoints are all there is of it."""
  run = tmp_path / 'b' / 'codec'
  train.start(leaf, {'MODEL_DIR': str(run)})
  save = lambda place, kind, spec: bundle.save_component(
      tmp_path / place, kind, {}, spec, {'w': np.zeros(3)})
  save('b/fine', 'mulan', specs.JointSpec())
  save('both/codec', 'soundstream', specs.CodecSpec())
  for folder in ('both', 'notes'):
    (tmp_path / folder / 'codec').mkdir(parents=True, exist_ok=True)
    (tmp_path / folder / 'codec' / 'mine.txt').write_text('mine')
  (tmp_path / 'file').mkdir()
  (tmp_path / 'file' / 'codec').write_text('mine')
  before = _tree(tmp_path)
  capsys.readouterr()
  for out, message in _REFUSED:
    with pytest.raises(SystemExit) as caught:
      cli.main(['export', leaf, f'--gin.MODEL_DIR="{run}"', '--out',
                str(tmp_path / out)])
    told = capsys.readouterr().err
    assert caught.value.code == 2 and told.count('\n') == 1
    assert message in told
    assert _tree(tmp_path) == before


def test_an_export_takes_the_place_of_an_earlier_one(leaf, tmp_path):
  train.start(leaf, {'MODEL_DIR': str(tmp_path / 'run')})
  place = tmp_path / 'b' / 'codec'
  bundle.save_component(place, 'soundstream', {}, specs.CodecSpec(),
                        {'w': np.zeros(3)}, dict(steps=1))
  (tmp_path / 'link').symlink_to(tmp_path / 'b')
  export.write(leaf, {'MODEL_DIR': str(tmp_path / 'run')},
               tmp_path / 'link' / 'codec')
  assert bundle.load_component(place).metadata['steps'] == 6
  assert sorted(p.name for p in (tmp_path / 'b').rglob('*')) == [
      'codec', 'config.json', 'weights.safetensors']


def test_another_one_s_folder_is_no_model_dir(leaf, tmp_path):
  (tmp_path / 'mine').mkdir()
  for name in ('metrics.csv', 'config.gin'):
    (tmp_path / 'mine' / name).write_text('mine')
    with pytest.raises(errors.UserError, match=f'holds {name} and no run.json'):
      train.start(leaf, {'MODEL_DIR': str(tmp_path / 'mine')})
    assert (tmp_path / 'mine' / name).read_text() == 'mine'
    (tmp_path / 'mine' / name).unlink()


def test_a_model_dir_is_one_run_s(leaf, tmp_path):
  model_dir = tmp_path / 'run'
  with files.claimed(model_dir):
    with pytest.raises(errors.UserError, match='another run writes to MODEL_D'):
      train.start(leaf, {'MODEL_DIR': str(model_dir)})
    assert [p.name for p in model_dir.iterdir()] == [files.LOCK]
  train.start(leaf, {'MODEL_DIR': str(model_dir)})
  assert not (model_dir / files.LOCK).exists()


def test_nothing_trained_is_a_user_error(tmp_path):
  for model_dir in (tmp_path, tmp_path / 'absent'):
    with pytest.raises(errors.UserError, match='train it first'):
      exporting.export(toy_trainable.Toy(), toy_trainable.ToySource(),
                        model_dir, tmp_path / 'out')
  assert not (tmp_path / 'out').exists()
