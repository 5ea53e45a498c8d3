"""The launch scripts, with stand-ins for gcloud, srun and the programs."""

import os
import pathlib
import re
import shlex
import shutil
import signal
import subprocess
import time

import pytest
import yaml

from musiclm_jax import bundle
from musiclm_jax import configs
from musiclm_jax import workers
from musiclm_jax.commands import cli
from musiclm_jax.training import hosts

LAUNCH = pathlib.Path(__file__).parent.parent / 'launch'
SCRIPTS = sorted(LAUNCH.glob('*.sh'))


def run(script, *words, folder=LAUNCH, **environment):
  """Runs a script in a clean environment; (exit code, lines of stdout)."""
  process = start(script, *words, folder=folder, **environment)
  out, err = process.communicate(timeout=60)
  return process.returncode, out.splitlines(), err


def start(script, *words, folder=LAUNCH, **environment):
  environment.setdefault('PATH', os.environ['PATH'])
  return subprocess.Popen(
      ['bash', str(folder / script), *words], stdout=subprocess.PIPE,
      stderr=subprocess.PIPE, text=True, env=dict(environment, HOME='/nowhere'))


@pytest.fixture(name='stand_in')
def _stand_in(tmp_path):
  """stand_in('gcloud', 'exit 3'): a program that notes its words in `calls`."""
  (tmp_path / 'bin').mkdir()
  calls = tmp_path / 'calls'
  calls.touch()

  def make(name, script='', at=None):
    path = (at or tmp_path / 'bin') / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'#!/bin/bash\necho "{name} $*" >>{calls}\n{script}\n')
    path.chmod(0o755)
    return f'{tmp_path}/bin:{os.environ["PATH"]}'

  make.calls = lambda: calls.read_text().splitlines()
  return make


@pytest.mark.parametrize('script', SCRIPTS, ids=lambda path: path.name)
def test_scripts_are_sound(script):
  subprocess.run(['bash', '-n', str(script)], check=True)
  text = script.read_text()
  assert 'set -euo pipefail' in text and os.access(script, os.X_OK)
  shellcheck = shutil.which('shellcheck')
  if shellcheck:
    found = subprocess.run([shellcheck, str(script)], capture_output=True,
                           text=True, check=False)
    assert not found.returncode, found.stdout


def installs(calls):
  """The last words of the calls of pip that install."""
  return [c.split('--no-deps ')[1].replace(f'{LAUNCH.parent}/', '')
          for c in calls if c.startswith('pip install') and 'cuda' not in c
          and '-e ' not in c]


def test_t5x_is_installed_from_its_locks_once(stand_in, tmp_path):
  venv = tmp_path / 'venv'
  for name in ('pip', 'python'):
    stand_in(name, at=venv / 'bin')
  words = ('t5x', 'eval', '--gin_file=a b.gin')
  for _ in range(2):
    code, _, err = run('local.sh', *words, VENV=str(venv),
                       PATH=stand_in('git'))
    assert code == 0, err
  calls = stand_in.calls()
  assert installs(calls) == ['--require-hashes -r locks/t5x.txt',
                             '-r locks/t5x_commits.txt']
  ran = 'python -m musiclm_jax.commands.under_t5x eval --gin_file=a b.gin'
  assert [c for c in calls if c.startswith('python')] == [ran, ran]
  commits = (LAUNCH.parent / 'locks/t5x_commits.txt').read_text()
  found = re.findall(r'^(\w+) @ git\+https://\S+/\1@[0-9a-f]{40}$', commits,
                     re.MULTILINE)
  assert found == ['airio', 'jestimator', 't5x']
  assert [c for c in calls if c.startswith('git')] == [
      'git ls-remote -q https://github.com/google-research/t5x HEAD']


@pytest.mark.parametrize('word, program', [
    ('lint', 'ruff check --fix'),
    ('types', 'pyright --project pyproject.toml '
     '--pythonpath {venv}/bin/python --fix')])
def test_tools_come_from_a_lock_of_their_own(stand_in, tmp_path, word, program):
  venv = tmp_path / 'venv'
  for name in ('pip', 'python', 'ruff', 'pyright'):
    stand_in(name, at=venv / 'bin')
  code, _, err = run('local.sh', word, '--fix', VENV=str(venv))
  assert code == 0, err
  calls = stand_in.calls()
  assert installs(calls) == [f'--require-hashes -r locks/{word}.txt']
  assert calls[-1] == program.format(venv=venv)


