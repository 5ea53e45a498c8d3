"""Raters at the desk: what they get, what is kept, what others see."""

from collections import Counter
import concurrent.futures
import sqlite3
import time

import pytest

from musiclm_jax import errors
from musiclm_jax.listening import desk as desk_lib
from musiclm_jax.listening import store as store_lib


@pytest.fixture(name='open_desk')
def _open_desk(test, tmp_path):
  """Function that opens the desk on one file, again and again."""
  opened = []

  def open_desk():
    opened.append(store_lib.Store(tmp_path / 'answers.sqlite', test.key_sha256))
    return desk_lib.Desk(test, opened[-1])

  yield open_desk
  for store in opened:
    store.close()


def kept(test, tmp_path):
  return store_lib.read(tmp_path / 'answers.sqlite', test.key_sha256)


def rate(desk, token, shown, answer=1, comment=''):
  return desk.answer(token, shown.trial, answer, comment, (1.0, 1.0))


def test_a_rater_from_beginning_to_end(open_desk, test, tmp_path):
  desk = open_desk()
  token = desk.join()
  shown = desk.current(token)
  assert (shown.rated, shown.total) == (0, 6) and shown.hear_seconds == 1.0
  captions = []
  for number, answer in enumerate((-2, -1, 0, 1, 2, 0)):
    assert shown.rated == number
    assert desk.current(token) == shown  # the same one until it is answered
    captions.append(shown.caption)
    shown = rate(desk, token, shown, answer, f' comment {number} ')
  assert shown == desk_lib.Shown(6, 6)
  assert len(set(captions)) == 4  # no clip again before all were heard
  found = kept(test, tmp_path)
  assert [said.answer for said in found] == [-2, -1, 0, 1, 2, 0]
  assert [said.comment for said in found] == [f'comment {i}' for i in range(6)]
  assert {said.rater for said in found} == {1}
  assert all(said.took_seconds >= 0 for said in found)


def test_what_is_heard_is_what_the_key_says(open_desk, test):
  desk = open_desk()
  token = desk.join()
  shown = desk.current(token)
  slot = test.slots[desk._store.trials(1)[0].slot]  # pylint: disable=protected-access
  clip = test.clips[slot.clip]
  assert desk.sound(token, shown.trial, 'a').name == clip.sounds[slot.left]
  assert desk.sound(token, shown.trial, 'b').name == clip.sounds[slot.right]
  assert shown.caption == f'a tune of {clip.id[-1]}'


def test_nobody_sees_anothers(open_desk):
  desk = open_desk()
  one, other = desk.join(), desk.join()
  shown = desk.current(one)
  desk.current(other)
  for ask in (lambda: desk.sound(other, shown.trial, 'a'),
              lambda: rate(desk, other, shown),
              lambda: desk.current('nobody'),
              lambda: desk.sound('', shown.trial, 'a')):
    with pytest.raises(desk_lib.Refusal):
      ask()


@pytest.mark.parametrize('answer, heard, message', [
    (3, (1.0, 1.0), 'no answer 3'),
    (1, (1.0, 0.2), 'listen to both'),
    (1, (float('nan'), 1.0), 'listen to both')])
def test_answers_that_are_not_kept(
    open_desk, test, tmp_path, answer, heard, message):
  desk = open_desk()
  token = desk.join()
  shown = desk.current(token)
  with pytest.raises(desk_lib.Refusal, match=message):
    desk.answer(token, shown.trial, answer, '', heard)
  assert not kept(test, tmp_path)
  assert desk.current(token) == shown


def test_an_answer_that_is_sent_again_counts_once(open_desk, test, tmp_path):
  desk = open_desk()
  token = desk.join()
  first = desk.current(token)
  following = rate(desk, token, first, 2)
  assert rate(desk, token, first, -2) == following
  assert [said.answer for said in kept(test, tmp_path)] == [2]


def test_it_goes_on_after_a_restart(open_desk):
  token = (desk := open_desk()).join()
  shown = rate(desk, token, desk.current(token))
  again = open_desk()
  assert again.known(token) and not again.known('x')
  assert again.current(token) == shown


def test_who_leaves_gives_the_slot_back(open_desk, test, monkeypatch):
  """24 slots: the last one waits for who has it, then another gets it."""
  desk = open_desk()
  gone = desk.join()
  left = desk.current(gone)
  for _ in range(4):
    token = desk.join()
    shown = desk.current(token)
    while shown.trial:
      shown = rate(desk, token, shown)
  assert desk.current(desk.join()) == desk_lib.Shown(0, 0)
  monkeypatch.setattr(time, 'time', lambda now=time.time: now() + 1_801)
  late = desk.join()
  shown = desk.current(late)
  assert shown.trial and shown.trial != left.trial
  assert desk.current(gone) == left  # who comes back is where they were
  rate(desk, late, shown)
  rate(desk, gone, left)
  slots = Counter(trial.slot for rater in range(1, 9)
                  for trial in desk._store.trials(rater)  # pylint: disable=protected-access
                  if trial.answered)
  assert sorted(slots.values()) == [1] * 23 + [2]
  assert set(slots) == set(range(len(test.slots)))


def test_fifty_at_once_lose_nothing(make, tmp_path):
  """Through one desk: each slot is answered once, by whoever got it."""
  test = make(ratings=50, per_rater=3)
  store = store_lib.Store(tmp_path / 'answers.sqlite', test.key_sha256)
  desk = desk_lib.Desk(test, store)

  def person(number):
    token = desk.join()
    shown = desk.current(token)
    while shown.trial:
      shown = rate(desk, token, shown, number % 5 - 2, f'{number}')
    return shown.rated

  with concurrent.futures.ThreadPoolExecutor(50) as pool:
    rated = list(pool.map(person, range(50)))
  store.close()
  assert rated == [3] * 50
  found = kept(test, tmp_path)
  assert Counter(said.comment for said in found) == {
      f'{number}': 3 for number in range(50)}
  assert sorted(said.slot for said in found) == list(range(150))


def test_answers_are_flushed_as_they_come(open_desk):
  db = open_desk()._store._db  # pylint: disable=protected-access
  assert db.execute('PRAGMA journal_mode').fetchone()[0] == 'wal'
  assert db.execute('PRAGMA synchronous').fetchone()[0] == 2  # FULL


def test_what_fails_midway_is_not_there(open_desk):
  store = open_desk()._store  # pylint: disable=protected-access
  with pytest.raises(sqlite3.IntegrityError):
    with store.transaction():
      store.join()
      store.give(1, 0)
      store.give(1, 0)  # twice
  assert not store.trials(1)


def test_files_that_are_no_answers(test, tmp_path):
  path = tmp_path / 'a.sqlite'
  path.write_text('no database, however long it may be made ' * 99)
  with pytest.raises(errors.UserError, match='cannot be used as the file of'):
    store_lib.Store(path, test.key_sha256)
  path = tmp_path / 'b.sqlite'
  store_lib.Store(path, 'another').close()
  with pytest.raises(errors.UserError, match='answers of another test'):
    store_lib.Store(path, test.key_sha256)
  with pytest.raises(errors.UserError, match='answers of another test'):
    store_lib.read(path, test.key_sha256)
