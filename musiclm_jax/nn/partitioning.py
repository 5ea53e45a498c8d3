"""Logical axis names and the one table that maps them to mesh axes.

Names are T5X's (batch, length, embed, heads, kv, joined_kv, mlp, vocab, layers)
plus codebook, code and channels. Parameters made with `param_with_axes` carry
their names in the `params_axes` collection, which is where T5X looks too.
"""

from collections.abc import Iterable

from flax.linen import partitioning as flax_partitioning

from musiclm_jax import errors

param_with_axes = flax_partitioning.param_with_axes
with_sharding_constraint = flax_partitioning.with_sharding_constraint
axis_rules = flax_partitioning.axis_rules
scan_with_axes = flax_partitioning.scan_with_axes

BATCH = 'batch'
LENGTH = 'length'
EMBED = 'embed'
HEADS = 'heads'
KV = 'kv'
JOINED_KV = 'joined_kv'
MLP = 'mlp'
VOCAB = 'vocab'
LAYERS = 'layers'
CODEBOOK = 'codebook'
CODE = 'code'
CHANNELS = 'channels'

# The axes of a mesh: 'data' splits batches, 'fsdp' splits batches and the state
# of training (a device gathers what it needs when it needs it), 'model' splits
# the products themselves.
DATA = 'data'
FSDP = 'fsdp'
MODEL = 'model'
MESH_AXES = (DATA, FSDP, MODEL)

# (logical axis, mesh axis or axes). None replicates. For each array the first
# rule of a name counts whose mesh axes no other dimension of it has taken, so
# that 'embed' is split in parameters and whole in activations, where the batch
# has taken 'fsdp'.
RULES = (
    (BATCH, (DATA, FSDP)),
    (VOCAB, MODEL),
    (MLP, MODEL),
    (HEADS, MODEL),
    (JOINED_KV, MODEL),
    (EMBED, FSDP),
    (KV, None),
    (LENGTH, None),
    (LAYERS, None),
    (CODEBOOK, None),
    (CODE, None),
    (CHANNELS, None),
)


def with_rules(own: Iterable) -> tuple:
  """RULES, after those of `own`, which therefore win.

  Raises:
    UserError: a rule of `own` names an unknown axis.
  """
  known = {name for name, _ in RULES}
  for name, axes in own:
    if name not in known:
      raise errors.choice('logical axis', name, known)
    for axis in (axes,) if isinstance(axes, str) else axes or ():
      if axis not in MESH_AXES:
        raise errors.choice('mesh axis', axis, MESH_AXES)
  as_tuple = lambda axes: tuple(axes) if isinstance(axes, list) else axes
  return tuple((name, as_tuple(axes)) for name, axes in own) + RULES
