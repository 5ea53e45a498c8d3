"""Scores of whole targets, beside NumPy's own softmax."""

import numpy as np
import pytest
import tiny_stage


@pytest.mark.parametrize('name, head', [
    ('semantic', 'vocab'), ('coarse', 'target')])
def test_it_is_the_sum_of_the_log_probabilities(name, head):
  trained = tiny_stage.trained(name, head=head)
  model, target = trained.model, trained.layout.target
  codes = tiny_stage.codes(trained.layout)
  codes[target.name][1, -3:] = -1  # a track that ends
  batch = tiny_stage.batch_of(trained.layout, codes)
  logits = tiny_stage.logits(
      model, trained.params, batch['decoder_input_tokens'])
  labels = batch['decoder_target_tokens'][:, target.start:]
  real = labels != 0
  if head == 'target':
    labels = labels - target.level_first_ids()
  logits = logits.reshape(labels.shape + (-1,)).astype(np.float64)
  logs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
  chosen = np.take_along_axis(logs, np.maximum(labels, 0)[..., None], -1)[..., 0]
  found = np.asarray(model.log_likelihood(trained.params, batch))
  np.testing.assert_allclose(found, (chosen * real).sum(-1), rtol=1e-5)
  loss = model.loss(trained.params, batch)[1]['loss']
  assert found.sum() == pytest.approx(-float(loss) * real.sum(), rel=1e-5)
