"""From a track's code streams to one stage's sequence.

A crop starts on a whole second, where all grids coincide. What a stream takes
of a track depends on its kind (specs.StreamSpec). For MusicLM's coarse stage, a
crop of 10 s from second 7 takes

  mulan     window 7                   quantised: 12 codes    'crop'
  semantic  tokens 7 * 25 .. 17 * 25   250 codes              'frames'
  acoustic  frames 7 * 50 .. 17 * 50   500 x 4 codes          'frames'

A track shorter than the crop is padded with -1 codes, which become id 0.

Where the stage is conditioned on `melody`, of the kind 'windows', its codes come
after MuLan's: those of the windows of 4 s at second 7, 10 and 13, all within the
crop (72 codes). A share of the sequences has none of them, so that a stage
learns to do without.

The MuLan tokens stand for the whole crop (MusicLM, section 4.1: windows of 10 s,
one a second, averaged): a crop of 30 s has 21 windows. A crop under 10 s takes
the window whose centre is nearest to its own (ours). The mean is normalised
again before it is quantised (ours).

Everything here is a pure function of the example and a stateless seed.
"""

from collections.abc import Mapping
import functools
from typing import Any

import numpy as np
import seqio
import tensorflow as tf

from musiclm_jax import specs
from musiclm_jax.tokens import conditioning as conditioning_lib
from musiclm_jax.tokens import layout as layout_lib

# An example that carries this feature brings its own seed, and stands for one
# crop already.
CROP_SEED = 'crop_seed'
# Set draws that one seed decides apart; whether a condition is dropped adds its
# place among the segments.
_TEXT_DRAW, _NOISE_DRAW, _DROPOUT_DRAW = 1, 2, 16


