"""Records: a corpus as 24 kHz mono PCM that any model can crop at random.

A corpus is a directory, which is a dataset of TFDS at the same time:

  manifest.json           name, licence, sample rate, seed, counts per split
  <split>/tracks.jsonl    one line a track: id, shard, offset, num_samples,
                          captions, aspects and whatever else is known of it
  <name>-<split>.tfrecord-00000-of-00001 ...   the tracks, a record each
  dataset_info.json, features.json, metadata.json   what TFDS asks for

Shards are memory-mapped, so a one-second crop of a one-hour track costs one
second of reading, and nothing here needs TensorFlow. Batches are a pure function
of (seed, step): a run that resumes at step 1,000 sees what it would have seen.
A dataset that TFDS itself wrote with these features is a corpus as well, and so
is one of the former format, whose shards were samples end to end.
"""

from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
import contextlib
import dataclasses
import functools
import hashlib
import json
import os
import pathlib
from typing import Any
from typing import Self

import numpy as np

from musiclm_jax import errors
from musiclm_jax import files
from musiclm_jax import record_index
from musiclm_jax import record_shards
from musiclm_jax import tfds_layout

MAX_SHARD_BYTES = 1 << 28  # ours: 93 minutes
MANIFEST = record_shards.MANIFEST
FORMAT, _FORMER = 'musiclm_jax.records.v2', 'musiclm_jax.records.v1'
_PEAK = 32767.0
_AGAIN = record_index.AGAIN

Track = record_index.Track


class Writer:
  """Writes a corpus into a temporary folder, moved to `DIR` at a clean end.

  Use as a context manager. Nothing is left when the body raises, and no other
  run can write the same corpus meanwhile.
  """

  def __init__(self, directory: str | os.PathLike, name: str,
               sample_rate_hz: int, **manifest: Any):
    self._final = pathlib.Path(os.path.abspath(directory))  # '.' has no name
    # A path and an ExitStack, from `__enter__` on.
    self._partial: Any = None
    self._stack: Any = None
    self._manifest: dict[str, Any] = dict(
        format=FORMAT, name=name, sample_rate_hz=sample_rate_hz, **manifest)
    self._splits = {}

  @property
  def folder(self) -> pathlib.Path:
    """Where the corpus is being written; other files may be put there."""
    return self._partial

  def note(self, **manifest: Any) -> None:
    """Adds entries to the manifest, known only at the end."""
    self._manifest.update(manifest)

  def __enter__(self) -> Self:
    if self._final.exists():
      raise errors.UserError(
          f'{self._final} exists already; remove it or choose another --out.')
    with contextlib.ExitStack() as stack:
      if stack.enter_context(
          files.claimed(self._final, 'the corpus', beside=True)):
        files.sweep(self._final)
      self._partial = stack.enter_context(files.whole_folder(self._final))
      self._stack = stack.pop_all()
    return self

  def __exit__(self, *error: Any) -> bool | None:
    # What is pushed last is done first: `_finish` writes the manifest while the
    # folder still has its temporary name, which the stack then changes.
    self._stack.push(self._finish)
    return self._stack.__exit__(*error)

  def _finish(self, kind, unused_value, unused_traceback):
    """Closes the files; completes the folder where nothing was raised."""
    for split in self._splits.values():
      split.close()
    if kind is not None:
      return
    for name, split in self._splits.items():
      split.place(self._partial, record_shards.names(
          self._manifest['name'], name, len(split.shards)))
    record_shards.describe(self._partial, self._manifest, {
        name: split.shards for name, split in self._splits.items()})
    for split in self._splits.values():
      split.clear()

  def add(self, split: str, track_id: str, audio: np.ndarray,
          **meta: Any) -> None:
    """Appends a track.

    Args:
      split: 'train', 'validation' or 'test'.
      track_id: unique name of the track.
      audio: [N] float in -1..1 at the corpus rate, or int16.
      **meta: JSON values kept with the track; `captions` is a list of strings
        and `aspects` one of short tags.
    """
    if split not in self._splits:
      self._splits[split] = _SplitWriter(
          self._partial / split, str(self._manifest.get('licence', '')))
    self._splits[split].add(track_id, _to_int16(audio), meta)


