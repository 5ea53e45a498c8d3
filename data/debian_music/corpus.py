"""Makes a corpus of the music in Debian packages.

  packages --apt-get, dpkg-deb--> Ogg files --24 kHz, mono, block by block-->
  pieces of at most 5 minutes --split by package--> records

Each package's files are written and thrown away before the next one's, and a
long recording is never in memory as a whole.
"""

import hashlib
import math
import pathlib
import tempfile

import numpy as np

from musiclm_jax import audio as audio_lib
from musiclm_jax import audio_stream
from musiclm_jax import errors
from musiclm_jax import files as files_lib
from musiclm_jax import records
from musiclm_jax import specs
from musiclm_jax.data.debian_music import fetch
from musiclm_jax.data.debian_music import licences
from musiclm_jax.data.debian_music import packages as packages_lib

NAME = 'debian_music'
SAMPLE_RATE_HZ = specs.AudioSpec().sample_rate_hz
# ours: what a test package gives unless told otherwise, and an excerpt's length
# where not all of a package is taken.
TEST_MINUTES = 12.0
_MIN_EXCERPT_SECONDS = 30.0
_MIN_SECONDS, _PIECE_SECONDS = 5.0, 300.0
_VALIDATION = 0.04  # of the training packages' recordings, by hash
_SILENCE = 1e-4  # a peak below -80 dBFS
_LICENCE = ('each track states its own, from debian/copyright; the notices lie '
            'in the folder copyright')


def build(out_dir, hours=None, seed=0, workers=None, packages=None, debs=None,
          test_minutes=TEST_MINUTES, say=print):
  """Writes a corpus of the packages' recordings.

  Args:
    out_dir: where; must not exist.
    hours: of training music, shared among the packages; None: all of it.
    seed: not used: which recordings are taken is a hash of their names.
    workers: not used: one recording after the other.
    packages: names out of packages.PACKAGES; None: all, and those that this
      Debian release lacks are left out.
    debs: a folder with .deb files; what it lacks is downloaded into it. None:
      downloads are thrown away.
    test_minutes: taken from each test package; None: everything.
    say: a function of a line of progress.

  Returns:
    {package: dict(version, split, tracks, seconds, ...)}; the manifest holds it
    too, under `packages`, beside `not_in_release`.

  Raises:
    UserError: unknown packages, apt or the network fails, nothing usable,
      out_dir exists.
  """
  del seed, workers
  chosen = packages_lib.choose(packages)
  quotas = packages_lib.quotas(chosen, hours, test_minutes)
  out_dir = files_lib.expand(out_dir)
  if debs is not None and not files_lib.expand(debs).is_dir():
    raise errors.UserError(
        f'--debs {debs} is not a folder; create it or leave the option out.')
  out_dir.parent.mkdir(parents=True, exist_ok=True)
  done, absent, seen = {}, {}, {}
  with records.Writer(
      out_dir, NAME, SAMPLE_RATE_HZ, licence=_LICENCE) as writer:
    (writer.folder / 'copyright').mkdir()
    for package in chosen:
      with tempfile.TemporaryDirectory(
          dir=out_dir.parent, prefix=f'.{NAME}-') as work:
        try:
          deb = _deb(package.name, debs, work, say)
        except fetch.NotInRelease as error:
          if packages is not None:
            raise
          absent[package.name] = str(error)
          say(f'left out: {error}')
          continue
        done[package.name] = _add(
            writer, package, deb, work, quotas[package.name], seen)
      say(_line(package, done[package.name]))
    if not any(entry['tracks'] for entry in done.values()):
      raise errors.UserError(
          'none of the packages gave a recording; the first reason: ' +
          next(iter(absent.values()), 'their music was not found'))
    writer.note(packages=done, not_in_release=sorted(absent))
  return done


def _deb(name, debs, work, say):
  """The package's file: the one that is there, else a fresh one."""
  if debs is not None:
    debs = files_lib.expand(debs)
    found = fetch.find(name, debs)
    if found:
      return found
  say(f'apt-get download {name}')
  return fetch.download(name, debs or work)


def _add(writer, package, deb, work, quota, seen):
  """Writes one package's recordings; returns what the manifest says of it."""
  folder = pathlib.Path(work) / 'music'
  folder.mkdir()
  files, notice = fetch.unpack(package, deb, folder)
  (writer.folder / 'copyright' / package.name).write_text(
      notice, encoding='utf-8')
  entry = dict(
      version=fetch.version(deb), split=package.split, tracks=0, seconds=0.0,
      recordings=0, licences={}, left_out={})
  usable = []
  for path, file in files:
    digest = _digest(file)
    reason, source = '', None
    if digest in seen:
      reason = f'the same file as {seen[digest]}'
    else:
      seen[digest] = f'{package.name}/{path}'
      reason, source = _probe(file)
    if reason:
      entry['left_out'][path] = reason
    else:
      usable.append((path, file, source))
  lengths = {path: source['seconds'] for path, _, source in usable}
  take = excerpts(lengths, quota, package.name)
  for path, file, source in usable:
    if path not in take:
      continue
    licence = licences.find(notice, path) or package.licence or 'see copyright'
    split = split_of(package, path)
    total = _write(writer, split, f'{package.name}/{path}', file, take[path],
                   dict(package=package.name, file=path, licence=licence,
                        **source['tags']))
    entry['recordings'] += bool(total)
    entry['tracks'] += len(total)
    entry['seconds'] = round(entry['seconds'] + sum(total), 3)
    if total:
      entry['licences'][licence] = entry['licences'].get(licence, 0) + 1
  return entry


