"""The queue, the worker, the limits: without any web package."""

import threading
import time

import numpy as np
import pytest
import soundfile

from musiclm_jax import errors
from musiclm_jax.serving import jobs as jobs_lib
from musiclm_jax.serving import limits as limits_lib
from musiclm_jax.serving import sound as sound_lib
from musiclm_jax.serving import worker as worker_lib
from musiclm_jax.systems.musiclm import settings as settings_lib

_SOON_S = 20.0  # what takes longer has failed


def until(condition):
  """Waits for a condition; fails if it does not come."""
  for _ in range(round(_SOON_S / 0.005)):
    if condition():
      return
    time.sleep(0.005)
  raise AssertionError('it did not come')


def ask(service, seed=0, **wanted):
  return service.submit(dict(
      dict(prompt='a jig', seed=seed, seconds=2), **wanted))


def test_first_come_first_served_and_bounded(make_service):
  service, model = make_service(queue=2)
  model.gate.clear()
  first = ask(service, 1)
  until(lambda: first.state == jobs_lib.RUNNING)
  second, third = ask(service, 2), ask(service, 3)
  assert [service.jobs.position(j) for j in (first, second, third)] == [0, 1, 2]
  assert service.jobs.counts() == dict(waiting=2, running=1, held=0)
  with pytest.raises(jobs_lib.Busy, match='busy: 2 requests are waiting') as e:
    ask(service, 4)
  assert e.value.retry_after_s >= 1
  model.gate.set()
  until(lambda: third.over)
  assert model.made == [1, 2, 3]
  assert [j.state for j in (first, second, third)] == [jobs_lib.DONE] * 3
  assert ask(service, 5)


def test_a_result_is_a_file_with_tags(make_service):
  service, _ = make_service()
  job = ask(service, 7, samples=2, seconds=1.5, format='flac')
  until(lambda: job.over)
  assert job.state == jobs_lib.DONE and job.wanted is None
  for number, made in enumerate(job.made):
    with soundfile.SoundFile(made.file) as file:
      assert (file.format, file.samplerate, file.frames) == (
          'FLAC', 24_000, 36_000)
      assert (file.title, file.comment) == ('a jig', f'sample={number + 1}')
    assert made.picture.read_bytes() == b'PNG'
  assert job.advance.share == 1.0
  assert sorted(f.name for f in job.folder.iterdir()) == [
      '1.flac', '1.png', '2.flac', '2.png', 'sample-1.heard.wav',
      'sample-2.heard.wav']


def test_cancelling(make_service):
  service, model = make_service()
  model.gate.clear()
  runs, waits, other = ask(service, 1), ask(service, 2), ask(service, 3)
  until(lambda: runs.state == jobs_lib.RUNNING)
  assert service.jobs.cancel(waits.id) and waits.state == jobs_lib.CANCELLED
  assert service.jobs.cancel(runs.id)
  assert runs.state == jobs_lib.CANCELLED and not runs.made
  until(lambda: service.jobs.letting_go is None)  # the gate is still closed
  model.gate.set()
  until(lambda: other.over)
  assert other.state == jobs_lib.DONE and model.made == [1, 3]
  assert not service.jobs.cancel(other.id)
  assert not service.jobs.cancel('nothing')


def test_cancelling_waits_for_nothing(make_service):
  """The worker is deep in a compilation: who cancels is free, others wait."""
  service, model = make_service()
  model.compiled.clear()
  runs, other = ask(service, 1), ask(service, 2)
  until(lambda: model.made == [1])
  service.worker.programs.hear(
      '/jax/core/compile/jaxpr_to_mlir_module_duration', 0.1)
  assert service.waits_for == 'a program is compiled'
  assert service.jobs.cancel(runs.id) and not service.jobs.cancel(runs.id)
  assert runs.state == jobs_lib.CANCELLED
  assert service.health().waits_for == (
      'a cancelled request has to end first: a program is compiled for it')
  assert service.jobs.counts() == dict(waiting=1, running=0, held=1)
  assert service.jobs.position(other) == 0 and other.state == jobs_lib.QUEUED
  service.jobs.remove(runs.id)
  assert service.jobs.get(runs.id) is None and runs.folder.exists()
  service.worker.programs.hear(
      '/jax/core/compile/backend_compile_duration', 0.1)
  model.compiled.set()
  until(lambda: other.over)
  assert other.state == jobs_lib.DONE and not runs.made
  assert service.waits_for is None and not runs.folder.exists()


def test_what_a_cancelled_request_becomes_is_dropped(make_service):
  """Also where the worker never notices, being in its last step."""
  service, model = make_service()
  reached, released = threading.Event(), threading.Event()
  tags = model.tags

  def last_step(*given):
    reached.set()
    released.wait(_SOON_S)
    return tags(*given)

  model.tags = last_step
  job = ask(service)
  assert reached.wait(_SOON_S)
  assert service.jobs.cancel(job.id)
  ended = job.times[jobs_lib.CANCELLED]
  released.set()
  until(lambda: service.jobs.letting_go is None)
  assert (job.state, job.made) == (jobs_lib.CANCELLED, ())
  assert job.times == dict(job.times, cancelled=ended)
  assert jobs_lib.DONE not in job.times


