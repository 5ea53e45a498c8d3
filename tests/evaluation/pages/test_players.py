"""Sounds in the page: what is heard, what is seen, what cannot be."""

import base64
import io
import re
import types

import numpy as np
from PIL import Image
import pytest
import soundfile

from musiclm_jax import specs
from musiclm_jax.evaluation.pages import folder
from musiclm_jax.evaluation.pages import measured
from musiclm_jax.evaluation.pages import players

RATE = 8_000


def _tone(seconds, rate=RATE):
  return 0.5 * np.sin(np.arange(round(seconds * rate)) * 0.3)


def _item(path, audio, rate=RATE, **how):
  soundfile.write(path, audio, rate, **how)
  return measured.Item(path.stem, 'a jig', {'drawn': path})


def _embedded(found, kind):
  return [io.BytesIO(base64.b64decode(x))
          for x in re.findall(f'data:{kind};base64,([^"]*)"', found)]


def test_a_sound_is_as_it_was(tmp_path):
  audio = _tone(1.0)
  found = players.html([_item(tmp_path / 'a.wav', audio)], 12)
  file, = _embedded(found, 'audio/flac')
  heard, rate = soundfile.read(file)
  assert rate == RATE
  np.testing.assert_allclose(heard, audio, atol=1e-4)
  picture, = _embedded(found, 'image/png')
  image = np.asarray(Image.open(picture).convert('L'), float)
  # One pitch: one band is far brighter than what lies above it.
  rows = image.mean(1)
  assert rows.argmax() > len(rows) / 2 and rows.max() > 3 * rows[:20].mean()
  assert '1 clip to hear.' in found and 'the first' not in found


def test_long_and_fast_sounds_are_cut(tmp_path):
  found = players.html(
      [_item(tmp_path / 'a.wav', _tone(32.0, 96_000), 96_000)], 12)
  heard, rate = soundfile.read(_embedded(found, 'audio/flac')[0])
  assert rate == 48_000 and len(heard) == 30 * rate
  assert 'the first 30 s of 32 s' in found


def test_what_cannot_be_heard_says_why(tmp_path):
  (tmp_path / 'text.wav').write_text('text')
  gone = measured.Item('<b>', '<script>', {'x': tmp_path / 'gone.wav'})
  items = [_item(tmp_path / 'silent.wav', np.zeros(RATE)),
           _item(tmp_path / 'nan.wav', np.full(RATE, np.nan), subtype='FLOAT'),
           measured.Item('t', '', {'x': tmp_path / 'text.wav'}), gone]
  found = players.html(items, 12)
  told = re.findall('Not shown: (.*?)</p>', found)
  assert len(told) == 4 and '<audio' not in found
  for line, words in zip(told, ('is silent', 'NaN', 'not readable audio',
                                'does not exist')):
    assert words in line
  assert '&lt;script&gt;' in found and '<script' not in found


def test_the_first_ones_are_shown(tmp_path):
  items = [_item(tmp_path / f'{i}.wav', _tone(0.1)) for i in range(3)]
  found = players.html(items, 2)
  assert found.count('<audio') == 2
  assert 'The first 2 of 3 clips; --clips puts more into the page' in found
  assert '<audio' not in players.html(items, 0)


def test_tokens_are_drawn_where_there_is_a_tokenizer(tmp_path):
  seen = []

  def tokens(audio):
    seen.append(len(audio))
    return np.zeros((130, 500, 3), np.uint8)

  found = players.html([_item(tmp_path / 'a.wav', _tone(0.5))], 1, tokens)
  assert seen == [12_000]  # at 24 kHz
  assert Image.open(_embedded(found, 'image/png')[1]).size == (500, 130)


def test_token_maps_of_a_bundle():
  spec = specs.TokenSpec()
  heard = []

  def tokenizer(kind, shape):
    def encode(audio):
      heard.append(audio.shape)
      count = round(audio.shape[1] / 24_000 * kind.frame_rate_hz)
      return np.arange(count).reshape(1, -1, *[1] * len(shape)) + np.zeros(
          shape, int)
    return types.SimpleNamespace(encode=encode)

  bundle = types.SimpleNamespace(tokens=spec, get=dict(
      codec=tokenizer(spec.codec, (spec.codec.num_codebooks,)),
      w2vbert=tokenizer(spec.semantic, ())).get)
  pixels = players.tokens_of(bundle)(np.zeros(36_000, np.float32))
  # Padded to whole blocks, of which the 1.5 s that were there are drawn.
  assert heard == [(1, 240_000)] * 2
  frames = round(1.5 * spec.codec.frame_rate_hz)
  assert pixels.shape[0] == 10 * (1 + spec.codec.num_codebooks)
  assert pixels.shape[1] % frames == 0
  columns = pixels[:, ::pixels.shape[1] // frames]
  # A semantic token lasts for several frames of the codec.
  ratio = round(spec.codec.frame_rate_hz / spec.semantic.frame_rate_hz)
  assert (columns[0, 0] == columns[0, ratio - 1]).all()
  assert (columns[0, 0] != columns[0, ratio]).any()
  assert (columns[10, 0] != columns[10, 1]).any()


@pytest.mark.parametrize('names, groups', [
    ((('a', 'b'), ('a', 'b')), [('0, 1', 2)]),
    ((('a', 'b'), ('c', 'd')), [('0', 2), ('1', 2)]),
    ((('a', 'b', 'c'), ('a', 'b')), [('0, 1', 3)]),
    ((('a', 'b', 'c'), ('a',)), [('0', 3), ('1', 1)])])
def test_folders_of_the_same_names_are_one(tmp_path, names, groups):
  sets = [folder.SoundSet(str(i), {n: tmp_path / n for n in ids},
                          {'a': 'a jig'} if i else {})
          for i, ids in enumerate(names)]
  found = players.items(sets)
  assert [(title, len(items)) for title, items in found] == groups
  if len(groups) == 1:
    assert found[0][1][0].caption == 'a jig'
    assert list(found[0][1][0].sounds) == ['0', '1']
