"""A bundle of one component, which a test hands over."""

from musiclm_jax import bundle as bundle_lib
from musiclm_jax import specs


class Bundle(bundle_lib.Bundle):
  """Has the component `name` and no other."""

  def __init__(self, directory, name, embedder):
    bundle_lib.write_manifest(directory, specs.TokenSpec(), name='fake')
    super().__init__(directory)
    self._name = name
    self._embedder = embedder

  def has(self, name):
    return name == self._name

  def get(self, name):
    assert name == self._name
    return self._embedder

  def weights_fingerprint(self):
    return '0' * 16  # it has no files
