"""What the page does, without the page."""

import asyncio
import html
import pathlib

import numpy as np
import pytest
import soundfile

from musiclm_jax.serving import actions as actions_lib
from musiclm_jax.serving import asking
from musiclm_jax.serving import jobs as jobs_lib
from musiclm_jax.serving import markup
from musiclm_jax.serving import page as page_lib

RATE = 24_000


@pytest.fixture(name='make_actions')
def _make_actions(make_service, tmp_path):
  """Function from limits to (actions, service, model, folder of files)."""
  folder = tmp_path / 'sent'
  folder.mkdir()

  def make(**options):
    service, model = make_service(**options)
    return actions_lib.Actions(service, folder), service, model, folder

  return make


def steps(iterator):
  """All steps, one over the other: what the page shows in the end."""
  async def collect():
    return [step async for step in iterator]

  found = asyncio.run(collect())
  shown = {}
  for step in found:
    shown.update(step)
  return found, shown


def tone(folder, seconds=2.0, name='sent.wav'):
  path = folder / name
  soundfile.write(path, np.sin(np.arange(int(seconds * RATE)) / 20), RATE)
  return str(path)


def test_music_is_made(make_actions):
  actions, service, _, _ = make_actions()
  found, shown = steps(actions.generate(
      dict(prompt='a <b>jig</b>', seconds=2, seed=4, samples=2), ['unknown']))
  assert found[0]['busy'] and not shown['busy']
  job = service.jobs.get(shown['held'][0])
  assert job.state == jobs_lib.DONE and len(shown['held']) == 1
  assert shown['status'].startswith('<p class="fine">Done: 2 samples of 2 s in')
  for number in (1, 2):
    assert f'"v1/jobs/{job.id}/stream/{number}"' in shown['players']
    assert f'"v1/jobs/{job.id}/spectrogram/{number}"' in shown['pictures']
    assert f'href="v1/jobs/{job.id}/audio/{number}" download' in (
        shown['history'])
  assert shown['players'].count('autoplay') == 1
  for name in ('players', 'history'):
    assert '<b>' not in shown[name]
    assert 'a &lt;b&gt;jig&lt;/b&gt;' in shown[name]


def test_progress_is_shown_and_work_is_cancelled(make_actions):
  actions, _, model, _ = make_actions()
  model.gate.clear()

  async def run():
    seen = []
    async for step in actions.generate(dict(prompt='x', seconds=2), []):
      seen.append(step)
      if 'role="progressbar"' in step.get('status', ''):
        actions.cancel(seen[0]['job'])
    return seen

  seen = asyncio.run(run())
  assert seen[-1]['status'] == markup.note('Cancelled.')
  assert seen[-1]['busy'] is False and seen[-1]['players'] == markup.nothing()
  assert seen[-1]['job'] == ''


@pytest.mark.parametrize('values, line', [
    (dict(prompt=''), 'the prompt is empty; describe the music, for example'),
    (dict(story='- at: x'), "story, line 1: the part has no prompt."),
    (dict(prompt='x', seconds=700), 'seconds is 700; expected 1 to 600.'),
    (dict(prompt='x', seed=None, samples=9), 'samples is 9; this server draws'),
    (dict(melody='/etc/passwd'), 'the recording for melody is no longer there'),
    (dict(melody=''), 'the recording for melody is no longer there'),
    (dict(like='../../x'), 'the recording for like is no longer there'),
])
def test_mistakes_are_one_line(make_actions, values, line):
  actions, service, _, _ = make_actions()
  found, shown = steps(actions.generate(values, []))
  assert len(found) == 1 and shown['busy'] is False
  text = html.unescape(shown['status'])
  assert text.startswith(f'<p class="problem" role="alert">{line}')
  assert service.jobs.counts() == dict(waiting=0, running=0, held=0)


def test_a_full_queue_and_a_fault(make_actions):
  actions, service, model, _ = make_actions(queue=1)
  model.gate.clear()
  for _ in range(2):
    job = service.submit(dict(prompt='x', seconds=1))
    while job.state == jobs_lib.QUEUED and service.jobs.position(job) == 0:
      pass
  _, shown = steps(actions.generate(dict(prompt='x'), []))
  assert 'busy: 1 requests are waiting' in shown['status']
  model.fault = RuntimeError('x')
  model.gate.set()
  while not job.over:
    pass
  _, shown = steps(actions.generate(dict(prompt='x'), []))
  assert 'a fault of the server (RuntimeError)' in shown['status']


