"""What is said and arranged before T5X starts; T5X itself is not needed."""

import importlib.util
import sys

import pytest

from musiclm_jax import configs
from musiclm_jax import errors
from musiclm_jax.commands import under_t5x

ROOT = configs.gin_root()
RUN, LEAF = ROOT / 'runs/t5x.gin', ROOT / 'semantic_tiny.gin'
WORDS = [f'--gin_file={RUN}', f'--gin_file={LEAF}', "--gin.MODEL_DIR='x'"]


@pytest.mark.parametrize('words', [
    ['--gin_file=gin/runs/t5x.gin', '--gin_file=gin/semantic_tiny.gin'],
    ['--gin_file=gin/semantic_tiny.gin', '--gin_file=gin/runs/t5x.gin'],
    ['--gin_file=semantic_tiny', '--gin_file=runs/t5x'],
    ['--gin_file', 'semantic_tiny', '--gin_file', 'runs/t5x.gin'],
    [f'--gin_file={LEAF}', f'-gin_file={RUN}']])
def test_the_run_file_comes_first_from_any_directory(
    words, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  assert under_t5x.arranged(['train', *words, "--gin.MODEL_DIR='x'"]) == (
      'train', WORDS)


def test_leaves_keep_their_order():
  _, words = under_t5x.arranged(
      ['train', '--gin_file=semantic_base', '--gin_file=pods/v5e_256',
       '--gin_file=runs/t5x'])
  assert [word.rpartition('/')[2] for word in words] == [
      't5x.gin', 'semantic_base.gin', 'v5e_256.gin']


@pytest.mark.parametrize('program, run', sorted(under_t5x.RUNS.items()))
def test_a_missing_run_file_is_named(program, run):
  assert (ROOT / run).is_file()
  with pytest.raises(errors.UserError, match=f'--gin_file=gin/{run}'):
    under_t5x.arranged([program, '--gin_file=semantic_tiny'])


@pytest.mark.parametrize('words', [[], ['trian'], ['--gin_file=semantic_tiny']])
def test_programs_are_listed(words):
  with pytest.raises(errors.UserError, match='known: eval, infer, train'):
    under_t5x.arranged(words)


def test_unknown_leaves_are_listed():
  with pytest.raises(errors.UserError, match='known: coarse_base'):
    under_t5x.arranged(['train', '--gin_file=runs/t5x', '--gin_file=semantik'])


@pytest.mark.parametrize('installed, words, said', [
    (False, ['train'], 'T5X is not installed; run `bash launch/local.sh t5x'),
    (True, ['trian'], "unknown program of T5X 'trian'")])
def test_mistakes_are_one_line(monkeypatch, capsys, installed, words, said):
  monkeypatch.setattr(importlib.util, 'find_spec', lambda _: installed or None)
  monkeypatch.setattr(sys, 'argv', ['under_t5x', *words])
  with pytest.raises(SystemExit) as caught:
    under_t5x.main()
  assert caught.value.code == 2
  error = capsys.readouterr().err
  assert error.startswith(f't5x: error: {said}') and error.count('\n') == 1


def test_t5x_is_the_main_module(monkeypatch, tmp_path):
  """Its gin files bind the functions of `__main__`."""
  (tmp_path / 't5x').mkdir()
  (tmp_path / 't5x/__init__.py').touch()
  (tmp_path / 't5x/train.py').write_text(
      'import sys\nimport __main__\nassert __name__ == "__main__"\n'
      'def train(): pass\nassert __main__.train is train\n'
      'sys.exit(f"ran {sys.argv[1:]}")\n')
  for name in [name for name in sys.modules if name.split('.')[0] == 't5x']:
    monkeypatch.delitem(sys.modules, name)
  monkeypatch.syspath_prepend(tmp_path)
  monkeypatch.setattr(sys, 'argv', ['under_t5x', 'train', *WORDS])
  with pytest.raises(SystemExit) as caught:
    under_t5x.main()
  assert caught.value.code == f'ran {WORDS}'
  sys.modules.pop('t5x', None)
