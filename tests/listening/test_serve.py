"""`musiclm listen serve` from the shell: many raters, kills, mistakes."""

from collections import Counter
import concurrent.futures
import importlib.util
import shutil
import signal
import subprocess
import sys

import command_line
import listening_site
import pytest

from musiclm_jax import files
from musiclm_jax.listening import store as store_lib


def kept(test):
  return store_lib.read(test.answers, test.key_sha256)


@pytest.mark.web
def test_fifty_raters_at_once_lose_no_answer(make, tmp_path):
  pytest.importorskip('uvicorn')
  test = make(ratings=50, per_rater=3)
  site = listening_site.Site(test.directory, tmp_path / 'log')

  def person(number):
    rater = listening_site.Rater(site.port)
    shown, given = rater.begin(), 0
    while shown['state'] == 'trial':
      status, shown = rater.answer(shown, number % 5 - 2, f'{number}')
      given += status == 200
    return given

  try:
    with concurrent.futures.ThreadPoolExecutor(50) as pool:
      given = list(pool.map(person, range(50)))
    assert site.stop() == 0
  finally:
    site.close()
  assert given == [3] * 50
  found = kept(test)
  assert Counter(said.comment for said in found) == {
      f'{number}': 3 for number in range(50)}
  assert sorted(said.slot for said in found) == list(range(150))
  assert all(said.answer == int(said.comment) % 5 - 2 for said in found)
  assert site.said().count('\n') == 2  # the address, and that it stopped


@pytest.mark.web
def test_what_was_acknowledged_outlives_a_kill(make, tmp_path):
  """SIGKILL while eight rate; they go on where they were after it."""
  pytest.importorskip('uvicorn')
  test = make(ratings=40, per_rater=10)
  site = listening_site.Site(test.directory, tmp_path / 'log')
  acknowledged, raters = [], [
      listening_site.Rater(site.port) for _ in range(8)]

  def person(rater):
    try:
      shown = rater.begin()
      for _ in range(10):
        status, following = rater.answer(shown, 1, shown['trial'])
        if status != 200:
          return
        acknowledged.append(shown['trial'])
        shown = following
        if len(acknowledged) >= 20:
          site.process.send_signal(signal.SIGKILL)
    except (OSError, EOFError, listening_site.http.client.HTTPException):
      return  # the server is gone

  try:
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
      list(pool.map(person, raters))
    assert site.process.wait() == -signal.SIGKILL
  finally:
    site.close()
  before = {said.comment for said in kept(test)}
  assert len(acknowledged) >= 20 and set(acknowledged) <= before
  again = listening_site.Site(test.directory, tmp_path / 'log2')
  try:
    for rater in raters:
      back = listening_site.Rater(again.port, rater.cookie)
      shown = back.where()
      own = shown['rated']
      assert shown['total'] == 10 or shown['state'] == 'done'
      if shown['state'] == 'trial':
        status, shown = back.answer(shown, -1, 'after')
        assert status == 200 and shown['rated'] == own + 1
  finally:
    again.close()
  assert {said.comment for said in kept(test)} - {'after'} == before


@pytest.mark.parametrize('words, message', [
    (['--port', '70000'], '--port is 70000; expected 0 to 65535.'),
    (['--host', 'no such host'], '--host no such host is no address')])
def test_mistakes(test, capsys, words, message):
  pytest.importorskip('uvicorn')
  code, out, err = command_line.run(
      capsys, 'listen', 'serve', test.directory, *words)
  assert code == 2 and not out and err.count('\n') == 1 and message in err


def test_sounds_that_are_gone_and_packages_that_are_missing(
    test, capsys, tmp_path, monkeypatch):
  shutil.copytree(test.directory, tmp_path / 'test')
  next((tmp_path / 'test/audio').iterdir()).unlink()
  code, _, err = command_line.run(capsys, 'listen', 'serve', tmp_path / 'test')
  assert code == 2 and 'lacks 1 files' in err and err.count('\n') == 1
  monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
  code, _, err = command_line.run(capsys, 'listen', 'serve', test.directory)
  assert code == 2 and 'needs fastapi, uvicorn, which is not' in err
  assert 'pip install "musiclm_jax[web]"' in err


def test_help_and_page_come_without_jax():
  code = ('import sys; from musiclm_jax.commands import cli\n'
          'from musiclm_jax.listening import folder, desk, store, page\n'
          'try: cli.main(["listen", "serve", "--help"])\n'
          'except SystemExit: pass\n'
          'sys.exit(sorted({"jax", "fastapi", "scipy"} &\n'
          '                set(sys.modules)) or 0)')
  found = subprocess.run([sys.executable, '-c', code], capture_output=True,
                         text=True, check=False)
  assert found.returncode == 0, found.stderr
  assert 'TEST_DIR' in found.stdout


def test_kinds_that_are_unknown(capsys):
  code, _, err = command_line.run(capsys, 'listen', 'play')
  assert code == 2 and 'part of the listening test' in err


def test_two_servers_of_one_test(test, capsys):
  pytest.importorskip('uvicorn')
  with files.claimed(test.directory, 'the test'):
    code, out, err = command_line.run(
        capsys, 'listen', 'serve', test.directory, '--port', '0')
  assert code == 2 and not out and err.count('\n') == 1
  assert 'another run writes to the test' in err
