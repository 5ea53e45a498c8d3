"""What several hosts make of a source's batches is what one host makes."""

import itertools

import numpy as np

from musiclm_jax.training import shares

# Two hosts; four; two with devices that are dealt out in turn.
SPLITS = (
    (shares.Share((0,), 2), shares.Share((1,), 2)),
    tuple(shares.Share((block,), 4) for block in range(4)),
    (shares.Share((0, 2), 4), shares.Share((1, 3), 4)))
_STEP = 3


def check(source):
  """Asserts it, bit for bit, of training and of evaluation batches."""
  whole = _taken(source, shares.WHOLE)
  for hosts in SPLITS:
    parts = [_taken(source, share) for share in hosts]
    for number, batch in enumerate(whole):
      for name, array in batch.items():
        joined = np.empty_like(array)
        for share, part in zip(hosts, parts, strict=True):
          rows = share.rows(len(array))
          assert part[number][name].dtype == array.dtype
          assert len(part[number][name]) == len(rows) < len(array), name
          joined[rows] = part[number][name]
        np.testing.assert_array_equal(joined, array, err_msg=name)


def _taken(source, share):
  """Two training batches from the middle of a run, and two of the evaluation."""
  return [*itertools.islice(source.batches(_STEP, share), 2),
          *itertools.islice(source.eval_batches(share), 2)]


def count_reads(monkeypatch, split_class):
  """A list that grows by one at every `read` of audio."""
  calls, read = [], split_class.read

  def counted(self, track, *args, **kwargs):
    calls.append(track.id)
    return read(self, track, *args, **kwargs)

  monkeypatch.setattr(split_class, 'read', counted)
  return calls
