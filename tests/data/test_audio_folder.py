"""audio_folder: what is used, what is rejected and why, captions, splits."""

import io
import json
import os

import numpy as np
import pytest
import soundfile

from musiclm_jax import errors
from musiclm_jax import records
from musiclm_jax.data import audio_folder
from musiclm_jax.data.audio_folder import corpus as corpus_lib
from musiclm_jax.data.audio_folder import labels as labels_lib
from musiclm_jax.data.audio_folder import splits as splits_lib


def _tone(seconds, rate, hertz=440.0, level=0.5):
  time = np.arange(int(seconds * rate)) / rate
  return (level * np.sin(2 * np.pi * hertz * time)).astype(np.float32)


def _build(folder, out, **kwargs):
  return audio_folder.build(folder, out, progress=False, workers=2, **kwargs)


def _all_tracks(out):
  corpus = records.Corpus(out)
  return {t.id: (corpus.split(s), t) for s in corpus.splits
          for t in corpus.split(s)}


def _peak_hz(audio, rate):
  spectrum = np.abs(np.fft.rfft(audio * np.hanning(len(audio))))
  return np.argmax(spectrum) * rate / len(audio)


def test_stereo_and_other_rates_become_24k_mono(tmp_path):
  folder = tmp_path / 'music'
  (folder / 'album').mkdir(parents=True)
  left, right = _tone(4, 44100, 1000, 0.6), _tone(4, 44100, 3000, 0.2)
  soundfile.write(folder / 'album/stereo.wav', np.stack([left, right], 1),
                  44100)
  soundfile.write(folder / 'low.flac', _tone(4, 16000, 1000), 16000)
  soundfile.write(folder / 'high.ogg', _tone(4, 48000, 1000), 48000)
  summary = _build(folder, tmp_path / 'out')
  assert summary['tracks'] == 3 and summary['rejected'] == {}
  tracks = _all_tracks(tmp_path / 'out')
  assert set(tracks) == {'album/stereo.wav', 'low.flac', 'high.ogg'}
  for split, track in tracks.values():
    assert abs(track.num_samples - 96000) <= 240
    audio = split.read(track)[2000:-2000]
    assert _peak_hz(audio, 24000) == pytest.approx(1000, abs=1)
  # Mixed down: each channel at half its level.
  split, track = tracks['album/stereo.wav']
  spectrum = np.abs(np.fft.rfft(split.read(track)[:72000])) / 36000
  assert spectrum[3000] == pytest.approx(0.3, rel=0.02)
  assert spectrum[9000] == pytest.approx(0.1, rel=0.02)


def test_rejects_are_listed_with_reasons(tmp_path):
  folder = tmp_path / 'music'
  folder.mkdir()
  soundfile.write(folder / 'good.wav', _tone(4, 24000), 24000)
  (folder / 'text.wav').write_text('this is not audio')
  (folder / 'zero.wav').write_bytes(b'')
  soundfile.write(folder / 'nothing.wav', np.zeros(0, np.float32), 24000)
  broken = _tone(4, 24000)
  broken[1000] = np.nan
  soundfile.write(folder / 'nan.wav', broken, 24000, subtype='FLOAT')
  soundfile.write(folder / 'three.wav', np.stack([_tone(4, 24000)] * 3, 1),
                  24000)
  soundfile.write(folder / 'short.wav', _tone(2.9, 24000), 24000)
  soundfile.write(folder / 'silent.wav', np.zeros(96000), 24000)
  slow = io.BytesIO()
  soundfile.write(slow, _tone(4, 24000), 1, format='WAV')
  (folder / 'slow.wav').write_bytes(slow.getvalue())
  (folder / 'song.ape').write_bytes(b'any')
  (folder / 'notes.txt').write_text('not even an audio name')
  (folder / '.trash').mkdir()
  soundfile.write(folder / '.trash/good.wav', _tone(4, 24000, 220), 24000)
  (folder / 'labels.csv').write_text('file,caption\n')
  summary = _build(folder, tmp_path / 'out')
  lines = [json.loads(line) for line in
           (tmp_path / 'out/rejects.jsonl').read_text().splitlines()]
  assert {line['file']: line['reason'] for line in lines} == {
      'text.wav': 'unreadable', 'zero.wav': 'unreadable',
      'nothing.wav': 'empty', 'nan.wav': 'nan', 'three.wav': 'channels',
      'short.wav': 'too short', 'silent.wav': 'silent', 'slow.wav': 'rate',
      'song.ape': 'format'}
  assert all(line['detail'] for line in lines)
  assert summary['files'] == 10 and summary['used'] == 1
  assert sum(summary['rejected'].values()) == 9
  assert summary['passed_over'] == {'hidden': 1, 'no sound by its name': 1}
  assert records.Corpus(tmp_path / 'out').manifest['source'] == summary
  assert list(_all_tracks(tmp_path / 'out')) == ['good.wav']


