"""Logical axis names and the one table that maps them to mesh axes.

Names are T5X's (batch, length, embed, heads, kv, joined_kv, mlp, vocab, layers)
plus codebook, code and channels. Parameters made with `param_with_axes` carry
their names in the `params_axes` collection, which is where T5X looks too.
"""

from flax.linen import partitioning as flax_partitioning

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

# (logical axis, mesh axis). None replicates. The mesh is (data, model).
RULES = (
    (BATCH, 'data'),
    (VOCAB, 'model'),
    (MLP, 'model'),
    (HEADS, 'model'),
    (JOINED_KV, 'model'),
    (EMBED, None),
    (KV, None),
    (LENGTH, None),
    (LAYERS, None),
    (CODEBOOK, None),
    (CODE, None),
    (CHANNELS, None),
)
