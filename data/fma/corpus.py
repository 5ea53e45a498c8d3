"""FMA from its downloaded archives, unpacked or not.

  fma_metadata(.zip)/tracks.csv, genres.csv
  fma_small(.zip)/000/000002.mp3 ..., checksums

What people write of a track, its title, artist and genres, is its text: genres
are aspects, and a sentence is made of all three (ours, not FMA's).
"""

from collections.abc import Iterator
import os
from typing import Any

from musiclm_jax import errors
from musiclm_jax import files as files_lib
from musiclm_jax import workers
from musiclm_jax.data import archives
from musiclm_jax.data import downloads
from musiclm_jax.data.audio_folder import items
from musiclm_jax.data.fma import metadata

NAME = 'fma'
LICENCE = 'metadata: CC-BY-4.0; each recording states its own'
METADATA = 'fma_metadata'
SHA1 = {  # as published beside the archives
    'fma_metadata': 'f0df49ffe5f2a6008d7dc83c6915b31835dfe733',
    'fma_small': 'ade154f733639d52e35e32f5593efe5be76c6d70',
    'fma_medium': 'c67b69ea232021025fca9231fc1c7c1a063ab50b',
    'fma_large': '497109f4dd721066b5ce5e5f250ec604dc78939e',
    'fma_full': '0f0ace23fbe9ba30ecb7e95f763e435ea802b8ab'}
# Excerpts cut where their recordings had ended, because FMA was told wrong
# lengths; hardly any sound is in them. Whole recordings are not concerned.
# Listed in the issue https://github.com/mdeff/fma/issues/8.
BROKEN = frozenset((
    1486, 5574, 65753, 80391, 98558, 98559, 98560, 98565, 98566, 98567, 98568,
    98569, 98571, 99134, 105247, 108924, 108925, 126981, 127336, 133297, 143992))


def walk(folder: str | os.PathLike, subset: str = 'small', verify: bool = False
         ) -> Iterator[items.Item | downloads.Reject]:
  """Yields a track, or why there is none, for each row of a subset.

  Args:
    folder: has fma_metadata and fma_<subset>, as folders or zip files.
    subset: 'small', 'medium', 'large' (excerpts of 30 s) or 'full'.
    verify: whether zip files are held against their published SHA-1, and
      unpacked files against the list of checksums that is among them; it takes
      as long as reading them.

  Raises:
    UserError: an archive is missing, or is not FMA's.
  """
  if subset not in metadata.SUBSETS:
    raise errors.choice('subset', subset, metadata.SUBSETS)
  folder = files_lib.expand(folder)
  if not folder.is_dir():
    raise errors.UserError(f'--from {folder} is not a folder.')
  tables = archives.Archive(folder, METADATA)
  archive = archives.Archive(folder, f'fma_{subset}')
  if verify:
    for path in (tables.path, archive.path):
      if path.is_file():
        archives.check_sha1(path, SHA1[path.stem])
  rows = [row for row in metadata.read(tables) if row.in_subset(subset)]
  sums = _checksums(archive) if verify and archive.path.is_dir() else {}
  for row in rows:
    yield _found(row, subset, archive, sums)


def _found(row, subset, archive, sums):
  name = f'{row.number:06d}'
  member = f'{name[:3]}/{name}.mp3'
  if subset != 'full' and row.number in BROKEN:
    return downloads.Reject(row.split, name, 'known broken', (
        'its excerpt begins after its end (mdeff/fma issue 8)'))
  if not archive.has(member):
    return downloads.Reject(row.split, name, downloads.MISSING,
                            f'{archive.path.name} has no {member}')
  if member in sums and archives.sha1(archive.path / member) != sums[member]:
    return downloads.Reject(row.split, name, 'checksum', (
        f'{member} is not what FMA has; download it again'))
  return items.Item(
      name, archive.where(member), captions=(sentence(row),), aspects=row.genres,
      licence=row.licence, split=row.split, about=dict(
          title=row.title, artist=row.artist, album=row.album,
          genres=list(row.genres), subset=row.subset,
          captions_from='title, artist and genres'))


def sentence(row: metadata.Row) -> str:
  """What is known of a track, in words (ours).

  >>> sentence(metadata.Row(2, 'train', 'small', 'Food', 'AWOL', 'A Way',
  ...                       ('Hip-Hop',), 'CC BY'))
  'Food by AWOL. Genre: Hip-Hop.'
  """
  named = ' by '.join(filter(None, [row.title, row.artist]))
  genres = f'Genre: {", ".join(row.genres)}.' if row.genres else ''
  return ' '.join(filter(None, [named and f'{named}.', genres]))


def _checksums(archive):
  """{member: SHA-1} of the list in the archive, if there is one."""
  if not archive.has('checksums'):
    return {}
  lines = archive.read('checksums').decode('utf-8', 'replace').splitlines()
  pairs = (line.split(maxsplit=1) for line in lines if line.strip())
  return {pair[1].lstrip('*'): pair[0] for pair in pairs if len(pair) == 2}


def build(folder: str | os.PathLike, out_dir: str | os.PathLike,
          subset: str = 'small', verify: bool = False,
          runner: workers.Options | None = None, progress: bool = True
          ) -> dict[str, Any]:
  """Writes the corpus; arguments as of `walk` and `downloads.build`."""
  return downloads.build(out_dir, f'{NAME}_{subset}', LICENCE,
                         walk(folder, subset, verify), runner, progress)
