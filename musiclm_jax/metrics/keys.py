"""Keys as numbers, and how near one is to another.

A key is its tonic, 0..11 semitones above C, plus 12 in minor. Modes with a minor
third count as minor, the others as major: that is what a judge of 24 keys can
hear of them.
"""

import re

import numpy as np
import numpy.typing as npt

_TONICS = dict(C=0, D=2, E=4, F=5, G=7, A=9, B=11)
_SIGNS = {'': 0, '#': 1, '♯': 1, 'sharp': 1, 'b': -1, '♭': -1, 'flat': -1}
MODES = {
    'major': 0, 'maj': 0, 'ionian': 0, 'lydian': 0, 'mixolydian': 0,
    'minor': 1, 'min': 1, 'm': 1, 'aeolian': 1, 'dorian': 1, 'phrygian': 1}
_NAME = re.compile(
    r'([A-Ga-g])[\s-]*(sharp|flat|[#b♯♭]|)[\s-]*([A-Za-z]*)\s*', re.IGNORECASE)
# MIREX's points for a key that is not the right one.
_FIFTH, _RELATIVE, _PARALLEL = 0.5, 0.3, 0.2

# How well each degree of the scale fits its key: listeners' ratings, Krumhansl
# and Kessler (1982), and shares of segments in which it sounds, Temperley (2001,
# of the Kostka-Payne corpus).
PROFILES = {
    'krumhansl': (
        (6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88),
        (6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17)),
    'temperley': (
        (.748, .060, .488, .082, .670, .460, .096, .715, .104, .366, .057, .400),
        (.712, .084, .474, .618, .049, .460, .105, .747, .404, .067, .133, .330)),
}


def parse(name: str, mode: str = '') -> int:
  """The number of a key.

  >>> [parse(k) for k in ('C', 'B flat major', 'Gm', 'F# dorian', 'eb minor')]
  [0, 10, 19, 18, 15]

  Args:
    name: such as 'B flat major', 'Bb major', 'Gm', 'F# dorian'.
    mode: what counts where the name says none.

  Raises:
    ValueError: it is no key.
  """
  tonic, sign, word = _parts(name)
  tonic = (_TONICS[tonic.upper()] + _SIGNS[sign.lower()]) % 12
  return tonic + 12 * parse_mode(word or mode or 'major')


def mode_in(name: str) -> int | None:
  """The mode that a key's name says; None of a mere tonic such as 'C'.

  Raises:
    ValueError: it is no key.
  """
  word = _parts(name)[2]
  return parse_mode(word) if word else None


def _parts(name):
  """Tonic, sign and mode in the name of a key."""
  found = _NAME.fullmatch(str(name).strip())
  if not found:
    raise ValueError(f'{name!r} is no key such as "B flat major" or "Gm".')
  return found.groups()


def parse_mode(name: str) -> int:
  """0 for major, 1 for minor.

  >>> [parse_mode(m) for m in ('M', 'm', 'Dorian')]
  [0, 1, 1]

  Raises:
    ValueError: it is no mode.
  """
  text = str(name).strip()
  if text == 'M':
    return 0
  if text.lower() not in MODES:
    raise ValueError(
        f'{name!r} is no mode; expected one of {", ".join(MODES)}.')
  return MODES[text.lower()]


def weighted(asked: npt.ArrayLike, heard: npt.ArrayLike) -> np.ndarray:
  """MIREX's score of keys: arrays of numbers broadcast -> 0..1.

  1 for the key; 0.5 for the one a fifth above, in the same mode; 0.3 for the
  relative one; 0.2 for the parallel one.

  >>> weighted(parse('C'), [parse(k) for k in ('C', 'G', 'Am', 'Cm', 'F')])
  array([1. , 0.5, 0.3, 0.2, 0. ])
  """
  asked, heard = np.asarray(asked), np.asarray(heard)
  same_mode = asked // 12 == heard // 12
  up = (heard - asked) % 12
  relative = np.where(asked < 12, 9, 3)  # of C major A, of A minor C
  return np.select(
      [same_mode & (up == 0), same_mode & (up == 7), ~same_mode & (
          up == relative), ~same_mode & (up == 0)],
      [1.0, _FIFTH, _RELATIVE, _PARALLEL], 0.0)


def estimate(chroma: npt.ArrayLike, profile: str = 'temperley') -> int:
  """The key whose profile correlates best with [12] weights of pitch classes.

  Krumhansl and Schmuckler's method. Equal weights have no key; C is answered.
  """
  chroma = np.asarray(chroma, np.float64) - np.mean(chroma)
  patterns = np.array([np.roll(p, k) for p in PROFILES[profile]
                       for k in range(12)])
  patterns = patterns - patterns.mean(1, keepdims=True)
  return int((patterns @ chroma / np.linalg.norm(patterns, axis=1)).argmax())
