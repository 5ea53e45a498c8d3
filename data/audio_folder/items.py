"""What an ingest is to read: one `Item` for each recording of a source."""

import collections
import dataclasses
import hashlib
import json
import os
from typing import Any

from musiclm_jax import places

FILE, CORPUS, TFDS = 'file', 'corpus', 'tfds'


@dataclasses.dataclass(frozen=True)
class Item:
  """A recording to read.

  Attributes:
    id: unique in the source: a path below its folder, where there is one.
    where: path or URL of the file, path of the corpus, or name of the dataset.
    reader: 'file', 'corpus' or 'tfds'.
    part: (split, number) in a corpus or dataset.
    captions: texts.
    aspects: short tags.
    licence: of this recording; '' for that of all.
    split: where it must go, or ''.
    folder: the album that it must stay with, or ''.
    start_seconds: where it begins in the file.
    end_seconds: where it ends; None for the end of the file.
    whole: whether a file that ends before `end_seconds` is not the one that was
      meant, rather than all that there is.
    size: of the file in bytes, where that is known.
    stamp: when the file was changed, where that is known.
    about: whatever else is known.
  """

  id: str
  where: str
  reader: str = FILE
  part: tuple[str, int] | None = None
  captions: tuple[str, ...] = ()
  aspects: tuple[str, ...] = ()
  licence: str = ''
  split: str = ''
  folder: str = ''
  start_seconds: float = 0.0
  end_seconds: float | None = None
  whole: bool = False
  size: int = 0
  stamp: int = 0
  about: dict[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass
class Found:
  """What a source holds.

  Attributes:
    name: of the source, for the manifest.
    items: what to read, in order.
    rejects: [dict(file, reason, detail)] of what cannot be read here.
    passed_over: how many things were not looked at, by reason.
    about: entries for the manifest.
    blank_captions: how many were left out.
    meant: {label of a captions file: id of its item, or None}.
  """

  name: str
  items: list[Item]
  rejects: list[dict] = dataclasses.field(default_factory=list)
  passed_over: collections.Counter = dataclasses.field(
      default_factory=collections.Counter)
  about: dict[str, Any] = dataclasses.field(default_factory=dict)
  blank_captions: int = 0
  meant: dict[str, str | None] = dataclasses.field(default_factory=dict)


def of_file(where: str) -> dict[str, int]:
  """`size` and `stamp` of an item, of a file that is here; else none."""
  if places.is_remote(where):
    return {}
  try:
    status = os.stat(where)
  except OSError:
    return {}  # whoever reads it will say
  return dict(size=status.st_size, stamp=status.st_mtime_ns)


def fingerprint(found: Found, options: dict[str, Any]) -> tuple[str, str]:
  """(of what is made, of that and when its files were changed), hexadecimal.

  The first does not depend on where and when the files were copied, and stands
  in the manifest; a half-done ingest goes on where both are the same.
  """
  digest = hashlib.sha256(_json([options, found.rejects]))
  stamps = hashlib.sha256()
  for item in found.items:
    values = dataclasses.asdict(item)
    stamps.update(_json([values.pop('stamp'), values['where']]))
    if item.reader == FILE:
      del values['where']
    if not item.whole:  # corpora were made before there was such a thing
      del values['whole']
    digest.update(_json(values))
  stamps.update(digest.digest())
  return digest.hexdigest(), stamps.hexdigest()


def _json(value):
  return json.dumps(value, sort_keys=True, ensure_ascii=True).encode()


def renamed(item: Item, name: str) -> Item:
  """The item under another id."""
  return dataclasses.replace(item, id=name)
