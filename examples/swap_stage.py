"""A bundle of one's own, with one stage replaced.

Here the coarse stage comes back with weights of 8 bits; `musiclm export LEAF --out
my_bundle/coarse` puts one that was trained into the same place.
"""

import shutil

import musiclm_jax
from musiclm_jax import bundle
from musiclm_jax import specs

shutil.copytree(bundle.shipped(), 'my_bundle')
old = bundle.load_component('my_bundle/coarse')
bundle.save_component(
    'my_bundle/coarse', 'coarse', old.config,
    specs.from_dict(specs.StageSpec, old.spec), old.tree(), old.metadata,
    storage='int8')
bundle.enter('my_bundle', 'coarse')  # into the manifest, if its grids fit
model = musiclm_jax.load('my_bundle')
print(model.generate('a jig', seconds=2).shape)
