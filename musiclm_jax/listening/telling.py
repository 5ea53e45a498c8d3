"""A test's results in words: for the terminal, as JSON, CSV and a page."""

from __future__ import annotations

from collections.abc import Sequence
import csv
import io
import math
import os
import statistics
from typing import Any

from musiclm_jax import files
from musiclm_jax.evaluation import provenance
from musiclm_jax.evaluation import report
from musiclm_jax.listening import results as results_lib

_MOST_COMMENTS = 200  # that the page shows; the CSV has all
# Landis and Koch's words for kappa, which alpha is close to.
_ALPHA = ((0.8, 'almost perfect'), (0.6, 'substantial'), (0.4, 'moderate'),
          (0.2, 'fair'), (0.0, 'slight'), (-math.inf, 'none'))


def sections(results: results_lib.Results) -> list[report.Section]:
  """Wins, pairs, and what speaks for and against trusting them."""
  return [_wins(results), _pairs(results), _checks(results)]


def _wins(results):
  lines = [report.Line(
      s.system, f'{s.wins} of {s.count}', s.share.text(),
      f'{s.losses} lost, {s.ties} ties; over raters '
      f'{_range(s.share.raters)}') for s in results.systems]
  best = results.systems[0]
  return report.Section(
      'Wins, strong or weak (of all ratings of a system; 95 % over tracks)',
      tuple(lines), f'{best.system} wins most often')


def _pairs(results):
  lines = []
  for pair in results.pairs:
    first, second = pair.wins
    strong, weak, _, other_weak, other_strong = pair.counts
    lines.append(report.Line(
        f'{pair.first} : {pair.second}', f'{first}:{second}',
        f'ties {pair.ties}; {pair.first} wins {pair.first_wins.text()}',
        f'strong {strong}:{other_strong}, weak {weak}:{other_weak}; '
        f'W = {pair.test.statistic:g}, p {_p(pair.p)}'
        f'{" *" if pair.significant else ""}, over clips {_p(pair.clips_p)}'))
  told = [f'{better} over {worse}' for better, worse in map(_order, [
      pair for pair in results.pairs if pair.significant])]
  tests = results.test.num_pairs
  return report.Section(
      f'Pairs (Wilcoxon signed-rank, p times {tests} for {tests} pairs; * below '
      f'{results_lib.SIGNIFICANT:g})', tuple(lines),
      'more than chance: ' + ', '.join(told) if told else
      'no difference is more than chance')


def _order(pair):
  """(better, worse) by the rank sums that the test compares."""
  if pair.test.above > pair.test.below:
    return pair.first, pair.second
  return pair.second, pair.first


def _checks(results):
  planned = len(results.test.slots)
  took = statistics.median(r.said.took_seconds for r in results.ratings)
  lines = [
      report.Line('ratings', str(len(results.ratings)), f'{planned} planned'),
      report.Line('raters', str(results.raters),
                  f'{_each(results)} ratings each'),
      report.Line('ties', str(results.ties),
                  f'{100 * results.ties / len(results.ratings):.0f} %'),
      report.Line('agreement', _number(results.alpha),
                  _interval(results.alpha_interval),
                  f'Krippendorff\'s alpha, ordinal, of {results.shared} pairs '
                  f'of clips that several rated: '
                  f'{_agreement(results.alpha)}'),
      report.Line('A preferred', _number(results.a_share), '0.50 expected',
                  f'p {_p(results.a_p)}, sign test'),
      report.Line('seconds an answer', f'{took:.0f}', '', 'median'),
      report.Line('comments', str(len(results.comments)))]
  warnings = []
  if results.a_p < results_lib.SIGNIFICANT:
    warnings.append('one side is preferred, whatever it is')
  if len(results.ratings) < planned:
    warnings.append(f'{len(results.ratings)} of {planned} planned ratings are '
                    f'there')
  return report.Section('Can it be trusted?', tuple(lines), '; '.join(warnings))


