"""The page's addresses: what they say, what they keep, what they never tell."""

import io
import json

import pytest
import soundfile

pytest.importorskip('fastapi')
testclient = pytest.importorskip('starlette.testclient')

from musiclm_jax.listening import desk as desk_lib
from musiclm_jax.listening import page
from musiclm_jax.listening import site
from musiclm_jax.listening import store as store_lib


@pytest.fixture(name='open_client')
def _open_client(test, tmp_path):
  """Function that gives a new browser on one site."""
  store = store_lib.Store(tmp_path / 'answers.sqlite', test.key_sha256)
  app = site.create(desk_lib.Desk(test, store))
  yield lambda: testclient.TestClient(app, raise_server_exceptions=False)
  store.close()


def said(shown, **changes):
  return dict(dict(trial=shown['trial'], answer=1, comment='',
                   heard_a=1.0, heard_b=1.0), **changes)


def test_a_rater_and_their_cookie(open_client, test, tmp_path):
  client = open_client()
  assert client.get('/api/where').json() == {'state': 'new'}
  reply = client.post('/api/begin', json={})
  shown = reply.json()
  assert shown['state'] == 'trial' and shown['total'] == 6
  cookie = reply.headers['set-cookie']
  assert 'HttpOnly' in cookie and 'SameSite=lax' in cookie
  assert client.get('/api/where').json() == shown
  # A second begin is the same rater.
  assert client.post('/api/begin', json={}).json() == shown
  for number in range(6):
    assert shown['rated'] == number
    shown = client.post('/api/answer', json=said(
        shown, answer=number % 5 - 2, comment='\U0001d11e')).json()
  assert shown['state'] == 'done' and shown['rated'] == 6
  found = store_lib.read(tmp_path / 'answers.sqlite', test.key_sha256)
  assert [x.answer for x in found] == [-2, -1, 0, 1, 2, -2]
  assert found[0].comment == '\U0001d11e'


def test_the_sounds_are_the_keys(open_client, test):
  client = open_client()
  shown = client.post('/api/begin', json={}).json()
  contents = {side: client.get(f'/sound/{shown["trial"]}/{side}.wav').content
              for side in 'ab'}
  known = {(test.directory / 'audio' / name).read_bytes(): clip.id
           for clip in test.clips for name in clip.sounds}
  assert contents['a'] != contents['b']
  clips = {known[content] for content in contents.values()}
  assert {f'a tune of {clip[-1]}' for clip in clips} == {shown['caption']}
  sound, rate = soundfile.read(io.BytesIO(contents['a']))
  assert (len(sound), rate) == (8_000, 8_000)
  part = client.get(f'/sound/{shown["trial"]}/a.wav',
                    headers={'Range': 'bytes=0-99'})  # Safari asks like this
  assert part.status_code == 206 and part.content == contents['a'][:100]


def test_no_reply_names_a_system_a_clip_or_a_file(open_client, test):
  client = open_client()
  replies = [client.get('/'), client.post('/api/begin', json={})]
  shown = replies[-1].json()
  seen = set()
  while shown['state'] == 'trial':
    for side in 'ab':
      replies.append(client.get(f'/sound/{shown["trial"]}/{side}.wav'))
      # What differs between sounds of systems would tell them apart.
      seen.add(tuple(sorted((key, value) for key, value in
                            replies[-1].headers.items())))
    replies.append(client.post('/api/answer', json=said(shown)))
    shown = replies[-1].json()
  assert len(seen) == 1
  secrets = [*test.systems, test.key_sha256, str(test.directory)] + [
      word for clip in test.clips
      for word in (clip.id, clip.track, *clip.sounds)]
  for reply in replies:
    text = str(reply.url) + str(reply.headers) + reply.content.decode('latin-1')
    assert not [secret for secret in secrets if secret in text]


def test_nobody_sees_anothers(open_client):
  one, other, nobody = open_client(), open_client(), open_client()
  shown = one.post('/api/begin', json={}).json()
  others = other.post('/api/begin', json={}).json()
  assert others['trial'] != shown['trial']
  for client in (other, nobody):
    assert client.get(f'/sound/{shown["trial"]}/a.wav').status_code == 409
    reply = client.post('/api/answer', json=said(shown))
    assert reply.status_code == 409 and reply.json()['error']
  assert one.get('/api/where').json() == shown


@pytest.mark.parametrize('changes, status, message', [
    (dict(answer=3), 409, 'There is no answer 3.'),
    (dict(answer='much'), 422, 'answer: '),
    (dict(heard_b=0.1), 409, 'Please listen to both first.'),
    (dict(trial='x'), 409, 'There is no such pair'),
    (dict(extra=1), 422, 'extra: '),
    (dict(comment='x' * 70_000), 413, 'Expected at most 65536 bytes.')])
def test_answers_that_are_refused(open_client, changes, status, message):
  client = open_client()
  shown = client.post('/api/begin', json={}).json()
  reply = client.post('/api/answer', json=said(shown, **changes))
  assert reply.status_code == status
  assert message in reply.json()['error']
  assert client.get('/api/where').json() == shown


def test_strange_requests(open_client):
  client = open_client()
  client.post('/api/begin', json={})
  for body in (b'', b'{', b'[]', b'\xff', json.dumps({'trial': 1}).encode()):
    reply = client.post('/api/answer', content=body,
                        headers={'Content-Type': 'application/json'})
    assert reply.status_code in (400, 422)
    assert '\n' not in reply.json()['error']
  reply = client.post('/api/answer', content=iter([b'x' * 10]))
  assert reply.status_code == 413  # of no length
  for path in ('/docs', '/openapi.json', '/key.json', '/audio', '/sound/x/c.wav',
               '/sound/../key.json/a.wav', '/answers.sqlite'):
    assert client.get(path).status_code in (404, 409, 422)


def test_where_the_disk_is_full(open_client, monkeypatch):
  import sqlite3  # pylint: disable=g-import-not-at-top

  def full(*unused, **unused_named):
    raise sqlite3.OperationalError('database or disk is full')

  client = open_client()
  shown = client.post('/api/begin', json={}).json()
  with monkeypatch.context() as patch:
    patch.setattr(store_lib.Store, 'answer', full)
    reply = client.post('/api/answer', json=said(shown))
  assert reply.status_code == 503 and 'try again' in reply.json()['error']
  assert client.post('/api/answer', json=said(shown)).json()['rated'] == 1


def test_the_page_is_whole_and_keeps_its_policy(open_client):
  reply = open_client().get('/')
  policy = reply.headers['content-security-policy']
  assert "default-src 'none'" in policy and 'unsafe' not in policy
  assert 'http' not in reply.text.replace('</html>', '').split('<script>')[0]
  assert reply.headers['cache-control'] == 'no-store'
  assert '&lt;b&gt;' in page.content('<b>') and '<b>x' not in page.content('<b>x')
