"""An evaluation is one file: found by its place, read without being run."""

import json
import re
import subprocess
import sys

import pytest

from musiclm_jax import bundle as bundle_lib
from musiclm_jax import evaluation
from musiclm_jax.commands import cli
from musiclm_jax.evaluation import runnable

_FILE = '''"""Counts to a number."""

from musiclm_jax.evaluation import report
from musiclm_jax.evaluation import runnable

EVALUATION = {
    'help': 'how far can it count?',
    'components': ['codec'],
    'packages': %s,
    'corpus': False,
    'clips': 3,
    'arguments': {'--from': {
        'type': 'int', 'default': 5, 'dest': 'start', 'help': 'where to begin'}},
}


def run(asked):
  asked.say('counting')
  value = asked.options.start + asked.options.clips
  section = report.Section('Counted', (report.Line('to', str(value)),))
  asked.show(section)
  return runnable.Outcome(
      dict(counted=value), [section], dict(seed=asked.options.seed),
      f'Counting of {asked.bundle.identity}', 'one number')
'''


@pytest.fixture(name='add')
def _add(tmp_path, monkeypatch):
  """Function from a file's text to nothing: it is in the folder from then on."""
  class Bundle:
    identity = 'none'

    def __init__(self, directory):
      self.directory, self.required = directory, ()

    def require(self, *names):
      assert names == ('codec',)

    def weights_fingerprint(self):
      return 'f'

  place = tmp_path / 'more'
  place.mkdir()
  monkeypatch.setattr(evaluation, '__path__',
                      [*evaluation.__path__, str(place)])
  monkeypatch.setattr(bundle_lib, 'Bundle', Bundle)
  monkeypatch.chdir(tmp_path)
  yield lambda text: (place / 'counting.py').write_text(text)
  sys.modules.pop('musiclm_jax.evaluation.counting', None)
  if hasattr(evaluation, 'counting'):
    del evaluation.counting


def test_a_new_one_is_a_new_file(add, tmp_path, capsys):
  add(_FILE % [])
  cli.main(['evaluate', 'counting', '--from', '7', '--clips', '4', '--json',
            'c.json', '--report', 'c.html'])
  printed = capsys.readouterr()
  assert 'Counted\n  to        11\n' in printed.out
  assert 'counting' in printed.err
  found = json.loads((tmp_path / 'c.json').read_text())
  assert found['counted'] == 11 and found['bundle_fingerprint'] == 'f'
  assert found['seed'] == 0
  assert 'Counting of none' in (tmp_path / 'c.html').read_text()
  with pytest.raises(SystemExit):
    cli.main(['evaluate', '--help'])
  assert re.search(r'^  counting +how far can it count\?$',
                   capsys.readouterr().out, re.MULTILINE)
  with pytest.raises(SystemExit):
    cli.main(['evaluate', 'counting', '--help'])
  told = capsys.readouterr().out
  assert 'Counts to a number.' in told and 'where to begin' in told
  assert '--corpus' not in told and '--out' not in told


@pytest.mark.parametrize('argv, message', [
    (('quick', '--from', '1'), '--from goes with `musiclm evaluate counting`, '
     'not with quick.'),
    (('counting', '--corpus', 'x'), '--corpus goes with `musiclm evaluate '
     'quick`, not with counting.'),
    (('counting', '--loud'), 'unrecognized arguments: --loud (see `musiclm '
     'evaluate counting --help`).'),
    (('counting', '--clips', '501'), '--clips is 501; expected 2 to 500.'),
])
def test_options_of_others(add, capsys, argv, message):
  add(_FILE % [])
  with pytest.raises(SystemExit) as stopped:
    cli.main(['evaluate', *argv])
  assert stopped.value.code == 2
  assert capsys.readouterr().err == f'musiclm: error: {message}\n'


def test_a_package_that_is_missing_is_named(add, capsys, monkeypatch):
  add(_FILE % ['swift_f0'])
  monkeypatch.setattr(runnable.importlib.util, 'find_spec', lambda name: None)
  with pytest.raises(SystemExit) as stopped:
    cli.main(['evaluate', 'counting'])
  assert stopped.value.code == 2
  assert 'pip install "musiclm_jax[eval]"' in capsys.readouterr().err


@pytest.mark.parametrize('wrong', ["{'help': HELP, 'clips': 1}",
                                   "{'help': 'x', 'clips': 1, 'clip': 2}",
                                   "{'help': 'x'}"])
def test_what_is_no_declaration_says_where_it_is(add, wrong):
  add(f'HELP = "x"\nEVALUATION = {wrong}\n')
  with pytest.raises(ValueError, match='counting.py: EVALUATION is not what'):
    runnable.declared()


def test_machinery_is_no_evaluation():
  found = runnable.declared()
  assert list(found)[0] == 'quick'
  assert {'codec', 'conditions', 'families', 'following', 'joint', 'melody',
          'semantic', 'ladder', 'modelability', 'memorization', 'diversity',
          'ablation'} <= set(found)
  assert not {'held_out', 'report', 'streams', 'ladder_report', 'runnable',
              'stage_losses', 'pictures'} & set(found)
  for declaration in found.values():
    assert declaration.help and declaration.about.count('\n') > 3


@pytest.mark.parametrize('argv', [['evaluate', '--help'],
                                  ['evaluate', 'quick', '--help']])
def test_help_runs_no_file(argv):
  code = ('import sys; from musiclm_jax.commands import cli\n'
          f'try: cli.main({argv})\n'
          'except SystemExit: pass\n'
          'sys.exit("jax" in sys.modules or '
          '"musiclm_jax.evaluation.quick" in sys.modules)')
  done = subprocess.run([sys.executable, '-c', code], capture_output=True,
                        text=True, check=False)
  assert done.returncode == 0, done.stderr[-500:]
  assert 'is weak?' in done.stdout
