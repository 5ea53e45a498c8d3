"""metrics.csv as curves."""

import json
import math

import pytest

from musiclm_jax import errors
from musiclm_jax.evaluation.pages import runs


@pytest.fixture(name='run')
def _run(tmp_path):
  """Function from lines of metrics.csv to the Run."""
  def run(*lines):
    (tmp_path / 'metrics.csv').write_text('\n'.join(lines) + '\n')
    return runs.read(tmp_path, 'coarse')

  return run


def test_losses_beside_guessing(run, tmp_path):
  (tmp_path / 'run.json').write_text(
      json.dumps(dict(trainable=dict(type='a.b.StageTrainable'))))
  found = run('step,split,accuracy,loss,unigram_entropy', '10,train,0.1,7.0,',
              '20,train,0.2,5.0,', '20,eval,,6.5,6.2', '30,train,,nan,')
  assert list(found.loss.lines) == ['training', 'held out',
                                    'guessing by frequency']
  assert [(p.x, p.y) for p in found.loss.lines['training']][:2] == [
      (10, 7.0), (20, 5.0)]
  assert math.isnan(found.loss.lines['training'][2].y)
  assert found.about == {
      'trained': 'StageTrainable', 'steps': 30,
      'loss, training': 'nan at step 30, least 5 at step 20',
      'loss, held out': '6.5 at step 20, least 6.5 at step 20'}
  assert [c.title for c in found.others] == ['accuracy']
  assert found.loss.note == ''


def test_long_runs_are_thinned_to_means(run):
  found = run('step,split,loss', *(f'{i},train,{i % 2}' for i in range(650)))
  line = found.loss.lines['training']
  assert len(line) == 217 and 'mean of up to 3 neighbours' in found.loss.note
  assert (line[0].x, line[0].y) == (1.0, pytest.approx(1 / 3))
  assert line[-1].x == 648.5  # of the two that are left


def test_a_run_without_losses_and_one_that_was_cut(run):
  found = run('step,split,fad', '5,eval,3.0', '6,eva')
  assert found.loss is None and found.others[0].title == 'fad'
  with pytest.raises(errors.UserError, match='no row with a step'):
    run('step,split,loss')