def test_the_time_of_a_request_is_limited(make_service):
  service, model = make_service(time_limit_s=0.05)
  model.gate.clear()
  job = ask(service)
  until(lambda: job.over)
  assert job.state == jobs_lib.FAILED
  assert job.error.startswith('the request took longer than 0.05 s')


@pytest.mark.parametrize('fault, line', [
    (errors.UserError('too\nloud.'), 'too loud.'),
    (RuntimeError('secret'), 'a fault of the server (RuntimeError), told in '
     'its log.'),
])
def test_a_fault_ends_one_request_only(make_service, fault, line):
  service, model = make_service()
  model.fault = fault
  job = ask(service)
  until(lambda: job.over)
  assert (job.state, job.error) == (jobs_lib.FAILED, line)
  model.fault = None
  job = ask(service)
  until(lambda: job.over)
  assert job.state == jobs_lib.DONE


def test_results_are_held_for_a_while(make_service):
  service, _ = make_service(keep=2)
  done = []
  for seed in range(4):
    done.append(ask(service, seed))
    until(lambda: done[-1].over)
  until(lambda: not done[1].folder.exists())
  assert [service.jobs.get(j.id) is None for j in done] == [
      True, True, False, False]
  assert [j.folder.exists() for j in done] == [False, False, True, True]
  service.jobs.clock = lambda: time.monotonic() + 3601
  service.tidy()
  assert service.jobs.counts()['held'] == 0
  assert not list(done[-1].folder.parent.iterdir())


def test_results_take_so_much_disk_and_the_newest_stays(make_service):
  service, _ = make_service(keep_mib=0)
  for seed in range(2):
    job = ask(service, seed)
    until(lambda: job.over)
    service.tidy()
  assert service.jobs.counts()['held'] == 1 and job.made[0].file.exists()


def test_a_running_job_is_not_forgotten(make_service):
  service, model = make_service()
  model.gate.clear()
  job = ask(service)
  service.jobs.remove(job.id)
  assert service.jobs.get(job.id) is job


def test_what_nobody_wants_leaves_nothing(make_service):
  service, model = make_service()
  done = ask(service, 1)
  until(lambda: done.over)
  model.gate.clear()
  runs, waits = ask(service, 2), ask(service, 3)
  until(lambda: runs.state == jobs_lib.RUNNING)
  for job in (done, runs, waits):
    service.jobs.drop(job.id)
  until(lambda: not any(service.jobs.counts().values()))
  until(lambda: not list(runs.folder.parent.iterdir()))
  assert model.made == [1, 2]


def test_stopping_ends_everything(make_service):
  service, model = make_service()
  model.gate.clear()
  jobs = [ask(service, seed) for seed in range(3)]
  assert service.worker.stop(5.0)
  assert {job.state for job in jobs} == {jobs_lib.CANCELLED}
  assert service.worker.state == worker_lib.GONE
  with pytest.raises(jobs_lib.Busy, match='the server is stopping'):
    ask(service)


def test_a_model_that_cannot_be_loaded(make_service):
  def load():
    raise errors.UserError('the bundle is damaged.')

  service, _ = make_service(load=load)
  service.worker.wait()
  assert service.worker.state == worker_lib.BROKEN
  assert 'damaged' in str(service.worker.error)
  with pytest.raises(jobs_lib.Busy):
    ask(service)


def test_it_says_starting_until_it_is_warm(make_service):
  loaded = threading.Event()
  held = []

  def load():
    loaded.wait(_SOON_S)
    return held[0]

  service, model = make_service(load=load)
  held.append(model)
  assert service.health().status == 'starting'
  assert service.waits_for == 'the server is starting: the model is loaded'
  job = ask(service)  # it waits
  assert job.state == jobs_lib.QUEUED
  loaded.set()
  until(lambda: job.over)
  assert service.health().status == 'ready'


def test_one_sample_is_warm_before_it_is_ready(make_service):
  service, model = make_service(start=False, warm='one')
  model.compiled.clear()
  service.worker.start()
  until(lambda: model.prepared == [1])
  assert service.health().status == 'starting'
  assert service.waits_for == (
      'the server is starting: one of the programs that any request needs is '
      'compiled')
  model.compiled.set()
  until(lambda: service.health().status == 'ready')
  assert model.made == [0] and not service.health().warming


def test_a_first_request_waits_for_one_program_not_for_all(make_service):
  service, model = make_service(start=False, warm='one')
  programs = threading.Semaphore(0)

  def prepare(samples):
    for _ in range(5):
      programs.acquire()
      model.prepared.append(samples)
      yield

  model.prepare = prepare
  service.worker.start()
  until(lambda: 'one of the programs' in (service.waits_for or ''))
  model.gate.clear()
  job = ask(service, 7)
  programs.release()
  until(lambda: model.made == [7])
  # It runs, and its own programs are compiled while it does.
  assert service.waits_for is None and job.state == jobs_lib.RUNNING
  assert service.health().status == 'starting'
  model.gate.set()
  until(lambda: job.over)
  assert job.state == jobs_lib.DONE and model.prepared == [1]
  until(lambda: service.waits_for)
  for _ in range(4):
    programs.release()
  until(lambda: service.health().status == 'ready')
  assert model.prepared == [1] * 5 and model.made == [7, 0]
  assert service.waits_for is None


