"""Foreign models through `musiclm precompute`, to a batch of a stage."""

import json

import numpy as np
import pytest
import small_foreign as small

from musiclm_jax import configs
from musiclm_jax import records
from musiclm_jax import specs
from musiclm_jax.commands import cli
from musiclm_jax.tokenizers.adapters import registry
from musiclm_jax.tokens import cache as cache_lib
from musiclm_jax.tokens import layout as layout_lib
from musiclm_jax.tokens import source

pytestmark = pytest.mark.hf


@pytest.fixture(name='corpus', scope='module')
def corpus_fixture(tmp_path_factory):
  directory = tmp_path_factory.mktemp('data') / 'corpus'
  with records.Writer(directory, 'noise', 24_000, licence='CC0') as writer:
    for split, lengths in {'train': (12.5, 4, 3), 'validation': (4,)}.items():
      for i, seconds in enumerate(lengths):
        audio = small.noise(1, round(seconds * 24_000), seed=i)[0]
        writer.add(split, f'{split}{i}', (audio * 20_000).astype(np.int16),
                   captions=[f'a lively tune {i}'])
  return records.Corpus(directory)


def arguments(models, corpus, cache, **changes):
  parts = {
      'codec': f'hf:{models("codec", "encodec")}:codebooks=6',
      'semantic': f'hf:{models("encoder", "hubert")}:layer=2:rate=25:'
                  'clusters=16:vectors=300',
      'joint': f'hf:{models("clap", "clap")}:codebooks=3:entries=8', **changes}
  given = sum([[f'--{k}', v] for k, v in parts.items() if v], [])
  return ['precompute', *given, '--corpus', str(corpus.directory), '--cache',
          str(cache)]


@pytest.fixture(name='cache', scope='module')
def cache_fixture(models, corpus, tmp_path_factory):
  directory = tmp_path_factory.mktemp('made') / 'cache'
  cli.main(arguments(models, corpus, directory))
  return cache_lib.Cache(directory)


def test_the_spec_of_the_cache_is_the_adapters(cache):
  tokens = cache.tokens
  assert tokens.codec.frame_rate_hz == 75 and tokens.codec.num_codebooks == 6
  assert tokens.semantic.frame_rate_hz == 25
  assert tokens.semantic.codebook_size == 16
  assert tokens.joint == specs.JointSpec(48_000, 12, 3, 8)
  assert tokens.codec_frames_per_semantic == 3
  assert cache.codebooks['mulan'].shape == (3, 8, 12)
  assert cache.stats('train') == dict(
      examples=3, seconds=19, acoustic_tokens=19 * 75 * 6,
      acoustic_max_tokens=12 * 75 * 6, semantic_tokens=19 * 25)


def test_streams_are_the_adapters_codes(cache, models, corpus):
  from musiclm_jax.tokenizers.adapters import codecs  # pylint: disable=g-import-not-at-top
  from musiclm_jax.tokenizers.adapters import options  # pylint: disable=g-import-not-at-top
  from musiclm_jax.tokens import tasks  # pylint: disable=g-import-not-at-top
  codec = codecs.Codec(options.CodecOptions(
      str(models('codec', 'encodec')), codebooks=6))
  split = corpus.split('train')
  for number, track in enumerate(split):
    stored = tasks.parse(cache.records('train').read(number), cache.described())
    seconds = track.num_samples // 24_000
    audio = split.read(track, 0, seconds * 24_000)
    found = stored['acoustic'].numpy().reshape(-1, 6)
    assert np.mean(found == codec.encode(audio[None])[0]) > 0.98
    assert len(np.unique(stored['semantic'].numpy())) > 1
    assert stored['mulan'].shape == (max(1, seconds - 9), 12)


@pytest.mark.parametrize('stage', ['semantic', 'coarse', 'fine'])
def test_a_stage_gets_batches(cache, stage):
  spec = specs.StageSpec(stage, cache.tokens, crop_seconds=3)
  batches = source.TaskBatches(
      str(cache.directory), stage=spec, batch_size=2, seed=0)
  batch = next(iter(batches.batches(0)))
  layout = layout_lib.for_stage(spec)
  assert batch['decoder_target_tokens'].shape == (2, layout.length)
  counts = dict(semantic=3 * 25, coarse=3 * 75 * 4, fine=3 * 75 * 2)
  assert layout.target.length == counts[stage]
  found = layout.split(batch['decoder_target_tokens'])[stage]
  assert found.min() >= 0 and len(np.unique(found)) > 2


