"""The HTTP API over a fake model, and over a tiny real one."""

import asyncio
import io
import re
import threading
import time

import numpy as np
import pytest
import soundfile

fastapi = pytest.importorskip('fastapi')
testclient = pytest.importorskip('starlette.testclient')

from musiclm_jax.serving import api
from musiclm_jax.serving import docs
from musiclm_jax.serving import mount
from musiclm_jax.serving import streams

RATE = 24_000
ASK = dict(prompt='a jig', seconds=2, seed=3)


@pytest.fixture(name='make_client')
def _make_client(make_service, tmp_path):
  """Function from limits to (client, service, model)."""
  def make(page=False, **options):
    service, model = make_service(**options)
    app = api.create(service)
    if page:
      app = _with_page(app, service, tmp_path)
    return testclient.TestClient(
        app, raise_server_exceptions=False), service, model

  return make


def _with_page(app, service, tmp_path):
  pytest.importorskip('gradio')
  return mount.mount(app, service, tmp_path / 'sent')


@pytest.fixture(name='client')
def _client(make_client):
  return make_client()[0]


def until(client, url, *states):
  for _ in range(4000):
    job = client.get(url).json()
    if job['status'] in states:
      return job
    time.sleep(0.005)
  raise AssertionError(f'{job} is not {states}')


def wav(tmp_path, seconds=2.0):
  path = tmp_path / 'hum.wav'
  soundfile.write(path, np.sin(np.arange(int(seconds * RATE)) / 20), RATE)
  return path.read_bytes()


def test_one_request_one_file(client):
  answer = client.post('/v1/generate', json=ASK)
  assert answer.status_code == 200
  assert answer.headers['content-type'] == 'audio/wav'
  assert answer.headers['x-seed'] == '3'
  assert len(answer.content) > 96_044
  assert client.post('/v1/generate', json=ASK).content == answer.content
  flac = client.post('/v1/generate', json=dict(ASK, format='flac'))
  assert flac.content[:4] == b'fLaC'
  assert client.get('/healthz').json()['held'] == 0  # nothing is left


def test_a_job_from_beginning_to_end(make_client):
  client, service, model = make_client()
  model.gate.clear()
  answer = client.post('/v1/jobs', json=dict(ASK, samples=2))
  assert answer.status_code == 202
  url = answer.headers['location']
  assert answer.json()['url'] == url
  job = until(client, url, 'running')
  assert client.get(f'{url}/audio/1').status_code == 409
  model.gate.set()
  job = until(client, url, 'done')
  assert job['progress'] == 1 and job['seed'] == 3 and job['error'] is None
  assert len(job['audio']) == len(job['streams']) == 2
  first, second = (client.get(u).content for u in job['audio'])
  assert first != second and first[:4] == b'RIFF'
  part = client.get(job['audio'][0], headers={'Range': 'bytes=0-3'})
  assert part.status_code == 206 and part.content == b'RIFF'
  assert client.get(job['spectrograms'][0]).content == b'PNG'
  name = client.get(job['audio'][0]).headers['content-disposition']
  assert name == 'attachment; filename="musiclm-3-1.wav"'
  assert client.delete(url).status_code == 200
  assert client.get(url).status_code == 404
  assert service.jobs.counts()['held'] == 0


def test_a_stream_is_heard_while_it_is_made(make_client):
  client, _, model = make_client()
  model.gate.clear()
  job = client.post('/v1/jobs', json=ASK).json()
  threading.Timer(0.1, model.gate.set).start()
  heard = client.get(f'{job["url"]}/stream/1').content
  assert len(heard) == 44 + 2 * 2 * RATE and heard[-4:] != bytes(4)
  assert until(client, job['url'], 'done')
  again = client.get(f'{job["url"]}/stream/1', headers={'Range': 'bytes=44-'})
  assert again.status_code == 206 and again.content == heard[44:]


