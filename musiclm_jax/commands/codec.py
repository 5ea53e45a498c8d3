"""Encodes audio to codes and back.

  musiclm codec encode song.mp3 -o song.slm
  musiclm codec decode song.slm -o song.wav --levels 4

An .slm file holds the codes in 10 bits each, checksums, the exact length, and
which codec made them; musiclm_jax/codecs/container.py describes it byte by
byte. A .npy file holds them as an int16 array [frames, levels], for research.
Files of any length take the same memory.
"""

import argparse
import itertools
import pathlib
import sys

from musiclm_jax import errors
from musiclm_jax import files
from musiclm_jax import progress as progress_lib

_CHUNK_SECONDS = 5


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """The options of `musiclm codec`."""
  parser.add_argument('direction', choices=('encode', 'decode'))
  parser.add_argument('input', help='encode: WAV, FLAC, OGG, Opus, '
                      'AIFF or MP3; decode: .slm or .npy')
  parser.add_argument('-o', '--output', required=True, metavar='FILE',
                      help='encode: .slm or .npy; decode: .wav or .flac')
  parser.add_argument('--levels', type=int, metavar='N',
                      help='codebooks to use, the first ones, 1 to 12 '
                      '(default: all)')
  parser.add_argument('--salvage', action='store_true',
                      help='decode a damaged .slm file up to the damage')
  parser.add_argument('--bundle', metavar='DIR',
                      help='trained components (default: the shipped ones)')


def run(args: argparse.Namespace) -> None:
  """Encodes or decodes one file."""
  from musiclm_jax import bundle as bundle_lib  # pylint: disable=g-import-not-at-top
  if args.salvage and args.direction == 'encode':
    raise errors.UserError('--salvage is for decode; leave it out.')
  bundle = bundle_lib.Bundle(args.bundle or bundle_lib.shipped())
  bundle.require('codec')
  num_codebooks = bundle.tokens.codec.num_codebooks
  if args.levels is not None and not 1 <= args.levels <= num_codebooks:
    raise errors.UserError(
        f'--levels is {args.levels}; expected 1 to {num_codebooks}.')
  with errors.of_files(args.output):
    (_encode if args.direction == 'encode' else _decode)(bundle, args)


def _encode(bundle, args):
  import numpy as np  # pylint: disable=g-import-not-at-top

  from musiclm_jax import audio_stream  # pylint: disable=g-import-not-at-top
  path = pathlib.Path(args.output)
  files.check_output(path, tuple(_WRITERS))
  spec = bundle.tokens.codec
  levels = args.levels or spec.num_codebooks
  size = _CHUNK_SECONDS * spec.sample_rate_hz
  with audio_stream.Source(args.input, spec.sample_rate_hz) as source:
    blocks = source.blocks(size)
    first = next(blocks)  # bad input fails before a model is loaded
    from musiclm_jax.codecs import streaming  # pylint: disable=g-import-not-at-top
    codec = bundle.get('codec')
    encoder, heard = streaming.Encoder(codec, levels), _Heard(spec, size)
    written = 0
    with _WRITERS[path.suffix.lower()](path, codec, levels) as writer, (
        progress_lib.Progress()) as progress:
      blocks = heard.padded(itertools.chain([first], blocks))
      for codes in encoder.stream(blocks):
        codes = np.asarray(codes)[0, :heard.frames - written]
        writer.write(codes)
        written += len(codes)
        progress.show('encode', heard.seconds, source.seconds)
      writer.finish(heard.num_samples)
  num_samples = heard.num_samples
  seconds = num_samples / spec.sample_rate_hz
  stored = path.stat().st_size
  print(f'{path}: {spec.num_frames(num_samples)} frames of {levels} codes, '
        f'{seconds:.1f} s, {stored} bytes, '
        f'{8e-3 * stored / seconds:.2f} kbps, latency '
        f'{1e3 * codec.latency_samples / spec.sample_rate_hz:.0f} ms')


class _Heard:
  """Blocks of audio on their way into the encoder, counted and padded.

  Padding every block to one size keeps to one compiled shape; what comes after
  the end is silence, which it would be for the codec anyway.
  """

  def __init__(self, spec, size):
    self._spec, self._size = spec, size
    self.num_samples = 0

  @property
  def frames(self):
    return self._spec.num_frames(self.num_samples)

  @property
  def seconds(self):
    return self.num_samples / self._spec.sample_rate_hz

  def padded(self, blocks):
    """[n] blocks -> [1, size] blocks."""
    import numpy as np  # pylint: disable=g-import-not-at-top
    for block in blocks:
      self.num_samples += len(block)
      yield np.pad(block, (0, self._size - len(block)))[None]


