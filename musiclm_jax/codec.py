"""Encodes audio to SoundStream codes and back.

  musiclm codec encode song.flac -o song.npy
  musiclm codec decode song.npy -o song.wav --levels 4

The codes are an int16 array [frames, levels], 50 frames a second.
"""

import os
import pathlib

from musiclm_jax import errors


def add_arguments(parser):
  """The options of `musiclm codec`."""
  parser.add_argument('direction', choices=('encode', 'decode'))
  parser.add_argument('input')
  parser.add_argument('-o', '--output', required=True, metavar='FILE')
  parser.add_argument('--levels', type=int, default=12,
                      help='codebooks to keep, 1 to 12 (default: %(default)s)')
  parser.add_argument('--bundle', metavar='DIR')


def run(args):
  """Encodes or decodes one file."""
  from musiclm_jax import bundle as bundle_lib  # pylint: disable=g-import-not-at-top
  bundle = bundle_lib.Bundle(args.bundle or bundle_lib.shipped())
  bundle.require('soundstream')
  num_codebooks = bundle.tokens.codec.num_codebooks
  if not 1 <= args.levels <= num_codebooks:
    raise errors.UserError(
        f'--levels is {args.levels}; expected 1 to {num_codebooks}.')
  if args.direction == 'encode':
    _encode(bundle, args)
  else:
    _decode(bundle, args)


def _encode(bundle, args):
  import numpy as np  # pylint: disable=g-import-not-at-top
  from musiclm_jax import audio  # pylint: disable=g-import-not-at-top
  path = pathlib.Path(args.output)
  if path.suffix != '.npy' or not path.parent.is_dir():
    raise errors.UserError(
        f'output {path} must end in .npy and its folder must exist.')
  sound = audio.read(args.input, bundle.tokens.audio.sample_rate_hz)
  codes = bundle.get('soundstream').encode(sound[None])[0, :, :args.levels]
  temporary = path.with_name(f'.{path.stem}.tmp.npy')
  np.save(temporary, np.asarray(codes, np.int16))
  os.replace(temporary, path)
  rate = bundle.tokens.codec.frame_rate_hz
  print(f'{path}: {codes.shape[0]} frames of {codes.shape[1]} codes, '
        f'{codes.shape[0] / rate:.1f} s')


def _decode(bundle, args):
  import numpy as np  # pylint: disable=g-import-not-at-top
  from musiclm_jax import audio  # pylint: disable=g-import-not-at-top
  audio.check_output(args.output)
  codec = bundle.tokens.codec
  if not pathlib.Path(args.input).is_file():
    raise errors.UserError(f'code file {args.input} does not exist.')
  try:
    codes = np.load(args.input, allow_pickle=False)
  except (ValueError, OSError, EOFError) as error:
    raise errors.UserError(
        f'{args.input} is not a .npy code file ({error}).') from error
  if (codes.ndim != 2 or not len(codes) or
      not np.issubdtype(codes.dtype, np.integer) or
      not 1 <= codes.shape[1] <= codec.num_codebooks):
    raise errors.UserError(
        f'{args.input} holds {codes.dtype} {codes.shape}; expected integers '
        f'[frames, 1 to {codec.num_codebooks}].')
  if codes.min() < 0 or codes.max() >= codec.codebook_size:
    raise errors.UserError(
        f'{args.input} holds codes {codes.min()}..{codes.max()}; expected '
        f'0..{codec.codebook_size - 1}.')
  codes = codes[None, :, :args.levels].astype(np.int32)
  sound = np.asarray(bundle.get('soundstream').decode(codes))[0]
  audio.write(args.output, sound, codec.sample_rate_hz)
  print(f'{args.output}: {len(sound) / codec.sample_rate_hz:.1f} s')
