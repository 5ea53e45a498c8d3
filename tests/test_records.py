"""Records: what is written is read back, crops are a function of the step."""

import numpy as np
import pytest

from musiclm_jax import errors
from musiclm_jax import records

_SHARD = 'test-train.tfrecord-00000-of-00001'


@pytest.fixture(name='corpus')
def _corpus(tmp_path):
  rng = np.random.default_rng(0)
  with records.Writer(tmp_path / 'c', 'test', 24_000, licence='CC0') as writer:
    for i, length in enumerate([24_000, 12_000, 48_000]):
      writer.add('train', f't{i}', rng.uniform(-1, 1, length),
                 captions=[f'caption {i}'])
    writer.add('test', 'held', np.ones(100, np.int16))
  return records.Corpus(tmp_path / 'c')


def test_round_trip(corpus):
  rng = np.random.default_rng(0)
  split = corpus.split('train')
  assert corpus.splits == ['test', 'train'] and len(split) == 3
  assert split.seconds == 3.5
  for i, length in enumerate([24_000, 12_000, 48_000]):
    expected = rng.uniform(-1, 1, length)
    np.testing.assert_allclose(split.read(split[i]), expected, atol=2e-5)
    assert split[i].captions == [f'caption {i}']
  part = split.read(split[2], 47_990, 20)
  assert part.shape == (20,) and (part[10:] == 0).all() and part[:10].any()


def test_crops_depend_on_seed_and_step_only(corpus):
  crops = records.Crops(corpus.split('train'), 6_000, 4, seed=3, align=480)
  again = records.Crops(corpus.split('train'), 6_000, 4, seed=3, align=480)
  crops.batch(0)
  for step in (7, 8):
    a, b = crops.batch(step), again.batch(step)
    for name in a:
      np.testing.assert_array_equal(a[name], b[name])
  assert not np.array_equal(crops.batch(7)['audio'], crops.batch(8)['audio'])
  assert (crops.batch(7)['start'] % 480 == 0).all()


def test_crops_begin_at_every_place_that_leaves_a_whole_one(corpus):
  crops = records.Crops(corpus.split('train'), 11_000, 400, seed=0, align=500)
  batch = crops.batch(0)
  shortest = batch['start'][batch['track'] == 1]  # of 12,000 samples
  assert sorted(set(shortest.tolist())) == [0, 500, 1000]


def test_every_second_is_as_likely(corpus):
  crops = records.Crops(corpus.split('train'), 100, 4_000, seed=0)
  counts = np.bincount(crops.batch(0)['track'], minlength=3) / 4_000
  np.testing.assert_allclose(counts, [2 / 7, 1 / 7, 4 / 7], atol=0.03)


def test_a_failed_write_leaves_nothing(tmp_path):
  with pytest.raises(RuntimeError):
    with records.Writer(tmp_path / 'c', 'test', 24_000) as writer:
      writer.add('train', 'a', np.zeros(10))
      raise RuntimeError('stop')
  assert not list(tmp_path.iterdir())


def test_errors(tmp_path, corpus):
  with pytest.raises(errors.UserError, match='not a corpus'):
    records.Corpus(tmp_path / 'nothing')
  with pytest.raises(errors.UserError, match='known: test, train'):
    corpus.split('valid')
  with pytest.raises(errors.UserError, match='exists already'):
    with records.Writer(tmp_path / 'c', 'test', 24_000):
      pass
  with records.Writer(tmp_path / 'd', 'test', 24_000) as writer:
    with pytest.raises(ValueError, match='NaN'):
      writer.add('train', 'a', np.array([np.nan]))
    with pytest.raises(ValueError, match='mono'):
      writer.add('train', 'a', np.zeros((2, 2)))


def _two_corpora(tmp_path, rates=(100, 100)):
  for name, value, rate in zip('ab', (0.1, 0.2), rates):
    with records.Writer(tmp_path / name, name, rate, licence=name) as writer:
      writer.add('train', f'{name}0', np.full(1000 if name == 'a' else 3000,
                                              value))
      if name == 'b':
        writer.add('test', 'b1', np.full(50, value))
  return f'{tmp_path / "a"},{tmp_path / "b"}'


def test_a_mixture_reads_both_and_weighs_by_length(tmp_path):
  mixed = records.load(_two_corpora(tmp_path))
  assert mixed.name == 'a+b' and mixed.splits == ['test', 'train']
  train = mixed.split('train')
  assert [t.id for t in train] == ['a0', 'b0'] and train.seconds == 40
  np.testing.assert_allclose(
      [train.read(t, 10, 5).mean() for t in train], [0.1, 0.2], atol=1e-4)
  batch = records.Crops(train, 10, 4000).batch(0)
  share = np.mean(batch['audio'][:, 0] > 0.15)
  assert share == pytest.approx(0.75, abs=0.03)
  assert [t.id for t in mixed.split('test')] == ['b1']