def _decode(bundle, args):
  import numpy as np  # pylint: disable=g-import-not-at-top

  from musiclm_jax import audio  # pylint: disable=g-import-not-at-top
  from musiclm_jax import audio_stream  # pylint: disable=g-import-not-at-top
  path = pathlib.Path(args.output)
  audio.check_output(path)
  spec = bundle.tokens.codec
  stored = _open_codes(args.input, spec, args.salvage)
  levels = args.levels or stored.levels
  if levels > stored.levels:
    raise errors.UserError(
        f'--levels is {levels}; {args.input} holds {stored.levels}.')
  from musiclm_jax.codecs import streaming  # pylint: disable=g-import-not-at-top
  codec = bundle.get('codec')
  stored.check_codec(codec)
  decoder = streaming.Decoder(codec)
  left = stored.num_samples
  total = left / spec.sample_rate_hz
  size = _CHUNK_SECONDS * spec.frame_rate_hz
  with audio_stream.Sink(path, spec.sample_rate_hz) as sink, (
      progress_lib.Progress()) as progress:
    for sound in decoder.stream(_chunks(stored.blocks(), size, levels)):
      sound = np.asarray(sound)[0, :left]
      sink.write(sound)
      left -= len(sound)
      progress.show('decode', total - left / spec.sample_rate_hz, total)
    sink.finish()
  if stored.damage:
    print(f'musiclm: warning: {stored.damage}; kept the {total:.1f} s before '
          f'it.', file=sys.stderr)
  print(f'{path}: {total:.1f} s')


def _chunks(blocks, size, levels):
  """Codes in chunks [1, size, levels]; the last frame fills the last one."""
  import numpy as np  # pylint: disable=g-import-not-at-top
  for codes in _regroup(blocks, size):
    yield np.pad(codes[:, :levels], ((0, size - len(codes)), (0, 0)),
                 mode='edge')[None]


def _regroup(blocks, size):
  """Arrays of any lengths -> the same rows in arrays of `size`, then the rest.
  """
  import numpy as np  # pylint: disable=g-import-not-at-top
  waiting = None
  for block in blocks:
    waiting = block if waiting is None else np.concatenate([waiting, block])
    while len(waiting) >= size:
      yield waiting[:size]
      waiting = waiting[size:]
  if waiting is not None and len(waiting):
    yield waiting


def _open_codes(path, spec, salvage):
  """A container's `Reader`, or what looks like one for an .npy array."""
  from musiclm_jax.codecs import container  # pylint: disable=g-import-not-at-top
  path = pathlib.Path(path)
  errors.check_input(path, 'code file')
  with open(path, 'rb') as file:
    start = file.read(6)
  if start == b'\x93NUMPY':
    if salvage:
      raise errors.UserError(
          f'{path} is a .npy array; --salvage is for .slm files.')
    return _Array(path, spec)
  if start[:4] in (b'RIFF', b'fLaC', b'OggS', b'ID3\x03', b'ID3\x04'):
    raise errors.UserError(
        f'{path} is audio, not codes; `musiclm codec encode` makes codes of '
        f'it.')
  return container.Reader(path, salvage)


class _Array:
  """An .npy file with the interface of `container.Reader`."""

  damage = None

  def __init__(self, path, spec):
    import numpy as np  # pylint: disable=g-import-not-at-top
    try:
      codes = np.load(path, allow_pickle=False, mmap_mode='r')
    except (ValueError, OSError, EOFError) as error:
      raise errors.UserError(
          f'{path} is damaged, or holds other things than numbers; expected '
          f'codes of `musiclm codec encode`.') from error
    if (codes.ndim != 2 or not len(codes) or
        not np.issubdtype(codes.dtype, np.integer) or
        not 1 <= codes.shape[1] <= spec.num_codebooks):
      raise errors.UserError(
          f'{path} holds {codes.dtype} {codes.shape}; expected integers '
          f'[frames, 1 to {spec.num_codebooks}].')
    if codes.min() < 0 or codes.max() >= spec.codebook_size:
      raise errors.UserError(
          f'{path} holds codes {codes.min()}..{codes.max()}; expected '
          f'0..{spec.codebook_size - 1}.')
    self.levels = codes.shape[1]
    self.num_samples = len(codes) * spec.hop_samples
    self._codes = codes

  def check_codec(self, codec):
    """An array does not say what made it."""

  def blocks(self):
    import numpy as np  # pylint: disable=g-import-not-at-top
    for start in range(0, len(self._codes), 1024):
      yield np.asarray(self._codes[start:start + 1024], np.int32)


class _ArrayWriter:
  """An .npy file with the interface of `container.Writer`; 2 bytes a code."""

  def __init__(self, path):
    self._path = path
    self._parts = []

  def __enter__(self):
    return self

  def __exit__(self, *unused_error):
    pass

  def write(self, codes):
    import numpy as np  # pylint: disable=g-import-not-at-top
    self._parts.append(codes.astype(np.int16))

  def finish(self, unused_num_samples):
    import numpy as np  # pylint: disable=g-import-not-at-top
    with files.whole(self._path) as temporary:
      with open(temporary, 'wb') as file:  # np.save adds .npy to a name
        np.save(file, np.concatenate(self._parts))


def _slm_writer(path, codec, levels):
  from musiclm_jax.codecs import container  # pylint: disable=g-import-not-at-top
  return container.Writer(path, container.header_for(codec, levels))


_WRITERS = {
    '.slm': _slm_writer,
    '.npy': lambda path, codec, levels: _ArrayWriter(path),
}
