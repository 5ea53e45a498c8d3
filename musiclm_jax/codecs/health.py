"""Signs that the codec's training goes wrong, and what is done then."""

import jax
import jax.numpy as jnp

from musiclm_jax.nn import quantize
from musiclm_jax.training import gates as gates_lib


def gates(usage_floor: float, usage_patience: int,
          runaway: str) -> tuple[gates_lib.Gate, ...]:
  """Gates for a collapsed codebook and for discriminators that ran away.

  Args:
    usage_floor: a codebook of less usage has collapsed; 0: no gate.
    usage_patience: evaluations on end that it must stay there.
    runaway: 'pause' or 'stop'; 'off': no gate.

  Returns:
    A tuple of `gates.Gate`.
  """
  found = []
  if usage_floor:
    found.append(gates_lib.Gate(
        name='codebook_usage', metric='codebook_usage/*', split='eval',
        below=usage_floor, patience=usage_patience,
        cause='This level of the RVQ has collapsed: its frames share a few '
        'entries. Likely the learning rate is too high or the commitment '
        'weight too low; lower the one or raise the other, or set '
        'usage_floor = 0 to go on.'))
  if runaway != 'off':
    stops = runaway == 'stop'
    found.append(gates_lib.Gate(
        name='discriminator_runaway', metric='discriminator_runaway',
        above=0.0, action='stop' if stops else 'warn',
        cause='The discriminators win while the generator loses ground: '
        'they learn too fast for it. ' + (
            'Lower their learning rate or their update probability, start '
            'them later, or let them pause.' if stops else
            'They pause until it has caught up.')))
  return tuple(found)


def usage(codes: jax.Array, size: int) -> dict[str, jax.Array]:
  """Usage of the codebooks by codes [B, T, Q], of each level and on mean."""
  found = quantize.usage(codes, size)
  return dict(
      {f'codebook_usage/{level + 1:02d}': value
       for level, value in enumerate(found)}, codebook_usage=jnp.mean(found))


def codebooks(codes: jax.Array, rvq: quantize.Rvq) -> dict[str, jax.Array]:
  """Per level: usage by the batch, perplexity of the moving counts."""
  perplexity = quantize.perplexity(rvq.counts)
  return dict(
      usage(codes, rvq.counts.shape[-1]),
      codebook_perplexity=jnp.mean(perplexity),
      **{f'codebook_perplexity/{level + 1:02d}': value
         for level, value in enumerate(perplexity)})