def test_a_stream_answers_ranges_while_it_is_made(make_client):
  """As Safari asks: two bytes, then all; or from somewhere, when it is there."""
  client, _, model = make_client()
  model.gate.clear()
  job = client.post('/v1/jobs', json=ASK).json()
  until(client, job['url'], 'running')
  url, size = f'{job["url"]}/stream/1', 44 + 2 * 2 * RATE

  def part(text, status=206):
    answer = client.get(url, headers={'Range': text})
    assert answer.status_code == status
    return answer

  start = part('bytes=0-1')
  assert start.content == b'RI' and start.headers['accept-ranges'] == 'bytes'
  assert start.headers['content-range'] == f'bytes 0-1/{size}'
  beyond = part(f'bytes={size}-', 416)
  assert beyond.headers['content-range'] == f'bytes */{size}'
  assert 'is none of them' in beyond.json()['error']
  threading.Timer(0.1, model.gate.set).start()
  end = part('bytes=-8')  # it waits for what is not made yet
  assert end.headers['content-range'] == f'bytes {size - 8}-{size - 1}/{size}'
  whole = part('bytes=0-')
  assert len(whole.content) == size and whole.content[-8:] == end.content


@pytest.mark.parametrize('header, expected', [
    (None, None), ('', None), ('bytes=0-', (0, 100)), ('bytes=0-1', (0, 2)),
    ('Bytes = 44-', (44, 100)), ('bytes=90-999', (90, 100)),
    ('bytes=-8', (92, 100)), ('bytes=-999', (0, 100)),
    ('bytes=100-', (100, 100)), ('bytes=-0', (100, 100)),
    ('bytes=5-2', None), ('bytes=-', None), ('bytes=0-1,4-5', None),
    ('lines=0-1', None), ('bytes=\u0661-', None), ('bytes=' + '9' * 99, None),
])
def test_ranges(header, expected):
  assert streams.part(header, 100) == expected


def test_a_stream_that_ends_early_is_silent_from_there(make_client):
  client, _, model = make_client()
  model.gate.clear()
  url = client.post('/v1/jobs', json=ASK).json()['url']
  until(client, url, 'running')
  threading.Timer(0.1, lambda: client.delete(url)).start()
  heard = client.get(f'{url}/stream/1')
  assert heard.headers['accept-ranges'] == 'bytes'
  assert len(heard.content) == int(heard.headers['content-length'])
  assert heard.content[44:] == bytes(2 * 2 * RATE)


def test_cancelling(make_client):
  client, _, model = make_client()
  model.gate.clear()
  first = client.post('/v1/jobs', json=ASK).json()['url']
  second = client.post('/v1/jobs', json=ASK).json()['url']
  until(client, first, 'running')
  assert client.get(second).json()['position'] == 1
  assert client.delete(second).json()['status'] == 'cancelled'
  client.delete(first)
  assert until(client, first, 'cancelled')['audio'] == []
  for what in ('audio', 'stream'):
    answer = client.get(f'{first}/{what}/1')
    assert answer.status_code == 409
    assert answer.json()['error'] == f'no {what}, the job is cancelled.'


def test_busy_is_said_at_once(make_client):
  client, _, model = make_client(queue=1)
  model.gate.clear()
  until(client, client.post('/v1/jobs', json=ASK).json()['url'], 'running')
  assert client.post('/v1/jobs', json=ASK).status_code == 202
  for path in ('/v1/jobs', '/v1/generate'):
    answer = client.post(path, json=ASK)
    assert answer.status_code == 503
    assert int(answer.headers['retry-after']) >= 1
    assert answer.json()['error'].startswith('busy: 1 requests are waiting')


def test_time_is_up(make_client):
  client, _, model = make_client(time_limit_s=0.05)
  model.gate.clear()
  answer = client.post('/v1/generate', json=ASK)
  assert answer.status_code == 504
  assert answer.json()['error'].startswith('the request took longer than')


def test_a_fault_is_a_line(make_client):
  client, _, model = make_client()
  model.fault = RuntimeError('/secret/path')
  answer = client.post('/v1/generate', json=ASK)
  assert answer.status_code == 500
  assert answer.json() == dict(error='a fault of the server (RuntimeError), '
                               'told in its log.')


def test_recordings(make_client, tmp_path):
  client, _, _ = make_client()
  answer = client.post('/v1/uploads', content=wav(tmp_path))
  assert answer.status_code == 201 and answer.json()['seconds'] == 2
  job = client.post('/v1/jobs', json=dict(
      melody=answer.json()['id'], seconds=2)).json()
  assert job['title'] == 'to the melody of a recording'
  assert until(client, job['url'], 'done')


