"""Embeddings that begin from the codebooks of the tokenizers."""

import dataclasses

import jax
import numpy as np
import pytest
import tiny_stage

from musiclm_jax.systems.musiclm.stages import codebook_embeddings
from musiclm_jax.tokens import cache as cache_lib

STDDEV = 0.2


def codebooks(seed=0):
  """Those of a codec of 12 x 16 alone."""
  rng = np.random.default_rng(seed)
  return dict(acoustic=3.0 + rng.standard_normal((12, 16, 64)) * np.geomspace(
      100, 1, 12)[:, None, None])


def made(name, books, **settings):
  stage = tiny_stage.stage_model(
      name, embed_dim=64, embed_stddev=STDDEV, **settings)
  params = tiny_stage.init(stage)
  return stage.layout, params, codebook_embeddings.embeddings(
      params, stage.layout, books, STDDEV, jax.random.key(1),
      stage.spec.sources)


def distances(vectors):
  gaps = vectors[:, None] - vectors[None]
  return np.sqrt((gaps**2).sum(-1))[np.triu_indices(len(vectors), 1)]


def test_alike_where_their_vectors_are_alike():
  books = codebooks()
  near = books['acoustic'][2]
  near[1] = near[0] + 0.05 * (near[1] - near[0])
  layout, params, found = made('coarse', books)
  ids = layout.target.first_id + 2 * 16
  for table, scale in ((found['token_embedding'][ids:ids + 16], STDDEV),
                       (found['logits_embedding'][32:48], 64**-0.5)):
    table = np.asarray(table)
    gaps, expected = distances(table), distances(near)
    assert np.argmin(gaps) == 0 and 0 < gaps[0] < 0.7 * gaps[1:].min()
    assert np.corrcoef(gaps, expected)[0, 1] > 0.7
    assert 0.75 * scale < table.std() < 1.25 * scale
  before = np.asarray(params['token_embedding'][ids:ids + 16])
  assert np.argmin(distances(before)) != 0  # at random they were not


def test_what_has_no_codebook_stays_random():
  layout, params, found = made('coarse', codebooks())
  known = np.zeros(len(params['token_embedding']), bool)
  known[layout.target.first_id:layout.target.last_id] = True
  moved = (np.asarray(params['token_embedding']) !=
           np.asarray(found['token_embedding'])).any(-1)
  np.testing.assert_array_equal(moved, known)
  for name in set(params) - {'token_embedding', 'logits_embedding'}:
    assert found[name] is params[name]


def test_the_fine_stage_takes_the_later_levels():
  """Both segments through one matrix: equal vectors, equal but for the level."""
  books = codebooks()
  books['acoustic'][4] = books['acoustic'][0]  # fine's first level, coarse's
  layout, _, found = made('fine', books)
  coarse, fine = layout.placed
  part = lambda first: np.asarray(found['token_embedding'])[first:first + 16]
  centred = lambda x: (x - x.mean(0)).ravel()
  alike = lambda a, b: np.corrcoef(centred(a), centred(b))[0, 1]
  assert alike(part(coarse.first_id), part(fine.first_id)) > 0.7
  assert abs(alike(part(coarse.first_id), part(fine.first_id + 16))) < 0.3


def test_only_the_rows_of_the_target():
  layout, params, found = made('fine', codebooks(), head='vocab')
  moved = (np.asarray(params['logits_embedding']) !=
           np.asarray(found['logits_embedding'])).any(-1)
  target = layout.target
  assert moved[target.first_id:target.last_id].all()
  assert moved.sum() == target.num_ids


def test_codebooks_of_another_size():
  books = codebooks()
  books['acoustic'] = books['acoustic'][:, :8]
  with pytest.raises(ValueError, match=r'\(4, 8, 64\); expected \(4, 16\)'):
    made('coarse', books)


def test_a_stage_begins_from_its_cache(tmp_path, monkeypatch):
  stage = tiny_stage.stage_model('coarse')
  plain = tiny_stage.init(stage)
  looked_at = dataclasses.replace(stage, start_from=str(tmp_path / 'none'))
  same = lambda a, b: all(
      np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a),
                                           jax.tree.leaves(b)))
  assert same(tiny_stage.init(looked_at), plain)

  class Cache:

    def __init__(self, directory):
      assert directory == 'cache'
      self.codebooks = codebooks()

  monkeypatch.setattr(cache_lib, 'is_finished', lambda d: d == 'cache')
  monkeypatch.setattr(cache_lib, 'Cache', Cache)
  begun = tiny_stage.init(dataclasses.replace(stage, start_from='cache'))
  assert not same(begun, plain)
  assert jax.tree.map(np.shape, begun) == jax.tree.map(np.shape, plain)
