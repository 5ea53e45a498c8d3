"""The codec folder of a bundle, its weights all zero: enough to start from."""

import jax
import jax.numpy as jnp
import numpy as np

from musiclm_jax import bundle


def save(directory, config):
  """Writes a codec of `config`, a codec's configuration; returns `directory`."""
  spec = config.spec
  params = jax.eval_shape(
      config.build().init, jax.random.key(0),
      jnp.zeros((1, spec.hop_samples)))['params']
  bundle.save_component(directory, config.kind, config, spec, dict(
      params=jax.tree.map(lambda x: np.zeros(x.shape, np.float32), params),
      codebooks=np.zeros((spec.num_codebooks, spec.codebook_size,
                          config.latent_dim), np.float32)))
  return directory