def test_who_comes_during_practice_does_not_wait_for_it(make_service):
  service, model = make_service(start=False, warm='one')
  model.gate.clear()
  service.worker.start()
  until(lambda: model.made == [0])
  job = ask(service, 7)
  until(lambda: job.state == jobs_lib.RUNNING)  # the gate is still closed
  assert service.health().status == 'starting'
  model.gate.set()
  until(lambda: service.health().status == 'ready')
  assert job.state == jobs_lib.DONE and model.made == [0, 7, 0]


def test_the_limit_of_time_does_not_count_compiling(make_service):
  service, model = make_service(time_limit_s=100)
  now = [0.0]
  service.jobs.clock = lambda: now[0]
  model.gate.clear()
  patient = ask(service, 1)
  until(lambda: model.made == [1])
  for event in ('jaxpr_to_mlir_module_duration', 'backend_compile_duration'):
    service.worker.programs.hear(f'/jax/core/compile/{event}', 300.0)
  now[0] = 650.0
  model.gate.set()
  until(lambda: patient.over)
  assert patient.state == jobs_lib.DONE
  model.gate.clear()
  late = ask(service, 2)
  until(lambda: model.made == [1, 2])
  now[0] += 101.0
  until(lambda: late.over)
  assert (late.state, late.late) == (jobs_lib.FAILED, True)


def test_the_rest_is_warm_when_nobody_waits(make_service):
  service, model = make_service(start=False, warm='all', max_samples=3)
  practised = []
  make = model.make

  def watch(steering, settings, **given):
    practised.append((settings.samples, len(steering.parts), [
        name for name in ('like', 'before', 'melody')
        if getattr(steering, name) is not None]))
    if len(practised) == 2:  # of two samples: somebody comes
      ask(service, 7)
    return make(steering, settings, **given)

  model.make = watch
  service.worker.start()
  until(lambda: not service.health().warming)
  assert model.prepared == [1, 2, 3]
  assert practised == [
      (1, 1, []), (2, 1, []), (1, 1, []), (2, 1, []), (3, 1, []), (1, 2, []),
      (1, 3, []), (1, 1, ['like']), (1, 1, ['before']), (1, 1, ['melody'])]
  assert model.made[2] == 7  # served before the rest
  assert service.health().status == 'ready'


def test_a_fault_of_the_warm_up_is_no_end(make_service):
  service, model = make_service(start=False, warm='all')
  make = model.make

  def fails(steering, settings, **given):
    if settings.samples > 1:
      raise RuntimeError('no memory')
    return make(steering, settings, **given)

  model.make = fails
  service.worker.start()
  until(lambda: not service.health().warming)
  job = ask(service)
  until(lambda: job.over)
  assert job.state == jobs_lib.DONE


def test_progress_only_grows():
  advance = jobs_lib.Advance(rounds=2)
  shares = []
  for _ in range(2):
    for stage, done in (('semantic', 0), ('coarse', 0), ('semantic', 4),
                        ('coarse', 4), ('audio', 0), ('audio', 4)):
      advance.report(stage, done, 4)
      shares.append(advance.share)
  advance.report('similarity', 1, 2)
  assert shares == sorted(shares) and shares[5] == 0.5 and shares[-1] == 1.0
  assert 0.0 < shares[2] < shares[3] < 0.5
  assert (advance.stage, advance.seconds) == ('similarity', 4)


@pytest.mark.parametrize('wanted, known, line', [
    (dict(seconds=61), 0, 'seconds is 61; this server makes at most 60.'),
    (dict(seconds=50), 20, 'seconds is 50 after 20 s of a recording; this'),
    (dict(samples=5), 0, 'samples is 5; this server draws at most 4.'),
    (dict(best_of=6), 0, 'best_of is 6; this server draws at most 4.'),
])
def test_limits_of_a_request(wanted, known, line):
  limits = limits_lib.Limits(max_seconds=60)
  with pytest.raises(errors.UserError) as error:
    limits.check(settings_lib.make(**wanted), known)
  assert str(error.value).startswith(line)


def test_what_is_heard_at_once_is_a_wav(tmp_path):
  """Complete it is the audio; a loud second is clipped, as nothing else can."""
  audio = np.concatenate([0.5 * np.ones(10), 1.5 * np.ones(6)])
  with sound_lib.Sound(tmp_path, 0, '.wav', 16, 24_000) as sound:
    sound.write(audio[:10])
    assert sound.heard.stat().st_size == sound_lib.HEADER_BYTES + 20
    sound.write(audio[10:])
    sound.finish(sound.path, {})
  heard, rate = soundfile.read(sound.heard)
  assert rate == 24_000
  np.testing.assert_allclose(heard, np.minimum(audio, 0.99), atol=1e-4)
  kept, _ = soundfile.read(sound.path)
  np.testing.assert_allclose(kept, audio * 0.99 / 1.5, atol=1e-4)
