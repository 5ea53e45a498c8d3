"""The SOURCE of an ingest: a folder, a pattern, a list, a store, a corpus.

  ~/music                     a folder; captions beside it, if there are any
  '~/music/**/*.flac'         a pattern
  tracks.csv, tracks.jsonl    a list of files (manifests.py)
  gs://bucket/music, s3://... a store, by fsspec
  corpus                      a corpus, or a TFDS directory of its features
  tfds:NAME, or a directory   a dataset of TFDS whose examples hold audio

`find` says what there is and reads no sound.
"""

import collections
import glob
import os
import pathlib

from musiclm_jax import errors
from musiclm_jax import files as files_lib
from musiclm_jax import places
from musiclm_jax import records
from musiclm_jax import tfds_layout
from musiclm_jax.data.audio_folder import files as folder_files
from musiclm_jax.data.audio_folder import items as items_lib
from musiclm_jax.data.audio_folder import labels as labels_lib
from musiclm_jax.data.audio_folder import manifests

_TFDS = 'tfds:'
_MAGIC = '*?['


def find(source: str | os.PathLike, captions: str | os.PathLike | None = None,
         data_dir: str | os.PathLike | None = None) -> items_lib.Found:
  """What a source holds.

  Args:
    source: see above.
    captions: a CSV or JSONL file (see labels.py) of a folder, pattern or store;
      None: the one in, or beside, the folder, if any.
    data_dir: where the dataset of a `tfds:NAME` has been prepared.

  Raises:
    UserError: there is nothing of the kind, or no sound in it.
  """
  text = str(source)
  if not text.strip():
    raise errors.UserError(
        'SOURCE is empty; expected a folder, a pattern, a list, a store, a corpus '
        "or tfds:NAME ('.' is the folder here).")
  if data_dir is not None and not text.startswith(_TFDS):
    raise errors.UserError(
        f'--data-dir goes with tfds:NAME, not with {text}; leave it out.')
  # '.' has no name, and the manifest and labels want one.
  path = pathlib.Path(os.path.abspath(files_lib.expand(source)))
  if _says_captions(text, path):
    if captions is not None:
      raise errors.UserError(
          f'--captions goes with a folder, a pattern or a store; {text} says '
          f'captions itself. Leave it out.')
    return _with_captions(text, path, data_dir)
  if places.is_remote(text):
    return _store(text, captions)
  if any(c in text for c in _MAGIC) and not path.exists():
    return _pattern(path, captions)
  if not path.is_dir():
    if path.exists():
      raise errors.UserError(
          f'{path} is a file, and no list (.csv or .jsonl); name its folder.')
    raise errors.UserError(f'audio folder {path} does not exist.')
  return _folder(path, captions)


def _says_captions(text, path):
  """Whether it is a list, a corpus or a dataset."""
  if text.startswith(_TFDS):
    return True
  if text.lower().endswith(manifests.SUFFIXES):
    if places.is_remote(text) or path.is_file():
      return True
  return not places.is_remote(text) and path.is_dir() and (
      tfds_layout.is_here(path) or _is_corpus(path))


def _with_captions(text, path, data_dir):
  """What a list, a corpus or a dataset holds."""
  from musiclm_jax.data.audio_folder import datasets  # pylint: disable=g-import-not-at-top
  if text.startswith(_TFDS):
    return datasets.find(text.removeprefix(_TFDS), data_dir)
  if places.is_remote(text):
    return manifests.find(text)
  if path.is_file():
    return manifests.find(str(path))
  if tfds_layout.is_here(path) and not tfds_layout.holds_records(path):
    return datasets.find(str(path))
  return _corpus(path)


def _is_corpus(path):
  try:
    records.Corpus(path)
  except errors.UserError:
    return False
  return True


def _corpus(path):
  """The tracks of a corpus, which stay in their splits."""
  corpus, found = records.Corpus(path), []
  for name in corpus.splits:
    for number, track in enumerate(corpus.split(name)):
      about = dict(track.meta)
      said = {key: tuple(about.pop(key, ())) for key in ('captions', 'aspects')}
      about.pop('checksum', None)
      found.append(items_lib.Item(
          track.id, str(path), items_lib.CORPUS, (name, number), split=name,
          licence=about.pop('licence', '') or str(
              corpus.manifest.get('licence', '')),
          size=track.num_samples, about=about, **said))
  counts = collections.Counter(item.id for item in found)
  found = [item if counts[item.id] == 1 else items_lib.renamed(
      item, f'{item.split}/{item.id}') for item in found]
  return items_lib.Found(corpus.name, found)


