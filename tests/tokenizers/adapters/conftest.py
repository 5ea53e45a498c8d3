"""Each small model, saved once."""

import pytest
import small_foreign


@pytest.fixture(scope='session')
def models(tmp_path_factory):
  """(builder, kind) -> folder, each saved once."""
  import torch  # pylint: disable=g-import-not-at-top
  torch.set_num_threads(1)  # threads that wait cost more than they do
  made = {}

  def folder(build, kind):
    if (build, kind) not in made:
      path = tmp_path_factory.mktemp('models') / kind
      save = getattr(small_foreign, build)  # codec, encoder or clap
      made[build, kind] = save(path) if build == 'clap' else save(kind, path)
    return made[build, kind]

  return folder
