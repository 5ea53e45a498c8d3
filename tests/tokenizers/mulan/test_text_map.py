"""The linear map from text to audio: least squares, and its way to a bundle."""

import numpy as np
from scipy import optimize

from musiclm_jax import specs
from musiclm_jax.tokenizers.mulan import embedder
from musiclm_jax.tokenizers.mulan import rvq


def _pairs(count=60, dim=6, seed=0):
  rng = np.random.default_rng(seed)
  text = rng.normal(size=(count, dim))
  audio = text @ rng.normal(size=(dim, dim)) + 0.5 + 0.1 * rng.normal(
      size=(count, dim))
  return audio, text


def test_it_is_the_minimum_of_the_ridge_loss():
  audio, text = _pairs()
  found = rvq.text_map(audio, text, 2.0)
  centred = text - text.mean(0), audio - audio.mean(0)

  def loss(flat):
    matrix = flat.reshape(6, 6)
    return (np.square(centred[0] @ matrix - centred[1]).sum()
            + 2.0 * np.square(matrix).sum())

  best = optimize.minimize(loss, np.zeros(36), method='L-BFGS-B', options=dict(
      maxiter=2_000, ftol=1e-14, gtol=1e-10)).x.reshape(6, 6)
  np.testing.assert_allclose(found['text_map'], best, atol=1e-3)
  # The means of both clouds meet.
  np.testing.assert_allclose(
      text.mean(0) @ found['text_map'] + found['text_shift'], audio.mean(0),
      atol=1e-5)


def test_a_caption_comes_nearer_to_its_recording():
  audio, text = _pairs()
  unit = lambda x: x / np.linalg.norm(x, axis=-1, keepdims=True)
  fitted = rvq.fit_codebooks(
      unit(audio), unit(text), specs.JointSpec(
          embedding_dim=6, num_codebooks=2, codebook_size=8),
      rvq.MulanRvqConfig(text_map=0.1, include_text=True, iters=2),
      (unit(audio), unit(text)))
  moved = embedder.moved(
      unit(text), fitted['text_shift'], fitted['text_map'])
  np.testing.assert_allclose(np.linalg.norm(moved, axis=-1), 1.0, rtol=1e-5)
  near = lambda x: np.mean(np.sum(x * unit(audio), axis=-1))
  shift = unit(audio).mean(0) - unit(text).mean(0)
  assert near(moved) > near(embedder.moved(unit(text), shift)) + 0.1
  assert fitted['codebooks'].shape == (2, 8, 6)


def test_without_a_map_or_shift_nothing_moves():
  _, text = _pairs()
  assert embedder.moved(text, np.zeros(6)) is text
