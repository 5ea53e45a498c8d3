"""A request is checked before it may wait, with the lines of the shell."""

import functools

import numpy as np
import pytest

from musiclm_jax import errors

pytest.importorskip('pydantic')  # comes with the web packages

from musiclm_jax.serving import asking
from musiclm_jax.serving import limits as limits_lib
from musiclm_jax.systems.musiclm import settings as settings_lib

SOUND = np.sin(np.arange(48_000)).astype(np.float32)
LIMITS = limits_lib.Limits(max_seconds=60, max_samples=4)


def read(bundle, **values):
  sounds = dict(good=SOUND, short=SOUND[:9], silent=0 * SOUND)
  return asking.read(values, bundle, LIMITS, lambda name, key: sounds[key])


@pytest.fixture(name='bundle')
def _bundle(make_service):
  return make_service(start=False)[0].bundle


def test_a_request(bundle):
  wanted = read(bundle, prompt=' a  jig ', seconds=2.5, seed=3, melody='good')
  assert wanted.settings.seed == 3 and wanted.format == 'wav'
  assert wanted.steering.parts[0].prompt == 'a jig'
  assert wanted.steering.melody is SOUND and wanted.seconds == 2.5
  assert read(bundle, prompt='x', seed=None, format='flac').format == 'flac'


def test_what_is_continued_counts(bundle):
  wanted = read(bundle, continue_from='good', seconds=4)
  assert wanted.seconds == 6
  with pytest.raises(errors.UserError, match='seconds is 59 after 2 s'):
    read(bundle, continue_from='good', seconds=59)


def test_a_story_says_how_long_it_is(bundle):
  wanted = read(bundle, story='- {at: 0, prompt: x}\n- {at: 9, prompt: y}')
  assert wanted.seconds == 24
  with pytest.raises(errors.UserError, match='seconds is 74; this server'):
    read(bundle, story='- {at: 0, prompt: x}\n- {at: 0:59, prompt: y}')


@pytest.mark.parametrize('values, line', [
    ({}, 'nothing says what the music should be like'),
    (dict(prompt=' '), 'the prompt is empty'),
    (dict(prompt='x' * 2001), 'the prompt has 2001 characters'),
    (dict(prompt='x\udcff'), 'the prompt is not text in UTF-8'),
    (dict(prompt='x', seconds=0), 'seconds is 0; expected 1 to 600.'),
    (dict(prompt='x', seconds=float('nan')), 'seconds is nan; expected'),
    (dict(prompt='x', seconds=1e9), 'seconds is 1e+09; expected 1 to 600.'),
    (dict(prompt='x', seconds=61), 'seconds is 61; this server makes'),
    (dict(prompt='x', samples=True), 'samples is true or false; expected a '
     'whole number of 1 to'),
    (dict(prompt='x', samples=2.0), 'samples is 2.0; expected a whole'),
    (dict(prompt='x', seconds='5'), "seconds is text ('5'); expected a number "
     'of 1 to 600.'),
    (dict(prompt='x', seconds=[5]), 'seconds is a list; expected a number'),
    (dict(prompt='x', seconds=functools.reduce(lambda x, _: [x], range(999))),
     'seconds is a list; expected a number'),
    (dict(prompt='x', vary=[5]), 'vary is a list; expected one of'),
    (dict(prompt=5), 'the prompt is a number; expected text.'),
    (dict(prompt={}), 'the prompt is an object; expected text.'),
    (dict(prompt='\u200b'), 'the prompt is empty'),
    (dict(story='[' * 5000), 'story: too many brackets within brackets'),
    (dict(prompt='x', samples=5), 'samples is 5; this server draws at most 4'),
    (dict(prompt='x', seed=1.5), 'seed is 1.5; expected a whole number'),
    (dict(prompt='x', levels=3), 'levels is 3; expected 4 to 12'),
    (dict(prompt='x', vary='tempo'), "unknown vary 'tempo'; known:"),
    (dict(prompt='x', tempo=9), "unknown field 'tempo'; known: best_of,"),
    (dict(prompt='x', format='mp3'), "unknown format 'mp3'; known: flac, wav"),
    (dict(prompt='x', format=3), 'format is a number; expected wav or flac.'),
    (dict(prompt='x', story='- {at: 0, prompt: y}'), 'a prompt and a story'),
    (dict(story='- at: 0\n  prompt: x\n- at: soon\n  prompt: y'),
     "story, line 3: at is 'soon'; expected m:ss or whole seconds."),
    (dict(story='- at: 0\n  prompt: [x'), 'story, line 2: not YAML'),
    (dict(story='- {at: 0, prompt: x}\n- {at: 99:00, prompt: y}'),
     'the story has a part at 99:00; this server makes at most 60 s.'),
    (dict(story=''), 'story is empty; expected a list of parts'),
    (dict(story=[1]), 'the story is a list; expected text in YAML'),
    (dict(story='#' * 100_001), 'the story has 100001 bytes; expected at most'),
    (dict(story='- {at: 0, prompt: x}\n- {at: 9, prompt: y}', seconds=5),
     'the story has a part at 0:09, but the music ends at 0:05'),
    (dict(melody='short'), 'melody has 0.00 s; expected 1 to 600 s.'),
    (dict(like='silent'), 'like is silent.'),
    (dict(melody=3), 'melody is a number; expected the id of an upload.'),
    (dict(prompt='x', like_weight=0.3), 'like_weight is for like beside'),
])
def test_mistakes(bundle, values, line):
  with pytest.raises(errors.UserError) as error:
    read(bundle, **values)
  assert str(error.value).startswith(line) and '\n' not in str(error.value)


@pytest.mark.parametrize('request_, kind', [
    ([], 'a list'), ('jig', 'text'), (None, 'nothing')])
def test_a_request_is_an_object(bundle, request_, kind):
  with pytest.raises(errors.UserError, match=f'the request is {kind};'):
    asking.read(request_, bundle, LIMITS, None)


def test_no_melody_where_none_is_taken(make_service):
  bundle = make_service(melody=False, start=False)[0].bundle
  with pytest.raises(errors.UserError, match='bundle fake has no melody comp'):
    read(bundle, melody='good')


def test_the_schema_tells_what_is_checked(bundle):
  """Its ranges and choices are those of `settings.make`, to the last number."""
  for name, field in asking.Request.model_json_schema()['properties'].items():
    for value in field.get('enum', ()):
      more = dict(samples=2) if name == 'vary' else {}
      assert read(bundle, prompt='x', **more, **{name: value})
    for bound, step in (('minimum', -1), ('maximum', 1)):
      if bound in field:
        settings_lib.make(**{name: field[bound]})
        with pytest.raises(errors.UserError, match=f'^{name} is'):
          read(bundle, prompt='x', **{name: field[bound] + step})
