"""The bundle that ships: complete, small, documented, and it makes sound."""

import dataclasses
import hashlib
import json
import subprocess
import sys

import numpy as np
import pytest
import soundfile
import sounding

from musiclm_jax import bundle as bundle_lib
from musiclm_jax import progress as progress_lib
from musiclm_jax.codecs import container
from musiclm_jax.commands import cli
from musiclm_jax.evaluation import ladder
from musiclm_jax.systems.musiclm import settings as settings_lib
from musiclm_jax.tokens import conditioning

_LIMIT_BYTES = 40_000_000
_PARTS = [n for n in bundle_lib.COMPONENTS if n not in bundle_lib.OPTIONAL]


@pytest.fixture(name='shipped', scope='module')
def _shipped():
  return bundle_lib.Bundle(bundle_lib.shipped())


def test_it_is_complete_and_small(shipped):
  shipped.require(*_PARTS)
  size = sum(f.stat().st_size for f in shipped.directory.rglob('*')
             if f.is_file())
  assert size < _LIMIT_BYTES


def test_it_says_what_it_was_trained_on(shipped):
  assert shipped.manifest['corpus']['licence']
  for name in shipped.manifest['components']:
    assert shipped.manifest['training'][name]['steps'] > 0
  card = (shipped.directory / 'MODEL_CARD.md').read_text(encoding='utf-8')
  for word in ('licence', 'steps', 'folk_gm', 'debian_music', 'Not for'):
    assert word.lower() in card.lower()


def test_its_evaluation_is_of_these_weights(shipped):
  """Who trains it again records `evaluate quick` again."""
  recorded = json.loads(
      (shipped.directory / 'evaluation.json').read_text(encoding='utf-8'))
  assert recorded['bundle_fingerprint'] == shipped.weights_fingerprint()
  assert recorded['bundle'] == shipped.identity


def test_other_weights_have_another_fingerprint(shipped, tmp_path):
  """One changed bit of any component, by links: nothing is copied whole."""
  own = shipped.weights_fingerprint()
  for path in sorted(shipped.directory.glob('*/*')):
    other = tmp_path / path.parent.name / path.name
    other.parent.mkdir(exist_ok=True)
    other.symlink_to(path)
  (tmp_path / 'manifest.json').symlink_to(shipped.directory / 'manifest.json')
  copy = bundle_lib.Bundle(tmp_path)
  assert copy.weights_fingerprint() == own
  for name in shipped.manifest['components']:
    path = tmp_path / name / 'weights.safetensors'
    whole = path.resolve()
    changed = bytearray(whole.read_bytes())
    changed[-1] ^= 1
    path.unlink()
    path.write_bytes(changed)
    assert copy.weights_fingerprint() != own, name
    path.unlink()
    path.symlink_to(whole)


def test_its_codec_is_near_to_plucked_notes(shipped):
  """Ten harmonics that decay, four notes a second: no clip of any corpus."""
  assert shipped.manifest['training']['codec']['began_from']['steps'] > 0
  time = np.arange(6_000) / 24_000
  notes = [sum(np.sin(2 * np.pi * hz * n * time) / n for n in range(1, 11)) *
           np.exp(-6 * time) for hz in (220, 277.2, 329.6, 440) * 2]
  audio = 0.1 * np.concatenate(notes)[None].astype(np.float32)
  codec = shipped.get('codec')
  assert ladder.mel_distance_db(
      audio, codec.decode(codec.encode(audio))).item() < 5.0


def test_its_stages_can_be_guided_and_are(shipped):
  for name in ('semantic', 'coarse'):
    assert 'mulan' in conditioning.optional(shipped.stored_metadata(name))
  usual = settings_lib.make(defaults=shipped.defaults)
  assert usual.guidance('semantic')


@pytest.fixture(name='waves', scope='module')
def _waves(tmp_path_factory):
  """{name: path}: a clip, the same again, and one of another seed."""
  folder = tmp_path_factory.mktemp('waves')
  waves = {}
  for name, seed in (('first', 1), ('again', 1), ('other', 2)):
    waves[name] = folder / f'{name}.wav'
    cli.main(['generate', 'a slow waltz on accordion', '--seconds', '2',
              '--seed', str(seed), '-o', str(waves[name])])
  return waves


