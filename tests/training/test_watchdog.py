"""Who is late is told from the notes of the hosts; a hang is noticed."""

import json
import os
import time

import pytest

from musiclm_jax.training import watchdog


def note(directory, number, step, doing, idle=30.0, age=0.0):
  directory.mkdir(exist_ok=True)
  path = directory / str(number)
  path.write_text(json.dumps(dict(
      host=f'host {number} (node{number})', step=step, doing=doing, idle=idle)))
  then = time.time() - age
  os.utime(path, (then, then))


def late(directory, count=3):
  return watchdog.late_hosts(directory, count, silent_seconds=60.0)


def test_the_host_at_the_lowest_step_is_late(tmp_path):
  note(tmp_path, 0, 12, watchdog.COMPUTING)
  note(tmp_path, 1, 11, watchdog.WAITING, idle=42.0)
  note(tmp_path, 2, 12, watchdog.COMPUTING)
  assert late(tmp_path) == (
      'late: host 1 (node1), waiting for data at step 11 for 42 s')


def test_at_the_same_step_it_is_the_one_that_does_not_compute(tmp_path):
  note(tmp_path, 0, 12, watchdog.COMPUTING)
  note(tmp_path, 1, 12, watchdog.COMPUTING)
  note(tmp_path, 2, 12, watchdog.SAVING)
  assert late(tmp_path).startswith('late: host 2 (node2), saving at step 12')


def test_a_host_that_stopped_writing_is_named_before_all_others(tmp_path):
  note(tmp_path, 0, 12, watchdog.WAITING)
  note(tmp_path, 1, 13, watchdog.COMPUTING, age=200.0)
  note(tmp_path, 2, 12, watchdog.COMPUTING)
  assert late(tmp_path) == (
      'late: host 1 (node1), silent for 200 s, last at step 13 (computing)')


def test_nobody_is_late_where_all_stand_at_one_place(tmp_path):
  for number in range(3):
    note(tmp_path, number, 12, watchdog.COMPUTING)
  # A note of a run that had more hosts does not count.
  note(tmp_path, 3, 2, watchdog.WAITING, age=1e6)
  assert late(tmp_path) == 'all 3 host(s) are computing at step 12'


def test_a_hang_is_told_once_and_a_beat_ends_it(tmp_path, capfd):
  said = []
  with watchdog.Watchdog(tmp_path, 0.3, said.append, tick_seconds=0.02) as dog:
    time.sleep(0.5)
    assert not said  # before the first beat there is nothing to wait for
    for step in range(3):
      dog.beat(step, watchdog.COMPUTING)
      time.sleep(0.05)
    assert not said
    end = time.monotonic() + 20
    while not said and time.monotonic() < end:
      time.sleep(0.02)
    time.sleep(0.7)  # twice the limit: alone, it only says so
  assert len(said) == 1
  assert said[0].startswith('no step for') and 'computing at step 2' in said[0]
  assert 'test_a_hang_is_told_once' in capfd.readouterr().err  # where it is


def test_among_several_hosts_it_ends(tmp_path, monkeypatch):
  monkeypatch.setattr(watchdog.consensus, 'is_alone', lambda: False)
  said, ended = [], []
  with watchdog.Watchdog(tmp_path, 0.1, said.append, tick_seconds=0.02,
                         end=lambda: ended.append(1)) as dog:
    dog.beat(5, watchdog.WAITING)
    end = time.monotonic() + 20
    while not ended and time.monotonic() < end:
      time.sleep(0.02)
  assert ended and 'gives up waiting' in said[-1]


@pytest.mark.parametrize('limit', [0, 0.0])
def test_without_a_limit_it_does_nothing(tmp_path, limit):
  with watchdog.Watchdog(tmp_path, limit, pytest.fail) as dog:
    dog.beat(1, watchdog.WAITING)
  assert not list(tmp_path.iterdir())


def test_a_short_run_leaves_a_note_of_its_end(tmp_path):
  with watchdog.Watchdog(tmp_path, 60.0, pytest.fail) as dog:
    dog.beat(7, watchdog.SAVING)
  found = json.loads((tmp_path / 'hosts' / '0').read_text())
  assert (found['step'], found['doing']) == (7, watchdog.SAVING)
