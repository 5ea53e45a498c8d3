"""What is held and what is drawn again; the figures of rows by hand."""

import json

import numpy as np
import pytest
import random_bundle

from musiclm_jax import bundle as bundle_lib
from musiclm_jax import errors
from musiclm_jax.commands import cli
from musiclm_jax.evaluation import any_music
from musiclm_jax.evaluation import diversity
from musiclm_jax.evaluation import ladder
from musiclm_jax.metrics import diversity as metric
from musiclm_jax.systems.musiclm import pipeline as pipeline_lib

_TRACKS = {row: ['a', 'b', 'c'] for row in diversity.ROWS}


def test_a_section_by_hand():
  told, figures = diversity.section('mel', dict(
      held_both=np.array([1.0, 2, 3]), held_prompt=np.array([4.0, 4, 4]),
      prompts=np.array([6.0, 7, 8]), recordings=np.array([10.0, 10, 10])),
                                    _TRACKS)
  assert figures['diversity_mel_held_both'] == 2
  assert figures['diversity_mel_recordings_low'] == 10
  assert figures['diversity_mel_prompt_worth'] == 3
  assert told.lines[1].note == '40% of recordings'
  assert told.verdict.startswith('a caption brings its clips nearer by 3.0 (')


def test_prompts_that_are_not_heard_are_seen():
  same = np.array([4.0, 5, 6])
  told, _ = diversity.section('mulan', dict(
      held_both=same, held_prompt=same, prompts=same[::-1], recordings=same),
                              _TRACKS)
  assert told.verdict.startswith('clips of one caption are no nearer')


def test_mel_distances_are_those_of_the_ladder():
  rng = np.random.default_rng(0)
  audio = np.stack([random_bundle.tones(family, 1, rng)
                    for family in random_bundle.FAMILIES]).astype(np.float32)
  found = metric.mean_distances(
      np.stack([ladder.mel_image(sound) for sound in audio]))
  np.testing.assert_allclose(
      found[[0, 1, 2], [1, 2, 0]],
      ladder.mel_distance_db(audio, np.roll(audio, -1, axis=0)), rtol=1e-4)


def test_what_is_held(folder, monkeypatch):
  """S of a caption's first clip; another sample for every clip."""
  bundle = bundle_lib.Bundle(folder / 'bundle')
  asked = []

  def complete(self, codes, seconds, seed, draws, levels):
    asked.append(codes)
    count = len(codes['mulan'])
    return {'semantic': np.arange(count)[:, None, None]}, np.zeros((count, 9))

  monkeypatch.setattr(pipeline_lib.Pipeline, 'complete', complete)
  asked_first = dict(diversity.draw(bundle, ['a jig', 'an air'], 3, 0))
  assert set(asked_first) == {'held_prompt', 'held_both'}
  mulan = asked[0]['mulan']
  assert (mulan[0] == mulan[:3]).all() and (mulan[3] == mulan[3:]).all()
  assert (mulan[0] != mulan[3]).any()
  np.testing.assert_array_equal(
      asked[1]['semantic'][:, 0, 0], [0, 0, 0, 3, 3, 3])


def test_from_the_shell(folder, tmp_path, monkeypatch, capsys):
  monkeypatch.chdir(tmp_path)
  monkeypatch.setattr(diversity, '_tagger', lambda say: None)
  cli.main(['evaluate', 'diversity', '--bundle', str(folder / 'bundle'),
            '--corpus', str(folder / 'corpus'), '--clips', '2', '--draws', '2',
            '--json', 'd.json'])
  assert 'M and S held, A drawn again' in capsys.readouterr().out
  figures = json.loads((tmp_path / 'd.json').read_text())
  assert figures['diversity_prompts'] == figures['diversity_draws'] == 2
  for kind in ('mel', 'mulan'):
    for row in diversity.ROWS:
      assert figures[f'diversity_{kind}_{row}'] > 0
  assert len(figures['provenance']['prompts']) == 2
  assert figures['provenance']['clips']['recordings']['used'] == 2


@pytest.mark.parametrize('argv, message', [
    (('--draws', '1'), '--draws is 1; expected 2 to 64'),
    (('--captions', 'x.csv'), '--captions belongs to --data'),
    (('--data', 'x', '--corpus', 'y'), 'two kinds of music'),
    (('--data', 'nowhere'), '--data nowhere is not a folder')])
def test_what_cannot_be_asked(folder, capsys, argv, message):
  with pytest.raises(SystemExit) as stopped:
    cli.main(['evaluate', 'diversity', '--bundle', str(folder / 'bundle'),
              *argv])
  assert stopped.value.code == 2
  assert message in capsys.readouterr().err


def test_too_few_captions(folder):
  bundle = bundle_lib.Bundle(folder / 'bundle')
  music = any_music.of_corpus(folder / 'corpus', 2, 2, 24_000)
  with pytest.raises(errors.UserError, match='1 captions to draw for'):
    diversity.evaluate(bundle, music, 2, ['a jig'])