def test_installing_fetches_nothing_but_what_a_lock_names(stand_in, tmp_path):
  """The package is built by the setuptools that each lock brings."""
  stand_in('pip', at=tmp_path / 'venv/bin')
  stand_in('musiclm', at=tmp_path / 'venv/bin')
  assert run('local.sh', 'inspect', VENV=str(tmp_path / 'venv'))[0] == 0
  built = [c for c in stand_in.calls() if f'-e {LAUNCH.parent}' in c]
  assert built and all('--no-deps --no-build-isolation' in c for c in built)
  for lock in (LAUNCH.parent / 'locks').glob('*.txt'):
    text = lock.read_text()
    if '--hash' in text:
      assert re.search(r'^setuptools==', text, re.MULTILINE), lock.name


@pytest.fixture(name='t5x')
def _t5x(stand_in, tmp_path):
  """t5x(script of pip, script of git, **environment): local.sh t5x, once."""
  venv = tmp_path / 'venv'
  stand_in('python', at=venv / 'bin')

  def start_t5x(pip='', git='exit 9', **environment):
    stand_in('pip', pip, at=venv / 'bin')
    return run('local.sh', 't5x', 'train', VENV=str(venv),
               PATH=stand_in('git', git), **environment)

  start_t5x.stamp = venv / 'installed-t5x_commits'
  return start_t5x


def test_without_github_one_line_says_what_to_do(t5x, stand_in):
  code, out, err = t5x(git='echo "fatal: no such host" >&2; exit 128')
  assert code == 2 and not out and not t5x.stamp.exists()
  last = err.splitlines()[-1]
  assert 'google-research/t5x cannot be reached' in last
  assert 'T5X_FROM=DIR' in last and 'fatal' not in err
  assert not any('t5x_commits' in c or c.startswith('python')
                 for c in stand_in.calls())


def test_t5x_is_installed_from_files(t5x, stand_in, tmp_path):
  files = tmp_path / 'brought along'
  for folder in ('airio', 't5x'):
    (files / folder).mkdir(parents=True)
    (files / folder / 'setup.py').touch()
  wheel = files / 'jestimator-0.3.3-py3-none-any.whl'
  code, out, err = t5x(T5X_FROM=str(files))
  assert code == 2 and f'T5X_FROM={files} has no jestimator' in err
  assert not out and not t5x.stamp.exists()
  wheel.touch()
  for _ in range(2):  # the second has nothing to install
    code, _, err = t5x(T5X_FROM=str(files))
    assert code == 0, err
  assert installs(stand_in.calls())[1:] == [
      f'{files}/airio {wheel} {files}/t5x']
  assert not any(c.startswith('git') for c in stand_in.calls())
  # What is there stays, whether or not the files are named again.
  assert t5x()[0] == 0


def test_what_pip_says_of_a_failure_is_one_line(t5x, tmp_path):
  for folder in ('airio', 't5x', 'jestimator'):
    (tmp_path / 'files' / folder).mkdir(parents=True)
    (tmp_path / 'files' / folder / 'pyproject.toml').touch()
  code, _, err = t5x(
      'case "$*" in *airio*) printf "%s\\n" Processing "ERROR: no flit_core" '
      'note; exit 1 ;; esac', T5X_FROM=str(tmp_path / 'files'))
  assert code == 2 and not t5x.stamp.exists()
  last = err.splitlines()[-1]
  assert '(ERROR: no flit_core); all that pip said is in' in last
  assert 'Processing' not in err
  assert 'Processing' in (tmp_path / 'venv/t5x_install.log').read_text()


def test_the_recipe_names_leaves_and_settings_that_are_there(tmp_path):
  code, out, err = run('train_demo.sh', str(tmp_path / 'out'), DRY_RUN='1')
  assert code == 0, err
  commands = [line.split() for line in out]
  assert [c[1] for c in commands] == (
      ['data'] * 2 + ['train', 'export'] * 2 + ['data']
      + ['train', 'export'] * 3 + ['precompute']
      + ['train'] * 4 + ['export'] + ['train'] * 6 + ['export']
      + ['train', 'export', 'evaluate', 'generate'])
  exported = set()
  for _, command, leaf, *rest in commands:
    if command in ('train', 'export'):
      bindings = [w.removeprefix('--gin.') for w in rest if '--gin.' in w]
      configs.load(leaf, bindings)
    if command == 'export':
      exported.add(pathlib.Path(rest[rest.index('--out') + 1]).name)
  assert exported == set(bundle.COMPONENTS)
  # What is there is not made again.
  place = tmp_path / 'out/bundle/coarse'
  place.mkdir(parents=True)
  (place / 'config.json').write_text('{}')
  (tmp_path / 'out/corpus').mkdir()
  (tmp_path / 'out/bundle/codec').mkdir()
  _, out, _ = run('train_demo.sh', str(tmp_path / 'out'), DRY_RUN='1')
  assert not any(word in line for line in out
                 for word in ('coarse', 'musiclm data', 'framecodec'))


