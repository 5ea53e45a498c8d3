"""What the probes of the semantic tokenizer say of tokenizers that we know."""

import types

import numpy as np
import pytest

from musiclm_jax import errors
from musiclm_jax import records
from musiclm_jax import specs
from musiclm_jax.commands import cli
from musiclm_jax.evaluation import semantic
from musiclm_jax.evaluation import semantic_clips
from musiclm_jax.tokenizers.w2vbert import model as w2vbert_model

_RATE = 24_000
_LOUD = dict(flutes=0.02, brass=0.2)
_SECONDS = semantic_clips.CLIP_SECONDS


def _corpus(directory, splits=None, meta=True):
  """Tunes of one note each; the family is how loud it is."""
  splits = splits or dict(train=12, validation=6, test=8)
  number = 0
  with records.Writer(directory, 'tones', _RATE) as out:
    for split, tunes in splits.items():
      for i in range(tunes):
        family = sorted(_LOUD)[i % 2]
        pitch = 60 + i % 4
        hz = 440.0 * 2.0**((pitch - 69) / 12)
        audio = _LOUD[family] * np.sin(
            2 * np.pi * hz * np.arange(_SECONDS * _RATE) / _RATE)
        about = dict(family=family, cluster=f'tune{number}', rhythm='air',
                     melody=[[0.0, float(_SECONDS), pitch]]) if meta else {}
        out.add(split, f'{split}{i}', audio, **about)
        number += 1
  return directory


