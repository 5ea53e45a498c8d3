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
  """The program; what it says is in NOTES.log, as Beam would fill a pipe."""
  notes.mkdir(exist_ok=True)
  with open(f'{notes}.log', 'w', encoding='utf-8') as log:
    return subprocess.Popen(
        [sys.executable, '-m', 'tests.helpers.killable', str(corpus.directory),
         str(cache), runner, str(notes)], cwd=_ROOT, stderr=log,
        env=dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path)))


def at_work(notes):
  """Numbers of the processes that are within a shard; of the living."""
  found = []
  for name in os.listdir(notes):
    if pathlib.Path('/proc', name).exists():
      found.append(int(name))
  return found


def test_beam_makes_the_cache_that_this_process_makes(
    corpus, unbroken, tmp_path):
  pytest.importorskip('apache_beam')
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
  """Twenty of Beam's, wherever they are; pieces may be given up in between."""
  rng, kills, caches = np.random.default_rng(0), 0, 0
  while kills < 20:
    cache, notes = tmp_path / f'c{caches}', tmp_path / f'notes{caches}'
    kills += finish(corpus, cache, notes, rng, 20 - kills)
    assert fake_tokens.content(cache) == unbroken
    caches += 1


def finish(corpus, cache, notes, rng, most_kills):
  """Runs until the cache is there; returns how many workers were killed."""
  kills = 0
  for _ in range(20):
    process = start(corpus, cache, 'beam', notes)
    while process.poll() is None:
      time.sleep(float(rng.uniform(0.05, 0.6)))
      for number in at_work(notes):
        if kills < most_kills and rng.random() < 0.8:
          os.kill(number, signal.SIGKILL)
          kills += 1
    if not process.returncode:
      return kills
    said = pathlib.Path(f'{notes}.log').read_text(encoding='utf-8')
    assert 'its worker ended 3 times' in said and 'run the command again' in said
  raise AssertionError('it does not come to an end')


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
