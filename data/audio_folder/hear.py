"""The first half of an ingest: recordings are read, checked and kept as PCM.

`hear` is called with a part of the recordings, by whatever engine, and is a
function of them alone. It leaves PART.pcm, the samples of those that can be used
end to end, and PART.prints, their fingerprints; it says for each recording what
became of it.
"""

from collections.abc import Iterator
import contextlib
import dataclasses
import functools
import hashlib
import math
import pathlib
import tempfile
from typing import Any

import numpy as np

from musiclm_jax import audio_stream
from musiclm_jax import errors
from musiclm_jax import files as files_lib
from musiclm_jax import places
from musiclm_jax import records
from musiclm_jax import specs
from musiclm_jax.data.audio_folder import items as items_lib
from musiclm_jax.data.audio_folder import prints

SAMPLE_RATE_HZ = specs.AudioSpec().sample_rate_hz
_SILENCE = 1e-4  # a peak below -80 dBFS
_CLIPPED_SHARE = 0.1  # ours: one sample in ten stands still at full scale
_ROUNDED_SECONDS = 0.5  # ours: lists may give lengths in whole seconds
_BLOCK_SAMPLES = 10 * SAMPLE_RATE_HZ
_MEMORY_BYTES = 1 << 26  # of a recording that is kept in memory: 11 minutes
PCM, PRINTS = '.pcm', '.prints'


class _Rejected(Exception):
  """A recording that is not taken: (reason, detail)."""


@dataclasses.dataclass(frozen=True)
class Limits:
  """What is asked of a recording.

  Attributes:
    min_seconds: shorter ones are rejected.
    max_seconds: longer ones are cut into equal pieces, at most this long.
  """

  min_seconds: float
  max_seconds: float


def hear(part: tuple[list[items_lib.Item], Limits, str]) -> list[dict[str, Any]]:
  """Reads recordings.

  Args:
    part: (the recordings, what is asked of them, path or URL of the part).

  Returns:
    For each a dict(reason, detail) where it cannot be used; otherwise offset (in
    bytes), samples, checksum, prints (numbers of its fingerprint), pieces
    [(start, stop, checksum)] in samples and, of a dataset, what it says of the
    recording.
  """
  recordings, limits, to = part
  told, found = [], []
  openers = _openers()
  with places.whole(to + PCM) as made, open(made, 'wb') as out:
    for item in recordings:
      begin = out.tell()
      try:
        entry, numbers = _one(item, limits, out, openers)
        found.append(numbers)
      except _Rejected as error:
        reason, detail = error.args
        entry = dict(reason=reason, detail=detail)
      if 'reason' in entry:
        out.seek(begin)
        out.truncate()
      told.append(entry)
  places.write(to + PRINTS, b''.join(p.astype('<u4').tobytes() for p in found))
  return told


def read_prints(to: str, told: list[dict[str, Any]]) -> list[np.ndarray]:
  """The fingerprints of the usable recordings of a part, in order."""
  joined = np.frombuffer(places.read(to + PRINTS), '<u4').reshape(-1, 2)
  counts = [entry['prints'] for entry in told if 'prints' in entry]
  return np.split(joined, np.cumsum(counts)[:-1]) if counts else []


def _one(item, limits, out, openers):
  """(entry, fingerprint) of a recording whose samples are added to `out`."""
  printer, peak, count = prints.Printer(), 0.0, 0
  with tempfile.SpooledTemporaryFile(_MEMORY_BYTES) as spool:
    with _reasons():
      with openers[item.reader](item) as (source, says):
        for block in _span(source.blocks(_BLOCK_SAMPLES), item):
          peak = max(peak, float(np.max(np.abs(block))))
          count += len(block)
          printer.add(block)
          spool.write(np.ascontiguousarray(block, np.float32).data)
        clipped = source.clipped_share
    _check(count, peak, clipped, item, limits)
    spool.seek(0)
    # Floats may be louder than full scale; others are left as they are.
    scale = np.float32(1.0 / peak) if peak > 1.0 else np.float32(1.0)
    entry = _write(spool, scale, count, limits, out)
  numbers = printer.finish()
  return entry | dict(prints=len(numbers), says=says), numbers


@contextlib.contextmanager
def _reasons():
  """Turns what goes wrong with a recording into `_Rejected`."""
  try:
    yield
  except audio_stream.Unusable as error:
    raise _Rejected(error.reason, str(error)) from error
  except OSError as error:
    if error.errno in files_lib.FULL:
      raise
    raise _Rejected('unreadable', errors.of_system(error) or str(error)
                    ) from error
  except (MemoryError, places.Refused):  # says nothing of the recording
    raise
  except errors.UserError as error:
    raise _Rejected('unreadable', str(error)) from error
  except Exception as error:  # pylint: disable=broad-except
    raise _Rejected('unreadable', f'{type(error).__name__}: {error}') from error


