""".ci/run, with stand-ins for the programs that it starts."""

import pathlib
import re
import shutil
import subprocess

import pytest
import yaml

ROOT = pathlib.Path(__file__).parent.parent
DAY = 86_400
SLOW = [f'tests/test_{letter}.py' for letter in 'abcdefghi']


@pytest.fixture(name='run')
def _run(tmp_path):
  """run(what local.sh does, day) -> (exit code, what it says, its calls)."""
  (tmp_path / '.ci').mkdir()
  shutil.copy(ROOT / '.ci/run', tmp_path / '.ci')
  (tmp_path / 'tests').mkdir()
  for name in SLOW:
    (tmp_path / name).write_text('@pytest.mark.slow\n')
  (tmp_path / 'tests/test_quick.py').write_text('pass\n')
  (tmp_path / 'launch').mkdir()
  (tmp_path / 'bin').mkdir()

  def stand_in(name, script):
    path = tmp_path / 'bin' / name
    path.write_text(f'#!/bin/bash\n{script}\n')
    path.chmod(0o755)

  def run(script='', day=0):
    for name in ('python3.11', 'chromium'):
      stand_in(name, '')
    stand_in('date', f'echo {day * DAY}')
    calls = tmp_path / 'calls'
    calls.write_text('')
    (tmp_path / 'launch/local.sh').write_text(
        f'echo "$*" >>{calls}\n{script}\n')
    done = subprocess.run(
        ['bash', str(tmp_path / '.ci/run')], capture_output=True, text=True,
        env=dict(PATH=f'{tmp_path}/bin:/usr/bin:/bin'), timeout=60, check=False)
    return done.returncode, done.stdout, calls.read_text().splitlines()

  return run


def test_every_part_is_run(run):
  code, _, calls = run()
  assert code == 0
  assert calls[:5] == ['lint', 'types --version', 'types', 'test',
                       'test -n 0 -m web tests/serving']
  assert len(calls) == 6


def test_every_slow_file_has_its_turn_once_a_week(run):
  seen = []
  for day in range(20_000, 20_007):
    code, said, calls = run(day=day)
    assert code == 0
    files = re.findall(r'tests/\S+\.py', calls[-1])
    assert calls[-1].startswith('test -x -m slow and not ') and files
    assert f'slow tests of today: {" ".join(files)}' in said
    seen += files
  assert sorted(seen) == SLOW


@pytest.mark.parametrize('failing', [
    '"lint"', '"types"', '"test"', '"test -n 0"*', '"test -x"*'])
def test_what_fails_is_a_failure(run, failing):
  code, _, _ = run(f'case "$*" in {failing}) exit 1 ;; esac')
  assert code == 1


def test_a_spent_time_is_a_line_and_no_failure(run):
  code, said, _ = run('case "$*" in "test -x"*) exit 124 ;; esac')
  assert code == 0 and '12 minutes were over' in said
  code, said, _ = run('case "$*" in "test") exit 124 ;; esac')
  assert code == 124 and 'minutes' not in said


def test_types_are_left_out_where_pyright_is_missing(run):
  code, said, calls = run('case "$*" in types*) exit 1 ;; esac')
  assert code == 0 and 'types: left out' in said and 'types' not in calls


def test_workflows_call_what_is_there():
  files = sorted((ROOT / '.github/workflows').glob('*.yml'))
  assert [path.name for path in files] == ['checks.yml', 'nightly.yml']
  steps = [step for path in files
           for job in yaml.safe_load(path.read_text())['jobs'].values()
           for step in job['steps']]
  for name in re.findall(r'(?:launch|locks|tests)/[\w./-]+', repr(steps)):
    assert (ROOT / name).exists(), name
