"""Anybody's clips beside anybody's recordings: no bundle is needed.

  --generated DIR   audio files
  --reference DIR   recordings, or the .npz that --save-statistics wrote
  --captions CSV    id,caption and any facts (tempo_bpm, key, family, ...)

Files of the same name, without suffix, are a pair. What takes pairs (KLD),
captions (MCC, with --bundle or --joint) or facts is measured where there are any;
what cannot be measured is listed with the reason. Two rows say how to read the
figures: the reference's one half beside its other, and white noise.

  musiclm evaluate folder --generated DIR --reference DIR [--captions CSV]
"""

from __future__ import annotations

import pathlib
import tempfile

from musiclm_jax import errors
from musiclm_jax.evaluation import baselines
from musiclm_jax.evaluation import clip_sets
from musiclm_jax.evaluation import comparison
from musiclm_jax.evaluation import embeddings
from musiclm_jax.evaluation import protocol
from musiclm_jax.evaluation import reference_statistics
from musiclm_jax.evaluation import runnable

EVALUATION = {
    'help': 'a folder of clips beside a folder of recordings, no bundle needed',
    'bundle': False,
    'corpus': False,
    'clips': None,
    'packages': ['sklearn'],
    'groups': ['measures'],
    'arguments': {
        '--generated': {'required': True, 'metavar': 'DIR',
                        'help': 'the clips to judge'},
        '--reference': {'required': True, 'metavar': 'DIR_OR_NPZ',
                        'help': 'recordings, or their saved statistics'},
        '--captions': {'metavar': 'CSV',
                       'help': 'id,caption and facts, by file name'},
        '--save-statistics': {'metavar': 'FILE.npz',
                              'help': "keep the reference's, for later runs"},
    },
}
RATE_HZ = 24_000  # of the noise


def run(asked: runnable.Asked) -> runnable.Outcome:
  """`musiclm evaluate folder`."""
  options = asked.options
  comparison.chosen(options.measures)  # an unknown name is said at once
  generated = clip_sets.from_folder(
      options.generated, options.captions, '--generated', 'generated')
  reference, statistics = _reference(options)
  keep = lambda context: None
  if options.save_statistics:
    reference_statistics.check_output(options.save_statistics)
    keep = lambda context: embeddings.save_statistics(
        options.save_statistics, context)
  rows = [comparison.Row('generated', generated, str(options.generated))]
  with tempfile.TemporaryDirectory() as temporary:
    if reference is not None:
      parts = comparison.halves(reference)
      if parts is not None:
        rows.append(comparison.Row(
            'reference, half', parts[0], 'one half of the recordings beside '
            'the other', parts[1]))
      rows.append(comparison.Row('noise', baselines.noise(
          reference, RATE_HZ, pathlib.Path(temporary), options.seed),
                                 'as loud as the recordings'))
    return protocol.measured(
        asked, rows, reference, f'{options.generated} beside '
        f'{options.reference}', f'{len(generated)} clips', statistics,
        after=keep)


def _reference(options):
  """(ClipSet, None) of a folder, (None, path) of saved statistics."""
  path = pathlib.Path(options.reference)
  if path.suffix == '.npz':
    errors.check_input(path, '--reference')
    if options.save_statistics:
      raise errors.UserError(
          '--save-statistics keeps those of a folder of recordings; '
          f'--reference is {path}.')
    return None, path
  # Recordings that belong to no clip need not be in the CSV.
  return clip_sets.from_folder(path, options.captions, '--reference',
                               'reference', named=False), None
