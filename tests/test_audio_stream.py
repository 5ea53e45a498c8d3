"""Files block by block equal the files read and written whole."""

import numpy as np
import pytest
import soundfile
import soxr

from musiclm_jax import audio
from musiclm_jax import audio_stream
from musiclm_jax import errors


def _sound(samples, channels=2):
  rng = np.random.default_rng(samples)
  return (0.1 * rng.normal(size=(samples, channels))).astype(np.float32)


@pytest.mark.parametrize('extension', ['wav', 'flac', 'ogg', 'mp3'])
@pytest.mark.parametrize('rate', [24_000, 44_100])
def test_blocks_join_to_the_whole(tmp_path, extension, rate):
  path = tmp_path / f'a.{extension}'
  soundfile.write(path, _sound(5 * rate + 11), rate)
  whole = soundfile.read(path, dtype='float32')[0].mean(axis=1)
  if rate != 24_000:
    whole = soxr.resample(whole, rate, 24_000)
  with audio_stream.Source(path, 24_000) as source:
    assert source.seconds == pytest.approx(5, abs=1e-3)
    blocks = list(source.blocks(7_001))
  assert {len(b) for b in blocks[:-1]} == {7_001}
  assert 1 <= len(blocks[-1]) <= 7_001
  np.testing.assert_allclose(np.concatenate(blocks), whole, atol=1e-6)


@pytest.mark.parametrize('samples', [1, 2, 7_001, 14_002])
def test_lengths_at_the_edges(tmp_path, samples):
  path = tmp_path / 'a.wav'
  soundfile.write(path, _sound(samples, 1), 24_000, subtype='FLOAT')
  with audio_stream.Source(path, 24_000) as source:
    blocks = list(source.blocks(7_001))
  np.testing.assert_array_equal(
      np.concatenate(blocks), _sound(samples, 1)[:, 0])
  assert len(blocks) == -(-samples // 7_001)


def test_less_than_one_sample_is_empty(tmp_path):
  path = tmp_path / 'a.wav'
  soundfile.write(path, _sound(1), 192_000)
  with pytest.raises(errors.UserError, match='no samples at 24000 Hz'):
    audio.read(path, 24_000)


def test_truncated_flac_is_refused_where_it_ends(tmp_path):
  path = tmp_path / 'a.flac'
  soundfile.write(path, _sound(200_000), 24_000)
  path.write_bytes(path.read_bytes()[:path.stat().st_size // 2])
  with audio_stream.Source(path, 24_000) as source:
    with pytest.raises(errors.UserError, match='not readable audio'):
      list(source.blocks(1_000))


@pytest.mark.parametrize('level', [0.5, 3.0])
@pytest.mark.parametrize('extension', ['wav', 'flac'])
def test_a_sink_writes_what_write_writes(tmp_path, extension, level):
  sound = level * np.sin(np.arange(150_000) / 9).astype(np.float32)
  whole, parts = (tmp_path / f'{n}.{extension}' for n in 'ab')
  audio.write(whole, sound, 24_000)
  with audio_stream.Sink(parts, 24_000) as sink:
    for start in range(0, len(sound), 70_001):
      sink.write(sound[start:start + 70_001])
    sink.finish()
  expected, rate = soundfile.read(whole, dtype='int16')
  got, got_rate = soundfile.read(parts, dtype='int16')
  assert rate == got_rate == 24_000
  np.testing.assert_allclose(got.astype(int), expected, atol=1)
  assert sorted(p.name for p in tmp_path.iterdir()) == sorted(
      p.name for p in (whole, parts))


def test_an_interrupted_sink_leaves_nothing(tmp_path):
  with pytest.raises(KeyboardInterrupt):
    with audio_stream.Sink(tmp_path / 'a.wav', 24_000) as sink:
      sink.write(np.zeros(10))
      raise KeyboardInterrupt
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('subtype', ['PCM_U8', 'PCM_16', 'PCM_24', 'FLOAT'])
def test_what_was_cut_off_at_full_scale_is_seen(tmp_path, subtype):
  wave = np.sin(np.arange(48_000) / 20)
  for gain, low, high in ((0.9, 0, 0), (1.0, 0, 0.1), (4.0, 0.7, 0.9)):
    soundfile.write(tmp_path / 'a.wav', np.clip(gain * wave, -1, 1), 24_000,
                    subtype=subtype)
    with audio_stream.Source(tmp_path / 'a.wav', 24_000) as source:
      list(source.blocks(7_001))
      assert low <= source.clipped_share <= high
  # Louder than full scale, as floats may be, is not cut off.
  soundfile.write(tmp_path / 'b.wav', 4 * wave, 24_000, subtype='FLOAT')
  with audio_stream.Source(tmp_path / 'b.wav', 24_000) as source:
    list(source.blocks(7_001))
    assert source.clipped_share < 0.01
