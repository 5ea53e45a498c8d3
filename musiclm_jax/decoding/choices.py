"""What a decoder may calculate with, and how many rows at once.

The standard library only: a command that shows its help reads them here.
"""

from musiclm_jax import errors

ROW_COUNTS = (1, 2, 4, 8)  # rows of a program; fewer are padded
MAX_ROWS = ROW_COUNTS[-1]  # drawn at once; others come after
WEIGHTS = ('float32', 'bfloat16', 'int8')


def check_weights(weights: str | None) -> str | None:
  """`weights`, of WEIGHTS or None; UserError for any other."""
  if weights is not None and weights not in WEIGHTS:
    raise errors.choice('weights', weights, WEIGHTS)
  return weights
