"""Batches as a pure function of (seed, step)."""

import collections
import doctest
import itertools
import json
import time

import fake_tokens
import host_shares
import numpy as np
import pytest

from musiclm_jax import errors
from musiclm_jax import specs
from musiclm_jax.tokens import cache as cache_lib
from musiclm_jax.tokens import crops
from musiclm_jax.tokens import layout as layout_lib
from musiclm_jax.tokens import source
from musiclm_jax.training import shares

STAGE = specs.StageSpec('coarse', fake_tokens.TOKENS)


def make(cache_dir, **kwargs):
  defaults = dict(stage=STAGE, batch_size=3, seed=5)
  return source.TaskBatches(str(cache_dir), **{**defaults, **kwargs})


def take(batches, count):
  return list(itertools.islice(batches, count))


def assert_equal(some, others):
  assert len(some) == len(others)
  for a, b in zip(some, others):
    assert set(a) == set(b)
    for name in a:
      np.testing.assert_array_equal(a[name], b[name])


@pytest.mark.parametrize('module', [crops, source])
def test_examples_in_docstrings(module):
  result = doctest.testmod(module)
  assert result.attempted and not result.failed


def test_order_covers_each_epoch_once():
  order = crops.Order([45, 3, 20], 10, seed=1)
  assert order.epoch_length == 4 + 1 + 2
  for epoch in range(3):
    rows = [order.example(epoch * 7 + i) for i in range(7)]
    assert collections.Counter(t for t, _ in rows) == {0: 4, 1: 1, 2: 2}
    assert len({tuple(s) for _, s in rows}) == 7
  epochs = [[order.example(e * 7 + i)[0] for i in range(7)] for e in range(3)]
  assert epochs[0] != epochs[1] or epochs[1] != epochs[2]


def test_order_depends_on_the_seed_and_nothing_else():
  a, b = crops.Order([45] * 9, 10, 1), crops.Order([45] * 9, 10, 1)
  other = crops.Order([45] * 9, 10, 2)
  # Asked for in another order, and far away first.
  backwards = {i: b.example(i) for i in [10**12] + list(range(80))[::-1]}
  for i in range(80):
    track, seed = a.example(i)
    assert track == backwards[i][0]
    np.testing.assert_array_equal(seed, backwards[i][1])
  assert any(a.example(i)[0] != other.example(i)[0] for i in range(80))


def test_batches_are_sequences_of_the_layout(cache_dir):
  layout = layout_lib.for_stage(STAGE)
  for batch in take(make(cache_dir).batches(0), 4):
    targets = batch['decoder_target_tokens']
    assert targets.shape == (3, layout.length) and targets.dtype == np.int32
    layout.split(targets)  # raises where an id is not of its level
    np.testing.assert_array_equal(
        batch['decoder_input_tokens'][:, 1:], targets[:, :-1])
    assert not batch['decoder_input_tokens'][:, 0].any()
    np.testing.assert_array_equal(
        batch['decoder_loss_weights'],
        (targets != 0) * layout.target_weights())


def test_resumed_equals_uninterrupted(cache_dir):
  whole = take(make(cache_dir).batches(0), 9)  # four epochs of 7 crops
  assert_equal(whole, take(make(cache_dir).batches(0), 9))
  for start in (1, 4, 8):
    assert_equal(whole[start:], take(make(cache_dir).batches(start), 9 - start))
  other = take(make(cache_dir, seed=6).batches(0), 9)
  assert any((a['decoder_target_tokens'] != b['decoder_target_tokens']).any()
             for a, b in zip(whole, other))
  assert (whole[0]['decoder_target_tokens'] !=
          whole[3]['decoder_target_tokens']).any()


def test_the_rows_of_hosts_are_those_of_one(cache_dir):
  host_shares.check(make(cache_dir, batch_size=4))


def test_a_host_reads_its_own_rows_only(cache_dir, monkeypatch):
  read, calls = cache_lib.Records.read, []
  monkeypatch.setattr(cache_lib.Records, 'read', lambda self, index: (
      calls.append(index), read(self, index))[1])
  share = shares.Share((1,), 4)
  batches = list(make(cache_dir, batch_size=4).eval_batches(share))
  assert len(calls) == len(batches)  # one row of four of each


