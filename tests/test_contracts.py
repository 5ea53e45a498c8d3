"""Every part has the members and the arguments that its contract names."""

import plain_codec
import pytest
import tiny_bundle

from musiclm_jax import bundle as bundle_lib
from musiclm_jax import contracts
from musiclm_jax import specs
from musiclm_jax.codecs import streaming
from musiclm_jax.systems.musiclm import model as model_lib
from musiclm_jax.tokenizers.adapters import codecs
from musiclm_jax.tokenizers.adapters import joint
from musiclm_jax.tokenizers.adapters import semantic
from musiclm_jax.tokenizers.adapters import streaming as adapted_streaming

_ROLES = {'codec': contracts.Codec, 'semantic': contracts.Tokenizer,
          'joint': contracts.JointEmbedder, 'melody': contracts.MelodyEmbedder}


@pytest.mark.parametrize('role', bundle_lib.TOKENIZERS)
def test_our_tokenizers_conform(bundle, role):
  found = bundle.tokenizer(role)
  assert isinstance(found, _ROLES[role])
  assert contracts.differences(found, _ROLES[role]) == []


@pytest.mark.parametrize('found, contract', [
    (codecs.Codec, contracts.Codec),
    (semantic.SemanticTokenizer, contracts.Tokenizer),
    (joint.JointEmbedder, contracts.JointEmbedder),
    (adapted_streaming.Overlapping, contracts.CodeStream),
    (streaming.Encoder, contracts.CodeStream),
    (streaming.Decoder, contracts.CodeStream),
    (specs.CodecSpec, contracts.CodecGrid),
    (bundle_lib.Component, contracts.Component),
    (plain_codec.PlainCodec(specs.CodecSpec()), contracts.Codec)])
def test_what_is_adapted_conforms(found, contract):
  """Classes whose objects would take other people's weights."""
  assert contracts.differences(found, contract) == []


def test_the_sampler_is_a_token_model(model):
  found = model._pipeline.sampler('fine')  # pylint: disable=protected-access
  assert isinstance(found, contracts.TokenModel)
  assert contracts.differences(found, contracts.TokenModel) == []


def test_musiclm_is_a_system(bundle, model, tmp_path):
  assert isinstance(model, contracts.System)
  assert contracts.differences(model, contracts.System) == []
  model.bundle.require(*model.needs)
  assert model.conditions == ('prompt', 'story', 'like', 'continue_from',
                              'melody')
  poorer = model_lib.Model(
      tiny_bundle.without(bundle, tmp_path, 'w2vbert', 'melody'))
  assert poorer.conditions == ('prompt', 'story', 'like')


class _Whole:
  """As a contracts.Tokenizer should be, but for one thing each below."""

  spec = hop_samples = centroids = None

  def encode(self, audio, num_samples=None, *, more=0):
    pass


class _Lacks(_Whole):
  encode = None


class _Renamed(_Whole):

  def encode(self, sound, num_samples=None):
    pass


class _Turned(_Whole):

  def encode(self, num_samples=None, audio=None):
    pass


class _Wants(_Whole):

  def encode(self, audio, num_samples):
    pass


class _Greedy(_Whole):

  def encode(self, audio, num_samples=None, *, levels):
    pass


class _ByName(_Whole):

  def encode(self, audio, *, num_samples=None):
    pass


@pytest.mark.parametrize('kind, lines', [
    (_Whole, []), (_Lacks, ['it is no method']),
    (_Renamed, ['it has no argument audio', 'it wants an argument sound more']),
    (_Turned, ['audio is in another place', 'num_samples is in another place']),
    (_Wants, ['num_samples has no default']),
    (_Greedy, ['it wants an argument levels more']),
    (_ByName, ['num_samples is taken by name only'])])
def test_other_arguments_are_told(kind, lines):
  expected = [f'encode: {line}' for line in lines]
  assert contracts.differences(kind, contracts.Tokenizer) == expected
  assert contracts.differences(kind(), contracts.Tokenizer) == expected


def test_missing_members_are_told():
  class Set:
    """Annotated members may be set later, in a class; not in an object."""
    spec: int
    centroids: int

    def encode(self, audio, num_samples=None):
      pass

  assert contracts.differences(Set, contracts.Tokenizer) == [
      'hop_samples is missing']
  assert contracts.differences(Set(), contracts.Tokenizer) == [
      'spec is missing', 'hop_samples is missing', 'centroids is missing']


def test_keywords_of_all_names_are_wanted_where_a_contract_has_them(model):
  class Narrow(type(model)):

    def generate(self, prompt=None, *, samples=None, progress=None, seconds=1):
      pass

  assert contracts.differences(
      Narrow(model.bundle), contracts.System) == [
          'generate: it does not take **wanted: Any']