class _SplitWriter:
  """The shards of one split; their lines of the index wait beside them."""

  def __init__(self, directory, licence):
    directory.mkdir(parents=True)
    self._directory, self._licence = directory, licence
    self._stack = contextlib.ExitStack()
    self._file: Any = None  # these three are of the shard that is open
    self._lines: Any = None
    self._writer: Any = None
    self.shards = []

  def add(self, track_id, pcm, meta):
    file = self._file
    if file is None or (file.tell() and
                        file.tell() + pcm.nbytes > MAX_SHARD_BYTES):
      self._open()
    self._lines.write(record_shards.line(
        self._writer.add(track_id, pcm, meta)))

  def _open(self):
    self.close()
    path = self._path(len(self.shards))
    self._file = self._stack.enter_context(open(path, 'wb'))
    self._lines = self._stack.enter_context(
        open(f'{path}.jsonl', 'w', encoding='utf-8', errors='backslashreplace'))
    self._writer = record_shards.ShardWriter(self._file, self._licence)

  def _path(self, number):
    return self._directory / f'{number:05d}'

  def close(self):
    """Closes the shard that is open, if any."""
    if self._writer is not None:
      self.shards.append(record_shards.Shard(
          self._lines.name, self._writer.count, self._writer.samples,
          self._writer.num_bytes))
      self._writer = None
    self._stack.close()

  def place(self, folder, names):
    """Gives the shards their names."""
    for number, name in enumerate(names):
      os.replace(self._path(number), folder / name)

  def clear(self):
    """Removes the lines, which the index has now."""
    for shard in self.shards:
      os.unlink(shard.lines)


class Corpus:
  """A corpus on disk. `corpus.split('train')` gives its tracks."""

  def __init__(self, directory: str | os.PathLike):
    self.directory = pathlib.Path(directory)
    self._found = None  # {split: tracks} where there is no index
    self.manifest: dict[str, Any]
    path = self.directory / MANIFEST
    if path.is_file():
      self.manifest = files.read_json(path, _AGAIN)
    elif tfds_layout.is_here(self.directory):
      self.manifest, self._found = _scanned(self.directory)
    else:
      raise errors.UserError(
          f'{directory} is not a corpus (no manifest.json); make one with '
          f'`musiclm data folk_gm` or `musiclm ingest`.')
    if self.manifest.get('format') not in (FORMAT, _FORMER):
      raise errors.UserError(
          f'{path} has format {self.manifest.get("format")!r}, expected '
          f'{FORMAT!r}; {_AGAIN}.')
    files.require(path, self.manifest, _AGAIN, name=str, sample_rate_hz=int,
                  splits=dict)

  @property
  def name(self) -> str:
    return self.manifest['name']

  @property
  def sample_rate_hz(self) -> int:
    return self.manifest['sample_rate_hz']

  @property
  def splits(self) -> list[str]:
    return sorted(self.manifest['splits'])

  @functools.cached_property
  def fingerprint(self) -> str:
    """Changes with what the corpus says of any track; 64 hexadecimal digits."""
    digest = hashlib.sha256()
    if self._found is None:
      digest.update((self.directory / MANIFEST).read_bytes())
      for name in self.splits:
        digest.update((self.directory / name / record_index.INDEX).read_bytes())
    else:
      for name in self.splits:
        for track in self._found[name]:
          digest.update(json.dumps([name, track.id, track.num_samples, track.meta],
                                   sort_keys=True).encode())
    return digest.hexdigest()

  def split(self, name: str) -> 'Split':
    if name not in self.manifest['splits']:
      raise errors.choice(f'split of {self.directory}', name, self.splits)
    split = Split(self.directory / name, self.sample_rate_hz,
                  None if self._found is None else self._found[name])
    said = self.manifest['splits'][name]
    expected = said.get('tracks') if isinstance(said, dict) else None
    if isinstance(expected, int) and len(split) != expected:
      raise errors.UserError(
          f'{split.directory / record_index.INDEX} has {len(split)} tracks, and '
          f'{MANIFEST} says {expected}; {_AGAIN}.')
    return split


