"""T5X's train, eval and infer on a tiny cache; minutes. Needs T5X.

They are started in the folder of the cache, with paths relative to it.
"""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import fake_tokens
import numpy as np
import pytest

from musiclm_jax import bundle
from musiclm_jax import configs
from musiclm_jax.commands import cli
from musiclm_jax.commands import train
from musiclm_jax.tokens import precompute
from musiclm_jax.training import t5x_checkpoints

pytestmark = pytest.mark.t5x
STEPS = 8


@pytest.fixture(name='cache', scope='module')
def _cache(tmp_path_factory):
  pytest.importorskip('t5x')
  root = tmp_path_factory.mktemp('t5x')
  corpus = fake_tokens.write_corpus(root / 'corpus')
  precompute.tokenize(fake_tokens.tokenizers(), corpus, root / 'cache')
  return root / 'cache'


def relative(path, cache):
  return os.path.relpath(path, cache.parent)


def t5x(program, run, cache, log, devices=1, **bindings):
  """Starts a program of T5X on the tiny semantic stage."""
  flags = f'--xla_force_host_platform_device_count={devices}'
  words = [f'--gin.{name}={value!r}' if not str(value).startswith('@')
           else f'--gin.{name}={value}'
           for name, value in dict(bindings, CACHE_DIR=cache.name).items()]
  return subprocess.Popen(
      [sys.executable, '-m', 'musiclm_jax.commands.under_t5x', program,
       '--gin_file=semantic_tiny', f'--gin_file=gin/runs/{run}.gin', *words],
      cwd=cache.parent,
      env=dict(os.environ, XLA_FLAGS=flags, JAX_PLATFORMS='cpu'),
      stdout=open(log, 'w', encoding='utf-8'), stderr=subprocess.STDOUT)


def finish(process, log):
  assert process.wait(timeout=3600) == 0, pathlib.Path(log).read_text()[-3000:]


def start_training(cache, model_dir, steps, **more):
  return t5x('train', 't5x', cache, f'{model_dir}.log',
             **dict(MODEL_DIR=relative(model_dir, cache), TRAIN_STEPS=steps,
                    CHECKPOINT_EVERY=2, EVAL_EVERY=4, KEEP=99,
                    DROPOUT_RATE=0.1) | more)


@pytest.fixture(name='trained', scope='module')
def _trained(cache):
  """A run of T5X that nothing interrupted."""
  model_dir = cache.parent / 'whole'
  finish(start_training(
      cache, model_dir, STEPS,
      INFER_EVAL_DATASET='@infer_eval/utils.DatasetConfig()'),
         f'{model_dir}.log')
  return model_dir


def evaluated(folder):
  """(metrics of the last evaluation, its examples)."""
  rows = lambda path: [json.loads(l) for l in path.read_text().splitlines()]
  metrics, = folder.rglob('musiclm_semantic-metrics.jsonl')
  examples = sorted(folder.rglob('musiclm_semantic-0*.jsonl'))[-1]
  return rows(metrics)[-1], rows(examples)


def everything(model_dir, step):
  """The whole state of a checkpoint of T5X, flat."""
  import jax  # pylint: disable=g-import-not-at-top
  import orbax.checkpoint as ocp  # pylint: disable=g-import-not-at-top
  path = model_dir / f'checkpoint_{step}' / 'state'
  with ocp.PyTreeCheckpointer() as checkpointer:
    tree = checkpointer.metadata(path).item_metadata.tree
    return bundle.flatten(checkpointer.restore(
        path, ocp.args.PyTreeRestore(restore_args=jax.tree.map(
            lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree))))


def test_a_killed_run_ends_as_one_that_was_not(cache, trained):
  model_dir = cache.parent / 'killed'
  process = start_training(cache, model_dir, 10**6)
  deadline = time.monotonic() + 3600
  while not (model_dir / 'checkpoint_4').exists():
    assert process.poll() is None and time.monotonic() < deadline
    time.sleep(0.01)
  process.send_signal(signal.SIGKILL)
  process.wait()
  for path in model_dir.glob('checkpoint_*'):
    if path.name not in ('checkpoint_0', 'checkpoint_2', 'checkpoint_4'):
      shutil.rmtree(path)  # it was fast
  finish(start_training(cache, model_dir, STEPS), f'{model_dir}.log')
  found, expected = everything(model_dir, STEPS), everything(trained, STEPS)
  assert set(found) == set(expected)
  for name, values in expected.items():
    np.testing.assert_array_equal(found[name], values, err_msg=name)
  before = everything(trained, 4)
  assert any((before[name] != expected[name]).any() for name in expected)


# Eight heads, one for each device. A large epsilon: with a small one, gradients
# of 1e-9 become whole steps.
SPLIT = {'BATCH_SIZE': 8, 'optim.OptimizerConfig.eps': 1e-3,
         'decoder.DecoderConfig.num_heads': 8}


