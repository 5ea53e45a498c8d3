"""The loop's parts alone: prefetch, metrics.csv, progress, run record."""

import io
import itertools
import threading
import time

import numpy as np
import pytest
import toy_trainable

from musiclm_jax.training import health
from musiclm_jax.training import metrics_writer
from musiclm_jax.training import prefetch
from musiclm_jax.training import progress_line
from musiclm_jax.training import run_record


def test_prefetch_keeps_order_and_stays_a_few_ahead():
  made = []
  batches = (made.append(i) or i for i in itertools.count())
  with prefetch.Prefetch(batches, lambda x: 10 * x, depth=2) as ahead:
    assert [next(ahead) for _ in range(5)] == [0, 10, 20, 30, 40]
    time.sleep(0.3)
    assert len(made) <= 5 + 2 + 1  # taken, queued, in hand
  count = threading.active_count()
  assert not any(t.name == 'prefetch' for t in threading.enumerate()), count


def test_prefetch_raises_what_the_source_raises():
  def broken():
    yield 1
    raise KeyError('gone')
  with prefetch.Prefetch(broken(), lambda x: x) as ahead:
    assert next(ahead) == 1
    with pytest.raises(KeyError):
      next(ahead)


def test_prefetch_ends_where_the_source_ends():
  with prefetch.Prefetch(iter([1, 2]), lambda x: x) as ahead:
    assert list(ahead) == [1, 2]
    assert not list(ahead)


def test_metrics_add_columns_and_forget_steps_after_a_resume(tmp_path):
  with metrics_writer.MetricsWriter(tmp_path) as out:
    out.write(1, 'train', {'loss': 1.0})
    out.write(2, 'train', {'loss': 0.5, 'new': 3.0})
    out.write(2, 'eval', {'loss': 0.25})
    out.write(3, 'train', {'loss': 0.1})
  with open(tmp_path / 'metrics.csv', 'a', encoding='utf-8') as out:
    out.write('4')  # cut by a kill
  with metrics_writer.MetricsWriter(tmp_path, start_step=2) as out:
    out.write(3, 'train', {'loss': 0.2})
  assert (tmp_path / 'metrics.csv').read_text().splitlines() == [
      'step,split,loss,new', '1,train,1,', '2,train,0.5,3', '2,eval,0.25,',
      '3,train,0.2,']
  assert metrics_writer.last(tmp_path, 'eval') == {'loss': 0.25}


def test_progress_writes_few_lines_with_rate_and_eta(monkeypatch):
  now = [0.0]
  monkeypatch.setattr(progress_line.time, 'monotonic', lambda: now[0])
  stream = io.StringIO()
  bar = progress_line.Progress(1000, lambda: np.inf, stream)
  for step in range(1, 101):
    now[0] += 0.25
    bar.mark(step)
    if bar.due():
      bar.show(step, {'loss': 2.0})
  lines = stream.getvalue().splitlines()
  assert len(lines) == 3  # 25 s: at 0.25, 10.25 and 20.25 s
  assert lines[-1] == 'step 81/1000 (8 %)  4.00 steps/s  ETA 0:03:50  loss 2'


def test_progress_counts_down_to_the_deadline(monkeypatch):
  now = [0.0]
  monkeypatch.setattr(progress_line.time, 'monotonic', lambda: now[0])
  stream = io.StringIO()
  bar = progress_line.Progress(10**6, lambda: 90.0, stream)
  for step in (1, 2):
    now[0] += 1
    bar.mark(step)
  bar.show(2, {})
  assert 'ETA 0:01:30' in stream.getvalue()


def test_losses_are_checked_at_their_own_step():
  health.check_losses(5, [1.0, 2.0])
  with pytest.raises(health.NotFinite, match='inf at step 6') as caught:
    health.check_losses(5, [1.0, np.inf, np.nan])
  assert caught.value.step == 6


def test_records_name_what_differs():
  a = run_record.make(trainable=toy_trainable.Toy(), seed=0, fn=np.sum)
  b = run_record.make(trainable=toy_trainable.Toy(width=9), seed=1, fn=np.sum)
  assert run_record.differences(a, b) == [
      'seed: 0 -> 1', 'trainable.width: 4 -> 9']
  assert not run_record.differences(a, a)


def test_events_do_not_count_as_changed_settings(tmp_path):
  said = []
  record = run_record.make(trainable=toy_trainable.Toy(), seed=0)
  run_record.write(tmp_path, record, [dict(kind='warning', step=3)])
  run_record.check(tmp_path, record, said.append)
  assert not said and run_record.events(tmp_path)[0]['step'] == 3