def _scanned(directory):
  """(manifest, {split: tracks}) of a dataset that TFDS wrote."""
  about = tfds_layout.read(directory, _AGAIN)
  found = {split: [track for name in shards.names
                   for track in record_index.scan(directory / name)]
           for split, shards in about.splits.items()}
  return dict(
      format=FORMAT, name=about.name, sample_rate_hz=about.sample_rate_hz,
      licence=about.licence, splits={
          split: dict(tracks=len(tracks), seconds=round(sum(
              t.num_samples for t in tracks) / about.sample_rate_hz, 3))
          for split, tracks in found.items()}), found


class Mixture:
  """Several corpora as one; every second of audio is as likely as any other.

  Has what a `Corpus` has, but no directory.
  """

  def __init__(self, corpora: Iterable[Corpus]):
    self._corpora = list(corpora)
    rates = sorted({c.sample_rate_hz for c in self._corpora})
    if len(rates) != 1:
      raise errors.UserError(
          f'the corpora {self.name} have {rates} Hz; expected one rate.')
    self.sample_rate_hz = rates[0]
    self.manifest = dict(
        name=self.name, sample_rate_hz=rates[0],
        licence=' '.join(f'{c.name}: {c.manifest.get("licence", "unknown")}'
                         for c in self._corpora),
        splits={name: dict(tracks=len(self.split(name)),
                           seconds=round(self.split(name).seconds, 3))
                for name in self.splits})

  @property
  def name(self) -> str:
    return '+'.join(c.name for c in self._corpora)

  @property
  def splits(self) -> list[str]:
    return sorted({name for c in self._corpora for name in c.splits})

  def split(self, name: str) -> 'Split':
    if name not in self.splits:
      raise errors.choice(f'split of {self.name}', name, self.splits)
    return join(self.name, [
        c.split(name) for c in self._corpora if name in c.splits])


def load(
    directories: str | pathlib.Path | Iterable[str | os.PathLike]) -> Corpus | Mixture:
  """The corpus at a path, or the `Mixture` of several.

  Args:
    directories: a path, several with commas between them, or a sequence.
  """
  if isinstance(directories, (str, pathlib.Path)):
    directories = str(directories).split(',')
  corpora = [Corpus(d) for d in directories]
  return corpora[0] if len(corpora) == 1 else Mixture(corpora)


class Split:
  """The tracks of one split: a sequence of `Track`, with `read` for audio."""

  def __init__(self, directory: str | os.PathLike, sample_rate_hz: int,
               tracks: list[Track] | None = None):
    self.directory = pathlib.Path(directory)
    self.sample_rate_hz = sample_rate_hz
    if tracks is None:
      tracks = record_index.read(self.directory)
    self.tracks = tracks
    self._shards = {}

  def __len__(self) -> int:
    return len(self.tracks)

  def __iter__(self) -> Iterator[Track]:
    return iter(self.tracks)

  def __getitem__(self, index: int) -> Track:
    return self.tracks[index]

  @property
  def seconds(self) -> float:
    return sum(t.num_samples for t in self.tracks) / self.sample_rate_hz

  def pcm(self, track: Track) -> np.ndarray:
    """[track.num_samples] int16 as they are stored, mapped and not yet read."""
    if track.shard not in self._shards:
      self._shards[track.shard] = np.memmap(
          self.directory / track.shard, np.uint8, mode='r')
    stop = track.offset + record_index.SAMPLE_BYTES * track.num_samples
    # A view of samples may begin at an odd byte.
    return self._shards[track.shard][track.offset:stop].view('<i2')

  def read(self, track: Track, start: int = 0,
           num_samples: int | None = None) -> np.ndarray:
    """[num_samples] float32 of `track` from `start`, zeros past its end."""
    stop = track.num_samples
    if num_samples is not None:
      stop = min(stop, start + num_samples)
    pcm = self.pcm(track)[start:max(start, stop)]
    audio = np.asarray(pcm, np.float32) / _PEAK
    if num_samples is not None and len(audio) < num_samples:
      audio = np.pad(audio, (0, num_samples - len(audio)))
    return audio


