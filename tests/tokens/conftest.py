"""One small token cache for all tests of this folder."""

import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))


@pytest.fixture(scope='session')
def cache_dir(tmp_path_factory):
  import fake_tokens  # pylint: disable=g-import-not-at-top
  from musiclm_jax import precompute  # pylint: disable=g-import-not-at-top
  root = tmp_path_factory.mktemp('tokens')
  corpus = fake_tokens.write_corpus(root / 'corpus')
  precompute.tokenize(fake_tokens.tokenizers(), corpus, root / 'cache',
                      shard_seconds=60)
  return root / 'cache'
