"""From a track's code streams to one stage's sequence.

A crop starts on a whole second, where the three grids coincide. For the coarse
stage, a crop of 10 s from second 7 takes

  mulan     window 7                   quantised: 12 codes
  semantic  tokens 7 * 25 .. 17 * 25   250 codes
  acoustic  frames 7 * 50 .. 17 * 50   500 x 4 codes

A track shorter than the crop is padded with -1 codes, which become id 0.

Where the stage is conditioned on `melody`, its codes come after MuLan's: those
of the windows of 4 s at second 7, 10 and 13, all within the crop (72 codes). A
share of the sequences has none of them, so that a stage learns to do without.

The MuLan tokens stand for the whole crop (MusicLM, section 4.1: windows of 10 s,
one a second, averaged): a crop of 30 s has 21 windows. A crop under 10 s takes
the window whose centre is nearest to its own (ours). The mean is normalised
again before it is quantised (ours).

Everything here is a pure function of the example and a stateless seed.
"""

import functools

import seqio
import tensorflow as tf

from musiclm_jax.tokens import conditioning as conditioning_lib
from musiclm_jax.tokens import layout as layout_lib

# An example that carries this feature brings its own seed, and stands for one
# crop already.
CROP_SEED = 'crop_seed'
# Set draws that one seed decides apart; whether a condition is dropped adds its
# place among the segments.
_TEXT_DRAW, _NOISE_DRAW, _DROPOUT_DRAW = 1, 2, 16


def crops_by_length(dataset, crop_seconds):
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


def build_sequences(dataset, stage, codebooks,
                    conditioning=conditioning_lib.Conditioning(),
                    describe=False):
  """Crops every track at random and builds `stage`'s `inputs` and `targets`.

  Args:
    dataset: records as `cache.features` describes them.
    stage: a StageSpec.
    codebooks: [Q, K, D] float32, MuLan's residual codebooks.
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


def crop_and_build(example, seed, stage, codebooks,
                   conditioning=conditioning_lib.Conditioning()):
  """One stage sequence from one track.

  Args:
    example: a record as `cache.features` describes it.
    seed: [2] int, stateless; it decides where the crop starts, and what becomes
      of its conditions.
    stage: a StageSpec.
    codebooks: [Q, K, D] float32.
    conditioning: see `build_sequences`.

  Returns:
    {'inputs': conditions and separators, 'targets': the target}, int32; the two
    together are what `Layout.build` gives for the crop's codes.
  """
  layout = layout_lib.for_stage(stage)
  start = crop_start(example['seconds'], stage.crop_seconds, seed)
  parts = []
  for index, placed in enumerate(layout.placed):
    if placed.name == 'mulan':
      codes = quantize(
          _embedding(example, start, seed, stage, conditioning), codebooks)
    else:
      codes = _segment_codes(example, placed, start, stage)
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


def crop_start(seconds, crop_seconds, seed):
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


def _embedding(example, start, seed, stage, conditioning):
  """[D] what a crop's MuLan tokens stand for: its audio, or a caption."""
  embedding = crop_embedding(
      example['mulan'], start, stage.crop_seconds, stage.tokens.joint)
  if conditioning.noise:
    noise = tf.math.l2_normalize(tf.random.stateless_normal(
        tf.shape(embedding), _folded(seed, _NOISE_DRAW)))
    embedding = tf.math.l2_normalize(embedding + conditioning.noise * noise)
  if conditioning.text_share:
    texts = example['mulan_text']
    draw, count = _draw(seed, _TEXT_DRAW), tf.shape(texts)[0]
    # Below the share the draw is uniform over the captions as well.
    which = tf.cast(draw / conditioning.text_share * tf.cast(
        count, tf.float32), tf.int32)
    chosen = tf.concat([texts, embedding[None]], axis=0)[
        tf.minimum(which, count)]
    embedding = tf.where(
        draw < conditioning.text_share, chosen, embedding)
  return embedding


def melody_codes(windows, start, num_frames, melody):
  """[num_frames * Q] int32 codes of a crop's windows, -1 past the track's end.

  Args:
    windows: [W, Q] int32, row w over seconds w .. w + 4.
    start: first second of the crop.
    num_frames: windows in the crop, 3 s apart.
    melody: a MelodySpec.
  """
  index = start + melody.window_stride_seconds * tf.range(num_frames)
  count = tf.shape(windows)[0]
  chosen = tf.gather(windows, tf.minimum(index, count - 1))
  return tf.reshape(tf.where((index < count)[:, None], chosen, -1), [-1])


def crop_embedding(windows, start, crop_seconds, joint):
  """[D] the embedding of a crop: its windows' mean, normalised again.

  Args:
    windows: [W, D] float32, window w over seconds w .. w + 10.
    start: first second of the crop.
    crop_seconds: its length.
    joint: a JointSpec.
  """
  last = tf.shape(windows)[0] - 1
  if crop_seconds >= joint.window_seconds:
    first = start
    count = joint.num_windows(crop_seconds)
  else:
    centred = start + (crop_seconds - joint.window_seconds) // 2
    first, count = centred, 1
  first = tf.clip_by_value(first, 0, last)
  chosen = windows[first:tf.minimum(first + count, last + 1)]
  return tf.math.l2_normalize(tf.reduce_mean(chosen, axis=0))


def quantize(vector, codebooks):
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


def _segment_codes(example, placed, start, stage):
  """[T * Q] int32 codes of one segment of a crop, -1 past the track's end."""
  tokens = stage.tokens
  if placed.name == 'melody' and 'melody' in example:
    return melody_codes(
        example['melody'], start, placed.num_frames, tokens.melody)
  if placed.name == 'semantic':
    rate = tokens.semantic.frame_rate_hz
    return _crop(example['semantic'], start * rate, placed.num_frames)
  if placed.name in ('coarse', 'fine'):
    per_second = tokens.codec.frame_rate_hz * tokens.codec.num_codebooks
    codes = _crop(example['acoustic'], start * per_second,
                  placed.num_frames * tokens.codec.num_codebooks)
    codes = tf.reshape(codes, [placed.num_frames, tokens.codec.num_codebooks])
    levels = codes[:, placed.first_level:][:, :placed.num_codebooks]
    return tf.reshape(levels, [placed.length])
  raise ValueError(
      f'this token cache has no {placed.name!r}; a stage can be conditioned on '
      f'mulan, semantic, coarse and, where the bundle had a melody embedder, '
      f'melody.')


def _crop(stream, start, length):
  """[length] of `stream` from `start`, with -1 where it has ended."""
  codes = stream[start:start + length]
  return tf.pad(codes, [[0, length - tf.shape(codes)[0]]], constant_values=-1)