def test_float_files_louder_than_full_scale_are_not_clipped(tmp_path):
  folder = tmp_path / 'music'
  folder.mkdir()
  soundfile.write(folder / 'loud.wav', _tone(4, 24000, level=3.0), 24000,
                  subtype='FLOAT')
  _build(folder, tmp_path / 'out')
  (split, track), = _all_tracks(tmp_path / 'out').values()
  assert np.allclose(split.read(track), _tone(4, 24000, level=1.0), atol=1e-3)


def test_long_files_are_cut_into_equal_pieces(tmp_path):
  folder = tmp_path / 'music'
  folder.mkdir()
  ramp = np.linspace(0.1, 0.9, 24000 * 10, dtype=np.float32)
  soundfile.write(folder / 'long.wav', ramp, 24000, subtype='FLOAT')
  _build(folder, tmp_path / 'out', max_seconds=4.0)
  tracks = _all_tracks(tmp_path / 'out')
  assert list(tracks) == ['long.wav#000', 'long.wav#001', 'long.wav#002']
  joined = np.concatenate([s.read(t) for s, t in tracks.values()])
  assert np.allclose(joined, ramp, atol=1e-4)
  assert [t.meta['start_seconds'] for _, t in tracks.values()] == [
      0.0, 3.333, 6.667]


@pytest.mark.parametrize('name, text', [
    ('captions.csv', 'File,Caption,aspects\n'
     'a/one.wav,"A slow, sad song.",piano; slow\n'
     'a/one.wav,Second caption.,\n'
     'two.wav,By bare name.,\n'
     'gone.wav,No such file.,\n'),
    ('labels.jsonl',
     '{"file": "a/one.wav", "captions": ["A slow, sad song.", '
     '"Second caption."], "aspects": ["piano", "slow"]}\n\n'
     '{"file": "two.wav", "caption": "By bare name."}\n'
     '{"file": "gone.wav", "caption": "No such file."}\n')])
def test_captions_are_found_beside_the_audio(tmp_path, name, text):
  folder = tmp_path / 'music'
  (folder / 'a').mkdir(parents=True)
  (folder / 'b').mkdir()
  for file in ('a/one.wav', 'b/two.wav', 'three.wav'):
    soundfile.write(folder / file, _tone(3.5, 24000, 300 + len(file)), 24000)
  (folder / name).write_text(text)
  summary = _build(folder, tmp_path / 'out')
  tracks = {k: t for k, (_, t) in _all_tracks(tmp_path / 'out').items()}
  assert tracks['a/one.wav'].captions == ['A slow, sad song.',
                                          'Second caption.']
  assert tracks['a/one.wav'].meta['aspects'] == ['piano', 'slow']
  assert tracks['b/two.wav'].captions == ['By bare name.']
  assert tracks['three.wav'].captions == []
  assert summary['labels_without_audio'] == ['gone.wav']


