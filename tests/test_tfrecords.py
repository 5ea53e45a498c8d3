"""TFRecord files: as TensorFlow has them, and damage is named."""

import io

import pytest

from musiclm_jax import tfrecords


def _file(*payloads):
  out = io.BytesIO()
  for payload in payloads:
    tfrecords.append(out, payload)
  return out.getvalue()


def _spans(data, check=True):
  return list(tfrecords.spans(memoryview(data), 'x', 'do it again', check))


def test_the_checksum_is_that_of_the_standard():
  # RFC 3720, B.4: 32 zeros have the CRC-32C 0x8a9136aa.
  crc = 0x8a9136aa
  rotated = (crc >> 15 | crc << 17) & 0xffffffff
  assert tfrecords.masked_crc(bytes(32)) == (rotated + 0xa282ead8) % 2**32


def test_payloads_are_found():
  data = _file(b'one', b'', b'three' * 99)
  assert [data[a:b] for a, b in _spans(data)] == [b'one', b'', b'three' * 99]


@pytest.mark.parametrize('damage, words', [
    (lambda d: d[:-1], 'cut within record 2; do it again'),
    (lambda d: d[:30], 'cut within record 2'),
    (lambda d: b'\xff' + d[1:], 'head of record 1 has another checksum'),
    (lambda d: d[:13] + b'X' + d[14:], 'record 1 has another checksum')])
def test_damage_is_named(damage, words):
  with pytest.raises(tfrecords.Damaged, match=words):
    _spans(damage(_file(b'first', b'second')))


def test_checksums_of_payloads_are_compared_where_asked():
  data = bytearray(_file(b'first'))
  data[13] ^= 1
  assert len(_spans(bytes(data), check=False)) == 1


def test_an_example_is_parsed_where_it_stands():
  values = dict(b=[b'x' * 300], a=[b'', b'yz'], none=[])
  payload = tfrecords.example(values)
  found = tfrecords.parse(memoryview(payload))
  assert {name: [payload[a:b] for a, b in spans]
          for name, spans in found.items()} == values


@pytest.mark.parametrize('payload', [
    b'\x0a', b'\x0a\xff', b'\x0a\x05ab', b'\x0f', b'\xff' * 20])
def test_no_example(payload):
  with pytest.raises(ValueError):
    tfrecords.parse(memoryview(payload))


def test_it_is_what_tensorflow_reads_and_writes(tmp_path):
  tf = pytest.importorskip('tensorflow')
  values = dict(audio=[bytes(range(256)) * 9], captions=[b'a', b''], none=[])
  (tmp_path / 'x').write_bytes(_file(tfrecords.example(values), b'second'))
  first, second = tf.data.TFRecordDataset(str(tmp_path / 'x')).as_numpy_iterator()
  assert second == b'second'
  example = tf.train.Example.FromString(first)
  assert {name: list(value.bytes_list.value)
          for name, value in example.features.feature.items()} == values
  # Numbers beside the bytes, and another order of fields.
  example.features.feature['n'].int64_list.value.extend([1, 300])
  example.features.feature['f'].float_list.value.extend([0.5])
  with tf.io.TFRecordWriter(str(tmp_path / 'y')) as writer:
    writer.write(example.SerializeToString())
  data = (tmp_path / 'y').read_bytes()
  ((a, b),) = _spans(data)
  found = tfrecords.parse(memoryview(data)[a:b])
  assert [data[a:b][slice(*p)] for p in found['audio']] == values['audio']
  assert found['n'] == [] and found['f'] == []
