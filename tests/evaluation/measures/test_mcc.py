"""MuLan cycle consistency, with towers whose cosines are known."""

import types

import numpy as np
import pytest

from musiclm_jax import errors
from musiclm_jax.evaluation import clip_sets
from musiclm_jax.evaluation import measures
from musiclm_jax.evaluation.measures import mcc

RATE = 24_000
WORDS = ('flute', 'drums', 'voice', 'harp')


class _Towers:
  """One axis for each word; a sound's level names its own."""

  spec = types.SimpleNamespace(
      sample_rate_hz=RATE, window_seconds=10, window_stride_seconds=1)

  def embed_audio(self, audio):
    assert audio.ndim == 2
    return np.eye(4)[np.round(audio[:, 0] * 10).astype(int) - 1]

  def embed_text(self, texts):
    return np.stack([np.eye(4)[WORDS.index(text)] for text in texts])


class _Bundle:
  identity = 'towers'
  tokens = types.SimpleNamespace(
      audio=types.SimpleNamespace(sample_rate_hz=RATE))

  def has(self, name):
    return True

  def tokenizer(self, role):
    assert role == 'joint'
    return _Towers()

  def component_hash(self, name):
    return 'abc'


def _set(name, levels, captions=WORDS * 2):
  return clip_sets.of_arrays(name, [
      clip_sets.Clip(str(k), str(k), lambda rate: None, caption=caption)
      for k, caption in enumerate(captions)],
      [np.full(RATE, (level + 1) / 10) for level in levels], RATE)


def test_by_hand():
  context = measures.Context(
      _set('recordings', [0, 1, 2, 3, 0, 1, 2, 0]), bundle=_Bundle())
  measure = mcc.begin(context)
  (real,) = measure(context.reference)
  assert real.name == 'mcc_mulan' and real.value == 7 / 8 and real.count == 8
  # A caption of the 7 others fits once for most; 14 of the 56 pairs in all less
  # one that the last recording lost, which is at home with two.
  table = np.array([[WORDS[a] == w for w in WORDS * 2]
                    for a in (0, 1, 2, 3, 0, 1, 2, 0)])
  expected = (table.sum() - 7) / 56
  assert f'recordings 0.875 with their captions, {expected:.3f} with others' in (
      real.note)
  (ours,) = measure(_set('ours', [1] * 8, [''] * 8))  # the recordings' captions
  assert ours.value == 2 / 8 and ours.low <= 0.25 <= ours.high
  assert 'p 1.0000' in ours.note
  assert context.provenance['mcc_mulan']['hash'] == 'abc'


def test_clips_without_captions():
  measure = mcc.begin(measures.Context(None, bundle=_Bundle()))
  (found,) = measure(_set('ours', range(4), ['flute', '', '', '']))
  assert found.value is None and 'fewer than two' in found.note


def test_what_is_wrong_is_one_line(tmp_path):
  begin = lambda **more: mcc.begin(measures.Context(None, **more))
  with pytest.raises(measures.Unavailable, match='joint=clap=DIR'):
    begin()
  for names, match in ((('mulan',), 'give --bundle'), (('clap',), 'clap=DIR wi'),
                       (('other=x',), "'other=x'; expected mulan, or"),
                       ((f'clap={tmp_path}/none',), 'there is no folder')):
    with pytest.raises(errors.UserError, match=match):
      begin(listeners=dict(joint=names))


def test_the_towers_of_a_bundle(bundle):
  measure = mcc.begin(measures.Context(None, bundle=bundle))
  rng = np.random.default_rng(0)
  clips = clip_sets.of_arrays('noise', [
      clip_sets.Clip(str(k), str(k), lambda rate: None, caption=f'a {word}')
      for k, word in enumerate(WORDS)], 0.1 * rng.normal(size=(4, RATE)), RATE)
  (found,) = measure(clips)
  joint = bundle.tokenizer('joint')
  audio = np.stack([joint.embed_audio(clips.read(i, RATE)[None])[0]
                    for i in clips.ids])
  text = joint.embed_text([f'a {word}' for word in WORDS])
  assert found.value == pytest.approx(np.mean((audio * text).sum(1)), abs=1e-5)
