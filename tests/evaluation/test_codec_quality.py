"""The codec's evaluation: metrics on constructed clips, Opus, the command."""

import json
import zlib

import numpy as np
import pytest
import random_bundle
import soundfile

from musiclm_jax import bundle as bundle_lib
from musiclm_jax import errors
from musiclm_jax import records
from musiclm_jax.codecs import losses
from musiclm_jax.commands import cli
from musiclm_jax.evaluation import codec as codec_lib
from musiclm_jax.evaluation import codec_clips
from musiclm_jax.evaluation import codec_modelability
from musiclm_jax.evaluation import codec_report
from musiclm_jax.evaluation import ladder
from musiclm_jax.metrics import code_use
from musiclm_jax.metrics import codec_quality
from musiclm_jax.metrics import modelability
from musiclm_jax.metrics import opus
from musiclm_jax.metrics import token_baselines
from musiclm_jax.tokens import frequencies

RATE = 24_000

needs_opus = pytest.mark.skipif(
    not opus.available(), reason='imageio-ffmpeg is not installed')


def _needs(metric):
  return pytest.mark.skipif(
      metric in codec_quality.missing(), reason=f'{metric} is not installed')


def _music(seconds=8, seed=0):
  """[N] float32: chords of plucked notes with a little noise."""
  rng = np.random.default_rng(seed)
  parts = [random_bundle.tones(family, seconds, rng)
           for family in random_bundle.FAMILIES]
  return np.mean(parts, axis=0).astype(np.float32)


def _noisy(audio, level, seed=0):
  rng = np.random.default_rng(seed)
  return (audio + level * rng.standard_normal(len(audio))).astype(np.float32)


class Whole:
  """A codec that loses nothing of the levels it is given: 12 sines' worth."""

  def __init__(self, spec):
    self.spec = spec
    self._heard = {}

  def encode(self, audio):
    """Codes that name the clip; `decode` looks it up."""
    frames = self.spec.num_frames(audio.shape[1])
    rows = []
    for clip in audio:
      key = zlib.crc32(clip.tobytes()) % 1000
      self._heard[key] = np.pad(
          clip, (0, frames * self.spec.hop_samples - len(clip)))
      rows.append(np.full((frames, self.spec.num_codebooks), key))
    return np.stack(rows)

  def decode(self, codes):
    """The clip, with noise that halves with every level."""
    silence = np.zeros(codes.shape[1] * self.spec.hop_samples, np.float32)
    return np.stack([
        _noisy(self._heard.get(int(clip[0, 0]), silence),
               0.2 * 0.5 ** codes.shape[2]) for clip in codes])


class Bundle:
  """As much of a bundle as the evaluation asks for."""

  identity, directory = 'whole', 'nowhere'

  def __init__(self):
    self._codec = Whole(random_bundle.tokens().codec.__class__())

  def has(self, name):
    return name == 'codec'

  def get(self, unused_name):
    return self._codec


def test_a_copy_without_loss_and_one_of_noise():
  audio = np.stack([_music(seed=s) for s in range(2)])
  noise = np.stack([_noisy(0 * a, 0.1, 1) for a in audio])
  assert (np.asarray(losses.si_sdr_each(audio, audio)) > 60).all()
  assert (np.asarray(losses.si_sdr_each(audio, noise)) < -20).all()
  assert ladder.mel_distance_db(audio, audio) == pytest.approx(0, abs=1e-6)
  assert (ladder.mel_distance_db(audio, noise) > 10).all()


@_needs('zimtohrli')
def test_zimtohrli():
  audio = _music()
  pairs = [(audio, audio), (audio, _noisy(audio, 0.003)),
           (audio, _noisy(0 * audio, 0.1))]
  same, near, far = codec_quality.score('zimtohrli', pairs, RATE)
  assert same == pytest.approx(5.0, abs=1e-3) and same > near > far
  assert far < 2