def test_a_clip_has_the_length_and_is_not_silence(waves):
  with soundfile.SoundFile(waves['first']) as file:
    assert file.samplerate == 24_000 and file.channels == 1
    assert file.title == 'a slow waltz on accordion'
    sound = file.read()
  assert len(sound) == 48_000 and np.abs(sound).max() <= 0.99
  assert not sounding.faults(sound)


def _other_sounds():
  """{what is wrong: a sound of two seconds}; each is as loud as a clip."""
  rng, time = np.random.default_rng(0), np.arange(48_000) / 24_000
  noise = 0.1 * rng.normal(size=48_000)
  brown = np.cumsum(noise - noise.mean())
  tone = 0.1 * np.sin(2 * np.pi * 440 * time)
  gap = tone * (1 + np.sin(8 * np.pi * time)) * (time < 1.4)
  return {
      'silent': np.zeros(48_000), 'silent in part': gap, 'noise': noise,
      'its level never changes': tone,
      'one sound all the time': tone * (1 + np.sin(8 * np.pi * time)),
      'no partial is held': 0.3 * brown / np.abs(brown).max() * (
          1 + 0.9 * np.sin(4 * np.pi * time)),
  }


@pytest.mark.parametrize('fault, sound', _other_sounds().items(),
                         ids=lambda x: x if isinstance(x, str) else '')
def test_noise_silence_and_a_tone_are_no_clips(fault, sound):
  assert fault in sounding.faults(sound)


def test_codes_drawn_at_random_are_no_clip(shipped, waves):
  """What the stages say matters: the codec alone makes no music."""
  codes = np.random.default_rng(0).integers(0, 1024, (1, 100, 12))
  random = shipped.get('codec').decode(codes)[0]
  drawn = soundfile.read(waves['first'])[0]
  assert sounding.persistence(drawn) > sounding.persistence(random) + 0.1


def test_the_same_seed_gives_the_same_bytes(waves):
  digest = {name: hashlib.sha256(path.read_bytes()).digest()
            for name, path in waves.items()}
  assert digest['first'] == digest['again'] != digest['other']


def _codec(*argv):
  cli.main(['codec', *map(str, argv)])


@pytest.fixture(name='song', scope='module')
def _song(tmp_path_factory):
  """Eleven seconds and 17 samples of chords: three blocks, the last short."""
  path = tmp_path_factory.mktemp('song') / 'song.wav'
  t = np.arange(11 * 24_000 + 17) / 24_000
  sound = sum(np.sin(2 * np.pi * f * t) for f in (220, 277, 330))
  soundfile.write(path, 0.1 * sound * (1 + np.sin(4 * t)), 24_000)
  return path


@pytest.fixture(name='slm', scope='module')
def _slm(song):
  path = song.with_suffix('.slm')
  _codec('encode', song, '-o', path)
  return path


def test_codes_round_trip_through_files(shipped, song, slm, tmp_path):
  array, back, same = (tmp_path / n for n in ('c.npy', 'b.wav', 'n.wav'))
  _codec('encode', song, '-o', array)
  codes = np.load(array)
  assert codes.shape == (551, 12) and codes.dtype == np.int16
  np.testing.assert_array_equal(container.Reader(slm).read(), codes)
  codec = shipped.get('codec')
  sound = soundfile.read(song, dtype='float32')[0]
  assert np.mean(codec.encode(sound[None])[0] == codes) > 0.99
  _codec('decode', slm, '-o', back)
  _codec('decode', array, '-o', same)
  decoded = soundfile.read(back)[0]
  assert len(decoded) == len(sound)  # exactly, not a whole frame
  expected = codec.decode(codes[None])[0]
  scale = min(1.0, 0.99 / np.abs(expected[:len(sound)]).max())
  np.testing.assert_allclose(
      decoded, scale * expected[:len(sound)], atol=2e-4)
  # An array knows whole frames only.
  assert soundfile.info(same).frames == 551 * 480


def test_fewer_levels_in_the_file_or_from_it(song, slm, tmp_path):
  few, one, two = (tmp_path / n for n in ('few.slm', '1.wav', '2.wav'))
  _codec('encode', song, '-o', few, '--levels', '4')
  np.testing.assert_array_equal(
      container.Reader(few).read(), container.Reader(slm).read()[:, :4])
  _codec('decode', few, '-o', one)
  _codec('decode', slm, '-o', two, '--levels', '4')
  assert one.read_bytes() == two.read_bytes()


