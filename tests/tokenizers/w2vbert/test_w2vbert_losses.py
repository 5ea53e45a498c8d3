"""The three losses against loops in NumPy and hand values."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from musiclm_jax.tokenizers.w2vbert import losses


def _case(seed=0, batch=2, length=12, dim=5, num_ids=4):
  rng = np.random.default_rng(seed)
  masked = rng.random((batch, length)) < 0.6
  masked[:, :3] = True
  return dict(
      context=rng.normal(size=(batch, length, dim)).astype(np.float32),
      quantized=rng.normal(size=(batch, length, dim)).astype(np.float32),
      ids=rng.integers(num_ids, size=(batch, length)), masked=masked)


def test_distractors_are_other_masked_steps_of_the_row():
  masked = _case()['masked']
  counts = np.asarray(losses.distractor_counts(
      jax.random.PRNGKey(0), masked, 100))
  assert not np.diagonal(counts, axis1=1, axis2=2).any()
  np.testing.assert_array_equal(counts.sum(-1), 100.0 * masked)
  drawn = counts.sum(1) > 0
  np.testing.assert_array_equal(drawn, masked)  # 100 draws reach all of them


def test_distractors_are_drawn_evenly():
  masked = np.ones((1, 6), bool)
  counts = np.asarray(losses.distractor_counts(
      jax.random.PRNGKey(0), masked, 20_000))[0]
  off = counts[~np.eye(6, dtype=bool)]
  assert abs(off / 4_000 - 1.0).max() < 0.06


def test_lone_masked_step_has_no_distractors():
  masked = np.zeros((1, 5), bool)
  masked[0, 2] = True
  counts = losses.distractor_counts(jax.random.PRNGKey(0), masked, 10)
  assert not np.any(counts)


@pytest.mark.parametrize('exclude_equal', [False, True])
def test_contrastive_equals_a_loop(exclude_equal):
  case = _case()
  counts = np.asarray(losses.distractor_counts(
      jax.random.PRNGKey(1), case['masked'], 7))
  unit = lambda x: x / np.linalg.norm(x, axis=-1, keepdims=True)
  context, quantized = unit(case['context']), unit(case['quantized'])
  expected, correct = [], []
  for b, t in zip(*np.nonzero(case['masked'])):
    others = []
    for s in range(case['masked'].shape[1]):
      if exclude_equal and case['ids'][b, s] == case['ids'][b, t]:
        continue
      others += [context[b, t] @ quantized[b, s] / 0.1] * int(counts[b, t, s])
    if not others:
      continue
    own = context[b, t] @ quantized[b, t] / 0.1
    expected.append(np.log(np.exp(own) + np.exp(others).sum()) - own)
    correct.append(own > max(others))
  loss, accuracy = losses.contrastive(
      counts=counts, temperature=0.1, exclude_equal=exclude_equal, **case)
  np.testing.assert_allclose(loss, np.mean(expected), rtol=1e-4)
  np.testing.assert_allclose(accuracy, np.mean(correct), rtol=1e-6)


def test_contrastive_of_equal_candidates_is_at_chance():
  case = _case()
  case['quantized'] = np.ones_like(case['quantized'])
  counts = losses.distractor_counts(
      jax.random.PRNGKey(1), case['masked'], 100)
  loss, accuracy = losses.contrastive(
      counts=counts, temperature=0.1, exclude_equal=False, **case)
  np.testing.assert_allclose(loss, np.log(101), rtol=1e-4)
  assert accuracy == 0.0


def test_chance_counts_the_distractors_that_are_left():
  case = _case()
  counts = losses.distractor_counts(
      jax.random.PRNGKey(1), case['masked'], 100)
  chance = lambda ids, exclude: losses.contrastive_chance(
      ids, case['masked'], counts, exclude)
  np.testing.assert_allclose(
      chance(case['ids'], False), np.log(101), rtol=1e-5)
  assert chance(case['ids'], True) < np.log(101) - 0.1
  assert chance(np.zeros_like(case['ids']), True) == 0.0  # collapsed


def test_a_collapsed_codebook_is_no_way_out():
  case = _case()
  case['ids'] = np.zeros_like(case['ids'])
  case['quantized'] = np.ones_like(case['quantized'])
  counts = losses.distractor_counts(
      jax.random.PRNGKey(1), case['masked'], 100)
  at = lambda exclude: losses.contrastive(
      counts=counts, temperature=0.1, exclude_equal=exclude, **case)[0]
  np.testing.assert_allclose(at(False), np.log(101), rtol=1e-4)
  assert at(True) == 0.0  # why excluding equal ids is not the default


def test_diversity_of_known_distributions():
  valid = np.ones((1, 4), bool)
  even = np.zeros((1, 4, 8), np.float32)
  loss, perplexity = losses.diversity(even, valid)
  np.testing.assert_allclose([loss, perplexity], [0.0, 8.0], atol=1e-4)
  one = 50.0 * np.eye(8, dtype=np.float32)[None, [3, 3, 3, 3]]
  loss, perplexity = losses.diversity(one, valid)
  np.testing.assert_allclose([loss, perplexity], [7 / 8, 1.0], atol=1e-4)
  # Steps that are padding have no say.
  two = 50.0 * np.eye(8, dtype=np.float32)[None, [3, 5, 1, 1]]
  _, perplexity = losses.diversity(two, np.array([[1, 1, 0, 0]], bool))
  np.testing.assert_allclose(perplexity, 2.0, atol=1e-4)


def test_code_perplexity():
  ids = np.array([[0, 1, 2, 3, 3, 3]])
  valid = np.array([[1, 1, 1, 1, 0, 0]], bool)
  np.testing.assert_allclose(
      losses.code_perplexity(jnp.asarray(ids), valid, 16), 4.0, rtol=1e-4)


def test_prediction_of_even_logits_is_ln_k():
  logits = np.zeros((1, 5, 1024), np.float32)
  masked = np.array([[1, 0, 1, 0, 0]], bool)
  loss, _ = losses.prediction(logits, np.full((1, 5), 7), masked)
  np.testing.assert_allclose(loss, np.log(1024), rtol=1e-5)


def test_prediction_counts_masked_steps_only():
  logits = 20.0 * np.eye(4, dtype=np.float32)[None, [1, 2, 3]]
  ids = np.array([[1, 0, 3]])
  right = losses.prediction(logits, ids, np.array([[1, 0, 1]], bool))
  np.testing.assert_allclose(right, [0.0, 1.0], atol=1e-5)
  wrong = losses.prediction(logits, ids, np.array([[0, 1, 0]], bool))
  np.testing.assert_allclose(wrong, [20.0, 0.0], atol=1e-4)