class Hears:
  """A tokenizer that knows loudness; its tokens know nothing."""

  config = w2vbert_model.W2vBertConfig(num_mels=16, num_clusters=3)
  spec = config.semantic_spec()
  centroids = np.zeros((3, 4))

  def features(self, audio):
    frames = audio.reshape(len(audio), -1, _RATE // 25)
    noise = np.random.default_rng(len(audio)).normal(
        size=frames.shape[:2] + (3,))
    return np.concatenate([np.log(frames.std(-1) + 1e-3)[..., None], noise], -1)

  def quantize(self, features):
    return (features[..., 1] > 0).astype(np.int32)


def _bundle():
  tokens = types.SimpleNamespace(audio=specs.AudioSpec())
  return types.SimpleNamespace(
      tokens=tokens, require=lambda *names: None, get=lambda name: Hears())


def _deaf(tokenizer, seed):
  """An untrained network of noise."""
  rng = np.random.default_rng(seed)
  frames = _SECONDS * tokenizer.spec.frame_rate_hz
  return lambda audio, samples: rng.normal(size=(len(audio), frames, 4))


def test_figures_say_who_knows_what(tmp_path, monkeypatch):
  monkeypatch.setattr(semantic, '_untrained', _deaf)
  shown = []
  result = semantic.evaluate(
      _bundle(), _corpus(tmp_path / 'c'), 50, 50, show=shown.append)
  found = result.figures
  # One rhythm is nothing to tell apart.
  assert not [name for name in found if 'rhythm' in name]
  assert found['semantic_test_clips'] == found['semantic_family_tunes'] == 8
  assert found['semantic_family_features'] == 1.0
  assert found['semantic_family_chance'] == 0.5
  assert found['semantic_family_tokens_low'] <= 0.5
  # Every 40 ms: which note sounds, four of them. Loudness does not say it.
  assert found['semantic_pitch_classes'] == 4
  assert found['semantic_pitch_examples'] == 8 * semantic.FRAMES_PER_CLIP
  assert found['semantic_pitch_chance'] == 0.25
  assert found['semantic_pitch_mel'] > 0.9
  assert found['semantic_pitch_untrained'] < 0.6
  gained = (found['semantic_pitch_features'] - found['semantic_pitch_mel'])
  np.testing.assert_allclose(
      found['semantic_pitch_features_over_mel'], gained, atol=1e-6)
  assert found['semantic_pitch_features_over_mel_high'] < 0
  # Three clusters of log-mels cannot tell four notes, but most of them.
  assert 0.6 < found['semantic_pitch_mel_tokens'] < 0.9
  assert found['semantic_pitch_tokens_over_mel_tokens_high'] < 0
  family, pitch = shown
  assert shown == result.sections
  assert family.title.endswith('8 clips of 8 tunes')
  assert family.verdict.startswith('the features know more than chance, ')
  assert 'the tokens cannot be told from chance' in family.verdict
  assert [line.name for line in pitch.lines] == [
      'w2v-BERT features', 'semantic tokens', 'untrained network', 'log-mel',
      'k-means of log-mels', 'chance']


def test_the_notes_of_a_melody_at_moments():
  melody = [[0.5, 0.5, 60], [1.0, 0.25, 71], [2.0, 1.0, 62]]
  found = semantic_clips.pitch_classes(
      melody, np.array([0.0, 0.5, 0.99, 1.1, 1.3, 2.5, 3.1]))
  np.testing.assert_array_equal(found, [-1, 0, 0, 11, -1, 2, -1])
  np.testing.assert_array_equal(semantic_clips.pitch_classes([], np.ones(2)), -1)


def test_a_clip_has_the_notes_of_its_own_seconds():
  track = types.SimpleNamespace(meta=dict(melody=[[0, 10, 60], [10, 10, 67]]))
  split = types.SimpleNamespace(sample_rate_hz=_RATE)
  clip = semantic_clips.Clip(split, track, 9 * _RATE)
  # Frames of a second, seen in their middles: 9.5 s, 10.5 s, 11.5 s.
  np.testing.assert_array_equal(clip.pitch_classes(3, 1.0), [0, 7, 7])


def _write(directory, tracks):
  """Silence; (split, tune, seconds, arrangement) of each track."""
  with records.Writer(directory, 'c', _RATE) as out:
    for i, (split, tune, seconds, arrangement) in enumerate(tracks):
      out.add(split, f't{i}', np.zeros(seconds * _RATE), cluster=tune,
              arrangement=arrangement, family=str(i % 2))
  return directory


def test_no_tune_is_learned_and_judged(tmp_path):
  tracks = [('train', f'a{i}', 10, '') for i in range(30)]
  tracks += [('train', 'shared', 10, ''), ('test', 'shared', 35, ''),
             ('test', 'b', 10, 'hummed'), ('test', 'b', 9, '')]
  found = semantic_clips.choose(_write(tmp_path / 'c', tracks), _RATE, 20, 10)
  tunes = {name: {c.track.meta['cluster'] for c in clips}
           for name, clips in found.items()}
  # The hummed one and the short one are left out; the long one is three.
  assert tunes['test'] == {'shared'}
  assert sorted(c.start // _RATE for c in found['test']) == [0, 10, 20]
  assert len(found['train']) == 10 and found['validation']
  assert not tunes['train'] & tunes['validation']
  assert 'shared' not in tunes['train'] | tunes['validation']


def test_a_validation_split_serves_where_there_is_one(tmp_path):
  tracks = [('train', 'a', 10, ''), ('validation', 'b', 10, ''),
            ('validation', 'a', 10, ''), ('test', 'c', 10, '')]
  found = semantic_clips.choose(_write(tmp_path / 'c', tracks), _RATE, 9, 9)
  assert {name: [c.track.id for c in clips] for name, clips in found.items()
          } == dict(train=['t0'], validation=['t1'], test=['t3'])


def test_corpora_that_do_not_serve_are_refused(tmp_path):
  with pytest.raises(errors.UserError, match='no train split .* only test'):
    semantic_clips.choose(_write(tmp_path / 'a', [('test', 'a', 10, '')]), _RATE, 9,
                    9)
  short = [('train', 'a', 9, ''), ('validation', 'b', 10, ''),
           ('test', 'c', 10, '')]
  with pytest.raises(errors.UserError, match='no train clip of 10 s'):
    semantic_clips.choose(_write(tmp_path / 'b', short), _RATE, 9, 9)
  unnamed = _corpus(
      tmp_path / 'c', dict(train=2, validation=1, test=1), meta=False)
  with pytest.raises(errors.UserError, match='state no `family`, `rhythm`'):
    semantic.evaluate(_bundle(), unnamed, 9, 9)


@pytest.mark.parametrize('arguments, message', [
    (['semantic', '--train-clips', '1'], '--train-clips is 1; expected at'),
    (['quick', '--train-clips', '9'], '--train-clips goes with `musiclm '
     'evaluate semantic`, not with quick'),
    (['semantic', '--data', 'x'], '--data goes with `musiclm evaluate codec`'),
    (['semantic', '--corpus', 'nowhere'], 'is not a corpus'),
])
def test_a_mistake_is_one_line(arguments, message, capsys):
  with pytest.raises(SystemExit) as caught:
    cli.main(['evaluate'] + arguments)
  assert caught.value.code == 2
  error = capsys.readouterr().err
  assert message in error and error.count('\n') == 1
