"""One small token cache for all tests of this folder."""

import pytest


@pytest.fixture(scope='session')
def cache_dir(tmp_path_factory):
  import fake_tokens  # pylint: disable=g-import-not-at-top

  from musiclm_jax.tokens import precompute  # pylint: disable=g-import-not-at-top
  root = tmp_path_factory.mktemp('tokens')
  corpus = fake_tokens.write_corpus(root / 'corpus')
  precompute.tokenize(fake_tokens.tokenizers(), corpus, root / 'cache',
                      shard_seconds=60)
  return root / 'cache'
