"""A service on a fake model, that tests can hold and let go."""

import importlib.util
import os
import threading

import numpy as np
import pytest

from musiclm_jax import specs
from musiclm_jax.serving import jobs
from musiclm_jax.serving import limits as limits_lib
from musiclm_jax.serving import uploads
from musiclm_jax.serving import worker
from musiclm_jax.systems.musiclm import model as model_lib

RATE = specs.AudioSpec().sample_rate_hz


class FakeBundle:
  """Complete, and without weights."""

  identity = 'fake'
  tokens = specs.TokenSpec()
  defaults = {}

  def __init__(self, melody=True):
    self._melody = melody

  def has(self, name):
    return self._melody or name != 'melody'

  def require(self, *unused_names):
    pass

  def stored_spec(self, unused_name):
    return {'conditions': ['mulan'] + ['melody'] * self._melody}

  def stored_metadata(self, unused_name):
    return {'conditioning': {'dropout': {'mulan': 0.15, 'melody': 0.5}}}


class FakeModel:
  """Tones whose pitch is the seed's, second by second.

  Attributes:
    gate: cleared, the model waits before the next second.
    compiled: cleared, it is deep in something that nothing can interrupt.
    prepared: numbers of samples that it was prepared for.
    fault: an exception that it raises instead.
    made: seeds, in order.
  """

  sample_rate_hz = RATE

  def __init__(self, bundle):
    self.bundle, self.fault, self.made, self.prepared = bundle, None, [], []
    self.gate, self.compiled = threading.Event(), threading.Event()
    self.gate.set()
    self.compiled.set()

  def prepare(self, samples):
    self.prepared.append(samples)
    for _ in range(2):
      self.compiled.wait()
      yield

  def make(self, steering, settings, progress=None, sounds=None,
           similarity=False, soon=False):
    assert soon and not similarity
    sounds = sounds or [model_lib.Memory() for _ in range(settings.drawn)]
    self.made.append(settings.seed)
    self.compiled.wait()
    for second in range(settings.whole_seconds):
      progress('coarse', second + 1, settings.whole_seconds)
      while not self.gate.wait(0.01):
        progress('coarse', second + 1, settings.whole_seconds)
      if self.fault is not None:
        raise self.fault
      length = round(min(1.0, settings.seconds - second) * RATE)
      for number, sound in enumerate(sounds):
        sound.write(tone(settings.seed + number)[:length])
      progress('audio', second + 1, settings.whole_seconds)
    takes = [model_lib.Take(i, sound, None, None, None)
             for i, sound in enumerate(sounds[:settings.samples])]
    return model_lib.Result(takes, settings, steering.title, RATE, None, (0,),
                            0, {})

  def tags(self, result, take):
    return dict(title=result.title, comment=f'sample={take.sample + 1}')


def tone(seed):
  """[RATE] float32."""
  return (0.3 * np.sin(2 * np.pi * (200 + 10 * (seed % 50)) *
                       np.arange(RATE) / RATE)).astype(np.float32)


@pytest.fixture(name='make_service')
def _make_service(tmp_path):
  """Function from limits to (service, model), its worker running."""
  pytest.importorskip('pydantic')  # comes with the web packages
  from musiclm_jax.serving import service as service_lib  # pylint: disable=g-import-not-at-top
  made = []

  def make(melody=True, load=None, start=True, warm='none', **limits):
    limits = limits_lib.Limits(**limits)
    bundle = FakeBundle(melody)
    model = FakeModel(bundle)
    folder = tmp_path / f'service{len(made)}'
    for name in ('jobs', 'uploads', 'page'):
      (folder / name).mkdir(parents=True)
    queue = jobs.Jobs(folder / 'jobs', limits)
    service = service_lib.Service(
        bundle, limits, queue,
        uploads.Uploads(folder / 'uploads', limits, RATE),
        worker.Worker(queue, limits, load or (lambda: model), warm=warm,
                      say=lambda text: None, picture=lambda audio: b'PNG'))
    made.append((service, model))
    if start:
      service.worker.start()
    return service, model

  yield make
  for service, model in made:
    model.gate.set()
    model.compiled.set()
    assert service.worker.stop(5.0)


@pytest.fixture(name='tiny', scope='session')
def _tiny(tmp_path_factory):
  """A bundle of every component, with random weights."""
  import tiny_bundle  # pylint: disable=g-import-not-at-top
  return tiny_bundle.write(tmp_path_factory.mktemp('tiny') / 'bundle')


@pytest.fixture(name='need', scope='session')
def _need():
  """Function that skips, or fails where the machine is meant to have it."""
  def need(found, name):
    if found:
      return
    if os.environ.get('MUSICLM_REQUIRE_WEB') == '1':
      pytest.fail(f'{name} is missing.')
    pytest.skip(f'{name} is missing.')

  return need


@pytest.fixture(name='installed', scope='session')
def _installed(need):
  """What the site needs is there."""
  for name in ('gradio', 'fastapi', 'uvicorn'):
    need(importlib.util.find_spec(name), name)
