"""examples/: the scripts and the notebook run as they stand, on a tiny bundle."""

import json
import pathlib
import re
import runpy
import shutil

import pytest
import soundfile

from musiclm_jax import bundle as bundle_lib
from musiclm_jax import files

EXAMPLES = pathlib.Path(__file__).parent.parent / 'examples'
# Script -> (seconds of each file that it writes, what it says).
QUICK = {
    'generate': ({'jig.wav': 10}, r'jig\.wav: 10\.0 s\n'),
    'stream': ({}, r'(after +[\d.]+ s: 24000 samples\n){10}'),
    'melody': ({'waltz.wav': 5}, ''),
    'story': ({'story.wav': 10}, ''),
    'continue_recording': ({'longer.wav': 7}, '7 s\n'),
    'evaluate_prompts': ({}, r'own -?0\.\d{3}, others -?0\.\d{3}\n'),
    'codec': ({'again.wav': 2}, '100 frames of 12 codes\n'),
}
ALONE = ('swap_stage', 'train_stage')  # those have tests of their own


@pytest.fixture(name='place')
def _place(bundle, tmp_path, monkeypatch):
  """An empty folder to work in, beside a tiny bundle that stands for ours."""
  folder, ships = tmp_path / 'work', tmp_path / 'ships'
  shutil.copytree(bundle.directory, ships)
  _allow_guidance(ships / 'semantic/config.json')
  folder.mkdir()
  monkeypatch.chdir(folder)
  monkeypatch.setattr(bundle_lib, 'shipped', lambda: ships)
  monkeypatch.setenv('MPLBACKEND', 'agg')
  return folder


def _allow_guidance(path):
  """Lets a stage say that it went without its prompt at times, as ours does."""
  stored = json.loads(path.read_text())
  stored['metadata']['conditioning'] = {'dropout': {'mulan': 0.1}}
  files.write_json(path, stored)


def _seconds(folder):
  """{file: its seconds} of the sound in a folder."""
  return {path.name: soundfile.info(path).duration
          for path in folder.glob('*.wav')}


@pytest.mark.parametrize('name', QUICK)
def test_scripts_run(name, place, capsys):
  runpy.run_path(str(EXAMPLES / f'{name}.py'), run_name='__main__')
  written, said = QUICK[name]
  assert _seconds(place) == written
  assert re.fullmatch(said, capsys.readouterr().out)


def test_a_stage_is_swapped(place, capsys):
  runpy.run_path(str(EXAMPLES / 'swap_stage.py'))
  assert capsys.readouterr().out == '(48000,)\n'
  config = json.loads((place / 'my_bundle/coarse/config.json').read_text())
  assert config['storage'] == 'int8'
  assert (bundle_lib.Bundle('my_bundle').component_hash('coarse') !=
          bundle_lib.Bundle(bundle_lib.shipped()).component_hash('coarse'))


@pytest.mark.slow
def test_a_stage_is_trained(tmp_path, monkeypatch, capsys):
  monkeypatch.chdir(tmp_path)
  runpy.run_path(str(EXAMPLES / 'train_stage.py'), run_name='__main__')
  stored = json.loads((tmp_path / 'bundle/semantic/config.json').read_text())
  assert stored['kind'] == 'semantic' and stored['metadata']['steps'] == 20
  assert re.search(r'^  semantic .* 20 steps', capsys.readouterr().out,
                   re.MULTILINE)


def test_every_script_is_run_and_listed():
  found = {path.stem for path in EXAMPLES.glob('*.py')}
  assert found == {*QUICK, *ALONE}
  listed = re.findall(r'^\| \[(\w+)\.py\]', (EXAMPLES / 'README.md').read_text(),
                      re.MULTILINE)
  assert sorted(listed) == sorted(found)


def _cells():
  """The code cells of the notebook."""
  notebook = json.loads((EXAMPLES / 'musiclm.ipynb').read_text())
  return [c for c in notebook['cells'] if c['cell_type'] == 'code']


def test_the_notebook_runs_from_top_to_bottom(place):
  pytest.importorskip('matplotlib')
  names = {}
  for number, cell in enumerate(_cells(), 1):
    source = compile(''.join(cell['source']), f'cell {number}', 'exec')
    exec(source, names)  # pylint: disable=exec-used
  assert names['audio'].shape == (48_000,)
  assert names['mels'].shape == (300, 64)
  assert names['take'].acoustic.shape == (100, 12)
  for name in ('calm', 'guided'):
    assert (names[name].takes[0].semantic != names['take'].semantic).any(), name
  assert _seconds(place) == {'calm.wav': 2}


def test_the_notebook_holds_no_outputs():
  assert _cells()
  for cell in _cells():
    assert cell['outputs'] == [] and cell['execution_count'] is None