def join(name: str, splits: Sequence[Split]) -> Split:
  """The tracks of several splits of one rate, in order, as one `Split`."""
  # A shard named by its full path is found whatever the split's directory.
  return Split(name, splits[0].sample_rate_hz, [
      dataclasses.replace(t, shard=str(s.directory.resolve() / t.shard))
      for s in splits for t in s])


@dataclasses.dataclass(frozen=True)
class Crops:
  """Random crops as batches, a pure function of (seed, step).

  A crop's track is drawn in proportion to its length, so that every second of
  the corpus is as likely as any other; its start is a multiple of `align`.

  Attributes:
    split: where the tracks are.
    crop_samples: samples in one crop; shorter tracks are zero-padded.
    batch_size: crops in a batch.
    seed: any int; with `step` it decides the batch.
    align: crops start at multiples of this many samples.
  """

  split: Split
  crop_samples: int
  batch_size: int
  seed: int = 0
  align: int = 1
  _cumulative: np.ndarray = dataclasses.field(
      init=False, repr=False, compare=False)

  def __post_init__(self):
    if not len(self.split):
      raise errors.UserError(f'{self.split.directory} holds no track.')
    lengths = np.array([t.num_samples for t in self.split], np.float64)
    object.__setattr__(self, '_cumulative', np.cumsum(lengths) / lengths.sum())

  def positions(self, step: int) -> tuple[np.ndarray, np.ndarray]:
    """([B] track indices, [B] start samples) of the batch at `step`."""
    rng = np.random.default_rng([self.seed, step])
    u = rng.random((2, self.batch_size))
    tracks = np.searchsorted(self._cumulative, u[0], side='right')
    tracks = np.minimum(tracks, len(self.split) - 1)
    spare = np.array([
        max(0, self.split[i].num_samples - self.crop_samples) for i in tracks])
    starts = (u[1] * (spare // self.align + 1)).astype(np.int64) * self.align
    return tracks, starts

  def batch(self, step: int, rows: slice | np.ndarray = slice(None)
            ) -> dict[str, np.ndarray]:
    """What `read` gives of the batch at `step`, or of some of its rows."""
    tracks, starts = self.positions(step)
    return self.read(tracks[rows], starts[rows])

  def read(self, tracks: np.ndarray, starts: np.ndarray
           ) -> dict[str, np.ndarray]:
    """{'audio': [B, N] float32, 'track': [B] int32, 'start': [B] int32}.

    Args:
      tracks: [B] indices, of `positions`.
      starts: [B] samples.
    """
    audio = np.stack([
        self.split.read(self.split[i], s, self.crop_samples)
        for i, s in zip(tracks, starts)])
    return dict(audio=audio, track=tracks.astype(np.int32),
                start=starts.astype(np.int32))


def _to_int16(audio):
  audio = np.asarray(audio)
  if audio.ndim != 1:
    raise ValueError(f'audio has shape {audio.shape}; expected [N], mono.')
  if audio.dtype == np.int16:
    return audio
  if not np.all(np.isfinite(audio)):
    raise ValueError('audio holds NaN or infinite samples.')
  return np.round(np.clip(audio, -1.0, 1.0) * _PEAK).astype(np.int16)
