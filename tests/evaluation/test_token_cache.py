"""`inspect cache`: how codes are used, drawn; a part of it decoded."""

import json
import math

import fake_tokens
import numpy as np
import pytest

from musiclm_jax import bundle as bundle_lib
from musiclm_jax import errors
from musiclm_jax.commands import cli
from musiclm_jax.evaluation import token_cache
from musiclm_jax.tokens import cache as cache_lib
from musiclm_jax.tokens import precompute


@pytest.fixture(name='cache', scope='module')
def cache_fixture(tmp_path_factory):
  root = tmp_path_factory.mktemp('used')
  corpus = fake_tokens.write_corpus(root / 'corpus')
  return precompute.tokenize(fake_tokens.tokenizers(), corpus, root / 'cache',
                             shard_seconds=60)


class Bundle:
  """Its codec gives each frame the value of its first code."""

  directory = 'bundle'

  def __init__(self, digest='a'):
    self._hash = digest

  def require(self, *unused_names):
    pass

  def component_hash(self, unused_name):
    return self._hash

  def tokenizer(self, unused_role):
    return self

  def decode(self, codes):
    return np.repeat(codes[..., 0] / 16, 24, axis=1).astype(np.float32)


def tracks():
  """[seconds] marks of all tracks of a second."""
  return [fake_tokens.marks(number, int(seconds)) for lengths in
          fake_tokens.SECONDS.values() for number, seconds in enumerate(lengths)
          if seconds >= 1]


def test_counts_are_those_of_the_codes(cache):
  found = token_cache.use(cache)
  assert found.tracks == found.tracks_in_all == 7
  names = [level.stream for level in found.levels]
  assert names == ['acoustic'] * 12 + ['semantic'] + ['mulan'] * 3
  counts = np.bincount(np.concatenate(tracks()) % 16, minlength=16)
  for q, level in enumerate(found.levels[:12]):
    np.testing.assert_array_equal(level.counts, 50 * np.roll(counts, q))
  semantic = found.levels[12]
  np.testing.assert_array_equal(semantic.counts, 25 * np.roll(counts, 5))
  share = counts / counts.sum()
  assert semantic.entropy_bits == pytest.approx(
      -(share * np.log2(share)).sum(), abs=0.01)
  assert semantic.used == 16 and semantic.most_bits == 4
  # A code is another than the one before where a second begins.
  frames = sum(25 * len(marks) - 1 for marks in tracks())
  changes = sum(len(marks) - 1 for marks in tracks())
  assert semantic.repeat_share == pytest.approx(1 - changes / frames)
  words = found.levels[13]
  assert words.counts.sum() == sum(max(1, len(m) - 9) for m in tracks())
  first = [fake_tokens.residual_codes(fake_tokens.embedding(mark))[0]
           for marks in tracks() for mark in marks[:max(1, len(marks) - 9)]]
  np.testing.assert_array_equal(words.counts, np.bincount(first, minlength=16))


def test_some_tracks_are_drawn_and_it_says_so(cache):
  found = token_cache.use(cache, most_tracks=3)
  assert found.tracks == 3 and '3 of 7 tracks' in token_cache.table(found)
  again = token_cache.use(cache, most_tracks=3)
  np.testing.assert_array_equal(found.levels[0].counts, again.levels[0].counts)
  other = token_cache.use(cache, most_tracks=3, seed=1)
  assert found.levels[0].counts.sum() != other.levels[0].counts.sum()


def test_the_command_prints_and_draws(cache, tmp_path, capsys):
  cli.main(['inspect', 'cache', str(cache.directory), '--picture',
            str(tmp_path / 'use.png'), '--json', str(tmp_path / 'f.json')])
  printed = capsys.readouterr().out
  assert 'left out: 1 (under a second)' in printed
  assert 'codes of 7 tracks' in printed and ' 16/16 ' in printed
  figures = json.loads((tmp_path / 'f.json').read_text())
  assert figures['train_seconds'] == 100 and figures['semantic_1_used'] == 16
  assert 0 < figures['acoustic_12_entropy_bits'] <= math.log2(16)
  assert (tmp_path / 'use.png').read_bytes().startswith(b'\x89PNG')


def test_an_example_is_decoded_by_the_codec_that_made_it(
    cache, tmp_path, capsys, monkeypatch):
  audio, text = token_cache.example(cache, Bundle(), 0, seconds=4)
  # Seconds of one value, each a sixteenth above the one before.
  found = np.round(16 * audio.reshape(-1, fake_tokens.RATE_HZ)).astype(int)
  assert len(found) <= 4 and np.all(found == found[:, :1])
  split, name, start = text.replace(',', '').split()[:3]
  track = int(name.removeprefix(split))
  marks = fake_tokens.marks(track, 45)[int(start):int(start) + len(found)]
  np.testing.assert_array_equal(found[:, 0], marks % 16)
  assert f'tune {track}' in text
  assert len({token_cache.example(cache, Bundle(), seed)[1]
              for seed in range(8)}) > 2
  with pytest.raises(errors.UserError, match='codec a, and bundle has b'):
    token_cache.example(cache, Bundle('b'), 0)

  monkeypatch.setattr(bundle_lib, 'Bundle', lambda path: Bundle())
  cli.main(['inspect', 'cache', str(cache.directory), '--decode', '2',
            '-o', str(tmp_path / 'a.wav')])
  assert f'wrote {tmp_path / "a.wav"}: ' in capsys.readouterr().out
  assert (tmp_path / 'a.wav').stat().st_size > 44


@pytest.mark.parametrize('words, message', [
    (['corpus', 'x', '--picture', 'a.png'], 'goes with `inspect cache`'),
    (['cache', 'x', '--decode', '1'], 'go together'),
    (['cache', 'x', '-o', 'a.wav'], 'go together'),
    (['cache', 'x', '--decode', '-1', '-o', 'a.wav'], 'a seed of 0 or more'),
    (['cache', 'x', '--picture', 'a.jpg'], "extension '.jpg'; expected .png"),
    (['cache', 'x', '--decode', '1', '-o', 'a.mp3'], '.mp3'),
])
def test_options_that_do_not_fit(words, message, capsys):
  with pytest.raises(SystemExit) as stopped:
    cli.main(['inspect', *words])
  error = capsys.readouterr().err
  assert stopped.value.code == 2
  assert message in error and error.count('\n') == 1


def test_damaged_lines_are_named(cache, tmp_path):
  import shutil  # pylint: disable=g-import-not-at-top
  shutil.copytree(cache.directory, tmp_path / 'c')
  (tmp_path / 'c' / cache_lib.LEFT_OUT).write_text('{"id')
  with pytest.raises(errors.UserError, match='left_out.jsonl is damaged'):
    cache_lib.Cache(tmp_path / 'c').left_out  # pylint: disable=expression-not-assigned
  (tmp_path / 'c' / cache_lib.LEFT_OUT).unlink()  # a former cache has none
  assert not cache_lib.Cache(tmp_path / 'c').left_out
