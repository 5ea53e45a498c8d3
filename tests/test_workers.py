"""Pieces of work: done once, failing alone, alike on every engine."""

import argparse
import errno

import pytest

from musiclm_jax import errors
from musiclm_jax import workers
from tests.helpers import pieces

_TWO = workers.Options(workers=2)
_BEAM = workers.Options('beam', workers=2)


@pytest.mark.parametrize('options', [workers.Options(workers=1), _TWO])
def test_all_are_done(tmp_path, options):
  said = []
  done = workers.run(pieces.double, {f'p{i}': i for i in range(5)}, tmp_path,
                     options, lambda *counts: said.append(counts))
  assert done.values == {f'p{i}': 2 * i for i in range(5)} and not done.failed
  assert said[0] == (0, 5) and said[-1] == (5, 5)


def test_what_is_done_is_not_done_again(tmp_path):
  (tmp_path / 'calls').mkdir()
  work = {str(i): (str(tmp_path / 'calls'), i) for i in range(3)}
  workers.run(pieces.noted, work, tmp_path / 'out', _TWO)
  (tmp_path / 'out' / '1.json').unlink()
  again = workers.run(pieces.noted, work, tmp_path / 'out', _TWO)
  assert again.values == {'0': 0, '1': 1, '2': 2}
  calls = [path.name[0] for path in (tmp_path / 'calls').iterdir()]
  assert sorted(calls) == ['0', '1', '1', '2']


def test_a_failure_costs_its_piece_and_is_tried_again(tmp_path):
  work = {str(i): i for i in range(4)}
  done = workers.run(pieces.odd_ones_fail, work, tmp_path, _TWO)
  assert done.values == {'0': 0, '2': 2}
  assert done.failed == {'1': 'ValueError: 1 is odd', '3': 'ValueError: 3 is odd'}
  assert not workers.run(pieces.double, work, tmp_path, _TWO).failed
  assert not list(tmp_path.glob('*.failed'))


@pytest.mark.parametrize('options', [workers.Options(workers=1), _TWO])
def test_a_full_disk_ends_the_run(tmp_path, options):
  with pytest.raises(OSError) as caught:
    workers.run(pieces.disk_is_full, {'a': 1, 'b': 2}, tmp_path, options)
  assert caught.value.errno == errno.ENOSPC
  assert not list(tmp_path.glob('*.json'))


def test_results_may_be_kept_in_a_store(tmp_path):
  folder = f'memory://{tmp_path.name}'
  work = {'a': 1, 'b': 2}
  assert workers.run(pieces.double, work, folder, _TWO).values == {'a': 2, 'b': 4}
  assert workers.run(pieces.odd_ones_fail, work, folder, _TWO).values == {
      'a': 2, 'b': 4}, 'they were kept'


@pytest.mark.parametrize('options, words', [
    (dict(workers=0), 'at least 1'),
    (dict(runner='nonsense'), "--runner is 'nonsense'; expected local, beam, or"),
    (dict(runner='Beam'), "--runner is 'Beam'; expected local, beam, or"),
    (dict(flags=('--project=a',)), 'name a --runner')])
def test_impossible_options(options, words):
  with pytest.raises(errors.UserError, match=words):
    workers.Options(**options)


@pytest.mark.parametrize('runner, flags, words', [
    ('DataflowRunner', '--regin=us', 'Beam knows no --regin; did you mean --reg'),
    ('beam', '--project=a --colour=red', 'Beam knows no --colour.'),
    ('FlinkRunner', '--flink_mastr=h:1', 'did you mean --flink_master'),
    ('beam', '--project=my music', 'music is no option; expected --NAME=VALUE'),
    ('beam', '-x', '-x is no option'),
    ('beam', '--direct_num_workers=many', "invalid int value: 'many'")])
def test_flags_that_beam_would_drop(runner, flags, words, capfd):
  pytest.importorskip('apache_beam')
  with pytest.raises(errors.UserError, match=words):
    workers.from_arguments(_given(runner, flags))
  assert 'Discarding' not in capfd.readouterr().err


def test_flags_of_a_job_server_are_left_to_it(capfd):
  pytest.importorskip('apache_beam')
  flags = '--flink_master=h:1 --environment_type LOOPBACK --its_own=3'
  options = workers.from_arguments(_given('FlinkRunner', flags))
  assert options.flags == tuple(flags.split())
  assert capfd.readouterr().err.splitlines() == [
      '--its_own is left to the engine: Beam does not know it here']


def _given(runner, flags):
  parser = argparse.ArgumentParser()
  workers.add_arguments(parser)
  return parser.parse_args([f'--runner={runner}', f'--runner-flags={flags}'])


def test_beam_does_what_threads_do(tmp_path, capfd):
  pytest.importorskip('apache_beam')
  work = {f'p{i}': i for i in range(4)}
  done = workers.run(pieces.odd_ones_fail, work, tmp_path, _BEAM)
  assert not capfd.readouterr().err
  assert done == workers.run(pieces.odd_ones_fail, work, tmp_path / 'b', _TWO)


@pytest.mark.slow
def test_killed_workers_of_beam_cost_a_round(tmp_path):
  work = {f'p{i}': str(tmp_path / f'mark{i}') for i in range(4)}
  done = workers.run(pieces.dies_once, work, tmp_path / 'out', _BEAM)
  assert done.values == {f'p{i}': f'mark{i}' for i in range(4)}


@pytest.mark.slow
def test_a_piece_that_ends_its_worker_is_given_up(tmp_path):
  done = workers.run(pieces.dies_always, {'a': 'good', 'b': 'bad'}, tmp_path,
                     _BEAM)
  assert done.values == {'a': 'good'}
  assert done.failed == {'b': 'its worker ended 3 times while at it'}


@pytest.mark.slow
def test_a_full_disk_ends_a_run_on_beam(tmp_path):
  with pytest.raises(OSError) as caught:
    workers.run(pieces.disk_is_full, {'a': 1}, tmp_path, _BEAM)
  assert caught.value.errno == errno.ENOSPC


@pytest.mark.slow
def test_no_such_runner(tmp_path):
  with pytest.raises(errors.UserError, match='NoSuchRunner'):
    workers.run(pieces.double, {'a': 1}, tmp_path, workers.Options('NoSuchRunner'))
