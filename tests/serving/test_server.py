"""`musiclm serve` from the shell: mistakes, signals, many clients at once."""

import concurrent.futures
import hashlib
import importlib.util
import io
import json
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
import running_site
import soundfile

from musiclm_jax.commands import cli
from musiclm_jax.serving import server


def run(capsys, *argv):
  """(exit code, stderr) of `musiclm serve argv`."""
  with pytest.raises(SystemExit) as stop:
    cli.main(['serve', *argv])
  out, err = capsys.readouterr()
  assert not out
  return stop.value.code, err


@pytest.mark.parametrize('argv, message', [
    (['--queue', '0'], '--queue is 0; expected 1 to 1000.'),
    (['--queue', 'many'], "invalid int value: 'many'"),
    (['--max-seconds', '601'], '--max-seconds is 601; expected 1 to 600.'),
    (['--max-samples', '0'], '--max-samples is 0; expected 1 to 64.'),
    (['--time-limit', 'nan'], '--time-limit is nan; expected 1 to 86400.'),
    (['--upload-mib', '-1'], '--upload-mib is -1; expected 1 to 1000.'),
    (['--upload-seconds', '0'], '--upload-seconds is 0; expected 1 to 600.'),
    (['--keep', '0'], '--keep is 0'),
    (['--keep-mib', '1'], '--keep-mib is 1; expected 16 to'),
    (['--keep-minutes', '0'], '--keep-minutes is 0'),
    (['--port', '70000'], '--port is 70000; expected 0 to 65535.'),
    (['--weights', 'int4'], "invalid choice: 'int4'"),
    (['--warm', 'two'], "invalid choice: 'two' (choose from"),
    (['--bundle', 'nowhere'], 'no bundle at nowhere'),
    (['--host', 'no such host'], '--host no such host is no address'),
    (['--host', '192.0.2.1'], 'cannot listen at 192.0.2.1, port 7860 ('),
    (['prompt'], 'unrecognized arguments: prompt'),
])
def test_mistakes(capsys, monkeypatch, argv, message):
  monkeypatch.setattr(server, 'check_packages', lambda page: None)
  code, err = run(capsys, *argv)
  assert code == 2 and message in err and err.count('\n') == 1


def test_a_port_that_is_taken(capsys, monkeypatch):
  monkeypatch.setattr(server, 'check_packages', lambda page: None)
  with socket.socket() as other:
    other.bind(('127.0.0.1', 0))
    other.listen()
    port = other.getsockname()[1]
    code, err = run(capsys, '--port', str(port))
  assert code == 2 and err.count('\n') == 1
  assert f'port {port} of 127.0.0.1 is taken; stop what listens there' in err


def test_packages_that_are_missing(capsys, monkeypatch):
  monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
  code, err = run(capsys)
  assert code == 2 and err.count('\n') == 1
  assert 'needs fastapi, uvicorn, multipart, gradio, which is not' in err
  assert 'pip install "musiclm_jax[web]"' in err


def test_help_loads_no_model_and_no_site():
  code = ('import sys; from musiclm_jax.commands import cli\n'
          'try: cli.main(["serve", "--help"])\n'
          'except SystemExit: pass\n'
          'sys.exit(sorted({"jax", "gradio", "fastapi", "numpy"} &\n'
          '                set(sys.modules)) or None)')
  done = subprocess.run([sys.executable, '-c', code], capture_output=True,
                        text=True, check=False)
  assert done.returncode == 0, done.stderr
  assert '--time-limit' in done.stdout and 'default: 300' in done.stdout


def ask(seed, **wanted):
  return dict(prompt='a jig', seconds=2, seed=seed, **wanted)


@pytest.fixture(name='site', scope='module')
def _site(tiny, installed):
  """The API alone."""
  del installed
  site = running_site.Site(tiny.directory, '--no-page', '--queue', '12')
  yield site
  site.close()


@pytest.mark.web
def test_the_shell_makes_the_same_bytes(site, tiny, tmp_path):
  cli.main(['generate', 'a jig', '--seconds', '2', '--seed', '5',
            '--temperature-fine', '0.5', '--bundle', str(tiny.directory),
            '-o', str(tmp_path / 'a.flac')])
  status, _, content = site.post(
      '/v1/generate', ask(5, temperature_fine=0.5, format='flac'))
  assert status == 200
  assert content == (tmp_path / 'a.flac').read_bytes()


@pytest.mark.web
def test_usual_requests_compile_nothing(site):
  """Once it is warm: one sample or several, a prompt, a story, a song."""
  wait(lambda: not site.health()['warming'])
  compiled = site.health()['programs']
  assert compiled > 50
  status, _, content = site.post('/v1/uploads', wav(3), 'audio/wav')
  assert status == 201
  song = json.loads(content)['id']
  story = '- {at: 0, prompt: x}\n- {at: 0:03, prompt: y}'
  for wanted in (
      dict(prompt='a', seconds=10), dict(prompt='b', seconds=1.5),
      dict(prompt='c', seconds=33), dict(prompt='d', seconds=7, samples=2),
      dict(prompt='e', seconds=8, samples=3), dict(story=story, seconds=9),
      dict(prompt='f', seconds=2, samples=4),
      dict(prompt='g', seconds=2, samples=2, vary='acoustics'),
      dict(prompt='h', seconds=5, best_of=4, samples=2),
      dict(prompt='i', seconds=2, like=song), dict(like=song, seconds=2)):
    status, _, content = site.post('/v1/jobs', wanted)
    assert status == 202, content
    url = json.loads(content)['url']
    wait(lambda: site.get(url)['status'] == 'done')  # pylint: disable=cell-var-from-loop
    assert site.health()['programs'] == compiled, wanted
    site.delete(url)


