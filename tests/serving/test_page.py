"""The page in a real Chromium, over a tiny random bundle."""

import http.client
import io
import json
import re

import browser as browser_lib
import numpy as np
import pytest
import running_site
import soundfile

pytestmark = pytest.mark.web

RATE = 24_000
_WAIT_MS = 300_000  # for a machine that does other things as well
_HEARD = '''async (url) => {
  const bytes = await (await fetch(url)).arrayBuffer();
  const sound = await new AudioContext({sampleRate: %d}).decodeAudioData(bytes);
  const samples = sound.getChannelData(0);
  let peak = 0;
  for (const x of samples) peak = Math.max(peak, Math.abs(x));
  return [sound.duration, peak];
}''' % RATE

# [text, contrast] of what is hard to read; disabled controls may be.
_PALE = '''() => {
  const canvas = document.createElement('canvas').getContext('2d');
  const rgba = color => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = color;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const light = color => color.slice(0, 3).map(v => v / 255).map(
      v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4).reduce(
      (sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = element => {
    const layers = [];
    for (let e = element; e; e = e.parentElement) {
      const color = rgba(getComputedStyle(e).backgroundColor);
      layers.push(color);
      if (color[3] == 255) break;
    }
    return layers.reverse().reduce((under, over) => under.map(
        (v, i) => v + (over[i] - v) * over[3] / 255), [255, 255, 255]);
  };
  const found = [];
  for (const element of document.querySelectorAll('body *')) {
    const style = getComputedStyle(element);
    const words = [...element.childNodes].filter(n => n.nodeType == 3).map(
        n => n.textContent.trim()).join('') || (
        element.matches('textarea, [type=number]') ? element.value : '');
    if (!words || element.disabled || !element.checkVisibility(
        {opacityProperty: true, visibilityProperty: true}) ||
        !element.getClientRects().length || element.closest('svg, style'))
      continue;
    const [a, b] = [light(rgba(style.color)), light(behind(element))];
    const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (contrast < 4.5) found.push([words.slice(0, 40), contrast]);
  }
  return found;
}'''


@pytest.fixture(name='site', scope='module')
def _site(tiny, installed):
  del installed
  site = running_site.Site(
      tiny.directory, '--upload-mib', '1', '--warm', 'one')
  yield site
  site.close()


@pytest.fixture(name='chromium', scope='module')
def _chromium(need):
  """A browser that can hear nothing outside and plays without a speaker."""
  with browser_lib.chromium(
      '--use-fake-device-for-media-stream', '--use-fake-ui-for-media-stream',
      need=need) as browser:
    yield browser


@pytest.fixture(name='page')
def _page(site, chromium):
  """The page; fails afterwards if it fetched from outside or complained."""
  context = chromium.new_context(permissions=['microphone'])
  page = context.new_page()
  page.set_default_timeout(_WAIT_MS)
  page.complaints = []
  page.on('console', lambda m: m.type == 'error' and
          page.complaints.append(m.text))
  page.on('pageerror', lambda error: page.complaints.append(str(error)))
  page.on('dialog', lambda dialog: page.complaints.append(dialog.message))
  page.on('request', lambda r: r.url.startswith((site.url, 'data:', 'blob:')) or
          page.complaints.append(f'fetched {r.url}'))
  open_page(page, site)
  yield page
  context.close()
  assert not page.complaints


def open_page(page, site):
  page.goto(site.url)
  page.wait_for_selector('#make')
  page.wait_for_selector('#history .note, #history .made')


def enter(page, name, value):
  """Types a number.

  What is typed in the instant in which Gradio draws an input is taken back, so
  it is looked at again, as who types sees it.
  """
  field = page.locator(f'#{name} input[type=number]')
  for _ in range(5):
    field.fill(str(value))
    page.keyboard.press('Tab')
    page.wait_for_timeout(300)
    if float(field.input_value()) == value:
      return
  raise AssertionError(f'{name} is {field.input_value()} after typing {value}')


def make(page, prompt=None, seconds=None, seed=None):
  if prompt is not None:
    page.fill('#prompt textarea', prompt)
  for name, value in (('seconds', seconds), ('seed', seed)):
    if value is not None:
      enter(page, name, value)
  page.click('#make')