def test_what_the_decoder_reads_is_used(tmp_path, capsys):
  folder = tmp_path / 'music'
  folder.mkdir()
  for number, (suffix, kind) in enumerate(dict(
      wav='WAV', w64='W64', flac='FLAC', ogg='OGG', opus='OGG', mp3='MP3',
      aiff='AIFF', aifc='AIFF', caf='CAF', au='AU').items()):
    soundfile.write(
        folder / f'{number}.{suffix}', _tone(3.5, 24000, 300 + 40 * number),
        24000, format=kind, subtype='OPUS' if suffix == 'opus' else None)
  (folder / 'x.ape').write_bytes(b'any')
  (folder / 'captions.jsonl').write_text(
      '{"file": "0.wav", "captions": ["\\u200b", "A slow air.", ""]}\n'
      '{"file": "none.wav", "caption": "Of nothing."}\n')
  audio_folder.build(folder, tmp_path / 'out', workers=2)
  assert capsys.readouterr().out.splitlines() == [
      '10 of 11 files used, 10 tracks; rejected: 1 format (listed in '
      'rejects.jsonl)', '2 captions are blank and left out',
      '1 captions name no usable file; the first: none.wav']
  tracks = _all_tracks(tmp_path / 'out')
  assert tracks['0.wav'][1].meta['captions'] == ['A slow air.']


def test_user_errors(tmp_path):
  out = tmp_path / 'out'
  with pytest.raises(errors.UserError, match='does not exist'):
    _build(tmp_path / 'none', out)
  folder = tmp_path / 'music'
  folder.mkdir()
  with pytest.raises(errors.UserError, match='no .wav'):
    _build(folder, out)
  (folder / 'text.wav').write_text('words')
  with pytest.raises(errors.UserError, match='no usable recording.*unreadable'):
    _build(folder, out)
  with pytest.raises(errors.UserError, match='inside the audio folder'):
    _build(folder, folder / 'corpus')
  (folder / 'song.ape').write_bytes(b'x')
  with pytest.raises(errors.UserError, match='(1 format, 1 unreadable)'):
    _build(folder, out)
  (folder / 'text.wav').unlink()
  with pytest.raises(errors.UserError, match=(
      'no .wav.*there are: 1 .ape, which is not decoded here')):
    _build(folder, out)
  (folder / 'text.wav').write_text('words')
  with pytest.raises(errors.UserError, match='captions file'):
    _build(folder, out, captions=tmp_path / 'none.csv')
  assert sorted(p.name for p in tmp_path.iterdir()) == ['music']


def test_splits_are_stable_and_always_train():
  groups = [f'g{i}' for i in range(400)]
  split = splits_lib.assign_splits(groups)
  counts = {s: list(split.values()).count(s) for s in set(split.values())}
  assert 330 <= counts['train'] <= 385 and min(counts.values()) >= 5
  # A file added later moves no other.
  assert {g: s for g, s in splits_lib.assign_splits(groups + ['new']).items()
          if g != 'new'} == split
  for count in (1, 2, 3):
    for start in range(100):
      few = splits_lib.assign_splits([f's{start}.{i}' for i in range(count)])
      assert sorted(few.values()) == sorted(
          ['train', 'validation', 'test'][:count])


def test_what_is_left_is_shared_out(tmp_path):
  # All but one file look fine until they are decoded.
  folder = tmp_path / 'music'
  folder.mkdir()
  for i in range(3):
    audio = _tone(3.5, 24000, 200 + i)
    if i:
      audio[50] = np.nan
    soundfile.write(folder / f'{i}.wav', audio, 24000, subtype='FLOAT')
  _build(folder, tmp_path / 'out')
  corpus = records.Corpus(tmp_path / 'out')
  assert corpus.splits == ['train']
  assert len((tmp_path / 'out/rejects.jsonl').read_text().splitlines()) == 2


def test_copies_stay_together_and_albums_too(tmp_path):
  folder = tmp_path / 'music'
  for album in ('x', 'y'):
    (folder / album).mkdir(parents=True)
    for i in range(3):
      soundfile.write(folder / album / f'{i}.wav',
                      _tone(3.5, 24000, 300 + i), 24000)
  _build(folder, tmp_path / 'files')
  where = {k: s.directory.name for k, (s, _) in
           _all_tracks(tmp_path / 'files').items()}
  assert all(where[f'x/{i}.wav'] == where[f'y/{i}.wav'] for i in range(3))
  _build(folder, tmp_path / 'albums', split_by='folder')
  where = {k: s.directory.name for k, (s, _) in
           _all_tracks(tmp_path / 'albums').items()}
  assert len({where[f'x/{i}.wav'] for i in range(3)}) == 1
  # The other album holds the same, and neither may be tested with the other.
  assert set(where) == {f'x/{i}.wav' for i in range(3)}
  rejects = [json.loads(line) for line in
             (tmp_path / 'albums/rejects.jsonl').read_text().splitlines()]
  assert [(r['file'], r['reason']) for r in rejects] == [
      (f'y/{i}.wav', 'duplicate') for i in range(3)]


