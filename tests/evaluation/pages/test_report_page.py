"""The whole page from the shell: what is on it, and that it stands alone."""

import argparse
import doctest
from html import parser
import json
import re
import subprocess
import sys

import browser as browser_lib
import numpy as np
import pytest
import soundfile

from musiclm_jax.commands import cli
from musiclm_jax.evaluation.pages import page

_EVIL = '<script>alert("1")</script><img src=x onerror=alert(2)>'
_VOID = {'br', 'img', 'meta', 'wbr'}


class _Strict(parser.HTMLParser):
  """Raises where a tag is closed that is not open; keeps what it saw."""

  def __init__(self):
    super().__init__()
    self.open, self.tags, self.links = [], [], []

  def handle_starttag(self, tag, attrs):
    self.tags.append(tag)
    self.links += [v for k, v in attrs if k in ('src', 'href')]
    assert not [k for k, _ in attrs if k.startswith('on')]
    if tag not in _VOID:
      self.open.append(tag)

  def handle_endtag(self, tag):
    assert self.open.pop() == tag


@pytest.fixture(name='results')
def _results(tmp_path, monkeypatch):
  """A folder with all that there can be, each text in it an attack."""
  place = tmp_path / 'results'
  (place / 'drawn').mkdir(parents=True)
  rows = [dict(name=name, figures={_EVIL: dict(
      value=v, low=v - 0.1, high=v + 0.1, count=9, better='lower', note=_EVIL)})
          for name, v in ((_EVIL, 1.0), ('noise', 3.0))]
  rows[1]['figures']['gone'] = dict(value=float('nan'))
  found = {
      _EVIL: 1.0, 'title': _EVIL, 'judged': _EVIL, 'git_commit': _EVIL,
      'wall_seconds': 1.0, 'seed': 0,
      'table': dict(columns=[_EVIL], rows=rows, not_measured={_EVIL: _EVIL},
                    notes=[_EVIL]),
      'published': dict(note=_EVIL, columns=[_EVIL], rows=[
          dict(name=_EVIL, figures={_EVIL: 1.0})]),
      'curves': {_EVIL: dict(x=_EVIL, y=_EVIL, lines={_EVIL: [[0, 1], [1, 2]]})},
      'sections': [dict(title=_EVIL, verdict=_EVIL, lines=[
          dict(name=_EVIL, value=_EVIL, against=_EVIL, note=_EVIL)])],
      'clips': [dict(id=_EVIL, caption=_EVIL, sounds={
          _EVIL: 'drawn/a.wav', 'gone': _EVIL})],
      'provenance': {_EVIL: {_EVIL: [_EVIL]}, 'command': _EVIL}}
  (place / 'captions.json').write_text(json.dumps(found))
  (place / 'old.json').write_text(json.dumps(dict(
      wall_seconds=1.0, a=1.0, git_commit='other', text=_EVIL + '\n  -> weak')))
  (place / 'none.json').write_text(json.dumps([_EVIL]))
  (place / 'metrics.csv').write_text(
      f'step,split,loss,"{_EVIL.replace(chr(34), chr(34) * 2)}"\n1,train,2,3\n')
  for name in ('a', 'b'):
    soundfile.write(place / 'drawn' / f'{name}.wav',
                    0.5 * np.sin(np.arange(2_000.0)), 8_000)
  monkeypatch.chdir(tmp_path)
  return place


def _read(path):
  text = path.read_text(encoding='utf-8')
  strict = _Strict()
  strict.feed(text)
  assert not strict.open
  return text, strict


def test_documented_examples():
  tried = doctest.testmod(page)
  assert tried.attempted and not tried.failed


def test_from_the_shell(results, capsys):
  cli.main(['report', 'results', '-o', 'r.html'])
  out = capsys.readouterr().out
  assert re.match(r'r\.html: \d+ kB; 2 evaluations, 1 training run, 1 sound '
                  r'folder, 1 skipped file\nnot shown: none\.json: no ', out)
  text, strict = _read(results.parent / 'r.html')
  # What files hold is text: no element came of it.
  assert 'script' not in strict.tags and strict.tags.count('img') == 2
  assert text.count('&lt;script&gt;') > 20
  # The page needs nothing from anywhere.
  assert all(l.startswith(('data:', '#')) for l in strict.links)
  assert 'http' not in text and '@import' not in text and 'url(' not in text
  ids = set(re.findall(' id="([^"]*)"', text))
  assert {l[1:] for l in strict.links if l.startswith('#')} <= ids
  for words in ('not of one state', 'weak</li>', '1.00 [0.90, 1.10] (1)', 'NaN',
                'Not to be ranked', '<polyline', 'no evaluation wrote it',
                'prefers-color-scheme', '@media print'):
    assert words in text, words
  assert strict.tags.count('audio') == 2  # one of the JSON, one beside it


def test_beside_another_and_where_it_goes(results, capsys):
  cli.main(['report', 'results', '--against', 'results', '--clips', '0'])
  assert capsys.readouterr().out.startswith('results/report.html: ')
  text, strict = _read(results / 'report.html')
  assert 'id="against"' in text and 'script' not in strict.tags
  assert 'audio' not in strict.tags


