"""Gives raters what they hear next, and takes their answers.

A slot that was given and not answered is kept for its rater for a while, then
another may get it. Who comes back later is where they were all the same; the
rating is then one more than planned.
"""

from __future__ import annotations

import dataclasses
import math
import pathlib
import random
import time

from musiclm_jax.listening import design
from musiclm_jax.listening import folder
from musiclm_jax.listening import store as store_lib

HOLD_S = 30 * 60.0  # ours: how long a slot waits for the rater who left
MOST_COMMENT = 2_000  # characters
# The page counts what was heard by the player's clock, which is coarse.
_TOLERANCE_S = 0.5


class Refusal(Exception):
  """Something that this rater cannot do now; the message is for them."""


@dataclasses.dataclass(frozen=True)
class Shown:
  """What a rater's page may know of where they are.

  Attributes:
    rated: how many answers this rater gave.
    total: how many they are asked for.
    trial: token of the trial before them; '' when they are done.
    caption: of it; '' without one.
    hear_seconds: of either clip before an answer.
  """

  rated: int
  total: int
  trial: str = ''
  caption: str = ''
  hear_seconds: float = 0.0


class Desk:
  """A test and what is known of its raters. For several threads."""

  def __init__(self, test: folder.Test, store: store_lib.Store):
    self.test = test
    self._store = store

  def join(self) -> str:
    """The token of a new rater."""
    return self._store.join()

  def known(self, token: str) -> bool:
    """Whether a token is a rater's."""
    return self._store.rater(token) is not None

  def current(self, token: str) -> Shown:
    """Where a rater is; gives them a trial where they have none."""
    with self._store.transaction():
      rater = self._rater(token)
      trials = self._store.trials(rater)
      rated = sum(trial.answered for trial in trials)
      trial = next((t for t in trials if not t.answered), None)
      if trial is None and rated < self.test.per_rater:
        trial = self._next(rater, trials)
    if trial is None:
      return Shown(rated, rated)
    slot = self.test.slots[trial.slot]
    return Shown(rated, self.test.per_rater, trial.token,
                 self.test.captions[slot.clip], self.test.needed(slot))

  def answer(self, token: str, trial: str, answer: int, comment: str = '',
             heard: tuple[float, float] = (0.0, 0.0)) -> Shown:
    """Keeps an answer to a trial of this rater, and says what comes next.

    A trial that is answered already keeps its first answer. Answer and next
    trial are kept together: waiting for the disk is most of the time here.

    Args:
      token: the rater's.
      trial: the trial's.
      answer: of design.ANSWERS.
      comment: cut to MOST_COMMENT characters.
      heard: seconds of A and of B.

    Raises:
      Refusal: it is not this rater's trial, there is no such answer, or one of
        the clips has not been heard.
    """
    if answer not in design.ANSWERS:
      raise Refusal(f'There is no answer {answer}.')
    found = self._trial(token, trial)
    needed = self.test.needed(self.test.slots[found.slot]) - _TOLERANCE_S
    if not all(math.isfinite(x) and x >= needed for x in heard):
      raise Refusal('Please listen to both first.')
    with self._store.transaction():
      self._store.answer(found, answer, comment.strip()[:MOST_COMMENT], *heard)
      return self.current(token)

  def sound(self, token: str, trial: str, side: str) -> pathlib.Path:
    """The file of 'a' or 'b' of a trial of this rater.

    Raises:
      Refusal: it is not this rater's trial.
    """
    found = self._trial(token, trial)
    return self.test.sound(self.test.slots[found.slot], side)

  def _rater(self, token):
    rater = self._store.rater(token)
    if rater is None:
      raise Refusal('Nobody has begun here; please open the first page again.')
    return rater

  def _trial(self, token, trial):
    found = next((t for t in self._store.trials(self._rater(token))
                  if t.token == trial), None)
    if found is None:
      raise Refusal('There is no such pair for you; please load the page again.')
    return found

  def _next(self, rater, trials):
    """A new trial, or None where nothing is left for this rater."""
    number = design.choose(
        self.test.slots, self._store.taken(time.time() - HOLD_S),
        [trial.slot for trial in trials],
        random.Random(f'{self.test.key_sha256} {rater} {len(trials)}'))
    return None if number is None else self._store.give(rater, number)
