"""MODEL_DIR: what is refused, and a run's record that is damaged."""

import pytest

from musiclm_jax import errors
from musiclm_jax import files
from musiclm_jax.training import directory
from musiclm_jax.training import run_record

RECORD = dict(trainable=dict(type='a.Toy'), source=dict(type='a.Source'))


@pytest.mark.parametrize('name', ['metrics.csv', 'config.gin', 'damaged',
                                  'checkpoints/100'])
def test_what_no_run_of_ours_left_is_not_written_over(tmp_path, name):
  (tmp_path / name).parent.mkdir(exist_ok=True)
  (tmp_path / name).write_text('mine')
  with pytest.raises(errors.UserError, match=(
      f'holds {name.split("/")[0]} and no run.json')):
    directory.check(tmp_path)
  assert (tmp_path / name).read_text() == 'mine'
  run_record.write(tmp_path, RECORD)
  directory.check(tmp_path)


def test_a_start_that_was_killed_early_can_be_made_again(tmp_path):
  directory.check(tmp_path / 'run')
  directory.write_settings(tmp_path / 'run', 'SEED = 0\n')
  (tmp_path / 'run' / 'checkpoints').mkdir()
  directory.check(tmp_path / 'run')


def test_a_second_run_is_refused(tmp_path):
  with directory.claimed(tmp_path):
    with pytest.raises(errors.UserError, match='another run writes to MODEL_DI'):
      with directory.claimed(tmp_path):
        pass
  assert not (tmp_path / files.LOCK).exists()


@pytest.mark.parametrize('content', [b'', b'[]', b'{"trainable": 3}', b'{"a'])
def test_a_damaged_record_is_named(tmp_path, content):
  (tmp_path / 'run.json').write_bytes(content)
  with pytest.raises(errors.UserError, match='run.json is damaged .*write {}'):
    run_record.check(tmp_path, RECORD, print)
  (tmp_path / 'run.json').write_text('{}')
  run_record.check(tmp_path, RECORD, print)
  assert run_record.events(tmp_path) == []


def test_a_run_goes_on_where_its_module_has_moved(tmp_path):
  run_record.write(tmp_path, RECORD)
  said = []
  moved = dict(trainable=dict(type='b.c.Toy'), source=dict(type='b.Source'))
  run_record.check(tmp_path, moved, said.append)
  assert said == []
  other = dict(RECORD, trainable=dict(type='a.Other'))
  with pytest.raises(errors.UserError, match='holds a run of a.Toy, not of a.Ot'):
    run_record.check(tmp_path, other, said.append)
