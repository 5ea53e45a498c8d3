"""MuLan's loss against a double loop, its chance value, and retrieval."""

import jax
import numpy as np
import pytest

from musiclm_jax.tokenizers.mulan import losses


def _pairs(batch=7, dim=5, seed=0):
  rng = np.random.default_rng(seed)
  unit = lambda x: x / np.linalg.norm(x, axis=-1, keepdims=True)
  return [unit(rng.normal(size=(batch, dim))).astype(np.float32)
          for _ in range(2)]


@pytest.mark.parametrize('temperature', [0.05, 0.1, 1.0])
def test_equals_the_formula_term_by_term(temperature):
  audio, text = _pairs()
  h = lambda a, b: np.exp(np.dot(a.astype(np.float64), b) / temperature)
  total = 0.0
  for i in range(len(audio)):
    below = 0.0
    for j in range(len(audio)):
      if j != i:  # the positive is not in the denominator
        below += h(audio[i], text[j]) + h(audio[j], text[i])
    total -= np.log(h(audio[i], text[i]) / below)
  np.testing.assert_allclose(
      losses.contrastive(audio, text, temperature), total / len(audio),
      rtol=1e-5)


def test_other_captions_stand_in_the_denominator_of_the_audio_alone():
  (audio, text), (_, other) = _pairs(), _pairs(batch=11, seed=1)
  h = lambda a, b: np.exp(np.dot(a.astype(np.float64), b) / 0.1)
  total = 0.0
  for i in range(len(audio)):
    below = sum(h(audio[i], text[j]) + h(audio[j], text[i])
                for j in range(len(audio)) if j != i)
    below += sum(h(audio[i], row) for row in other)
    total -= np.log(h(audio[i], text[i]) / below)
  np.testing.assert_allclose(
      losses.contrastive(audio, text, 0.1, other), total / len(audio),
      rtol=1e-5)
  same = np.tile(audio[:1], (4, 1))
  np.testing.assert_allclose(
      losses.contrastive(same, same, 0.1, np.tile(audio[:1], (9, 1))),
      losses.chance(4, 9), rtol=1e-5)


@pytest.mark.parametrize('batch', [2, 6, 33])
def test_equal_embeddings_are_at_chance(batch):
  same = np.tile(_pairs(1)[0], (batch, 1))
  np.testing.assert_allclose(
      losses.contrastive(same, same, 0.1), np.log(2 * (batch - 1)), rtol=1e-5)
  np.testing.assert_allclose(
      losses.chance(batch), np.log(2 * (batch - 1)), rtol=1e-6)


def test_symmetric_in_the_towers_and_negative_when_learned():
  audio, text = _pairs()
  np.testing.assert_allclose(losses.contrastive(audio, text, 0.1),
                             losses.contrastive(text, audio, 0.1), rtol=1e-6)
  apart = np.eye(5, dtype=np.float32)
  # -(1 / 0.1) + ln(2 * 4): far below zero, as no positive is below the line.
  np.testing.assert_allclose(
      losses.contrastive(apart, apart, 0.1), -10 + np.log(8), rtol=1e-5)


def test_gradient_at_cold_temperatures_is_finite():
  audio, text = _pairs()
  grads = jax.grad(losses.contrastive, argnums=(0, 1, 2))(audio, text, 0.01)
  assert all(np.isfinite(g).all() for g in grads)


def test_retrieval_ranks():
  items = np.eye(4, dtype=np.float32)
  queries = items[[0, 1, 3, 2]]  # rows 2 and 3 find each other's
  assert losses.retrieval(queries, items, 1) == 0.5
  assert losses.retrieval(queries, items, 4) == 1.0
  constant = np.ones((4, 4), np.float32)
  assert losses.retrieval(constant, constant, 1) == 0.0
