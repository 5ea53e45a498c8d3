"""A report against answers that are known."""

import csv
import json
import random
import re

import command_line
import numpy as np
import pytest
from scipy import stats

from musiclm_jax.listening import plots
from musiclm_jax.listening import results as results_lib
from musiclm_jax.listening import store as store_lib
from musiclm_jax.listening import telling

# How good raters find the systems of the fixture.
_QUALITY = dict(ours=0.0, theirs=0.1, recorded=1.6)


def answer(test, judge, per_rater=6):
  """Fills a test: `judge(better, draw)` is a score for what is heard as B."""
  store = store_lib.Store(test.answers, test.key_sha256)
  draw = random.Random(0)
  with store.transaction():
    for number, slot in enumerate(test.slots):
      if number % per_rater == 0:
        rater = store.rater(store.join())
      difference = (_QUALITY[test.systems[slot.right]] -
                    _QUALITY[test.systems[slot.left]])
      store.answer(store.give(rater, number), judge(difference, draw),
                   'a, "quoted"\ncomment' if number == 3 else '', 5.0, 6.0)
  store.close()


def noisy(difference, draw):
  return max(-2, min(2, round(difference + draw.gauss(0, 0.8))))


@pytest.fixture(name='answered', scope='module')
def _answered(make):
  test = make(ratings=60)
  answer(test, noisy)
  return test


@pytest.fixture(name='results', scope='module')
def _results(answered):
  return results_lib.of(answered)


def scores_of(results, first, second):
  """Scores for `first`, counted anew from slots and raw answers."""
  test, found = results.test, []
  for said in store_lib.read(test.answers, test.key_sha256):
    slot = test.slots[said.slot]
    left, right = test.systems[slot.left], test.systems[slot.right]
    if (left, right) == (first, second):
      found.append(-said.answer)
    elif (left, right) == (second, first):
      found.append(said.answer)
  return np.asarray(found)


def test_pairs_are_those_of_the_raw_answers(results):
  assert len(results.pairs) == 3
  for pair in results.pairs:
    scores = scores_of(results, pair.first, pair.second)
    assert len(scores) == 60
    assert pair.counts == tuple((scores == s).sum() for s in (2, 1, 0, -1, -2))
    assert pair.wins == ((scores > 0).sum(), (scores < 0).sum())
    assert pair.ties == (scores == 0).sum()
    assert pair.first_wins.value == pytest.approx((scores > 0).mean())
    theirs = stats.wilcoxon(scores, method='asymptotic', correction=False)
    assert pair.test.statistic == theirs.statistic
    assert pair.test.p == pytest.approx(theirs.pvalue, rel=0.3, abs=1e-4)
    assert pair.p == min(1.0, 3 * pair.test.p)


def test_wins_add_up(results):
  total = len(results.ratings)
  assert total == 180
  assert sum(s.wins for s in results.systems) + results.ties == total
  assert sum(s.losses for s in results.systems) + results.ties == total
  assert all(s.count == 120 for s in results.systems)
  assert results.systems[0].system == 'recorded'
  for system in results.systems:
    share = system.share
    assert share.value == system.wins / system.count
    for low, high in (share.tracks, share.raters):
      assert low <= share.value <= high


def test_what_differs_is_found_and_what_does_not_is_not(results):
  found = {(pair.first, pair.second): pair.significant
           for pair in results.pairs}
  assert found == {('ours', 'theirs'): False, ('ours', 'recorded'): True,
                   ('theirs', 'recorded'): True}
  verdict = telling.sections(results)[1].verdict
  assert verdict == ('more than chance: recorded over ours, recorded over '
                     'theirs')


def test_sides_do_not_matter_to_fair_raters_and_do_to_others(results, make):
  assert 0.35 < results.a_share < 0.65 and results.a_p > 0.01
  test = make(ratings=20)
  answer(test, lambda difference, draw: -1)  # always A
  found = results_lib.of(test)
  assert found.a_share == 1.0 and found.a_p < 1e-9
  assert all(pair.wins == (10, 10) and not pair.significant
             for pair in found.pairs)  # since sides are balanced
  assert 'one side is preferred' in telling.sections(found)[2].verdict


