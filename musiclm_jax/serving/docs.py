"""The API's schema and a page that shows it, without any outside script."""

import dataclasses
import html
import json

from musiclm_jax.serving import asking
from musiclm_jax.serving import jobs as jobs_lib
from musiclm_jax.systems.musiclm import settings as settings_lib

ABOUT = (
    'Music from a description. POST /v1/generate answers with a file; POST '
    '/v1/jobs answers at once, and the job can be watched, heard while it is '
    'made, fetched and cancelled. The same seed and settings give the bytes '
    'that `musiclm generate` writes on the same machine.')
_RECORDING = 'id of an upload: '
_TEXTS = dict(
    prompt='what the music should be like',
    story='YAML of timed prompts, instead of a prompt: "- at: 0:00" and under '
    'it "prompt: ..."',
    melody=_RECORDING + 'hummed, whistled or played, to follow',
    like=_RECORDING + 'a song to be near to',
    continue_from=_RECORDING + 'what the music goes on from')
_KINDS = {int: 'integer', float: 'number', str: 'string'}


def _setting(field):
  """The JSON schema of a field of `Settings`."""
  schema = dict(type=_KINDS[field.type], default=field.default,
                description=field.metadata['help'])
  if 'choices' in field.metadata:
    return dict(schema, enum=list(field.metadata['choices']))
  return dict(schema, minimum=field.metadata['low'],
              maximum=field.metadata['high'])


REQUEST = dict(
    type='object', additionalProperties=False,
    description='What to make: at least one of prompt, story, melody, like and '
    'continue_from. What is left out is the default of the bundle (`defaults` of '
    '/v1/about), or else the one told here.',
    properties=dict(
        {name: dict(type='string', description=text)
         for name, text in _TEXTS.items()},
        **{f.name: _setting(f)
           for f in dataclasses.fields(settings_lib.Settings)},
        format=dict(type='string', enum=list(asking.FORMATS),
                    default=asking.FORMATS[0])),
    example=dict(prompt='a slow waltz on accordion', seconds=10, seed=3))

_STRING, _NUMBER, _COUNT = (
    dict(type=t) for t in ('string', 'number', 'integer'))
_URLS = dict(type='array', items=_STRING)
_WAITS = dict(type=['string', 'null'], description='what holds up all '
              'requests: a program that is compiled, which nothing can '
              'interrupt, a cancelled request that has to end')
_JOB = dict(type='object', properties=dict(
    id=_STRING, status=dict(type='string', enum=list(jobs_lib.STATES)),
    error=dict(type=['string', 'null'], description='why it failed'),
    title=_STRING, url=_STRING,
    position=dict(_COUNT, description='requests that come before'),
    waits_for=_WAITS,
    stage=dict(type=['string', 'null']),
    progress=dict(_NUMBER, description='share of the work, 0 to 1'),
    seconds=dict(_NUMBER, description='of audio'),
    seconds_done=dict(_NUMBER, description='of audio that can be heard'),
    seed=_COUNT, format=_STRING,
    audio=dict(_URLS, description='of the files, once it is done'),
    spectrograms=_URLS,
    similarity=dict(type='array', items=dict(type=['number', 'null'])),
    streams=dict(_URLS, description='to hear while it is made')))
_HEALTH = dict(type='object', properties=dict(
    status=dict(type='string', enum=['starting', 'ready', 'failed', 'stopped']),
    waiting=_COUNT, running=_COUNT, held=_COUNT, queue=_COUNT,
    waits_for=_WAITS,
    programs=dict(_COUNT, description='compiled, or read from the disk'),
    warming=dict(type='boolean', description='whether more are compiled ahead '
                 'while nobody waits'),
    bundle=_STRING, version=_STRING))


def _json(text, schema):
  return dict(description=text, content={'application/json': dict(
      schema=schema)})


def _sound(text, *kinds):
  binary = dict(schema=dict(type='string', format='binary'))
  return dict(description=text, content={k: binary for k in kinds})


def _error(text):
  return _json(text, dict(type='object', properties=dict(error=_STRING)))


_REFUSALS = {
    400: _error('the body is not JSON'),
    413: _error('the body is too large'),
    415: _error('the body is of another type'),
    422: _error('a mistake in the request, in a line'),
    503: _error('the queue is full; Retry-After says when to come again')}
_MISSING = {404: _error('there is no such job, or it is no longer held')}
_NOT_DONE = {**_MISSING, 409: _error('the job has none, or not yet')}
GENERATE = {
    200: _sound('the file', 'audio/wav', 'audio/flac'), **_REFUSALS,
    409: _error('the request was cancelled'),
    500: _error('a fault of the server'),
    504: _error('the request took longer than the time limit')}
