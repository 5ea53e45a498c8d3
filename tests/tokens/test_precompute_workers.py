"""Precompute on workers: the bytes of one process, whoever is killed."""

import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from musiclm_jax import records
from musiclm_jax import workers
from musiclm_jax.tokenizers import loading
from musiclm_jax.tokens import precompute
from tests.helpers import fake_tokens
from tests.helpers import killable

_ROOT = pathlib.Path(__file__).parent.parent.parent
_BEAM = workers.Options('beam', workers=2)


@pytest.fixture(name='corpus', scope='module')
def corpus_fixture(tmp_path_factory):
  place = tmp_path_factory.mktemp('data') / 'corpus'
  return fake_tokens.write_corpus(place)


@pytest.fixture(name='unbroken', scope='module')
def unbroken_fixture(corpus, tmp_path_factory):
  place = tmp_path_factory.mktemp('made') / 'cache'
  precompute.tokenize(fake_tokens.tokenizers(), corpus, place,
                      shard_seconds=killable.SHARD_SECONDS)
  return fake_tokens.content(place)


def start(corpus, cache, runner, notes):
  notes.mkdir(exist_ok=True)
  return subprocess.Popen(
      [sys.executable, '-m', 'tests.helpers.killable', str(corpus.directory),
       str(cache), runner, str(notes)], cwd=_ROOT, stderr=subprocess.PIPE,
      text=True, env=dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path)))


def at_work(notes):
  """Numbers of the processes that are within a shard; of the living."""
  found = []
  for name in os.listdir(notes):
    if pathlib.Path('/proc', name).exists():
      found.append(int(name))
  return found


def test_beam_makes_the_cache_that_this_process_makes(
    corpus, unbroken, tmp_path):
  lines = []
  precompute.tokenize(
      fake_tokens.tokenizers(), corpus, tmp_path / 'c', lines.append,
      shard_seconds=killable.SHARD_SECONDS, options=_BEAM,
      load=fake_tokens.tokenizers)
  assert fake_tokens.content(tmp_path / 'c') == unbroken
  assert lines[-1].startswith('tokens: 0.04 of 0.04 h')


def test_threads_make_it_too(corpus, unbroken, tmp_path):
  precompute.tokenize(
      fake_tokens.tokenizers(), corpus, tmp_path / 'c',
      shard_seconds=killable.SHARD_SECONDS, options=workers.Options(workers=3))
  assert fake_tokens.content(tmp_path / 'c') == unbroken


def test_tokenizers_are_loaded_once_in_a_process(monkeypatch, corpus):
  loads = []
  monkeypatch.setattr(loading.Tokenizers, 'load',
                      lambda *given: loads.append(given) or given)
  recipe = loading.Recipe('bundle')
  assert recipe.load() is loading.Recipe('bundle').load()
  assert loads == [('bundle',)]
  monkeypatch.setattr(loading.registry, 'adapt', lambda *given, **options: given)
  other = loading.Recipe('bundle', (('codec', 'options'),),
                         str(corpus.directory), 'hash', 'cache')
  _, (choices, found, *rest) = other.load()
  assert choices == dict(codec='options') and rest == ['hash', 'cache']
  assert isinstance(found, records.Corpus)
  loading._load.cache_clear()  # pylint: disable=protected-access


@pytest.mark.slow
def test_workers_killed_at_random_change_nothing(corpus, unbroken, tmp_path):
  """Twenty of Beam's, wherever they are; a piece may be given up in between."""
  rng, kills, notes = np.random.default_rng(0), 0, tmp_path / 'notes'
  while kills < 20:
    process = start(corpus, tmp_path / 'c', 'beam', notes)
    while process.poll() is None and kills < 20:
      time.sleep(float(rng.uniform(0.05, 0.6)))
      for number in at_work(notes):
        os.kill(number, signal.SIGKILL)
        kills += 1
    if kills < 20 and process.returncode == 0:
      break  # nothing is left to be done
    if kills == 20:
      break
  stopped = process.communicate(timeout=600)[1]
  runs = 0
  while process.returncode:
    assert 'run the command again' in stopped
    runs += 1
    assert runs < 3
    process = start(corpus, tmp_path / 'c', 'beam', notes)
    stopped = process.communicate(timeout=600)[1]
  assert fake_tokens.content(tmp_path / 'c') == unbroken


@pytest.mark.slow
def test_a_program_killed_at_random_changes_nothing(corpus, unbroken, tmp_path):
  rng, notes = np.random.default_rng(1), tmp_path / 'notes'
  for _ in range(5):
    process = start(corpus, tmp_path / 'c', 'local', notes)
    while not at_work(notes) and process.poll() is None:
      time.sleep(0.02)
    time.sleep(float(rng.uniform(0, 1.2)))
    process.kill()
    process.wait()
    for path in notes.iterdir():
      path.unlink()
  assert start(corpus, tmp_path / 'c', 'local', notes).wait() == 0
  assert fake_tokens.content(tmp_path / 'c') == unbroken
