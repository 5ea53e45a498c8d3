"""Tags and batches, learning, export, and the leaves."""

import re

import host_shares
import jax
import numpy as np
import pytest
from sklearn import metrics

from musiclm_jax import bundle
from musiclm_jax import configs
from musiclm_jax import errors
from musiclm_jax import records
from musiclm_jax.commands import cli
from musiclm_jax.listeners.leaf import classifier
from musiclm_jax.listeners.leaf import frontend
from musiclm_jax.listeners.leaf import model as leaf_model
from musiclm_jax.listeners.leaf import scores
from musiclm_jax.listeners.leaf import tags
from musiclm_jax.listeners.leaf import trainer
from musiclm_jax.nn import resnet
from musiclm_jax.training import optim

_RATE = 16_000
_TONES = (300.0, 1_200.0, 4_000.0)
TINY = leaf_model.LeafConfig(
    front_end=frontend.FrontEndConfig(
        num_filters=16, filter_stride=20, hop_samples=320),
    encoder='resnet', resnet=resnet.ResNetConfig(
        (1,), (8,), 'basic', 'patches', 8, norm_groups=4),
    num_classes=3, dropout_rate=0.0, input_rate_hz=_RATE, segment_seconds=0.5)


def _sound(names, seconds=1.0, seed=0):
  """Tones that are their own tags: 'low', 'middle', 'high'."""
  t = np.arange(int(seconds * _RATE)) / _RATE
  noise = 0.01 * np.random.default_rng(seed).standard_normal(len(t))
  return noise + sum(
      0.2 * np.sin(2 * np.pi * hz * t) for name, hz in zip(
          ('low', 'middle', 'high'), _TONES) if name in names)


@pytest.fixture(name='corpus_dir', scope='module')
def _corpus_dir(tmp_path_factory):
  place = tmp_path_factory.mktemp('tags') / 'corpus'
  choices = [('low',), ('middle', 'low'), ('high',), ('low', 'high'),
             ('middle',), ()]
  with records.Writer(place, 'tones', _RATE, licence='CC0') as out:
    for split in ('train', 'validation', 'test'):
      for i, names in enumerate(choices):
        out.add(split, f'{split}{i}', _sound(names, seed=i),
                aspects=[*names, *(['rare'] if not i else [])])
  return str(place)


def _source(corpus_dir, **given):
  return tags.TaggedBatches(**{**dict(
      corpus_dir=corpus_dir, crop_seconds=0.5, batch_size=8, num_tags=3,
      eval_batches_count=2, expected_rate_hz=_RATE), **given})


def test_the_vocabulary_is_the_most_frequent_tags_of_the_train_split(
    corpus_dir):
  source = _source(corpus_dir)
  # low 3, high 2, middle 2, rare 1: equals go by the alphabet.
  assert source.vocabulary == ('low', 'high', 'middle')
  found = tags.labels(source.corpus.split('test'), source.vocabulary)
  np.testing.assert_array_equal(
      found, [[1, 0, 0], [1, 0, 1], [0, 1, 0], [1, 1, 0], [0, 0, 1],
              [0, 0, 0]])
  with pytest.raises(errors.UserError, match='4 tags.*expected 5; lower'):
    next(_source(corpus_dir, num_tags=5).batches(0))


def test_batches_carry_the_tags_of_their_tracks(corpus_dir):
  source = _source(corpus_dir)
  batch = next(source.batches(3))
  known = tags.labels(source.corpus.split('train'), source.vocabulary)
  np.testing.assert_array_equal(batch['tags'], known[batch['track']])
  assert set(batch['vocabulary']) == {tags.checksum(source.vocabulary)}
  shapes = {k: (v.shape, v.dtype) for k, v in source.batch_shapes().items()}
  assert shapes == {k: (v.shape, v.dtype) for k, v in batch.items()}
  host_shares.check(source)


def test_base_rates_are_the_entropy_of_the_tags(corpus_dir):
  found = _source(corpus_dir).baselines()['loss_of_base_rates']
  rates = np.array([3, 2, 2]) / 6  # in each split
  assert found == pytest.approx(np.mean(
      -rates * np.log(rates) - (1 - rates) * np.log(1 - rates)))


def test_scores_as_sklearn_has_them():
  rng = np.random.default_rng(0)
  logits = np.round(rng.standard_normal((40, 5)), 1)  # with ties
  has = (rng.random((40, 5)) < 0.3).astype(np.float32)
  has[:, 4] = 0
  assert float(scores.order(logits, has)) == pytest.approx(
      metrics.roc_auc_score(has[:, :4], logits[:, :4]), abs=1e-5)
  found, chance, count = scores.mean_average_precision(logits, has)
  assert found == pytest.approx(
      metrics.average_precision_score(has[:, :4], logits[:, :4]))
  assert chance == pytest.approx(has[:, :4].mean()) and count == 4
  p = 1 / (1 + np.exp(-logits))
  assert float(scores.cross_entropy(logits, has)) == pytest.approx(
      metrics.log_loss(has.ravel().astype(int), p.ravel()), rel=1e-5)


