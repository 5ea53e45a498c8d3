"""Classifier-free guidance: conditions heeded more, or less, than was learned.

A stage that has learned to go without a condition c (CONDITION_DROPOUT) tells
what c changes. Its logits are moved further that way:

  logits = l(all) + sum over c of (scale_c - 1) (l(all) - l(all but c))

Scale 1 is the stage as it is, 0 the stage without c, more than 1 heeds c more
(Ho and Salimans, 2022, with their 1 + w as the scale). Each guided condition
costs one more row: two conditions are guided by three rows, which differ in
their conditions and draw the same tokens. Two scales of their own are ours.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from musiclm_jax import errors
from musiclm_jax.tokens import layout as layout_lib

if TYPE_CHECKING:
  import jax

_WORDS = dict(mulan='the prompt', melody='the melody')


def in_force(layout: layout_lib.Layout, tokens: jax.Array | np.ndarray,
             scales: Iterable) -> tuple:
  """The (condition, scale) pairs that change something for these rows.

  Args:
    layout: a tokens.Layout.
    tokens: [B, L] int32; a condition that no row has cannot be guided.
    scales: pairs of a condition's name and its scale.
  """
  tokens, found = np.asarray(tokens), []
  names = {placed.name for placed in layout.placed[:-1]}
  for name, scale in scales:
    if scale == 1.0 or name not in names:
      continue
    place = layout.segment(name)
    if np.any(tokens[:, place.start:place.stop] != layout_lib.PAD_ID):
      found.append((name, scale))
  return tuple(found)


def variants(layout: layout_lib.Layout, tokens: jax.Array | np.ndarray,
             scales: Iterable) -> tuple[np.ndarray, np.ndarray]:
  """The rows with all conditions, then without each guided one.

  Args:
    layout: a tokens.Layout.
    tokens: [B, L] int32.
    scales: pairs, as of `in_force`.

  Returns:
    ([R * B, L] tokens, [R] float32: what each variant's logits weigh; their sum
    is 1).
  """
  tokens = np.asarray(tokens)
  parts, weights = [tokens], [1.0]
  for name, scale in scales:
    place = layout.segment(name)
    without = tokens.copy()
    without[:, place.start:place.stop] = layout_lib.PAD_ID
    parts.append(without)
    weights.append(1.0 - scale)
    weights[0] += scale - 1.0
  return np.concatenate(parts), np.asarray(weights, np.float32)


def mixed(scores: jax.Array, weights: jax.Array) -> jax.Array:
  """[R * B, K] logits of all variants -> [B, K]."""
  parts = scores.reshape((len(weights), -1) + scores.shape[1:])
  return (weights[:, None, None] * parts).sum(axis=0)


def check(name: str, optional: Sequence[str], scales: Iterable) -> None:
  """UserError for a condition that a stage has not learned to go without.

  Args:
    name: of the stage.
    optional: the conditions that it has learned to go without.
    scales: pairs of one of its conditions and a scale, as of `in_force`.
  """
  for condition, scale in scales:
    if condition not in optional:
      known = ', '.join(optional) or 'any of its conditions'
      without = f'has learned to go without {known} only' if optional else (
          f'has not learned to go without {known}')
      raise errors.UserError(
          f'guidance of {scale:g} on {_WORDS.get(condition, condition)} was '
          f'asked for, but the {name} stage {without}; leave guidance at 1, or '
          f'train the stage with CONDITION_DROPOUT.')