def figures(results: results_lib.Results) -> dict[str, Any]:
  """The results as JSON has them, with what they rest on."""
  systems = {s.system: dict(wins=s.wins, losses=s.losses, ties=s.ties,
                            ratings=s.count, win_share=s.share.figures())
             for s in results.systems}
  pairs = [dict(
      first=pair.first, second=pair.second,
      strong_first=pair.counts[0], weak_first=pair.counts[1],
      ties=pair.counts[2], weak_second=pair.counts[3],
      strong_second=pair.counts[4],
      first_wins=pair.first_wins.figures(),
      second_wins=pair.second_wins.figures(),
      wilcoxon_w=pair.test.statistic, wilcoxon_n=pair.test.count,
      p_uncorrected=pair.test.p, p=pair.p, p_over_clips=pair.clips_p,
      significant=pair.significant) for pair in results.pairs]
  test = results.test
  return _finite(dict(
      listening_ratings=len(results.ratings), listening_raters=results.raters,
      listening_planned=len(test.slots), listening_ties=results.ties,
      listening_alpha=results.alpha,
      listening_alpha_low=results.alpha_interval[0],
      listening_alpha_high=results.alpha_interval[1],
      listening_alpha_units=results.shared,
      listening_a_share=results.a_share, listening_a_p=results.a_p,
      listening_comments=len(results.comments),
      systems=systems, pairs=pairs, significance=results_lib.SIGNIFICANT,
      correction=f'Bonferroni, {test.num_pairs} pairs', question=test.question,
      test_key_sha256=test.key_sha256,
      test_options=test.key.get('options'), loudness=test.key.get('loudness'),
      built=test.key.get('provenance'),
      provenance=provenance.of(seed=results.seed)))


def write_csv(path: str | os.PathLike, results: results_lib.Results) -> None:
  """Every rating as a row, for other people's statistics."""
  text = io.StringIO(newline='')
  writer = csv.writer(text, lineterminator='\n')
  writer.writerow(['rater', 'id', 'track', 'first', 'second', 'score',
                   'first_heard_as', 'heard_a_seconds', 'heard_b_seconds',
                   'took_seconds', 'comment'])
  names = results.test.systems
  for r in results.ratings:
    writer.writerow([
        r.rater, r.clip, r.track, names[r.pair[0]], names[r.pair[1]], r.score,
        'A' if r.first_is_a else 'B', f'{r.said.heard_a:.1f}',
        f'{r.said.heard_b:.1f}', f'{r.said.took_seconds:.1f}', r.said.comment])
  files.write_text(path, text.getvalue())


def write_page(path: str | os.PathLike, results: results_lib.Results,
               drawn: Sequence[tuple[str, str, bytes]]) -> None:
  """The page, with the plots of `plots.draw`."""
  test = results.test
  found = figures(results)['provenance']
  shown = sections(results)
  if results.comments:
    shown.append(_comments(results))
  report.write(
      path, 'Listening test', shown,
      [(caption, png) for _, caption, png in drawn], notes=[
          f'Asked: {test.question}',
          f'{len(test.clips)} clips, {len(test.systems)} systems; loudness: '
          f'{test.key.get("loudness")}; key {test.key_sha256[:12]}',
          f'{found["command"]}; commit {found["git_commit"][:7]}, '
          f'{found["machine"]}'])


def _comments(results):
  names = results.test.systems
  return report.Section('Comments', tuple(
      report.Line(r.clip, f'{r.score:+d}',
                  f'{names[r.pair[0]]} : {names[r.pair[1]]}', r.said.comment)
      for r in results.comments[:_MOST_COMMENTS]),
      '' if len(results.comments) <= _MOST_COMMENTS else
      f'{_MOST_COMMENTS} of {len(results.comments)}; --csv has all')


def _each(results):
  """How many ratings one rater gave, as a range."""
  counts = {}
  for rating in results.ratings:
    counts[rating.rater] = counts.get(rating.rater, 0) + 1
  least, most = min(counts.values()), max(counts.values())
  return f'{least}' if least == most else f'{least} to {most}'


def _agreement(alpha):
  if math.isnan(alpha):
    return 'cannot be told'
  return next(word for least, word in _ALPHA if alpha >= least)


def _p(value):
  if math.isnan(value):
    return 'none'
  return '< 0.0001' if value < 1e-4 else f'= {value:.2g}'


def _number(value):
  return '-' if math.isnan(value) else f'{value:.2f}'


def _interval(edges):
  return '' if math.isnan(edges[0]) else f'{edges[0]:.2f} to {edges[1]:.2f}'


def _range(edges):
  return f'{100 * edges[0]:.0f} to {100 * edges[1]:.0f} %'


def _finite(value):
  """NaN as null, which JSON has."""
  if isinstance(value, dict):
    return {key: _finite(item) for key, item in value.items()}
  if isinstance(value, list):
    return [_finite(item) for item in value]
  return None if isinstance(value, float) and math.isnan(value) else value