# ---- one host ----


@pytest.mark.parametrize('environment, number', [
    (dict(MUSICLM_PROCESS_ID='3', SLURM_PROCID='1'), '3'),
    (dict(SLURM_PROCID='1', JOB_COMPLETION_INDEX='2'), '1'),
    (dict(JOB_COMPLETION_INDEX='2'), '2')])
def test_a_host_finds_its_number(environment, number):
  code, out, _ = run(
      'host.sh', 'train', 'leaf', DRY_RUN='1', LOG_DIR='/logs',
      MUSICLM_COORDINATOR='node:1', MUSICLM_NUM_PROCESSES='4', **environment)
  assert code == 0
  assert out == [
      'MUSICLM_COORDINATOR=node:1', 'MUSICLM_NUM_PROCESSES=4',
      f'MUSICLM_PROCESS_ID={number}', 'MUSICLM_STOPPED_EXIT=75',
      f'log /logs/host_{number}.log',
      f'run bash {LAUNCH}/local.sh train leaf']


def test_a_host_keeps_a_log_and_hands_signals_on(tmp_path):
  folder = tmp_path / 'launch'
  folder.mkdir()
  shutil.copy(LAUNCH / 'host.sh', folder)
  (folder / 'local.sh').write_text(
      'trap "echo told to go; exit 7" TERM\necho "$@" as $MUSICLM_PROCESS_ID\n'
      'while :; do sleep 0.05; done\n')
  process = start('host.sh', 'train', 'a b', folder=folder,
                  LOG_DIR=str(tmp_path / 'logs'), SLURM_PROCID='1')
  log = tmp_path / 'logs/host_1.log'
  wait_for(lambda: log.exists() and 'train a b as 1' in log.read_text())
  process.send_signal(signal.SIGTERM)
  out, _ = process.communicate(timeout=30)
  assert process.returncode == 7
  assert 'told to go' in out and log.read_text() == out


def wait_for(condition):
  deadline = time.monotonic() + 30
  while not condition():
    assert time.monotonic() < deadline
    time.sleep(0.02)


@pytest.mark.parametrize('script, words, said', [
    ('host.sh', [], 'no command'), ('gpu_slurm.sh', [], 'no command'),
    ('gpu_slurm.sh', ['train'], 'sbatch launch/gpu_slurm.sh'),
    ('tpu_pod.sh', ['pod0', 'train'], 'expected NAME ZONE COMMAND')])
def test_mistakes_exit_with_2(script, words, said):
  code, out, err = run(script, *words)
  assert code == 2 and not out
  assert said in err and err.count('\n') == 1


# ---- Slurm ----


@pytest.fixture(name='slurm')
def _slurm(stand_in, tmp_path):
  """slurm(code of srun, **environment) -> (exit code, calls) of a job."""
  (tmp_path / 'launch').mkdir()
  (tmp_path / 'launch/host.sh').touch()
  stand_in('local.sh', at=tmp_path / 'launch')

  def job(srun, signalled=False, **environment):
    stand_in('srun', srun)
    stand_in('scontrol', '[ "$1" = show ] && printf "node7\\nnode8\\n"; exit 0')
    path = stand_in('nothing')
    process = start(
        'gpu_slurm.sh', 'train', 'leaf', PATH=path, SLURM_JOB_ID='12345',
        SLURM_JOB_NUM_NODES='2', SLURM_JOB_NODELIST='node[7-8]',
        SLURM_SUBMIT_DIR=str(tmp_path), LOG_DIR=str(tmp_path / 'logs'),
        **environment)
    if signalled:
      wait_for(lambda: any(c.startswith('ready') for c in stand_in.calls()))
      process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    return process.returncode, stand_in.calls()

  return job


def test_slurm_runs_one_process_a_node(slurm, tmp_path):
  code, calls = slurm('env >>"$LOG_DIR.env"')
  assert code == 0 and calls[-2] == 'local.sh train --help'
  assert calls[-1] == (
      'srun --nodes=2 --ntasks=2 --ntasks-per-node=1 --kill-on-bad-exit=1 '
      f'bash {tmp_path}/launch/host.sh train leaf')
  seen = (tmp_path / 'logs.env').read_text().splitlines()
  assert 'MUSICLM_COORDINATOR=node7:22345' in seen
  assert 'MUSICLM_NUM_PROCESSES=2' in seen


