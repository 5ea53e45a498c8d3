"""The ladder on rungs whose loss is known."""

import dataclasses

import numpy as np
import pytest
import random_bundle

from musiclm_jax import bundle as bundle_lib
from musiclm_jax.evaluation import held_out
from musiclm_jax.evaluation import ladder as ladder_lib
from musiclm_jax.evaluation import streams as streams_lib

_RATE = 24_000
_CLIPS = 6


def _music(seed=0, count=_CLIPS):
  rng = np.random.default_rng(seed)
  return np.stack([random_bundle.tones('flutes', 2, rng)
                   for _ in range(count)]).astype(np.float32)


def _unit(x):
  return x / np.linalg.norm(x, axis=-1, keepdims=True)


def _embed(audio):
  """A joint embedding that hears: which half-tones sound."""
  return _unit(np.stack([ladder_lib.mel_image(row).mean(-1) for row in audio]))


def _ladder(rungs, text=None):
  """A Ladder over given audio, judged as `climb` would."""
  real = _music()
  embeddings = {'real': _embed(real)}
  made = {}
  for name, audio in rungs.items():
    embeddings[name] = _embed(audio)
    made[name] = ladder_lib.Rung(
        name, audio, {}, ladder_lib.mel_distance_db(real, audio),
        (embeddings[name] * embeddings['real']).sum(-1),
        None if text is None else (embeddings[name] * text).sum(-1))
  return ladder_lib.Ladder(real, made, np.zeros(len(real)), embeddings, text)


def _blur(audio):
  return audio + 1e-4 * np.random.default_rng(5).standard_normal(
      audio.shape).astype(np.float32)


def test_the_recording_itself_loses_nothing():
  ladder = _ladder({'codec': _music(), 'fine': _music(), 'coarse': _music()})
  assert ladder.lost_by_rung() == {'codec': 0, 'fine': 0, 'coarse': 0}
  assert ladder.rungs['codec'].mel_distance_db.max() == 0


def test_other_music_loses_everything():
  other = np.roll(_music(), 1, axis=0)
  lost = _ladder({'codec': other}).lost_by_rung()
  assert lost['codec'] > 0.85


@pytest.mark.parametrize('weak', ['codec', 'fine', 'coarse'])
def test_the_weak_rung_is_named(weak):
  """Up to the weak rung all is a slight blur; from there it is other music."""
  rungs, audio = {}, _blur(_music())
  for name in ('codec', 'fine', 'coarse'):
    if name == weak:
      audio = np.roll(audio, 1, axis=0)
    rungs[name] = audio
  lost = {k: v or 0 for k, v in _ladder(rungs).lost_by_rung().items()}
  assert max(lost, key=lost.get) == weak
  assert lost[weak] > 0.8


def test_a_text_stage_that_ignores_captions_loses_all_of_them():
  real = _music()
  text = _embed(real)  # captions that say exactly what sounds
  good = {'codec': real, 'fine': real, 'coarse': real}
  heard = _ladder({**good, 'all': real}, text).lost_by_rung()
  deaf = _ladder({**good, 'all': np.roll(real, 1, axis=0)}, text).lost_by_rung()
  assert heard['all'] == 0 and deaf['all'] > 0.85


def test_chance_passes_through_the_codec():
  ladder = _ladder({'codec': _blur(_music())})
  mel, similarity = ladder.chance('codec')
  real = ladder.real
  expected = np.mean([ladder_lib.mel_distance_db(
      real, np.roll(ladder.rungs['codec'].audio, shift, axis=0))
                      for shift in (1, 2, 3, 4)])
  assert mel == pytest.approx(expected, rel=1e-5)
  assert similarity < ladder.rungs['codec'].to_audio.mean()


def test_mel_distance_of_a_gain_is_the_gain():
  tone = np.sin(np.arange(_RATE) * 0.3)[None].astype(np.float32)
  noise = tone + np.random.default_rng(0).standard_normal(
      tone.shape).astype(np.float32)  # every band above the floor
  np.testing.assert_allclose(
      ladder_lib.mel_distance_db(noise, noise * 10**(-3 / 20)), 3, atol=0.01)


def test_true_tokens_give_the_codecs_own_floor(folder):
  bundle = bundle_lib.Bundle(folder / 'bundle')
  clips = held_out.load(folder / 'corpus', 3, 4, 4, _RATE).clips
  streams = streams_lib.encode(bundle, clips)
  ladder = ladder_lib.climb(
      random_bundle.without(folder / 'bundle', 'semantic', 'coarse', 'fine'),
      clips, streams, 2)
  assert list(ladder.rungs) == ['codec']
  codec = bundle.get('codec')
  # What lies behind the two seconds cannot change them: the codec is causal.
  floor = codec.decode(codec.encode(clips.audio[:, :2 * _RATE]))
  np.testing.assert_allclose(  # random weights are loud
      ladder.rungs['codec'].audio, floor, atol=1e-5 * np.abs(floor).max())
  np.testing.assert_allclose(
      ladder.rungs['codec'].mel_distance_db,
      ladder_lib.mel_distance_db(clips.audio[:, :2 * _RATE], floor), atol=1e-3)


def test_each_rung_keeps_what_it_is_given(folder):
  bundle = bundle_lib.Bundle(folder / 'bundle')
  clips = held_out.load(folder / 'corpus', 3, 4, 4, _RATE).clips
  streams = streams_lib.encode(bundle, clips)
  rungs = ladder_lib.climb(bundle, clips, streams, 2).rungs
  assert list(rungs) == ['codec', 'fine', 'coarse', 'all']
  true = rungs['codec'].codes
  for name, kept in dict(fine=('coarse', 'semantic'), coarse=('semantic',),
                         all=()).items():
    for part in kept:
      np.testing.assert_array_equal(rungs[name].codes[part], true[part])
    assert np.any(rungs[name].codes['fine'] != true['fine'])
    assert rungs[name].audio.shape == (3, 2 * _RATE)


def test_guided_clips_stand_beside_unguided_ones(folder):
  """Where a bundle's defaults guide, and only there."""
  bundle = bundle_lib.Bundle(folder / 'bundle')
  clips = held_out.load(folder / 'corpus', 3, 4, 4, _RATE).clips
  streams = streams_lib.encode(bundle, clips)
  plain = ladder_lib.climb(bundle, clips, streams, 2).rungs
  guided = bundle_lib.Bundle(folder / 'bundle')
  guided.defaults = dict(guidance_semantic=4.0)
  for name in ('semantic', 'coarse'):
    stage = guided.get(name)
    guided._built[name] = dataclasses.replace(stage, optional=('mulan',))  # pylint: disable=protected-access
  rungs = ladder_lib.climb(guided, clips, streams, 2).rungs
  assert list(rungs) == list(ladder_lib.RUNGS)
  np.testing.assert_array_equal(
      rungs['unguided'].codes['semantic'], plain['all'].codes['semantic'])
  assert np.any(
      rungs['all'].codes['semantic'] != plain['all'].codes['semantic'])