@pytest.fixture(name='alone', scope='module')
def _alone(cache):
  """A run of T5X on one device."""
  model_dir = cache.parent / 'alone'
  finish(start_training(cache, model_dir, 4, **SPLIT), f'{model_dir}.log')
  return everything(model_dir, 4)


def test_split_over_devices_it_trains_as_on_one(cache, alone):
  """On CPUs T5X has one mesh: 'model' is all the devices of a process."""
  model_dir = cache.parent / 'split'
  finish(start_training(cache, model_dir, 4, devices=8, MESH={'model': 8},
                        **SPLIT), f'{model_dir}.log')
  found = everything(model_dir, 4)
  assert set(found) == set(alone)
  for name, values in alone.items():
    np.testing.assert_allclose(found[name], values, atol=2e-5, err_msg=name)
  # Orbax writes how each array lay.
  layout = (model_dir / 'checkpoint_4' / 'state' / '_sharding').read_text()
  assert r'\"shape\": [1, 8]' in layout
  assert r'\"partition_spec\": [null, \"model\"]' in layout


def test_inference_evaluator_and_eval_agree(cache, trained):
  metrics, examples = evaluated(trained)
  assert metrics['step'] == STEPS
  out = cache.parent / 'eval'
  finish(t5x('eval', 't5x_eval', cache, f'{out}.log',
             CHECKPOINT_PATH=f'{relative(trained, cache)}/checkpoint_{STEPS}',
             EVAL_OUTPUT_DIR=relative(out, cache)), f'{out}.log')
  again, same = evaluated(out)
  assert len(examples) == len(same) == 4  # crops of 31 and 14 s
  assert again['nats_per_token'] == pytest.approx(
      metrics['nats_per_token'], rel=1e-5)
  count = sum(np.count_nonzero(e['target']) for e in same)
  assert again['nats_per_token'] == pytest.approx(
      -sum(e['score'] for e in same) / count, rel=1e-5)
  assert 0 < again['nats_per_token'] < np.log(16)
  assert 0 <= again['agreement'] < 0.5


def test_infer_draws_legal_tokens_and_says_of_which_crop(cache, trained):
  out = cache.parent / 'infer'
  finish(t5x('infer', 't5x_infer', cache, f'{out}.log',
             CHECKPOINT_PATH=f'{relative(trained, cache)}/checkpoint_{STEPS}',
             INFER_OUTPUT_DIR=relative(out, cache)), f'{out}.log')
  path, = out.glob('*-predict.jsonl-00000-of-00001')
  rows = [json.loads(line) for line in path.read_text().splitlines()]
  drawn = [row['prediction'] for row in rows]
  layout = leaf(cache)['trainable'].model.layout
  target = layout.target
  for row, track in zip(rows, [0, 0, 0, 1], strict=True):
    crop = row['inputs']
    assert set(crop) == {'id', 'crop_start', 'captions', 'inputs'}
    assert crop['id'] == f'validation{track}'
    assert crop['captions'] == [f'tune {track}', 'lively']
    codes = fake_tokens.crop_codes(
        track, (31, 14)[track], int(crop['crop_start']), 8)
    assert crop['inputs'] == list(layout.build(
        {name: codes[name] for name in ('mulan', 'semantic')})[:target.start])
  assert np.shape(drawn) == (4, target.length)
  assert np.min(drawn) >= target.first_id and np.max(drawn) < target.last_id
  assert len(np.unique(drawn)) > 8  # of 16


def leaf(cache, model_dir='none'):
  return configs.load('semantic_tiny', {
      'CACHE_DIR': str(cache), 'MODEL_DIR': str(model_dir)}).arguments


def test_a_run_of_t5x_becomes_a_component(cache, trained, tmp_path):
  cli.main(['export', 'semantic_tiny', f"--gin.CACHE_DIR='{cache}'",
            '--from-t5x', str(trained), '--out', str(tmp_path / 'b/semantic')])
  component = bundle.load_component(tmp_path / 'b/semantic')
  assert component.metadata['steps'] == STEPS
  expected = everything(trained, STEPS)
  for name, values in component.weights.items():
    np.testing.assert_array_equal(values, expected[f'target/{name}'])
  assert len(component.weights) == sum(
      name.startswith('target/') for name in expected)


