"""The API's schema and a page that shows it, without any outside script."""

from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
import html
import json
from typing import Any

import pydantic

from musiclm_jax.serving import answers
from musiclm_jax.serving import asking

DESCRIPTION = (
    'Music from a description. POST /v1/generate answers with a file; POST '
    '/v1/jobs answers at once, and the job can be watched, heard while it is '
    'made, fetched and cancelled. The same seed and settings give the bytes '
    'that `musiclm generate` writes on the same machine.')
REQUEST = asking.Request.model_json_schema()


def _json(text: str, model: type[pydantic.BaseModel]) -> dict[str, Any]:
  return dict(description=text, model=model)


def _sound(text: str, *kinds: str) -> dict[str, Any]:
  binary = dict(schema=dict(type='string', format='binary'))
  return dict(description=text, content={k: binary for k in kinds})


def _error(text: str) -> dict[str, Any]:
  return _json(text, answers.Error)


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
SUBMIT = {202: _json('the job', answers.Job), **_REFUSALS}
JOB = {200: _json('the job', answers.Job), **_MISSING}
AUDIO = {200: _sound('the file', 'audio/wav', 'audio/flac'), **_NOT_DONE}
STREAM = {200: _sound('it comes as it is made', 'audio/wav'), **_NOT_DONE}
PICTURE = {200: _sound('time to the right, low sounds below', 'image/png'),
           **_NOT_DONE}
HEALTH = {200: _json('ready', answers.Health),
          503: _json('not ready', answers.Health)}
ABOUT = {200: _json('the server', answers.About)}
UPLOAD = {
    201: _json('the upload', answers.Upload),
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


def page(schema: Mapping[str, Any]) -> str:
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


def _operation(path: str, method: str, operation: Mapping[str, Any]) -> str:
  """HTML of one method of one path."""
  text = ' '.join(operation.get('description', '').split())
  answers = [
      (_text(code), _text(answer['description']),
       ', '.join(_text(kind) for kind in answer.get('content', ())))
      for code, answer in sorted(operation['responses'].items())]
  return (f'<h2><b class="method">{method.upper()}</b> '
          f'<code>{_text(path)}</code></h2><p>{_text(text)}</p>' +
          _table(('answer', '', 'type'), answers))


def _range(field: Mapping[str, Any]) -> str:
  if 'enum' in field:
    return ', '.join(field['enum'])
  if 'minimum' in field:
    return f'{field["minimum"]:g} to {field["maximum"]:g}'
  return ''


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
  cells = lambda row, tag: ''.join(f'<{tag}>{cell}</{tag}>' for cell in row)
  return ('<table><tr>' + cells(heads, 'th') + '</tr>' + ''.join(
      f'<tr>{cells(row, "td")}</tr>' for row in rows) + '</table>')


def _text(value: Any) -> str:
  return html.escape(value if isinstance(value, str) else json.dumps(value))