@pytest.fixture(name='trained', scope='module')
def _trained(corpus_dir):
  """(trainable, state, losses of one batch)."""
  found = trainer.LeafTrainable(TINY, optim.OptimizerConfig(
      learning_rate=2e-2, warmup_steps=2, schedule='constant'))
  batch = next(_source(corpus_dir, batch_size=16).batches(0))
  state = jax.jit(found.init)(jax.random.PRNGKey(0), batch)
  update, losses = jax.jit(found.update), []
  for step in range(60):
    state, told = update(state, batch, jax.random.PRNGKey(step))
    losses.append(float(told['loss']))
  return found, jax.device_get(state), losses, float(told['auc'])


def test_learns_one_batch(trained):
  _, state, losses, auc = trained
  assert int(state.step) == 60
  assert losses[-1] < 0.15 * losses[0] and auc > 0.99


def test_what_is_exported_hears_the_same(trained, corpus_dir, tmp_path):
  found, state, _, _ = trained
  corpus = records.load(corpus_dir)
  parts = found.export(state, corpus)
  about = parts.pop('metadata')
  assert about['tags']['split'] == 'test' and about['tags']['clips'] == 6
  assert about['tags']['mean_average_precision'] > 0.9
  assert about['tags']['mean_average_precision_of_chance'] == pytest.approx(
      7 / 18)
  bundle.save_component(tmp_path / 'leaf', metadata=about, **parts)
  loaded = classifier.load(tmp_path / 'leaf')
  assert loaded.classes == ('low', 'high', 'middle')
  assert loaded.sample_rate_hz == _RATE and len(loaded.digest) == 16
  audio = _sound(('middle',))[None].astype(np.float32)
  heard = loaded.logits(audio)
  assert heard[0].argmax() == 2
  # A second is two segments, whose logits are averaged; a rest under half a
  # segment is not heard.
  halves = [loaded.logits(audio[:, k:k + 8_000]) for k in (0, 8_000)]
  np.testing.assert_allclose(heard, np.mean(halves, 0), atol=1e-5)
  longer = np.pad(audio, ((0, 0), (0, 3_000)))
  np.testing.assert_allclose(loaded.logits(longer), heard, atol=1e-5)


def test_another_corpus_is_refused_at_export(trained, tmp_path):
  found, state, _, _ = trained
  with records.Writer(tmp_path / 'other', 'other', _RATE, licence='') as out:
    out.add('train', 't', np.zeros(_RATE), aspects=['a', 'b', 'c'])
  with pytest.raises(errors.UserError, match='not those that the classifier'):
    found.export(state, records.load(tmp_path / 'other'))


@pytest.mark.slow
def test_the_tiny_leaf_from_train_to_listener(corpus_dir, tmp_path):
  words = ['leaf_tiny', '--gin.MODEL_DIR="' + str(tmp_path / 'run') + '"',
           f'--gin.CORPUS_DIR="{corpus_dir}"', '--gin.NUM_TAGS=3',
           '--gin.TRAIN_STEPS=4', '--gin.CROP_SECONDS=0.5',
           '--gin.BATCH_SIZE=4',
           f'--gin.model.LeafConfig.input_rate_hz={_RATE}']
  cli.main(['train', *words])
  cli.main(['export', *words, '--out', str(tmp_path / 'judges' / 'leaf')])
  assert not (tmp_path / 'judges' / 'manifest.json').exists()
  assert classifier.load(tmp_path / 'judges' / 'leaf').classes[0] == 'low'


def test_an_export_of_another_name_is_refused(tmp_path, capsys):
  with pytest.raises(SystemExit) as caught:
    cli.main(['export', 'leaf_tiny', '--out', str(tmp_path / 'judge')])
  assert caught.value.code == 2
  assert re.search(r"unknown component in --out 'judge'; known: .*leaf",
                   capsys.readouterr().err)


@pytest.mark.parametrize('size', ['tiny', 'demo', 'base'])
def test_the_header_states_the_number_of_parameters(size):
  arguments = configs.load(f'leaf_{size}', dict(
      MODEL_DIR='/nowhere', CORPUS_DIR='/nowhere')).arguments
  trained, source = arguments['trainable'], arguments['source']
  state = jax.eval_shape(
      trained.init, jax.random.PRNGKey(0), source.batch_shapes())
  count = sum(x.size for x in jax.tree.leaves(state.params))
  header = re.search(r'Parameters: ([\d,]+)', configs.resolve(
      f'leaf_{size}').read_text())[1]
  assert count == int(header.replace(',', ''))
  assert trained.model.num_classes == source.num_tags
  assert trained.model.segment_seconds == source.crop_seconds
  assert count < dict(tiny=1e4, demo=5e5, base=5.3e6)[size]
