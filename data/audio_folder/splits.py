"""Which split a recording goes to, and which copies go with it.

Recordings that are the same, or parts of each other, must not be on both sides of
a test. So what is shared out are groups: by default a recording with its copies;
an album, where splits go by folder; or what a manifest calls a split. The first
copy stays where it is, and so do those of its group; one that another group holds
is dropped.
"""

import collections
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import hashlib

from musiclm_jax.data import graphs

NAME = 'audio_folder'
# Upper ends of the hash ranges: about 5 % test, 5 % validation, the rest train.
_TEST, _VALIDATION = 0.05, 0.10
_FIRST = ('test', 'validation')  # of copies, the one that is held out stays
_GIVEN = 'split/'


@dataclasses.dataclass(frozen=True)
class Recording:
  """What decides about a recording.

  Attributes:
    key: of its content.
    folder: the album that it must stay with, or ''.
    split: the split that was asked for, or ''.
  """

  key: str
  folder: str = ''
  split: str = ''


@dataclasses.dataclass(frozen=True)
class Copy:
  """A recording that is the same as one before it.

  Attributes:
    index: of the recording.
    first: of the one that is kept.
    kind: 'exact' or 'near'.
    share: of the fingerprint that agrees.
    dropped: whether it is left out, its group being another.
  """

  index: int
  first: int
  kind: str
  share: float
  dropped: bool


def share_out(recordings: Sequence[Recording],
              alike: Iterable[tuple[int, int, float]] = ()
              ) -> tuple[list[str], list[Copy]]:
  """The split of each recording.

  Args:
    recordings: in order.
    alike: (i, j, share) of those that sound the same; equal keys need not be
      among them.

  Returns:
    ([split of each, '' where it is dropped], the copies).
  """
  families, shares = _families(recordings, alike)
  groups, copies = [''] * len(recordings), []
  for members in families:
    first = min(members, key=lambda i: (_rank(recordings[i].split), i))
    groups[first] = _group(recordings[first], recordings[first].key)
    for i in members:
      if i == first:
        continue
      one = recordings[i]
      group = _group(one, groups[first])
      exact = one.key == recordings[first].key
      groups[i] = group if group == groups[first] else ''
      copies.append(Copy(i, first, 'exact' if exact else 'near',
                         1.0 if exact else shares[i], not groups[i]))
  split_of = assign_splits(g for g in groups if g and not g.startswith(_GIVEN))
  return [split_of.get(g, g.removeprefix(_GIVEN)) for g in groups], sorted(
      copies, key=lambda copy: copy.index)


def _rank(split):
  if split in _FIRST:
    return _FIRST.index(split)
  return len(_FIRST) if split else len(_FIRST) + 1


def _group(recording, otherwise):
  if recording.split:
    return _GIVEN + recording.split
  return recording.folder or otherwise


def _families(recordings, alike):
  """([indices] of recordings that are the same, {index: largest share})."""
  shares, first, pairs = collections.defaultdict(float), {}, []
  for i, recording in enumerate(recordings):
    pairs.append((first.setdefault(recording.key, i), i))
  for i, j, share in alike:
    pairs.append((i, j))
    for one in (i, j):
      shares[one] = max(shares[one], share)
  families = collections.defaultdict(list)
  for i, family in enumerate(graphs.components(len(recordings), pairs)):
    families[family].append(i)
  return list(families.values()), shares


def assign_splits(groups: Iterable[str]) -> Mapping[str, str]:
  """The split of each group of files.

  By a hash, so that a file added later moves no other. Where that leaves a
  split empty, the nearest group fills it: train first, then validation (from
  two groups on), then test (from three on).

  Args:
    groups: names, repeated or not.

  Returns:
    {group: split}.
  """
  place = {}
  for group in set(groups):
    digest = hashlib.sha256(f'{NAME}/{group}'.encode()).digest()
    place[group] = int.from_bytes(digest[:8], 'big') / 2**64
  order = sorted(place, key=place.get)
  split = {g: 'test' if place[g] < _TEST else
           'validation' if place[g] < _VALIDATION else 'train' for g in order}
  if len(order) < 3:  # validation comes first
    split = {g: s.replace('test', 'validation') for g, s in split.items()}
  held = collections.Counter(split.values())
  if order and not held['train']:
    held[split[order[-1]]] -= 1
    split[order[-1]] = 'train'
    held['train'] = 1
  for name, needed in (('validation', 2), ('test', 3)):
    donors = [g for g in order if held[split[g]] > 1]
    if not held[name] and len(order) >= needed and donors:
      held[split[donors[0]]] -= 1
      split[donors[0]] = name
      held[name] = 1
  return split