@pytest.mark.parametrize('code, again, requeued', [
    (1, '0', True), (1, '3', False), (137, '2', True), (2, '0', False),
    (75, '99', True)])
def test_slurm_tries_again_after_a_crash(slurm, code, again, requeued):
  result, calls = slurm(f'exit {code}', SLURM_RESTART_COUNT=again)
  assert ('scontrol requeue 12345' in calls) == requeued
  assert result == (0 if requeued else code)


@pytest.mark.parametrize('code, after', [
    (75, ['saved', 'scontrol requeue 12345']), (143, [
        'saved', 'scontrol requeue 12345']), (0, ['saved'])])
def test_slurm_goes_back_into_the_queue_when_preempted(
    slurm, tmp_path, code, after):
  srun = (f'trap "echo saved >>{tmp_path}/calls; exit {code}" TERM\n'
          f'echo ready >>{tmp_path}/calls\nwhile :; do sleep 0.05; done')
  result, calls = slurm(srun, signalled=True, SLURM_RESTART_COUNT='99')
  assert result == 0 and calls[-len(after):] == after


def test_slurm_dry_run():
  code, out, _ = run('gpu_slurm.sh', 'train', 'leaf', DRY_RUN='1',
                     LOG_DIR='/logs')
  assert code == 0 and out[-1].startswith('run srun --nodes=1')
  assert out[-1].endswith('launch/host.sh train leaf')


# ---- a TPU slice ----


def test_tpu_dry_run():
  code, out, _ = run(
      'tpu_pod.sh', 'pod0', 'zone-a', 'train', 'leaf', "--gin.X='a b'",
      DRY_RUN='1', LOG_DIR='/logs')
  assert code == 0
  remote = next(line for line in out if 'host.sh' in line)
  assert '--worker=all' in remote and 'MUSICLM_COORDINATOR=auto' in remote
  assert not any("'create'" in line for line in out)
  code, out, _ = run(
      'tpu_pod.sh', 'pod0', 'zone-a', 'train', 'leaf', DRY_RUN='1', SPOT='1',
      DRY_STATE='PREEMPTED', ACCELERATOR='v5litepod-256', VERSION='v2',
      LOG_DIR='/logs')
  verbs = [line.split("'")[9] for line in out if "'tpu-vm'" in line]
  assert verbs == ['delete', 'create', 'scp', 'ssh', 'ssh', 'scp']
  assert "'--accelerator-type' 'v5litepod-256'" in out[1]
  assert out[1].endswith("'--spot'")


def test_a_preempted_slice_is_made_anew(stand_in, tmp_path):
  # READY, then preempted in the first attempt, then READY again.
  states = tmp_path / 'states'
  states.write_text('READY\nPREEMPTED\nPREEMPTED\nREADY\n')
  stand_in('git')
  path = stand_in('gcloud', f'''
case "$*" in
  *describe*) head -n 1 {states}; sed -i 1d {states} ;;
  *worker=1*) exit 1 ;;
  *host.sh*) [ -e {tmp_path}/again ] || {{ touch {tmp_path}/again; exit 255; }}
esac''')
  code, _, err = run(
      'tpu_pod.sh', 'pod0', 'zone-a', 'train', "--gin.X='a b'", PATH=path,
      ACCELERATOR='v5litepod-16', VERSION='v2', PAUSE='0',
      LOG_DIR=str(tmp_path / 'logs'))
  assert code == 0, err
  assert 'ended with 255, pod0 is PREEMPTED; attempt 2' in err
  calls = [c.split()[4] for c in stand_in.calls() if c.startswith('gcloud')]
  once = ['scp', 'ssh', 'ssh', 'scp', 'scp', 'describe']
  assert calls == ['describe', *once, 'describe', 'delete', 'create', *once]
  # What the remote shell reads is what was given.
  remote = next(c for c in stand_in.calls() if 'host.sh' in c)
  words = subprocess.run(
      ['bash', '-c', 'printf "%s\\n" ' + remote.split('host.sh', 1)[1]],
      capture_output=True, text=True, check=True).stdout
  assert words.splitlines() == ['train', "--gin.X='a b'"]


def test_a_mistake_is_not_repeated_on_the_slice(stand_in, tmp_path):
  stand_in('git')
  path = stand_in('gcloud', 'case "$*" in *describe*) echo READY ;; '
                  '*host.sh*) exit 2 ;; esac')
  code, _, _ = run('tpu_pod.sh', 'pod0', 'zone-a', 'train', PATH=path,
                   LOG_DIR=str(tmp_path / 'logs'), PAUSE='0')
  assert code == 2
  assert sum('host.sh' in c for c in stand_in.calls()) == 1


# ---- Kubernetes ----


