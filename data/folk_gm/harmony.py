"""Chords for a melody: diatonic triads, chosen by a shortest path.

Each span of the bar gets the triad that covers the notes which sound in it,
weighted by length and accent, while changes that folk accompanists avoid cost
something. The tune's last chord is the tonic.
"""

import numpy as np

# Degrees of the scale in semitones, by mode.
SCALES = dict(
    major=(0, 2, 4, 5, 7, 9, 11), mixolydian=(0, 2, 4, 5, 7, 9, 10),
    dorian=(0, 2, 3, 5, 7, 9, 10), minor=(0, 2, 3, 5, 7, 8, 10),
    phrygian=(0, 1, 3, 5, 7, 8, 10), lydian=(0, 2, 4, 6, 7, 9, 11))
# (root above the tonic, major third?, cost of using it): the plainest first.
_CHORDS = dict(
    major=((0, 1, 0.0), (5, 1, 0.1), (7, 1, 0.05), (9, 0, 0.3), (2, 0, 0.3)),
    mixolydian=((0, 1, 0.0), (10, 1, 0.05), (5, 1, 0.2), (7, 0, 0.35)),
    dorian=((0, 0, 0.0), (10, 1, 0.05), (5, 1, 0.25), (3, 1, 0.25),
            (7, 0, 0.3)),
    minor=((0, 0, 0.0), (10, 1, 0.1), (3, 1, 0.2), (8, 1, 0.25), (5, 0, 0.2),
           (7, 0, 0.3)),
    phrygian=((0, 0, 0.0), (1, 1, 0.1), (10, 0, 0.2)),
    lydian=((0, 1, 0.0), (2, 1, 0.1), (7, 1, 0.1)))
_CHANGE, _OUTSIDE, _THIRD = 0.12, 0.9, 0.05
SPANS_PER_BAR = dict(duple=2, jig=2, slip=3, triple=1)
SPANS_PER_BAR['double jig'] = 2


def chords(tune):
  """One chord for each span of the tune.

  Args:
    tune: a Tune.

  Returns:
    [num_bars * spans, 2] int: root pitch class, and 1 for a major third, 0 for
    a minor one.
  """
  spans = SPANS_PER_BAR[tune.metre]
  weight = _pitch_class_weight(tune, spans)
  options = _CHORDS[tune.mode]
  triads = np.zeros((len(options), 12))
  for i, (root, major, _) in enumerate(options):
    root = (tune.tonic + root) % 12
    triads[i, [root, (root + 7) % 12]] = 1.0
    triads[i, (root + 3 + major) % 12] = 1.0 - _THIRD
  total = weight.sum(axis=1, keepdims=True)
  misfit = (total - weight @ triads.T) / np.maximum(total, 1e-9) * _OUTSIDE
  misfit = misfit + np.array([o[2] for o in options]) * 0.5
  misfit[-1, 1:] += 2.0
  change = _CHANGE * (1 - np.eye(len(options)))
  cost, back = misfit[0].copy(), []
  for row in misfit[1:]:
    table = cost[:, None] + change
    back.append(np.argmin(table, axis=0))
    cost = np.min(table, axis=0) + row
  path = [int(np.argmin(cost))]
  for pointers in reversed(back):
    path.append(int(pointers[path[-1]]))
  path.reverse()
  return np.array([[(tune.tonic + options[i][0]) % 12, options[i][1]]
                   for i in path])


def _pitch_class_weight(tune, spans):
  """[num_bars * spans, 12]: how long each pitch class sounds in each span."""
  count = tune.num_bars * spans
  weight = np.zeros((count, 12))
  for start, length, pitch in tune.notes:
    first, last = start * spans, (start + length) * spans
    for span in range(int(first + 1e-6), min(count, int(np.ceil(last - 1e-6)))):
      overlap = min(last, span + 1) - max(first, span)
      accent = 1.5 if abs(first - span) < 1e-6 else 1.0
      weight[span, int(pitch) % 12] += overlap * accent
  return weight
