"""A precomputation of the toy corpus that tests end as they like.

  python -m tests.helpers.killable CORPUS CACHE RUNNER NOTES

Who works leaves its number in the folder NOTES, and takes its time.
"""

import functools
import os
import pathlib
import sys
import time

from musiclm_jax import errors
from musiclm_jax import records
from musiclm_jax import workers
from musiclm_jax.tokens import precompute
from tests.helpers import fake_tokens

SHARD_SECONDS = 15  # six shards
_SECONDS = 1.0  # of work on a shard


def load(notes):
  """Tokenizers that are slow, and known by their process."""
  made = fake_tokens.tokenizers()
  embed_text = made.joint.embed_text

  def slow(texts):
    place = pathlib.Path(notes, str(os.getpid()))
    place.touch()
    time.sleep(_SECONDS)
    place.unlink()
    return embed_text(texts)

  made.joint.embed_text = slow
  return made


def main():
  from tests.helpers import killable  # pylint: disable=g-import-not-at-top
  corpus, cache, runner, notes = sys.argv[1:]
  try:
    precompute.tokenize(
        load(notes), records.Corpus(corpus), cache, shard_seconds=SHARD_SECONDS,
        options=workers.Options(runner, workers=3 if runner == 'beam' else 1),
        # By the name of this module, which workers know; they have another main.
        load=functools.partial(killable.load, notes))
  except errors.UserError as error:
    sys.exit(str(error))


if __name__ == '__main__':
  main()