def _folder(folder, captions):
  """The recordings of a folder and those below it."""
  found = folder_files.find(folder)
  named = lambda files: {_name(file, folder): file for file in files}
  made = items_lib.Found(
      files_lib.encodable(folder.name), [], passed_over=found.passed_over,
      rejects=[dict(file=name, reason='format', detail=files_lib.encodable(
          f'{file.suffix} is not decoded here; make WAV or FLAC of it'))
               for name, file in named(found.other_sound).items()])
  if not found.sound:
    raise errors.UserError(_no_sound(folder, found))
  labels = labels_lib.load(folder, captions)
  if labels.path and labels.path.resolve().parent == folder.resolve():
    made.passed_over[folder_files.NO_SOUND] -= 1  # it was looked at
  made.about['captions_file'] = labels.path and files_lib.encodable(
      labels.path.name)
  _add(made, {name: str(file) for name, file in named(found.sound).items()},
       labels)
  return made


def _pattern(path, captions):
  """The recordings that a pattern fits, named by what it leaves open."""
  parts = path.parts
  first = next(i for i, part in enumerate(parts) if any(c in part for c in _MAGIC))
  base = pathlib.Path(*parts[:first])
  fitting = sorted(pathlib.Path(p) for p in glob.glob(str(path), recursive=True))
  sound = {_name(p, base): str(p) for p in fitting
           if p.is_file() and p.suffix.lower() in folder_files.SOUND}
  if not sound:
    raise errors.UserError(
        f'no {", ".join(folder_files.SOUND)} file fits {path} '
        f'({len(fitting)} others do).')
  made = items_lib.Found(files_lib.encodable(base.name), [])
  made.passed_over[folder_files.NO_SOUND] += len(fitting) - len(sound)
  _add(made, sound, _labels(captions))
  return made


def _store(url, captions):
  """The recordings below a URL."""
  bare = lambda u: u.partition('://')[2].strip('/')  # a store may say it otherwise
  urls = places.under(url)
  if not urls and not places.exists(places.bucket(url)):
    raise errors.UserError(
        f'{url}: there is no {places.bucket(url)}, or none that is shown to you.')
  sound = {bare(u).removeprefix(bare(url) + '/'): u for u in urls
           if pathlib.PurePosixPath(u).suffix.lower() in folder_files.SOUND}
  if not sound:
    raise errors.UserError(
        f'no {", ".join(folder_files.SOUND)} file under {url} '
        f'({len(urls)} other files).')
  made = items_lib.Found(pathlib.PurePosixPath(url).name, [])
  made.passed_over[folder_files.NO_SOUND] += len(urls) - len(sound)
  _add(made, sound, _labels(captions))
  return made


def _labels(captions):
  """Those of a file that was named; none are looked for."""
  if captions is None:
    return labels_lib.Labels()
  return labels_lib.load(pathlib.Path(captions).parent, captions)


def _add(made, sound, labels):
  """Adds an item for each of {name: path or URL}, with what labels say."""
  said, made.meant = labels.match(list(sound))
  made.meant = {label: made.meant.get(label) for label in labels}
  made.blank_captions = labels.blank
  for name, where in sound.items():
    made.items.append(items_lib.Item(
        name, where, folder=name.rpartition('/')[0],
        **items_lib.of_file(where),
        **{kind: tuple(texts) for kind, texts in said[name].items()}))


def _name(file, folder):
  return files_lib.encodable(file.relative_to(folder).as_posix())


def _no_sound(folder, found):
  """The line where nothing can be decoded."""
  line = f'no {", ".join(folder_files.SOUND)} file under {folder}'
  passed_over = found.passed_over + collections.Counter(
      f'{file.suffix.lower()}, which is not decoded here'
      for file in found.other_sound)
  return line + (f'; there are: {counts(passed_over)}.' if passed_over else '.')


def counts(reasons: collections.Counter | dict[str, int]) -> str:
  """
  >>> counts({'silent': 2, 'nan': 1})
  '1 nan, 2 silent'
  """
  return ', '.join(f'{n} {reason}' for reason, n in sorted(reasons.items()))
