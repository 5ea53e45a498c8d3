"""The plots of a listening test, as figures 7 and 8 of MusicLM's paper."""

from __future__ import annotations

import io

from musiclm_jax.listening import results as results_lib

# Blue for the first, orange for the second: told apart by colour-blind eyes.
_COLOURS = ('#1b5fae', '#8fbdec', '#d5d3cd', '#f2b384', '#b8510f')
_DARK = (0, 4)  # whose numbers are white
_LEGEND = ('first, strongly', 'first, slightly', 'no preference',
           'second, slightly', 'second, strongly')
_INK, _DPI = '#22211f', 160
_MOST_BRACKETS = 6  # all pairs of four systems


def draw(results: results_lib.Results) -> list[tuple[str, str, bytes]]:
  """[(name, caption, PNG)] of both plots."""
  return [
      ('pairs', 'Preferences in each pair', _png(_pairs, results)),
      ('wins', 'Wins of each system', _png(_wins, results))]


def _png(plot, results):
  import matplotlib  # pylint: disable=g-import-not-at-top
  matplotlib.use('Agg')
  from matplotlib import pyplot  # pylint: disable=g-import-not-at-top
  with pyplot.rc_context({'font.size': 10, 'text.color': _INK,
                          'axes.labelcolor': _INK, 'xtick.color': _INK,
                          'ytick.color': _INK, 'text.parse_math': False}):
    figure = plot(pyplot, results)
    try:
      out = io.BytesIO()
      figure.savefig(out, format='png', dpi=_DPI, bbox_inches='tight')
    finally:
      pyplot.close(figure)
  return out.getvalue()


def _pairs(pyplot, results):
  """A bar a pair, of the five answers' shares."""
  pairs = results.pairs
  figure, axes = pyplot.subplots(figsize=(8, 1.1 + 0.55 * len(pairs)))
  for row, pair in enumerate(pairs):
    total, left = sum(pair.counts), 0.0
    for place, count in enumerate(pair.counts):
      width = 100 * count / total
      axes.barh(row, width, 0.7, left, color=_COLOURS[place],
                label=_LEGEND[place] if not row else None)
      if width >= 5:
        axes.text(left + width / 2, row, str(count), ha='center', va='center',
                  fontsize=9, color='white' if place in _DARK else _INK)
      left += width
  axes.set_yticks(range(len(pairs)), [_short(pair.first) for pair in pairs])
  axes.set_ylim(len(pairs) - 0.5, -0.5)
  axes.set_xlim(0, 100)
  axes.set_xlabel('% of ratings')
  axes.axvline(50, color=_INK, linewidth=0.8, linestyle=':')
  other = axes.secondary_yaxis('right')
  other.set_yticks(range(len(pairs)), [
      f'{_short(pair.second)}{" *" if pair.significant else ""}'
      for pair in pairs])
  for side in (axes, other):
    side.tick_params(axis='y', length=0)
    for spine in side.spines.values():
      spine.set_visible(False)
  axes.legend(loc='lower center', bbox_to_anchor=(0.5, 1.0), ncols=5,
              frameon=False, fontsize=9, handlelength=1.0, columnspacing=1.2)
  return figure


def _wins(pyplot, results):
  """A bar a system, with intervals, and brackets over what differs."""
  systems = results.systems
  figure, axes = pyplot.subplots(figsize=(1.6 + 1.4 * len(systems), 4.4))
  top = max(1.0, *(system.share.tracks[1] * system.count
                   for system in systems))
  for place, system in enumerate(systems):
    low, high = (edge * system.count for edge in system.share.tracks)
    axes.bar(place, system.wins, 0.62, color=_COLOURS[0])
    axes.errorbar(place, system.wins, fmt='none', ecolor=_INK, capsize=4, yerr=[
        [max(0.0, system.wins - low)], [max(0.0, high - system.wins)]])
    inside = system.wins > 0.12 * top
    axes.text(place, system.wins / 2 if inside else high + 0.02 * top,
              str(system.wins), ha='center', va='center' if inside else
              'bottom', color='white' if inside else _INK, fontweight='bold')
  steps = _brackets(axes, results, top)
  axes.set_xticks(range(len(systems)), [
      f'{_short(s.system)}\nof {s.count}' for s in systems])
  axes.set_ylabel('wins')
  axes.set_ylim(0, top * (1.06 + 0.1 * steps))
  axes.spines[['top', 'right']].set_visible(False)
  return figure


def _brackets(axes, results, top):
  """Draws p of pairs, the neighbours first; returns how many rows they take."""
  place = {s.system: number for number, s in enumerate(results.systems)}
  pairs = sorted(results.pairs, key=lambda pair: abs(
      place[pair.first] - place[pair.second]))
  if len(pairs) > _MOST_BRACKETS:
    pairs = [pair for pair in pairs
             if abs(place[pair.first] - place[pair.second]) == 1]
  for row, pair in enumerate(pairs):
    ends = sorted((place[pair.first], place[pair.second]))
    height = top * (1.06 + 0.1 * row)
    axes.plot([ends[0], ends[0], ends[1], ends[1]],
              [height - 0.02 * top, height, height, height - 0.02 * top],
              color=_INK, linewidth=0.9)
    words = (f'p < {results_lib.SIGNIFICANT:g}' if pair.significant
             else 'not significant')
    axes.text(sum(ends) / 2, height + 0.01 * top, words, ha='center',
              va='bottom', fontsize=8)
  return len(pairs)


def _short(name):
  return name if len(name) <= 22 else f'{name[:21]}…'