def test_a_page_that_is_opened_again(make_actions):
  actions, service, model, _ = make_actions()
  _, first = steps(actions.generate(dict(prompt='old', seconds=1), []))
  model.gate.clear()
  job = service.submit(dict(prompt='new', seconds=1))
  held = [job.id, *first['held'], 'gone', 7, None]

  async def run():
    seen = []
    async for step in actions.restore(held):
      seen.append(step)
      model.gate.set()
    return seen

  seen = asyncio.run(run())
  assert 'old' in seen[0]['history'] and 'new' not in seen[0]['history']
  assert seen[1]['job'] == job.id and seen[1]['busy']
  assert seen[-1]['history'].index('new') < seen[-1]['history'].index('old')
  for nonsense in (None, 'x', {}, [[]]):
    found, shown = steps(actions.restore(nonsense))
    assert len(found) == 1 and shown['held'] == []


@pytest.mark.parametrize('text, line, seconds', [
    ('', '', None),
    (None, '', None),
    ('- {at: 0, prompt: x}', 'A story of 1 part.', 15),
    ('- {at: 0, prompt: x}\n- {at: 50, prompt: y}', 'A story of 2 parts.', 60),
    ('- {at: 0, prompt: x}\n- {at: 0:10}',
     'story, line 2: the part has no prompt.', None),
    ('- {at: 0, prompt: x}\n- {at: 1:00, prompt: y}',
     'the story has a part at 1:00; this server makes at most 60 s.', None),
])
def test_a_story_is_checked_as_it_is_written(make_actions, text, line, seconds):
  actions, _, _, _ = make_actions(max_seconds=60)
  shown, length = actions.check_story(text)
  assert line in shown and length == seconds and bool(line) == bool(shown)


def test_a_recording_is_checked_when_it_comes(make_actions, tmp_path):
  actions, _, _, folder = make_actions(upload_seconds=3)
  check = actions.check_recording
  assert check(None, 'melody') == ''
  assert check(tone(folder), 'melody') == markup.fine('melody: 2.0 s.')
  assert 'melody has 0.50 s; expected 1 to 600' in check(
      tone(folder, 0.5), 'melody')
  assert 'like is longer than 3 s' in check(tone(folder, 4), 'like')
  assert 'no longer there' in check(tone(tmp_path), 'like')
  link = folder / 'link.wav'
  link.symlink_to(tmp_path / 'sent.wav')
  assert 'no longer there' in check(str(link), 'like')
  assert pathlib.Path(tone(folder)).exists()


def test_a_bundle_without_melody_says_so(make_actions):
  actions, _, _, folder = make_actions(melody=False)
  assert markup.problem(actions_lib.NO_MELODY) == actions.check_recording(
      tone(folder), 'melody')
  _, shown = steps(actions.generate(
      dict(melody=tone(folder), seconds=1), []))
  assert 'has no melody component' in shown['status']


@pytest.mark.parametrize('levels, asked', [(12, 0), (4, 4), (7, 7)])
def test_all_levels_can_be_asked_of_a_bundle_that_draws_fewer(levels, asked):
  """The slider's end says all of them, not the bundle's own default."""
  values = dict.fromkeys(asking.SOUNDS, None)
  values.update(mode='prompt', prompt='a reel', levels=levels)
  assert page_lib._asked(values, 12)['levels'] == asked  # pylint: disable=protected-access


@pytest.mark.parametrize('melody', [None, 'hum.wav'])
def test_a_melody_is_guided_where_there_is_one(melody):
  values = dict.fromkeys(asking.SOUNDS, None)
  values.update(mode='prompt', prompt='a reel', levels=12, melody=melody,
                guidance_melody=2.0, guidance_semantic=3.0)
  asked = page_lib._asked(values, 12)  # pylint: disable=protected-access
  assert ('guidance_melody' in asked) == bool(melody)
  assert asked['guidance_semantic'] == 3.0


@pytest.mark.parametrize('melody', [True, False])
def test_what_can_be_guided_has_a_slider(make_actions, melody):
  _, service, _, folder = make_actions(melody=melody)
  shown = {block.elem_id: block.visible
           for block in page_lib.build(service, folder).blocks.values()
           if (getattr(block, 'elem_id', None) or '').startswith('guidance_')}
  assert shown == dict(guidance_semantic=True, guidance_coarse=True,
                       guidance_melody=melody)