def test_t5x_scores_our_checkpoint_as_we_do(cache, tmp_path):
  ours = tmp_path / 'ours'
  train.start('semantic_tiny', {
      'CACHE_DIR': str(cache), 'MODEL_DIR': str(ours), 'TRAIN_STEPS': 3})
  words = [f"--gin.CACHE_DIR='{cache}'", f"--gin.MODEL_DIR='{ours}'"]
  cli.main(['export', 'semantic_tiny', *words, '--to-t5x', f'{tmp_path}/t5x'])
  finish(t5x('eval', 't5x_eval', cache, tmp_path / 'log',
             CHECKPOINT_PATH=f'{tmp_path}/t5x/checkpoint_3',
             EVAL_OUTPUT_DIR=str(tmp_path / 'eval')), tmp_path / 'log')
  _, examples = evaluated(tmp_path / 'eval')
  cli.main(['export', 'semantic_tiny', *words, '--out',
            str(tmp_path / 'b/semantic')])
  stage = bundle.Bundle(tmp_path / 'b').get('semantic')
  sequence = np.array([e['input']['inputs'] + e['target'] for e in examples])
  scores = stage.model.log_likelihood(stage.params, dict(
      decoder_input_tokens=np.pad(sequence, ((0, 0), (1, 0)))[:, :-1],
      decoder_target_tokens=sequence,
      decoder_loss_weights=(sequence > 0) * stage.layout.target_weights()))
  np.testing.assert_allclose([e['score'] for e in examples], scores, rtol=1e-5)


def test_t5x_goes_on_from_our_checkpoint(cache, tmp_path):
  result = train.start('semantic_tiny', {
      'CACHE_DIR': str(cache), 'MODEL_DIR': str(tmp_path / 'run'),
      'TRAIN_STEPS': 3})
  path = t5x_checkpoints.write(tmp_path / 'ours', 3, result.state)
  step, params = t5x_checkpoints.read(path, result.state.params)
  assert step == 3
  found, expected = bundle.flatten(params), bundle.flatten(result.state.params)
  assert set(found) == set(expected)
  for name, values in expected.items():
    np.testing.assert_array_equal(found[name], values)
  model_dir = tmp_path / 't5x'
  for steps in (4, 6):  # the second goes on from its own
    finish(start_training(
        cache, model_dir, steps,
        INITIAL_CHECKPOINT_PATH=relative(path, cache)), f'{model_dir}.log')
  steps = {p.name for p in model_dir.glob('checkpoint_*')}
  assert steps == {f'checkpoint_{n}' for n in (3, 4, 6)}
  assert all((model_dir / name / 'dataset').is_dir() for name in steps)
  assert everything(model_dir, 6)['state/param_states/1/0/count'] == 6


@pytest.fixture(name='unheld', scope='module')
def _unheld(cache):
  """A cache without a validation split."""
  place = cache.parent / 'unheld'
  corpus = fake_tokens.write_corpus(cache.parent / 'unheld_corpus', ['train'])
  precompute.tokenize(fake_tokens.tokenizers(), corpus, place)
  return place


def test_microbatches_are_those_of_the_trainer(cache, unheld):
  """And without a validation split it evaluates on the training split."""
  settings = {'optim.OptimizerConfig.eps': 1.0, 'DROPOUT_RATE': 0.0,
              'optim.OptimizerConfig.clip_norm': 0.0,
              'optim.OptimizerConfig.learning_rate': 1.0}
  ends = []
  for parts in (None, 4):
    model_dir = cache.parent / f'parts_{parts}'
    finish(start_training(unheld, model_dir, 4, **settings, **{
        'trainer.Trainer.num_microbatches': parts}), f'{model_dir}.log')
    ends.append(everything(model_dir, 4))
    assert list((model_dir / 'training_eval/musiclm_semantic').glob('events.*'))
  begun = everything(model_dir, 0)
  # So large an epsilon leaves steps in proportion to gradients. Of a batch in
  # parts T5X takes the mean over the parts, not over their tokens: nearly the
  # same; gradients that were summed would be four times as large.
  moved = [np.sqrt(sum(np.square(end[name] - values).sum()
                       for name, values in begun.items()
                       if name.startswith('target/'))) for end in ends]
  assert moved[0] > 1e-2
  assert moved[1] / moved[0] == pytest.approx(1.0, abs=0.2)


@pytest.mark.parametrize('bindings, said', [
    ({'TRAIN_STEPZ': 3}, 'TRAIN_STEPZ is bound but nothing reads it'),
    ({'BATCH_SIZE': 2.5}, 'BATCH_SIZE is 2.5; expected a whole number'),
    ({'trainer.Trainer.learning_rate_fn':
          '@utils.create_learning_rate_scheduler()'},
     'bind optim.OptimizerConfig.learning_rate')])
def test_mistakes_are_one_line_before_the_first_step(
    cache, tmp_path, bindings, said):
  process = start_training(cache, tmp_path / 'run', 4, **bindings)
  assert process.wait(timeout=600) == 2
  last = pathlib.Path(f'{tmp_path}/run.log').read_text().splitlines()[-1]
  assert last.startswith('t5x: error: ') and said in last