def _span(blocks, item) -> Iterator[np.ndarray]:
  """The blocks from start_seconds to end_seconds, and no more than needed."""
  first = round(item.start_seconds * SAMPLE_RATE_HZ)
  stop = math.inf if item.end_seconds is None else round(
      item.end_seconds * SAMPLE_RATE_HZ)
  place = 0
  for block in blocks:
    part = block[max(0, first - place):int(min(len(block), stop - place))]
    if len(part):
      yield part
    place += len(block)
    if place >= stop:
      return


def _check(count, peak, clipped, item, limits):
  seconds = count / SAMPLE_RATE_HZ
  if not count:
    raise _Rejected('empty', f'nothing from {item.start_seconds:g} s on')
  stop = item.start_seconds + seconds
  if item.whole and stop < item.end_seconds - _ROUNDED_SECONDS:
    raise _Rejected(
        'ends early', f'it ends at {stop:.2f} s, and end_s is {item.end_seconds:g}')
  if seconds < limits.min_seconds:
    raise _Rejected(
        'too short', f'{seconds:.2f} s; at least {limits.min_seconds:g} s')
  if peak < _SILENCE:
    raise _Rejected('silent', 'no sample above -80 dBFS')
  if clipped > _CLIPPED_SHARE:
    raise _Rejected('clipped', f'{clipped:.0%} of the samples stand still at '
                    f'full scale; at most {_CLIPPED_SHARE:.0%}')


def _write(spool, scale, count, limits, out):
  """Adds the samples to `out`; returns the entry."""
  edges = pieces(count, limits.max_seconds)
  whole, begin, cut = hashlib.sha256(), out.tell(), []
  for start, stop in edges:
    digest, left = hashlib.sha256(), stop - start
    while left:
      data = spool.read(4 * min(left, _BLOCK_SAMPLES))
      pcm = audio_stream.to_int16(np.frombuffer(data, np.float32) * scale)
      data = pcm.astype('<i2').tobytes()
      for each in (digest, whole):
        each.update(data)
      out.write(data)
      left -= len(pcm)
    cut.append((start, stop, digest.hexdigest()))
  return dict(offset=begin, samples=count, checksum=whole.hexdigest(), pieces=cut)


def pieces(num_samples: int, max_seconds: float) -> list[tuple[int, int]]:
  """[(start, stop)] of equal pieces of at most `max_seconds`.

  >>> pieces(24000 * 400, 300)
  [(0, 4800000), (4800000, 9600000)]
  """
  count = max(1, math.ceil(num_samples / (max_seconds * SAMPLE_RATE_HZ)))
  edges = [num_samples * k // count for k in range(count + 1)]
  return list(zip(edges[:-1], edges[1:]))


def _openers():
  """{reader: function of an item that opens it, as (source, what it says)}."""

  @functools.cache
  def datasets_reader():
    # It brings TensorFlow, which nothing else here needs.
    from musiclm_jax.data.audio_folder import datasets  # pylint: disable=g-import-not-at-top
    return datasets.Reader()

  @contextlib.contextmanager
  def open_example(item):
    audio, rate_hz, says = datasets_reader().read(item)
    with _opened_array(audio, rate_hz) as source:
      yield source, says

  return {items_lib.FILE: _open_file, items_lib.CORPUS: _open_track,
          items_lib.TFDS: open_example}


@contextlib.contextmanager
def _open_file(item):
  with places.local(item.where) as path:
    with audio_stream.Source(path, SAMPLE_RATE_HZ) as source:
      yield source, {}


@contextlib.contextmanager
def _open_track(item):
  split = _split(item.where, item.part[0])
  audio = split.read(split[item.part[1]])
  with _opened_array(audio, split.sample_rate_hz) as source:
    yield source, {}


@contextlib.contextmanager
def _opened_array(audio: np.ndarray, rate_hz: int
                 ) -> Iterator[audio_stream.Source]:
  """[N] or [N, channels] as what a file of it would be: checked and resampled."""
  import soundfile  # pylint: disable=g-import-not-at-top
  with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder) / 'sound.w64'
    with audio_stream.writing(path):
      soundfile.write(path, audio, rate_hz, format='W64', subtype='FLOAT')
    with audio_stream.Source(path, SAMPLE_RATE_HZ) as source:
      yield source


@functools.lru_cache(4)
def _split(directory, name):
  return records.Corpus(directory).split(name)
