"""`musiclm evaluate` writes where it was told to, and nowhere else."""

import types

import pytest

from musiclm_jax import bundle as bundle_lib
from musiclm_jax.commands import cli
from musiclm_jax.evaluation import codec
from musiclm_jax.evaluation import codec_report
from musiclm_jax.evaluation import pictures
from musiclm_jax.evaluation import quick

_PNG = b'\x89PNG\r\n\x1a\n'


@pytest.fixture(name='evaluate')
def _evaluate(tmp_path, monkeypatch, capsys):
  """Function from arguments to (what was printed, names of files there are)."""
  class Bundle:
    """One without any weights."""

    def __init__(self, directory):
      self.directory, self.identity = directory, 'none'

    weights_fingerprint = staticmethod(lambda: 'none')

  def draw(folder, *unused_results):
    (folder / 'x.png').write_bytes(_PNG)
    return [('A picture.', folder / 'x.png')]

  data = types.SimpleNamespace(clips=[], corpus='none', split='test')
  monkeypatch.setattr(bundle_lib, 'Bundle', Bundle)
  monkeypatch.setattr(quick, 'evaluate', lambda *args: types.SimpleNamespace(
      figures={}, sections=[], data=data, ladder=None, stages=[]))
  monkeypatch.setattr(codec, 'evaluate', lambda *args, **how: (
      types.SimpleNamespace(figures={}, sections=[], judged=[])))
  monkeypatch.setattr(pictures, 'draw', draw)
  monkeypatch.setattr(codec_report, 'draw', draw)
  home = tmp_path / 'here'
  home.mkdir()
  monkeypatch.chdir(home)

  def evaluate(*arguments):
    cli.main(['evaluate', *arguments])
    return capsys.readouterr().out.split(), sorted(
        p.relative_to(home).as_posix() for p in home.rglob('*') if p.is_file())

  return evaluate


_WHAT = pytest.mark.parametrize(
    'what', [('quick', '--corpus', 'x'), ('codec', '--data', 'x')])


@_WHAT
def test_nothing_is_written_that_was_not_asked_for(evaluate, what):
  assert evaluate(*what) == ([], [])


@_WHAT
def test_a_report_has_the_pictures_in_it(evaluate, what):
  assert evaluate(*what, '--report', 'r.html') == (['r.html'], ['r.html'])
  with open('r.html', encoding='utf-8') as page:
    assert page.read().count('data:image/png') == 1


@_WHAT
def test_pictures_go_where_they_should(evaluate, what):
  assert evaluate(*what, '-o', 'a/b') == (['a/b/x.png'], ['a/b/x.png'])


def test_a_folder_for_what_has_no_pictures(evaluate, capsys):
  with pytest.raises(SystemExit):
    evaluate('melody', '--corpus', 'x', '-o', 'a')
  assert '--out goes with `musiclm evaluate quick`' in capsys.readouterr().err