@pytest.mark.slow
@_needs('visqol')
def test_visqol():
  audio, seen = _music(), []
  pairs = [(audio, audio), (audio, _noisy(audio, 0.003)),
           (audio, _noisy(0 * audio, 0.1))]
  same, near, far = codec_quality.score(
      'visqol', pairs, RATE, lambda *done: seen.append(done))
  assert same >= 4.5 and same > near > far and far < 2
  assert seen == [(1, 3), (2, 3), (3, 3)]
  alone = codec_quality.score('visqol', pairs[1:2], RATE, processes=1)
  assert alone[0] == pytest.approx(near, abs=1e-6)


@needs_opus
def test_opus_keeps_time_and_level_and_rises_with_its_rate():
  audio = _music(4)
  sdr, taken = [], []
  for kbps in (6, 24, 96):
    copy, rate = opus.round_trip(audio, RATE, kbps)
    assert copy.shape == audio.shape and copy.dtype == np.float32
    shift = np.argmax(np.correlate(copy[2400:-2400], audio[4800:24_000]))
    assert abs(shift - 2400) <= 24  # a millisecond
    sdr.append(float(losses.si_sdr_each(audio[None], copy[None])[0]))
    taken.append(rate)
  assert sdr == sorted(sdr) and sdr[-1] > 12
  assert taken == sorted(taken)
  for kbps, rate in zip((6, 24, 96), taken):
    assert 0.7 * kbps < rate < 1.2 * kbps


@needs_opus
def test_opus_says_what_is_wrong(monkeypatch):
  import imageio_ffmpeg  # pylint: disable=g-import-not-at-top
  monkeypatch.setattr(imageio_ffmpeg, 'get_ffmpeg_exe', lambda: 'false')
  with pytest.raises(errors.UserError, match='ffmpeg with libopus failed'):
    opus.round_trip(_music(2), RATE, 12)


def test_entropy_of_uniform_and_constant_codes():
  rng = np.random.default_rng(0)
  codes = np.stack([
      rng.integers(0, 16, (20, 400)), np.full((20, 400), 3),
      rng.integers(0, 4, (20, 400))], axis=-1)
  use = code_use.usage_and_efficiency(codes, 16, (1, 3))
  assert use['usage'] == pytest.approx([1.0, 1 / 16, 1 / 4])
  assert use['efficiency'] == pytest.approx([1.0, 0.0, 0.5], abs=2e-3)
  value, low, high = use['mean'][3]
  assert value == pytest.approx(0.5, abs=2e-3)
  assert low <= value <= high and high - low < 0.01


def test_the_interval_widens_when_clips_differ():
  alike = np.tile(np.arange(16), 25)[None, :, None].repeat(10, 0)
  differ = np.stack([np.full((400, 1), i) for i in range(10)])
  narrow = code_use.usage_and_efficiency(alike, 16, (1,))['mean'][1]
  wide = code_use.usage_and_efficiency(differ, 16, (1,))['mean'][1]
  assert narrow[2] - narrow[1] < 1e-6 < 0.05 < wide[2] - wide[1]
  assert wide[0] == pytest.approx(np.log(10) / np.log(16), abs=1e-2)


def test_counts_and_codes_give_the_same_entropy():
  codes = np.random.default_rng(1).zipf(1.5, (6, 50, 2)) % 32
  counts = np.stack([np.bincount(codes[..., q].ravel(), minlength=32)
                     for q in range(2)])
  assert frequencies.entropy_of_counts(counts) == pytest.approx(
      token_baselines.entropy(codes, 32))


def _write_corpus(directory, tracks, splits=('test',)):
  """`tracks`: [(id, audio, meta)]."""
  with records.Writer(directory, directory.name, RATE) as writer:
    for split in splits:
      for name, audio, meta in tracks:
        writer.add(split, name, audio, **meta)
  return directory


