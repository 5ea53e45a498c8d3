"""Is a tempo the one that was asked for? MIREX's two accuracies.

Gouyon et al., "An experimental comparison of audio tempo induction algorithms"
(2006). Where two listeners tap, one may tap every other beat: accuracy 2 takes
double, triple, half and a third of the tempo for right.
"""

import numpy as np
import numpy.typing as npt

TOLERANCE = 0.04  # paper
FACTORS = (1.0, 2.0, 3.0, 1 / 2, 1 / 3)  # paper


def accuracy1(asked: npt.ArrayLike, heard: npt.ArrayLike) -> np.ndarray:
  """Whether beats a minute agree within 4 %; arrays broadcast."""
  return _near(asked, heard, FACTORS[:1])


def accuracy2(asked: npt.ArrayLike, heard: npt.ArrayLike) -> np.ndarray:
  """The same at any of the `FACTORS`.

  >>> accuracy2([120.0, 120.0, 120.0], [59.0, 361.0, 180.0]).tolist()
  [True, True, False]
  """
  return _near(asked, heard, FACTORS)


def _near(asked, heard, factors):
  asked, heard = np.asarray(asked, float), np.asarray(heard, float)
  return np.any([np.abs(heard - f * asked) <= TOLERANCE * f * asked
                 for f in factors], axis=0)