def test_a_far_step_costs_what_the_first_does(cache_dir):
  batches = make(cache_dir)
  start = time.perf_counter()
  take(batches.batches(0), 1)
  first = time.perf_counter() - start
  start = time.perf_counter()
  take(batches.batches(10**9), 1)
  # Reading through 10^9 steps would take days; the margin is for a busy machine.
  assert time.perf_counter() - start < 10 * first + 10


def test_eval_batches_are_fixed_and_of_the_eval_split(cache_dir):
  some = list(make(cache_dir).eval_batches())
  assert len(some) == 4
  assert_equal(some, list(make(cache_dir, seed=9).eval_batches()))
  assert len(list(make(cache_dir, eval_batches_count=1).eval_batches())) == 1
  missing = list(make(cache_dir, eval_split='none').eval_batches())
  assert any((a['decoder_target_tokens'] != b['decoder_target_tokens']).any()
             for a, b in zip(some, missing))


def test_shapes_are_known_without_a_cache(cache_dir):
  source_ = make(cache_dir)
  found = {k: (v.shape, v.dtype) for k, v in make('none').batch_shapes().items()}
  batch = next(source_.batches(0))
  assert found == {k: (v.shape, v.dtype) for k, v in batch.items()}


def test_it_names_the_corpus_that_was_tokenised(cache_dir):
  kept = json.loads((cache_dir / 'fingerprint.json').read_text())
  assert make(cache_dir).origin == dict(
      corpus=kept['corpus']['name'], cache=kept['fingerprint'],
      conditioning=dict(dropout={}, text_share=0.0, noise=0.0))


def test_unigram_entropies_are_those_of_the_evaluation_targets(cache_dir):
  batches = make(cache_dir, eval_batches_count=2)
  target = layout_lib.for_stage(STAGE).target
  counts = [collections.Counter() for _ in range(4)]
  for batch in batches.eval_batches():
    tokens = batch['decoder_target_tokens'][:, target.start:]
    for position, token in itertools.product(range(target.length), range(3)):
      if tokens[token, position]:
        counts[position % 4][tokens[token, position]] += 1
  expected = []
  for count in counts:
    shares = np.array(list(count.values())) / sum(count.values())
    expected.append(-(shares * np.log(shares)).sum() +
                    (len(count) - 1) / (2 * sum(count.values())))
  found = batches.baselines()
  assert found.pop('unigram_entropy') == pytest.approx(np.mean(expected))
  assert found == pytest.approx({
      f'unigram_entropy/level_{i + 1}': x for i, x in enumerate(expected)})
  fine = make(cache_dir, stage=specs.StageSpec('fine', fake_tokens.TOKENS))
  assert set(fine.baselines()) == {'unigram_entropy'} | {
      f'unigram_entropy/level_{i}' for i in range(5, 13)}
  one = make(cache_dir, stage=specs.StageSpec('semantic', fake_tokens.TOKENS))
  assert set(one.baselines()) == {'unigram_entropy'}


def test_task_names_and_lengths_are_checked(cache_dir):
  lengths = {'inputs': 3 + 1 + 250 + 1, 'targets': 2000}
  assert crops.feature_lengths(STAGE) == lengths
  good = make(cache_dir, task_name='musiclm_coarse',
              task_feature_lengths=lengths)
  assert len(take(good.batches(0), 1)) == 1
  with pytest.raises(errors.UserError, match="expected 'musiclm_coarse'"):
    next(make(cache_dir, task_name='musiclm_fine').batches(0))
  with pytest.raises(errors.UserError, match='crops of 10 s needs'):
    next(make(cache_dir, task_feature_lengths={'inputs': 1, 'targets': 2000}
              ).batches(0))
  with pytest.raises(errors.UserError, match='joint.num_codebooks'):
    next(make(cache_dir, stage=specs.StageSpec('coarse')).batches(0))
  with pytest.raises(errors.UserError, match='not a finished token cache'):
    next(make('').batches(0))
