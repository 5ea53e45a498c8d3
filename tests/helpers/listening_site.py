"""`musiclm listen serve` in a process of its own, and people who rate there."""

import http.client
import json
import pathlib
import re
import signal
import subprocess
import sys
import time

import numpy as np
import soundfile

_WAIT_S = 120  # for a machine that does other things as well
RATE = 8_000


def folders(root, names, clips, seconds=1.0, rate=RATE):
  """{name: folder}, each with `clips` tones, and captions.csv beside them."""
  root = pathlib.Path(root)
  rng = np.random.default_rng(0)
  made = {}
  for number, name in enumerate(names):
    made[name] = root / name
    made[name].mkdir(parents=True)
    for clip in range(clips):
      time_s = np.arange(round(seconds * rate)) / rate
      tone = 0.1 * (number + 1) * np.sin(
          2 * np.pi * (300 + 40 * clip + 200 * number) * time_s)
      noise = 0.01 * rng.standard_normal(len(time_s))
      soundfile.write(made[name] / f'clip{clip}.wav', tone + noise, rate)
  lines = ['id,caption,track'] + [
      f'clip{clip},a tune of {clip},track{clip // 2}' for clip in range(clips)]
  (root / 'captions.csv').write_text('\n'.join(lines) + '\n')
  return made


class Site:
  """A server on a free port.

  Attributes:
    url: for example 'http://127.0.0.1:41234'.
    log: path of what it says.
  """

  def __init__(self, test, log, *options):
    self.log = pathlib.Path(log)
    self._file = open(self.log, 'w', encoding='utf-8')
    self.process = subprocess.Popen(
        [sys.executable, '-m', 'musiclm_jax.commands.cli', 'listen', 'serve',
         str(test), *(options or ('--port', '0'))], stderr=self._file)
    end = time.monotonic() + _WAIT_S
    while not (found := re.search(r'^http://\S+$', self.said(), re.M)):
      if time.monotonic() > end or self.process.poll() is not None:
        self.close()
        raise AssertionError(f'the server did not come up:\n{self.said()}')
      time.sleep(0.05)
    self.url = found[0]
    self.port = int(self.url.rsplit(':', 1)[1])

  def said(self):
    return self.log.read_text(encoding='utf-8')

  def stop(self, kind=signal.SIGTERM):
    """Its exit code after a signal."""
    self.process.send_signal(kind)
    return self.process.wait(_WAIT_S)

  def close(self):
    self.process.kill()
    self.process.wait()
    self._file.close()


class Rater:
  """Somebody who rates over HTTP, with a cookie.

  Attributes:
    cookie: what was set.
    headers: of the last reply.
  """

  def __init__(self, port, cookie=''):
    self._port, self.cookie, self.headers = port, cookie, {}

  def ask(self, method, path, body=None):
    """(status, JSON or bytes)."""
    connection = http.client.HTTPConnection(
        '127.0.0.1', self._port, timeout=_WAIT_S)
    try:
      headers = {'Cookie': self.cookie} if self.cookie else {}
      if body is not None:
        headers['Content-Type'] = 'application/json'
      connection.request(method, path, None if body is None else
                         json.dumps(body), headers)
      reply = connection.getresponse()
      content = reply.read()
      self.headers = dict(reply.getheaders())
      if 'set-cookie' in self.headers:
        self.cookie = self.headers['set-cookie'].split(';')[0]
      if self.headers.get('content-type') == 'application/json':
        content = json.loads(content)
      return reply.status, content
    finally:
      connection.close()

  def begin(self):
    status, shown = self.ask('POST', '/api/begin', {})
    assert status == 200, shown
    return shown

  def where(self):
    return self.ask('GET', '/api/where')[1]

  def answer(self, shown, answer, comment=''):
    """(status, what comes next)."""
    return self.ask('POST', '/api/answer', dict(
        trial=shown['trial'], answer=answer, comment=comment, heard_a=99.0,
        heard_b=99.0))
