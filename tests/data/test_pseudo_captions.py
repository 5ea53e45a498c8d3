"""Sentences for sound without captions: nearest, drawn against frequency."""

import types

import numpy as np
import pytest

from musiclm_jax import errors
from musiclm_jax import records
from musiclm_jax.data import pseudo_captions
from tests.helpers import command_line
from tests.helpers import downloads

_RATE = 24_000


class _Joint:
  """Sounds are placed on a circle by their level, texts by the number in them."""

  spec = types.SimpleNamespace(window_seconds=2)

  def __init__(self):
    self.shapes = []

  def embed_audio_windows(self, audio):
    self.shapes.append(audio.shape)
    return _on_circle(np.abs(audio).max(1))[:, None]

  def embed_text(self, texts):
    return _on_circle(np.array([float(text.split()[-1]) for text in texts]))


def _on_circle(turns):
  return np.stack([np.cos(turns), np.sin(turns)], -1).astype(np.float32)


def _corpus(path, levels, seconds=3, **meta):
  with records.Writer(path, 'mine', _RATE, licence='CC0') as writer:
    for number, level in enumerate(levels):
      writer.add('test' if number == 0 else 'train', f't{number}',
                 np.full(seconds * _RATE, level, np.float32), **meta)
  return path


def _tracks(path):
  corpus = records.Corpus(path)
  return {t.id: (corpus.split(name), t) for name in corpus.splits
          for t in corpus.split(name)}


def test_each_track_gets_what_is_near(tmp_path):
  levels = [0.1, 0.5, 0.9]
  corpus = _corpus(tmp_path / 'in', levels, captions=['own'], genre='x')
  sentences = [f'level {i / 10}' for i in range(10)]
  summary = pseudo_captions.label(
      corpus, sentences, _Joint(), tmp_path / 'out',
      pseudo_captions.Plan(nearest=3, draws=3), progress=False, made_by='abc')
  assert summary['tracks'] == 3 and summary['sentences'] == 10
  made, before = _tracks(tmp_path / 'out'), _tracks(corpus)
  near = {'t0': (0.0, 0.1, 0.2), 't1': (0.4, 0.5, 0.6), 't2': (0.7, 0.8, 0.9)}
  for name, (split, track) in made.items():
    assert sorted(track.meta['pseudo_captions']) == [
        f'level {level}' for level in near[name]]
    assert track.captions == ['own', *track.meta['pseudo_captions']]
    assert track.meta['genre'] == 'x'
    old_split, old = before[name]
    assert split.directory.name == old_split.directory.name
    assert (split.read(track) == old_split.read(old)).all()
  manifest = records.Corpus(tmp_path / 'out').manifest
  assert manifest['licence'] == 'CC0' and manifest['name'] == 'mine'
  noted = manifest['pseudo_captions']
  assert noted['made_by'] == 'abc' and noted['nearest'] == 3 and noted['seed'] == 0


def test_frequent_sentences_are_drawn_less():
  # Sentence 0 is near to all, each other one to a tenth.
  count = 400
  near = np.stack([np.zeros(count, np.int64), 1 + np.arange(count) % 10], 1)
  ids = [str(i) for i in range(count)]
  drawn = pseudo_captions.draw(near, ids, pseudo_captions.Plan(2, 1))
  # Frequencies 400 and 40: once in 11 draws, 36 times; 3 deviations are 17.
  assert 19 <= np.count_nonzero(drawn == 0) <= 54
  uniform = count / 2
  assert np.count_nonzero(drawn == 0) < uniform / 3


def test_draws_depend_on_seed_and_id_alone():
  rng = np.random.default_rng(0)
  near = np.stack([rng.permutation(50)[:10] for _ in range(30)])
  ids = [str(i) for i in range(30)]
  plan = pseudo_captions.Plan(10, 3)
  drawn = pseudo_captions.draw(near, ids, plan)
  assert all(len(set(row)) == 3 for row in drawn)
  assert all(set(row) <= set(choices) for row, choices in zip(drawn, near))
  back = pseudo_captions.draw(near[::-1], ids[::-1], plan)[::-1]
  assert (back == drawn).all()
  other = pseudo_captions.draw(near, ids, pseudo_captions.Plan(10, 3, seed=1))
  assert (other != drawn).any()


