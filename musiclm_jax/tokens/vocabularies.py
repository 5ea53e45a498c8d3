"""Vocabularies: ids as they are, in the size that the layout gives."""

import seqio

from musiclm_jax import specs
from musiclm_jax.tokens import layout as layout_lib


def stage_vocabulary(
    stage: specs.StageSpec) -> seqio.PassThroughVocabulary:
  """The vocabulary of a StageSpec's sequences; 0 is padding, there is no EOS."""
  return seqio.PassThroughVocabulary(layout_lib.for_stage(stage).vocab_size)


def stage_features(stage: specs.StageSpec) -> dict[str, seqio.Feature]:
  """{'inputs', 'targets'}: the seqio features of a StageSpec's task."""
  vocabulary = stage_vocabulary(stage)
  feature = seqio.Feature(vocabulary, add_eos=False)
  return dict(inputs=feature, targets=feature)
