"""The folder of a test: what is in it, and what it does not tell."""

import json
import shutil

import command_line
import numpy as np
import pytest
import soundfile

from musiclm_jax.listening import build
from musiclm_jax.listening import design
from musiclm_jax.listening import folder
from musiclm_jax.metrics import loudness

RATE = 8_000


def sounds(test):
  """{(clip id, system): [N]} as they lie in the test's folder."""
  return {(clip.id, system): soundfile.read(
      test.directory / 'audio' / name)[0] for clip in test.clips
          for system, name in zip(test.systems, clip.sounds)}


def test_everything_is_there(test, folders):
  assert test.systems == tuple(folders)
  assert sorted(clip.id for clip in test.clips) == [
      f'clip{i}' for i in range(4)]
  assert len(test.slots) == 3 * 8
  for clip, caption in zip(test.clips, test.captions):
    assert caption == f'a tune of {clip.id[-1]}'
    assert clip.track == f'track{int(clip.id[-1]) // 2}'
  assert 'fits the description better' in test.question
  folder.check_sounds(test)


def test_each_system_has_its_own_sound(test):
  """Tones of 300 Hz, 40 more a clip and 200 more a system."""
  for (clip, system), sound in sounds(test).items():
    loudest = np.argmax(np.abs(np.fft.rfft(sound))) * RATE / len(sound)
    assert loudest == pytest.approx(
        300 + 40 * int(clip[-1]) + 200 * test.systems.index(system), abs=2)


def test_all_are_equally_loud(test, make):
  for sound in sounds(test).values():
    assert loudness.integrated(sound, RATE) == pytest.approx(-23.0, abs=0.1)
  as_they_were = make(lufs=None)
  found = [loudness.integrated(sound, RATE)
           for sound in sounds(as_they_were).values()]
  assert max(found) - min(found) > 8  # 0.1, 0.2 and 0.3
  assert as_they_were.key['loudness'] == 'as it was'
  assert 'BS.1770' in test.key['loudness']


def test_files_tell_nothing_of_the_systems(test):
  names = [name for clip in test.clips for name in clip.sounds]
  assert len(set(names)) == len(names) == 12
  paths = [test.directory / 'audio' / name for name in names]
  assert len({path.stat().st_mtime for path in paths}) == 1
  assert len({path.stat().st_size for path in paths}) == 1
  for text in (*map(str, names), (test.directory / 'test.json').read_text(),
               *(path.read_bytes().decode('latin-1') for path in paths)):
    assert not any(system in text for system in test.systems)
    assert 'clip0' not in text
  # In the order of their names, as a listing has them, systems are mixed.
  order = sorted(range(12), key=names.__getitem__)
  assert len({tuple(i % 3 for i in order[k:k + 3]) for k in (0, 3, 6, 9)}) > 1


def test_a_seed_gives_the_same_test(test, make):
  again, other = make(), make(seed=1)
  assert again.slots == test.slots and again.clips == test.clips
  for one, two in zip(sounds(again).values(), sounds(test).values()):
    np.testing.assert_array_equal(one, two)
  assert other.slots != test.slots
  assert not {n for c in other.clips for n in c.sounds} & {
      n for c in test.clips for n in c.sounds}


def test_fewer_ratings_than_clips_take_fewer_clips(make):
  assert len(make(ratings=2).clips) == 2


@pytest.fixture(name='copy')
def _copy(folders, tmp_path):
  """The folders, to be changed."""
  root = next(iter(folders.values())).parent
  shutil.copytree(root, tmp_path / 'in')
  return tmp_path / 'in'


def _build(capsys, copy, *options, names=('ours', 'recorded')):
  words = [word for name in names
           for word in ('--system', f'{name}={copy / name}')]
  return command_line.run(
      capsys, 'listen', 'build', *words, '--out', copy / 'test', *options)


def test_from_the_shell(copy, capsys):
  code, out, err = _build(capsys, copy, '--captions', copy / 'captions.csv',
                          '--ratings', '6', '--per-rater', '4')
  assert code == 0 and not err
  assert '4 clips, 2 systems, 1 pairs of them, 6 ratings: 2 raters of 4' in out
  assert '-23 LUFS, ITU-R BS.1770-4' in out
  key = json.loads((copy / 'test/key.json').read_text())
  assert key['provenance']['clips']['ours']['used'] == 4
  assert key['provenance']['command'].split()[0] == 'musiclm'


def test_lengths_do_not_tell_systems_apart(copy, capsys):
  sound, _ = soundfile.read(copy / 'ours/clip1.wav')
  soundfile.write(copy / 'ours/clip1.wav', sound[:6_000], RATE)
  code, _, err = _build(capsys, copy)
  assert code == 0
  assert '1 clips are cut to the shortest of their versions' in err
  test = folder.read(copy / 'test')
  lengths = {}
  for (clip, _), heard in sounds(test).items():
    lengths.setdefault(clip, set()).add(len(heard))
  assert lengths == {'clip1': {6_000}, 'clip0': {8_000}, 'clip2': {8_000},
                     'clip3': {8_000}}
  assert test.question == 'Which of the two do you prefer?'