def test_long_work_says_how_far_it_is(capsys, monkeypatch, song, tmp_path):
  _codec('encode', song, '-o', tmp_path / 'a.slm')
  assert not capsys.readouterr().err, 'short work is silent'
  monkeypatch.setattr(progress_lib, '_QUIET_SECONDS', 0.0)
  _codec('encode', song, '-o', tmp_path / 'a.slm')
  assert capsys.readouterr().err.startswith('encode     11/11 s  0:0')


def test_salvage_keeps_what_is_before_the_damage(
    capsys, shipped, slm, tmp_path):
  damaged, part, whole = (tmp_path / n for n in ('d.slm', 'p.wav', 'w.wav'))
  data = bytearray(slm.read_bytes())
  data[56 + 3754 + 7] ^= 1  # in the second block
  damaged.write_bytes(data)
  _codec('decode', slm, '-o', whole)
  capsys.readouterr()
  _codec('decode', damaged, '-o', part, '--salvage')
  captured = capsys.readouterr()
  assert 'block 2, at 5.0 s of 11.0 s; kept the 5.0 s' in captured.err
  kept = soundfile.read(part)[0]
  assert len(kept) == 5 * 24_000
  # Its decoder looks ahead: at the end there is nothing to look at.
  sure = len(kept) - shipped.get('codec').config.decoder_lookahead * 480
  np.testing.assert_allclose(
      kept[:sure], soundfile.read(whole)[0][:sure], atol=1e-4)


def test_codes_of_another_codec_are_refused(capsys, slm, tmp_path):
  other = tmp_path / 'other.slm'
  header = dataclasses.replace(
      container.Reader(slm).header, weights_identity='00' * 8)
  with container.Writer(other, header) as writer:
    writer.write(container.Reader(slm).read())
    writer.finish(header.num_samples)
  with pytest.raises(SystemExit) as stop:
    _codec('decode', other, '-o', tmp_path / 'a.wav')
  error = capsys.readouterr().err
  assert stop.value.code == 2 and error.count('\n') == 1
  assert 'made by a codec of other weights: 0000000000000000' in error
  assert sorted(tmp_path.iterdir()) == [other]


def test_nan_late_in_a_file_leaves_nothing(capsys, tmp_path):
  sound = np.zeros(24_000 * 8, np.float32)
  sound[-1] = np.nan
  soundfile.write(tmp_path / 'a.wav', sound, 24_000, subtype='FLOAT')
  with pytest.raises(SystemExit) as stop:
    _codec('encode', tmp_path / 'a.wav', '-o', tmp_path / 'a.slm')
  assert stop.value.code == 2 and 'NaN' in capsys.readouterr().err
  assert [p.name for p in tmp_path.iterdir()] == ['a.wav']


@pytest.mark.slow
@pytest.mark.parametrize('direction', ['encode', 'decode'])
def test_ten_minutes_take_less_than_a_gigabyte(tmp_path, slm, direction):
  source, output = tmp_path / 'a.wav', tmp_path / 'b.slm'
  if direction == 'encode':
    with soundfile.SoundFile(source, 'w', 44_100, 2) as file:
      for second in range(600):
        file.write(np.random.default_rng(second).normal(size=(44_100, 2)) / 9)
  else:
    source, output = tmp_path / 'a.slm', tmp_path / 'b.wav'
    codes = container.Reader(slm).read()[:500]
    with container.Writer(source, container.Reader(slm).header) as writer:
      for _ in range(60):
        writer.write(codes)
      writer.finish(600 * 24_000)
  code = ('import resource, sys; from musiclm_jax.commands import cli\n'
          'cli.main(sys.argv[1:])\n'
          'print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)')
  result = subprocess.run(
      [sys.executable, '-c', code, 'codec', direction, source, '-o', output],
      capture_output=True, text=True, check=True)
  assert int(result.stdout.split()[-1]) < 1_000_000  # kilobytes


def test_generating_needs_no_tensorflow(tmp_path):
  code = ('import sys; from musiclm_jax.commands import cli\n'
          'cli.main(["inspect", "bundle"])\n'
          'import musiclm_jax.systems.musiclm.pipeline\n'
          'sys.exit("tensorflow" in sys.modules)')
  result = subprocess.run([sys.executable, '-c', code], cwd=tmp_path,
                          capture_output=True, text=True, check=False)
  assert result.returncode == 0, result.stderr[-400:]