def done(page):
  page.wait_for_selector('#status .fine')
  return page.inner_text('#status')


def problem(page, where='#status'):
  page.wait_for_selector(f'{where} .problem')
  return page.inner_text(f'{where} .problem')


def test_music_from_the_page(page, site):
  page.evaluate('''() => {
    window.seen = [];
    new MutationObserver(() => window.seen.push(
        document.querySelector('#status').innerHTML)).observe(
            document.querySelector('#right'),
            {subtree: true, childList: true, characterData: true});
  }''')
  make(page, 'a slow waltz', seconds=3, seed=11)
  assert re.fullmatch(r'Done: 3 s in \d+\.\d s, seed 11\.', done(page))
  assert any('class="work"' in text for text in page.evaluate('window.seen'))
  # It plays, and knows how long it is.
  page.wait_for_function(
      "() => document.querySelector('#players audio').currentTime > 0.2")
  assert page.evaluate(
      "() => document.querySelector('#players audio').duration") == 3
  url = page.evaluate("() => document.querySelector('#players audio').src")
  duration, peak = page.evaluate(_HEARD, url)
  assert duration == pytest.approx(3, abs=0.01) and 0.01 < peak <= 0.99
  page.wait_for_function(
      "() => document.querySelector('#pictures img').naturalWidth > 100")
  # What can be downloaded is what the API gives.
  with page.expect_download() as download:
    page.click('#history .made a')
  _, _, content = site.post('/v1/generate', dict(
      prompt='a slow waltz', seconds=3, seed=11))
  with open(download.value.path(), 'rb') as file:
    assert file.read() == content
  assert download.value.suggested_filename == 'musiclm-11-1.wav'


def test_examples_seeds_and_several_samples(page):
  page.click('#examples button >> nth=1')
  page.wait_for_function("() => document.querySelector('#prompt textarea')"
                         ".value == 'a slow waltz on accordion'")
  enter(page, 'samples', 2)
  page.click('#another')
  page.wait_for_function(
      "() => document.querySelector('#seed input').value != '0'")
  make(page, seconds=1)
  assert 'Done: 2 samples of 1 s' in done(page)
  assert page.locator('#players audio').count() == 2
  assert page.locator('#pictures img').count() == 2


def test_a_melody(page, tmp_path):
  soundfile.write(tmp_path / 'hum.wav', np.sin(np.arange(4 * RATE) / 20), RATE)
  page.click('#melody-part button')
  page.set_input_files('#melody input[type=file]', tmp_path / 'hum.wav')
  page.wait_for_selector('#melody-line .fine')
  assert page.inner_text('#melody-line') == 'melody: 4.0 s.'
  make(page, seconds=2)
  done(page)
  assert page.inner_text('#players h3') == 'to the melody of a recording'


def test_a_song_and_a_recording_to_go_on_from(page, tmp_path):
  soundfile.write(tmp_path / 'song.wav', np.sin(np.arange(3 * RATE) / 20), RATE)
  for name in ('like', 'continue_from'):
    page.click(f'#{name}-part button')
    page.set_input_files(f'#{name} input[type=file]', tmp_path / 'song.wav')
    page.wait_for_selector(f'#{name}-line .fine')
    assert page.inner_text(f'#{name}-line') == f'{name}: 3.0 s.'
  enter(page, 'like_weight', 0.8)
  make(page, 'with drums', seconds=2)
  assert 'Done: 5 s' in done(page)
  assert page.inner_text('#players h3') == (
      'with drums, like a recording, going on from a recording')
  # Alone, the weight has no meaning and is not sent.
  make(page, '', seconds=1)
  page.wait_for_selector('#status .fine:has-text("Done: 4 s")')


def advanced(page, **numbers):
  page.click('#advanced button')
  for name, value in numbers.items():
    enter(page, name, value)