def test_clips_are_never_silent_and_always_the_same(tmp_path):
  silence = np.zeros(12 * RATE, np.float32)
  late = np.concatenate([silence, silence, _music(12)])
  tracks = [('a', silence, dict(package='p')), ('b', late, dict(package='p')),
            ('short', _music(4), dict(package='p')),
            ('c', _music(9), dict(package='q')),
            ('d', _music(9, 1), dict(package='q')),
            ('hummed', _music(9, 2), dict(package='q', arrangement='hummed'))]
  place = _write_corpus(tmp_path / 'corpus', tracks)
  clips = codec_clips.load(place, 12, RATE)
  assert sorted(clips.ids) == ['b', 'c', 'd'] and clips.split == 'test'
  assert clips.groups[:2] == ('p', 'q') and clips.audio.shape == (3, 8 * RATE)
  assert (np.abs(clips.audio).max(axis=1) > 0.1).all()
  again = codec_clips.load(place, 12, RATE)
  assert np.array_equal(again.audio, clips.audio)
  assert codec_clips.load(place, 2, RATE).ids == clips.ids[:2]


def test_clips_of_a_folder_of_files(tmp_path):
  for name in ('x/1.wav', 'x/2.wav', 'y/3.flac'):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    soundfile.write(tmp_path / name, _music(20, seed=len(name)), RATE)
  (tmp_path / 'y/4.ogg').write_bytes(b'not audio')
  clips = codec_clips.load(tmp_path, 12, RATE)
  assert sorted(clips.ids) == ['x/1.wav', 'x/2.wav', 'y/3.flac']
  assert clips.split == 'files' and set(clips.groups) == {'x', 'y'}
  row = clips.ids.index('y/3.flac')
  expected, _ = soundfile.read(tmp_path / 'y/3.flac')
  assert clips.audio[row] == pytest.approx(
      expected[6 * RATE:14 * RATE].astype(np.float32), abs=1e-6)


@pytest.mark.parametrize('made, message', [
    (None, 'is not a folder'),
    ([], 'neither a corpus .* nor a folder'),
    (['train'], 'no test or validation split, only train'),
    (['test'], 'has 1 tracks with 8 s of sound; expected at least 2'),
])
def test_data_that_cannot_be_judged_on(tmp_path, made, message):
  place = tmp_path / 'data'
  if made == []:
    place.mkdir()
  elif made:
    _write_corpus(place, [('a', _music(9), {})], made)
  with pytest.raises(errors.UserError, match=message):
    codec_clips.load(place, 12, RATE)


@pytest.fixture(name='place', scope='module')
def _place(tmp_path_factory):
  place = tmp_path_factory.mktemp('codec') / 'music'
  return _write_corpus(place, [
      (f't{i}', _music(9, i), dict(package=f'p{i % 2}')) for i in range(4)])


def test_modelability_wants_music_to_learn_from(place):
  with pytest.raises(errors.UserError, match='no train split, only test'):
    codec_modelability.check(place, RATE)


def _quickly(monkeypatch, absent=('visqol',)):
  """Leaves ViSQOL out: it takes seconds a clip."""
  packages = dict(codec_quality.PACKAGES)
  for metric in absent:
    packages[metric] = ('no_such_module', packages[metric][1])
  monkeypatch.setattr(codec_quality, 'PACKAGES', packages)


