"""Previews reach TensorBoard as sounds and pictures that can be read back."""

import dataclasses
import io
import struct

import numpy as np
from PIL import Image
import soundfile
import toy_trainable

from musiclm_jax import records
from musiclm_jax.training import loop
from musiclm_jax.training import metrics_writer
from musiclm_jax.training import previews
from musiclm_jax.training import sources


def _values(model_dir):
  """[(step, value)] of all summaries, from the record format itself."""
  from tensorboardX.proto import event_pb2  # pylint: disable=g-import-not-at-top
  values = []
  for path in sorted((model_dir / 'tensorboard').glob('events.*')):
    data, at = path.read_bytes(), 0
    while at < len(data):
      size, = struct.unpack('<Q', data[at:at + 8])
      event = event_pb2.Event.FromString(data[at + 12:at + 12 + size])
      values += [(event.step, v) for v in event.summary.value]
      at += size + 16
  return values


@dataclasses.dataclass(frozen=True)
class Shown(toy_trainable.Toy):
  """A toy that shows its batch."""

  def previews(self, state, batch):
    assert int(state.step) in (3, 6)
    tone = batch['x'].ravel() / 10.0
    return {'tone': previews.Audio(tone, 1000),
            'rise': previews.panels([np.tile(np.arange(8.0), (20, 1))])}


def _train(model_dir, **kwargs):
  loop.train(Shown(), toy_trainable.ToySource(), str(model_dir), 6,
             eval_every=3, log_every=3, checkpoint_every=0, **kwargs)


def test_they_are_written_at_every_evaluation(tmp_path):
  _train(tmp_path, preview_clips=2)
  values = _values(tmp_path)
  sounds = [(s, v.audio) for s, v in values if v.tag.startswith('preview/tone')]
  pictures = [(s, v.image) for s, v in values
              if v.tag.startswith('preview/rise')]
  assert [s for s, _ in sounds] == [s for s, _ in pictures] == [3, 6]
  batch = next(toy_trainable.ToySource().eval_batches())
  found, rate = soundfile.read(io.BytesIO(sounds[0][1].encoded_audio_string))
  assert rate == 1000
  np.testing.assert_allclose(  # the first two examples, in 16 bits
      found, batch['x'][:2].ravel() / 10.0, atol=1e-4)
  pixels = np.asarray(Image.open(
      io.BytesIO(pictures[0][1].encoded_image_string)))
  assert pixels.shape == (8, 20, 3)
  # Low bands lie below and are dark.
  assert pixels[0].mean() > pixels[4].mean() > pixels[7].mean()


def test_none_are_made_at_zero(tmp_path):
  _train(tmp_path, preview_clips=0)
  assert not [v.tag for _, v in _values(tmp_path) if 'preview' in v.tag]


def test_panels_share_a_scale_and_are_set_apart():
  loud, quiet = np.zeros((5, 3)), np.full((5, 3), -100.0)
  pixels = previews.panels([loud, quiet]).pixels
  assert pixels.shape == (3 + 4 + 3, 5, 3) and pixels.dtype == np.uint8
  assert (pixels[3:7] == 255).all()
  np.testing.assert_array_equal(pixels[0, 0], [252, 250, 190])
  np.testing.assert_array_equal(pixels[9, 0], [4, 6, 32])


def test_preview_batches_are_held_out_and_always_the_same(tmp_path):
  corpus = str(tmp_path / 'corpus')
  with records.Writer(corpus, 'noise', 1000, licence='CC0') as out:
    out.add('train', 't', np.zeros(3000))
    out.add('validation', 'v', np.full(3000, 0.5))
  first, second = (
      sources.AudioBatches(
          corpus, 0.5, 8, seed=seed, preview_seconds=2.0).preview_batch(3)
      for seed in (0, 1))
  assert first['audio'].shape == (3, 2000)
  np.testing.assert_allclose(first['audio'], 0.5, atol=1e-4)
  np.testing.assert_array_equal(first['start'], second['start'])


def test_loud_samples_are_clipped_without_a_word(tmp_path, capsys):
  with metrics_writer.MetricsWriter(tmp_path) as out:
    out.show(1, {'loud': previews.Audio(np.array([2.0, -2.0] * 50), 1000)})
  assert not capsys.readouterr().out
