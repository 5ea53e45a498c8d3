"""Splits: stable, never empty of training, and no copy on both sides."""

import pytest

from musiclm_jax.data.audio_folder import splits

_R = splits.Recording


def _shared(recordings, alike=()):
  split_of, copies = splits.share_out(recordings, alike)
  return split_of, [(c.index, c.first, c.kind, c.dropped) for c in copies]


def test_copies_go_where_the_first_goes():
  recordings = [_R(f'k{i}') for i in range(200)] + [_R('k7'), _R('other')]
  split_of, copies = _shared(recordings, [(11, 201, 0.4)])
  assert split_of[200] == split_of[7] and split_of[201] == split_of[11]
  assert copies == [(200, 7, 'exact', False), (201, 11, 'near', False)]
  assert '' not in split_of


def test_copies_of_copies_are_one_family():
  split_of, copies = _shared(
      [_R(f'k{i}') for i in range(300)], [(5, 9, 0.3), (9, 250, 0.2)])
  assert len({split_of[i] for i in (5, 9, 250)}) == 1
  assert [c[:2] for c in copies] == [(9, 5), (250, 5)]


def test_a_copy_in_another_album_is_dropped():
  recordings = [_R('a', 'folder/x'), _R('b', 'folder/x'), _R('a', 'folder/x'),
                _R('a', 'folder/y'), _R('c', 'folder/y')]
  split_of, copies = _shared(recordings)
  assert split_of[3] == '' and split_of[0] == split_of[1] == split_of[2] != ''
  assert copies == [(2, 0, 'exact', False), (3, 0, 'exact', True)]


@pytest.mark.parametrize('given, kept', [
    (('train', 'test'), 1), (('train', 'validation'), 1), (('train', ''), 0),
    (('', 'train'), 1), (('validation', 'test'), 1), (('test', 'test'), 0)])
def test_of_given_splits_the_held_out_copy_stays(given, kept):
  split_of, ((index, first, _, dropped),) = _shared(
      [_R('a', split=s) for s in given])
  assert (index, first) == (1 - kept, kept)
  assert split_of[kept] == given[kept]
  assert dropped == (given[0] != given[1] and '' not in given)
  assert split_of[1 - kept] == ('' if dropped else given[kept])


def test_what_has_no_split_is_shared_out_beside_what_has():
  split_of, _ = _shared([_R('a', split='test'), _R('b'), _R('c', split='odd')])
  assert split_of == ['test', 'train', 'odd']
