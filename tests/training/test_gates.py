"""Gates on metric names, and what the loop does when one trips."""

import dataclasses
import json
import os

import pytest
import toy_trainable

from musiclm_jax import errors
from musiclm_jax.training import gates
from musiclm_jax.training import loop

LOW = gates.Gate('use', 'usage/*', 'Collapsed.', below=0.1, patience=3)


def _rows(*values):
  return [{'loss': 1.0, 'usage/01': 0.9, 'usage/02': v} for v in values]


def test_one_of_many_metrics_trips_after_enough_rows():
  assert not LOW.tripped(_rows(0.01, 0.01))
  assert not LOW.tripped(_rows(0.01, 0.2, 0.01, 0.01))
  what = LOW.tripped(_rows(0.5, 0.01, 0.02, 0.03))
  assert what == ('usage/02 is 0.03, under 0.1 for 3 logged rows. Collapsed.')


def test_rows_without_the_metric_do_not_count():
  rows = _rows(0.01, 0.01, 0.01)
  del rows[1]['usage/02']
  assert not LOW.tripped(rows)
  assert not LOW.tripped([{'loss': 1.0}] * 5)


def test_above():
  gate = gates.Gate('x', 'loss', 'Why.', above=2.0, split='eval')
  assert not gate.tripped([{'loss': 3.0}, {'loss': 2.0}])
  assert gate.tripped([{'loss': 2.5}]) == 'loss is 2.5, over 2. Why.'


@pytest.mark.parametrize('kwargs', [
    dict(action='pause'), dict(split='test'), dict(patience=0)])
def test_bad_settings_are_user_errors(kwargs):
  with pytest.raises(errors.UserError):
    gates.Gate('x', 'loss', 'Why.', **kwargs)


@dataclasses.dataclass(frozen=True)
class Watched(toy_trainable.Toy):
  """A toy with gates; 'id' is the step that a batch was made for."""

  watch: tuple = ()

  def gates(self):
    return self.watch


def _train(model_dir, num_steps, gate, **kwargs):
  return loop.train(
      Watched(watch=(gate,)), toy_trainable.ToySource(), str(model_dir),
      num_steps, log_every=1, checkpoint_every=10, **kwargs)


def _events(model_dir):
  return json.loads((model_dir / 'run.json').read_text()).get('events', [])


def test_a_gate_stops_with_its_reason_and_a_checkpoint(tmp_path):
  gate = gates.Gate('late', 'id', 'Too late, go home.', above=3.5, patience=2)
  with pytest.raises(gates.Tripped) as caught:
    _train(tmp_path, 20, gate, eval_every=0)
  assert str(caught.value) == (
      'stopped at step 6: id is 5, over 3.5 for 2 logged rows. Too late, go '
      'home.')
  assert os.listdir(tmp_path / 'checkpoints') == ['6']
  event, = _events(tmp_path)
  assert (event['kind'], event['gate'], event['step']) == ('stop', 'late', 6)
  # It is still so at the next row of another start.
  with pytest.raises(gates.Tripped, match='at step 7'):
    _train(tmp_path, 20, gate, eval_every=0)


def test_rows_before_a_resume_count(tmp_path):
  gate = gates.Gate('late', 'id', 'Why.', above=3.5, patience=4)
  _train(tmp_path, 6, gate, eval_every=0)
  with pytest.raises(gates.Tripped, match='at step 8'):
    _train(tmp_path, 20, gate, eval_every=0)


def test_evaluations_have_gates_of_their_own(tmp_path):
  gate = gates.Gate('flat', 'loss', 'Why.', above=0.0, patience=3,
                    split='eval')
  with pytest.raises(gates.Tripped, match='at step 6: .* 3 evaluations'):
    _train(tmp_path, 20, gate, eval_every=2)


def test_a_warning_is_said_once_and_the_run_goes_on(tmp_path, capsys):
  gate = gates.Gate('late', 'id', 'Hurry up.', above=3.5, action='warn')
  assert _train(tmp_path, 8, gate, eval_every=0).reason == 'finished'
  assert capsys.readouterr().err.count('Hurry up.') == 1
  event, = _events(tmp_path)
  assert (event['kind'], event['step']) == ('warning', 5)