def wav(seconds):
  file = io.BytesIO()
  soundfile.write(
      file, np.sin(np.arange(seconds * 24_000) / 20), 24_000, format='WAV')
  return file.getvalue()


@pytest.mark.web
def test_fifty_clients_at_once(site):
  """Each has its seed's audio or is told 'busy'; nothing stays behind."""
  wait(lambda: not site.health()['warming'])
  before = set(site.files())  # what other tests sent is held for a while
  digest = lambda content: hashlib.sha256(content).hexdigest()
  expected = {seed: digest(site.post('/v1/generate', ask(seed))[2])
              for seed in range(5)}
  assert len(set(expected.values())) == 5
  memory, ends = [], []

  def client(number):
    status, headers, content = site.post('/v1/generate', ask(number % 5))
    ends.append((time.monotonic(), status))
    return number, status, headers, content

  for _ in range(3):
    ends.clear()
    with concurrent.futures.ThreadPoolExecutor(50) as pool:
      answers = list(pool.map(client, range(50)))
    served = [a for a in answers if a[1] == 200]
    busy = [a for a in answers if a[1] == 503]
    assert len(served) + len(busy) == 50
    assert len(served) >= 13 and busy  # one runs and twelve wait
    for number, _, _, content in served:
      assert digest(content) == expected[number % 5]
    for _, _, headers, content in busy:
      assert int(headers['retry-after']) >= 1
      assert content.startswith(b'{"error":"busy: 12 requests are waiting')
    # 'Busy' is said at once, not after somebody else's turn has come.
    assert max(e for e in ends if e[1] == 503) < max(ends)
    memory.append(site.memory_mib())
  assert site.health() == dict(
      site.health(), waiting=0, running=0, held=0)
  assert set(site.files()) == before
  assert memory[2] < memory[0] + 20, f'MiB after each round: {memory}'


@pytest.mark.web
def test_who_hangs_up_cancels(site):
  before = set(site.files())
  with socket.create_connection(('127.0.0.1', site.port)) as connection:
    body = b'{"prompt": "a jig", "seconds": 120}'
    connection.sendall(
        b'POST /v1/generate HTTP/1.1\r\nHost: x\r\nContent-Type: '
        b'application/json\r\nContent-Length: %d\r\n\r\n%s' % (
            len(body), body))
    wait(lambda: site.health()['running'] == 1)
  wait(lambda: site.health()['running'] == 0)
  wait(lambda: set(site.files()) == before)


def wait(condition):
  for _ in range(6000):
    if condition():
      return
    time.sleep(0.02)
  raise AssertionError('it did not come')


@pytest.mark.web
def test_a_damaged_bundle_ends_it(tiny, tmp_path, installed):
  del installed
  for part in tiny.directory.iterdir():
    (tmp_path / part.name).symlink_to(part)
  (tmp_path / 'coarse').unlink()
  (tmp_path / 'coarse').mkdir()
  for name, size in (('config.json', None), ('weights.safetensors', 99)):
    content = (tiny.directory / 'coarse' / name).read_bytes()
    (tmp_path / 'coarse' / name).write_bytes(content[:size])
  done = subprocess.run(
      [sys.executable, '-m', 'musiclm_jax.commands.cli', 'serve', '--port', '0',
       '--no-page', '--bundle', str(tmp_path)], capture_output=True, text=True,
      check=False)
  assert done.returncode == 2
  assert done.stderr.splitlines()[-1].startswith(
      f'musiclm: error: {tmp_path}/coarse/weights.safetensors is damaged (')
  assert 'Traceback' not in done.stderr


@pytest.mark.web
def test_who_leaves_in_the_middle_of_a_body_is_not_told(site):
  before = site.log()
  for path, kind in (('/v1/jobs', 'application/json'),
                     ('/v1/uploads', 'audio/wav')):
    with socket.create_connection(('127.0.0.1', site.port)) as client:
      client.sendall(f'POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: {kind}'
                     '\r\nContent-Length: 1000\r\n\r\nRIFF'.encode())
      wait(lambda: path != '/v1/uploads' or any(
          name.endswith('.sent') for name in site.files()))
    wait(lambda: not any(name.endswith('.sent') for name in site.files()))
  assert site.get('/healthz')['status'] == 'ready'
  assert site.log() == before


@pytest.mark.web
def test_signals_stop_it_cleanly(site, tiny):
  """The last one here, as it ends the site."""
  del tiny
  for _ in range(2):
    status, _, _ = site.post(
        '/v1/jobs', dict(prompt='a jig', seconds=120))
    assert status == 202
  wait(lambda: site.health()['running'] == 1)
  assert site.stop(signal.SIGINT) == 0
  assert site.log().splitlines()[-1] == 'stopped'
  assert 'Traceback' not in site.log()
  assert not list((site.temporary / 'tmp').glob('musiclm-serve-*'))