@pytest.mark.slow
@needs_opus
@_needs('zimtohrli')
def test_figures_rise_with_the_bitrate(place, monkeypatch):
  _quickly(monkeypatch)
  result = codec_lib.evaluate(Bundle(), [place], clips=3, pool=4)
  figures = result.figures
  for metric in ('zimtohrli', 'si_sdr'):
    values = [figures[f'{metric}_{k}'] for k in
              ('0_5kbps', '1_5kbps', '2kbps', '3kbps', '6kbps')]
    assert values == sorted(values)
  assert figures['zimtohrli_6kbps'] > 4.5 and figures['si_sdr_6kbps'] > 40
  assert figures['mel_distance_6kbps'] < 1 < figures['mel_distance_0_5kbps']
  assert figures['opus6_zimtohrli'] < figures['opus24_zimtohrli']
  assert figures['si_sdr_6kbps_low'] <= figures['si_sdr_6kbps'] <= (
      figures['si_sdr_6kbps_high'])
  assert figures['clips'] == 3 and figures['codes_clips'] == 4
  # Four clips, each of one code at all levels: ln 4 of ln 1024.
  assert figures['bitrate_efficiency_6kbps'] == pytest.approx(0.2, abs=1e-3)
  assert figures['usage_level12'] == pytest.approx(4 / 1024)
  assert {'p0_si_sdr_6kbps', 'p1_opus12_zimtohrli'} <= set(figures)
  assert 'visqol_6kbps' not in figures
  assert result.sections[0].title == 'Left out'
  assert 'pip install visqol-python' in result.sections[0].text()


def test_every_package_missing(place, monkeypatch):
  _quickly(monkeypatch, ('visqol', 'zimtohrli'))
  monkeypatch.setattr(opus, 'available', lambda: False)
  result = codec_lib.evaluate(Bundle(), [place], clips=2, pool=2)
  text = result.sections[0].text()
  for package in ('visqol-python', 'zimtohrli', 'imageio-ffmpeg'):
    assert package in text
  assert 'si_sdr_6kbps' in result.figures
  assert not any('opus' in name for name in result.figures)


def test_no_pictures_without_matplotlib(tmp_path, monkeypatch):
  monkeypatch.setattr(codec_report.importlib.util, 'find_spec',
                      lambda name: None)
  assert codec_report.draw(tmp_path, [None]) == []
  assert not list(tmp_path.iterdir())


def test_several_sets(place, monkeypatch):
  _quickly(monkeypatch, ('visqol', 'zimtohrli'))
  monkeypatch.setattr(opus, 'available', lambda: False)
  result = codec_lib.evaluate(Bundle(), [place, place], clips=2, pool=2)
  assert [j.label for j in result.judged] == ['music 1', 'music 2']
  figures = result.figures
  assert figures['clips'] == 4
  assert figures['si_sdr_6kbps'] == pytest.approx(
      (figures['music_1_si_sdr_6kbps'] + figures['music_2_si_sdr_6kbps']) / 2)


@needs_opus
def test_from_the_shell(folder, place, tmp_path, monkeypatch, capsys):
  _quickly(monkeypatch)
  monkeypatch.chdir(tmp_path)
  cli.main(['evaluate', 'codec', '--bundle', str(folder / 'bundle'), '--data',
            str(place), '--clips', '2', '--json', 'c.json', '--report',
            'c.html', '-o', 'out'])
  printed = capsys.readouterr().out
  assert 'SI-SDR, Opus 12 kbps' in printed and 'efficiency at 6 kbps' in printed
  figures = json.loads((tmp_path / 'c.json').read_text())
  assert figures['si_sdr_6kbps'] < 10  # random weights
  assert figures['data'] == ['music'] and figures['wall_seconds'] > 0
  assert (tmp_path / 'out/codec_1.png').stat().st_size > 1000
  page = (tmp_path / 'c.html').read_text()
  assert page.count('<audio') == 2 * 9 and 'Left out' in page


@pytest.mark.parametrize('arguments, message', [
    (['codec'], 'wants --data DIR'),
    (['codec', '--data', 'nowhere'], '--data nowhere is not a folder'),
    (['codec', '--data', '.', '--corpus', 'x'], '--corpus goes with `musiclm '
     'evaluate quick`'),
    (['quick', '--data', 'x'], '--data goes with `musiclm evaluate codec`'),
    (['codec', '--data', '.', '--clips', '1'], '--clips is 1; expected 2'),
    (['quick', '--modelability'], '--modelability goes with `musiclm evaluate '
     'codec`'),
    (['codec', '--data', '.', '--modelability-steps', '9'],
     '--modelability-steps goes with --modelability'),
    (['codec', '--data', '.', '--modelability', '--modelability-levels', '0'],
     '--modelability-levels is 0; expected at least 1'),
    (['codec', '--data', '.', '--modelability', '--modelability-levels', '13'],
     "13 levels; expected 1 to the codec's 12"),
    (['codec', '--data', '.', '--modelability'], '--modelability: '),
])
def test_wrong_options(folder, tmp_path, monkeypatch, capsys, arguments,
                       message):
  monkeypatch.chdir(tmp_path)
  with pytest.raises(SystemExit) as stop:
    cli.main(['evaluate', *arguments, '--bundle', str(folder / 'bundle')])
  assert stop.value.code == 2
  assert message in capsys.readouterr().err


