"""Containers of codes: exact, small, and never fooled by a damaged file."""

import dataclasses
import struct
import tracemalloc
import types
import zlib

import hypothesis
from hypothesis import strategies as st
import numpy as np
import pytest

from musiclm_jax import errors
from musiclm_jax import specs
from musiclm_jax.codecs import container
from musiclm_jax.codecs.soundstream import model

HEADER = container.Header(
    levels=12, sample_rate_hz=24_000, hop_samples=480, codebook_size=1024,
    num_samples=0, block_frames=50, spec_fingerprint='0123456789abcdef',
    weights_identity='fedcba9876543210')


def _codec(value=0.0, **config):
  """What a container wants to know of a codec."""
  config = model.SoundStreamConfig(**config)
  return types.SimpleNamespace(
      config=config, spec=config.spec,
      params={'encoder': {'kernel': np.full((2, 3), value, np.float32)}},
      codebooks=np.zeros((12, 4, 2), np.float32))


def _write(path, codes, num_samples=None, step=None, **header):
  """Writes `codes` in pieces of `step` frames; the header in use."""
  header = dataclasses.replace(HEADER, levels=codes.shape[1], **header)
  if num_samples is None:
    num_samples = len(codes) * header.hop_samples
  with container.Writer(path, header) as writer:
    for start in range(0, len(codes), step or len(codes)):
      writer.write(codes[start:start + (step or len(codes))])
    writer.finish(num_samples)
  return header


def _draw(frames, levels, seed=0, size=1024):
  return np.random.default_rng([seed, frames, levels]).integers(
      0, size, (frames, levels))


@pytest.fixture(name='path')
def _path(tmp_path):
  return tmp_path / 'song.slm'


@hypothesis.settings(max_examples=150, deadline=None, derandomize=True)
@hypothesis.given(
    samples=st.integers(1, 400), levels=st.integers(1, 12),
    block_frames=st.integers(1, 40), step=st.integers(1, 70),
    size=st.integers(2, 65_536), hop=st.integers(1, 7),
    seed=st.integers(0, 99))
