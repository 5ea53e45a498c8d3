"""Clips as code streams, and one stage's sequences out of them."""

from collections.abc import Callable
from collections.abc import Mapping
import dataclasses
from typing import Any

import numpy as np

from musiclm_jax import specs
from musiclm_jax.evaluation import held_out
from musiclm_jax.tokens import layout as layout_lib


@dataclasses.dataclass(frozen=True)
class Streams:
  """What the tokenizers of a bundle made of clips, -1 past a clip's end.

  Attributes:
    features: {source: array}, as a StreamSpec names its source. Of 'frames'
      [n, T, levels of the source] int32, of 'windows' [n, W, Q] int32 with a
      row for every second, of 'crop' [n, W, D] float32 embeddings of windows.
      What the bundle has no part for is not in it.
    seconds: [n] whole seconds of real audio.
  """

  features: Mapping[str, np.ndarray]
  seconds: np.ndarray

  @property
  def acoustic(self) -> np.ndarray | None:
    """[n, T, 12] int32; None where the bundle has no codec."""
    return self.features.get('acoustic')

  @property
  def semantic(self) -> np.ndarray | None:
    """[n, T / 2, 1] int32; None where the bundle has no w2v-BERT."""
    return self.features.get('semantic')

  @property
  def windows(self) -> np.ndarray | None:
    """[n, W, D] float32 MuLan embeddings, window w over seconds w..w+10."""
    return self.features.get('mulan')


def encode(bundle: Any, clips: held_out.Clips, joint: bool = True,
           batch: int = 8) -> Streams:
  """`Streams` of `held_out.Clips` with the tokenizers that `bundle` has.

  Args:
    bundle: a bundle.Bundle.
    clips: a held_out.Clips.
    joint: whether MuLan's windows are wanted.
    batch: clips in one call.
  """
  spec, found = bundle.tokens, {}
  if bundle.has('codec'):
    codes = by_batch(bundle.get('codec').encode, clips.audio, batch)
    found['acoustic'] = _ended(codes, clips.seconds, spec.codec.frame_rate_hz)
  if bundle.has('w2vbert'):
    codes = by_batch(bundle.get('w2vbert').encode, clips.audio, batch)
    found['semantic'] = _ended(
        codes[..., None], clips.seconds, spec.semantic.frame_rate_hz)
  if joint and bundle.has('mulan'):
    found['mulan'] = by_batch(
        bundle.get('mulan').embed_audio_windows, clips.audio, batch)
  return Streams(found, clips.seconds)


def stage_codes(stage: specs.StageSpec, streams: Streams, start: int,
                joint: Any) -> dict[str, np.ndarray]:
  """The codes of one stage's crop of every clip.

  Args:
    stage: a StageSpec.
    streams: of clips at least `start` + crop seconds long.
    start: first second of the crop.
    joint: what quantises the embeddings of a crop, such as the bundle's
      JointEmbedder; None where the stage needs no M.

  Returns:
    {segment: [n, T, Q]} as `Layout.build` takes them. A stream of windows that
    nothing was made for, such as the melody, is -1 throughout: the stage is
    judged without.
  """
  return {
      stream.name: _CODES[stream.kind](
          stream, streams, start, stage.crop_seconds, joint)
      for stream in stage.streams}


def _frame_codes(stream, streams, start, crop_seconds, joint):
  """[n, T, Q] of the seconds of the crop."""
  del joint
  rate = stream.rate_hz
  return _levels(stream, streams.features[stream.source][
      :, start * rate:(start + crop_seconds) * rate])


def _window_codes(stream, streams, start, crop_seconds, joint):
  """[n, T, Q] of the windows within the crop, -1 where there are none."""
  del joint
  count = stream.num_frames(crop_seconds)
  found = streams.features.get(stream.source)
  if found is None:
    return np.full(
        (len(streams.seconds), count, stream.num_codebooks), -1, np.int32)
  found = found[:, start::stream.window_stride_seconds][:, :count]
  missing = count - found.shape[1]
  return _levels(stream, np.pad(
      found, ((0, 0), (0, missing), (0, 0)), constant_values=-1))


def _crop_codes(stream, streams, start, crop_seconds, joint):
  """[n, 1, Q]: the quantised mean of the windows of the crop."""
  return joint.quantize(crop_embedding(
      streams.features[stream.source], streams.seconds, start, crop_seconds,
      stream))[:, None]


_CODES = {specs.FRAMES: _frame_codes, specs.WINDOWS: _window_codes,
          specs.CROP: _crop_codes}


def _levels(stream, codes):
  """Of all levels of the source [n, T, levels] those of the stream."""
  return codes[..., stream.first_level:][..., :stream.num_codebooks]


def crop_embedding(
    windows: np.ndarray, seconds: np.ndarray, start: int, crop_seconds: int,
    joint: specs.JointSpec | specs.StreamSpec) -> np.ndarray:
  """[n, D] the mean of a crop's windows, normalised again.

  As the training sequences are built (tokens/preprocessors.py): a crop under
  one window's length takes the window whose centre is nearest to its own.

  Args:
    windows: [n, W, D], one every `window_stride_seconds`.
    seconds: [n] whole seconds of each clip.
    start: first second of the crop.
    crop_seconds: its length.
    joint: what says how the windows lie: a JointSpec, or a StreamSpec of the
      kind 'crop'.
  """
  offset, count = specs.windows_of_crop(joint, crop_seconds)
  first = (start + offset) // joint.window_stride_seconds
  rows = []
  for row, length in zip(windows, seconds):
    last = min(joint.num_windows(int(length)), len(row)) - 1
    begin = min(max(first, 0), last)
    mean = row[begin:min(begin + count, last + 1)].mean(axis=0)
    rows.append(mean / max(np.linalg.norm(mean), 1e-12))
  return np.stack(rows)


def stage_batch(layout: layout_lib.Layout,
                tokens: np.ndarray) -> dict[str, np.ndarray]:
  """A stage's teacher-forced batch of [B, L] sequences, as of `Layout.build`.

  Padding, and rows of nothing but padding, weigh nothing.
  """
  weights = layout.target_weights() * (tokens != layout_lib.PAD_ID)
  return dict(
      decoder_input_tokens=np.pad(tokens, ((0, 0), (1, 0)))[:, :-1],
      decoder_target_tokens=tokens,
      decoder_loss_weights=weights.astype(np.float32))


def by_batch(function: Callable[[np.ndarray], Any], inputs: np.ndarray,
             batch: int) -> np.ndarray:
  """`function` over [n, ...], `batch` rows at a time and always as many."""
  outputs = []
  for start in range(0, len(inputs), batch):
    part = inputs[start:start + batch]
    rows = len(part)
    part = np.pad(part, ((0, batch - rows),) + ((0, 0),) * (part.ndim - 1))
    outputs.append(np.asarray(function(part))[:rows])
  return np.concatenate(outputs)


def _ended(codes, seconds, rate):
  """`codes` [n, T, Q] with -1 from each clip's end on."""
  after = np.arange(codes.shape[1]) >= np.asarray(seconds)[:, None] * rate
  return np.where(after[..., None], -1, codes).astype(np.int32)
