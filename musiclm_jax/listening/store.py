"""What raters were given and what they said, in one SQLite file.

An answer is on the disk before `answer` returns: the journal is written ahead
(WAL) and flushed at every commit (synchronous=FULL). No system's name is in the
file; slots are numbers that key.json explains.
"""

from __future__ import annotations

from collections.abc import Iterator
import contextlib
import dataclasses
import os
import pathlib
import secrets
import sqlite3
import threading
import time

from musiclm_jax import errors

_TABLES = '''
CREATE TABLE IF NOT EXISTS test (key_sha256 TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS raters (
  rater INTEGER PRIMARY KEY, token TEXT NOT NULL UNIQUE, began REAL NOT NULL);
CREATE TABLE IF NOT EXISTS trials (
  trial INTEGER PRIMARY KEY, token TEXT NOT NULL UNIQUE,
  rater INTEGER NOT NULL REFERENCES raters, slot INTEGER NOT NULL,
  given REAL NOT NULL, UNIQUE (rater, slot));
CREATE TABLE IF NOT EXISTS answers (
  trial INTEGER PRIMARY KEY REFERENCES trials, answer INTEGER NOT NULL,
  comment TEXT NOT NULL, heard_a REAL NOT NULL, heard_b REAL NOT NULL,
  answered REAL NOT NULL);
CREATE INDEX IF NOT EXISTS trials_of_rater ON trials (rater);
'''


@dataclasses.dataclass(frozen=True)
class Trial:
  """A slot before a rater.

  Attributes:
    number: in the file.
    token: what the rater's page calls it.
    slot: number of the slot.
    answered: whether it is.
  """

  number: int
  token: str
  slot: int
  answered: bool


@dataclasses.dataclass(frozen=True)
class Answer:
  """What a rater said of one trial.

  Attributes:
    rater: number.
    slot: number.
    answer: of design.ANSWERS.
    comment: '' without one.
    heard_a, heard_b: seconds of either clip.
    took_seconds: between question and answer.
  """

  rater: int
  slot: int
  answer: int
  comment: str
  heard_a: float
  heard_b: float
  took_seconds: float


class Store:
  """The file, for several threads of one process."""

  def __init__(self, path: str | os.PathLike, key_sha256: str):
    """Opens or makes the file.

    Raises:
      UserError: it cannot be written, is no database, or is of another test.
    """
    self._lock = threading.RLock()
    self._db = _connect(path)
    with _of_database(path):
      self._db.execute('PRAGMA journal_mode=WAL')
      self._db.execute('PRAGMA synchronous=FULL')
      self._db.executescript(_TABLES)
      with self.transaction():
        if self._db.execute('SELECT 1 FROM test').fetchone() is None:
          self._db.execute('INSERT INTO test VALUES (?)', (key_sha256,))
    _check_test(self._db, path, key_sha256)

  def close(self) -> None:
    with self._lock:
      self._db.close()

  @contextlib.contextmanager
  def transaction(self) -> Iterator[None]:
    """What happens in it is kept whole or not at all, and nothing between."""
    with self._lock:
      if self._db.in_transaction:
        yield
        return
      self._db.execute('BEGIN IMMEDIATE')
      try:
        yield
      except BaseException:
        self._db.rollback()
        raise
      self._db.commit()

  def join(self) -> str:
    """The token of a new rater."""
    token = secrets.token_urlsafe(24)
    with self.transaction():
      self._db.execute('INSERT INTO raters (token, began) VALUES (?, ?)',
                       (token, time.time()))
    return token

  def rater(self, token: str) -> int | None:
    """The number of a rater; None of a token that was never given."""
    row = self._row('SELECT rater FROM raters WHERE token = ?', token)
    return row[0] if row else None

  def trials(self, rater: int) -> list[Trial]:
    """All that a rater was given, in order."""
    return [Trial(number, token, slot, bool(answered))
            for number, token, slot, answered in self._rows(
                'SELECT t.trial, t.token, t.slot, a.trial IS NOT NULL '
                'FROM trials t LEFT JOIN answers a USING (trial) '
                'WHERE t.rater = ? ORDER BY t.trial', rater)]

  def taken(self, since: float) -> dict[int, int]:
    """{slot: how often it is answered, or was given after `since`}."""
    return dict(self._rows(
        'SELECT t.slot, COUNT(*) FROM trials t LEFT JOIN answers a '
        'USING (trial) WHERE a.trial IS NOT NULL OR t.given > ? '
        'GROUP BY t.slot', since))

  def give(self, rater: int, slot: int) -> Trial:
    """Puts a slot before a rater."""
    token = secrets.token_hex(12)
    with self.transaction():
      number = self._db.execute(
          'INSERT INTO trials (token, rater, slot, given) VALUES (?, ?, ?, ?)',
          (token, rater, slot, time.time())).lastrowid
    return Trial(number or 0, token, slot, False)

  def answer(self, trial: Trial, answer: int, comment: str, heard_a: float,
             heard_b: float) -> None:
    """Keeps an answer; one that is there already stays as it is.

    A page that did not get the reply sends the same answer again.
    """
    with self.transaction():
      self._db.execute(
          'INSERT INTO answers VALUES (?, ?, ?, ?, ?, ?) '
          'ON CONFLICT (trial) DO NOTHING',
          (trial.number, answer, comment, heard_a, heard_b, time.time()))

  def _row(self, words, *values):
    with self._lock:
      return self._db.execute(words, values).fetchone()

  def _rows(self, words, *values):
    with self._lock:
      return self._db.execute(words, values).fetchall()


def read(path: str | os.PathLike, key_sha256: str) -> list[Answer]:
  """All answers, in the order in which they came; also while a server runs.

  Raises:
    UserError: it is no database, or of another test.
  """
  db = _connect(path)
  try:
    with _of_database(path):
      db.execute('PRAGMA query_only=1')
      _check_test(db, path, key_sha256)
      return [Answer(*row) for row in db.execute(
          'SELECT rater, slot, answer, comment, heard_a, heard_b, '
          'answered - given FROM answers JOIN trials USING (trial) '
          'ORDER BY answered, trial')]
  finally:
    db.close()


def _connect(path):
  with _of_database(path):
    # Autocommit: `transaction` says where one begins.
    return sqlite3.connect(pathlib.Path(path), check_same_thread=False,
                           isolation_level=None, timeout=30.0)


def _check_test(db, path, key_sha256):
  with _of_database(path):
    row = db.execute('SELECT key_sha256 FROM test').fetchone()
  if row is None or row[0] != key_sha256:
    raise errors.UserError(
        f'{path} has the answers of another test; put the key.json back that '
        f'they were given with, or move the file away.')


@contextlib.contextmanager
def _of_database(path):
  """Turns what SQLite says of a file into a UserError."""
  try:
    yield
  except sqlite3.Error as error:
    raise errors.UserError(
        f'{path} cannot be used as the file of answers ({error}).') from error
