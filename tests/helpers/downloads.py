"""Small data sets as they come from where they are downloaded."""

import csv
import hashlib
import shutil

import numpy as np
import soundfile

MUSICCAPS_COLUMNS = (
    'ytid', 'start_s', 'end_s', 'audioset_positive_labels', 'aspect_list',
    'caption', 'author_id', 'is_balanced_subset', 'is_audioset_eval')


def write_csv(path, *rows):
  """A CSV; the first row is its header."""
  path.parent.mkdir(parents=True, exist_ok=True)
  with open(path, 'w', newline='', encoding='utf-8') as file:
    csv.writer(file).writerows(rows)
  return path


def tone(seconds, hertz, rate=16_000):
  """[N] float32."""
  time = np.arange(int(seconds * rate)) / rate
  return (0.3 * np.sin(2 * np.pi * hertz * time)).astype(np.float32)


def write_tone(path, seconds=10.0, hertz=440.0, rate=16_000):
  """A file of one tone, of the kind that its name says."""
  path.parent.mkdir(parents=True, exist_ok=True)
  soundfile.write(path, tone(seconds, hertz, rate), rate)
  return path


def write_video(path, place, seconds=10.0, total=30.0, rate=16_000):
  """A recording that is 1000 Hz at its excerpt's place and 200 Hz elsewhere."""
  audio = tone(total, 200, rate)
  start, count = int(place * rate), int(seconds * rate)
  audio[start:start + count] = tone(seconds, 1000, rate)
  path.parent.mkdir(parents=True, exist_ok=True)
  soundfile.write(path, audio, rate)
  return path


def peak_hz(audio, rate=24_000):
  """The frequency that most of a sound is at."""
  spectrum = np.abs(np.fft.rfft(audio * np.hanning(len(audio))))
  return np.argmax(spectrum) * rate / len(audio)


def musiccaps_row(ytid, start=0, balanced=False, evaluation=False,
                  aspects="['slow', 'sad']"):
  """A row of MusicCaps's CSV."""
  return (ytid, start, start + 10, '/m/04rlf,/m/0xzly', aspects,
          f'A song called {ytid}.', 4, balanced, evaluation)


def musiccaps(folder):
  """Four rows, three of which have audio; returns (CSV, folder of audio)."""
  table = write_csv(
      folder / 'musiccaps-public.csv', MUSICCAPS_COLUMNS,
      musiccaps_row('-abcdefghij', 30, True, True),
      musiccaps_row('0123456789a', 10, False, True),
      musiccaps_row('A_cdefghi-k', 40), musiccaps_row('gone_4567_9', 0))
  audio = folder / 'audio'
  write_tone(audio / '[-abcdefghij]-[30-40].wav')
  write_video(audio / '0123456789a.flac', 10)
  write_tone(audio / 'more/A_cdefghi-k_40.wav', hertz=660)
  return table, audio


def audiocaps(folder):
  """Three clips, one in each split, all there; returns (folder, audio)."""
  header = ('audiocap_id', 'youtube_id', 'start_time', 'caption')
  write_csv(folder / 'train.csv', header,
            (1, 'aaaaaaaaaaa', 30, 'A dog barks'))
  write_csv(folder / 'val.csv', header,
            (2, 'bbbbbbbbbbb', 0, 'Rain falls'), (3, 'bbbbbbbbbbb', 0, 'It rains'))
  write_csv(folder / 'test.csv', header,
            (4, 'ccccccccccc', 5, 'A bell'), (5, 'ccccccccccc', 5, 'Bells'))
  audio = folder / 'audio'
  write_tone(audio / 'Yaaaaaaaaaaa.wav')
  write_tone(audio / 'bbbbbbbbbbb_0_10.wav', hertz=500)
  write_video(audio / 'Bells [ccccccccccc].wav', 5)
  return folder, audio


def audioset(folder):
  """Two segments, one in each split, both there; returns (folder, audio)."""
  write_csv(folder / 'class_labels_indices.csv', ('index', 'mid', 'display_name'),
            (0, '/m/09x0r', 'Speech'), (1, '/t/dd00088', 'Gush, spurt'))
  head = ('# Segments csv created Sun Mar  5 10:54:31 2017\n'
          '# num_ytids=1, num_segs=1, num_unique_labels=2\n'
          '# YTID, start_seconds, end_seconds, positive_labels\n')
  (folder / 'balanced_train_segments.csv').write_text(
      head + '--PJHxphWEs, 30.000, 40.000, "/m/09x0r,/t/dd00088"\n')
  (folder / 'eval_segments.csv').write_text(
      head + '-0RWZT-miFs, 420.000, 430.000, "/m/09x0r"\n')
  audio = folder / 'audio'
  write_tone(audio / '--PJHxphWEs_30000_40000.flac')
  write_tone(audio / '-0RWZT-miFs.wav', hertz=500)
  return folder, audio


def fma(folder, subset='small', packed=False):
  """Four tracks: one of each split, one known to be broken; returns the folder."""
  tables = folder / 'fma_metadata'
  write_csv(
      tables / 'tracks.csv',
      ('', 'album', 'artist', 'set', 'set', 'track', 'track', 'track', 'track'),
      ('', 'title', 'name', 'split', 'subset', 'genre_top', 'genres', 'license',
       'title'),
      ('track_id', '', '', '', '', '', '', '', ''),
      (2, 'A Way', 'AWOL', 'training', 'small', 'Hip-Hop', '[21]', 'CC BY', 'Food'),
      (5, 'A Way', 'Other', 'validation', 'medium', 'Rock', '[12, 21]',
       'CC BY-NC', 'This\nWorld'),
      (1486, 'B', 'Third', 'test', 'small', 'Rock', '[12]', 'CC0', 'Short'),
      (2000, 'B', 'Third', 'test', 'large', '', '[]', 'CC0', 'Long'))
  write_csv(tables / 'genres.csv',
            ('genre_id', '#tracks', 'parent', 'title', 'top_level'),
            (12, 32923, 0, 'Rock', 12), (21, 8389, 0, 'Hip-Hop', 21))
  audio, lines = folder / f'fma_{subset}', []
  for number, hertz in ((2, 440), (5, 550), (1486, 660), (2000, 770)):
    member = f'{number // 1000:03d}/{number:06d}.mp3'
    path = write_tone(audio / member, 4, hertz, 24_000)
    lines.append(f'{hashlib.sha1(path.read_bytes()).hexdigest()}  {member}\n')
  (audio / 'checksums').write_text(''.join(lines))
  if packed:
    for path in (tables, audio):
      shutil.make_archive(str(path), 'zip', folder, path.name)
      shutil.rmtree(path)
  return folder
