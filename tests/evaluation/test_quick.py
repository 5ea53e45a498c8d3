"""The whole evaluation on a random bundle: all figures there, all at chance."""

import contextlib
import io
import json
import re

import numpy as np
import pytest
import random_bundle

from musiclm_jax import bundle as bundle_lib
from musiclm_jax import errors
from musiclm_jax.commands import cli
from musiclm_jax.evaluation import quick
from musiclm_jax.evaluation import report

_NAMES = {
    'codec_si_sdr_db', 'codec_mel_distance_db', 'codec_usage',
    'codec_coarse_mel_distance_db',
    'retrieval_r10', 'retrieval_r10_chance', 'prompt_similarity_own',
    'prompt_similarity_shuffled', 'ladder_codec_mel_distance_db',
    'ladder_all_mulan_text', 'family_classifier_agreement',
    'family_classifier_chance', *(
        f'{s}_{k}' for s in ('semantic', 'coarse', 'fine')
        for k in ('loss', 'unigram_entropy', 'bigram_entropy', 'usage'))}


@pytest.fixture(name='shell', scope='module')
def _shell(folder, tmp_path_factory):
  """(what was printed, the folder with what was written)."""
  out = tmp_path_factory.mktemp('quick')
  printed = io.StringIO()
  with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(
      printed):
    patch.chdir(out)
    patch.setattr(quick, 'LADDER_SECONDS', 2)
    patch.setattr(quick, '_TRAIN_CLIPS', 12)
    cli.main(['evaluate', 'quick', '--bundle', str(folder / 'bundle'),
              '--corpus', str(folder / 'corpus'), '--clips', '6', '-o', 'out',
              '--json', 'q.json', '--report', 'q.html', '--record'])
  return printed.getvalue(), out


@pytest.fixture(name='figures', scope='module')
def _figures(shell):
  return json.loads((shell[1] / 'q.json').read_text())


def test_every_figure_is_there_and_finite(figures):
  assert _NAMES <= set(figures)
  assert all(np.isfinite(v) for v in figures.values()
             if isinstance(v, (int, float)))
  assert figures['clips'] == 6


def test_random_weights_sit_at_chance(figures):
  for stage in ('semantic', 'coarse', 'fine'):
    assert figures[f'{stage}_loss'] > figures[f'{stage}_unigram_entropy']
    # It is told apart from the entropy, which no code of 16 can exceed.
    assert 0 < figures[f'{stage}_unigram_entropy'] <= np.log(16) + 1e-6
    assert 0 < figures[f'{stage}_usage'] <= 1
  # Nine clips: one right answer more than chance is no sign of knowledge.
  assert figures['retrieval_r1_chance'] == pytest.approx(1 / 9)
  assert figures['retrieval_r1'] <= figures['retrieval_r1_chance'] + 0.12
  assert (figures['prompt_difference_low'] < 0 <
          figures['prompt_difference_high'])
  assert figures['codec_si_sdr_db'] < 0
  assert figures['family_classifier_p_value'] > 0.01


def test_a_bundle_without_some_parts_gets_the_rest(folder, monkeypatch):
  nobody = lambda *args: (report.Section('families', ()), {})
  monkeypatch.setattr(quick, '_families', nobody)
  monkeypatch.setattr(quick, '_TRAIN_CLIPS', 4)
  partial = random_bundle.without(
      folder / 'bundle', 'mulan', 'semantic', 'coarse')
  result = quick.evaluate(partial, folder / 'corpus', 2, seconds=1)
  assert list(result.ladder.rungs) == ['codec', 'fine']
  assert 'fine_loss' in result.figures and 'coarse_loss' not in result.figures
  assert 'retrieval_r1' not in result.figures
  alone = random_bundle.without(folder / 'bundle', *(
      n for n in bundle_lib.COMPONENTS if n != 'mulan'))
  result = quick.evaluate(alone, folder / 'corpus', 2, seconds=1)
  assert result.ladder is None and 'retrieval_r1' in result.figures


def test_what_the_shell_leaves(shell, figures):
  printed, out = shell
  assert 'Oracle ladder' in printed
  for stage in ('semantic', 'coarse', 'fine'):  # what is said is what is kept
    assert re.search(
        rf'^ *{stage} +{figures[f"{stage}_loss"]:.2f} +'
        rf'\(unigram {figures[f"{stage}_unigram_entropy"]:.2f}, bigram '
        rf'{figures[f"{stage}_bigram_entropy"]:.2f}\)', printed, re.M), stage
  assert figures['bundle'] == 'random' and figures['split'] == 'test'
  assert {'machine', 'git_commit', 'wall_seconds'} <= set(figures)
  page = (out / 'q.html').read_text()
  assert page.count('data:image/png') == 3
  assert page.count('data:audio/flac') == 4 * 5  # clips, recording and rungs
  for name in ('spectrograms', 'tokens', 'losses'):
    header = (out / f'out/{name}.png').read_bytes()[:8]
    assert header == b'\x89PNG\r\n\x1a\n'
  assert sorted(p.name for p in out.iterdir()) == ['out', 'q.html', 'q.json']


def test_inspect_shows_the_record(shell, figures, folder, tmp_path, capsys):
  del shell
  cli.main(['inspect', 'bundle', str(folder / 'bundle'),
            '--json', str(tmp_path / 'i.json')])
  shown = capsys.readouterr().out
  assert 'Oracle ladder' in shown and 'semantic' in shown
  inspected = json.loads((tmp_path / 'i.json').read_text())
  assert inspected['codec_si_sdr_db'] == figures['codec_si_sdr_db']
  # With other weights the record is not shown as if it were theirs.
  config = folder / 'bundle/fine/config.json'
  before = config.read_text()
  config.write_text(before.replace('"steps": 0', '"steps": 1'))
  cli.main(['inspect', 'bundle', str(folder / 'bundle')])
  assert 'of other weights' in capsys.readouterr().out
  config.write_text(before)
  (folder / 'bundle/evaluation.json').unlink()
  cli.main(['inspect', 'bundle', str(folder / 'bundle')])
  assert 'not evaluated yet' in capsys.readouterr().out


def test_a_bundle_without_any_part_is_refused(folder):
  nothing = random_bundle.without(folder / 'bundle', *bundle_lib.COMPONENTS)
  with pytest.raises(errors.UserError, match='neither a codec nor'):
    quick.evaluate(nothing, folder / 'corpus', 3)


def test_a_page_escapes_what_people_wrote(tmp_path):
  report.write(tmp_path / 'r.html', 'a <b> title', [report.Section(
      'S', (report.Line('<script>', '1'),), 'x < y')])
  page = (tmp_path / 'r.html').read_text()
  assert '<script>' not in page and '&lt;script&gt;' in page
  assert [p.name for p in tmp_path.iterdir()] == ['r.html']


def test_without_musicnn_the_classifier_judges_alone(monkeypatch):
  def missing(*args):
    raise errors.UserError('musicnn is not installed')
  monkeypatch.setattr(quick.musicnn.MusicNN, 'load', missing)
  said = []
  assert quick._tagger(said.append) is None
  assert 'not installed' in said[0]