def test_the_best_of_several(page):
  advanced(page, best_of=2, levels=4)
  make(page, 'a reel', seconds=1)
  done(page)
  # The page may say that it is done a moment before its players are drawn.
  page.wait_for_selector('#players audio[src*="/audio/"]', state='attached')
  assert re.fullmatch(r'similarity -?\d\.\d{3}', page.get_attribute(
      '#history .made .row >> nth=0', 'title'))


@pytest.mark.parametrize('numbers, line', [
    (dict(best_of=1), 'best_of is 1; expected at least the 2 of samples, or '
     '0.'),
    (dict(levels=5.5), 'levels is 5.5; expected a whole number of 0 to 64.'),
])
def test_mistakes_in_advanced_settings(page, numbers, line):
  advanced(page, **numbers)
  enter(page, 'samples', 2)
  make(page, 'a reel', seconds=1)
  assert problem(page) == line


def test_samples_that_differ_in_sound_alone(page):
  advanced(page)
  page.click('#vary label:has-text("sound alone")')
  make(page, 'a reel', seconds=1)
  assert problem(page) == (
      'vary acoustics is about samples that differ; expected samples or '
      'best_of of at least 2.')
  enter(page, 'samples', 2)
  page.click('#make')
  assert 'Done: 2 samples of 1 s' in done(page)


def test_a_browser_that_cannot_play_a_stream_plays_the_file(page):
  page.route('**/stream/*', lambda route: route.abort())
  make(page, 'a reel', seconds=1)
  done(page)
  page.wait_for_function("() => document.querySelector('#players audio').src"
                         ".includes('/audio/')")
  page.wait_for_function(
      "() => document.querySelector('#players audio').readyState > 1")
  page.complaints.clear()  # that the stream failed


def test_a_melody_from_the_microphone(page):
  """Chromium's false microphone beeps."""
  page.click('#melody-part button')
  page.click('#melody button[aria-label="Record audio"]')
  page.click('#melody button.record-button')
  page.wait_for_timeout(2500)
  page.click('#melody button.stop-button')
  page.wait_for_selector('#melody-line .fine')
  assert re.fullmatch(r'melody: \d+\.\d s\.', page.inner_text('#melody-line'))


