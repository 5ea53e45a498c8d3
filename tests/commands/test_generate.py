"""`musiclm generate` from the shell, with a tiny random bundle."""

import re

import numpy as np
import pytest
import soundfile
import tiny_bundle

from musiclm_jax.commands import cli
from musiclm_jax.systems.musiclm import model as model_lib

RATE = tiny_bundle.RATE


@pytest.fixture(name='shell')
def _shell(bundle, model, tmp_path, monkeypatch, capsys):
  """A function from arguments to (code, stdout, stderr), in `tmp_path`."""
  monkeypatch.chdir(tmp_path)
  # The session's model, so that nothing is compiled twice.
  monkeypatch.setattr(model_lib, 'Model', lambda *unused: model)

  def call(*argv):
    try:
      cli.main(['generate', '--bundle', str(bundle.directory), *argv])
      code = 0
    except SystemExit as stop:
      code = stop.code
    return (code, *capsys.readouterr())

  return call


def test_a_file_says_how_it_was_made(shell):
  code, out, err = shell('a jig', '--seconds', '1.5', '--seed', '3',
                         '--top-k-fine', '5', '-o', 'jig.flac')
  assert (code, out) == (
      0, 'jig.flac: 1.5 s of "a jig", seed 3\n')
  assert [line.split()[0] for line in err.splitlines()] == [
      'semantic', 'coarse', 'fine', 'audio']
  with soundfile.SoundFile('jig.flac') as file:
    assert (file.samplerate, file.channels, file.frames) == (RATE, 1, 36_000)
    assert file.title == 'a jig'
    assert file.comment == (
        'seconds=1.5 seed=3 top_k_fine=5 sample=1 bundle=tiny')


def test_the_page_and_the_story_beside_the_best(shell, tmp_path):
  (tmp_path / 'my.yaml').write_text(
      '- {at: 0, prompt: <b>air</b>}\n- {at: 0:02, prompt: a reel}\n')
  code, out, _ = shell(
      '--story', 'my.yaml', '--seconds', '4', '--best-of', '2', '-o', 'a.wav',
      '--report', 'a.html')
  assert code == 0
  assert re.match(r'a\.wav: 4\.0 s of "<b>air</b> / a reel", seed 0, sample '
                  r'[12], similarity -?0\.\d{3}\n', out)
  assert 'joins of windows' in out and '0:02' in out
  assert sorted(p.name for p in tmp_path.iterdir()) == [
      'a.html', 'a.story.yaml', 'a.wav', 'my.yaml']
  page = (tmp_path / 'a.html').read_text()
  assert page.count('<audio') == 1 and page.count('data:image/png') == 2
  assert '&lt;b&gt;air&lt;/b&gt;' in page and '<b>air' not in page
  assert 'seed=0' in page and 'bundle tiny' in page
  # What was written makes the same again.
  first = (tmp_path / 'a.wav').read_bytes()
  assert shell('--story', 'a.story.yaml', '--seconds', '4', '--best-of', '2',
               '-o', 'a.wav')[0] == 0
  assert (tmp_path / 'a.wav').read_bytes() == first


@pytest.mark.slow
def test_a_melody_is_reported(shell, tmp_path):
  soundfile.write('hum.wav', tiny_bundle.tone(4), RATE)
  code, out, _ = shell('--melody', 'hum.wav', '--seconds', '4', '-o', 'a.wav',
                       '--report', 'a.html')
  assert code == 0 and 'to the melody of hum.wav' in out
  assert 'a.wav: contour' in out and 'a.wav: chroma' in out
  assert (tmp_path / 'a.html').read_text().count('<audio') == 2


@pytest.mark.parametrize('argv, message', [
    (['x', '--samples', '65'], '--samples is 65; expected a whole number of 1'),
    (['x', '--samples', '3', '--best-of', '2'], '--best-of is 2; expected at'),
    (['x', '--vary', 'tempo'], "argument --vary: invalid choice: 'tempo'"),
    (['x', '--vary', 'acoustics'], '--vary acoustics is about samples'),
    (['x', '--weights', 'int4'], "argument --weights: invalid choice: 'int4'"),
    (['x', '--levels', '3'], '--levels is 3; expected 4 to 12'),
    (['x', '--top-p-coarse', '2'], '--top-p-coarse is 2; expected 0.001 to 1'),
    (['x', '--top-k-fine', '-1'], '--top-k-fine is -1'),
    (['x', '--like-weight', '0.5'], '--like-weight is for --like'),
    (['x', '--like', 'text.mp3'], 'text.mp3 is not readable audio'),
    (['--melody', 'short.wav'], 'short.wav has 0.50 s; expected 1 to 600 s'),
    (['--melody', 'silent.wav'], 'silent.wav is silent'),
    (['--continue-from', '.'], 'audio file . is a folder'),
    (['--continue-from', 'none.wav'], 'none.wav does not exist'),
    (['x', '--story', 'good.yaml'], 'a prompt and a story were given'),
    (['--story', 'bad.yaml'], "bad.yaml, line 3: at is 'soon'; expected m:ss"),
    (['x', '--report', 'a.pdf'], "--report a.pdf has extension '.pdf'"),
    (['x', '--report', 'no/a.html'], '--report folder no does not exist'),
    (['x', '-o', 'folder.wav'], 'folder.wav is a folder'),
    (['x', '-o', '/proc/a.wav'], '/proc/a.wav cannot be written (No such f'),
    (['--story', 'good.yaml', '-o', 'his.wav'], 'his.story.yaml, which holds'),
    (['x\udcff'], 'the prompt is not text'),
    (['x', '-o', 'x' * 300 + '.wav'], 'cannot be written (File name too long)'),
    (['x', '--report', '/proc/a.html'], '--report /proc/a.html cannot be wri'),
    (['--story', '.'], 'story . is a folder'),
    (['--story', 'half.yaml'], 'line 1: the prompt holds half a character'),
    (['x' * 5000], 'the prompt has 5000 characters; expected at most 2000'),
])
def test_mistakes(shell, tmp_path, argv, message):
  (tmp_path / 'bad.yaml').write_text(
      '- at: 0\n  prompt: x\n- at: soon\n  prompt: y')
  (tmp_path / 'good.yaml').write_text('- {at: 0, prompt: x}')
  (tmp_path / 'half.yaml').write_text('- {at: 0, prompt: "\\ud800 air"}')
  (tmp_path / 'his.story.yaml').write_text('once upon a time')
  (tmp_path / 'text.mp3').write_text('this is text')
  (tmp_path / 'folder.wav').mkdir()
  soundfile.write('short.wav', np.ones(RATE // 2), RATE)
  soundfile.write('silent.wav', np.zeros(2 * RATE), RATE)
  before = sorted(tmp_path.rglob('*'))
  code, out, err = shell(*argv)
  assert code == 2 and message in err and err.count('\n') == 1 and not out
  assert sorted(tmp_path.rglob('*')) == before, 'something was written'


def test_an_interruption_leaves_nothing(shell, tmp_path, monkeypatch):
  from musiclm_jax import progress  # pylint: disable=g-import-not-at-top

  def stop(self, what, done, total, unit):
    del self, total, unit
    if what == 'audio' and done:
      raise KeyboardInterrupt

  monkeypatch.setattr(progress.Progress, 'show', stop)
  assert shell('a jig', '--seconds', '2')[0] == 130
  assert not list(tmp_path.iterdir())