def split_of(package, path):
  """The split of a recording: its package's, or validation for a few of train.

  Whatever the options, the same recording lands in the same split, and what a
  test package holds in no other than test.
  """
  if package.split == packages_lib.TEST:
    return packages_lib.TEST
  place = _place(f'split/{package.name}/{path}')
  return 'validation' if place < _VALIDATION else packages_lib.TRAIN


def excerpts(lengths, quota, salt=''):
  """How much of each recording is taken, from its middle.

  Args:
    lengths: {path: seconds}.
    quota: seconds in all; None: everything. Shared evenly, short recordings'
      rest going to the others; when that would be less than half a minute
      each, fewer recordings are taken, by a hash of their names.
    salt: goes into the hash.

  Returns:
    {path: (start, stop) in seconds}.
  """
  if quota is None or sum(lengths.values()) <= quota:
    return {path: (0.0, seconds) for path, seconds in lengths.items()}
  order = sorted(lengths, key=lambda path: _place(f'take/{salt}/{path}'))
  order = order[:max(1, int(quota / _MIN_EXCERPT_SECONDS))]
  order.sort(key=lambda path: lengths[path])
  result, left = {}, quota
  for index, path in enumerate(order):
    share = min(lengths[path], left / (len(order) - index))
    start = (lengths[path] - share) / 2
    result[path] = (start, start + share)
    left -= share
  return result


def _write(writer, split, name, file, span, meta):
  """Writes the span of a file as pieces; returns their lengths in seconds."""
  start, stop = (round(edge * SAMPLE_RATE_HZ) for edge in span)
  count = max(1, math.ceil((stop - start) / (_PIECE_SECONDS * SAMPLE_RATE_HZ)))
  size = max(1, math.ceil((stop - start) / count))
  written = []
  with audio_stream.Source(file, SAMPLE_RATE_HZ) as source:
    for number, (first, piece) in enumerate(_pieces(source, start, stop, size)):
      if len(piece) < SAMPLE_RATE_HZ or np.max(np.abs(piece)) < _SILENCE:
        continue
      writer.add(split, name if count == 1 else f'{name}#{number:03d}',
                 audio_lib.limit_peak(piece, 1.0), captions=[], aspects=[],
                 start_seconds=round(first / SAMPLE_RATE_HZ, 3), **meta)
      written.append(len(piece) / SAMPLE_RATE_HZ)
  return written


def _pieces(source, start, stop, size):
  """Yields (first sample, [<= size]) of start..stop, a second at a time."""
  waiting, first, position = [], start, 0
  for block in source.blocks(SAMPLE_RATE_HZ):
    part = block[max(0, start - position):max(0, stop - position)]
    position += len(block)
    while len(part):
      room = size - sum(map(len, waiting))
      waiting.append(part[:room])
      part = part[room:]
      if sum(map(len, waiting)) == size:
        yield first, np.concatenate(waiting)
        waiting, first = [], first + size
    if position >= stop:
      break
  if waiting:
    yield first, np.concatenate(waiting)


def _probe(file):
  """(why the file cannot be used or '', dict(seconds, tags))."""
  try:
    with audio_stream.Source(file, SAMPLE_RATE_HZ) as opened:
      seconds, tags = opened.seconds, opened.tags
  except audio_stream.Unusable as error:
    return error.reason, None
  if seconds < _MIN_SECONDS:
    return f'{seconds:.1f} s', None
  return '', dict(seconds=seconds, tags=tags)


def _digest(file):
  with open(file, 'rb') as stream:
    return hashlib.file_digest(stream, 'sha256').digest()


def _place(name):
  """A name's place in 0..1, by hash."""
  digest = hashlib.sha256(f'{NAME}/{name}'.encode()).digest()
  return int.from_bytes(digest[:8], 'big') / 2**64


def _line(package, entry):
  """One package's line of progress."""
  if not entry['recordings']:
    return (f'{package.name} {entry["version"]}: no music where it was '
            f'expected ({", ".join(package.music)})')
  left = f', {len(entry["left_out"])} left out' if entry['left_out'] else ''
  return (f'{package.name} {entry["version"]}: {entry["recordings"]} '
          f'recordings, {entry["seconds"] / 60:.0f} min, {package.split}, '
          f'{", ".join(sorted(entry["licences"]))}{left}')
