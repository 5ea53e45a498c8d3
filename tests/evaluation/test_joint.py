"""The joint embedding's evaluation, with embedders whose answers are known."""

import json

import numpy as np
import one_embedder
import pytest

from musiclm_jax import audio as audio_lib
from musiclm_jax import bundle as bundle_lib
from musiclm_jax import errors
from musiclm_jax import records
from musiclm_jax.commands import cli
from musiclm_jax.evaluation import joint
from musiclm_jax.evaluation import zero_shot

_RATE = 24_000
_DIM = 16
_FAMILIES = ('flutes', 'brass')
_COUNT = 8


class Truth:
  """Knows recording i by its level (i + 1) / 16, and texts by their number."""

  codebooks = np.stack([np.eye(_DIM), np.zeros((_DIM, _DIM))]).astype('f')

  def __init__(self, wrong=()):
    self._wrong = dict(wrong)

  def embed_audio_windows(self, audio):
    number = int(np.round(16 * np.abs(audio).max())) - 1
    windows = max(1, audio.shape[1] // _RATE - 9)
    return np.tile(np.eye(_DIM, dtype='f')[number], (1, windows, 1))

  def embed_text(self, texts):
    return np.stack([self._text(text) for text in texts]).astype('f')

  def _text(self, text):
    for number, family in enumerate(_FAMILIES):
      if family in text:  # a prompt: every other recording
        vector = (np.arange(_DIM) % 2 == number).astype(float)
        return vector / np.linalg.norm(vector)
    number = int(text.split()[-1])
    return np.eye(_DIM)[self._wrong.get(number, number)]

  def quantize(self, vectors):
    first = np.argmax(vectors, axis=-1)
    return np.stack([first, np.zeros_like(first)], axis=-1)


def _fake(directory, embedder):
  return one_embedder.Bundle(directory, 'mulan', embedder)


def _level(number, seconds=11):
  return np.full(seconds * _RATE, (number + 1) / 16, np.float32)


@pytest.fixture(name='corpus', scope='module')
def _corpus(tmp_path_factory):
  """Eight test recordings, two families in turn; caption i of recording i."""
  place = tmp_path_factory.mktemp('joint') / 'corpus'
  with records.Writer(place, 'levels', _RATE) as out:
    for i in range(_COUNT):
      out.add('test', f't{i}', _level(i), captions=[f'number {i}'],
              family=_FAMILIES[i % 2])
    out.add('train', 'heard', _level(15), captions=['number 15'])
  return place


def test_the_truth_finds_all(corpus, tmp_path):
  found = joint.evaluate(_fake(tmp_path, Truth()), corpus)
  assert found.pairs.name == 'test' and len(found.pairs.tracks) == _COUNT
  figures = found.figures
  assert figures['joint_captions'] == 8 and not figures['joint_shared_captions']
  for way in ('text_to_audio', 'audio_to_text'):
    for name in ('r1', 'r5', 'r10', 'map'):
      assert figures[f'{way}_{name}'] == 1.0
    assert figures[f'{way}_r1_chance'] == pytest.approx(1 / 8)
    assert figures[f'{way}_r5_chance'] == pytest.approx(5 / 8)
  assert figures['zero_shot_auc'] == figures['zero_shot_family_auc'] == 1.0
  assert figures['zero_shot_tags'] == 2
  assert figures['equal_first_level'] == figures['positive_cosine'] == 1.0
  assert figures['equal_first_level_shuffled'] == 0.0
  assert figures['means_cosine'] == pytest.approx(1.0)
  # Two windows and their mean, all on an entry of the first level.
  assert figures['rvq_vectors'] == 3 * _COUNT
  assert figures['rvq_distortion_01'] == pytest.approx(0.0, abs=1e-6)
  assert [s.title.split(':')[0] for s in found.sections] == [
      'Retrieval', 'Zero-shot tags, each of 3 recordings or more', 'RVQ',
      'Modality gap']


def test_mistakes_are_counted(corpus, tmp_path):
  """Texts 0 and 1 mean recordings 1 and 9: one wrong, one that is not there."""
  figures = joint.evaluate(
      _fake(tmp_path, Truth({0: 1, 1: 9})), corpus).figures
  assert figures['text_to_audio_r1'] == 6 / 8
  # Their own scores are 0, and so are six or seven others.
  assert figures['text_to_audio_map'] == pytest.approx((6 + 2 / 8) / 8)
  assert figures['text_to_audio_r5'] == 6 / 8
  # Recording 0 has a score of 0 with all; 1 has its best with text 0.
  assert figures['audio_to_text_map'] == pytest.approx((6 + 2 / 8) / 8)
  assert figures['equal_first_level'] == 6 / 8
  assert figures['equal_first_level_shuffled'] == pytest.approx(1 / 56)


def test_what_the_codebooks_leave_over(corpus, tmp_path):
  """Half of each vector is taken away: a quarter of the power stays."""
  truth = Truth()
  truth.codebooks = truth.codebooks / 2
  figures = joint.evaluate(_fake(tmp_path, truth), corpus).figures
  spread = 1 - 1 / _COUNT  # of the vectors around their mean
  for name in ('rvq_distortion', 'rvq_text_distortion'):
    assert figures[f'{name}_01'] == pytest.approx(0.25 / spread)
    assert figures[f'{name}_02'] == pytest.approx(0.25 / spread)


def test_a_caption_of_several_recordings(tmp_path):
  with records.Writer(tmp_path / 'c', 'shared', _RATE) as out:
    for i, captions in enumerate((['number 0', 'number 5'], ['number 0'],
                                  ['number 2'], [])):
      out.add('validation', f't{i}', _level(i), captions=captions)
  found = joint.evaluate(_fake(tmp_path, Truth()), tmp_path / 'c')
  assert len(found.pairs.tracks) == 3 and found.pairs.name == 'validation'
  right = {caption: [found.pairs.tracks[i].id for i in np.flatnonzero(row)]
           for caption, row in zip(found.pairs.captions, found.pairs.right)}
  assert {k: sorted(v) for k, v in right.items()} == {
      'number 0': ['t0', 't1'], 'number 5': ['t0'], 'number 2': ['t2']}
  assert found.figures['joint_shared_captions'] == 1
  # Recording 1 shares text 0 but is no other's: it has a score of 0 with all.
  assert found.figures['audio_to_text_r1'] == pytest.approx(2 / 3)
  assert 'zero_shot_auc' not in found.figures


def test_a_folder_with_captions(tmp_path, capsys):
  folder = tmp_path / 'mine'
  folder.mkdir()
  rows = ['file,caption']
  for i in range(4):
    audio_lib.write(folder / f'{i}.wav', _level(i, 4), _RATE)
    rows.append(f'{i}.wav,number {i}')
  (folder / 'captions.csv').write_text('\n'.join(rows))
  before = sorted(p.name for p in folder.iterdir())
  found = joint.evaluate(_fake(tmp_path, Truth()), folder)
  assert len(found.pairs.tracks) == 4 and found.pairs.name == 'files'
  assert found.figures['text_to_audio_r1'] == 1.0
  assert sorted(p.name for p in folder.iterdir()) == before
  (folder / 'captions.csv').unlink()
  capsys.readouterr()
  with pytest.raises(errors.UserError, match='fewer than 2 recordings with'):
    joint.evaluate(_fake(tmp_path, Truth()), folder)
  assert not capsys.readouterr().out  # nothing was read in vain


def test_corpora_that_cannot_judge(tmp_path, corpus):
  with records.Writer(tmp_path / 'c', 'mute', _RATE) as out:
    out.add('test', 'a', _level(0))
    out.add('train', 'b', _level(1), captions=['number 1'])
  with pytest.raises(errors.UserError, match='fewer than 2 recordings with'):
    joint.evaluate(_fake(tmp_path, Truth()), tmp_path / 'c')
  with pytest.raises(errors.UserError, match='the bundle 16000 Hz'):
    with joint.choose(corpus, 8, 16_000):
      pass


def test_what_was_trained_on_is_said(tmp_path):
  with records.Writer(tmp_path / 'c', 'known', _RATE) as out:
    for i in range(2):
      out.add('train', f't{i}', _level(i), captions=[f'number {i}'])
  said = []
  joint.evaluate(_fake(tmp_path, Truth()), tmp_path / 'c', say=said.append)
  assert any('nothing is held out' in line for line in said)


def _tracks(*metas):
  return [records.Track(f't{i}', 1, '', 0, meta)
          for i, meta in enumerate(metas)]


def test_an_accompanying_instrument_is_no_wrong_answer():
  tracks = _tracks(*[dict(instrument='fiddle')] * 3,
                   *[dict(instrument='flute')] * 3,
                   dict(instrument='oboe', second='fiddle'), dict())
  fiddle, flute = zero_shot.tags(tracks)  # one oboe is too few
  assert fiddle.prompt == 'music played on fiddle'
  np.testing.assert_array_equal(fiddle.has, [True] * 3 + [False] * 5)
  np.testing.assert_array_equal(fiddle.judged, [True] * 6 + [False, False])
  np.testing.assert_array_equal(flute.judged, [True] * 7 + [False])
  audio = np.array([[3.], [1], [4], [2], [0], [0], [9], [9]])
  # Of nine pairs the fiddles win all but (1, 2); the flutes lose 11 of 12 and
  # the oboe is among their others.
  np.testing.assert_allclose(
      zero_shot.areas([fiddle, flute], audio, np.ones((2, 1))),
      [8 / 9, 1 / 12])


def test_aspects_are_tags_where_nothing_else_is_known():
  tracks = _tracks(*[dict(aspects=['slow', 'sad'])] * 3,
                   *[dict(aspects=['slow'])] * 3, dict())
  tag, = zero_shot.tags(tracks)  # all are slow
  assert (tag.group, tag.prompt) == ('aspect', 'sad')
  assert tag.has.sum() == 3 and tag.judged.sum() == 6


def test_the_shell(corpus, tmp_path, monkeypatch, capsys):
  fake = _fake(tmp_path, Truth())
  monkeypatch.setattr(bundle_lib, 'Bundle', lambda unused: fake)
  cli.main(['evaluate', 'joint', '--bundle', str(tmp_path), '--corpus',
            str(corpus), '--clips', '6', '--json', str(tmp_path / 'j.json'),
            '--report', str(tmp_path / 'j.html')])
  out = capsys.readouterr().out
  assert 'text to audio, R@10' in out and 'cosine of the means' in out
  figures = json.loads((tmp_path / 'j.json').read_text())
  assert figures['joint_clips'] == 6 and figures['split'] == 'test'
  assert figures['text_to_audio_map'] == 1.0 and 'machine' in figures
  assert 'Zero-shot' in (tmp_path / 'j.html').read_text()