def test_same_corpus_for_any_number_of_workers(tmp_path):
  folder = tmp_path / 'music'
  folder.mkdir()
  for i in range(5):
    soundfile.write(folder / f'{i}.wav', _tone(3.2, 22050, 200 + 50 * i), 22050)
  for workers in (1, 3):
    audio_folder.build(folder, tmp_path / f'w{workers}', workers=workers,
                       progress=False)
  files = sorted(p.relative_to(tmp_path / 'w1')
                 for p in (tmp_path / 'w1').rglob('*') if p.is_file())
  assert len(files) >= 5
  for file in files:
    assert (tmp_path / 'w1' / file).read_bytes() == (
        tmp_path / 'w3' / file).read_bytes()


@pytest.mark.parametrize('given', ['.', './', '../music', '../music/'])
def test_the_folder_one_stands_in(tmp_path, monkeypatch, given):
  folder = tmp_path / 'music'
  folder.mkdir()
  soundfile.write(folder / 'a.wav', _tone(4, 24000), 24000)
  (tmp_path / 'music.csv').write_text('file,caption\na.wav,a slow air\n')
  monkeypatch.chdir(folder)
  _build(given, '../out')
  corpus = records.Corpus(tmp_path / 'out')
  assert corpus.manifest['folder'] == 'music'
  assert corpus.manifest['captions_file'] == 'music.csv'
  assert corpus.split('train')[0].captions == ['a slow air']


def test_names_that_are_not_utf8_are_escaped(tmp_path):
  """They are bytes to the system; half of the work must not end in a fault."""
  folder = os.fsencode(tmp_path / 'music') + b'\xe9'
  os.makedirs(folder + b'/\xe8')
  for name in (b'/\xe8/caf\xe9.wav', b'/good.wav'):
    with open(folder + name, 'wb') as file:
      soundfile.write(file, _tone(4, 24000, 300 + len(name)), 24000, format='WAV')
  with open(folder + b'/bad\xff.wav', 'wb') as file:
    file.write(b'words')
  for split_by in ('file', 'folder'):
    out = tmp_path / split_by
    _build(os.fsdecode(folder), out, split_by=split_by)
    assert set(_all_tracks(out)) == {'\\xe8/caf\\xe9.wav', 'good.wav'}
    (reject,) = (out / corpus_lib.REJECTS).read_text().splitlines()
    assert json.loads(reject)['file'] == 'bad\\xff.wav'
    assert records.Corpus(out).manifest['folder'] == 'music\\xe9'


@pytest.mark.parametrize('field', ['caption', 'file', 'aspects'])
def test_half_a_character_is_refused(tmp_path, field):
  row = dict(file='a.wav', caption='an air', aspects=['slow'])
  row[field] = ['x\ud800'] if field == 'aspects' else 'x\ud800'
  (tmp_path / 'captions.jsonl').write_text(json.dumps(row))
  with pytest.raises(errors.UserError, match='holds half a character') as told:
    labels_lib.load(tmp_path)
  str(told.value).encode()
  assert 'captions.jsonl' in str(told.value)


def test_two_ingests_to_one_folder(tmp_path):
  (tmp_path / 'music').mkdir()
  soundfile.write(tmp_path / 'music' / 'a.wav', _tone(4, 24000), 24000)
  with records.Writer(tmp_path / 'out', 'first', 24000) as writer:
    writer.add('train', 'a', np.zeros(10))
    with pytest.raises(errors.UserError, match='another run writes to the corp'):
      _build(tmp_path / 'music', tmp_path / 'out')
  assert records.Corpus(tmp_path / 'out').name == 'first'
