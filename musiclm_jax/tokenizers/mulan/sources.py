"""Pairs of a window of audio and one of its captions."""

from collections.abc import Iterable
import dataclasses
import functools
import hashlib
import itertools
import pathlib
import zipfile

import jax
import numpy as np

from musiclm_jax import errors
from musiclm_jax import files
from musiclm_jax import records
from musiclm_jax import specs
from musiclm_jax.nn import text_encoder
from musiclm_jax.training import shares
from musiclm_jax.training import trainable

_EVAL_SEED = 20_302
_CACHE = 'text_features'
_REPORT_EVERY = 2048


@dataclasses.dataclass(frozen=True)
class MulanBatches(trainable.BatchSource):
  """Random windows of captioned tracks, a pure function of (seed, step).

  Yields 'audio' [B, N] float32 at the corpus rate, 'track' [B] int32 and, of one
  caption drawn for each row, either 'text_features' [B, F] float32 (frozen
  encoder; computed once and kept beside the corpus) or 'text_ids' [B, L] int32
  and 'text_mask' [B, L] bool; with `other_captions` also 'other_features' [K, F],
  of captions of tracks that are not in the batch.

  Attributes:
    corpus_dir: a corpus as `records.Writer` leaves it.
    batch_size: pairs in a batch, of all devices together.
    window_seconds: length of a window; shorter tracks are zero-padded.
    seed: with the step it decides the training batch.
    train_split: split of the training windows.
    eval_split: split of the evaluation windows; the training split stands in
      where the corpus has none by this name.
    eval_batches_count: evaluation batches; the same ones each time.
    checkpoint: the text encoder, 'minilm' or a folder.
    pooling: 'mean' or 'cls', for features.
    max_tokens: 0 yields features; otherwise ids, cut and padded to this.
    cache_dir: where features are kept; '' is `<corpus_dir>/text_features`.
    other_captions: captions of other tracks beside those of the batch, which
      the audio must not be near to; they cost a row of features each. A multiple
      of the devices. 0: none.
    expected_rate_hz: of the corpus, for `batch_shapes`, which do not read it.
  """

  corpus_dir: str = ''
  batch_size: int = 32
  window_seconds: int = 10  # paper
  seed: int = 0
  train_split: str = 'train'
  eval_split: str = 'validation'
  eval_batches_count: int = 4
  checkpoint: str = text_encoder.MINILM
  pooling: str = 'mean'
  max_tokens: int = 0
  cache_dir: str = ''
  other_captions: int = 0  # ours; the paper's batches are large
  expected_rate_hz: int = specs.AudioSpec.sample_rate_hz

  def __post_init__(self):
    if self.other_captions < 0 or self.other_captions and self.max_tokens:
      raise errors.UserError(
          f'other_captions is {self.other_captions}; expected 0, or a positive '
          f'number where the text encoder is frozen: a trained one would embed '
          f'each of them at every step.')

  @functools.cached_property
  def corpus(self):
    return records.Corpus(self.corpus_dir)

  def batches(self, start_step, share=shares.WHOLE):
    """Endless batches, the first one that of `start_step`."""
    pairs = self._pairs(self.train_split, self.seed, share)
    return map(pairs, itertools.count(start_step))

  def eval_batches(self, share=shares.WHOLE):
    """The fixed evaluation batches, `eval_batches_count` of them."""
    split = self.eval_split
    if split not in self.corpus.splits:
      split = self.train_split
    pairs = self._pairs(split, _EVAL_SEED, share)
    return map(pairs, range(self.eval_batches_count))

  def batch_shapes(self):
    """The batch as ShapeDtypeStructs, for a corpus at the audio rate."""
    make = lambda dtype, *shape: jax.ShapeDtypeStruct(
        (self.batch_size,) + shape, dtype)
    samples = specs.AudioSpec(self.expected_rate_hz).num_samples(self.window_seconds)
    batch = dict(audio=make(np.float32, samples), track=make(np.int32))
    if self.max_tokens:
      return dict(batch, text_ids=make(np.int32, self.max_tokens),
                  text_mask=make(np.bool_, self.max_tokens))
    encoder = text_encoder.read_config(text_encoder.directory(self.checkpoint))
    batch['text_features'] = make(np.float32, encoder.dim)
    if self.other_captions:
      batch['other_features'] = jax.ShapeDtypeStruct(
          (self.other_captions, encoder.dim), np.float32)
    return batch

  def _pairs(self, name, seed, share):
    """step -> the rows of `share`, over the captioned tracks of split `name`."""
    split = captioned(self.corpus.split(name))
    crops = records.Crops(
        split, self.window_seconds * self.corpus.sample_rate_hz,
        self.batch_size, seed)
    encode = self._text_encoder(split)
    rows = share.rows(self.batch_size)
    other_rows = share.rows(self.other_captions)

    def batch(step):
      tracks, starts = crops.positions(step)
      pairs = crops.read(tracks[rows], starts[rows])
      rng = np.random.default_rng([seed, step, 1])
      draws = rng.random(self.batch_size)
      captions = []
      for track, u in zip(pairs['track'], draws[rows]):
        known = split[track].captions
        captions.append(known[int(u * len(known))])
      found = dict(audio=pairs['audio'], track=pairs['track'],
                   **encode(captions))
      if self.other_captions:
        further = others(tracks, rng)
        found['other_features'] = encode(
            [further[row] for row in other_rows])['text_features']
      return found

    def others(tracks, rng):
      """Captions of any tracks but these."""
      known = np.setdiff1d(np.arange(len(split)), tracks)
      if not len(known):
        raise errors.UserError(
            f'{split.directory} has no captioned track outside a batch of '
            f'{self.batch_size}; set other_captions to 0.')
      drawn = known[rng.integers(len(known), size=self.other_captions)]
      return [split[i].captions[int(u * len(split[i].captions))]
              for i, u in zip(drawn, rng.random(self.other_captions))]

    return batch

  def _text_encoder(self, split):
    """captions -> the text part of a batch."""
    if self.max_tokens:
      tokenizer = text_encoder.Tokenizer(
          text_encoder.directory(self.checkpoint), self.max_tokens)

      def ids(captions):
        text_ids, text_mask = tokenizer.batch(captions, self.max_tokens)
        return dict(text_ids=text_ids, text_mask=text_mask)

      return ids
    captions = [c for track in split for c in track.captions]
    table = text_features(
        captions, self.cache_dir or self.corpus.directory / _CACHE,
        self.checkpoint, self.pooling)
    return lambda captions: dict(
        text_features=np.stack([table[c] for c in captions]))