@pytest.mark.parametrize('content, status, line', [
    (b'', 415, 'the file is not a file of sound'),
    (b'text', 415, 'the file is not a file of sound'),
    (b'RIFF\0\0\0\0WAVE', 422, 'the file is not readable audio'),
    (bytes(1 << 20) + b'!', 413, 'the file is larger than 1 MiB'),
])
def test_recordings_that_cannot_be_used(make_client, content, status, line):
  client, service, _ = make_client(upload_mib=1)
  in_parts = lambda: iter([content[:9], content[9:]])  # no Content-Length
  for body in (content, in_parts()):
    answer = client.post('/v1/uploads', content=body)
    assert answer.status_code == status
    assert answer.json()['error'].startswith(line)
  assert not list(service.uploads.place().parent.iterdir())


@pytest.mark.parametrize('body, status, line', [
    (b'{', 400, 'the body is not JSON ('),
    (b'\xff\xfe', 400, 'the body is not JSON ('),
    (b'[' * 100_000, 400, 'the body is not JSON ('),
    (b' ' * (1 << 20) + b'{}', 413, 'the request is larger than 1048576'),
    (b'[]', 422, 'the request is a list; expected an object'),
    (b'{"prompt": "x", "seconds": NaN}', 422, 'seconds is nan; expected 1'),
    (b'{"prompt": "x", "seconds": 1e999}', 422, 'seconds is inf; expected 1'),
    (b'{"prompt": "x\\udcff"}', 422, 'the prompt is not text in UTF-8.'),
    (b'{"\\udcff": 1}', 422, "unknown field '\\udcff'; known: best_of,"),
    (b'{"prompt": "x", "samples": 2}', 422, 'samples is 2; expected 1 here'),
    (b'{"prompt": "x", "seconds": 500}', 422, 'seconds is 500; this server'),
    (b'{"melody": "../../etc/passwd"}', 422, "there is no upload '../../etc"),
    (b'{"story": "- at: 1:00\\n  prompt: x"}', 422,
     'story, line 1: the first part begins at 1:00; expected 0:00.'),
    (b'{"story": "- {at: 0, prompt: \\"\\\\ud800 air\\"}"}', 422,
     "story, line 1: the prompt holds half a character, '\\ud800 air'."),
    (b'{"story": "- {at: 0, prompt: \\ud800 air}"}', 422,
     'story: not YAML (special characters are not allowed)'),
])
def test_bad_requests(client, body, status, line):
  answer = client.post('/v1/generate', content=body,
                       headers={'Content-Type': 'application/json'})
  error = answer.json()['error']
  assert answer.status_code == status
  assert error.startswith(line) and '\n' not in error and len(error) <= 500


def test_other_content_types(client):
  for kind in ('text/plain', 'application/x-www-form-urlencoded', ''):
    answer = client.post('/v1/jobs', content=b'{}',
                         headers={'Content-Type': kind})
    assert answer.status_code == 415
    assert 'expected application/json' in answer.json()['error']


@pytest.mark.parametrize('kind', [
    'Application/JSON', 'APPLICATION/json; Charset=UTF-8'])
def test_media_types_ignore_case(client, kind):
  answer = client.post('/v1/jobs', content=b'{"prompt": "x"}',
                       headers={'Content-Type': kind})
  assert answer.status_code == 202


@pytest.mark.parametrize('path, allowed', [
    ('/healthz', 'GET, HEAD'), ('/v1/about', 'GET, HEAD'),
    ('/docs', 'GET, HEAD'), ('/openapi.json', 'GET, HEAD'),
    ('/v1/uploads', 'POST'), ('/v1/generate', 'POST'), ('/v1/jobs', 'POST'),
    ('/v1/jobs/x', 'DELETE, GET, HEAD'), ('/v1/jobs/x/audio/1', 'GET, HEAD')])
def test_wrong_methods(make_client, path, allowed):
  site, _, _ = make_client(page=True)
  for method in ('GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS'):
    if method in allowed.split(', '):
      continue
    answer = site.request(method, path)
    assert (answer.status_code, answer.headers['allow']) == (405, allowed)
    if method != 'HEAD':
      assert answer.json() == dict(
          error=f'{method} {path}: Method Not Allowed.')