def test_clips_are_shared_among_groups(results):
  cli.main(['report', 'results', '-o', 'r.html', '--clips', '1'])
  _, strict = _read(results.parent / 'r.html')
  assert strict.tags.count('audio') == 1


def test_the_same_folder_gives_the_same_page(results):
  for name in ('a.html', 'b.html'):
    cli.main(['report', 'results', '-o', name])
  assert (results.parent / 'a.html').read_bytes() == (
      results.parent / 'b.html').read_bytes()


@pytest.mark.parametrize('argv, message', [
    (['gone'], 'DIR gone is not a folder; name one'),
    (['results/none.json'], 'DIR results/none.json is not a folder; name one'),
    (['results', '--against', 'gone'], '--against gone is not a folder'),
    (['results', '--clips', '-1'], '--clips is -1; expected 0 to 500.'),
    (['results', '-o', 'a.pdf'], "extension '.pdf'; expected .html"),
    (['results', '-o', 'no/a.html'], 'folder no does not exist'),
    (['empty', '-o', 'a.html'], 'DIR empty has nothing to show'),
    (['results', '-o', 'a.html', '--against', 'empty'],
     '--against empty has nothing to show'),
    (['results', '--bundle', 'x'], '--bundle is for --tokens'),
    (['results', '-o', 'a.html', '--tokens', '--bundle', 'x'],
     'no bundle at x')])
def test_mistakes(results, capsys, argv, message):
  (results.parent / 'empty').mkdir()
  before = sorted(results.parent.rglob('*'))
  with pytest.raises(SystemExit) as stopped:
    cli.main(['report', *argv])
  err = capsys.readouterr().err
  assert stopped.value.code == 2
  assert message in err and err.count('\n') == 1
  assert sorted(results.parent.rglob('*')) == before


def test_what_evaluations_write_is_what_is_read(tmp_path, monkeypatch):
  """An evaluation's own JSON, with its verdict and its command."""
  from musiclm_jax.commands import evaluate  # pylint: disable=g-import-not-at-top
  from musiclm_jax.evaluation import report  # pylint: disable=g-import-not-at-top
  from musiclm_jax.evaluation import runnable  # pylint: disable=g-import-not-at-top
  from musiclm_jax.evaluation.pages import measured  # pylint: disable=g-import-not-at-top
  monkeypatch.setattr(sys, 'argv', ['musiclm', 'evaluate', 'x', '--seed', '3'])
  section = report.Section('S', (report.Line('a', '1', 'chance 0'),), 'is good')
  outcome = runnable.Outcome(dict(a=1.0, wall_seconds=2.0), [section],
                             dict(seed=3), 'T', 'J')
  path = tmp_path / 'x.json'
  evaluate._write(  # pylint: disable=protected-access
      argparse.Namespace(json=str(path), what='x', report=None),
      None, outcome, [])
  found = measured.read(path, 'x')
  assert found.sections == (section,) and found.verdicts == ('is good',)
  assert (found.title, found.judged) == ('T', 'J')
  assert list(found.figures) == ['a']
  assert found.provenance['command'] == 'musiclm evaluate x --seed 3'
  assert found.provenance['seed'] == 3


def test_help_imports_no_jax():
  code = ('import sys; from musiclm_jax.commands import cli\n'
          'try: cli.main(["report", "--help"])\n'
          'except SystemExit: pass\n'
          'sys.exit("jax" in sys.modules)')
  done = subprocess.run([sys.executable, '-c', code], capture_output=True,
                        text=True, check=False)
  assert done.returncode == 0 and 'side by side' in done.stdout


@pytest.fixture(name='browser')
def _browser():
  with browser_lib.chromium() as browser:
    yield browser


@pytest.mark.web
@pytest.mark.parametrize('width, scheme', [(1200, 'light'), (360, 'dark')])
def test_in_a_browser(results, browser, width, scheme):
  """It fits the width, plays, and runs nothing that files hold."""
  cli.main(['report', 'results', '--against', 'results', '-o', 'r.html'])
  shown = browser.new_page(viewport=dict(width=width, height=800),
                           color_scheme=scheme)
  said = []
  shown.on('dialog', lambda d: (said.append(d.message), d.dismiss()))
  shown.on('pageerror', lambda e: said.append(str(e)))
  shown.on('request', lambda r: said.append(r.url) if not r.url.startswith(
      ('file:', 'data:')) else None)
  shown.goto((results.parent / 'r.html').as_uri())
  shown.evaluate(
      "document.querySelectorAll('details').forEach(d => d.open = true)")
  assert shown.evaluate('document.documentElement.scrollWidth') <= width
  assert shown.evaluate('''async () => {
    const sound = document.querySelector('audio');
    sound.load();
    await new Promise((done, failed) => {
      sound.onloadedmetadata = done; sound.onerror = failed;
      sound.preload = 'auto'; });
    return sound.duration;
  }''') == pytest.approx(0.25, abs=0.01)
  assert shown.evaluate('getComputedStyle(document.body).backgroundColor') == (
      'rgb(255, 255, 255)' if scheme == 'light' else 'rgb(20, 22, 26)')
  assert not said