SUBMIT = {202: _json('the job', _JOB), **_REFUSALS}
JOB = {200: _json('the job', _JOB), **_MISSING}
AUDIO = {200: _sound('the file', 'audio/wav', 'audio/flac'), **_NOT_DONE}
STREAM = {200: _sound('it comes as it is made', 'audio/wav'), **_NOT_DONE}
PICTURE = {200: _sound('time to the right, low sounds below', 'image/png'),
           **_NOT_DONE}
HEALTH = {200: _json('ready', _HEALTH), 503: _json('not ready', _HEALTH)}
ABOUT_RESPONSE = {200: _json('the server', dict(type='object'))}
UPLOAD = {
    201: _json('the upload', dict(type='object', properties=dict(
        id=_STRING, seconds=_NUMBER))),
    **{code: _REFUSALS[code] for code in (413, 415, 422, 503)}}
UPLOAD_BODY = dict(requestBody=dict(required=True, content={
    'audio/*': dict(schema=dict(type='string', format='binary'))}))
REQUEST_BODY = dict(requestBody=dict(required=True, content={
    'application/json': dict(schema=REQUEST)}))

_STYLE = '''
body { font: 15px/1.55 system-ui, sans-serif; max-width: 56em; color: #1f2430;
       margin: 2em auto; padding: 0 1em; background: #fff; }
h2 { margin-top: 2em; font-size: 1.1em; overflow-wrap: anywhere; }
code { font-size: .95em; }
pre { background: #f4f4f8; padding: .8em; overflow-x: auto;
      border-radius: 6px; }
table { border-collapse: collapse; width: 100%; display: block;
        overflow-x: auto; }
td, th { text-align: left; padding: .25em .8em .25em 0; vertical-align: top;
         border-bottom: 1px solid #e4e4ec; }
b.method { display: inline-block; min-width: 4.2em; color: #6a4fc8; }
@media (prefers-color-scheme: dark) {
  body { color: #e6e8ef; background: #14161d; }
  pre { background: #20242f; } td, th { border-color: #2e3340; }
  a { color: #9db8ff; } b.method { color: #b3a1f5; }
}
'''
_CURL = '''curl -s -H 'Content-Type: application/json' -o waltz.wav \\
  -d '{"prompt": "a slow waltz on accordion", "seconds": 10, "seed": 3}' \\
  http://127.0.0.1:7860/v1/generate'''


def page(schema):
  """HTML of an OpenAPI schema, complete in itself."""
  parts = [
      '<!doctype html><html lang="en"><meta charset="utf-8">'
      '<meta name="viewport" content="width=device-width, initial-scale=1">'
      '<link rel="icon" href="data:,">',
      f'<title>musiclm: the API</title><style>{_STYLE}</style>',
      f'<h1>musiclm: the API</h1><p>{_text(schema["info"]["description"])}</p>',
      f'<pre>{_text(_CURL)}</pre>',
      '<p>The whole schema: <a href="openapi.json">openapi.json</a>.</p>']
  for path, methods in schema['paths'].items():
    for method, operation in methods.items():
      parts.append(_operation(path, method, operation))
  parts.append('<h2>The request</h2>' + _table(
      ('field', 'type', 'default', 'range', ''), [
          (f'<code>{name}</code>', _text(field['type']),
           _text(field.get('default', '')), _text(_range(field)),
           _text(field.get('description', '')))
          for name, field in REQUEST['properties'].items()]))
  return '\n'.join(parts)


def _operation(path, method, operation):
  text = ' '.join(operation.get('description', '').split())
  answers = [
      (_text(code), _text(answer['description']),
       ', '.join(_text(kind) for kind in answer.get('content', ())))
      for code, answer in sorted(operation['responses'].items())]
  return (f'<h2><b class="method">{method.upper()}</b> '
          f'<code>{_text(path)}</code></h2><p>{_text(text)}</p>' +
          _table(('answer', '', 'type'), answers))


def _range(field):
  if 'enum' in field:
    return ', '.join(field['enum'])
  if 'minimum' in field:
    return f'{field["minimum"]:g} to {field["maximum"]:g}'
  return ''


def _table(heads, rows):
  cells = lambda row, tag: ''.join(f'<{tag}>{x}</{tag}>' for x in row)
  return ('<table><tr>' + cells(heads, 'th') + '</tr>' + ''.join(
      f'<tr>{cells(row, "td")}</tr>' for row in rows) + '</table>')


def _text(value):
  return html.escape(value if isinstance(value, str) else json.dumps(value))