def crops_by_length(dataset: tf.data.Dataset,
                    crop_seconds: int) -> tf.data.Dataset:
  """Repeats a track once for every whole crop in it, at least once.

  So every second of the corpus is as likely as any other. Examples with their
  own seed pass unchanged.
  """
  if CROP_SEED in dataset.element_spec:
    return dataset

  def repeat(example):
    count = tf.maximum(1, example['seconds'] // crop_seconds)
    return tf.data.Dataset.from_tensors(example).repeat(
        tf.cast(count, tf.int64))

  return dataset.flat_map(repeat)


def build_sequences(
    dataset: tf.data.Dataset, stage: specs.StageSpec,
    codebooks: Mapping[str, np.ndarray],
    conditioning: conditioning_lib.Conditioning = (
        conditioning_lib.Conditioning()),
    describe: bool = False) -> tf.data.Dataset:
  """Crops every track at random and builds `stage`'s `inputs` and `targets`.

  Args:
    dataset: records as `cache.features` describes them.
    stage: a StageSpec.
    codebooks: {source: [Q, K, D] float32} residual codebooks, of the streams of
      the kind 'crop' at least.
    conditioning: a `conditioning.Conditioning`.
    describe: adds which crop a sequence is of: `id`, `captions` and
      `crop_start` in seconds.
  """
  crop = functools.partial(crop_and_build, stage=stage, codebooks=codebooks,
                           conditioning=conditioning)

  def build(example, seed):
    built = crop(example, seed)
    if describe:
      start = crop_start(example['seconds'], stage.crop_seconds, seed)
      built.update(id=example['id'], captions=example['captions'],
                   crop_start=start)
    return built

  if CROP_SEED in dataset.element_spec:
    return dataset.map(lambda example: build(example, example[CROP_SEED]),
                       num_parallel_calls=tf.data.AUTOTUNE)
  return seqio.map_over_dataset(
      lambda example, seed: build(example, seed), num_seeds=1)(dataset)


def crop_and_build(
    example: Mapping[str, tf.Tensor], seed: Any, stage: specs.StageSpec,
    codebooks: Mapping[str, np.ndarray],
    conditioning: conditioning_lib.Conditioning = (
        conditioning_lib.Conditioning())) -> dict[str, tf.Tensor]:
  """One stage sequence from one track.

  Args:
    example: a record as `cache.features` describes it.
    seed: [2] int, stateless; it decides where the crop starts, and what becomes
      of its conditions.
    stage: a StageSpec.
    codebooks: see `build_sequences`.
    conditioning: see there.

  Returns:
    {'inputs': conditions and separators, 'targets': the target}, int32; the two
    together are what `Layout.build` gives for the crop's codes.

  Raises:
    ValueError: the record has no feature that a stream is read from.
  """
  layout = layout_lib.for_stage(stage)
  start = crop_start(example['seconds'], stage.crop_seconds, seed)
  parts = []
  for index, placed in enumerate(layout.placed):
    stream = placed.stream
    if stream.source not in example:
      raise ValueError(
          f'this token cache has no {stream.source!r}, of which the '
          f'{stage.name} stage reads its {stream.name}; it has '
          f'{", ".join(sorted(example))}.')
    if stream.kind == specs.CROP:
      codes = quantize(
          _embedding(example, stream, start, seed, stage, conditioning,
                     codebooks[stream.source].shape[-1]),
          codebooks[stream.source])
    else:
      codes = _CODES[stream.kind](example[stream.source], placed, start)
    share = conditioning.share(placed.name)
    if share and index < len(layout.placed) - 1:
      dropped = _draw(seed, _DROPOUT_DRAW + index) < share
      codes = tf.where(dropped, -1, codes)
    first_ids = placed.level_first_ids().astype('int32')
    tokens = tf.where(codes >= 0, codes + first_ids, layout_lib.PAD_ID)
    if index:
      parts.append(tf.constant([layout.separator_ids[index - 1]], tf.int32))
    parts.append(tf.ensure_shape(tokens, [placed.length]))
  return dict(inputs=tf.concat(parts[:-1], axis=0), targets=parts[-1])


def crop_start(seconds: Any, crop_seconds: int, seed: Any) -> tf.Tensor:
  """The second at which a crop starts, uniform over those that fit."""
  spare = tf.maximum(0, seconds - crop_seconds)
  return tf.random.stateless_uniform(
      [], seed, minval=0, maxval=spare + 1, dtype=tf.int32)


def _draw(seed, which):
  """[] in 0..1: a draw of its own, whatever else the seed decides."""
  return tf.random.stateless_uniform([], _folded(seed, which))


def _folded(seed, which):
  return tf.random.experimental.stateless_fold_in(
      tf.cast(seed, tf.int32), which)


def vectors(stored: tf.Tensor, dim: int) -> tf.Tensor:
  """[n, dim] float32 of a feature: as it is, or out of bytes of float16."""
  if stored.dtype != tf.string:
    return stored
  return tf.cast(tf.reshape(
      tf.io.decode_raw(stored, tf.float16), [-1, dim]), tf.float32)


def _embedding(example, stream, start, seed, stage, conditioning, dim):
  """[D] what the tokens of a 'crop' stream stand for: audio, or a caption."""
  embedding = crop_embedding(
      vectors(example[stream.source], dim), start, stage.crop_seconds, stream)
  if conditioning.noise:
    noise = tf.math.l2_normalize(tf.random.stateless_normal(
        tf.shape(embedding), _folded(seed, _NOISE_DRAW)))
    embedding = tf.math.l2_normalize(embedding + conditioning.noise * noise)
  if conditioning.text_share:
    texts = vectors(example[f'{stream.source}_text'], dim)
    draw, count = _draw(seed, _TEXT_DRAW), tf.shape(texts)[0]
    # Below the share the draw is uniform over the captions as well.
    which = tf.cast(draw / conditioning.text_share * tf.cast(
        count, tf.float32), tf.int32)
    chosen = tf.concat([texts, embedding[None]], axis=0)[
        tf.minimum(which, count)]
    embedding = tf.where(
        draw < conditioning.text_share, chosen, embedding)
  return embedding


def window_codes(windows: tf.Tensor, placed: layout_lib.Placed,
                 start: tf.Tensor) -> tf.Tensor:
  """[T * Q] int32 codes of a 'windows' stream in a crop, -1 past the end.

  Args:
    windows: [W, Q] int32, row w of the window that begins at second w.
    placed: the stream's segment; T windows, one every
      `window_stride_seconds`.
    start: first second of the crop.
  """
  index = start + placed.stream.window_stride_seconds * tf.range(
      placed.num_frames)
  count = tf.shape(windows)[0]
  chosen = tf.gather(windows, tf.minimum(index, count - 1))
  codes = tf.where((index < count)[:, None], chosen, -1)
  return _levels(codes, placed)


def frame_codes(line: tf.Tensor, placed: layout_lib.Placed,
                start: tf.Tensor) -> tf.Tensor:
  """[T * Q] int32 codes of a 'frames' stream in a crop, -1 past the end.

  Args:
    line: [frames * source_codebooks] int32, time outer, level inner.
    placed: the stream's segment, of T frames.
    start: first second of the crop.
  """
  stream = placed.stream
  per_second = stream.rate_hz * stream.source_codebooks
  length = placed.num_frames * stream.source_codebooks
  codes = line[start * per_second:start * per_second + length]
  codes = tf.pad(
      codes, [[0, length - tf.shape(codes)[0]]], constant_values=-1)
  return _levels(
      tf.reshape(codes, [placed.num_frames, stream.source_codebooks]), placed)


_CODES = {specs.FRAMES: frame_codes, specs.WINDOWS: window_codes}


def _levels(codes, placed):
  """[T, levels of the source] -> [T * Q], the levels of the segment."""
  codes = codes[:, placed.first_level:][:, :placed.num_codebooks]
  return tf.reshape(codes, [placed.length])


def crop_embedding(windows: tf.Tensor, start: tf.Tensor, crop_seconds: int,
                   joint: specs.JointSpec | specs.StreamSpec) -> tf.Tensor:
  """[D] the embedding of a crop: its windows' mean, normalised again.

  Args:
    windows: [W, D] float32, one every `window_stride_seconds`: with MuLan's,
      window w is over seconds w .. w + 10.
    start: first second of the crop.
    crop_seconds: its length.
    joint: what says how the windows lie: a JointSpec, or a StreamSpec of the
      kind 'crop'.
  """
  last = tf.shape(windows)[0] - 1
  offset, count = specs.windows_of_crop(joint, crop_seconds)
  first = (start + offset) // joint.window_stride_seconds
  first = tf.clip_by_value(first, 0, last)
  chosen = windows[first:tf.minimum(first + count, last + 1)]
  return tf.math.l2_normalize(tf.reduce_mean(chosen, axis=0))


def quantize(vector: tf.Tensor, codebooks: np.ndarray) -> tf.Tensor:
  """[Q] int32 residual codes of a [D] vector: the nearest entry, level by level."""
  residual = vector
  codes = []
  for level in codebooks:
    codebook = tf.constant(level, tf.float32)
    norms = tf.constant((level.astype('float32')**2).sum(-1), tf.float32)
    distance = norms - 2.0 * tf.linalg.matvec(codebook, residual)
    code = tf.argmin(distance, output_type=tf.int32)
    residual = residual - codebook[code]
    codes.append(code)
  return tf.stack(codes)