def test_any_codes_round_trip(tmp_path_factory, samples, levels, block_frames,
                              step, size, hop, seed):
  path = tmp_path_factory.getbasetemp() / 'any.slm'
  codes = _draw(-(-samples // hop), levels, seed, size)
  header = _write(path, codes, samples, step, block_frames=block_frames,
                  hop_samples=hop, codebook_size=size)
  reader = container.Reader(path)
  np.testing.assert_array_equal(reader.read(), codes)
  assert reader.num_samples == samples and reader.damage is None
  assert reader.header == dataclasses.replace(header, num_samples=samples)
  bits = (size - 1).bit_length()
  blocks = [min(block_frames, len(codes) - i)
            for i in range(0, len(codes), block_frames)]
  assert path.stat().st_size == 56 + sum(
      -(-n * levels * bits // 8) + 4 for n in blocks)
  assert path.stat().st_size == reader.header.offset_of(len(blocks))


def test_bytes_are_as_documented(path):
  # Written by hand from the table: 3 frames of 2 levels, 2 frames a block.
  codes = np.array([[1, 1023], [512, 3], [0, 700]])
  _write(path, codes, 1201, block_frames=2)
  fields = (b'\x89SLM\r\n\x1a\n' + bytes([1, 0, 2, 10]) +
            struct.pack('<III', 24_000, 480, 1024) + struct.pack('<Q', 1201) +
            struct.pack('<I', 2) + bytes.fromhex('0123456789abcdef') +
            bytes.fromhex('fedcba9876543210'))
  assert len(fields) == 52
  expected = fields + struct.pack('<I', zlib.crc32(fields))
  for i, block in enumerate((codes[:2], codes[2:])):
    bits = ''.join(f'{code:010b}' for code in block.reshape(-1))
    bits += '0' * (-len(bits) % 8)
    data = bytes(int(bits[k:k + 8], 2) for k in range(0, len(bits), 8))
    checksum = zlib.crc32(struct.pack('<I', i) + data)
    expected += data + struct.pack('<I', checksum)
  assert path.read_bytes() == expected


def test_six_kilobits_a_second_cost_six(path):
  _write(path, _draw(3000, 12), block_frames=250)  # a minute
  assert path.stat().st_size == 45_000 + 12 * 4 + 56
  assert path.stat().st_size * 8 / 60 < 6_020


def _mutate(rng, data):
  """One of bit flips, truncation, insertion, random bytes."""
  data = bytearray(data)
  at = int(rng.integers(len(data)))
  kind = rng.integers(6)
  if kind == 0:
    for bit in rng.integers(8 * len(data), size=rng.integers(1, 5)):
      data[bit // 8] ^= 1 << bit % 8
  elif kind == 1:
    del data[at:]
  elif kind == 2:
    data[at:at] = rng.bytes(int(rng.integers(1, 200)))
  elif kind == 3:
    data[at:at + 20] = rng.bytes(int(rng.integers(1, 40)))
  elif kind == 4:
    del data[at:at + int(rng.integers(1, 100))]
  else:  # the header lies, and its checksum agrees
    data[int(rng.integers(8, 52))] = int(rng.integers(256))
    data[52:56] = struct.pack('<I', zlib.crc32(data[:52]))
  return bytes(data)


@pytest.mark.parametrize('salvage', [False, True])
def test_mutated_files_are_decoded_exactly_or_refused(path, salvage):
  rng = np.random.default_rng(7)
  codes, codec = _draw(230, 12), _codec()
  header = container.header_for(codec, 12, block_frames=50)
  with container.Writer(path, header) as writer:
    writer.write(codes)
    writer.finish(230 * 480 - 100)
  good = path.read_bytes()
  kept = refused = exact = 0
  for _ in range(500):
    mutated = _mutate(rng, good)
    path.write_bytes(mutated)
    try:
      reader = container.Reader(path, salvage)
      reader.check_codec(codec)
      got = reader.read()
    except errors.UserError as error:
      assert str(error).count('\n') == 0 and 'song.slm' in str(error)
      refused += 1
      continue
    np.testing.assert_array_equal(got, codes[:len(got)])
    if reader.damage is None:
      assert len(got) == 230 and reader.num_samples <= 230 * 480
      assert mutated[56:] == good[56:]
      exact += 1
    else:
      assert salvage and len(got) in (50, 100, 150, 200, 230)
      assert reader.num_samples == min(len(got) * 480, 230 * 480 - 100)
      kept += 1
  assert refused > (50 if salvage else 400)
  assert kept > 100 if salvage else not kept


@pytest.mark.parametrize('block, second', [(0, 0), (1, 1), (4, 4)])
def test_a_flipped_bit_is_found_where_it_is(path, block, second):
  _write(path, _draw(230, 12))
  data = bytearray(path.read_bytes())
  data[56 + block * 754 + 100] ^= 16
  path.write_bytes(data)
  message = f'damaged in block {block + 1}, at {second}.0 s of 4.6 s'
  with pytest.raises(errors.UserError, match=message):
    container.Reader(path)
  if not block:
    with pytest.raises(errors.UserError, match='nothing to salvage'):
      container.Reader(path, salvage=True)
    return
  reader = container.Reader(path, salvage=True)
  assert reader.num_samples == second * 24_000 and message in reader.damage
  np.testing.assert_array_equal(
      reader.read(), _draw(230, 12)[:second * 50])


def test_exchanged_blocks_are_found(path):
  _write(path, _draw(150, 12))
  data = path.read_bytes()
  path.write_bytes(data[:56] + data[56 + 754:56 + 2 * 754] +
                   data[56:56 + 754] + data[56 + 2 * 754:])
  with pytest.raises(errors.UserError, match='damaged in block 1'):
    container.Reader(path)


@pytest.mark.parametrize('keep, message', [
    (0, 'is not an .slm file'),
    (5, 'ends inside its header'),
    (55, 'ends inside its header, after 55 of 56 bytes'),
    (56, 'ends in block 1, at 0.0 s of 4.6 s; nothing'),
    (56 + 753, 'ends in block 1, at 0.0 s of 4.6 s'),
    (56 + 754, 'ends in block 2, at 1.0 s of 4.6 s; --salvage decodes the 1.0'),
    (-1, 'ends in block 5, at 4.0 s'),
])
def test_truncation_says_where(path, keep, message):
  _write(path, _draw(230, 12))
  path.write_bytes(path.read_bytes()[:keep])
  with pytest.raises(errors.UserError, match=message):
    container.Reader(path)


def test_bytes_after_the_end_are_no_part_of_it(path):
  _write(path, _draw(60, 3))
  path.write_bytes(path.read_bytes() + b'more')
  with pytest.raises(errors.UserError, match='4 bytes after its last block'):
    container.Reader(path)
  np.testing.assert_array_equal(
      container.Reader(path, salvage=True).read(), _draw(60, 3))


@pytest.mark.parametrize('offset, layout, value, message', [
    (0, '<8s', b'RIFFWAVE', 'is not an .slm file'),
    (8, '<H', 2, 'version 2; this program reads version 1'),
    (10, '<B', 0, 'levels is 0'),
    (11, '<B', 9, '9 bits a code; expected 10'),
    (12, '<I', 0, 'sample_rate_hz is 0'),
    (16, '<I', 0, 'hop_samples is 0'),
    (20, '<I', 1, 'codebook_size is 1'),
    (20, '<I', 2**32 - 1, 'codebook_size is 4294967295'),
    (24, '<Q', 2**64 - 1, 'ends in block 2'),
    (24, '<Q', 0, 'was never finished'),
    (32, '<I', 0, 'block_frames is 0'),
    (32, '<I', 2**32 - 1, 'block_frames is 4294967295'),
])
def test_absurd_headers_are_refused(path, offset, layout, value, message):
  _write(path, _draw(60, 12))
  data = bytearray(path.read_bytes())
  struct.pack_into(layout, data, offset, value)
  struct.pack_into('<I', data, 52, zlib.crc32(data[:52]))
  path.write_bytes(data)
  tracemalloc.start()
  with pytest.raises(errors.UserError, match=message):
    container.Reader(path)
  peak = tracemalloc.get_traced_memory()[1]
  tracemalloc.stop()
  assert peak < 2_000_000


def test_codes_beyond_the_codebook_are_damage(path):
  _write(path, _draw(60, 12), codebook_size=1024)
  data = bytearray(path.read_bytes())
  struct.pack_into('<I', data, 20, 1000)  # 10 bits still
  struct.pack_into('<I', data, 52, zlib.crc32(data[:52]))
  path.write_bytes(data)
  with pytest.raises(errors.UserError, match='damaged in block 1'):
    container.Reader(path)


def test_only_the_codec_that_made_it_may_decode(path):
  codec = _codec()
  with container.Writer(path, container.header_for(codec, 4)) as writer:
    writer.write(_draw(10, 4))
    writer.finish(4_800)
  reader = container.Reader(path)
  reader.check_codec(_codec())
  with pytest.raises(errors.UserError, match='other weights'):
    reader.check_codec(_codec(value=1e-3))
  with pytest.raises(errors.UserError, match='other weights'):
    reader.check_codec(_codec(kernel_size=5))
  with pytest.raises(errors.UserError, match='another spec'):
    reader.check_codec(_codec(spec=specs.CodecSpec(strides=(2, 4, 5, 12))))


@pytest.mark.parametrize('change', [
    dict(levels=13), dict(sample_rate_hz=48_000), dict(hop_samples=320),
    dict(codebook_size=1000)])
def test_a_header_that_contradicts_its_codec_is_refused(path, change):
  codec = _codec()
  header = dataclasses.replace(container.header_for(codec, 4), **change)
  with container.Writer(path, header) as writer:
    writer.write(_draw(10, header.levels, size=900))
    writer.finish(10 * header.hop_samples)
  with pytest.raises(errors.UserError, match='do not fit the codec'):
    container.Reader(path).check_codec(codec)


def test_an_interrupted_writer_leaves_nothing(path, tmp_path):
  with pytest.raises(KeyboardInterrupt):
    with container.Writer(path, HEADER) as writer:
      writer.write(_draw(120, 12))
      raise KeyboardInterrupt
  assert not list(tmp_path.iterdir())


def test_an_unfinished_file_keeps_its_whole_blocks(path, tmp_path):
  with container.Writer(path, HEADER) as writer:
    writer.write(_draw(120, 12))
    writer._file.flush()
    path.write_bytes(next(tmp_path.glob('.*')).read_bytes())
  reader = container.Reader(path, salvage=True)
  np.testing.assert_array_equal(reader.read(), _draw(120, 12)[:100])
  assert 'never finished' in reader.damage
  assert reader.num_samples == 100 * 480


@pytest.mark.parametrize('codes, message', [
    (np.zeros((3, 11), int), r'expected \[n, 12\]'),
    (np.full((3, 12), 1024), '1024..1024'),
    (np.full((3, 12), -1), '-1..-1')])
def test_wrong_codes_are_not_written(path, codes, message):
  with pytest.raises(ValueError, match=message):
    with container.Writer(path, HEADER) as writer:
      writer.write(codes)
  assert not path.exists()


@pytest.mark.parametrize('num_samples', [0, 480 * 2, 480 * 3 + 1])
def test_the_length_must_fit_the_frames(path, num_samples):
  with pytest.raises(ValueError, match='3 were written'):
    _write(path, _draw(3, 12), num_samples)
  assert not path.exists()
