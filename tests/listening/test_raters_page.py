"""The raters' page in a real Chromium, on a phone and by the keyboard."""


import browser as browser_lib
import listening_site
import pytest

from musiclm_jax.listening import store as store_lib

pytestmark = pytest.mark.web

_WAIT_MS = 120_000  # for a machine that does other things as well
_PHONE = dict(viewport=dict(width=390, height=844), device_scale_factor=2,
              is_mobile=True, has_touch=True)


@pytest.fixture(name='chromium', scope='module')
def _chromium():
  with browser_lib.chromium() as browser:
    yield browser


@pytest.fixture(name='site')
def _site(make, tmp_path):
  pytest.importorskip('uvicorn')
  test = make(ratings=4, per_rater=3)
  site = listening_site.Site(test.directory, tmp_path / 'log')
  site.test = test
  yield site
  site.close()


@pytest.fixture(name='open_page')
def _open_page(chromium, site):
  """Function that gives a page of a new browser.

  Fails afterwards if one fetched from outside or complained.
  """
  contexts, complaints = [], []

  def open_page(**settings):
    contexts.append(chromium.new_context(**settings))
    page = contexts[-1].new_page()
    page.set_default_timeout(_WAIT_MS)
    page.on('console', lambda m: m.type == 'error' and
            complaints.append(m.text))
    page.on('pageerror', lambda error: complaints.append(str(error)))
    page.on('request', lambda r: r.url.startswith((site.url, 'data:')) or
            complaints.append(f'fetched {r.url}'))
    page.goto(site.url)
    return page

  yield open_page
  for context in contexts:
    context.close()
  assert not complaints


def hear(page, *sides):
  """Plays until the page says that it was heard."""
  for side in sides:
    page.tap(f'#play-{side}')
    page.wait_for_selector(f'#heard-{side}:text-is("heard")')


def enabled(page, name):
  return page.locator(name).is_enabled()


def test_rating_on_a_phone(open_page, site):
  page = open_page(**_PHONE)
  page.tap('#begin')
  page.wait_for_selector('#trial:not([hidden])')
  for number in range(3):
    assert page.inner_text('#count') == f'{number + 1} of 3'
    assert page.inner_text('#caption').startswith('a tune of ')
    # Nothing is wider than the phone, and all can be hit with a thumb.
    assert page.evaluate('document.documentElement.scrollWidth') <= 390
    for name in ('.play', '.answers label', '.main'):
      for box in page.locator(f'{name}:visible').all():
        assert box.bounding_box()['height'] >= 44
    assert not enabled(page, '#next') and not enabled(page, '[value="1"]')
    hear(page, 'a')
    assert not enabled(page, '[value="1"]')  # B has not been heard
    hear(page, 'b')
    assert not enabled(page, '#next')  # nothing is chosen
    page.tap(f'label:has([value="{number - 1}"])')
    if number == 1:
      page.tap('summary')
      page.fill('#comment', 'more bells <i>please</i>')
    page.tap('#next')
    if number < 2:
      page.wait_for_selector(f'#count:text-is("{number + 2} of 3")')
  page.wait_for_selector('#done:not([hidden])')
  assert 'All 3 of your answers are kept.' in page.inner_text('#thanks')
  found = store_lib.read(site.test.answers, site.test.key_sha256)
  assert [said.answer for said in found] == [-1, 0, 1]
  assert [said.comment for said in found] == ['', 'more bells <i>please</i>', '']
  assert all(0.5 <= heard <= 1.5 for said in found
             for heard in (said.heard_a, said.heard_b))


def test_two_raters_the_keyboard_and_coming_back(open_page, site):
  page, other = open_page(), open_page()
  for one in (page, other):
    one.click('#begin')
    one.wait_for_selector('#trial:not([hidden])')
  sources = [one.get_attribute('#audio-a', 'src') for one in (page, other)]
  assert sources[0] != sources[1]
  page.keyboard.press('2')  # too soon
  assert not page.is_checked('[value="-1"]')
  for key in 'ab':
    page.keyboard.press(key)
    page.wait_for_selector(f'#heard-{key}:text-is("heard")')
  page.keyboard.press('1')
  page.keyboard.press('2')
  assert page.is_checked('[value="-1"]')
  page.keyboard.press('Enter')
  page.wait_for_selector('#count:text-is("2 of 3")')
  assert not page.is_checked('[value="-1"]')  # a new pair begins anew
  before = page.get_attribute('#audio-a', 'src')
  page.reload()
  page.wait_for_selector('#trial:not([hidden])')
  assert page.inner_text('#count') == '2 of 3'
  assert page.get_attribute('#audio-a', 'src') == before
  assert other.inner_text('#count') == '1 of 3'
  found = store_lib.read(site.test.answers, site.test.key_sha256)
  assert [(said.rater, said.answer) for said in found] == [(1, -1)]


def test_a_server_that_is_away_loses_nothing(chromium, site, tmp_path):
  """The page says so, keeps the choice, and sends it once there is one."""
  context = chromium.new_context(**_PHONE)
  page = context.new_page()
  page.set_default_timeout(_WAIT_MS)
  page.goto(site.url)
  page.tap('#begin')
  page.wait_for_selector('#trial:not([hidden])')
  hear(page, 'a', 'b')
  page.tap('label:has([value="2"])')
  site.stop()
  page.tap('#next')
  page.wait_for_selector('#problem:not([hidden])')
  assert 'There is no connection' in page.inner_text('#problem')
  assert page.is_checked('[value="2"]')
  again = listening_site.Site(
      site.test.directory, tmp_path / 'log2', '--port', str(site.port))
  try:
    page.tap('#next')
    page.wait_for_selector('#count:text-is("2 of 3")')
    assert page.is_hidden('#problem')
  finally:
    context.close()
    again.close()
  found = store_lib.read(site.test.answers, site.test.key_sha256)
  assert [said.answer for said in found] == [2]