def test_nearest_against_a_plain_sort(monkeypatch):
  rng = np.random.default_rng(1)
  tracks, sentences = (rng.normal(size=(n, 8)).astype(np.float32) for n in (9, 40))
  plain = np.argsort(-(tracks @ sentences.T), axis=1)[:, :5]
  for at_once in (1 << 20, 100):
    monkeypatch.setattr(pseudo_captions, '_SIMILARITIES_AT_ONCE', at_once)
    assert (pseudo_captions.nearest(tracks, sentences, 5) == plain).all()
  assert pseudo_captions.nearest([], sentences, 5).shape == (0, 5)


def test_windows_do_not_overlap():
  joint = _Joint()
  audio = np.concatenate([np.full(2 * _RATE, 0.2), np.full(2 * _RATE, 0.6),
                          np.full(_RATE, 0.9)]).astype(np.float32)
  made = pseudo_captions.embed_track(joint, audio, _RATE)
  assert joint.shapes == [(2, 2 * _RATE)]
  assert made == pytest.approx(_on_circle(np.array(0.4)), abs=1e-6)
  assert np.linalg.norm(made) == pytest.approx(1)
  pseudo_captions.embed_track(joint, audio[:100], _RATE)
  assert joint.shapes[1] == (1, 2 * _RATE)


def test_sentences(tmp_path):
  path = tmp_path / 'sentences.txt'
  path.write_text('A jig.\n\n  A reel. \r\nA jig.\n\u200b\n', encoding='utf-8-sig')
  assert pseudo_captions.read_sentences(path) == ['A jig.', 'A reel.']
  path.write_text(' \n')
  with pytest.raises(errors.UserError, match='is empty'):
    pseudo_captions.read_sentences(path)
  path.write_bytes(b'caf\xe9')
  with pytest.raises(errors.UserError, match='not UTF-8'):
    pseudo_captions.read_sentences(path)


@pytest.mark.parametrize('options, message', [
    (['--draws', '4', '--nearest', '3'], '--draws is 4 and --nearest 3'),
    (['--draws', '0'], '--draws is 0'), (['--seed', '-1'], '--seed is -1'),
    (['--nearest', '3'], '2 sentences; expected at least the 3 of --nearest'),
    (['--bundle', 'nowhere'], 'no bundle at nowhere'),
    (['--sentences', 'nowhere'], 'sentences nowhere does not exist')])
def test_wrong_options(tmp_path, capsys, options, message):
  corpus = _corpus(tmp_path / 'in', [0.1])
  (tmp_path / 's').write_text('A jig.\nA reel.\n')
  code, _, told = command_line.run(
      capsys, 'data', 'label', corpus, '--sentences', tmp_path / 's', '--out',
      tmp_path / 'out', *options)
  assert code == 2 and message in told
  assert not (tmp_path / 'out').exists()


def test_the_shipped_bundle_labels(tmp_path, capsys):
  with records.Writer(tmp_path / 'in', 'mine', _RATE) as writer:
    for number, hertz in enumerate((220, 440, 880)):
      writer.add('train', f't{number}', downloads.tone(1.5, hertz, _RATE))
  (tmp_path / 's').write_text('A jig on the flute.\nA slow air.\nA drum.\nA reel.\n')
  code, printed, _ = command_line.run(
      capsys, 'data', 'label', tmp_path / 'in', '--sentences', tmp_path / 's',
      '--out', tmp_path / 'out', '--nearest', '3', '--draws', '2')
  assert code == 0 and 'mine' in printed
  for _, track in _tracks(tmp_path / 'out').values():
    assert len(track.captions) == 2
    assert set(track.captions) <= set((tmp_path / 's').read_text().splitlines())