class Alternating:
  """A codec without codebooks, as an adapter is: `encode` and `spec` alone."""

  spec = random_bundle.tokens().codec
  asked = 0

  def encode(self, audio):
    """Level 1 counts, the others are all alike."""
    self.asked += len(audio)
    frames = self.spec.num_frames(audio.shape[1])
    codes = np.full((len(audio), frames, self.spec.num_codebooks), 3)
    codes[..., 0] = np.arange(frames) % self.spec.codebook_size
    return codes


def test_modelability_of_codes_that_say_nothing(folder):
  codec = Alternating()
  config = modelability.Config(
      levels=2, steps=80, learning_rate=1e-2, dim=32, num_layers=1)
  result = codec_modelability.measure(
      codec, folder / 'corpus', config, train_clips=9, held_clips=3)
  assert codec.asked == 12 + 4  # by fours
  assert result.nats.shape == (3, 2)
  assert result.frame_rate_hz == 50
  assert result.by_level[0] < 0.3 and result.by_level[1] < 0.1
  assert result.unigram == pytest.approx(
      [np.log(random_bundle.SIZE), 0.0], abs=1e-3)
  section, figures = codec_modelability.section('x', result, config, 'x_')
  assert figures['x_modelability_nats_per_second'] == pytest.approx(
      50 * result.by_level.sum())
  assert figures['x_modelability_bits_per_second'] == pytest.approx(
      50 * result.by_level.sum() / np.log(2))
  assert figures['x_modelability_unigram_level1'] == pytest.approx(
      result.unigram[0])
  assert 'modelability of 2 levels, 80 steps, 3 clips of 5 s' in section.title
  for line in ('nats a second', 'bits a second', 'nats a token', 'unigram'):
    assert line in section.text()


def test_modelability_from_the_shell(folder, tmp_path, monkeypatch, capsys):
  _quickly(monkeypatch, ('visqol', 'zimtohrli'))
  monkeypatch.setattr(opus, 'available', lambda: False)
  seen = []

  def measure(codec, place, config, say):
    seen.append((place, config))
    return modelability.Result(
        np.full((4, config.levels), 2.0), np.full(config.levels, 2.5), 50)

  monkeypatch.setattr(codec_modelability, 'measure', measure)
  monkeypatch.chdir(tmp_path)
  corpus = str(folder / 'corpus')
  cli.main(['evaluate', 'codec', '--bundle', str(folder / 'bundle'), '--data',
            corpus, '--clips', '2', '--json', 'c.json', '--modelability',
            '--modelability-steps', '7', '--modelability-levels', '3'])
  assert seen == [(corpus, modelability.Config(steps=7, levels=3))]
  figures = json.loads((tmp_path / 'c.json').read_text())
  assert figures['modelability_nats_per_second'] == pytest.approx(300)
  assert figures['modelability_unigram_nats_per_second'] == pytest.approx(375)
  assert 'nats a second' in capsys.readouterr().out


def test_a_bundle_without_a_codec(folder, place):
  bundle = random_bundle.without(folder / 'bundle', 'codec')
  assert isinstance(bundle, bundle_lib.Bundle)
  with pytest.raises(errors.UserError, match='has no codec'):
    codec_lib.evaluate(bundle, [place])
