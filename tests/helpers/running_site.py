"""`musiclm serve` in a process of its own, as a user has it."""

import http.client
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request

_WAIT_S = 400  # for a machine that does other things as well


class Site:
  """A server on a free port, and its temporary folder.

  Attributes:
    url: for example 'http://127.0.0.1:41234'.
    temporary: the folder that its temporary files are in.
  """

  def __init__(self, bundle, *options):
    self._holder = tempfile.TemporaryDirectory()
    self.temporary = pathlib.Path(self._holder.name)
    self._log = open(self.temporary / 'log', 'w+', encoding='utf-8')
    (self.temporary / 'tmp').mkdir()
    self.process = subprocess.Popen(
        [sys.executable, '-m', 'musiclm_jax.commands.cli', 'serve', '--port', '0',
         '--bundle', str(bundle), *options], stderr=self._log,
        env=dict(os.environ, TMPDIR=str(self.temporary / 'tmp')))
    try:
      self._until(lambda: re.search(r'^http://\S+$', self.log(), re.M))
      self.url = re.search(r'^http://\S+?(?=(/docs)?$)', self.log(), re.M)[0]
      self.port = int(self.url.rsplit(':', 1)[1])
      self._until(lambda: self.health()['status'] == 'ready')
    except BaseException:
      self.close()
      raise

  def log(self):
    return (self.temporary / 'log').read_text(encoding='utf-8')

  def files(self):
    """Names of all temporary files of the server."""
    return [p.name for p in (self.temporary / 'tmp').rglob('*') if p.is_file()]

  def memory_mib(self):
    """What the process has in memory."""
    text = pathlib.Path(f'/proc/{self.process.pid}/status').read_text(
        encoding='ascii')
    return int(re.search(r'VmRSS:\s+(\d+)', text)[1]) / 1024

  def get(self, path):
    """The JSON that is there."""
    with urllib.request.urlopen(f'{self.url}{path}') as answer:
      return json.load(answer)

  def delete(self, path):
    """Removes what is there."""
    urllib.request.urlopen(urllib.request.Request(
        f'{self.url}{path}', method='DELETE')).close()

  def health(self):
    try:
      return self.get('/healthz')
    except urllib.error.HTTPError as error:
      return json.load(error)
    except OSError:
      return dict(status='not there')

  def post(self, path, body, kind='application/json'):
    """(status, headers, content) of one request on its own connection."""
    connection = http.client.HTTPConnection(
        '127.0.0.1', self.port, timeout=_WAIT_S)
    content = body if isinstance(body, bytes) else json.dumps(body)
    try:
      connection.request('POST', path, content, {'Content-Type': kind})
      answer = connection.getresponse()
      return answer.status, dict(answer.getheaders()), answer.read()
    finally:
      connection.close()

  def stop(self, kind=signal.SIGTERM):
    """Its exit code after a signal."""
    self.process.send_signal(kind)
    return self.process.wait(_WAIT_S)

  def close(self):
    self.process.kill()
    self.process.wait()
    self._log.close()
    self._holder.cleanup()

  def _until(self, condition):
    end = time.monotonic() + _WAIT_S
    while not condition():
      if time.monotonic() > end or self.process.poll() is not None:
        raise AssertionError(f'the server did not come up:\n{self.log()}')
      time.sleep(0.1)
