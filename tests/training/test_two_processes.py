"""Two processes that meet over loopback train as one device does."""

import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
import runs

from musiclm_jax.training import exporting
from musiclm_jax.training import metrics_writer
from musiclm_jax.training import watchdog

HERE = pathlib.Path(runs.__file__).parent  # of the helpers


def free_port():
  with socket.socket() as free:
    free.bind(('127.0.0.1', 0))
    return free.getsockname()[1]


def start(model_dir, kind, steps, mesh, sleep=0.0, devices=2):
  """Both processes of a run, each with `devices` devices of its own."""
  port = free_port()
  # NPROC: threads. Each collective that waits for the other process holds one;
  # with fewer than all of a step's, both may wait in different ones for ever.
  env = dict(os.environ, JAX_PLATFORMS='cpu', NPROC='256',
             XLA_FLAGS=f'--xla_force_host_platform_device_count={devices}',
             MUSICLM_COORDINATOR=f'127.0.0.1:{port}', MUSICLM_NUM_PROCESSES='2')
  return [subprocess.Popen(
      [sys.executable, str(HERE / 'two_processes.py'),
       str(model_dir), str(steps), str(sleep), kind, json.dumps(mesh)],
      env=dict(env, MUSICLM_PROCESS_ID=str(number)), text=True,
      stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) for number in range(2)]


def finish(processes):
  """[what each said]; both must have ended well."""
  said = [p.communicate(timeout=900)[1] for p in processes]
  assert [p.returncode for p in processes] == [0, 0], '\n'.join(said)
  return said


def distance(kind, model_dir, other_dir):
  """How far the newest checkpoints of two runs are apart."""
  states = [exporting.restore(*runs.make(kind), path)[1]
            for path in (model_dir, other_dir)]
  return max(float(np.max(np.abs(a - b))) for a, b in zip(
      *map(jax.tree.leaves, states), strict=True))


def test_they_train_stop_together_and_go_on_alone(tmp_path):
  """One process gets the signal, both stop; one device finishes the run."""
  runs.train('toy', tmp_path / 'one', 30, mesh=(1, 1))
  processes = start(tmp_path / 'two', 'toy', 30, {'fsdp': 2, 'model': 2}, 0.05)
  end = time.monotonic() + 600
  while time.monotonic() < end and all(p.poll() is None for p in processes):
    rows = metrics_writer.read(tmp_path / 'two', 'train')
    if rows and int(rows[-1]['step']) >= 3:
      processes[1].send_signal(signal.SIGTERM)
      break
    time.sleep(0.05)
  first, _ = finish(processes)
  assert 'stopped by SIGTERM at step' in first and '4 device(s)' in first
  rows = metrics_writer.read(tmp_path / 'two', 'train')
  stopped = int(rows[-1]['step'])
  assert stopped % 5 == 0 and 5 <= stopped < 30
  # Each told how far it came.
  notes = {p.name: json.loads(p.read_text())
           for p in (tmp_path / 'two' / 'hosts').iterdir()}
  assert {name: note['step'] for name, note in notes.items()} == {
      '0': stopped, '1': stopped}
  result = runs.train('toy', tmp_path / 'two', 30, mesh=(1, 1))
  assert result.reason == 'finished'
  assert distance('toy', tmp_path / 'one', tmp_path / 'two') < 1e-5
  ids = [float(r['id']) for r in metrics_writer.read(tmp_path / 'two', 'train')]
  assert ids == list(range(30))


LEAF = '''
from __gin__ import dynamic_registration
import toy_trainable

TRAINABLE = @toy_trainable.Toy()
SOURCE = @toy_trainable.ToySource()
TRAIN_STEPS = 20
EVAL_EVERY = 0
CHECKPOINT_EVERY = 10
LOG_EVERY = 1
MESH = {'fsdp': 2, 'model': 2}
NUM_PROCESSES = 2
'''


@pytest.mark.slow
def test_they_meet_by_what_gin_says(tmp_path):
  """The coordinator on the command line, the number in the leaf."""
  (tmp_path / 'toy.gin').write_text(LEAF)
  env = {k: v for k, v in os.environ.items() if not k.startswith('MUSICLM')}
  env.update(JAX_PLATFORMS='cpu', NPROC='256', PYTHONPATH=str(HERE),
             XLA_FLAGS='--xla_force_host_platform_device_count=2')
  port = free_port()
  finish([subprocess.Popen(
      [sys.executable, '-m', 'musiclm_jax.commands.cli', 'train',
       str(tmp_path / 'toy.gin'), f"--gin.MODEL_DIR='{tmp_path}/two'",
       f"--gin.COORDINATOR='127.0.0.1:{port}'", f'--gin.PROCESS_ID={number}'],
      env=env, text=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
          for number in range(2)])
  runs.train('toy', tmp_path / 'one', 20, mesh=(1, 1))
  assert distance('toy', tmp_path / 'one', tmp_path / 'two') < 1e-5


@pytest.mark.slow
def test_the_late_host_is_named(tmp_path):
  """One process waits for data for ever; the other says so, and both end."""
  processes = start(tmp_path, 'stall', 30, {'data': 4})
  said = [p.communicate(timeout=900)[1] for p in processes]
  assert 'late: host 1 (' in said[0] and 'waiting for data at step 7' in said[0]
  assert 'host 0' in said[0].split('late: host 1')[1]  # gives up waiting
  assert processes[0].returncode == watchdog.EXIT_CODE
  assert processes[1].returncode != 0


@pytest.mark.slow
@pytest.mark.parametrize('mesh', [
    {'data': 4}, {'fsdp': 4}, {'data': 2, 'model': 2}])
def test_a_stage_trains_as_on_one_device(tmp_path, mesh):
  runs.train('stage', tmp_path / 'one', 4, mesh=(1, 1))
  for steps in (2, 4):  # the second start resumes the first
    finish(start(tmp_path / 'two', 'stage', steps, mesh))
  assert distance('stage', tmp_path / 'one', tmp_path / 'two') < 2e-5
