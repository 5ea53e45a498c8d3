"""Divergence between what a classifier hears in two clips: KLD.

MusicLM's KLD compares the predictions of an AudioSet classifier on generated
audio with those on the recording whose caption it was made from; it does not say
how predictions of a multi-label classifier become a distribution. AudioGen's
evaluation takes the softmax of the logits, and the recording's distribution
first:

  KL(p || q) = sum over classes of p (log p - log(q + 1e-6))

Beside it here: the reverse, and the divergence of the tags as independent yes or
no, which is what such a classifier is trained to tell.

>>> same, other = np.array([[2., 0., 0.]]), np.array([[0., 2., 0.]])
>>> softmax_kl(same, other).round(3), softmax_kl(same, same).round(3)
(array([1.361]), array([-0.]))
"""

import numpy as np
import numpy.typing as npt

EPSILON = 1e-6  # AudioGen's


def softmax_kl(reference: npt.ArrayLike, other: npt.ArrayLike) -> np.ndarray:
  """KL(softmax(reference) || softmax(other) + 1e-6) of pairs, in nats.

  The 1e-6 keeps it under log(1e6), and lets it fall below 0 by C * 1e-6.

  Args:
    reference: [n, C] logits.
    other: [n, C] logits.

  Returns:
    [n] float64.

  Raises:
    ValueError: shapes that differ.
  """
  reference, other = _pair(reference, other)
  log_p = _log_softmax(reference)
  log_q = np.log(np.exp(_log_softmax(other)) + EPSILON)
  return np.sum(np.exp(log_p) * (log_p - log_q), axis=-1)


def softmax_kl_of_all(
    reference: npt.ArrayLike, other: npt.ArrayLike) -> np.ndarray:
  """`softmax_kl` of everything with everything.

  Args:
    reference: [n, C] logits.
    other: [m, C] logits.

  Returns:
    [n, m] float64.
  """
  log_p = _log_softmax(np.asarray(reference, np.float64))
  log_q = np.log(np.exp(_log_softmax(np.asarray(other, np.float64))) + EPSILON)
  p = np.exp(log_p)
  return np.sum(p * log_p, axis=-1)[:, None] - p @ log_q.T


def bernoulli_kl(reference: npt.ArrayLike, other: npt.ArrayLike) -> np.ndarray:
  """Each class as a yes or no of its own: the sum of their divergences, in nats.

    sum over classes of p log(p / q) + (1 - p) log((1 - p) / (1 - q)),
    p = sigmoid(reference), q = sigmoid(other)

  Args:
    reference: [n, C] logits.
    other: [n, C] logits.

  Returns:
    [n] float64; it has no bound.
  """
  x, y = _pair(reference, other)
  p = np.exp(_log_sigmoid(x))
  yes = _log_sigmoid(x) - _log_sigmoid(y)
  no = _log_sigmoid(-x) - _log_sigmoid(-y)
  return np.sum(p * yes + np.exp(_log_sigmoid(-x)) * no, axis=-1)


def _pair(one, other):
  one, other = np.asarray(one, np.float64), np.asarray(other, np.float64)
  if one.shape != other.shape or one.ndim != 2:
    raise ValueError(
        f'logits have the shapes {one.shape} and {other.shape}; expected the '
        f'same [n, C].')
  return one, other


def _log_softmax(x):
  x = x - x.max(axis=-1, keepdims=True)
  return x - np.log(np.sum(np.exp(x), axis=-1, keepdims=True))


def _log_sigmoid(x):
  return -np.logaddexp(0.0, -x)
