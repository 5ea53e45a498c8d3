"""Which family is named: histograms and sections by hand, and from the shell."""

import json

import numpy as np
import pytest
import random_bundle

from musiclm_jax import errors
from musiclm_jax import records
from musiclm_jax.commands import cli
from musiclm_jax.evaluation import families

_FAMILIES = np.array(['flutes'] * 3 + ['brass'] * 5)


def test_histograms_have_length_one_and_compare():
  found = families.histograms(np.array([[0, 0, 0, 2], [2, 2, 0, 2]]), 4)
  np.testing.assert_allclose(found[0], [np.sqrt(0.75), 0, 0.5, 0])
  np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1.0)


def test_a_classifier_names_what_it_was_shown():
  rng = np.random.default_rng(0)
  tokens = np.where((_FAMILIES == 'brass')[:, None], 0, 4) + rng.integers(
      0, 4, (8, 50))
  shown = families.histograms(tokens, 8)
  heard = families.fit(shown, _FAMILIES).predict(shown)
  np.testing.assert_array_equal(heard, _FAMILIES)


def test_a_section_against_hand():
  right = families.Named('all right', _FAMILIES)
  same = families.Named('always brass', np.array(['brass'] * 8))
  hidden = families.Named('', _FAMILIES[::-1])
  found, figures = families.section(
      'x', dict(a=right, b=same, c=hidden), _FAMILIES)
  assert figures['families_a'] == figures['families_a_low'] == 1.0
  np.testing.assert_allclose(
      figures['families_a_shuffled'], (3 / 8)**2 + (5 / 8)**2)
  assert figures['families_b'] == figures['families_b_shuffled'] == 5 / 8
  assert figures['families_b_low'] < 5 / 8 < figures['families_b_high']
  assert figures['families_c'] == 2 / 8
  assert [line.name for line in found.lines] == [
      'all right', 'always brass', 'chance']
  assert found.lines[-1].value == '0.62'
  assert found.verdict == 'cannot be told from chance: always brass'


@pytest.mark.parametrize('rightly, verdict', [
    (90, 'the family is in all of them'),
    (65, 'the family is in all of them'),
    (40, 'most of it is lost in: drawn')])
def test_the_verdict_names_what_knows_least(rightly, verdict):
  asked = np.tile(['brass', 'flutes', 'reeds', 'voice'], 25)
  wrong = np.roll(asked, 1)
  heard = np.where(np.arange(100) < rightly, asked, wrong)
  found, _ = families.section('x', dict(
      a=families.Named('recordings', asked),
      b=families.Named('drawn', heard)), asked)
  assert found.verdict == verdict


def test_from_the_shell(folder, tmp_path, monkeypatch, capsys):
  monkeypatch.chdir(tmp_path)
  cli.main(['evaluate', 'families', '--bundle', str(folder / 'bundle'),
            '--corpus', str(folder / 'corpus'), '--clips', '9',
            '--train-clips', '24', '--json', 'f.json'])
  printed = capsys.readouterr().out
  assert 'drawn from captions, guidance 1' in printed
  figures = json.loads((tmp_path / 'f.json').read_text())
  assert figures['families_clips'] == 9
  assert figures['families_train_clips'] == 24
  assert figures['families_classes'] == len(random_bundle.FAMILIES)
  assert figures['families_chance'] == pytest.approx(1 / 3)
  # Captions name the family, and a random tower is a hash of their words.
  names = ('recordings', 'drawn_unguided', 'text', 'audio', 'text_codes',
           'audio_level01', 'text_level12')
  for name in names:
    low, value, high = (figures[f'families_{name}{end}']
                        for end in ('_low', '', '_high'))
    assert 0 <= low <= value <= high <= 1
    assert 0 < figures[f'families_{name}_shuffled'] < 1
  assert figures['families_text_level12'] == figures['families_text_codes']
  assert 'families_drawn' not in figures  # this bundle is drawn unguided


def test_what_it_wants_of_a_corpus(folder, tmp_path):
  place = tmp_path / 'corpus'
  with records.Writer(place, 'x', 24_000) as writer:
    for split in ('train', 'test'):
      for i in range(3):
        writer.add(split, f'{split}{i}', np.zeros(48_000), captions=['a flute'],
                   family='flutes')
  from musiclm_jax import bundle as bundle_lib  # pylint: disable=g-import-not-at-top
  bundle = bundle_lib.Bundle(folder / 'bundle')
  with pytest.raises(errors.UserError, match='no two instrument families'):
    families.evaluate(bundle, place, 3, 3)


def test_a_bundle_without_the_stage_and_too_few_clips(
    tmp_path, folder, capsys):
  from musiclm_jax import bundle as bundle_lib  # pylint: disable=g-import-not-at-top
  from musiclm_jax import specs  # pylint: disable=g-import-not-at-top
  bundle_lib.write_manifest(tmp_path, specs.TokenSpec())
  for directory, more, message in (
      (tmp_path, (), 'has no codec, w2vbert, mulan, semantic, coarse'),
      (folder / 'bundle', ('--train-clips', '1'), '--train-clips is 1')):
    with pytest.raises(SystemExit) as stopped:
      cli.main(['evaluate', 'families', '--bundle', str(directory), *more])
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err