def test_head_is_get_without_a_body(make_client):
  client, _, model = make_client(page=True)
  url = client.post('/v1/jobs', json=ASK).json()['url']
  until(client, url, 'done')
  for path in ('/healthz', '/v1/about', '/docs', '/openapi.json', url,
               f'{url}/audio/1', f'{url}/spectrogram/1', f'{url}/stream/1',
               '/v1/jobs/none'):
    get, head = client.get(path), client.head(path)
    assert head.status_code == get.status_code and head.content == b''
    assert get.content
    for name in ('content-type', 'content-length'):
      assert head.headers[name] == get.headers[name]
  assert client.head('/v1/nothing').status_code == 404
  model.gate.clear()
  url = client.post('/v1/jobs', json=ASK).json()['url']
  until(client, url, 'running')
  head = client.head(f'{url}/stream/1')  # and does not wait for the sound
  assert int(head.headers['content-length']) == 44 + 2 * 2 * RATE


@pytest.mark.parametrize('path, kind', [
    ('/v1/jobs', 'application/json'), ('/v1/uploads', 'audio/wav'),
    ('/gradio_api/upload', 'multipart/form-data; boundary=x')])
def test_who_leaves_in_the_middle_of_a_body(
    make_service, tmp_path, path, kind, capsys):
  service, _ = make_service()
  log = io.StringIO()
  app = _with_page(api.create(service, log), service, tmp_path)
  scope = dict(
      type='http', method='POST', path=path, raw_path=path.encode(),
      query_string=b'', root_path='', scheme='http', http_version='1.1',
      client=('127.0.0.1', 1), server=('127.0.0.1', 2),
      headers=[(b'host', b'127.0.0.1:2'), (b'content-type', kind.encode()),
               (b'content-length', b'1000')])
  messages = [dict(type='http.request', body=b'--x\r\n', more_body=True)]

  async def receive():
    return messages.pop() if messages else dict(type='http.disconnect')

  async def send(unused_message):
    pass

  asyncio.run(app(scope, receive, send))  # what escapes, uvicorn would log
  assert log.getvalue() == '' and capsys.readouterr().err == ''
  assert not list(service.uploads.place().parent.iterdir())


@pytest.mark.parametrize('path, status', [
    ('/v1/jobs/none', 404), ('/v1/jobs/none/audio/1', 404),
    ('/v1/jobs/none/stream/1', 404), ('/v1/jobs/..%2f..%2fetc', 404),
    ('/v1/generate', 405), ('/v1/nothing', 404),
])
def test_places_where_nothing_is(client, path, status):
  answer = client.get(path)
  assert answer.status_code == status and 'error' in answer.json()


def test_samples_that_are_not_there(make_client):
  client, _, _ = make_client()
  url = client.post('/v1/jobs', json=dict(ASK, best_of=2)).json()['url']
  job = until(client, url, 'done')
  assert job['streams'] == [] and len(job['audio']) == 1
  for path, status in (('audio/2', 404), ('audio/0', 404), ('audio/x', 404),
                       ('spectrogram/9', 404), ('stream/1', 409)):
    answer = client.get(f'{url}/{path}')
    assert answer.status_code == status and 'error' in answer.json()


def test_health(make_client):
  client, service, _ = make_client(start=False)
  answer = client.get('/healthz')
  assert answer.status_code == 503 and answer.json()['status'] == 'starting'
  service.worker.start()
  for _ in range(1000):
    if (answer := client.get('/healthz')).status_code == 200:
      break
    time.sleep(0.005)
  assert answer.json()['status'] == 'ready'
  about = client.get('/v1/about').json()
  assert about['melody'] is True and about['limits']['queue'] == 8


def test_the_schema_and_its_page(client):
  schema = client.get('/openapi.json').json()
  request = schema['paths']['/v1/generate']['post']['requestBody']
  shown = request['content']['application/json']['schema']['properties']
  assert set(shown) == set(docs.REQUEST['properties'])
  fields = docs.REQUEST['properties']
  assert fields['seconds']['maximum'] == 600 and fields['vary']['enum']
  assert set(schema['paths']) == {
      '/healthz', '/v1/about', '/v1/uploads', '/v1/generate', '/v1/jobs',
      '/v1/jobs/{job_id}', '/v1/jobs/{job_id}/audio/{number}',
      '/v1/jobs/{job_id}/spectrogram/{number}',
      '/v1/jobs/{job_id}/stream/{number}'}
  page = client.get('/docs').text
  assert all(path in page for path in schema['paths'])
  assert all(f'<code>{name}</code>' in page for name in fields)
  outside = [u for u in re.findall(r'https?://[^\s"<]+', page)
             if '127.0.0.1' not in u]
  assert not outside and '<script' not in page
