"""Names that people have in their scripts: gin files and their macros stay.

The lists are frozen. A name may be added to them, and none goes or is changed:
a command line of last year would break.
"""

import pytest

from musiclm_jax import configs

_SIZES = ('base', 'demo', 'gpu', 'tiny')
FAMILIES = ('coarse', 'fine', 'framecodec', 'melody', 'mulan', 'semantic',
            'semantic_melody', 'soundstream', 'w2vbert')
LEAVES = tuple(f'{family}_{size}' for family in FAMILIES for size in _SIZES) + (
    'coarse_without_semantic_base', 'framecodec_demo_decoder',
    'mulan_ast_base', 'soundstream_demo_decoder')
INCLUDED = tuple(
    [f'sizes/{model}_{size}' for size in _SIZES for model in (
        'decoder', 'framecodec', 'melody', 'mulan', 'soundstream', 'w2vbert')] +
    [f'models/{model}' for model in (
        'framecodec', 'melody', 'mulan', 'soundstream', 'w2vbert')] +
    [f'stages/{stage}' for stage in ('coarse', 'fine', 'melody', 'semantic')] +
    [f'runs/{run}' for run in ('local', 't5x', 't5x_eval', 't5x_infer',
                               't5x_model')] +
    [f'pods/{slice_}' for slice_ in ('v4_128', 'v5e_256', 'v5p_64',
                                     'v6e_256')])
_RUN = {
    'MODEL_DIR': 'run', 'TRAIN_STEPS': 9000, 'BATCH_SIZE': 16, 'SEED': 3,
    'EVAL_EVERY': 0, 'CHECKPOINT_EVERY': 5, 'LOG_EVERY': 2, 'KEEP': 1,
    'MAX_MINUTES': 2.5, 'MESH': {'data': -1}, 'RULES': (), 'MAX_ROLLBACKS': 1,
    'ROLLBACK_RATE': 0.5, 'EXPLODE_FACTOR': 9.0, 'PREVIEW_CLIPS': 0,
    'HANG_MINUTES': 3.0, 'GENERATOR': 'rbg', 'COORDINATOR': '',
    'NUM_PROCESSES': None, 'PROCESS_ID': None}
_STAGE = {
    'CACHE_DIR': 'cache', 'DROPOUT_RATE': 0.2, 'Z_LOSS': 0.1,
    'LABEL_SMOOTHING': 0.1, 'MICROBATCH': 8, 'SKIP_DEVIATIONS': 8,
    'CONDITION_DROPOUT': {'mulan': 0.2}, 'CONDITION_NOISE': 0.1,
    'TEXT_SHARE': 0.5, 'INPUT_NOISE': 0.1}
_CODEC = {'CORPUS_DIR': 'corpus', 'CROP_SECONDS': 0.5}
# What each leaf takes besides what the loop does.
MACROS = {
    'semantic_tiny': _STAGE,
    'semantic_melody_tiny': _STAGE,
    'coarse_tiny': _STAGE,
    'fine_tiny': {k: v for k, v in _STAGE.items() if k not in (
        'CONDITION_DROPOUT', 'CONDITION_NOISE', 'TEXT_SHARE')},
    'framecodec_tiny': _CODEC,
    'framecodec_demo_decoder': {**_CODEC, 'START_FROM': 'codec'},
    'soundstream_tiny': _CODEC,
    'soundstream_demo_decoder': {**_CODEC, 'START_FROM': 'codec'},
    'w2vbert_tiny': _CODEC,
    'melody_tiny': {'CORPUS_DIR': 'corpus'},
    'mulan_tiny': {'CORPUS_DIR': 'corpus', 'MICROBATCH': 8},
    'mulan_ast_base': {'CORPUS_DIR': 'corpus', 'MICROBATCH': 8,
                       'TEXT_CHECKPOINT': 'text'},
}


def test_no_leaf_is_gone():
  assert len(LEAVES) == 40 and set(LEAVES) <= set(configs.leaves())


@pytest.mark.parametrize('name', INCLUDED)
def test_no_part_is_gone(name):
  assert configs.resolve(name) == configs.resolve(f'gin/{name}.gin')


@pytest.mark.parametrize('leaf', MACROS)
def test_each_macro_still_does_what_it_says(leaf):
  """A macro that nothing reads is refused by `configs.load`."""
  given = {**_RUN, **MACROS[leaf]}
  arguments = configs.load(leaf, given).arguments
  assert arguments['num_steps'] == 9000
  assert arguments['source'].batch_size == 16
  for name in ('seed', 'eval_every', 'log_every', 'keep', 'max_minutes',
               'mesh'):
    assert arguments[name] == given[name.upper()], name
