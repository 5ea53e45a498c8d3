"""Clips as code streams, and one stage's sequences out of them."""

import dataclasses

import numpy as np

from musiclm_jax.tokens import layout as layout_lib


@dataclasses.dataclass(frozen=True)
class Streams:
  """Codes of clips, -1 past a clip's end; None where the bundle has no part.

  Attributes:
    acoustic: [n, T, 12] int32.
    semantic: [n, T / 2, 1] int32.
    windows: [n, W, D] float32 MuLan embeddings, window w over seconds w..w+10.
    seconds: [n] whole seconds of real audio.
  """

  acoustic: np.ndarray | None
  semantic: np.ndarray | None
  windows: np.ndarray | None
  seconds: np.ndarray


def encode(bundle, clips, joint=True, batch=8):
  """`Streams` of `held_out.Clips` with the tokenizers that `bundle` has.

  Args:
    bundle: a bundle.Bundle.
    clips: a held_out.Clips.
    joint: whether MuLan's windows are wanted.
    batch: clips in one call.
  """
  spec = bundle.tokens
  acoustic = semantic = windows = None
  if bundle.has('codec'):
    acoustic = by_batch(bundle.get('codec').encode, clips.audio, batch)
    acoustic = _ended(acoustic, clips.seconds, spec.codec.frame_rate_hz)
  if bundle.has('w2vbert'):
    semantic = by_batch(bundle.get('w2vbert').encode, clips.audio, batch)
    semantic = _ended(
        semantic[..., None], clips.seconds, spec.semantic.frame_rate_hz)
  if joint and bundle.has('mulan'):
    windows = by_batch(
        bundle.get('mulan').embed_audio_windows, clips.audio, batch)
  return Streams(acoustic, semantic, windows, clips.seconds)


def stage_codes(stage, streams, start, joint):
  """The codes of one stage's crop of every clip.

  Args:
    stage: a StageSpec.
    streams: of clips at least `start` + crop seconds long.
    start: first second of the crop.
    joint: the bundle's JointEmbedder; None where the stage needs no M.

  Returns:
    {segment: [n, T, Q]} as `Layout.build` takes them.
  """
  tokens, crop = stage.tokens, stage.crop_seconds
  codec, semantic = tokens.codec, tokens.semantic
  part = lambda stream, rate: stream[:, start * rate:(start + crop) * rate]
  result = {}
  for name in stage.conditions + (stage.target,):
    if name == 'mulan':
      embedding = crop_embedding(
          streams.windows, streams.seconds, start, crop, tokens.joint)
      result[name] = joint.quantize(embedding)[:, None]
    elif name == 'melody':  # a stage is judged without one
      melody = tokens.melody
      result[name] = np.full(
          (len(streams.semantic), melody.num_windows(crop),
           melody.num_codebooks), -1, np.int32)
    elif name == 'semantic':
      result[name] = part(streams.semantic, semantic.frame_rate_hz)
    else:
      levels = part(streams.acoustic, codec.frame_rate_hz)
      split = codec.coarse_codebooks
      result[name] = (
          levels[..., :split] if name == 'coarse' else levels[..., split:])
  return result


def crop_embedding(windows, seconds, start, crop_seconds, joint):
  """[n, D] the mean of a crop's windows, normalised again.

  As the training sequences are built (tokens/preprocessors.py): a crop under
  one window's length takes the window whose centre is nearest to its own.

  Args:
    windows: [n, W, D].
    seconds: [n] whole seconds of each clip.
    start: first second of the crop.
    crop_seconds: its length.
    joint: a JointSpec.
  """
  if crop_seconds >= joint.window_seconds:
    first, count = start, joint.num_windows(crop_seconds)
  else:
    first, count = start + (crop_seconds - joint.window_seconds) // 2, 1
  rows = []
  for row, length in zip(windows, seconds):
    last = min(joint.num_windows(int(length)), len(row)) - 1
    begin = min(max(first, 0), last)
    mean = row[begin:min(begin + count, last + 1)].mean(axis=0)
    rows.append(mean / max(np.linalg.norm(mean), 1e-12))
  return np.stack(rows)


def stage_batch(layout, tokens):
  """A stage's teacher-forced batch of [B, L] sequences, as of `Layout.build`.

  Padding, and rows of nothing but padding, weigh nothing.
  """
  weights = layout.target_weights() * (tokens != layout_lib.PAD_ID)
  return dict(
      decoder_input_tokens=np.pad(tokens, ((0, 0), (1, 0)))[:, :-1],
      decoder_target_tokens=tokens,
      decoder_loss_weights=weights.astype(np.float32))


def by_batch(function, inputs, batch):
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