def captioned(split: records.Split) -> records.Split:
  """`split` with only its captioned tracks; UserError if there are none."""
  tracks = [track for track in split if track.captions]
  if not tracks:
    raise errors.UserError(
        f'{split.directory} holds no captions; MuLan needs text with its '
        f'audio. Add captions at `musiclm ingest`, or use a trained bundle\'s '
        f'MuLan: the stages need no captions.')
  if len(tracks) < len(split):
    split = records.Split(split.directory, split.sample_rate_hz, tracks)
  return split


def text_features(captions: Iterable[str], cache_dir: str | pathlib.Path,
                  checkpoint: str = text_encoder.MINILM,
                  pooling: str = 'mean') -> dict[str, np.ndarray]:
  """Features of a frozen encoder, computed once.

  Args:
    captions: strings, repeated or not.
    cache_dir: features are kept in one file per encoder here; a folder that
      cannot be written is done without.
    checkpoint: the encoder's name or folder.
    pooling: 'mean' or 'cls'.

  Returns:
    {caption: [F] float32} of at least `captions`.
  """
  captions = sorted(set(captions))
  key = hashlib.sha256(f'{checkpoint}:{pooling}'.encode()).hexdigest()[:8]
  path = pathlib.Path(cache_dir) / f'{key}.npz'
  known = _read_cache(path)
  missing = [c for c in captions if _hash(c) not in known]
  if missing:
    known.update(zip(
        [_hash(c) for c in missing], _compute(missing, checkpoint, pooling)))
    _write_cache(path, known)
  return {c: known[_hash(c)] for c in captions}


def _compute(captions, checkpoint, pooling):
  reported = 0

  def progress(done):
    nonlocal reported
    if done - reported >= _REPORT_EVERY or done == len(captions):
      reported = done
      print(f'text features: {done} of {len(captions)} captions', flush=True)

  return text_encoder.load(checkpoint, pooling)(captions, progress)


def _hash(caption):
  return hashlib.sha256(caption.encode()).digest()[:16]


def _read_cache(path):
  if not path.is_file():
    return {}
  try:
    with np.load(path, allow_pickle=False) as stored:
      hashes, features = stored['hashes'], stored['features']
  except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile):
    return {}  # damaged: they are computed again
  return {row.tobytes(): value for row, value in zip(hashes, features)}


def _write_cache(path, known):
  hashes = np.frombuffer(b''.join(known), np.uint8).reshape(len(known), -1)
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
    with files.whole(path) as temporary:
      np.savez(temporary, hashes=hashes,
               features=np.stack(list(known.values())))
  except OSError as error:
    print(f'text features are not kept: {error}', flush=True)