def test_agreement_is_full_where_all_say_what_is_true(make):
  test = make(ratings=12)
  answer(test, lambda difference, draw: int(np.sign(difference)) * (
      2 if abs(difference) > 1 else 1))
  found = results_lib.of(test)
  assert found.alpha == 1.0 and found.shared == 12  # 4 clips, 3 pairs
  assert found.systems[0].wins == 24 and found.ties == 0


def test_agreement_cannot_be_told_of_one_rating_each(make):
  test = make(ratings=4)
  answer(test, noisy)
  found = results_lib.of(test)
  assert np.isnan(found.alpha) and found.shared == 0
  assert 'cannot be told' in telling.sections(found)[2].text()
  assert telling.figures(found)['listening_alpha'] is None


def test_from_the_shell(answered, results, tmp_path, capsys):
  code, out, err = command_line.run(
      capsys, 'listen', 'report', answered.directory, '--json',
      tmp_path / 'a.json', '--csv', tmp_path / 'a.csv', '--report',
      tmp_path / 'a.html', '--out', tmp_path / 'plots')
  assert code == 0 and not err
  assert 'recorded' in out and 'Wilcoxon signed-rank, p times 3' in out
  figures = json.loads((tmp_path / 'a.json').read_text())
  assert figures['listening_ratings'] == 180
  assert figures['listening_raters'] == 30
  assert figures['systems']['recorded']['wins'] == results.systems[0].wins
  assert figures['pairs'][0]['p'] == results.pairs[0].p
  assert figures['built']['clips']['ours']['used'] == 4
  with open(tmp_path / 'a.csv', newline='') as file:
    rows = list(csv.DictReader(file))
  assert len(rows) == 180
  assert sum(row['comment'] == 'a, "quoted"\ncomment' for row in rows) == 1
  wins = sum(int(row['score']) > 0 for row in rows
             if (row['first'], row['second']) == ('ours', 'recorded'))
  assert wins == results.pairs[1].wins[0]
  page = (tmp_path / 'a.html').read_text()
  assert page.count('data:image/png;base64') == 2
  assert 'a, &quot;quoted&quot;' in page
  assert not re.search(r'(src|href)="http', page)
  for name in ('pairs', 'wins'):
    png = (tmp_path / f'plots/{name}.png').read_bytes()
    assert png.startswith(b'\x89PNG') and len(png) > 5_000


def test_plots_of_many_systems_with_long_names(results):
  import dataclasses  # pylint: disable=g-import-not-at-top
  many = dataclasses.replace(results, systems=tuple(
      dataclasses.replace(results.systems[i % 3], system=f'$x_{i}$' * 9)
      for i in range(6)), pairs=tuple(
          dataclasses.replace(results.pairs[0], first=f'$x_{i}$' * 9,
                              second=f'$x_{j}$' * 9)
          for i in range(6) for j in range(i)))
  assert [name for name, _, _ in plots.draw(many)] == ['pairs', 'wins']


def test_before_anybody_has_answered(test, capsys):
  code, out, err = command_line.run(
      capsys, 'listen', 'report', test.directory)
  assert code == 2 and not out and err.count('\n') == 1
  assert 'has no answers yet' in err


@pytest.mark.parametrize('words, message', [
    (['--json', 'no/such/a.json'], 'no/such for --json'),
    (['--csv', 'a.txt'], "extension '.txt'; expected .csv"),
    (['--report', 'a.pdf'], "extension '.pdf'; expected .html")])
def test_mistakes(answered, capsys, words, message):
  code, out, err = command_line.run(
      capsys, 'listen', 'report', answered.directory, *words)
  assert code == 2 and not out and err.count('\n') == 1
  assert message in err or 'no/such does not exist' in err
