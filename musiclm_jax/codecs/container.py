"""`.slm`: a file of codec codes, exact, checked block by block.

Integers are little-endian and unsigned. The header:

  offset  bytes  field
       0      8  magic: 89 53 4C 4D 0D 0A 1A 0A ("\\x89SLM\\r\\n\\x1a\\n")
       8      2  version: 1
      10      1  levels Q: codes per frame, 1 to 255
      11      1  bits b per code: the least with 2^b >= K, 1 to 16
      12      4  sample rate, Hz
      16      4  hop: samples per frame
      20      4  codebook size K, 2 to 65,536
      24      8  length N in samples; 0: the writer never finished
      32      4  frames per block F, 1 to 4,096
      36      8  fingerprint of the codec's spec
      44      8  identity of the codec's weights (`identity` below)
      52      4  CRC32 of bytes 0 to 51
      56         blocks

The sound has T = ceil(N / hop) frames, so there are ceil(T / F) blocks, of F
frames each; the last one has the rest. Block i is its codes, then four bytes of
checksum. The codes stand frame by frame, level 1 first within a frame, b bits
each with the highest bit first, without gaps; zero bits fill the last byte. The
checksum is the CRC32 of i (four bytes) followed by the block's bytes, so that
blocks which changed places are found too. Nothing follows the last block.

With 12 levels of 1,024 and 50 frames a second, a block of 250 frames is 5 s in
3,750 + 4 bytes: 6.006 kbps with everything. CRC32 is zlib's.

Blocks are written as they come; only the length is filled in at the end. A
reader needs one block at a time, and allocates nothing that the file's own size
does not justify.
"""

from collections.abc import Iterator
import dataclasses
import hashlib
import json
import os
import pathlib
import struct
from typing import Any
from typing import Self
import zlib

import numpy as np

from musiclm_jax import bundle
from musiclm_jax import errors
from musiclm_jax import files
from musiclm_jax import specs

MAGIC = b'\x89SLM\r\n\x1a\n'
VERSION = 1
BLOCK_FRAMES = 250  # 5 s at 50 Hz
MAX_BLOCK_FRAMES = 4096
_FIELDS = struct.Struct('<8sHBBIIIQI8s8s')
_CRC = struct.Struct('<I')
HEADER_BYTES = _FIELDS.size + _CRC.size