def test_a_melody_that_cannot_be_used(page, tmp_path):
  sound = io.BytesIO()
  soundfile.write(sound, np.sin(np.arange(RATE // 2) / 20), RATE, format='WAV')
  page.click('#melody-part button')
  for content, line in (
      (b'this is text', 'melody is not a file of sound that is known here; '
       'expected WAV, FLAC, OGG, Opus, AIFF or MP3.'),
      (sound.getvalue(), 'melody has 0.50 s; expected 1 to 600 s.')):
    (tmp_path / 'hum.wav').write_bytes(content)
    page.set_input_files('#melody input[type=file]', tmp_path / 'hum.wav')
    assert problem(page, '#melody-line') == line
    page.click('#melody button[aria-label="Clear"]')
    page.wait_for_selector('#melody-line .problem', state='detached')
  # Gradio's player says in the console what it cannot show, too.
  page.complaints.clear()


def write_story(page, text):
  page.click('#story .cm-content')
  page.keyboard.press('Control+a')
  page.keyboard.insert_text(text)


def test_a_story(page):
  page.click('button[role=tab]:has-text("Story")')
  write_story(page, '- at: 0:00\n  prompt: an air\n- at: soon\n  prompt: reel')
  line = "story, line 3: at is 'soon'; expected m:ss or whole seconds."
  assert problem(page, '#told') == line
  make(page, seconds=3)
  assert problem(page) == line
  write_story(page, '- at: 0:00\n  prompt: an air\n- at: 0:02\n  prompt: reel')
  page.wait_for_selector('#told .fine')
  assert page.inner_text('#told') == 'A story of 2 parts.'
  page.wait_for_function("() => document.querySelector("
                         "'#seconds input[type=number]').value == '17'")
  make(page, seconds=4)
  assert 'Done: 4 s' in done(page)
  assert page.inner_text('#players h3') == 'an air / reel'


def test_cancelling(page, site):
  make(page, 'a long one', seconds=120)
  page.click('#stop:not([disabled])')
  page.wait_for_selector('#status .note')
  assert page.inner_text('#status') == 'Cancelled.'
  assert site.health()['running'] == 0
  page.wait_for_selector('#make:not([disabled])')
  make(page, 'a short one', seconds=1)
  done(page)


def test_opened_again(page, site):
  """What was made is there, and what runs goes on."""
  make(page, 'the first', seconds=1)
  done(page)
  make(page, 'the second', seconds=40)
  page.wait_for_selector('#status .work')
  open_page(page, site)
  page.complaints.clear()  # the page that was left says that it was cut off
  page.wait_for_selector('#history .made')
  assert page.inner_text('#history h3 >> nth=-1') == 'the first'
  assert 'Done: 40 s' in done(page)
  assert page.inner_text('#history h3 >> nth=0') == 'the second'


@pytest.mark.parametrize('prompt, line', [
    ('', 'the prompt is empty; describe the music, for example "a slow waltz '
     'on accordion".'),
    ('x' * 2001, 'the prompt has 2001 characters; expected at most 2000.'),
])
def test_mistakes(page, prompt, line):
  make(page, prompt)
  assert problem(page) == line
  page.wait_for_selector('#make:not([disabled])')


def test_words_stay_words(page):
  prompt = '<img src=x onerror=alert(1)>${alert(2)}{{alert(3)}}</h3><b>'
  make(page, prompt, seconds=1)
  done(page)
  assert page.inner_text('#players h3') == prompt
  assert page.inner_text('#history h3 >> nth=0') == prompt


@pytest.mark.parametrize('scheme', ['light', 'dark'])
def test_words_can_be_read(page, site, scheme):
  """Every text has a contrast of 4.5 or more (WCAG 2.1, AA)."""
  page.emulate_media(color_scheme=scheme)
  open_page(page, site)
  page.complaints.clear()  # the page that was left says that it was cut off
  for part in page.locator('.label-wrap').all():
    part.click()
  make(page, '')
  problem(page)
  page.wait_for_timeout(1000)  # what fades in is there
  pale = page.evaluate(_PALE)
  assert not pale, pale


def test_a_narrow_page_and_the_documentation(page, site):
  narrow = lambda: page.evaluate(
      'document.documentElement.scrollWidth') <= 360
  page.set_viewport_size(dict(width=360, height=740))
  assert narrow()
  page.goto(f'{site.url}/docs')
  page.complaints.clear()  # the page that was left says that it was cut off
  page.wait_for_selector('h1')
  assert narrow()


def test_gradio_keeps_to_its_page(site):
  """Its ways to other places are closed, and its files are the page's own."""
  for path in ('/gradio_api/file=/etc/passwd', '/proxy=http://127.0.0.1:1/x',
               '/gradio_api/file=http://127.0.0.1:1/x', '/llms.txt',
               '/monitoring'):
    assert fetch(site, path) in (403, 404), path
  for path in ('/v1/nothing', '/v1/uploads/nothing'):
    status, _, content = site.post(path, {})
    assert status == 404
    assert json.loads(content) == dict(error=f'POST {path}: Not Found.')
  large = (b'--x\r\nContent-Disposition: form-data; name="files"; filename='
           b'"../../a.wav"\r\n\r\n' + bytes(2 << 20) + b'\r\n--x--\r\n')
  status, _, _ = site.post('/gradio_api/upload', large,
                           'multipart/form-data; boundary=x')
  assert status == 413
  assert not [name for name in site.files() if name == 'a.wav']
  for data in ({'path': '/etc/passwd'}, {'path': 'http://127.0.0.1:1/a.wav'},
               {'path': 'x', 'url': 'http://127.0.0.1:1/a.wav'}):
    data['meta'] = {'_type': 'gradio.FileData'}
    assert 'gradio_api' not in str(data)
    status, _, content = site.post('/gradio_api/run/predict', dict(
        fn_index=0, data=[data], session_hash='x'))
    assert status >= 400 and b'Traceback' not in content


def fetch(site, path):
  """The status of a GET."""
  connection = http.client.HTTPConnection('127.0.0.1', site.port, timeout=60)
  try:
    connection.request('GET', path)
    return connection.getresponse().status
  finally:
    connection.close()
