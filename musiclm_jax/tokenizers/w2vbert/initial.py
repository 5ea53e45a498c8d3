"""Starting w2v-BERT from audio, so that a short training gets somewhere.

The paper starts from random numbers and has hundreds of thousands of steps. At
a few thousand steps of a few seconds each, neither loss leaves what guessing
gives: the ids are random hashes of the features, which neighbouring frames
rarely share, each is seen too seldom, and no id tells anything about another.
From a batch of audio come instead (ours):

- the quantizer's entries: k-means centroids of the standardised features, as
  SoundStream starts its codebooks. Ids are then places in the feature space,
  which last for as long as the sound does;
- the two heads: a context or an output that is the masked feature itself is
  nearest to the entry of its id. Predicting features, which is one map for all
  ids, is learned long before a thousand separate ids are;
- the input projection: features of mean 0 and deviation 1.
"""

from typing import Any

import jax
import jax.numpy as jnp

from musiclm_jax import errors
from musiclm_jax.nn import lloyd
from musiclm_jax.tokenizers.w2vbert import model as w2vbert_model

_ITERS = 10
_EPS = 1e-3


def from_audio(config: w2vbert_model.W2vBertConfig, params: dict[str, Any],
               audio: jax.Array, rng: jax.Array) -> dict[str, Any]:
  """`params` with quantizer, heads and input projection from a batch.

  Args:
    config: `W2vBertConfig`; codebook_dim must be dim.
    params: of a fresh `W2vBert`.
    audio: [B, N] float32 at 24 kHz; ceil(N / 960) B frames should be several
      times `codebook_size`.
    rng: PRNG key of the k-means.

  Returns:
    The parameters; other parts are as they were.

  Raises:
    UserError: codebook_dim is not dim.
  """
  if config.codebook_dim != config.dim:
    raise errors.UserError(
        f'start_from_audio with codebook_dim={config.codebook_dim} and '
        f'dim={config.dim}; they must be equal.')
  features, valid = w2vbert_model.W2vBert(config).apply(
      {'params': params}, audio, method='encode')
  mean, std = features.mean((0, 1)), features.std((0, 1)) + _EPS
  frames = w2vbert_model.standardize(features, valid).reshape(-1, config.dim)
  entries = lloyd.kmeans(rng, frames, config.codebook_size, _ITERS)
  # -|x - c|^2, without what all entries share, at the wanted deviation.
  kernel, bias = 2 * entries.T, -jnp.sum(jnp.square(entries), -1)
  scale = config.logit_scale / (jnp.std(frames @ kernel + bias) + _EPS)
  length = jnp.sqrt(-bias).mean() + _EPS
  project = params['input']['kernel'] / std[:, None]
  return {
      **params,
      'input': dict(kernel=project, bias=-mean @ project),
      'quantizer': dict(codebook=entries, logits=dict(
          kernel=scale * kernel, bias=scale * bias)),
      'context': dict(kernel=jnp.eye(config.dim),
                      bias=jnp.zeros(config.dim)),
      'logits': dict(kernel=entries.T / length,
                     bias=jnp.zeros(config.codebook_size)),
  }
