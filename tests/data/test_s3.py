"""Ingest over the protocol of S3, from a server in this process.

Run where it is installed: pip install "moto[server]" s3fs; pytest -m web.
"""

import hashlib
import urllib.request

import pytest

from musiclm_jax import records
from musiclm_jax.commands import cli
from tests.helpers import sources

pytestmark = pytest.mark.web
server_lib = pytest.importorskip('moto.server')
s3fs = pytest.importorskip('s3fs')


@pytest.fixture(name='bucket')
def _bucket(tmp_path, monkeypatch):
  """`s3://music`, in which `songs` holds four tunes; gives the store."""
  server = server_lib.ThreadedMotoServer(ip_address='127.0.0.1', port=0)
  server.start()
  host, port = server.get_host_and_port()
  for name, value in dict(
      AWS_ENDPOINT_URL=f'http://{host}:{port}', AWS_ACCESS_KEY_ID='ours',
      AWS_SECRET_ACCESS_KEY='secret', AWS_DEFAULT_REGION='us-east-1',
      AWS_EC2_METADATA_DISABLED='true', HOME=str(tmp_path)).items():
    monkeypatch.setenv(name, value)
  urllib.request.urlopen(  # the process keeps what another test has stored
      f'http://{host}:{port}/moto-api/reset', data=b'').close()
  # fsspec keeps what it has opened, whatever the environment says by now.
  s3fs.S3FileSystem.clear_instance_cache()
  store = s3fs.S3FileSystem()
  store.mkdir('music')
  for path in sources.folder(tmp_path / 'm', 4, 2.2).iterdir():
    store.put_file(str(path), f'music/songs/{path.name}')
  yield store
  server.stop()
  s3fs.S3FileSystem.clear_instance_cache()


def _run(capsys, *words):
  """(exit code, stdout, stderr) of `musiclm ingest`."""
  s3fs.S3FileSystem.clear_instance_cache()
  try:
    cli.main(['ingest', *map(str, words), '--min-seconds', '0.5'])
    code = 0
  except SystemExit as ended:
    code = ended.code
  return (code, *capsys.readouterr())


def test_out_of_a_bucket_and_into_it(bucket, tmp_path, capsys):
  out = tmp_path / 'c'
  code, said, _ = _run(capsys, 's3://music/songs', '--out', out)
  assert code == 0 and said.startswith('4 of 4 files used')
  ids = {t.id for name in records.Corpus(out).splits
         for t in records.Corpus(out).split(name)}
  assert ids == {f'{i:03d}.wav' for i in range(4)}
  before = sources.contents(out)
  code, said, _ = _run(capsys, 's3://music/songs', '--out', out)
  assert code == 0 and 'is there already' in said
  assert sources.contents(out) == before
  code, _, _ = _run(capsys, 's3://music/songs', '--out', 's3://music/corpus')
  assert code == 0
  made = {name.removeprefix('music/corpus/') for name in bucket.find('music/corpus')}
  assert made == set(before)
  for name in made:
    assert hashlib.sha256(bucket.cat_file(
        f'music/corpus/{name}')).hexdigest() == before[name]


def test_what_is_not_there_is_a_line(bucket, tmp_path, capsys):
  out = tmp_path / 'c'
  for words, told in (
      (('s3://nowhere/songs', '--out', out), 'there is no s3://nowhere, '),
      (('s3://music/none', '--out', out), 'under s3://music/none (0 other'),
      (('s3://music/songs', '--out', 's3://nowhere/c'),
       's3://nowhere/c.ingest/plan.json: The specified bucket does not exist')):
    code, _, said = _run(capsys, *words)
    assert code == 2 and said.count('\n') == 1 and told in said
  assert not bucket.exists('nowhere')
  assert [p.name for p in tmp_path.iterdir()] == ['m']


def test_a_wrong_key_is_a_line(bucket, tmp_path, capsys, monkeypatch):
  out = tmp_path / 'c'
  # From now on the server looks at keys, and knows none.
  monkeypatch.setattr('moto.settings.INITIAL_NO_AUTH_ACTION_COUNT', 0)
  code, _, said = _run(capsys, 's3://music/songs', '--out', out)
  assert code == 2 and said.count('\n') == 1 and 'Access Key Id' in said
  for name in ('AWS_ACCESS_KEY_ID', 'AWS_SECRET_ACCESS_KEY'):
    monkeypatch.delenv(name)
  code, _, said = _run(capsys, 's3://music/songs', '--out', out)
  assert code == 2 and said.count('\n') == 1 and 'credentials' in said
  assert [p.name for p in tmp_path.iterdir()] == ['m']