@pytest.mark.parametrize('stage', ['semantic', 'coarse', 'fine'])
def test_the_leaves_take_their_grid_from_the_cache(cache, stage):
  settings = {'MODEL_DIR': 'unused', 'CACHE_DIR': str(cache.directory)}
  arguments = configs.load(f'{stage}_tiny', settings).arguments
  assert arguments['trainable'].model.spec.tokens == cache.tokens
  assert arguments['source'].cache  # checks it against the stage
  assert cache.tokens != specs.TokenSpec()


def test_the_same_again_does_nothing(cache, models, corpus, monkeypatch):
  before = {p: p.stat().st_mtime_ns for p in cache.directory.rglob('*')}
  monkeypatch.setattr(registry.fits, 'fit_semantic', None)
  monkeypatch.setattr(registry.fits, 'fit_joint', None)
  cli.main(arguments(models, corpus, cache.directory))
  assert before == {p: p.stat().st_mtime_ns for p in cache.directory.rglob('*')}


@pytest.mark.parametrize('changes', [
    dict(semantic='hf:{hubert}:layer=1:rate=25:clusters=16:vectors=300'),
    dict(codec='hf:{dac}'), dict(joint='hf:{clap}:codebooks=2:entries=8')])
def test_other_parts_are_refused(cache, models, corpus, capsys, changes,
                                 monkeypatch):
  monkeypatch.setattr(registry.hub, 'load', None)  # before anything is loaded
  before = {p: p.stat().st_mtime_ns for p in cache.directory.rglob('*')}
  folders = dict(hubert=models('encoder', 'hubert'), dac=models('codec', 'dac'),
                 clap=models('clap', 'clap'))
  changes = {k: v.format(**folders) for k, v in changes.items()}
  with pytest.raises(SystemExit) as stopped:
    cli.main(arguments(models, corpus, cache.directory, **changes))
  error = capsys.readouterr().err
  assert stopped.value.code == 2
  assert 'holds a cache of other parts' in error and 'add --replace' in error
  assert before == {p: p.stat().st_mtime_ns for p in cache.directory.rglob('*')}


def test_a_bundle_for_the_rest(models, corpus, tmp_path, monkeypatch):
  """Only the codec is replaced; the grid stays that of the bundle."""
  from musiclm_jax import bundle  # pylint: disable=g-import-not-at-top

  melody = bundle.Bundle(bundle.shipped()).tokens.melody

  class Own:
    codebooks = np.zeros((12, 1024, 128), np.float32)
    centroids = None

    def encode(self, audio, num_samples=None, stride_seconds=0):
      del num_samples
      if stride_seconds:  # as the melody embedder
        count = max(1, audio.shape[1] // 24_000 - melody.window_seconds + 1)
        return np.zeros((len(audio), count, melody.num_codebooks), np.int32)
      return np.zeros((len(audio), audio.shape[1] // 960), np.int32)

    def embed_text(self, texts):
      return np.ones((len(texts), 128), np.float32)

    def embed_audio_windows(self, audio):
      count = max(1, audio.shape[1] // 24_000 - 9)
      return np.ones((len(audio), count, 128), np.float32)

  monkeypatch.setattr(bundle.Bundle, 'get', lambda self, name: Own())
  codec = f'hf:{models("codec", "dac")}'
  cli.main(arguments(
      models, corpus, tmp_path / 'c', semantic=None, joint=None, codec=codec)
           + ['--bundle', str(bundle.shipped())])
  about = json.loads((tmp_path / 'c' / cache_lib.FINGERPRINT).read_text())
  assert about['tokens']['codec']['strides'] == [2, 4, 5, 8]
  assert about['tokens']['semantic'] == specs.to_dict(
      bundle.Bundle(bundle.shipped()).tokens)['semantic']
  own = bundle.Bundle(bundle.shipped()).component_hash('w2vbert')
  assert about['bundle']['w2vbert'] == own
  assert about['bundle']['codec'] != own