@dataclasses.dataclass(frozen=True)
class Header:
  """What a file says about itself; see the module's table.

  `spec_fingerprint` and `weights_identity` are 16 hexadecimal digits each.
  """

  levels: int
  sample_rate_hz: int
  hop_samples: int
  codebook_size: int
  num_samples: int
  block_frames: int
  spec_fingerprint: str
  weights_identity: str

  def __post_init__(self):
    for name, low, high in (
        ('levels', 1, 255), ('sample_rate_hz', 1, 2**32 - 1),
        ('hop_samples', 1, 2**32 - 1), ('codebook_size', 2, 65_536),
        ('num_samples', 0, 2**64 - 1), ('block_frames', 1, MAX_BLOCK_FRAMES)):
      value = getattr(self, name)
      if not low <= value <= high:
        raise errors.UserError(
            f'{name} is {value}; expected {low} to {high}.')

  @property
  def bits(self) -> int:
    """Bits of one code: 10 for 1,024 entries."""
    return (self.codebook_size - 1).bit_length()

  @property
  def num_frames(self) -> int:
    return -(-self.num_samples // self.hop_samples)

  @property
  def num_blocks(self) -> int:
    return -(-self.num_frames // self.block_frames)

  def frames_of(self, block: int) -> int:
    """Frames in block 0, 1 ...: `block_frames`, or what is left."""
    if not self.num_samples:
      return self.block_frames
    return min(self.block_frames,
               self.num_frames - block * self.block_frames)

  def bytes_of(self, block: int) -> int:
    """Bytes of a block in the file, checksum included."""
    return self._bytes(self.frames_of(block))

  def offset_of(self, block: int) -> int:
    """Where a block begins; `num_blocks` gives the file's size."""
    offset = HEADER_BYTES + block * self._bytes(self.block_frames)
    if self.num_samples and block == self.num_blocks:  # after the last one
      offset += self.bytes_of(block - 1) - self._bytes(self.block_frames)
    return offset

  def samples_before(self, block: int) -> int:
    """Samples that the blocks before this one hold."""
    return min(block * self.block_frames * self.hop_samples,
               self.num_samples or 2**64)

  def seconds_before(self, block: int) -> float:
    return self.samples_before(block) / self.sample_rate_hz

  def _bytes(self, frames):
    return -(-frames * self.levels * self.bits // 8) + _CRC.size

  def pack(self) -> bytes:
    """The header's bytes."""
    fields = _FIELDS.pack(
        MAGIC, VERSION, self.levels, self.bits, self.sample_rate_hz,
        self.hop_samples, self.codebook_size, self.num_samples,
        self.block_frames, bytes.fromhex(self.spec_fingerprint),
        bytes.fromhex(self.weights_identity))
    return fields + _CRC.pack(zlib.crc32(fields))


def identity(codec: Any) -> str:
  """16 hexadecimal digits of the codec's configuration and weights.

  SHA-256 of the configuration as JSON with sorted keys, then for each array in
  the order of its name: name, a zero byte, its values as little-endian float32.

  Args:
    codec: a `codec.Codec`.
  """
  weights = bundle.flatten(dict(params=codec.params, codebooks=codec.codebooks))
  digest = hashlib.sha256(json.dumps(
      specs.to_dict(codec.config), sort_keys=True).encode())
  for name in sorted(weights):
    digest.update(name.encode() + b'\0')
    digest.update(np.ascontiguousarray(weights[name], '<f4').data)
  return digest.hexdigest()[:16]


def header_for(codec: Any, levels: int, num_samples: int = 0,
               block_frames: int = BLOCK_FRAMES) -> Header:
  """The `Header` of codes that `codec` makes with its first `levels`."""
  spec = codec.spec
  return Header(
      levels, spec.sample_rate_hz, spec.hop_samples, spec.codebook_size,
      num_samples, block_frames, specs.fingerprint(spec), identity(codec))


def unpack_header(data: bytes, name: str | os.PathLike) -> Header:
  """The `Header` in the first bytes of a file, or a UserError.

  Args:
    data: bytes; more than a header is fine.
    name: of the file, for messages.
  """
  if data[:len(MAGIC)] != MAGIC[:len(data)] or not data:
    raise errors.UserError(
        f'{name} is not an .slm file; expected one that `musiclm codec encode` '
        f'wrote.')
  if len(data) < HEADER_BYTES:
    raise errors.UserError(
        f'{name} ends inside its header, after {len(data)} of {HEADER_BYTES} '
        f'bytes; nothing can be decoded.')
  (_, version, levels, bits, rate, hop, size, samples, block_frames,
   fingerprint, weights) = _FIELDS.unpack_from(data)
  if version != VERSION:
    raise errors.UserError(
        f'{name} has format version {version}; this program reads version '
        f'{VERSION}: update it, or the file is damaged.')
  if _CRC.unpack_from(data, _FIELDS.size)[0] != zlib.crc32(
      data[:_FIELDS.size]):
    raise errors.UserError(
        f'the header of {name} is damaged: its checksum does not match; '
        f'nothing can be decoded.')
  try:
    header = Header(levels, rate, hop, size, samples, block_frames,
                    fingerprint.hex(), weights.hex())
  except errors.UserError as error:
    raise errors.UserError(f'the header of {name} is wrong: {error}') from error
  if bits != header.bits:
    raise errors.UserError(
        f'the header of {name} is wrong: {bits} bits a code; expected '
        f'{header.bits} for codebooks of {size}.')
  return header


def pack_codes(codes: np.ndarray, bits: int) -> bytes:
  """[n, Q] codes -> bytes, `bits` each, highest bit first."""
  planes = np.asarray(codes).reshape(-1, 1) >> np.arange(bits - 1, -1, -1)
  return np.packbits((planes & 1).astype(np.uint8)).tobytes()


def unpack_codes(data: bytes, frames: int, levels: int,
                 bits: int) -> np.ndarray:
  """Bytes -> [frames, levels] int32; the inverse of `pack_codes`."""
  planes = np.unpackbits(
      np.frombuffer(data, np.uint8), count=frames * levels * bits)
  weights = 1 << np.arange(bits - 1, -1, -1, dtype=np.int32)
  return (planes.reshape(-1, bits) @ weights).reshape(frames, levels)


class Writer:
  """Writes a file block by block; it appears when finished, or not at all.

    with Writer('song.slm', header_for(codec, levels=12)) as writer:
      for codes in ...:
        writer.write(codes)          # [n, levels], any n
      writer.finish(num_samples)
  """

  def __init__(self, path: str | os.PathLike, header: Header):
    self._path = pathlib.Path(path)
    self._temporary = files.temporary(self._path)
    self._header = dataclasses.replace(header, num_samples=0)
    self._waiting = np.zeros((0, header.levels), np.int32)
    self._block = self._frames = 0
    self._file = None

  def __enter__(self) -> Self:
    self._file = open(self._temporary, 'wb')
    self._file.write(self._header.pack())
    return self

  def __exit__(self, *unused_error: Any) -> None:
    try:
      self._file.close()  # which writes what is left, and may fail
    finally:
      self._temporary.unlink(missing_ok=True)

  def write(self, codes: np.ndarray) -> None:
    """Adds [n, levels] codes, 0..K-1."""
    codes = np.asarray(codes)
    header = self._header
    if codes.ndim != 2 or codes.shape[1] != header.levels:
      raise ValueError(
          f'codes have shape {codes.shape}; expected [n, {header.levels}].')
    if codes.size and not (
        0 <= codes.min() and codes.max() < header.codebook_size):
      raise ValueError(
          f'codes are in {codes.min()}..{codes.max()}; expected '
          f'0..{header.codebook_size - 1}.')
    self._waiting = np.concatenate([self._waiting, codes.astype(np.int32)])
    self._frames += len(codes)
    while len(self._waiting) >= header.block_frames:
      self._write_block(self._waiting[:header.block_frames])
      self._waiting = self._waiting[header.block_frames:]

  def finish(self, num_samples: int) -> None:
    """Writes the rest and the length in samples, and puts the file in place.
    """
    header = dataclasses.replace(self._header, num_samples=num_samples)
    if num_samples < 1 or header.num_frames != self._frames:
      raise ValueError(
          f'{num_samples} samples need {header.num_frames} frames; '
          f'{self._frames} were written.')
    if len(self._waiting):
      self._write_block(self._waiting)
    self._file.seek(0)
    self._file.write(header.pack())
    self._file.close()
    os.replace(self._temporary, self._path)

  def _write_block(self, codes):
    data = pack_codes(codes, self._header.bits)
    self._file.write(data + _CRC.pack(_checksum(self._block, data)))
    self._block += 1


class Reader:
  """Reads a file block by block; all of it is checked before the first one.

  Attributes:
    header: the `Header`.
    num_samples: length of what can be decoded: the header's, or less where a
      damaged file is salvaged.
    damage: None, or one line that says what is wrong and where.
  """

  def __init__(self, path: str | os.PathLike, salvage: bool = False):
    """Opens and checks a file.

    Args:
      path: the file.
      salvage: accept a damaged file, up to its first damaged block.

    Raises:
      UserError: missing, not this format, damaged (unless `salvage`), or
        nothing left to salvage. It names the block and the second.
    """
    self._path = pathlib.Path(path)
    errors.check_input(path, 'code file')
    with open(self._path, 'rb') as file:
      self.header = unpack_header(file.read(HEADER_BYTES), self._path)
      size = file.seek(0, os.SEEK_END)
      self._intact, self.damage = self._scan(file, size)
    self.num_samples = self.header.samples_before(self._intact)
    if self.damage is None:
      return
    if not salvage:
      raise errors.UserError(
          f'{self.damage}; --salvage decodes the '
          f'{self.header.seconds_before(self._intact):.1f} s before it.'
          if self._intact else f'{self.damage}; nothing can be decoded.')
    if not self._intact:
      raise errors.UserError(f'{self.damage}; there is nothing to salvage.')

  @property
  def levels(self) -> int:
    return self.header.levels

  def check_codec(self, codec: Any) -> None:
    """UserError unless `codec` made this file."""
    header = self.header
    made = header_for(
        codec, header.levels, header.num_samples, header.block_frames)
    for field, what in (('spec_fingerprint', 'another spec'),
                        ('weights_identity', 'other weights')):
      theirs, ours = getattr(header, field), getattr(made, field)
      if theirs != ours:
        raise errors.UserError(
            f'{self._path} was made by a codec of {what}: {theirs}, and this '
            f'one is {ours}; give the --bundle that made it.')
    if header != made or header.levels > codec.spec.num_codebooks:
      raise errors.UserError(
          f'the header of {self._path} is wrong: {header.levels} levels of '
          f'{header.codebook_size} at {header.sample_rate_hz} Hz and a hop of '
          f'{header.hop_samples} do not fit the codec that it names.')

  def blocks(self) -> Iterator[np.ndarray]:
    """Yields the codes of each good block: [n, levels] int32."""
    with open(self._path, 'rb') as file:
      for block in range(self._intact):
        codes = self._read(file, block)
        if codes is None:
          raise errors.UserError(
              f'{self._path} changed while it was read, in '
              f'{self._where(block)}.')
        yield codes

  def read(self) -> np.ndarray:
    """All codes that can be decoded: [T, levels] int32."""
    return np.concatenate(list(self.blocks()))

  def _scan(self, file, size):
    """(good blocks, damage or None) of the whole file."""
    header, block = self.header, 0
    finished = header.num_samples > 0
    while not finished or block < header.num_blocks:
      if header.offset_of(block) + header.bytes_of(block) > size:
        cause = 'ends' if finished else 'was never finished: it ends'
        return block, f'{self._path} {cause} in {self._where(block)}'
      if self._read(file, block) is None:
        return block, f'{self._path} is damaged in {self._where(block)}'
      block += 1
    extra = size - header.offset_of(block)
    if extra:
      return block, f'{self._path} has {extra} bytes after its last block'
    return block, None

  def _read(self, file, block):
    """Codes of one block, or None where the checksum or a code is wrong."""
    header = self.header
    file.seek(header.offset_of(block))
    data = file.read(header.bytes_of(block))
    data, crc = data[:-_CRC.size], data[-_CRC.size:]
    if crc != _CRC.pack(_checksum(block, data)):
      return None
    codes = unpack_codes(
        data, header.frames_of(block), header.levels, header.bits)
    return codes if codes.max() < header.codebook_size else None

  def _where(self, block):
    header = self.header
    total = (f' of {header.num_samples / header.sample_rate_hz:.1f} s'
             if header.num_samples else '')
    return f'block {block + 1}, at {header.seconds_before(block):.1f} s{total}'


def _checksum(block, data):
  return zlib.crc32(data, zlib.crc32(_CRC.pack(block & 0xffffffff)))