def test_jobset_hangs_together():
  jobset = yaml.safe_load((LAUNCH / 'jobset.yaml').read_text())
  name = jobset['metadata']['name']
  (replicated,) = jobset['spec']['replicatedJobs']
  job = replicated['template']['spec']
  (container,) = job['template']['spec']['containers']
  env = {e['name']: e['value'] for e in container['env']}
  assert job['completionMode'] == 'Indexed'
  assert job['parallelism'] == job['completions'] == int(
      env['MUSICLM_NUM_PROCESSES'])
  assert hosts.settings(dict(env, MUSICLM_PROCESS_ID='63')) == dict(
      coordinator_address=f'{name}-{replicated["name"]}-0-0.{name}:12345',
      num_processes=64, process_id=63)
  assert container['ports'] == [{'containerPort': 12345}]
  (rule,) = job['podFailurePolicy']['rules']
  assert rule['onExitCodes']['containerName'] == container['name']
  mounts = {m['name'] for m in container['volumeMounts']}
  assert mounts == {v['name'] for v in job['template']['spec']['volumes']}


def test_jobset_starts_what_it_names(stand_in, tmp_path):
  jobset = yaml.safe_load((LAUNCH / 'jobset.yaml').read_text())
  job = jobset['spec']['replicatedJobs'][0]['template']['spec']
  container = job['template']['spec']['containers'][0]
  path = stand_in('git', 'if [ "$1" = clone ]; then mkdir -p $4/launch; '
                  'echo \'printf "%s|" "$@"\' >$4/launch/host.sh; fi')
  done = subprocess.run(
      container['command'] + container['args'], cwd=tmp_path, text=True,
      env=dict(PATH=path, REPOSITORY='repo', COMMIT='c0ffee'),
      capture_output=True, check=True)
  assert done.stdout.split('|')[:2] == ['train', 'semantic_base']
  assert "--gin.CACHE_DIR='/data/cache'" in done.stdout
  assert stand_in.calls() == ['git clone -q repo musiclm_jax',
                              'git -C musiclm_jax checkout -q c0ffee']


# ---- Dataflow ----

_CLOUD = dict(PROJECT='music', REGION='us-east1', BUCKET='gs://music')


def _dataflow(*words, **environment):
  code, out, err = run('dataflow.sh', *words, **{
      'DRY_RUN': '1', **_CLOUD, **environment})
  return code, shlex.split(out[0]) if out else [], err


def test_dataflow_dry_run():
  """What Beam makes of the flags is what the script was told."""
  from apache_beam.options import pipeline_options as options  # pylint: disable=g-import-not-at-top
  code, words, _ = _dataflow(
      'gs://music/recordings', '--out', 'gs://music/corpus', MOST_WORKERS='7')
  assert code == 0 and words[2:6] == [
      'ingest', 'gs://music/recordings', '--out', 'gs://music/corpus']
  args, _ = cli._parse(words[2:])  # pylint: disable=protected-access
  given = workers.from_arguments(args)
  assert given.runner == 'DataflowRunner'
  runner, made = workers._runner(given)  # pylint: disable=protected-access
  assert runner == 'DataflowRunner'
  cloud = made.view_as(options.GoogleCloudOptions)
  assert (cloud.project, cloud.region) == ('music', 'us-east1')
  assert cloud.temp_location == 'gs://music/tmp'
  worker = made.view_as(options.WorkerOptions)
  assert (worker.max_num_workers, worker.machine_type) == (7, 'n2-standard-8')
  setup = pathlib.Path(made.view_as(options.SetupOptions).setup_file)
  assert setup == LAUNCH.parent / 'setup.py'
  # None is a flag that Beam would pass over in silence.
  known = made.get_all_options(drop_default=True, retain_unknown_options=False)
  assert len(known) >= len(given.flags)


def test_dataflow_takes_an_image():
  _, words, _ = _dataflow('gs://a/b', '--out', 'gs://a/c', IMAGE='repo/musiclm:1')
  assert '--sdk_container_image=repo/musiclm:1' in words[-1].split()
  assert 'setup_file' not in words[-1]


@pytest.mark.parametrize('words, environment, expected', [
    ([], {}, 'no source'),
    (['gs://a/b', '--out', '/data/c'], {}, '/data/c is a path of this machine'),
    (['gs://a/b'], dict(BUCKET='music'), 'expected one such as gs://music'),
    (['gs://a/b'], dict(PROJECT=''), 'PROJECT is not set')])
def test_dataflow_mistakes(words, environment, expected):
  code, _, err = _dataflow(*words, **environment)
  assert code == 2 and expected in err and err.count('\n') == 1