def test_unusable_clips_are_listed_and_left_out(copy, capsys):
  soundfile.write(copy / 'ours/clip0.wav', np.zeros(RATE), RATE)
  soundfile.write(copy / 'recorded/clip1.wav', np.full(RATE, np.nan), RATE,
                  subtype='FLOAT')
  (copy / 'recorded/clip2.wav').write_bytes(b'no sound')
  code, out, err = _build(capsys, copy)
  assert code == 0 and '1 clips, 2 systems' in out
  assert 'left out clip0:' in err and 'clip0.wav is silent.' in err
  assert 'left out clip1:' in err and 'NaN' in err
  assert 'left out clip2:' in err
  counts = json.loads((copy / 'test/key.json').read_text())['provenance']
  assert counts['clips']['ours']['refused'] == {'silent': 1}
  assert len(list((copy / 'test/audio').iterdir())) == 2


def test_none_usable(copy, capsys):
  for path in (copy / 'ours').iterdir():
    soundfile.write(path, np.zeros(RATE), RATE)
  code, _, err = _build(capsys, copy)
  assert code == 2 and 'none of 4 clips is usable in all systems' in err
  assert not (copy / 'test').exists()


def test_ids_that_some_lack(copy, capsys):
  (copy / 'ours/clip3.wav').unlink()
  code, _, err = _build(capsys, copy)
  assert code == 2 and err.count('\n') == 1
  assert "of 4 ids ours lacks 1 (such as 'clip3'); add them, or give" in err
  assert not (copy / 'test').exists()
  code, out, err = _build(capsys, copy, '--common')
  assert code == 0 and '3 clips' in out and '3 are common' in err


def test_captions_that_are_missing_and_those_without_clips(copy, capsys):
  lines = (copy / 'captions.csv').read_text().splitlines()
  (copy / 'captions.csv').write_text('\n'.join(lines[:-1] + ['other,x,y']))
  code, _, err = _build(capsys, copy, '--captions', copy / 'captions.csv')
  assert code == 2 and err.count('\n') == 1
  assert "has no caption for 1 of 4 clips, such as 'clip3'" in err
  (copy / 'captions.csv').write_text('\n'.join(lines + ['other,x,y']))
  code, _, err = _build(capsys, copy, '--captions', copy / 'captions.csv')
  assert code == 0 and '1 captions of' in err and 'have no clip' in err


@pytest.mark.parametrize('words, message', [
    (['--system', 'a=in/ours'], '1 system to compare; give --system'),
    (['--system', 'a=in/ours', '--system', 'a=in/theirs'],
     '--system a is given twice'),
    (['--system', 'in/ours', '--system', 'b=in/theirs'],
     "--system is 'in/ours'; expected NAME=FOLDER"),
    (['--system', 'a=in/ours', '--system', 'b=nowhere'],
     '--system b nowhere is not a folder'),
    (['--system', 'a=in/ours', '--system', 'b=.', '--ratings', '0'],
     '--ratings is 0; expected 1 to 10000.'),
    (['--system', 'a=in/ours', '--system', 'b=in/theirs', '--seconds', 'nan'],
     '--seconds is nan; expected 0.5 to 600.'),
    (['--system', 'a=in/ours', '--system', 'b=in/theirs', '--loudness', '3'],
     '--loudness is 3; expected -60 to -6.'),
    (['--system', 'a=in/ours', '--system', 'b=in/theirs', '--captions', 'no'],
     'CSV no does not exist'),
    (['--system', 'a=in/ours', '--system', 'b=in/theirs', '--system',
      'c=in/recorded', '--ratings', '9999'], 'are 29997 ratings; expected at'),
    (['--system', 'a=in/ours', '--system', 'b=in/theirs', '--out', 'in'],
     '--out in exists already'),
])
def test_mistakes(copy, capsys, monkeypatch, words, message):
  monkeypatch.chdir(copy.parent)
  if '--out' not in words:
    words = [*words, '--out', 'test']
  code, out, err = command_line.run(capsys, 'listen', 'build', *words)
  assert code == 2 and not out and err.count('\n') == 1
  assert message in err
  assert [path.name for path in copy.parent.iterdir()] == ['in']


def test_two_files_of_one_id(copy, capsys):
  sound, _ = soundfile.read(copy / 'ours/clip1.wav')
  soundfile.write(copy / 'ours/clip1.flac', sound, RATE)
  code, _, err = _build(capsys, copy)
  assert code == 2 and 'have one id, clip1' in err


def test_a_folder_that_is_no_test_and_keys_that_do_not_fit(
    make, tmp_path, capsys):
  code, _, err = command_line.run(capsys, 'listen', 'report', tmp_path)
  assert code == 2 and 'is not a listening test (no test.json)' in err
  test = make(ratings=2)
  other = make(ratings=2, seed=3)
  shutil.copy(other.directory / 'key.json', test.directory)
  code, _, err = command_line.run(capsys, 'listen', 'report', test.directory)
  assert code == 2 and 'is not the key that' in err
  (test.directory / 'key.json').unlink()
  code, _, err = command_line.run(capsys, 'listen', 'report', test.directory)
  assert code == 2 and 'key.json does not exist' in err


def test_clips_that_would_clip_stay_quieter(copy):
  """A click of full scale a second has little power, and no room."""
  click = np.zeros(RATE)
  click[::2_000] = 0.9
  soundfile.write(copy / 'ours/clip0.wav', click, RATE)
  lines = []
  test = build.make(copy / 'test', {n: copy / n for n in ('ours', 'theirs')},
                    options=design.Options(ratings=4, lufs=-10.0),
                    say=lines.append)
  assert any('stay below the loudness' in line for line in lines)
  for sound in sounds(test).values():
    assert np.abs(sound).max() <= 0.991