def test_load_of_one_is_that_corpus(tmp_path):
  _two_corpora(tmp_path)
  assert isinstance(records.load(tmp_path / 'a'), records.Corpus)


def test_corpora_of_two_rates_do_not_mix(tmp_path):
  with pytest.raises(errors.UserError, match='one rate'):
    records.load(_two_corpora(tmp_path, (100, 200)))
  with pytest.raises(errors.UserError, match='no split|split of'):
    (tmp_path / 'x').mkdir()
    records.load(_two_corpora(tmp_path / 'x')).split('validation')


@pytest.mark.parametrize('name, content, message', [
    ('manifest.json', b'', 'manifest.json is damaged (no JSON); make or copy'),
    ('manifest.json', b'[]', 'manifest.json is damaged (a list, expected a d'),
    ('manifest.json', b'\xff\xfe', 'manifest.json is damaged (no JSON)'),
    ('manifest.json', b'[' * 100_000, 'manifest.json is damaged (no JSON)'),
    ('manifest.json', b'{"format": "musiclm_jax.records.v1"}',
     'manifest.json is damaged (it has no name)'),
    ('train/tracks.jsonl', None, 'tracks.jsonl is missing; make or copy'),
    ('train/tracks.jsonl', b'{"id": "t0", "sh',
     'tracks.jsonl, line 1, is damaged (no JSON)'),
    ('train/tracks.jsonl', b'{"id": "\\ud800"}\n',
     'line 1, is damaged (it holds half a character)'),
    ('train/tracks.jsonl', b'7\n', 'line 1, is damaged (a int, expected a dict'),
    ('train/tracks.jsonl', b'{"id": "t0", "num_samples": "9"}\n',
     'line 1, is damaged (it has no num_samples)'),
    ('train/tracks.jsonl', b'{"id": "t0", "num_samples": 9, "offset": -9, '
     b'"shard": "test-train.tfrecord-00000-of-00001"}\n',
     'track t0 begins at -9 and has 9 samples'),
    (_SHARD, None, f'{_SHARD} is missing'),
    (_SHARD, bytes(1000), f'{_SHARD} is shorter than tracks.jsonl says (1000 '
     'bytes, expected 168'),
])
def test_damage_is_named_when_a_corpus_is_opened(
    corpus, name, content, message):
  path = corpus.directory / name
  path.unlink() if content is None else path.write_bytes(content)
  with pytest.raises(errors.UserError) as told:
    records.Corpus(corpus.directory).split('train')
  assert message in str(told.value)
  assert str(told.value).startswith(str(corpus.directory))


def test_a_lost_line_of_the_index_is_missed(corpus):
  path = corpus.directory / 'train/tracks.jsonl'
  lines = path.read_bytes().splitlines(keepends=True)
  path.write_bytes(b''.join(lines[1:]))
  with pytest.raises(errors.UserError, match=(
      f'tracks.jsonl has {len(lines) - 1} tracks, and manifest.json says '
      f'{len(lines)}; make or copy')):
    corpus.split('train')


def test_lines_of_an_index_end_at_line_feeds_alone(tmp_path):
  caption = 'one\u2028two\u0085three\x0bfour\rfive\nsix \U0001f3b5'
  with records.Writer(tmp_path / 'c', 'test', 100) as writer:
    writer.add('train', 'a', np.zeros(10), captions=[caption])
  (track,) = records.Corpus(tmp_path / 'c').split('train')
  assert track.captions == [caption]


def test_a_corpus_is_one_writer_s(tmp_path):
  with records.Writer(tmp_path / 'c', 'first', 100) as writer:
    writer.add('train', 'a', np.zeros(10))
    with pytest.raises(errors.UserError, match='another run writes to the cor'):
      with records.Writer(tmp_path / 'c', 'second', 100):
        pass
  assert records.Corpus(tmp_path / 'c').name == 'first'
  assert [p.name for p in tmp_path.iterdir()] == ['c']


def test_the_folder_of_a_user_is_not_taken_for_a_partial_one(tmp_path):
  (tmp_path / 'c.partial').mkdir()
  (tmp_path / 'c.partial' / 'notes.txt').write_text('mine')
  with records.Writer(tmp_path / 'c', 'test', 100) as writer:
    writer.add('train', 'a', np.zeros(10))
  assert (tmp_path / 'c.partial' / 'notes.txt').read_text() == 'mine'
