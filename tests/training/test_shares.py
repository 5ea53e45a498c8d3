"""Hosts that share a batch: which rows are whose, and where they lie."""

import doctest

import host_shares
import numpy as np
import pytest
import toy_trainable

from musiclm_jax import errors
from musiclm_jax import records
from musiclm_jax.training import mesh as mesh_lib
from musiclm_jax.training import shares
from musiclm_jax.training import sources


def test_examples_in_docstrings():
  result = doctest.testmod(shares)
  assert result.attempted and not result.failed


class Device:
  """One of a mesh, known by its host alone."""

  def __init__(self, process_index):
    self.process_index = process_index


def own_shares(hosts, shape):
  """The share of each host in a mesh of devices with these hosts, in order."""
  class Mesh:
    devices = np.array([Device(host) for host in hosts]).reshape(shape)
  return [mesh_lib.own_share(Mesh, host) for host in sorted(set(hosts))]


@pytest.mark.parametrize('hosts, shape, blocks', [
    ((0, 0, 1, 1), (4, 1, 1), [(0, 1), (2, 3)]),
    ((0, 0, 1, 1), (1, 4, 1), [(0, 1), (2, 3)]),
    ((0, 0, 1, 1), (2, 2, 1), [(0, 1), (2, 3)]),
    ((0, 0, 1, 1), (1, 2, 2), [(0,), (1,)]),
    # By the wires of a slice: each host has two devices of every row of four.
    ((0, 0, 1, 1, 0, 0, 1, 1), (8, 1, 1), [(0, 1, 4, 5), (2, 3, 6, 7)]),
    # The model axis spans both hosts, so both make the same rows.
    ((0, 1, 0, 1), (2, 1, 2), [(0, 1), (0, 1)]),
    ((0, 0, 1, 1, 2, 2, 3, 3), (2, 1, 4), [(0,), (0,), (1,), (1,)]),
    ((0, 0, 0, 0), (4, 1, 1), [(0, 1, 2, 3)])])
def test_a_host_makes_the_rows_of_its_devices(hosts, shape, blocks):
  count = shape[0] * shape[1]
  assert own_shares(hosts, shape) == [
      shares.WHOLE if len(own) == count else shares.Share(own, count)
      for own in blocks]


def test_this_process_makes_all_on_a_mesh_of_its_own():
  assert mesh_lib.own_share(mesh_lib.make_mesh((1, 1))) == shares.WHOLE


def test_what_is_placed_is_found_again():
  whole = {'x': np.arange(16).reshape(8, 2), 'other': np.arange(4)}
  for hosts in host_shares.SPLITS:
    for share in hosts:
      part = share.of(whole)
      described = share.described(part)
      for name, array in whole.items():
        assert described[name].shape == array.shape
        block = len(array) // share.count
        for number in share.blocks:
          rows = slice(number * block, (number + 1) * block)
          np.testing.assert_array_equal(
              part[name][share.within(rows, len(array))], array[rows])
  with pytest.raises(ValueError, match='none of the blocks'):
    shares.Share((0,), 2).within(slice(4, 8), 8)
  with pytest.raises(ValueError, match='none of the blocks'):
    shares.Share((0,), 2).within(slice(None), 8)


def test_a_batch_that_does_not_divide_says_so():
  with pytest.raises(errors.UserError, match='make BATCH_SIZE a multiple of 4'):
    shares.Share((1,), 4).rows(6)


def test_audio_crops_of_hosts_are_those_of_one(tmp_path, monkeypatch):
  rng = np.random.default_rng(0)
  with records.Writer(tmp_path / 'corpus', 'noise', 1000) as out:
    for i in range(3):
      out.add('train', f't{i}', rng.uniform(-1, 1, 3000))
    out.add('validation', 'v0', rng.uniform(-1, 1, 3000))
  source = sources.AudioBatches(
      str(tmp_path / 'corpus'), crop_seconds=0.5, batch_size=8)
  host_shares.check(source)
  reads = host_shares.count_reads(monkeypatch, records.Split)
  next(source.batches(0, shares.Share((1,), 4)))
  assert len(reads) == 2  # of eight rows


def test_a_source_that_slices_keeps_the_contract():
  host_shares.check(toy_trainable.ToySource())
